//! Asks whether an exhausted pool comes back by itself. Good: as soon as its connections are given
//! back it serves again, all of them, and the server lets go of what is closed.
//!
//! **How.** All connections of a pool are held until a caller has been turned away: it is exhausted.
//! Then all are given back, and the time until the next caller has one is measured. As many callers
//! as the pool has connections must then be served at once, so that none was lost. At the end the
//! pool is closed, and the server's count of its sessions must fall to none.
//!
//! **Verdicts.** *Fail*: a caller was served while all were out; the pool did not serve again, or
//! only with fewer connections than before; or the server still counted its sessions two seconds
//! after the close. *Degraded*: it took longer than `recovery_limit`. *Pass*: none of these.
//!
//! **Draws** three database connections: two for the pool, one that counts. **Needs**
//! `database-session`.
//!
//! **Configuration**: see [`ExhaustionRecoveryConfig`].
//!
//! **Cannot tell** what an application does that never gives its connections back.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use shakedown_core::id::capability;
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Span,
    async_trait, clock,
};
use shakedown_wire::pg::PoolFault;

use super::full_pool::{self, DRAWS, FullPool};
use crate::causes;
use crate::login;

/// See the module.
#[derive(Debug)]
pub struct ExhaustionRecovery(ExhaustionRecoveryConfig);

/// `[probes."cloudsql.exhaustion-recovery"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ExhaustionRecoveryConfig {
    /// The pool's limit, as far as the draw allows. Default: `database.pool_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_size: Option<u32>,
    /// How long a caller waits before the pool counts as exhausted. Default 5 s.
    pub acquire_timeout: Span,
    /// How long the first caller after the exhaustion may wait. Default 2 s: many times a round trip.
    pub recovery_limit: Span,
}

impl Default for ExhaustionRecoveryConfig {
    fn default() -> Self {
        Self { pool_size: None, acquire_timeout: Span::secs(5), recovery_limit: Span::secs(2) }
    }
}

impl ProbeSpec for ExhaustionRecovery {
    type Config = ExhaustionRecoveryConfig;

    const META: ProbeMeta = ProbeMeta {
        markers: &["staging", "issue_1278"],
        needs: &[capability::DATABASE_SESSION],
        draws: DRAWS,
        expected: Duration::from_secs(8),
        timeout: Duration::from_secs(120),
        aliases: &[
            "tests/integration/test_issue_1278_cloud_sql_pool_behavior.py::TestCloudSQLPoolBehavior::test_pool_exhaustion_recovery_behavior",
            "netra_backend/tests/integration/test_issue_1278_database_initialization_integration.py::TestDatabaseInitializationIntegration::test_connection_pool_exhaustion_handling",
        ],
        ..ProbeMeta::new(
            "cloudsql.exhaustion-recovery",
            RunPhase::Database,
            "an exhausted pool serves again, in full, as soon as its connections are given back",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(ExhaustionRecovery);

/// What was seen of the pool.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    size: u32,
    /// What a caller got while all were out.
    exhausted: Result<(), PoolFault>,
    /// How long the first caller afterwards waited.
    recovered: Result<Duration, PoolFault>,
    /// How many were served at once then.
    served: usize,
    /// How long closing took, and whether the server was seen to have no session of the pool.
    closed: Duration,
    gone: bool,
}

#[async_trait]
impl Probe for ExhaustionRecovery {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let acquire_timeout = self.0.acquire_timeout.get();
        let filled = full_pool::fill(ctx, Self::META.id, self.0.pool_size, acquire_timeout);
        let mut full = match filled.await? {
            Ok(full) => full,
            Err(outcome) => return Ok(outcome),
        };
        let size = full.size();
        let steps = std::mem::take(&mut full.steps);
        let (exhausted, recovered, served) = exhaust(ctx, &mut full).await;
        let since = clock::now();
        let gone = full.close().await;
        let closed = since.elapsed();
        login::uninterrupted(ctx)?;
        let seen = Seen { size, exhausted, recovered, served, closed, gone };
        Ok(judge(&self.0, &seen).find(full_pool::tested(ctx, size)).steps(steps))
    }
}

async fn exhaust(
    ctx: &ProbeCtx,
    full: &mut FullPool,
) -> (Result<(), PoolFault>, Result<Duration, PoolFault>, usize) {
    let size = full.size();
    let FullPool { pool, held, .. } = full;
    ctx.progress("exhausting the pool");
    let exhausted = pool.acquire().await.map(drop);
    held.clear();
    ctx.progress("waiting until it serves again");
    let first = pool.acquire().await;
    let recovered = first.as_ref().map(|connection| connection.waited()).map_err(Clone::clone);
    drop(first);
    let all = join_all((0..size).map(|_| pool.acquire())).await;
    (exhausted, recovered, all.iter().flatten().count())
}

fn judge(config: &ExhaustionRecoveryConfig, seen: &Seen) -> Outcome {
    let Seen { size, exhausted, recovered, served, closed, gone } = seen;
    let mut outcome = Outcome::pass();
    outcome = match exhausted {
        Err(PoolFault::TimedOut { after }) => {
            outcome.measure("exhausted_after", clock::millis(*after), "ms")
        }
        Err(fault @ PoolFault::Fault(_)) => {
            outcome.failing(Finding::new(format!("the exhausted pool failed otherwise: {fault}")))
        }
        Ok(()) => {
            let summary = format!("a caller was served while all {size} connections were out");
            outcome.failing(Finding::new(summary))
        }
    };
    outcome = match recovered {
        Err(fault) => outcome.failing(
            Finding::new(format!(
                "all connections were given back and the pool serves nobody: {fault}"
            ))
            .suggesting(causes::POOL_EXHAUSTION)
            .next("run it again; a pool that stays exhausted has lost its connections"),
        ),
        Ok(waited) => {
            let waited_ms = clock::millis(*waited);
            let outcome = outcome.measure("recovered_after", waited_ms, "ms");
            let summary =
                format!("the pool served again {waited_ms:.1} ms after it was given back");
            if *waited > config.recovery_limit.get() {
                let slow = Finding::new(format!("{summary}, above {}", config.recovery_limit));
                outcome.but(slow.suggesting(causes::SLOW))
            } else {
                outcome.find(Finding::new(summary))
            }
        }
    };
    if recovered.is_ok() && *served < *size as usize {
        outcome = outcome.failing(
            Finding::new(format!("only {served} of {size} connections came back to the pool"))
                .suggesting(causes::POOL_EXHAUSTION)
                .next("what is lost at each exhaustion adds up: look at how callers give back"),
        );
    }
    if *gone {
        outcome = outcome.measure("closed_after", clock::millis(*closed), "ms");
    } else {
        outcome = outcome.failing(
            Finding::new("the server was not seen to have let go of the closed pool's sessions")
                .next("look for them in pg_stat_activity; a pooler in between may keep them open"),
        );
    }
    outcome.measure("pool_size", f64::from(*size), "connections").against(
        "served_at_once",
        *served as f64,
        "connections",
        f64::from(*size),
    )
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    const TIMED_OUT: PoolFault = PoolFault::TimedOut { after: Duration::from_secs(5) };

    #[track_caller]
    fn check(change: impl FnOnce(&mut Seen), verdict: Verdict, says: &str) {
        let mut seen = Seen {
            size: 2,
            exhausted: Err(TIMED_OUT),
            recovered: Ok(Duration::from_millis(3)),
            served: 2,
            closed: Duration::from_millis(30),
            gone: true,
        };
        change(&mut seen);
        let outcome = judge(&ExhaustionRecoveryConfig::default(), &seen);
        let text: Vec<_> = outcome.findings.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(outcome.verdict, verdict, "{text:?}");
        assert!(text.iter().any(|summary| summary.contains(says)), "{text:?}");
    }

    #[test]
    fn a_pool_that_comes_back_in_full_passes() {
        check(|_| {}, Verdict::Pass, "served again 3.0 ms after");
    }

    #[test]
    fn a_pool_that_does_not_come_back_or_only_in_part_fails() {
        check(|s| s.recovered = Err(TIMED_OUT), Verdict::Fail, "the pool serves nobody");
        check(|s| s.served = 1, Verdict::Fail, "only 1 of 2 connections came back");
        check(|s| s.exhausted = Ok(()), Verdict::Fail, "while all 2 connections were out");
        check(|s| s.gone = false, Verdict::Fail, "not seen to have let go");
    }

    #[test]
    fn a_slow_recovery_degrades() {
        check(|s| s.recovered = Ok(Duration::from_secs(3)), Verdict::Degraded, "above 2s");
    }
}
