//! Whether it is over.

use super::{Case, seconds};
use crate::clock::Timestamp;

/// A service that was well for so long is well, in seconds.
const WELL_S: i64 = 300;

impl Case<'_> {
    /// The last moment at which anything failed or spoke for `cause`, when requests were served for
    /// five minutes after it. Where start-ups failed, one must have completed since: an older instance
    /// that serves on does not make a revision start.
    pub fn over_since(&self, cause: &str) -> Option<Timestamp> {
        let hits = self.hits.iter().filter(|hit| hit.cause == cause);
        let said = hits.map(|hit| hit.observation.moment.at).max();
        let started = self.failures().filter_map(|(_, _, attempt)| attempt.ended).max();
        let answers = |failed: bool| {
            let wanted = move |traffic: &crate::attempt::Traffic| match failed {
                true => self.answer_failed(traffic),
                false => traffic.served(),
            };
            let traffic = self.traffic.iter().filter(move |(_, traffic)| wanted(traffic));
            traffic.filter_map(|(_, traffic)| traffic.last).max()
        };
        let completed = self.attempts.iter().filter_map(|(_, attempt)| attempt.completed_at).max();
        if started.is_some() && completed < started {
            return None;
        }
        let last = said.max(started).max(answers(true))?;
        answers(false).filter(|served| seconds(last, *served) >= WELL_S).map(|_| last)
    }
}
