//! The cleanup ledger: undo actions, registered before what they undo exists.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

type Undo = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send>;

struct Entry {
    id: u64,
    what: String,
    undo: Undo,
}

#[derive(Default)]
struct Entries {
    last: u64,
    entries: Vec<Entry>,
}

/// Undo actions of one probe, run in reverse order when it has ended, however it ended.
#[derive(Clone, Default)]
pub struct CleanupLedger(Arc<Mutex<Entries>>);

/// How an undo ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupRecord {
    /// What was to be undone.
    pub what: String,
    /// Why it could not be undone; `None` when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl CleanupLedger {
    /// Registers `undo`; call it *before* creating what it undoes. `undo` must therefore also
    /// succeed when there is nothing to undo.
    pub fn register<F, U>(&self, what: impl Into<String>, undo: U) -> Registered
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
        U: FnOnce() -> F + Send + 'static,
    {
        let mut entries = self.lock();
        entries.last += 1;
        let id = entries.last;
        let undo: Undo = Box::new(move || Box::pin(undo()));
        entries.entries.push(Entry { id, what: what.into(), undo });
        Registered { ledger: self.clone(), id }
    }

    /// Runs what is registered, the latest first, and says how each ended.
    ///
    /// # Cancel safety
    ///
    /// An undo that is being run when the future is dropped is lost; the rest stays registered.
    pub async fn run(&self) -> Vec<CleanupRecord> {
        let mut records = Vec::new();
        while let Some(record) = self.run_latest().await {
            records.push(record);
        }
        records
    }

    /// Runs only the latest registered undo and says how it ended; `None` when nothing is left.
    ///
    /// # Cancel safety
    ///
    /// The undo is lost when the future is dropped before it ends.
    pub async fn run_latest(&self) -> Option<CleanupRecord> {
        let Entry { what, undo, .. } = self.lock().entries.pop()?;
        let failed = undo().await.err();
        Some(CleanupRecord { what, failed })
    }

    /// What is registered and not undone yet.
    pub fn pending(&self) -> Vec<String> {
        self.lock().entries.iter().map(|entry| entry.what.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CleanupLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pending()).finish()
    }
}

/// A registered undo.
#[derive(Debug)]
pub struct Registered {
    ledger: CleanupLedger,
    id: u64,
}

impl Registered {
    /// Takes the undo off the ledger: what it would undo is known to be gone.
    pub fn done(self) {
        self.ledger.lock().entries.retain(|entry| entry.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn undo_runs_in_reverse_and_skips_what_is_done() {
        let ledger = CleanupLedger::default();
        ledger.register("first", || async { Ok(()) });
        ledger.register("second", || async { Err("still there".into()) });
        ledger.register("third", || async { Ok(()) }).done();
        assert_eq!(ledger.pending(), ["first", "second"]);
        let records = ledger.run().await;
        let ended = |what: &str, failed: Option<&str>| CleanupRecord {
            what: what.into(),
            failed: failed.map(Into::into),
        };
        assert_eq!(records, [ended("second", Some("still there")), ended("first", None)]);
        assert!(ledger.pending().is_empty());
    }
}
