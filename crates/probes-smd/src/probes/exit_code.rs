//! Asks with which code a failed start-up ends its process, and who says so. Good: no start-up ends
//! in an exit.
//!
//! **How.** Of a process of ours the code is what waiting for it returned. In log files it is what
//! the platform ("Container called exit(3)") or the server (gunicorn's "exited with code 3") wrote;
//! every statement is listed with its source. The time from the first sign of the failure to the exit
//! is measured.
//!
//! **Verdicts.** *Fail*: the latest start-up failed and its process exited. *Degraded*: it failed and
//! no exit is held: it was swallowed, or the lines are missing. *Pass*: the latest start-up completed,
//! or an earlier one's exit is only history.
//!
//! **Draws** one HTTP connection for the health endpoints, and `application.draws` while a process of
//! ours runs. **Configuration**: none of its own.
//!
//! **Cannot tell** the cause: exit code 3 is any failed start-up of uvicorn or gunicorn.

use serde::{Deserialize, Serialize};
use shakedown_core::startup::{Role, Sign};
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Provenance, async_trait,
};

use super::about::{about, meta, nothing_failed, provenance, s, which};
use crate::causes::EXIT_CODE_3;
use crate::startup::{Observed, Start, seconds};

/// See the module.
#[derive(Debug, Default)]
pub struct ExitCode;

/// `[probes."smd.exit-code"]`: nothing to configure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ExitCodeConfig {}

impl ProbeSpec for ExitCode {
    type Config = ExitCodeConfig;

    const META: ProbeMeta = ProbeMeta {
        aliases: &[
            "tests/e2e/test_issue_1278_container_exit_behavior.py::TestContainerExitBehavior::test_container_exit_code_3_on_smd_failure",
            "tests/e2e/test_issue_1278_container_exit_behavior.py::TestContainerExitBehavior::test_container_exit_timing_patterns",
            "tests/e2e/test_issue_1278_container_exit_behavior.py::TestContainerExitBehavior::test_startup_failure_log_analysis",
        ],
        ..meta("smd.exit-code", "no start-up ends its process with a failure code")
    };

    fn from_config(_: Self::Config) -> Self {
        Self
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(ExitCode);

#[async_trait]
impl Probe for ExitCode {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        about(ctx, judge).await
    }
}

fn judge(observed: &Observed) -> Outcome {
    let latest = observed.latest().filter(|latest| latest.attempt.failed());
    let Some(failed) = latest.or_else(|| observed.failed().next_back()) else {
        return nothing_failed(observed);
    };
    let latest = latest.is_some();
    let attempt = &failed.attempt;
    let finding = match attempt.exit_code {
        Some(code) => {
            let mut finding = Finding::new(format!(
                "{} ended its process with exit code {code}, according to {}",
                which(failed),
                source(&attempt.exit_source)
            ));
            finding.symptom = (code == 3).then_some(EXIT_CODE_3);
            finding
                .next("read what the instance wrote before: the code says nothing about the cause")
        }
        None => {
            Finding::new(format!("{} failed and no exit of its process is held", which(failed)))
                .next("see smd.lifespan: a failure that is swallowed leaves the process running")
        }
    };
    let mut outcome = match (latest, attempt.exit_code) {
        (true, Some(_)) => Outcome::fail(finding),
        (true, None) => Outcome::degraded(finding),
        (false, _) => {
            Outcome::pass().find(finding).find(Finding::new("a later start-up completed"))
        }
    };
    if attempt.exit_code == Some(3) {
        outcome = outcome.find(Finding::new(
            "3 is what uvicorn and gunicorn exit with after any failed start-up",
        ));
    }
    for sign in exits(failed) {
        outcome = outcome.find(Finding::new(format!("it said: {}", sign.quote.text)));
    }
    if let Some(code) = attempt.exit_code {
        outcome = outcome.number("exit_code", f64::from(code), "1", provenance(failed), None);
    }
    let exit = exits(failed).last().and_then(|sign| sign.at);
    if let Some(after) = seconds(attempt.failed_at, exit) {
        outcome = outcome.number("failure_to_exit", after, "s", provenance(failed), None).find(
            Finding::new(format!("it exited {} after the first sign of its failure", s(after))),
        );
    }
    let exited = observed.failed().filter(|start| start.attempt.exit_code.is_some()).count();
    outcome.number("start_ups_that_exited", exited as f64, "1", Provenance::Measured, None)
}

/// Every statement about an exit, in time order.
fn exits(start: &Start) -> impl Iterator<Item = &Sign> {
    start.signs.iter().filter(|sign| Role::EXIT.contains(&sign.role))
}

fn source(source: &str) -> &str {
    match source {
        "process" => "the process itself: we waited for it",
        "platform" => "the platform",
        "server" => "the server's own log",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::testing::{HEALTHY, observed};

    #[test]
    fn the_code_is_told_with_its_source_and_every_statement() {
        let lines = [
            (0, "a", "PHASE TRANSITION -> DATABASE"),
            (100, "a", "PHASE FAILED: DATABASE - no"),
            (150, "a", "Worker (pid:14) exited with code 3"),
            (200, "a", "Container called exit(3)."),
        ];
        let outcome = judge(&observed("", &lines));
        assert_eq!(outcome.verdict.as_str(), "fail");
        let text = format!("{outcome:?}");
        assert!(text.contains("exit code 3, according to the platform"), "{text}");
        assert!(text.contains("Worker (pid:14) exited with code 3"), "{text}");
        assert_eq!(outcome.findings[0].symptom, Some(EXIT_CODE_3));
        assert_eq!((outcome.measurements[0].value, outcome.measurements[1].value), (3.0, 0.1));
    }

    #[test]
    fn without_a_failure_there_is_nothing_to_exit_and_without_an_exit_something_is_missing() {
        assert_eq!(judge(&observed("", HEALTHY)).verdict.as_str(), "skip");
        let lines = [(0, "a", "PHASE TRANSITION -> INIT"), (9, "a", "PHASE FAILED: INIT - no")];
        assert_eq!(judge(&observed("", &lines)).verdict.as_str(), "degraded");
        let mut both = lines.to_vec();
        both.push((20, "a", "Container called exit(1)."));
        both.extend(HEALTHY.iter().map(|(at, _, line)| (at + 1000, "b", *line)));
        assert_eq!(judge(&observed("", &both)).verdict.as_str(), "pass");
    }
}
