//! Probes.

use std::error::Error;
use std::fmt::Debug;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::budget::{BudgetError, Draw};
use crate::context::{Interrupted, ProbeCtx};
use crate::meta::ProbeMeta;
use crate::outcome::Outcome;

/// One question about the target, asked once per run.
///
/// What the caller promises: `run` is polled on a tokio runtime with time and I/O enabled; what
/// `draws()` or else `meta().draws` says has been set aside for it; nothing else runs the same probe
/// value at the same time.
///
/// What you must do: take every connection through a lease of `ctx`; register the undo of whatever
/// you create in [`ProbeCtx::cleanup`] *before* you create it; return an [`Outcome`] for everything
/// that is news about the target, however bad, and a [`ProbeError`] only when you have no verdict.
///
/// The mistake to expect: reporting "could not connect" as an error. If connecting is the question,
/// a refusal is the answer `Fail`.
///
/// # Cancel safety
///
/// The runner cancels by [`ProbeCtx::cancelled`], waits for a grace period, then drops the future.
/// `run` must therefore tolerate being dropped at any await; leases and the cleanup ledger make that
/// safe without work of your own.
#[async_trait]
pub trait Probe: Send + Sync + Debug + 'static {
    /// The static description. Always the same value.
    fn meta(&self) -> &'static ProbeMeta;

    /// What this probe draws as it is configured: what the plan shows and the run sets aside.
    /// `None`, the default, is what its description says.
    fn draws(&self) -> Option<Vec<Draw>> {
        None
    }

    /// Asks the question.
    ///
    /// # Errors
    ///
    /// [`ProbeError`] means *no verdict*, never "the target is bad".
    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError>;
}

/// The half of a probe that is known without a value of it: how to build one.
pub trait ProbeSpec: Probe + Sized {
    /// The table `[probes."<id>"]`. Use `#[serde(deny_unknown_fields, default)]`; constraints live in
    /// the field types (`try_from`), so that a value of this type is always usable.
    type Config: Serialize + DeserializeOwned + Default;

    /// The static description that [`Probe::meta`] returns.
    const META: ProbeMeta;

    /// Builds the probe. Infallible, without I/O.
    fn from_config(config: Self::Config) -> Self;
}

/// Why a probe came to no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The run was cancelled or the probe's time was up.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// It asked for more than it declared in `draws`, or than the budget holds.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The environment lacks something the probe cannot do without; names the key.
    #[error("{what}: set `{key}`")]
    Configuration {
        /// What is missing or wrong.
        what: String,
        /// The key to set.
        key: String,
    },
    /// Something on our side failed.
    #[error("{what}")]
    Internal {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ProbeError {
    /// Something on our side failed while doing `what`.
    pub fn internal(
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Internal { what: what.into(), source: source.into() }
    }

    /// The configuration lacks `key`.
    pub fn configuration(what: impl Into<String>, key: impl Into<String>) -> Self {
        Self::Configuration { what: what.into(), key: key.into() }
    }
}
