//! The handle by which somebody asks a run to stop.

use std::sync::Arc;

use tokio::sync::watch;

/// How urgently a run is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Not at all.
    None,
    /// The running probe is cancelled and may end by itself; everything is cleaned up.
    Drain,
    /// The running probe is aborted at once.
    Abort,
}

/// Asks a run to stop. Cheap to clone; all clones are one handle.
///
/// The first [`raise`](Self::raise) drains the run: the running probe is cancelled and has its grace
/// period, no other is started, cleanup and closing run as always. The second aborts it: the running
/// probe is dropped, cleanup and closing get half a second each. The record is written either way.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<watch::Sender<Urgency>>);

impl Default for Interrupt {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Urgency::None)))
    }
}

impl Interrupt {
    /// A handle nobody has raised yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks once more. Beyond the second time nothing changes.
    pub fn raise(&self) {
        self.0.send_modify(|urgency| {
            *urgency = match urgency {
                Urgency::None => Urgency::Drain,
                Urgency::Drain | Urgency::Abort => Urgency::Abort,
            };
        });
    }

    /// Whether anybody has asked.
    pub fn is_raised(&self) -> bool {
        self.urgency() > Urgency::None
    }

    pub(crate) fn urgency(&self) -> Urgency {
        *self.0.borrow()
    }

    pub(crate) fn listen(&self) -> watch::Receiver<Urgency> {
        self.0.subscribe()
    }
}
