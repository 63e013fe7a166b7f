//! Asks whether the phases of a start-up keep their order. Good: each begins after the one before is
//! over, and none after one failed.
//!
//! **How.** The marker lines of every start-up that was seen are read in time order and held against
//! `[startup] phases`.
//!
//! **Verdicts.** *Fail*: a phase began after the failed one, or before an earlier one. *Pass*: neither.
//! *Skip (not exercised)*: no start-up names a phase.
//!
//! **Draws** one HTTP connection for the health endpoints, and `application.draws` while a process of
//! ours runs. **Configuration**: none of its own.
//!
//! **Cannot tell** whether a phase did its work: a phase that is complete by its own word may have
//! left something out.

use serde::{Deserialize, Serialize};
use shakedown_core::startup::Role;
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Provenance, SkipReason,
    StartupConfig, async_trait,
};

use super::about::{about, meta, provenance, which};
use crate::startup::{Observed, Start};

/// See the module.
#[derive(Debug, Default)]
pub struct PhaseDependencies;

/// `[probes."smd.phase-dependencies"]`: nothing to configure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PhaseDependenciesConfig {}

impl ProbeSpec for PhaseDependencies {
    type Config = PhaseDependenciesConfig;

    const META: ProbeMeta = ProbeMeta {
        aliases: &[
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_smd_phase_dependency_validation",
            "netra_backend/tests/unit/test_issue_1278_smd_phase3_timeout_reproduction.py::TestSMDPhase3TimeoutReproduction::test_phase3_blocks_subsequent_phases",
        ],
        ..meta(
            "smd.phase-dependencies",
            "no phase of a start-up begins out of order or after one failed",
        )
    };

    fn from_config(_: Self::Config) -> Self {
        Self
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(PhaseDependencies);

#[async_trait]
impl Probe for PhaseDependencies {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        about(ctx, judge).await
    }
}

fn judge(observed: &Observed) -> Outcome {
    let named = |start: &&Start| !start.attempt.phases.is_empty();
    let Some(latest) = observed.starts.iter().rev().find(named) else {
        let why = "no start-up that was seen names a phase: state its words in [startup]";
        return Outcome::skip(SkipReason::NotExercised(why.into()));
    };
    let mut outcome = Outcome::pass();
    for start in observed.starts.iter().filter(named) {
        for wrong in disorder(start, &observed.config) {
            outcome = outcome.failing(Finding::new(format!("{wrong} in {}", which(start))));
        }
    }
    let phases = &latest.attempt.phases;
    let names: Vec<&str> = phases.iter().map(|phase| phase.phase.as_str()).collect();
    let failed = &latest.attempt.failed_phase;
    let stop = if failed.is_empty() { String::new() } else { format!("; {failed} failed") };
    outcome = outcome.find(Finding::new(format!(
        "{} went through {}{stop}",
        which(latest),
        names.join(", ")
    )));
    for phase in phases {
        if let Some(seconds) = phase.seconds {
            let name = format!("phase_{}", phase.phase.to_lowercase());
            outcome = outcome.number(&name, seconds, "s", provenance(latest), None);
        }
    }
    let starts = observed.starts.iter().filter(named).count();
    outcome.number("start_ups", starts as f64, "1", Provenance::Measured, None)
}

/// What is out of order in one start-up.
fn disorder(start: &Start, config: &StartupConfig) -> Vec<String> {
    let place = |name: &str| config.phases.iter().position(|phase| phase == name);
    let mut wrong = Vec::new();
    let mut failed: Option<&str> = None;
    let mut furthest: Option<(usize, &str)> = None;
    for sign in &start.signs {
        let Some(phase) = sign.phase.as_deref() else { continue };
        let Some(at) = place(phase) else { continue };
        match sign.role {
            Role::PhaseFailed => failed = failed.or(Some(phase)),
            Role::PhaseStarted => {
                if let Some(failed) = failed.filter(|failed| *failed != phase) {
                    wrong.push(format!("{phase} began after {failed} had failed"));
                }
                if let Some((_, before)) = furthest.filter(|(furthest, _)| *furthest > at) {
                    wrong.push(format!("{phase} began after {before}"));
                }
                if furthest.is_none_or(|(furthest, _)| furthest < at) {
                    furthest = Some((at, phase));
                }
            }
            _ => {}
        }
    }
    wrong.dedup();
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::testing::{HEALTHY, observed};

    #[track_caller]
    fn check(lines: &[(i64, &str, &str)], verdict: &str, says: &str) {
        let outcome = judge(&observed("", lines));
        let text = format!("{outcome:?}");
        assert_eq!(outcome.verdict.as_str(), verdict, "{text}");
        assert!(text.contains(says), "{text}");
    }

    #[test]
    fn order_is_kept_or_named() {
        check(
            HEALTHY,
            "pass",
            "INIT, DEPENDENCIES, DATABASE, CACHE, SERVICES, WEBSOCKET, FINALIZE",
        );
        let failed = [
            (0, "a", "PHASE TRANSITION -> INIT"),
            (5, "a", "PHASE TRANSITION -> DATABASE"),
            (9, "a", "PHASE FAILED: DATABASE - no"),
        ];
        check(&failed, "pass", "INIT, DATABASE; DATABASE failed");
        let goes_on = [&failed[..], &[(10, "a", "PHASE TRANSITION -> CACHE")]].concat();
        check(&goes_on, "fail", "CACHE began after DATABASE had failed");
        let back =
            [(0, "a", "PHASE TRANSITION -> CACHE"), (5, "a", "PHASE TRANSITION -> DATABASE")];
        check(&back, "fail", "DATABASE began after CACHE");
        check(&[(0, "a", "Application startup complete.")], "skip", "names a phase");
    }
}
