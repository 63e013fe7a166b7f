//! Facts that probes need and others provide.

use std::collections::HashMap;

use shakedown_core::outcome::Verdict;
use shakedown_core::record::{PlannedProbe, ProbeResult};

/// What is known of one fact.
#[derive(Default)]
struct Fact {
    /// Attempts of its providers that have not ended.
    open: u32,
    /// Whether one of them passed or was degraded.
    holds: bool,
    /// The first provider that did neither.
    failed: Option<String>,
}

/// Which facts hold. A fact that no selected probe provides is not in here and blocks nobody.
pub(super) struct Needs(HashMap<String, Fact>);

impl Needs {
    pub(super) fn new(probes: &[PlannedProbe]) -> Self {
        let mut facts: HashMap<String, Fact> = HashMap::new();
        for probe in probes {
            for fact in &probe.provides {
                facts.entry(fact.clone()).or_default().open += probe.repeat;
            }
        }
        Self(facts)
    }

    pub(super) fn finished(&mut self, probe: &PlannedProbe, result: &ProbeResult) {
        for fact in &probe.provides {
            let Some(fact) = self.0.get_mut(fact) else { continue };
            fact.open = fact.open.saturating_sub(1);
            match result {
                ProbeResult::Finished(outcome)
                    if matches!(outcome.verdict, Verdict::Pass | Verdict::Degraded) =>
                {
                    fact.holds = true;
                }
                // It never got to find out, so nothing is known of the fact.
                ProbeResult::NotRun { .. } => {}
                _ => _ = fact.failed.get_or_insert_with(|| probe.id.clone()),
            }
        }
    }

    /// `Blocked` when every provider of one of its needs has ended and none established it.
    pub(super) fn blocked(&self, probe: &PlannedProbe) -> Option<ProbeResult> {
        probe.needs.iter().find_map(|need| match self.0.get(need)? {
            Fact { open: 0, holds: false, failed: Some(by) } => {
                Some(ProbeResult::Blocked { by: by.clone(), need: need.clone() })
            }
            _ => None,
        })
    }
}
