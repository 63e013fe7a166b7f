//! Asks whether a caller of a full pool is told in time. Good: it gives up when it said it would,
//! neither sooner nor much later, and is served if a connection comes back before.
//!
//! **How.** All connections of a pool are held. Several callers wait at once: each must give up after
//! `acquire_timeout`, whatever its place in the queue. Then one more caller waits, a connection is
//! given back, and it must get that one.
//!
//! **Verdicts.** *Fail*: a caller gave up early, got a connection that was not there, or was not
//! served although one came back. *Degraded*: a caller gave up more than `late_limit` late. *Pass*:
//! none of these.
//!
//! **Draws** three database connections: two for the pool, one that counts. **Needs**
//! `database-session`.
//!
//! **Configuration**: see [`AcquireTimeoutConfig`].
//!
//! **Cannot tell** what the application's own pool does: it tests a pool of sqlx with the same idea.

use std::time::Duration;

use futures_util::future::{join, join_all};
use serde::{Deserialize, Serialize};
use shakedown_core::id::capability;
use shakedown_core::{
    Finding, Interrupted, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase,
    Span, async_trait, clock,
};
use shakedown_wire::pg::PoolFault;

use super::full_pool::{self, DRAWS, FullPool};
use super::spread::Spread;
use crate::causes;
use crate::login;
use crate::section::CloudSql;

/// Timers are this coarse: a caller is early only beyond it.
const TIMER_STEP: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub struct AcquireTimeout(AcquireTimeoutConfig);

/// `[probes."cloudsql.acquire-timeout"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AcquireTimeoutConfig {
    /// The pool's limit, as far as the draw allows. Default: `database.pool_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_size: Option<u32>,
    /// How long a caller waits. Default 5 s: shorter than the 30 s of common pools, so that the
    /// target is held for a short time only.
    pub acquire_timeout: Span,
    /// How many callers wait at once. Default 3: more than the pool has connections.
    pub callers: u32,
    /// How late a caller may give up. Default 2 s.
    pub late_limit: Span,
}

impl Default for AcquireTimeoutConfig {
    fn default() -> Self {
        Self {
            pool_size: None,
            acquire_timeout: Span::secs(5),
            callers: 3,
            late_limit: Span::secs(2),
        }
    }
}

impl ProbeSpec for AcquireTimeout {
    type Config = AcquireTimeoutConfig;

    const META: ProbeMeta = ProbeMeta {
        markers: &["staging", "issue_1278"],
        needs: &[capability::DATABASE_SESSION],
        draws: DRAWS,
        expected: Duration::from_secs(9),
        timeout: Duration::from_secs(120),
        aliases: &[
            "tests/integration/test_issue_1278_cloud_sql_pool_behavior.py::TestCloudSQLPoolBehavior::test_connection_acquisition_timeout_patterns",
        ],
        ..ProbeMeta::new(
            "cloudsql.acquire-timeout",
            RunPhase::Database,
            "a caller of a full pool gives up when it said it would, and is served if one comes back",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(AcquireTimeout);

/// How a caller's wait ended, and after how long.
type Wait = Result<Duration, PoolFault>;

#[async_trait]
impl Probe for AcquireTimeout {
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
        let waited = self.wait(ctx, &mut full).await;
        let (steps, size) = (std::mem::take(&mut full.steps), full.size());
        full.close().await;
        let (turned_away, served) = waited?;
        login::uninterrupted(ctx)?;
        let section: CloudSql = ctx.section()?;
        let outcome = judge(&self.0, &turned_away, &served);
        let outcome = outcome.measure("pool_size", f64::from(size), "connections");
        Ok(outcome
            .find(other_limit(&self.0, &section))
            .find(full_pool::tested(ctx, size))
            .steps(steps))
    }
}

impl AcquireTimeout {
    async fn wait(
        &self,
        ctx: &ProbeCtx,
        full: &mut FullPool,
    ) -> Result<(Vec<Wait>, Wait), Interrupted> {
        let FullPool { pool, held, .. } = full;
        let caller = async || pool.acquire().await.map(|connection| connection.waited());
        ctx.progress(format!("{} callers wait for a full pool", self.0.callers));
        let turned_away = join_all((0..self.0.callers.max(1)).map(|_| caller())).await;
        ctx.progress("a connection comes back while a caller waits");
        let give_back = async {
            let slept = ctx.sleep(self.0.acquire_timeout.get() / 4).await;
            held.pop();
            slept
        };
        let (served, slept) = join(caller(), give_back).await;
        slept.map(|()| (turned_away, served))
    }
}

fn judge(config: &AcquireTimeoutConfig, turned_away: &[Wait], served: &Wait) -> Outcome {
    let limit = config.acquire_timeout.get();
    let limit_ms = clock::millis(limit);
    let mut outcome = Outcome::pass();
    let mut gave_up = Vec::new();
    for wait in turned_away {
        match wait {
            Err(PoolFault::TimedOut { after }) => gave_up.push(*after),
            Ok(_) => {
                outcome = outcome
                    .failing(Finding::new("a full pool gave out a connection that was not there"));
            }
            Err(fault @ PoolFault::Fault(_)) => {
                outcome = outcome.failing(Finding::new(format!("a full pool failed: {fault}")));
            }
        }
    }
    if let Some(early) = gave_up.iter().find(|after| **after + TIMER_STEP < limit) {
        outcome = outcome.failing(
            Finding::new(format!(
                "a caller gave up after {:.0} ms of {}",
                clock::millis(*early),
                config.acquire_timeout
            ))
            .suggesting(causes::POOL_EXHAUSTION),
        );
    }
    if let Some(late) = gave_up.iter().find(|after| **after > limit + config.late_limit.get()) {
        let late_ms = clock::millis(late.saturating_sub(limit));
        outcome = outcome.but(
            Finding::new(format!("a caller was told {late_ms:.0} ms after its time was up"))
                .next("see how busy this machine is: the waiting is on our side"),
        );
    }
    outcome = match served {
        Ok(waited) => {
            outcome.measure("served_after", clock::millis(*waited), "ms").find(Finding::new(
                "a caller that waits gets a connection that comes back before its time is up",
            ))
        }
        Err(fault) => outcome.failing(
            Finding::new(format!(
                "a connection came back and the waiting caller got none: {fault}"
            ))
            .suggesting(causes::POOL_EXHAUSTION),
        ),
    };
    if let (Some(first), Some(last)) = (gave_up.iter().min(), gave_up.iter().max()) {
        outcome = outcome.find(Finding::new(format!(
            "{} callers gave up after {:.0} to {:.0} ms; {} was configured",
            gave_up.len(),
            clock::millis(*first),
            clock::millis(*last),
            config.acquire_timeout
        )));
    }
    outcome =
        outcome.number("acquire_timeout", limit_ms, "ms", shakedown_core::Provenance::Quoted, None);
    Spread::of(gave_up.into_iter().map(clock::millis)).into_outcome(outcome, "gave_up")
}

/// What was tested beside what the application has.
fn other_limit(config: &AcquireTimeoutConfig, section: &CloudSql) -> Finding {
    let tested = config.acquire_timeout;
    Finding::new(match &section.acquire_timeout {
        None => {
            format!("{tested} was tested; how long the application's pool waits is not configured")
        }
        Some(own) if own.value == tested => {
            format!("{tested} was tested, as the application has it")
        }
        Some(own) => {
            format!("{tested} was tested; the application's {} was not waited for", own.value)
        }
    })
}

#[cfg(test)]
mod tests {
    use shakedown_core::{Setting, Verdict};

    use super::*;

    fn after(ms: u64) -> Wait {
        Err(PoolFault::TimedOut { after: Duration::from_millis(ms) })
    }

    #[track_caller]
    fn check(turned_away: &[Wait], served: &Wait, verdict: Verdict, says: &str) -> Outcome {
        let outcome = judge(&AcquireTimeoutConfig::default(), turned_away, served);
        let text: Vec<_> = outcome.findings.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(outcome.verdict, verdict, "{text:?}");
        assert!(text.iter().any(|summary| summary.contains(says)), "{text:?}");
        outcome
    }

    #[test]
    fn callers_that_give_up_in_time_pass() {
        let served = Ok(Duration::from_millis(1_252));
        let outcome = check(
            &[after(5_001), after(5_003)],
            &served,
            Verdict::Pass,
            "2 callers gave up after 5001 to 5003 ms; 5s was configured",
        );
        let of = |name: &str| outcome.measurements.iter().find(|m| m.name == name).expect(name);
        assert_eq!((of("gave_up_max").value, of("served_after").value), (5_003.0, 1_252.0));
    }

    #[test]
    fn early_or_not_at_all_fails_and_late_degrades() {
        let served = Ok(Duration::from_millis(1_250));
        check(&[after(4_900)], &served, Verdict::Fail, "gave up after 4900 ms of 5s");
        check(&[after(4_999)], &served, Verdict::Pass, "gave up after 4999");
        check(&[after(7_100)], &served, Verdict::Degraded, "told 2100 ms after its time");
        let given = Ok(Duration::ZERO);
        check(&[given], &served, Verdict::Fail, "that was not there");
        check(&[after(5_001)], &after(5_001), Verdict::Fail, "the waiting caller got none");
    }

    #[test]
    fn the_applications_own_limit_is_named_beside() {
        let config = AcquireTimeoutConfig::default();
        let mut section = CloudSql::default();
        assert!(other_limit(&config, &section).summary.ends_with("is not configured"));
        section.acquire_timeout = Some(Setting::stated(Span::secs(30)));
        assert!(other_limit(&config, &section).summary.ends_with("30s was not waited for"));
        section.acquire_timeout = Some(Setting::stated(Span::secs(5)));
        assert!(other_limit(&config, &section).summary.ends_with("as the application has it"));
    }
}
