//! What the probes of one run have seen of the golden path, for those that sum it up.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use shakedown_core::ProbeCtx;

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) good: u32,
    pub(crate) tried: u32,
}

impl Count {
    pub(crate) fn add(&mut self, good: bool) {
        self.tried += 1;
        self.good += u32::from(good);
    }

    /// `None` when nothing was tried.
    pub(crate) fn share(self) -> Option<f64> {
        (self.tried > 0).then(|| f64::from(self.good) / f64::from(self.tried))
    }
}

/// What was seen in this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Answers of the health path.
    pub(crate) answers: Count,
    /// Sessions: logged in, connected, greeted.
    pub(crate) sessions: Count,
    /// Agent runs that gave an answer.
    pub(crate) agents: Count,
    /// Whether the one message of this run was sent.
    pub(crate) message_sent: bool,
}

/// The run's own, shared by its probes.
#[derive(Debug, Default)]
pub(crate) struct Window(Mutex<Seen>);

impl Window {
    pub(crate) fn of(ctx: &ProbeCtx) -> Arc<Self> {
        let window = ctx.shared().get_or_try_init(|| Ok::<_, Infallible>(Self::default()));
        window.unwrap_or_else(|never| match never {})
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
