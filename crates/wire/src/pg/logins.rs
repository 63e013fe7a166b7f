//! How a run's logins ended, for who wants the share that failed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use shakedown_core::ProbeCtx;

/// The last logins of one run, whichever probe or monitor tried them.
#[derive(Debug, Default)]
pub struct Logins(Mutex<VecDeque<bool>>);

impl Logins {
    /// How many are remembered: the fewest of which one alone is not more than 5 %.
    pub const REMEMBERED: usize = 20;

    /// Those of the run of `ctx`.
    pub fn of(ctx: &ProbeCtx) -> Arc<Self> {
        let logins = ctx.shared().get_or_try_init(|| Ok::<_, Infallible>(Self::default()));
        logins.unwrap_or_else(|never| match never {})
    }

    /// Notes one that ended by itself; what our own side cut short is none.
    pub(super) fn note(&self, failed: bool) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == Self::REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(failed);
    }

    /// How many of the last [`REMEMBERED`](Self::REMEMBERED) failed, and how many these are: fewer
    /// at the beginning of a run. A pool's own logins are not among them.
    pub fn failed_of(&self) -> (usize, usize) {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().filter(|failed| **failed).count(), recent.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let logins = Logins::default();
        logins.note(true);
        assert_eq!(logins.failed_of(), (1, 1));
        (0..Logins::REMEMBERED).for_each(|_| logins.note(false));
        assert_eq!(logins.failed_of(), (0, Logins::REMEMBERED));
    }
}
