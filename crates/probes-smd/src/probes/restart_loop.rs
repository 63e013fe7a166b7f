//! Asks whether the application starts again and again. Good: an instance that starts stays.
//!
//! **How.** The failed start-ups after the last one that completed are counted, over all instances,
//! and the time from the beginning of each to the beginning of the next is taken. Where there are
//! some but fewer than `cycles`, log files are followed for up to `wait`. A process of ours is
//! started once only: it shows a failure, not a loop.
//!
//! **Verdicts.** *Fail*: three or more start-ups failed in a row. *Degraded*: one or two did. *Pass*:
//! the latest start-up completed; how many failed before is said.
//!
//! **Draws** one HTTP connection for the health endpoints, and `application.draws` while a process of
//! ours runs.
//!
//! **Configuration**: see [`RestartLoopConfig`].
//!
//! **Cannot tell** deaths that leave no line.

use serde::{Deserialize, Serialize};
use shakedown_core::{
    AttemptEnd, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, SkipReason,
    Span, async_trait,
};

use super::about::{meta, provenance, s};
use crate::causes::RESTART_LOOP;
use crate::startup::{Observed, Origin, Start, Startups, seconds};

/// From so many failures in a row on they are a loop; the classifier's number as well.
const LOOP: usize = 3;

/// See the module.
#[derive(Debug)]
pub struct RestartLoop(RestartLoopConfig);

/// `[probes."smd.restart-loop"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RestartLoopConfig {
    /// So many failed start-ups in a row are enough to stop waiting for more. Default 5.
    pub cycles: u32,
    /// The longest wait for them. Default 5 min: two of the strategy's restart cycles of 2 to 3
    /// minutes.
    pub wait: Span,
}

impl Default for RestartLoopConfig {
    fn default() -> Self {
        Self { cycles: 5, wait: Span::secs(300) }
    }
}

impl ProbeSpec for RestartLoop {
    type Config = RestartLoopConfig;

    const META: ProbeMeta = ProbeMeta {
        timeout: std::time::Duration::from_secs(600),
        aliases: &[
            "tests/e2e/test_issue_1278_container_exit_behavior.py::TestContainerExitBehavior::test_container_restart_loop_detection",
        ],
        ..meta("smd.restart-loop", "an instance that starts stays")
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(RestartLoop);

#[async_trait]
impl Probe for RestartLoop {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let startups = Startups::of(ctx);
        let mut observed = match startups.observe(ctx).await? {
            Ok(observed) => observed,
            Err(skipped) => return Ok(skipped),
        };
        let enough = |starts: &[Start]| {
            let cycles = in_a_row(starts).len();
            cycles == 0 || cycles >= self.0.cycles as usize
        };
        if !enough(&observed.starts) {
            ctx.progress("waiting for the next restart");
            startups.follow_logs(ctx, self.0.wait.get(), enough).await?;
            if let Ok(more) = startups.observe(ctx).await? {
                observed = more;
            }
        }
        Ok(observed.noted(judge(&observed)))
    }
}

/// The failed start-ups of the log files after the last one that completed.
fn in_a_row(starts: &[Start]) -> Vec<&Start> {
    let mut row: Vec<&Start> = starts
        .iter()
        .rev()
        .filter(|start| start.origin == Origin::Logs && start.attempt.end != AttemptEnd::Unknown)
        .take_while(|start| start.attempt.failed())
        .collect();
    row.reverse();
    row
}

fn judge(observed: &Observed) -> Outcome {
    if observed.starts.iter().all(|start| start.origin == Origin::Process) {
        let why = "a process of ours is started once: set [application] logs to see restarts";
        return Outcome::skip(SkipReason::NotExercised(why.into()));
    }
    let row = in_a_row(&observed.starts);
    let Some(last) = row.last() else {
        let before = observed.failed().filter(|start| start.origin == Origin::Logs).count();
        let stays = format!("the latest start-up completed; {before} failed before it");
        return Outcome::pass().find(Finding::new(stays));
    };
    let mut periods: Vec<f64> = row
        .windows(2)
        .filter_map(|pair| seconds(pair[0].attempt.began, pair[1].attempt.began))
        .collect();
    periods.sort_by(f64::total_cmp);
    let period = periods.get(periods.len() / 2).copied();
    let every = period.map(|period| format!(", every {}", s(period))).unwrap_or_default();
    let mut finding = Finding::new(format!("{} start-ups failed in a row{every}", row.len()));
    let from = provenance(last);
    let mut outcome = if row.len() >= LOOP {
        finding.symptom = Some(RESTART_LOOP);
        Outcome::fail(finding.next(
            "the period separates deaths: seconds at import, the phase's limit in the database phase",
        ))
    } else {
        Outcome::degraded(finding)
    };
    outcome = outcome.number("failed_in_a_row", row.len() as f64, "1", from, None);
    if let (Some(period), Some(least), Some(most)) = (period, periods.first(), periods.last()) {
        outcome = outcome
            .number("period_p50", period, "s", from, None)
            .number("period_min", *least, "s", from, None)
            .number("period_max", *most, "s", from, None);
    }
    let took: Vec<f64> = row.iter().filter_map(|start| start.took_s()).collect();
    let most = took.iter().copied().reduce(f64::max);
    most.into_iter()
        .fold(outcome, |outcome, most| outcome.number("life_max", most, "s", from, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::testing::{HEALTHY, observed};

    fn deaths(count: i64, every_ms: i64) -> Vec<(i64, &'static str, &'static str)> {
        const NAMES: [&str; 6] = ["i0", "i1", "i2", "i3", "i4", "i5"];
        let lines = |n: i64| {
            let name = NAMES[usize::try_from(n).expect("few")];
            [
                (n * every_ms, name, "PHASE TRANSITION -> DATABASE"),
                (n * every_ms + 7_500, name, "PHASE FAILED: DATABASE - timeout after 7.5s"),
                (n * every_ms + 7_600, name, "Container called exit(3)."),
            ]
        };
        (0..count).flat_map(lines).collect()
    }

    #[test]
    fn a_loop_has_a_count_and_a_period() {
        let outcome = judge(&observed("", &deaths(5, 12_000)));
        assert_eq!(outcome.verdict.as_str(), "fail");
        assert_eq!(outcome.findings[0].summary, "5 start-ups failed in a row, every 12.0 s");
        assert_eq!(outcome.findings[0].symptom, Some(RESTART_LOOP));
        let of =
            |name: &str| outcome.measurements.iter().find(|m| m.name == name).expect(name).value;
        assert_eq!((of("failed_in_a_row"), of("period_p50"), of("life_max")), (5.0, 12.0, 7.5));
    }

    #[test]
    fn one_failure_is_no_loop_and_a_completed_start_up_ends_one() {
        let one = judge(&observed("", &deaths(1, 1)));
        assert_eq!(one.verdict.as_str(), "degraded");
        let mut lines = deaths(4, 12_000);
        lines.extend(HEALTHY.iter().map(|(at, _, line)| (at + 90_000, "b", *line)));
        let ended = judge(&observed("", &lines));
        assert_eq!(ended.verdict.as_str(), "pass");
        assert!(ended.findings[0].summary.contains("4 failed before"), "{ended:?}");
    }
}
