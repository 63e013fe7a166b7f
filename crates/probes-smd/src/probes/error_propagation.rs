//! Asks whether a failed start-up can be seen all the way out. Good: the phase's failure becomes an
//! error, the error an exit, and the exit an answer that clients can tell from health.
//!
//! **How.** Of the latest failed start-up the times of each step are taken: the first sign of the
//! failure, the framework's word, the exit, and what the health endpoints answered: those of a
//! process of ours while it ran, those of the environment's service when log files are followed.
//!
//! **Verdicts.** *Fail*: clients were told that all is well after the failure. *Degraded*: a step is
//! missing. *Pass*: every step is there. *Skip (not exercised)*: no start-up failed.
//!
//! **Draws** one HTTP connection for the health endpoints, and `application.draws` while a process of
//! ours runs. **Configuration**: none of its own.
//!
//! **Cannot tell** what clients saw before this run asked.

use serde::{Deserialize, Serialize};
use shakedown_core::clock::Timestamp;
use shakedown_core::startup::Role;
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, async_trait,
};

use super::about::{about, meta, nothing_failed, provenance, s, which};
use crate::startup::{Observed, Start, seconds};

/// See the module.
#[derive(Debug, Default)]
pub struct ErrorPropagation;

/// `[probes."smd.error-propagation"]`: nothing to configure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ErrorPropagationConfig {}

impl ProbeSpec for ErrorPropagation {
    type Config = ErrorPropagationConfig;

    const META: ProbeMeta = ProbeMeta {
        aliases: &[
            "netra_backend/tests/unit/test_issue_1278_smd_phase3_timeout_reproduction.py::TestSMDPhase3TimeoutReproduction::test_phase3_timeout_error_propagation",
            "netra_backend/tests/unit/test_issue_1278_smd_phase3_timeout_reproduction.py::TestSMDPhase3TimeoutReproduction::test_phase3_deterministic_startup_error_creation",
            "netra_backend/tests/unit/test_issue_1278_smd_phase3_database_timeout_unit.py::SMDPhase3DatabaseTimeoutIssue1278Tests::test_error_context_preservation_unit",
            "tests/integration/test_issue_1278_fastapi_lifespan_behavior.py::TestFastAPILifespanBehavior::test_lifespan_error_propagation",
            "tests/e2e/test_issue_1278_container_exit_behavior.py::TestContainerExitBehavior::test_container_health_check_failure_propagation",
        ],
        ..meta(
            "smd.error-propagation",
            "a failed start-up becomes an error, an exit and an answer that clients can tell",
        )
    };

    fn from_config(_: Self::Config) -> Self {
        Self
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(ErrorPropagation);

#[async_trait]
impl Probe for ErrorPropagation {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        about(ctx, judge).await
    }
}

/// The steps a failure takes, each with its time and words.
struct Way {
    failed: Option<Timestamp>,
    said: Option<(Option<Timestamp>, String)>,
    exited: Option<(Option<Timestamp>, String)>,
}

impl Way {
    fn of(start: &Start) -> Self {
        let failed = start.attempt.failed_at;
        let step = |roles: &[Role]| {
            let sign = start.signs.iter().find(|sign| {
                roles.contains(&sign.role) && sign.at.is_none_or(|at| Some(at) >= failed)
            });
            sign.map(|sign| (sign.at, sign.quote.text.clone()))
        };
        Self {
            failed,
            // Where no framework has a word for it, the phase's own is the error.
            said: step(&[Role::Failed, Role::ImportDeath]).or_else(|| step(&[Role::PhaseFailed])),
            exited: step(&Role::EXIT),
        }
    }
}

fn judge(observed: &Observed) -> Outcome {
    let latest = observed.latest().filter(|latest| latest.attempt.failed());
    let Some(start) = latest.or_else(|| observed.failed().next_back()) else {
        return nothing_failed(observed);
    };
    let way = Way::of(start);
    let mut outcome = Outcome::pass();
    let words = start.attempt.words.first().map(|quote| quote.text.as_str());
    outcome = outcome.find(Finding::new(format!(
        "{} failed: {}",
        which(start),
        words.unwrap_or("no line says how")
    )));
    for (name, step, missing) in [
        ("error", &way.said, "the framework does not say that the start-up failed"),
        ("exit", &way.exited, "no exit is held"),
    ] {
        let Some((at, words)) = step else {
            outcome = outcome.but(Finding::new(missing));
            continue;
        };
        let after = seconds(way.failed, *at);
        let later = after.map(|after| format!(", {} after", s(after))).unwrap_or_default();
        outcome = outcome.find(Finding::new(format!("{name}{later}: {words}")));
        if let Some(after) = after {
            outcome =
                outcome.number(&format!("failure_to_{name}"), after, "s", provenance(start), None);
        }
    }
    clients(observed, start, outcome)
}

/// What the health endpoints said after the failure.
fn clients(observed: &Observed, start: &Start, mut outcome: Outcome) -> Outcome {
    let later = observed.starts.iter().any(|other| {
        other.origin == start.origin
            && other.attempt.began > start.attempt.began
            && !other.attempt.failed()
    });
    if later {
        let summary = "a later start-up did not fail: what clients see now is not about this one";
        return outcome.find(Finding::new(summary));
    }
    let after = |at: Timestamp| start.attempt.failed_at.is_none_or(|failed| at >= failed);
    let of = |origin| observed.polls.iter().filter(move |poll| poll.origin == origin);
    let told: Vec<_> = of(start.origin).filter(|poll| after(poll.at)).collect();
    if let Some(well) = told.iter().find(|poll| poll.is_good()) {
        return outcome.failing(Finding::new(format!(
            "clients are told that all is well: {} answers {}",
            well.path,
            well.said()
        )));
    }
    for poll in told.iter().take(3) {
        let summary = format!("clients see it: {} answers {}", poll.path, poll.said());
        outcome = outcome.find(Finding::new(summary));
    }
    if told.is_empty() {
        // A process that has exited has nobody to ask; that its port is closed, clients do see.
        let gone = observed.process.as_ref().is_some_and(|process| {
            process.instance == start.subject.instance && !process.left.listening
        });
        outcome = if gone {
            outcome.find(Finding::new("clients see it: nobody listens at its port after the exit"))
        } else {
            outcome.but(Finding::new("no health endpoint was asked after the failure"))
        };
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::testing::{HEALTHY, at, observed};
    use crate::startup::{Origin, Poll};

    const FAILURE: &[(i64, &str, &str)] = &[
        (0, "a", "PHASE TRANSITION -> DATABASE"),
        (100, "a", "PHASE FAILED: DATABASE - no way"),
        (150, "a", "Application startup failed. Exiting."),
        (400, "a", "Container called exit(3)."),
    ];

    fn poll(ms: i64, status: Option<u16>) -> Poll {
        Poll {
            origin: Origin::Logs,
            at: at(ms),
            path: "/health".into(),
            status,
            body: String::new(),
            steps: Vec::new(),
        }
    }

    #[track_caller]
    fn check(lines: &[(i64, &str, &str)], polls: Vec<Poll>, verdict: &str, says: &str) -> Outcome {
        let mut observed = observed("", lines);
        observed.polls = polls;
        let outcome = judge(&observed);
        let text = format!("{outcome:?}");
        assert_eq!(outcome.verdict.as_str(), verdict, "{text}");
        assert!(text.contains(says), "{text}");
        outcome
    }

    #[test]
    fn every_step_is_timed_up_to_the_client() {
        let outcome = check(FAILURE, vec![poll(900, Some(503))], "pass", "/health answers 503");
        let of =
            |name: &str| outcome.measurements.iter().find(|m| m.name == name).expect(name).value;
        assert_eq!((of("failure_to_error"), of("failure_to_exit")), (0.05, 0.3));
    }

    #[test]
    fn what_hides_a_failure_is_named() {
        check(FAILURE, vec![poll(900, Some(200))], "fail", "told that all is well");
        check(FAILURE, vec![], "degraded", "no health endpoint was asked");
        check(&FAILURE[..2], vec![poll(900, None)], "degraded", "no exit is held");
        check(HEALTHY, vec![], "skip", "no start-up failed");
        let mut later = FAILURE.to_vec();
        later.extend(HEALTHY.iter().map(|(at, _, line)| (at + 9000, "b", *line)));
        check(&later, vec![poll(20_000, Some(200))], "pass", "not about this one");
    }
}
