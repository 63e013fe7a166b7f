//! Asks whether the application starts while others use the database. Good: every phase completes
//! while a small load runs beside it.
//!
//! **How.** The configured command is run once more. From before its start until its end one or two
//! sessions of ours ask a constant, again and again, `rate` times a second in all: a load that stays
//! inside the run's budget and shows, but cannot make, a database that is at its limit. The phases'
//! durations are held against those of the start-up without the load.
//!
//! **Verdicts.** *Fail*: the start-up failed, or had not ended at its ceiling. *Pass*: it completed.
//! *Skip*: there is no command: what log files show happened without our load.
//!
//! **Draws** one HTTP connection for the health endpoints, one or two database connections for the
//! load, and `application.draws` while the process runs.
//!
//! **Configuration**: see [`SequenceUnderLoadConfig`].
//!
//! **Cannot tell** what a load would do that the budget does not allow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::id::resource;
use shakedown_core::{
    AttemptEnd, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Rate,
    SkipReason, async_trait,
};
use shakedown_wire::pg::statements::PING;
use shakedown_wire::pg::{self, PgConnection, PgTarget};

use super::about::{meta, s, which};
use crate::application::Application;
use crate::startup::{Observed, Origin, ProcessRun, Start, Startups};

/// See the module.
#[derive(Debug)]
pub struct SequenceUnderLoad(SequenceUnderLoadConfig);

/// `[probes."smd.sequence-under-load"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SequenceUnderLoadConfig {
    /// How often the load asks, all sessions together. Default 20/s: far below what a database with
    /// two vCPUs notices.
    pub rate: Rate,
}

impl Default for SequenceUnderLoadConfig {
    fn default() -> Self {
        Self { rate: Rate::per_second(20) }
    }
}

impl ProbeSpec for SequenceUnderLoad {
    type Config = SequenceUnderLoadConfig;

    const META: ProbeMeta = ProbeMeta {
        draws: &[
            Draw::new(resource::HTTP_CONNECTION, 1),
            Draw::between(resource::DATABASE_CONNECTION, 1, 2),
        ],
        timeout: Duration::from_secs(600),
        aliases: &[
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_complete_smd_7_phase_sequence_under_load",
        ],
        ..meta(
            "smd.sequence-under-load",
            "every start-up phase completes while others use the database",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(SequenceUnderLoad);

#[async_trait]
impl Probe for SequenceUnderLoad {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let section: Application = ctx.section()?;
        if section.command.is_empty() {
            let why = "only a process of ours can be started under load: set [application] command";
            return Ok(Outcome::skip(SkipReason::NotExercised(why.into())));
        }
        let startups = Startups::of(ctx);
        // The start-up without load comes first, so that there is something to compare with.
        let alone = match startups.observe(ctx).await? {
            Ok(observed) => Some(observed),
            Err(_) => startups.last(),
        };
        if let Some(alone) = alone.as_ref().filter(|observed| observed.process.is_none()) {
            return Ok(alone
                .noted(Outcome::skip(SkipReason::Unavailable("the command was not run".into()))));
        }
        if let Some(failed) = alone.as_ref().and_then(|observed| {
            let process = |start: &&Start| start.origin == Origin::Process;
            observed.starts.iter().find(process).filter(|start| start.attempt.failed())
        }) {
            let why = format!("{} failed without any load already", which(failed));
            return Ok(Outcome::skip(SkipReason::NotExercised(why)));
        }
        ctx.progress("starting the application under load");
        let load = Load::open(ctx).await?;
        let run = startups.run_again(ctx, load.run(self.0.rate)).await?;
        let (asked, failed) = load.counts();
        let outcome = match run {
            Err(why) => Outcome::skip(SkipReason::Unavailable(why)),
            Ok((run, start)) => judge(&run, start.as_ref(), alone.as_deref()),
        };
        load.close().await;
        Ok(outcome.measure("load_queries", asked, "1").measure("load_queries_failed", failed, "1"))
    }
}

/// Sessions that ask a constant.
struct Load {
    sessions: Vec<tokio::sync::Mutex<Option<PgConnection>>>,
    asked: AtomicU64,
    failed: AtomicU64,
}

impl Load {
    /// Opens as many sessions as were drawn; those that cannot be opened are counted as failures.
    async fn open(ctx: &ProbeCtx) -> Result<Self, ProbeError> {
        let mut load =
            Self { sessions: Vec::new(), asked: AtomicU64::new(0), failed: AtomicU64::new(0) };
        if ctx.environment().database.is_none() {
            return Ok(load);
        }
        let target = PgTarget::of(ctx)?.named(SequenceUnderLoad::META.id);
        for _ in 0..ctx.drawn(&resource::DATABASE_CONNECTION).max(1) {
            let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
            let climb = pg::connect(ctx, lease, &target).await.uninterrupted()?;
            match climb.result {
                Ok(connection) => load.sessions.push(tokio::sync::Mutex::new(Some(connection))),
                Err(_) => _ = load.failed.fetch_add(1, Ordering::Relaxed),
            }
        }
        Ok(load)
    }

    /// Asks until it is dropped.
    async fn run(&self, rate: Rate) {
        if self.sessions.is_empty() {
            return;
        }
        let pause = rate.per / rate.count.max(1);
        for session in self.sessions.iter().cycle() {
            tokio::time::sleep(pause).await;
            let mut session = session.lock().await;
            let Some(connection) = session.as_mut() else { continue };
            self.asked.fetch_add(1, Ordering::Relaxed);
            if connection.query(PING, &[]).await.is_err() {
                self.failed.fetch_add(1, Ordering::Relaxed);
                *session = None;
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a start-up's time")]
    fn counts(&self) -> (f64, f64) {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed) as f64;
        (count(&self.asked), count(&self.failed))
    }

    async fn close(self) {
        for session in self.sessions {
            if let Some(connection) = session.into_inner() {
                connection.close().await;
            }
        }
    }
}

fn judge(run: &ProcessRun, start: Option<&Start>, alone: Option<&Observed>) -> Outcome {
    if let Some(limited) = run.limited() {
        return Outcome::skip(SkipReason::Unavailable(limited));
    }
    let Some(start) = start else {
        let why = "no line of the application is a marker of [startup]: state its words there";
        return Outcome::skip(SkipReason::NotExercised(why.into()));
    };
    let attempt = &start.attempt;
    let mut outcome = match attempt.end {
        AttemptEnd::Completed => {
            Outcome::pass().find(Finding::new(format!("{} completed under load", which(start))))
        }
        AttemptEnd::Failed => {
            let phase = match attempt.failed_phase.as_str() {
                "" => "before any phase was named",
                phase => phase,
            };
            let words = attempt.words.first().map(|words| format!(": {}", words.text));
            Outcome::fail(Finding::new(format!(
                "{} failed under load in {phase}{}",
                which(start),
                words.unwrap_or_default()
            )))
        }
        AttemptEnd::Stopped | AttemptEnd::Unknown => {
            let last = attempt.phases.last().map_or("its first phase", |phase| &phase.phase);
            Outcome::fail(Finding::new(format!(
                "{} had not ended under load after {}; it was in {last}",
                which(start),
                s(run.took_s)
            )))
        }
    };
    let before = alone
        .and_then(|observed| observed.starts.iter().find(|start| start.origin == Origin::Process));
    for phase in &attempt.phases {
        let Some(seconds) = phase.seconds else { continue };
        let baseline = before.and_then(|start| {
            start.attempt.phases.iter().find(|other| other.phase == phase.phase)?.seconds
        });
        let name = format!("phase_{}", phase.phase.to_lowercase());
        let from = shakedown_core::Provenance::Measured;
        outcome = outcome.number(&name, seconds, "s", from, baseline);
    }
    match start.took_s() {
        Some(took) => outcome.measure("start_up", took, "s"),
        None => outcome,
    }
}

#[cfg(test)]
mod tests {
    use shakedown_wire::pg::RelayReport;

    use super::*;
    use crate::startup::testing::{HEALTHY, observed, process};

    #[track_caller]
    fn check(run: &ProcessRun, lines: &[(i64, &str, &str)], verdict: &str, says: &str) {
        let observed = observed("", lines);
        let outcome = judge(run, observed.starts.last(), None);
        let text = format!("{outcome:?}");
        assert_eq!(outcome.verdict.as_str(), verdict, "{text}");
        assert!(text.contains(says), "{text}");
    }

    #[test]
    fn the_start_up_decides_unless_the_limit_was_ours() {
        check(&process(), HEALTHY, "pass", "phase_database");
        let failed =
            [(0, "a", "PHASE TRANSITION -> DATABASE"), (9, "a", "PHASE FAILED: DATABASE - no way")];
        check(&process(), &failed, "fail", "failed under load in DATABASE: PHASE FAILED");
        check(
            &process(),
            &failed[..1],
            "fail",
            "had not ended under load after 1.0 s; it was in DATABASE",
        );
        check(&process(), &[], "skip", "marker");
        let mut limited = process();
        let report = RelayReport { accepted: 25, refused: 20, ready: 5, ..RelayReport::default() };
        limited.relay = Some(report);
        check(&limited, &failed, "skip", "the limit was ours: of 25 connections 20 were refused");
    }
}
