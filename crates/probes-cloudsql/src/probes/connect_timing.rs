//! Asks how long a login at the database takes, rung by rung. Good: every login comes to its first
//! answer, nearly all within the strategy's 10 s.
//!
//! **How.** So many full ladders one after the other, each on a fresh connection that is closed
//! before the next: `connect` (and `resolve`, `tls` over TCP), `startup`, `auth`, `ready`, then
//! `query` with a constant. Each rung gets its least, median, 95th percentile and greatest duration;
//! with fewer than 20 ladders the 95th percentile is the greatest. After two failures in a row it
//! stops: a third would tell nothing new.
//!
//! **Verdicts.** *Fail*: a login failed, with the rung and the typed error; or the 95th percentile is
//! above `pressure_limit`. *Degraded*: it is above `normal_limit`. *Pass*: neither. The two limits
//! are the strategy's "5-10 seconds normal, 25+ seconds under pressure": upper bounds, not health.
//! A login that takes seconds is slow whatever the strategy calls normal; compare with `total_p50`
//! of earlier runs.
//!
//! **Draws** one database connection. **Provides** `database-session`.
//!
//! **Configuration**: see [`ConnectTimingConfig`].
//!
//! **Cannot tell** where on a socket's far side the time went: a proxy accepts at once and dials
//! afterwards, so the network's share shows at `startup`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::evidence::Body;
use shakedown_core::id::{capability, resource};
use shakedown_core::{
    Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Setting,
    Span, Step, async_trait,
};
use shakedown_wire::pg::statements::PING;
use shakedown_wire::pg::{self, PgTarget};

use super::spread::Spread;
use crate::causes;
use crate::login;
use crate::section::CloudSql;

/// After so many failures in a row it stops.
const FAILURES_ENOUGH: usize = 2;

/// See the module.
#[derive(Debug)]
pub struct ConnectTiming(ConnectTimingConfig);

/// `[probes."cloudsql.connect-timing"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectTimingConfig {
    /// How many ladders. Default 10: enough for a median, few enough for the budget's 60 new
    /// connections a minute.
    pub attempts: u32,
    /// Time between one ladder's end and the next one's start. Default 1 s, which keeps ten quick
    /// ladders within that rate.
    pub pause: Span,
    /// Above this the logins are slower than the strategy calls normal. Default 10 s, assumed: the
    /// strategy's "5-10 seconds normal".
    pub normal_limit: Setting<Span>,
    /// Above this the logins fail the probe. Default 25 s, assumed: the strategy's "25+ seconds under
    /// pressure".
    pub pressure_limit: Setting<Span>,
}

impl Default for ConnectTimingConfig {
    fn default() -> Self {
        Self {
            attempts: 10,
            pause: Span::secs(1),
            normal_limit: Setting::assumed(Span::secs(10), "the strategy's upper bound of normal"),
            pressure_limit: Setting::assumed(Span::secs(25), "the strategy's bound of pressure"),
        }
    }
}

impl ProbeSpec for ConnectTiming {
    type Config = ConnectTimingConfig;

    const META: ProbeMeta = ProbeMeta {
        markers: &["staging", "issue_1278"],
        provides: &[capability::DATABASE_SESSION],
        draws: &[Draw::new(resource::DATABASE_CONNECTION, 1)],
        expected: Duration::from_secs(15),
        timeout: Duration::from_secs(300),
        aliases: &[
            "netra_backend/tests/integration/test_issue_1278_database_initialization_integration.py::TestDatabaseInitializationIntegration::test_cloud_sql_connection_establishment_timing",
        ],
        ..ProbeMeta::new(
            "cloudsql.connect-timing",
            RunPhase::Database,
            "every login comes to its first answer, nearly all within the strategy's normal time",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(ConnectTiming);

/// One climb: its rungs, and why it failed if it did.
#[derive(Clone, Debug)]
struct Ladder {
    steps: Vec<Step>,
    fault: Option<Fault>,
}

impl Ladder {
    fn total_ms(&self) -> f64 {
        self.steps.iter().map(|step| step.elapsed_ms).sum()
    }
}

#[async_trait]
impl Probe for ConnectTiming {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let section: CloudSql = ctx.section()?;
        let target = PgTarget::of(ctx)?.named(Self::META.id);
        let mut ladders: Vec<Ladder> = Vec::new();
        let attempts = self.0.attempts.max(1);
        for attempt in 1..=attempts {
            if attempt > 1 {
                let enough = ctx.remaining().is_some_and(|left| left < target.connect_timeout);
                if enough || failing(&ladders) {
                    break;
                }
                ctx.sleep(self.0.pause.get()).await?;
            }
            ctx.progress(format!("login {attempt} of {attempts}"));
            ladders.push(climb(ctx, &target).await?);
        }
        for step in telling(&ladders).into_iter().flat_map(|ladder| &ladder.steps) {
            ctx.observe(login::subject(&section), Body::Step(step.clone()));
        }
        let outcome = judge(&self.0, &ladders);
        Ok(outcome.find(Finding::new(login::path(ctx))))
    }
}

async fn climb(ctx: &ProbeCtx, target: &PgTarget) -> Result<Ladder, ProbeError> {
    let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
    let climb = pg::connect(ctx, lease, target).await.uninterrupted()?;
    let mut steps = climb.steps;
    let fault = match climb.result {
        Err(fault) => Some(fault),
        Ok(mut connection) => {
            let (step, answer) = connection.timed(PING, &[]).await;
            steps.push(step);
            connection.close().await;
            answer.err()
        }
    };
    if fault.is_some() {
        // What our own side cut short is no news about the target.
        login::uninterrupted(ctx)?;
    }
    Ok(Ladder { steps, fault })
}

fn failing(ladders: &[Ladder]) -> bool {
    let failed = ladders.iter().rev().take_while(|ladder| ladder.fault.is_some());
    failed.count() >= FAILURES_ENOUGH
}

/// The first ladder that failed, else the slowest.
fn telling(ladders: &[Ladder]) -> Option<&Ladder> {
    let failed = ladders.iter().find(|ladder| ladder.fault.is_some());
    failed.or_else(|| ladders.iter().max_by(|a, b| a.total_ms().total_cmp(&b.total_ms())))
}

fn judge(config: &ConnectTimingConfig, ladders: &[Ladder]) -> Outcome {
    let (failed, passed): (Vec<&Ladder>, Vec<&Ladder>) =
        ladders.iter().partition(|ladder| ladder.fault.is_some());
    let totals = Spread::of(passed.iter().map(|ladder| ladder.total_ms()));
    let (normal, pressure) = (config.normal_limit.value, config.pressure_limit.value);
    let bounds = format!(
        "{normal} and {pressure} are the strategy's upper bounds of normal and of pressure, not health"
    );

    let mut outcome = Outcome::pass();
    if let Some(Ladder { steps, fault: Some(fault) }) = failed.first() {
        outcome = outcome.failing(login::failed(steps.last(), fault));
        let count = format!("{} of {} logins failed", failed.len(), ladders.len());
        outcome = outcome.find(Finding::new(count));
    }
    if let Some(p95) = totals.quantile(0.95) {
        let took = format!("95 % of the logins took at most {p95:.0} ms");
        let slow = |limit: Span| {
            Finding::new(format!("{took}, above {limit}")).suggesting(causes::SLOW).next(
                "see which rung took the time: auth is the server's CPU, startup the way to it",
            )
        };
        outcome = if p95 > millis(pressure) {
            outcome.failing(slow(pressure))
        } else if p95 > millis(normal) {
            outcome.but(slow(normal))
        } else {
            outcome.find(Finding::new(format!("{took}; {bounds}")))
        };
    }
    if let Some(short) = cut_short(config, ladders, !failed.is_empty()) {
        outcome = outcome.find(short);
    }
    outcome = outcome.measure("logins", passed.len() as f64, "1");
    outcome = outcome.measure("logins_failed", failed.len() as f64, "1");
    outcome = totals.into_outcome(outcome, "total");
    for rung in rungs(ladders) {
        let of_rung = passed.iter().flat_map(|ladder| &ladder.steps);
        let durations = of_rung.filter(|step| step.rung == rung).map(|step| step.elapsed_ms);
        outcome = Spread::of(durations).into_outcome(outcome, rung);
    }
    outcome.steps(telling(ladders).map(|ladder| ladder.steps.clone()).unwrap_or_default())
}

fn cut_short(config: &ConnectTimingConfig, ladders: &[Ladder], failed: bool) -> Option<Finding> {
    let (done, wanted) = (ladders.len(), config.attempts.max(1) as usize);
    let why = match (done < wanted, failed && failing(ladders)) {
        (false, _) => return None,
        (true, true) => "two failures in a row are enough",
        (true, false) => "the time left was less than one more login may take",
    };
    Some(Finding::new(format!("stopped after {done} of {wanted} logins: {why}")))
}

/// Every rung taken, in the order of the first ladder that took it.
fn rungs(ladders: &[Ladder]) -> Vec<&str> {
    let mut rungs = Vec::new();
    for step in ladders.iter().flat_map(|ladder| &ladder.steps) {
        if !rungs.contains(&step.rung.as_str()) {
            rungs.push(step.rung.as_str());
        }
    }
    rungs
}

fn millis(span: Span) -> f64 {
    shakedown_core::clock::millis(span.get())
}

#[cfg(test)]
mod tests {
    use shakedown_core::{Verdict, clock};

    use super::*;

    fn step(rung: &str, elapsed_ms: f64, fault: Option<Fault>) -> Step {
        Step { elapsed_ms, ..Step::ended(rung, clock::wall(), clock::now(), fault) }
    }

    fn ladder(startup_ms: f64, fault: Option<Fault>) -> Ladder {
        let steps = vec![step("connect", 1.0, None), step("startup", startup_ms, fault.clone())];
        Ladder { steps, fault }
    }

    fn of(outcome: &Outcome, name: &str) -> f64 {
        outcome.measurements.iter().find(|m| m.name == name).expect(name).value
    }

    #[tokio::test]
    async fn the_verdict_follows_the_95th_percentile() {
        let config = ConnectTimingConfig::default();
        for (slowest_ms, verdict) in
            [(9_000.0, Verdict::Pass), (11_000.0, Verdict::Degraded), (25_500.0, Verdict::Fail)]
        {
            let ladders = [ladder(20.0, None), ladder(slowest_ms, None)];
            let outcome = judge(&config, &ladders);
            assert_eq!(outcome.verdict, verdict, "{slowest_ms}");
            assert_eq!(of(&outcome, "total_p95"), slowest_ms + 1.0);
            assert_eq!(of(&outcome, "startup_min"), 20.0);
            assert_eq!(outcome.steps[1].elapsed_ms, slowest_ms, "the slowest ladder is kept");
        }
    }

    #[tokio::test]
    async fn a_failed_login_fails_with_rung_and_fault_and_is_no_measurement() {
        let fault = Fault::Closed;
        let ladders = [ladder(20.0, None), ladder(9.0, Some(fault.clone())), ladder(30.0, None)];
        assert!(!failing(&ladders), "only one, and not the last");
        let outcome = judge(&ConnectTimingConfig::default(), &ladders);
        assert_eq!(outcome.verdict, Verdict::Fail);
        let finding = &outcome.findings[0];
        assert_eq!((finding.rung.as_deref(), &finding.fault), (Some("startup"), &Some(fault)));
        assert_eq!(finding.suggests, Some(causes::UNREACHABLE));
        assert_eq!((of(&outcome, "logins"), of(&outcome, "logins_failed")), (2.0, 1.0));
        assert_eq!(of(&outcome, "startup_min"), 20.0, "9 ms was a failure");
        assert_eq!(outcome.steps[1].fault, Some(Fault::Closed));
    }

    #[tokio::test]
    async fn two_failures_in_a_row_are_enough() {
        let bad = || ladder(5.0, Some(Fault::Refused));
        assert!(failing(&[ladder(5.0, None), bad(), bad()]));
        assert!(!failing(&[bad(), ladder(5.0, None), bad()]));
        let outcome = judge(&ConnectTimingConfig::default(), &[bad(), bad()]);
        assert!(outcome.measurements.iter().all(|m| !m.name.starts_with("total")), "{outcome:?}");
        let says = |part: &str| outcome.findings.iter().any(|f| f.summary.contains(part));
        assert!(says("2 of 2 logins failed") && says("stopped after 2 of 10"), "{outcome:?}");
    }
}
