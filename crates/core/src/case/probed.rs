//! What probes found out themselves: measured, where log lines are quoted.

use super::Case;
use crate::classify::Seen;
use crate::evidence::Observation;
use crate::id::Symptom;
use crate::outcome::Verdict;

/// The kind of fact that a probe's finding states: probe, verdict, rung, fault, symptom.
pub const PROBE_FINDING: &str = "probe.finding";

impl Case<'_> {
    /// Whether a probe found that its good state does not hold, in the last of its attempts.
    pub fn probe_failed(&self) -> bool {
        self.last_verdicts().any(|verdict| *verdict == Verdict::Fail)
    }

    /// Whether a probe found something worth a look, or failed and passed later.
    pub fn probe_doubted(&self) -> bool {
        self.probed
            .iter()
            .any(|(_, probed)| matches!(probed.ended, Verdict::Fail | Verdict::Degraded))
    }

    /// Whether a probe found its good state.
    pub fn probe_passed(&self) -> bool {
        self.last_verdicts().any(|verdict| *verdict == Verdict::Pass)
    }

    /// The last verdict of each probe.
    fn last_verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.probed.iter().enumerate().filter_map(|(index, (_, probed))| {
            let later = &self.probed[index + 1..];
            later.iter().all(|(_, other)| other.probe != probed.probe).then_some(&probed.ended)
        })
    }

    /// How often findings of probes showed `symptom`, and the first of them.
    pub fn symptom_found(&self, symptom: &Symptom) -> (Option<Seen>, Vec<Observation>) {
        let hits: Vec<_> = self
            .of_kind(PROBE_FINDING)
            .filter(|hit| hit.fact.get("symptom") == symptom.as_str())
            .map(|hit| hit.observation)
            .collect();
        let parts = hits.iter().map(|o| (1, Some(o.moment.at), Some(o.moment.at)));
        (super::seen(parts), hits.iter().take(3).map(|o| (*o).clone()).collect())
    }
}
