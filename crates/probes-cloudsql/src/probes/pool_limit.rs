//! Asks whether a pool keeps to its limit. Good: however many callers want a connection, the server
//! never counts more than the limit, and those who wait get one.
//!
//! **How.** A pool of sqlx with N connections, and one session beside it that counts the pool's
//! sessions at the server. First all N are held: the server must count N, and one more caller must
//! be turned away at the end of its patience. Then several callers for each connection take turns,
//! each keeping its connection busy for a moment, while the server's count is read again and again
//! and each caller's wait is measured.
//!
//! **Verdicts.** *Fail*: the server counted more than N, one more than N was given out, a caller got
//! nothing, or the pool could not be filled (single logins then tell why). *Degraded*: the server
//! counted fewer than N while N were out, so something in between shares connections. *Pass*: none
//! of these.
//!
//! **Draws** three database connections: N = 2 for the pool and one that counts. Where the budget
//! allots more, N is `pool_size`. **Needs** `database-session`.
//!
//! **Configuration**: see [`PoolLimitConfig`].
//!
//! **Cannot tell** where a limit above the N it names lies; nothing is extrapolated.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use shakedown_core::id::capability;
use shakedown_core::{
    Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Span,
    async_trait, clock,
};
use shakedown_wire::pg::{Pool, PoolFault};

use super::full_pool::{self, DRAWS, FullPool};
use super::spread::Spread;
use crate::causes;
use crate::login;

/// How often the server's count is read while callers take turns.
const COUNT_EVERY: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub struct PoolLimit(PoolLimitConfig);

/// `[probes."cloudsql.pool-limit"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PoolLimitConfig {
    /// The pool's limit, as far as the draw allows. Default: `database.pool_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_size: Option<u32>,
    /// Callers for each connection of the pool. Default 4: three of four wait.
    pub callers_per_connection: u32,
    /// How long a caller keeps its connection busy. Default 250 ms, a slow request's worth.
    pub hold: Span,
    /// How long a caller waits for a connection. Default 5 s: more than the turns take.
    pub acquire_timeout: Span,
}

impl Default for PoolLimitConfig {
    fn default() -> Self {
        Self {
            pool_size: None,
            callers_per_connection: 4,
            hold: Span::millis(250),
            acquire_timeout: Span::secs(5),
        }
    }
}

impl ProbeSpec for PoolLimit {
    type Config = PoolLimitConfig;

    const META: ProbeMeta = ProbeMeta {
        markers: &["staging", "issue_1278"],
        needs: &[capability::DATABASE_SESSION],
        draws: DRAWS,
        expected: Duration::from_secs(9),
        timeout: Duration::from_secs(120),
        aliases: &[
            "tests/integration/test_issue_1278_cloud_sql_pool_behavior.py::TestCloudSQLPoolBehavior::test_connection_pool_limit_enforcement",
        ],
        ..ProbeMeta::new(
            "cloudsql.pool-limit",
            RunPhase::Database,
            "a pool never draws more than its limit, and its waiting callers are served",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(PoolLimit);

/// What was seen of the pool.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    size: u32,
    /// The server's count while all were held.
    counted_full: u32,
    /// The highest count while callers took turns.
    counted_peak: u32,
    /// How often it was counted then.
    counts: u32,
    /// What one caller more than the limit got.
    beyond: Result<(), PoolFault>,
    /// How long each caller waited, or why it got nothing.
    waits: Vec<Result<Duration, PoolFault>>,
}

#[async_trait]
impl Probe for PoolLimit {
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
        let seen = self.press(ctx, &mut full).await;
        let (steps, fill_ms) = (std::mem::take(&mut full.steps), full.fill_ms);
        let tested = full_pool::tested(ctx, full.size());
        full.close().await;
        match seen {
            Ok(seen) => {
                login::uninterrupted(ctx)?;
                let outcome = judge(&seen).measure("fill", fill_ms, "ms");
                Ok(outcome.find(tested).steps(steps))
            }
            Err(fault) => login::broken(ctx, "counting the pool's sessions", fault),
        }
    }
}

impl PoolLimit {
    async fn press(&self, ctx: &ProbeCtx, full: &mut FullPool) -> Result<Seen, Fault> {
        let size = full.size();
        let FullPool { pool, held, witness, .. } = full;
        ctx.progress("one caller more than the limit");
        let counted_full = full_pool::count(witness, pool).await?;
        let beyond = pool.acquire().await.map(drop);
        held.clear();

        let callers = size * self.0.callers_per_connection.max(1);
        ctx.progress(format!("{callers} callers take turns"));
        let mut turns = std::pin::pin!(join_all((0..callers).map(|_| self.turn(pool))));
        let (mut counted_peak, mut counts) = (0, 0);
        let waits = loop {
            let look = async {
                tokio::time::sleep(COUNT_EVERY).await;
                full_pool::count(witness, pool).await
            };
            tokio::select! {
                biased;
                waits = &mut turns => break waits,
                counted = look => {
                    counted_peak = counted_peak.max(counted?);
                    counts += 1;
                }
            }
        };
        Ok(Seen { size, counted_full, counted_peak, counts, beyond, waits })
    }

    /// One caller: waits for a connection, keeps it busy, gives it back.
    async fn turn(&self, pool: &Pool) -> Result<Duration, PoolFault> {
        let mut connection = pool.acquire().await?;
        connection.sleep(self.0.hold.get().as_secs_f64()).await?;
        Ok(connection.waited())
    }
}

fn judge(seen: &Seen) -> Outcome {
    let Seen { size, counted_full, counted_peak, counts, beyond, waits } = seen;
    let peak = *counted_full.max(counted_peak);
    let mut outcome = Outcome::pass();
    if peak > *size {
        outcome = outcome.failing(
            Finding::new(format!("the server counted {peak} sessions of a pool of {size}"))
                .suggesting(causes::MAX_CONNECTIONS)
                .next("count the application's sessions at the server, not in its pool"),
        );
    } else if counted_full < size {
        outcome = outcome.but(
            Finding::new(format!(
                "the server counted {counted_full} sessions while a pool of {size} was full: \
                 something in between shares or renames connections"
            ))
            .next("find the pooler in between: it has a limit of its own"),
        );
    } else {
        outcome = outcome.find(Finding::new(format!(
            "the server counted {size} sessions with the pool full and never more than {peak} in \
             {counts} looks while {} callers took turns",
            waits.len()
        )));
    }
    outcome = match beyond {
        Ok(()) => outcome.failing(Finding::new(format!(
            "one connection more than the limit of {size} was given out"
        ))),
        Err(PoolFault::TimedOut { after }) => {
            let after_ms = clock::millis(*after);
            outcome.measure("turned_away_after", after_ms, "ms").find(Finding::new(format!(
                "at the limit one more caller is told, after {after_ms:.0} ms: {}",
                "no connection became available in time"
            )))
        }
        Err(PoolFault::Fault(fault)) => outcome.failing(lost(fault)),
    };
    let served: Vec<f64> = waits.iter().flatten().map(|waited| clock::millis(*waited)).collect();
    if let Some(fault) = waits.iter().find_map(|wait| wait.as_ref().err()) {
        let unserved = waits.len() - served.len();
        let finding = match fault {
            PoolFault::Fault(fault) => lost(fault),
            PoolFault::TimedOut { .. } => Finding::new(format!("{fault}"))
                .suggesting(causes::POOL_EXHAUSTION)
                .next("the turns took longer than a caller waits: see the waits of the others"),
        };
        let count = format!("{unserved} of {} callers got no connection", waits.len());
        outcome = outcome.failing(finding).find(Finding::new(count));
    }
    outcome = outcome
        .measure("pool_size", f64::from(*size), "connections")
        .against("server_count_peak", f64::from(peak), "connections", f64::from(*size))
        .measure("callers", waits.len() as f64, "1");
    Spread::of(served).into_outcome(outcome, "wait")
}

fn lost(fault: &Fault) -> Finding {
    let mut finding = Finding::new(format!("a pooled connection failed: {fault}"));
    finding.suggests = login::cause("query", fault);
    finding.fault = Some(fault.clone());
    finding
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    const TIMED_OUT: PoolFault = PoolFault::TimedOut { after: Duration::from_millis(5_001) };

    fn good() -> Seen {
        let waits = [0, 0, 250, 251].map(|ms| Ok(Duration::from_millis(ms)));
        Seen {
            size: 2,
            counted_full: 2,
            counted_peak: 2,
            counts: 30,
            beyond: Err(TIMED_OUT),
            waits: waits.to_vec(),
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Seen), verdict: Verdict, says: &str) -> Outcome {
        let mut seen = good();
        change(&mut seen);
        let outcome = judge(&seen);
        let text: Vec<_> = outcome.findings.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(outcome.verdict, verdict, "{text:?}");
        assert!(text.iter().any(|summary| summary.contains(says)), "{text:?}");
        outcome
    }

    #[test]
    fn a_pool_that_keeps_to_its_limit_passes_with_its_waits() {
        let outcome = check(|_| {}, Verdict::Pass, "never more than 2 in 30 looks");
        let of = |name: &str| outcome.measurements.iter().find(|m| m.name == name).expect(name);
        assert_eq!(of("turned_away_after").value, 5_001.0);
        assert_eq!((of("wait_min").value, of("wait_max").value), (0.0, 251.0));
        assert_eq!(of("server_count_peak").baseline, Some(2.0));
    }

    #[test]
    fn the_servers_count_decides() {
        check(|s| s.counted_peak = 3, Verdict::Fail, "counted 3 sessions of a pool of 2");
        check(|s| s.counted_full = 3, Verdict::Fail, "counted 3 sessions of a pool of 2");
        check(|s| s.counted_full = 1, Verdict::Degraded, "shares or renames");
        check(|s| s.counted_peak = 1, Verdict::Pass, "never more than 2");
    }

    #[test]
    fn more_than_the_limit_given_out_or_a_caller_left_out_fails() {
        check(|s| s.beyond = Ok(()), Verdict::Fail, "one connection more than the limit");
        let outcome = check(|s| s.waits[3] = Err(TIMED_OUT), Verdict::Fail, "1 of 4 callers");
        assert!(outcome.findings.iter().any(|f| f.suggests == Some(causes::POOL_EXHAUSTION)));
        let closed = PoolFault::Fault(Fault::Closed);
        check(|s| s.waits[3] = Err(closed), Verdict::Fail, "a pooled connection failed");
    }
}
