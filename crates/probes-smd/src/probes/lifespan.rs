//! Asks whether the framework passes a failed start-up on. Good: it ends the process; nothing serves
//! after a start-up that failed.
//!
//! **How.** A failure counts as passed on when the process exited after it. It counts as swallowed
//! when the same instance said afterwards that its start-up is complete, when a process of ours
//! stayed, or when its health then answered 200.
//!
//! **Verdicts.** *Fail*: a failure was swallowed: the platform takes the instance for well. *Pass*:
//! every failure was passed on. *Degraded*: of a failure neither is held. *Skip (not exercised)*: no
//! start-up failed.
//!
//! **Draws** one HTTP connection for the health endpoints, and `application.draws` while a process of
//! ours runs. **Configuration**: none of its own.
//!
//! **Cannot tell** why the start-up failed.

use serde::{Deserialize, Serialize};
use shakedown_core::startup::Role;
use shakedown_core::{
    Category, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, async_trait,
};

use super::about::{about, meta, nothing_failed, provenance, which};
use crate::causes::LIFESPAN_BREAKDOWN;
use crate::startup::{Observed, Origin, Start, Watched};

/// See the module.
#[derive(Debug, Default)]
pub struct Lifespan;

/// `[probes."smd.lifespan"]`: nothing to configure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LifespanConfig {}

impl ProbeSpec for Lifespan {
    type Config = LifespanConfig;

    const META: ProbeMeta = ProbeMeta {
        category: Category::Integration,
        aliases: &[
            "tests/integration/test_issue_1278_fastapi_lifespan_behavior.py::TestFastAPILifespanBehavior::test_lifespan_startup_failure_handling",
            "tests/integration/test_issue_1278_fastapi_lifespan_behavior.py::TestFastAPILifespanBehavior::test_lifespan_context_breakdown_graceful",
            "tests/integration/test_issue_1278_fastapi_lifespan_behavior.py::TestFastAPILifespanBehavior::test_lifespan_startup_event_validation",
            "tests/integration/test_issue_1278_fastapi_lifespan_behavior.py::TestFastAPILifespanBehavior::test_lifespan_exception_handling",
            "tests/e2e/test_issue_1278_staging_startup_failure_reproduction.py::StagingStartupFailureIssue1278E2ETests::test_fastapi_lifespan_breakdown_monitoring",
        ],
        ..meta("smd.lifespan", "a failed start-up ends the process: the framework swallows nothing")
    };

    fn from_config(_: Self::Config) -> Self {
        Self
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(Lifespan);

#[async_trait]
impl Probe for Lifespan {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        about(ctx, judge).await
    }
}

/// What became of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Became {
    PassedOn,
    Swallowed(&'static str),
    Unknown,
}

fn judge(observed: &Observed) -> Outcome {
    let failed: Vec<&Start> = observed.failed().collect();
    let Some(latest) = failed.last() else { return nothing_failed(observed) };
    let mut outcome = Outcome::pass();
    let mut passed_on = 0.0;
    for start in &failed {
        match became(observed, start) {
            Became::PassedOn => passed_on += 1.0,
            Became::Swallowed(how) => {
                let mut finding =
                    Finding::new(format!("{} failed and was swallowed: {how}", which(start)));
                finding.symptom = Some(LIFESPAN_BREAKDOWN);
                outcome = outcome.failing(finding.next(
                    "let the exception leave the lifespan: what serves after it serves nothing",
                ));
            }
            Became::Unknown => {
                let summary = format!("what became of the failure of {} is not held", which(start));
                outcome = outcome.but(Finding::new(summary));
            }
        }
    }
    if became(observed, latest) == Became::PassedOn {
        let word = latest.signs.iter().rev().find(|sign| sign.role == Role::Failed);
        let said = word.map(|sign| format!(": {}", sign.quote.text)).unwrap_or_default();
        let mut finding =
            Finding::new(format!("the failure of {} was passed on{said}", which(latest)));
        finding.symptom = Some(LIFESPAN_BREAKDOWN);
        outcome = outcome.find(finding);
    }
    let from = provenance(latest);
    outcome.number("failures", failed.len() as f64, "1", from, None).number(
        "failures_passed_on",
        passed_on,
        "1",
        from,
        None,
    )
}

fn became(observed: &Observed, start: &Start) -> Became {
    let attempt = &start.attempt;
    if attempt.swallowed {
        return Became::Swallowed("the framework said afterwards that its start-up is complete");
    }
    let ours = observed.process.as_ref().filter(|process| {
        start.origin == Origin::Process && process.instance == start.subject.instance
    });
    if let Some(process) = ours {
        let after = |at| attempt.failed_at.is_some_and(|failed| at > failed);
        if process.polls.iter().any(|poll| poll.is_good() && after(poll.at)) {
            return Became::Swallowed("its health answered 200 afterwards");
        }
        if process.watched == Watched::FailedAndStayed {
            return Became::Swallowed("the process stayed until we ended it");
        }
    }
    match attempt.exit_code {
        Some(code) if code != 0 => Became::PassedOn,
        Some(_) => Became::Swallowed("the process exited with 0, as if all were well"),
        None if start.sign(&[Role::Killed, Role::WorkerKilled]).is_some() => Became::PassedOn,
        None => Became::Unknown,
    }
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
    fn a_failure_is_passed_on_swallowed_or_unknown() {
        let failure = [
            (0, "a", "Waiting for application startup."),
            (5, "a", "PHASE TRANSITION -> DATABASE"),
            (9, "a", "PHASE FAILED: DATABASE - no"),
        ];
        let with = |more: &[(i64, &'static str, &'static str)]| [&failure[..], more].concat();
        let word = (10, "a", "Application startup failed. Exiting.");
        check(
            &with(&[word, (20, "a", "Worker (pid:14) exited with code 3")]),
            "pass",
            "was passed on: Application startup failed. Exiting.",
        );
        check(&with(&[(10, "a", "Application startup complete.")]), "fail", "was swallowed");
        check(&with(&[(20, "a", "Container called exit(0).")]), "fail", "exited with 0");
        check(&with(&[word]), "degraded", "is not held");
        check(HEALTHY, "skip", "1 of 1 seen completed");
    }
}
