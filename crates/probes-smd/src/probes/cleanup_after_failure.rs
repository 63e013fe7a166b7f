//! Asks what a dead application leaves behind. Good: no process, no socket, no file and no database
//! session outlives it.
//!
//! **How.** After the end of a process of ours its process group is looked at, its port, the folder it
//! was given as `{temp_dir}`, and its database connections: those at our relay, and those the server
//! still counts by the process ids it gave them. How long it took until nothing was left is measured.
//!
//! **Verdicts.** *Fail*: a process, a listener or a session outlived it. *Degraded*: only files did.
//! *Pass*: nothing. *Skip*: no process of ours was run: what another machine's instance leaves cannot
//! be seen from here.
//!
//! **Draws** one HTTP connection for the health endpoints, one database connection to ask the server,
//! and `application.draws` while the process runs. **Configuration**: none of its own.
//!
//! **Cannot tell** files outside the folder it was given.

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::id::resource;
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, SkipReason, async_trait,
};
use shakedown_wire::pg::statements::SESSIONS_ALIVE;
use shakedown_wire::pg::{self, PgTarget};

use super::about::{meta, s};
use crate::startup::{ProcessRun, Startups, Watched};

/// See the module.
#[derive(Debug, Default)]
pub struct CleanupAfterFailure;

/// `[probes."smd.cleanup-after-failure"]`: nothing to configure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CleanupAfterFailureConfig {}

impl ProbeSpec for CleanupAfterFailure {
    type Config = CleanupAfterFailureConfig;

    const META: ProbeMeta = ProbeMeta {
        draws: &[
            Draw::new(resource::HTTP_CONNECTION, 1),
            Draw::new(resource::DATABASE_CONNECTION, 1),
        ],
        aliases: &[
            "tests/e2e/test_issue_1278_container_exit_behavior.py::TestContainerExitBehavior::test_container_resource_cleanup_on_failure",
        ],
        ..meta(
            "smd.cleanup-after-failure",
            "no process, socket, file or database session outlives the application",
        )
    };

    fn from_config(_: Self::Config) -> Self {
        Self
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(CleanupAfterFailure);

#[async_trait]
impl Probe for CleanupAfterFailure {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let startups = Startups::of(ctx);
        let skipped = startups.observe(ctx).await?.err();
        let Some(observed) = startups.last() else {
            return Ok(skipped.unwrap_or_else(|| Outcome::skip(no_process())));
        };
        let Some(process) = &observed.process else {
            return Ok(observed.noted(Outcome::skip(no_process())));
        };
        let sessions = sessions(ctx, process).await?;
        Ok(judge(process, sessions))
    }
}

fn no_process() -> SkipReason {
    SkipReason::NotExercised(
        "no process of ours was run, and what another machine's instance leaves cannot be seen from \
         here: set [application] command"
            .into(),
    )
}

/// How many of the application's sessions the server still counts, or why it could not be asked.
async fn sessions(ctx: &ProbeCtx, process: &ProcessRun) -> Result<Result<i64, String>, ProbeError> {
    let Some(relay) = process.relay.as_ref().filter(|relay| !relay.backends.is_empty()) else {
        return Ok(Ok(0));
    };
    let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
    let target = PgTarget::of(ctx)?.named(CleanupAfterFailure::META.id);
    let climb = pg::connect(ctx, lease, &target).await.uninterrupted()?;
    let mut connection = match climb.result {
        Ok(connection) => connection,
        Err(fault) => return Ok(Err(fault.to_string())),
    };
    // A server process takes a moment to notice; what is there after two seconds stays.
    let mut alive = Ok(0);
    for _ in 0..10 {
        let rows = connection.query(SESSIONS_ALIVE, &[&relay.backends]).await;
        alive = rows.map_err(|fault| fault.to_string()).and_then(|rows| {
            let row = rows.first().ok_or("no answer")?;
            row.try_get::<_, i64>("sessions").map_err(|error| error.to_string())
        });
        if !matches!(alive, Ok(1..)) {
            break;
        }
        ctx.sleep(std::time::Duration::from_millis(200)).await?;
    }
    connection.close().await;
    Ok(alive)
}

fn judge(process: &ProcessRun, sessions: Result<i64, String>) -> Outcome {
    let how = match process.watched {
        Watched::Exited => "after it had exited by itself",
        Watched::Started => "after we had ended it: it had started well",
        Watched::FailedAndStayed => "after we had ended it: it had failed and stayed",
        Watched::Ceiling => "after we had ended it at the start-up's ceiling",
    };
    let mut outcome = Outcome::pass();
    let left = &process.left;
    let mut stays = |is: bool, what: String| {
        if is {
            let finding = Finding::new(format!("{what} {how}"));
            outcome = std::mem::replace(&mut outcome, Outcome::pass()).failing(finding);
        }
    };
    stays(left.processes > 0, format!("{} processes of its group stayed", left.processes));
    stays(left.listening, "its port was still taken".to_owned());
    stays(left.connections > 0, format!("{} database connections stayed open", left.connections));
    let alive = *sessions.as_ref().unwrap_or(&0);
    stays(alive > 0, format!("the server still counts {alive} sessions of it"));
    if !left.files.is_empty() {
        let files = left.files.join(", ");
        outcome = outcome.but(Finding::new(format!("files stayed {how}: {files}")));
    }
    if let Err(why) = sessions {
        let summary = format!("whether the server still counts sessions of it is not known: {why}");
        outcome = outcome.but(Finding::new(summary));
    }
    if let Some(gone) = process.gone_after_s {
        outcome = outcome
            .find(Finding::new(format!("nothing of it was left after {}, {how}", s(gone))))
            .measure("resource_cleanup", gone, "s");
    }
    let relayed = process.relay.as_ref().map_or(0, |relay| relay.ready);
    outcome.measure("database_sessions_it_had", relayed as f64, "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::testing::process;

    #[track_caller]
    fn check(
        change: impl FnOnce(&mut ProcessRun),
        sessions: Result<i64, String>,
        verdict: &str,
        says: &str,
    ) {
        let mut run = process();
        change(&mut run);
        let outcome = judge(&run, sessions);
        let text = format!("{outcome:?}");
        assert_eq!(outcome.verdict.as_str(), verdict, "{text}");
        assert!(text.contains(says), "{text}");
    }

    #[test]
    fn whatever_stays_is_named() {
        check(|_| {}, Ok(0), "pass", "nothing of it was left after 0.1 s");
        check(|run| run.left.processes = 2, Ok(0), "fail", "2 processes of its group stayed");
        check(|run| run.left.listening = true, Ok(0), "fail", "its port was still taken");
        check(|run| run.left.connections = 1, Ok(0), "fail", "1 database connections stayed open");
        check(|_| {}, Ok(3), "fail", "still counts 3 sessions");
        check(|run| run.left.files.push("tmp/x".into()), Ok(0), "degraded", "tmp/x");
        check(|_| {}, Err("refused".into()), "degraded", "is not known: refused");
    }
}
