//! Asks whether the start-up's database phase ends within its limit. Good: the latest start-up that
//! came to that phase completed it.
//!
//! **How.** The phase's duration is taken between its own marker lines: by our clock for a process we
//! started, by the log's for log files. Where it failed, three figures are kept apart: the limit the
//! error message *claims*, the wait that was *measured*, and the limit that *fired*, which is the one
//! of `[application.limits]` (else of `[startup]`) that fits what was measured. After a timeout a
//! direct login is tried over and over, each for at most `safety.connect_timeout`: how long it takes
//! is the least limit with which the phase would have passed; if none comes through, all that is
//! known is that not even that long would have been enough.
//!
//! **Verdicts.** *Fail*: the latest start-up failed in that phase, or was still in it when it was
//! given up. *Pass*: it completed the phase, whatever came later. *Skip (not exercised)*: it failed
//! before: the database is undetermined then, not fine.
//!
//! **Draws** one HTTP connection for the health endpoints, one database connection for the direct
//! login, and `application.draws` while a process of ours runs.
//!
//! **Configuration**: see [`Phase3TimeoutConfig`].
//!
//! **Cannot tell** why the database was slow: that is the work of run phases 1 and 2 and of the
//! diagnosis.

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::evidence::Body;
use shakedown_core::id::{Cause, resource};
use shakedown_core::{
    Attempt, AttemptEnd, Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta,
    ProbeSpec, SkipReason, Span, StartupConfig, Subject, async_trait,
};
use shakedown_wire::pg::{self, PgTarget};

use super::about::{meta, provenance, s, which};
use crate::causes::PHASE3_TIMEOUT;
use crate::startup::{Observed, Start, Startups};

/// See the module.
#[derive(Debug)]
pub struct Phase3Timeout(Phase3TimeoutConfig);

/// `[probes."smd.phase3-timeout"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Phase3TimeoutConfig {
    /// How many direct logins are tried after a timeout, until one comes through. Default 3: with the
    /// 30 s each may take, as long as the phase itself.
    pub logins: u32,
}

impl Default for Phase3TimeoutConfig {
    fn default() -> Self {
        Self { logins: 3 }
    }
}

impl ProbeSpec for Phase3Timeout {
    type Config = Phase3TimeoutConfig;

    const META: ProbeMeta = ProbeMeta {
        draws: &[
            Draw::new(resource::HTTP_CONNECTION, 1),
            Draw::new(resource::DATABASE_CONNECTION, 1),
        ],
        timeout: std::time::Duration::from_secs(400),
        aliases: &[
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_smd_phase3_timeout_reproduction_staging",
            "netra_backend/tests/unit/test_issue_1278_smd_phase3_timeout_reproduction.py::TestSMDPhase3TimeoutReproduction::test_phase3_20_second_timeout_failure",
            "netra_backend/tests/unit/test_issue_1278_smd_phase3_timeout_reproduction.py::TestSMDPhase3TimeoutReproduction::test_phase3_75_second_extended_timeout_failure",
        ],
        ..meta("smd.phase3-timeout", "the start-up's database phase ends within its limit")
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(Phase3Timeout);

#[async_trait]
impl Probe for Phase3Timeout {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let observed = match Startups::of(ctx).observe(ctx).await? {
            Ok(observed) => observed,
            Err(skipped) => return Ok(skipped),
        };
        let mut outcome = judge(&observed);
        let timed_out = observed.latest().is_some_and(|start| in_database(start, &observed.config));
        if timed_out && ctx.environment().database.is_some() {
            outcome = direct(ctx, self.0.logins, outcome).await?;
        }
        Ok(observed.noted(outcome))
    }
}

/// Whether it ended, or stayed, in the database phase.
fn in_database(start: &Start, config: &StartupConfig) -> bool {
    let attempt = &start.attempt;
    let last = attempt.phases.last().is_some_and(|phase| phase.phase == config.database_phase);
    attempt.failed_in_database || (attempt.end == AttemptEnd::Unknown && last)
}

fn judge(observed: &Observed) -> Outcome {
    let config = &observed.config;
    let phase = &config.database_phase;
    let Some(start) = observed.latest() else {
        return Outcome::skip(SkipReason::NotExercised("no start-up has an end yet".into()));
    };
    let attempt = &start.attempt;
    let took = attempt.phases.iter().find(|known| known.phase == *phase);
    let took = took.and_then(|known| known.seconds);
    let mut outcome = if in_database(start, config) {
        let mut failing = Outcome::fail(failed(start, phase, config));
        if let Some(words) = attempt.words.first() {
            failing = failing.find(Finding::new(format!("it said: {}", words.text)));
        }
        failing
    } else if let Some(took) = took {
        let mut pass = Outcome::pass();
        pass = pass.find(Finding::new(format!("{phase} took {} in {}", s(took), which(start))));
        pass
    } else if attempt.reached_database == Some(false) || attempt.failed() {
        let words = if attempt.failed_phase.is_empty() {
            "before any phase was named".to_owned()
        } else {
            format!("in {}", attempt.failed_phase)
        };
        let why = format!(
            "{} failed {words}, before {phase} was over: whether the database answers is undetermined",
            which(start)
        );
        return Outcome::skip(SkipReason::NotExercised(why));
    } else {
        let why = format!("{} has no line about {phase}", which(start));
        return Outcome::skip(SkipReason::NotExercised(why));
    };
    let limit = config.limits.iter().map(|limit| limit.seconds).reduce(f64::max);
    let from = provenance(start);
    if let Some(took) = attempt.measured_s.or(took) {
        outcome = outcome.number("database_phase", took, "s", from, limit);
    }
    if let Some(claimed) = attempt.claimed_timeout_s {
        let quoted = shakedown_core::Provenance::Quoted;
        outcome = outcome.number("claimed_timeout", claimed, "s", quoted, None);
    }
    let count = |starts: usize| starts as f64;
    let failed = observed.failed().filter(|start| in_database(start, config)).count();
    outcome.number("start_ups", count(observed.starts.len()), "1", from, None).number(
        "start_ups_failed_in_it",
        count(failed),
        "1",
        from,
        None,
    )
}

fn failed(start: &Start, phase: &str, config: &StartupConfig) -> Finding {
    let attempt = &start.attempt;
    if attempt.end == AttemptEnd::Unknown {
        return Finding::new(format!(
            "{phase} had not ended when {} was given up: no limit of its own fired",
            which(start)
        ));
    }
    let measured = attempt.measured_s.map_or_else(
        || "after a time no line tells".to_owned(),
        |measured| format!("after {}", s(measured)),
    );
    let fired = match attempt.limit.as_str() {
        "" if attempt.timed_out => "no configured limit fits".to_owned(),
        "" => "it was no timeout".to_owned(),
        limit => format!("the limit that fired is {limit}{}", called(attempt, config)),
    };
    let claimed = match (attempt.claimed_timeout_s, attempt.measured_s) {
        (Some(claimed), Some(measured))
            if (claimed - measured).abs() > claimed.mul_add(0.1, 0.5) =>
        {
            format!("; its message claims {}, which is not what was measured", s(claimed))
        }
        // The limit that fired says it already.
        (Some(_), Some(_)) if !attempt.limit.is_empty() => String::new(),
        (Some(claimed), _) => format!("; its message claims {}", s(claimed)),
        (None, _) => String::new(),
    };
    let mut finding =
        Finding::new(format!("{phase} failed {measured} in {}: {fired}{claimed}", which(start)));
    if attempt.timed_out {
        finding.symptom = Some(PHASE3_TIMEOUT);
        finding.suggests = config.phase_causes.get(phase).map(|cause| Cause::from(cause.clone()));
    }
    finding.next("see what else held that minute: cloudsql.connect-timing, vpc.direct-connectivity")
}

/// The name of the configured limit that is as long as the one the message claims.
fn called(attempt: &Attempt, config: &StartupConfig) -> String {
    let claimed = attempt.claimed_timeout_s.filter(|_| attempt.limit.starts_with("the claimed"));
    let same = config
        .limits
        .iter()
        .find(|limit| claimed.is_some_and(|claimed| (claimed - limit.seconds).abs() < 0.01));
    same.map(|limit| format!(" ({})", limit.name)).unwrap_or_default()
}

/// Logs in directly until it works, to say which limit would have been enough.
async fn direct(ctx: &ProbeCtx, logins: u32, mut outcome: Outcome) -> Result<Outcome, ProbeError> {
    let target = PgTarget { connect_timeout: std::time::Duration::MAX, ..PgTarget::of(ctx)? }
        .named(Phase3Timeout::META.id);
    let longest = ctx.environment().safety.connect_timeout;
    let mut faults: Vec<Fault> = Vec::new();
    for login in 1..=logins {
        if ctx.remaining().is_some_and(|left| left < longest.get()) {
            break;
        }
        ctx.progress(format!("direct login {login} of {logins}"));
        let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
        let climb = pg::connect(ctx, lease, &target).await.uninterrupted()?;
        for step in &climb.steps {
            ctx.observe(Subject::service("database"), Body::Step(step.clone()));
        }
        let took_s = climb.total_ms() / 1e3;
        outcome = outcome.steps(climb.steps);
        match climb.result {
            Ok(connection) => {
                connection.close().await;
                let failures = if faults.is_empty() {
                    String::new()
                } else {
                    format!(", after {} that failed", faults.len())
                };
                return Ok(outcome.measure("direct_login", took_s, "s").find(Finding::new(format!(
                    "a direct login takes {took_s:.1} s now{failures}: with at least that as its \
                     limit the phase would have passed as far as one login goes"
                ))));
            }
            Err(fault) => faults.push(fault),
        }
    }
    Ok(outcome.find(no_login(&faults, longest)))
}

fn no_login(faults: &[Fault], longest: Span) -> Finding {
    let Some(fault) = faults.last() else {
        return Finding::new("no time was left for a direct login");
    };
    let timeouts = faults.iter().all(|fault| matches!(fault, Fault::Timeout { .. }));
    let mut finding = Finding::new(if timeouts {
        format!(
            "{} direct logins of up to {longest} each did not come through: the phase would have \
             needed more than that, how much more is not known",
            faults.len()
        )
    } else {
        format!("a direct login fails as well: {fault}; no limit would have been long enough")
    });
    finding.fault = Some(fault.clone());
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::testing::{HEALTHY, observed};

    const TIMEOUT: &[(i64, &str, &str)] = &[
        (0, "a", "PHASE TRANSITION -> INIT"),
        (100, "a", "PHASE COMPLETED: INIT (0.1s)"),
        (100, "a", "PHASE TRANSITION -> DATABASE"),
        (10_120, "a", "Database initialization timeout after 25.0s"),
        (10_121, "a", "PHASE FAILED: DATABASE - timeout after 25.0s"),
        (10_130, "a", "Container called exit(3)."),
    ];

    #[track_caller]
    fn check(application: &str, lines: &[(i64, &str, &str)], verdict: &str, says: &str) -> Outcome {
        let outcome = judge(&observed(application, lines));
        let text = format!("{outcome:?}");
        assert_eq!(outcome.verdict.as_str(), verdict, "{text}");
        assert!(text.contains(says), "{text}");
        outcome
    }

    #[test]
    fn the_limit_that_fired_is_told_from_the_one_that_is_claimed() {
        let limits = "limits = { initialization = \"25s\", table_setup = \"10s\" }";
        let outcome = check(
            limits,
            TIMEOUT,
            "fail",
            "DATABASE failed after 10.0 s in the start-up of a at 05:20:00 UTC (seen in log files): \
             the limit that fired is table_setup 10 s; its message claims 25.0 s, which is not what \
             was measured",
        );
        assert_eq!(outcome.findings[0].symptom, Some(PHASE3_TIMEOUT));
        let of =
            |name: &str| outcome.measurements.iter().find(|m| m.name == name).expect(name).value;
        assert_eq!((of("database_phase"), of("claimed_timeout")), (10.021, 25.0));
    }

    #[test]
    fn a_phase_that_completes_passes_with_its_duration() {
        let outcome = check("", HEALTHY, "pass", "DATABASE took 0.5 s");
        assert_eq!(outcome.measurements[0].value, 0.5);
    }

    #[test]
    fn a_failure_before_the_phase_leaves_the_database_undetermined() {
        let lines =
            [(0, "a", "PHASE TRANSITION -> INIT"), (5, "a", "PHASE FAILED: INIT - no module")];
        check("", &lines, "skip", "failed in INIT, before DATABASE was over");
    }

    #[test]
    fn the_latest_start_up_decides() {
        let mut lines = TIMEOUT.to_vec();
        lines.extend(HEALTHY.iter().map(|(at, _, line)| (at + 60_000, "b", *line)));
        let outcome = check("", &lines, "pass", "DATABASE took 0.5 s in the start-up of b");
        let failed = outcome.measurements.iter().find(|m| m.name == "start_ups_failed_in_it");
        assert_eq!(failed.expect("counted").value, 1.0);
    }

    #[test]
    fn what_a_direct_login_says_about_the_limit() {
        let timeout = || Fault::Timeout { limit: Span::secs(30) };
        let says = |faults: &[Fault]| no_login(faults, Span::secs(30)).summary;
        assert!(says(&[timeout(), timeout()]).contains("2 direct logins of up to 30s"));
        assert!(
            says(&[timeout(), Fault::Refused]).contains("no limit would have been long enough")
        );
        assert!(says(&[]).contains("no time was left"));
    }
}
