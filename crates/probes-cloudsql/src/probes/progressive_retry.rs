//! Asks whether retrying with growing pauses does what it promises. Good: the pauses follow the
//! schedule, the attempt after the trouble has passed succeeds, and a caller whose trouble stays gives
//! up within the time the schedule allows.
//!
//! **How.** The trouble is real and of our own making: all connections of a pool are held, so that
//! every attempt to get one fails. First a short policy of one retry must give up in time. Then the
//! whole policy runs; after `release_after` failed attempts the connections are given back, and one
//! of the next attempts must succeed. Every pause is measured and compared with the schedule: before
//! retry *k* it is `base * factor^(k-1)`, at most `cap`, lengthened by a random share of up to
//! `jitter`.
//!
//! **Verdicts.** *Fail*: an attempt succeeded while nothing was free; a pause was shorter than
//! scheduled; or no attempt succeeded after the connections were given back. *Degraded*: a pause, or
//! giving up, took more than `late_limit` longer than the schedule allows, which is this machine's
//! doing. *Pass*: none of these.
//!
//! **Draws** three database connections: two for the pool, one that counts. **Needs**
//! `database-session`.
//!
//! **Configuration**: see [`ProgressiveRetryConfig`]; its defaults are the observed application's.
//!
//! **Cannot tell** whether the application really retries like that: it exercises the policy, not the
//! application. Pauses of retries after the success are not exercised, and are said not to be.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::id::capability;
use shakedown_core::{
    Finding, Interrupted, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Provenance,
    RunPhase, Span, async_trait, clock,
};
use shakedown_wire::pg::{Pool, PoolFault, Pooled};

use super::full_pool::{self, DRAWS, FullPool};
use crate::causes;
use crate::login;

/// Timers are this coarse: a pause is short only beyond it.
const TIMER_STEP: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub struct ProgressiveRetry(ProgressiveRetryConfig);

/// `[probes."cloudsql.progressive-retry"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ProgressiveRetryConfig {
    /// The pool's limit, as far as the draw allows. Default: `database.pool_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_size: Option<u32>,
    /// The pause before the first retry. Default 2 s, the observed application's for Cloud SQL.
    pub base: Span,
    /// How much longer each pause is than the one before. Default 2, the observed application's.
    pub factor: f64,
    /// The longest pause, before jitter. Default 30 s, the observed application's.
    pub cap: Span,
    /// The largest share (0 to 1) a pause is lengthened by. Default 0.5, the observed application's.
    pub jitter: f64,
    /// Attempts after the first. Default 5, the observed application's for Cloud SQL.
    pub retries: u32,
    /// How long one attempt waits for a connection. Default 2 s.
    pub attempt: Span,
    /// After so many failed attempts the connections are given back. Default 4: the pauses before it
    /// add up to 30 s and more, and one retry is left over.
    pub release_after: u32,
    /// How long filling the pool may wait for each connection. Default 30 s, the strategy's connect
    /// timeout.
    pub fill_timeout: Span,
    /// How much longer than scheduled a pause may be. Default 2 s.
    pub late_limit: Span,
}

impl Default for ProgressiveRetryConfig {
    fn default() -> Self {
        Self {
            pool_size: None,
            base: Span::secs(2),
            factor: 2.0,
            cap: Span::secs(30),
            jitter: 0.5,
            retries: 5,
            attempt: Span::secs(2),
            release_after: 4,
            fill_timeout: Span::secs(30),
            late_limit: Span::secs(2),
        }
    }
}

impl ProgressiveRetryConfig {
    /// The pause before retry `retry` (1, 2, ..), without jitter.
    fn pause(&self, retry: u32) -> Duration {
        let exponent = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
        let cap = self.cap.get().as_secs_f64();
        let seconds = self.base.get().as_secs_f64() * self.factor.max(0.0).powi(exponent);
        Duration::from_secs_f64(if seconds < cap { seconds } else { cap })
    }

    /// The same with a random share of jitter.
    fn jittered(&self, retry: u32, share: f64) -> Duration {
        self.pause(retry).mul_f64(1.0 + self.jitter.clamp(0.0, 1.0) * share)
    }

    /// The longest a caller with so many retries can take until it gives up.
    fn longest(&self, retries: u32, attempt: Duration) -> Duration {
        let pauses: Duration = (1..=retries).map(|retry| self.jittered(retry, 1.0)).sum();
        attempt * (retries + 1) + pauses
    }

    fn release_after(&self) -> u32 {
        self.release_after.clamp(1, self.retries.max(1))
    }
}

impl ProbeSpec for ProgressiveRetry {
    type Config = ProgressiveRetryConfig;

    const META: ProbeMeta = ProbeMeta {
        markers: &["staging", "issue_1278"],
        needs: &[capability::DATABASE_SESSION],
        draws: DRAWS,
        expected: Duration::from_secs(52),
        timeout: Duration::from_secs(240),
        aliases: &[
            "netra_backend/tests/integration/test_issue_1278_database_initialization_integration.py::TestDatabaseInitializationIntegration::test_progressive_retry_mechanism_validation",
        ],
        ..ProbeMeta::new(
            "cloudsql.progressive-retry",
            RunPhase::Database,
            "retries keep to their schedule, succeed once the trouble has passed, and give up in time",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(ProgressiveRetry);

/// One pause before a retry.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pause {
    retry: u32,
    /// Scheduled, jitter included.
    scheduled: Duration,
    measured: Duration,
}

/// One caller's way through the policy.
#[derive(Clone, Debug, Default, PartialEq)]
struct Way {
    pauses: Vec<Pause>,
    /// The attempt that succeeded (1, 2, ..); `None` when it gave up.
    succeeded: Option<u32>,
    took: Duration,
    /// What ended it, when that was not its patience.
    fault: Option<PoolFault>,
}

#[async_trait]
impl Probe for ProgressiveRetry {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let fill_timeout = self.0.fill_timeout.get();
        let filled = full_pool::fill(ctx, Self::META.id, self.0.pool_size, fill_timeout);
        let mut full = match filled.await? {
            Ok(full) => full,
            Err(outcome) => return Ok(outcome),
        };
        let ways = self.exercise(ctx, &mut full).await;
        let (steps, size) = (std::mem::take(&mut full.steps), full.size());
        full.close().await;
        let (given_up, whole) = ways?;
        login::uninterrupted(ctx)?;
        let mut outcome = judge(&self.0, &given_up, &whole);
        if let Some(database) = &ctx.environment().database {
            let connect = database.connect_timeout.value.get();
            let worst = self.0.longest(self.0.retries, connect).as_secs_f64();
            outcome = outcome.number("worst_case", worst, "s", Provenance::Assumed, None);
        }
        Ok(outcome.find(full_pool::tested(ctx, size)).steps(steps))
    }
}

impl ProgressiveRetry {
    async fn exercise(
        &self,
        ctx: &ProbeCtx,
        full: &mut FullPool,
    ) -> Result<(Way, Way), Interrupted> {
        let FullPool { pool, held, .. } = full;
        ctx.progress("one retry, nothing free");
        let given_up = self.walk(ctx, pool, 1, &mut Vec::new(), u32::MAX).await?;
        let release_after = self.0.release_after();
        let whole = self.walk(ctx, pool, self.0.retries, held, release_after).await?;
        Ok((given_up, whole))
    }

    /// Tries until it succeeds or has used up its retries; empties `held` after so many failures.
    async fn walk(
        &self,
        ctx: &ProbeCtx,
        pool: &Pool,
        retries: u32,
        held: &mut Vec<Pooled>,
        release_after: u32,
    ) -> Result<Way, Interrupted> {
        let since = clock::now();
        let mut way = Way::default();
        for attempt in 1..=retries + 1 {
            if attempt > 1 {
                let retry = attempt - 1;
                let scheduled = self.0.jittered(retry, random_share());
                ctx.progress(format!("pause before retry {retry} of {retries}"));
                let paused = clock::now();
                ctx.sleep(scheduled).await?;
                way.pauses.push(Pause { retry, scheduled, measured: paused.elapsed() });
            }
            match tokio::time::timeout(self.0.attempt.get(), pool.acquire()).await {
                Ok(Ok(_)) => {
                    way.succeeded = Some(attempt);
                    break;
                }
                Ok(Err(fault @ PoolFault::Fault(_))) => {
                    way.fault = Some(fault);
                    break;
                }
                // The attempt's time or the pool's was up: nothing free.
                Err(_) | Ok(Err(PoolFault::TimedOut { .. })) => {}
            }
            if attempt == release_after {
                held.clear();
            }
        }
        way.took = since.elapsed();
        Ok(way)
    }
}

/// A random number in [0, 1): the seed of a hash map, of which std makes a new one each time.
fn random_share() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1u64 << 53) as f64
}

fn judge(config: &ProgressiveRetryConfig, given_up: &Way, whole: &Way) -> Outcome {
    let mut outcome = Outcome::pass();
    for way in [given_up, whole] {
        if let Some(fault) = &way.fault {
            outcome =
                outcome.failing(Finding::new(format!("an attempt failed otherwise: {fault}")));
        }
    }
    outcome = giving_up(outcome, config, given_up);
    outcome = success(outcome, config, whole);
    for pause in given_up.pauses.iter().chain(&whole.pauses) {
        outcome = kept(outcome, config, pause);
    }
    for Pause { retry, scheduled, measured } in &whole.pauses {
        let (measured, scheduled) = (clock::millis(*measured), clock::millis(*scheduled));
        outcome = outcome.against(&format!("pause_{retry}"), measured, "ms", scheduled);
    }
    let shares = whole.pauses.iter().filter_map(|pause| {
        let plain = config.pause(pause.retry).as_secs_f64();
        (plain > 0.0).then(|| pause.scheduled.as_secs_f64() / plain - 1.0)
    });
    if let Some(jitter) = shares.reduce(f64::max) {
        outcome = outcome.measure("jitter_max", jitter, "1");
    }
    outcome.find(exercised(config, whole))
}

fn giving_up(outcome: Outcome, config: &ProgressiveRetryConfig, way: &Way) -> Outcome {
    let longest = config.longest(1, config.attempt.get());
    let outcome =
        outcome.against("gave_up_after", clock::millis(way.took), "ms", clock::millis(longest));
    if way.succeeded.is_some() {
        return outcome.failing(Finding::new("an attempt succeeded while nothing was free"));
    }
    if way.took > longest + config.late_limit.get() {
        return outcome.but(
            Finding::new(format!(
                "giving up after one retry took {:.0} ms, the schedule allows {:.0} ms",
                clock::millis(way.took),
                clock::millis(longest)
            ))
            .next("see how busy this machine is: the waiting is on our side"),
        );
    }
    outcome
}

fn success(outcome: Outcome, config: &ProgressiveRetryConfig, way: &Way) -> Outcome {
    let release_after = config.release_after();
    match way.succeeded {
        Some(attempt) if attempt <= release_after => {
            outcome.failing(Finding::new("an attempt succeeded while nothing was free"))
        }
        Some(attempt) => outcome.measure("succeeded_at_attempt", f64::from(attempt), "1").find(
            Finding::new(format!(
                "the connections came back after {release_after} failed attempts, and attempt \
                 {attempt} succeeded"
            )),
        ),
        None if way.fault.is_some() => outcome,
        None => outcome.failing(
            Finding::new(format!(
                "the connections came back after {release_after} failed attempts and no later one \
                 succeeded"
            ))
            .suggesting(causes::POOL_EXHAUSTION)
            .next("compare cloudsql.exhaustion-recovery"),
        ),
    }
}

fn kept(outcome: Outcome, config: &ProgressiveRetryConfig, pause: &Pause) -> Outcome {
    let Pause { retry, scheduled, measured } = pause;
    let words = || {
        let (measured, scheduled) = (clock::millis(*measured), clock::millis(*scheduled));
        format!("the pause before retry {retry} was {measured:.0} ms, {scheduled:.0} ms scheduled")
    };
    if *measured + TIMER_STEP < *scheduled {
        outcome.failing(Finding::new(words()))
    } else if *measured > *scheduled + config.late_limit.get() {
        outcome.but(Finding::new(words()).next("see how busy this machine is"))
    } else {
        outcome
    }
}

/// Which part of the schedule was seen.
fn exercised(config: &ProgressiveRetryConfig, whole: &Way) -> Finding {
    let seen = whole.pauses.len();
    let cap = config.cap.get();
    let capped = whole.pauses.iter().any(|pause| config.pause(pause.retry) >= cap);
    let cap = if capped { "was reached" } else { "was not reached" };
    Finding::new(format!(
        "{seen} of {} pauses were exercised; the cap of {} {cap}",
        config.retries, config.cap
    ))
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    fn way(config: &ProgressiveRetryConfig, pauses: u32, succeeded: Option<u32>) -> Way {
        let pause = |retry| {
            let scheduled = config.jittered(retry, 0.4);
            Pause { retry, scheduled, measured: scheduled + Duration::from_millis(1) }
        };
        let took = config.longest(pauses, config.attempt.get());
        Way { pauses: (1..=pauses).map(pause).collect(), succeeded, took, fault: None }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Way, &mut Way), verdict: Verdict, says: &str) -> Outcome {
        let config = ProgressiveRetryConfig::default();
        let mut given_up = way(&config, 1, None);
        let mut whole = way(&config, 4, Some(5));
        change(&mut given_up, &mut whole);
        let outcome = judge(&config, &given_up, &whole);
        let text: Vec<_> = outcome.findings.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(outcome.verdict, verdict, "{text:?}");
        assert!(text.iter().any(|summary| summary.contains(says)), "{text:?}");
        outcome
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_jitter_only_lengthens() {
        let config = ProgressiveRetryConfig::default();
        let pauses: Vec<u64> = (1..=7).map(|retry| config.pause(retry).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(config.jittered(1, 0.0), Duration::from_secs(2));
        assert_eq!(config.jittered(5, 1.0), Duration::from_secs(45), "jitter comes after the cap");
        // Six attempts of 2 s, and 2 + 4 + 8 + 16 + 30 s, half as much again.
        assert_eq!(config.longest(5, config.attempt.get()), Duration::from_secs(12 + 90));
        let endless = ProgressiveRetryConfig { factor: f64::MAX, ..config };
        assert_eq!(endless.pause(9), Duration::from_secs(30));
    }

    #[test]
    fn random_shares_are_shares_and_differ() {
        let shares: Vec<f64> = (0..100).map(|_| random_share()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)), "{shares:?}");
        assert!(shares.iter().any(|share| *share != shares[0]), "{shares:?}");
    }

    #[test]
    fn retries_that_keep_to_the_schedule_pass() {
        let outcome = check(|_, _| {}, Verdict::Pass, "attempt 5 succeeded");
        let says = |part: &str| outcome.findings.iter().any(|f| f.summary.contains(part));
        assert!(
            says("4 of 5 pauses were exercised; the cap of 30s was not reached"),
            "{outcome:?}"
        );
        let jitter = outcome.measurements.iter().find(|m| m.name == "jitter_max").expect("there");
        assert!((jitter.value - 0.2).abs() < 1e-9, "0.4 of 0.5");
        check(|_, whole| whole.succeeded = Some(6), Verdict::Pass, "attempt 6 succeeded");
    }

    #[test]
    fn what_breaks_the_promise_fails() {
        check(|given_up, _| given_up.succeeded = Some(1), Verdict::Fail, "while nothing was free");
        check(|_, whole| whole.succeeded = Some(4), Verdict::Fail, "while nothing was free");
        check(|_, whole| whole.succeeded = None, Verdict::Fail, "no later one succeeded");
        let hasty =
            |_: &mut Way, whole: &mut Way| whole.pauses[2].measured = Duration::from_secs(8);
        check(hasty, Verdict::Fail, "the pause before retry 3 was 8000 ms, 9600 ms scheduled");
    }

    #[test]
    fn what_is_late_degrades() {
        let stubborn = |given_up: &mut Way, _: &mut Way| given_up.took += Duration::from_secs(3);
        check(stubborn, Verdict::Degraded, "giving up after one retry");
        let late =
            |_: &mut Way, whole: &mut Way| whole.pauses[0].measured += Duration::from_secs(3);
        check(late, Verdict::Degraded, "the pause before retry 1");
    }
}
