//! A bounded ramp of database connections across the connector.
//!
//! **Asks** whether the connector carries the connections offered now without queueing or losing
//! them. Good: connecting takes as long with several at once as with one, and none is refused or
//! times out.
//!
//! **Measures** in stages of 1, 2, 3 .. connections opened at the same moment and then closed, a few
//! rounds each, on the way that crosses the connector: `[database.tcp]` if it does, else the Auth
//! Proxy's socket. Per stage: median, 95th percentile and longest time until the far side answered.
//! That is the TCP connect; behind a socket, which accepts before the proxy has dialled, it is the
//! database's own first answer. The first round that loses a connect, or after which the database
//! falls silent, ends the ramp: what is in trouble is not loaded further.
//!
//! **Verdicts.** `fail`: connects were refused, reset or timed out. `degraded`: they queue, that is,
//! a stage's median is both `queueing_factor` times the first stage's and above
//! `queueing_tolerance`, or TCP had to send a SYN again; or the far side answered and the database
//! then failed. `pass`: neither. `skip (unavailable)`: no path from here crosses the connector.
//!
//! **Finds limits** only where it is told to (`find_limits_up_to`, on a target whose budget was raised
//! for it): connects are offered faster than they are answered, and their rate then is the path's;
//! then sessions are held until the next one stays unanswered, and one is closed to see that it was
//! for want of room. A limit that was reached says nothing about health and changes no verdict.
//!
//! **Draws** three database connections, that is also the highest stage; with `find_limits_up_to`
//! as many as that and one.
//!
//! **Configuration**: `[probes."vpc.connector-capacity"]`, see [`ConnectorCapacityConfig`].
//!
//! **Cannot tell**, with three connections, where the connector's limits lie: it shows pressure that
//! is there now, never how far off 250 per instance are. The limits of `[vpc]` are printed as
//! `not established (budget 3)` beside the arithmetic they would give. Nor can it tell the
//! connector's queue from a firewall's or the instance's when everything is lost.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::clock;
use shakedown_core::id::resource;
use shakedown_core::{
    Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Setting,
    Span, Step, Verdict, async_trait,
};
use shakedown_wire::pg;

use super::limits::{self, Search};
use super::stage::{Queueing, Stage, codes, queueing};
use super::target::{self, DatabaseTarget};
use crate::causes::VPC_CONNECTOR_CAPACITY;
use crate::path::NetworkPath;
use crate::section::Vpc;
use crate::series::{Attempt, percentile};

const DRAW: u32 = 3;

const META: ProbeMeta = ProbeMeta {
    markers: &["staging", "issue_1278", "capacity"],
    draws: &[Draw::between(resource::DATABASE_CONNECTION, 1, DRAW)],
    expected: Duration::from_secs(8),
    timeout: Duration::from_secs(125),
    aliases: &[
        "tests/connectivity/test_issue_1278_vpc_connector_validation.py::TestVPCConnectorValidation::test_vpc_connector_capacity_monitoring",
        "tests/connectivity/test_issue_1278_vpc_connector_validation.py::TestVPCConnectorValidation::test_connection_latency_measurement",
        "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_staging_vpc_connector_pressure_measurement",
    ],
    ..ProbeMeta::new(
        "vpc.connector-capacity",
        RunPhase::Network,
        "the connector carries the connections offered now without queueing or losing them",
    )
};

/// `[probes."vpc.connector-capacity"]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectorCapacityConfig {
    /// The highest stage, in connections at once; never more than was drawn. Default: the draw.
    pub max_concurrency: NonZeroU32,
    /// Rounds per stage. Default 4: 24 connects in all, well inside 60 a minute.
    pub rounds: NonZeroU32,
    /// Pause between rounds. Default 500ms: at most 6 connects a second.
    pub round_pause: Span,
    /// How long one connect may take. Default 30s, the strategy's safety limit.
    pub connect_timeout: Span,
    /// No round begins later than this. Default 80s: our choice, a few connects at their limit.
    pub ramp_limit: Span,
    /// A stage queues when its median is this many times the first stage's. Default 3: our choice,
    /// no source.
    pub queueing_factor: f64,
    /// And above this. Default 500ms: half of what TCP waits before it sends a SYN again.
    pub queueing_tolerance: Span,
    /// Look for the path's limits, with at most this many connections: for a target that can bear it
    /// and a budget that was raised for it. Default 0: limits are not looked for.
    pub find_limits_up_to: u32,
    /// How long connects are offered to find the rate they are taken at. Default 20s.
    pub rate_window: Span,
}

impl Default for ConnectorCapacityConfig {
    fn default() -> Self {
        Self {
            max_concurrency: NonZeroU32::new(DRAW).expect("is 3"),
            rounds: NonZeroU32::new(4).expect("is 4"),
            round_pause: Span::millis(500),
            connect_timeout: Span::secs(30),
            ramp_limit: Span::secs(80),
            queueing_factor: 3.0,
            queueing_tolerance: Span::millis(500),
            find_limits_up_to: 0,
            rate_window: Span::secs(20),
        }
    }
}

/// The probe `vpc.connector-capacity`.
#[derive(Debug)]
pub struct ConnectorCapacity {
    config: ConnectorCapacityConfig,
}

impl ProbeSpec for ConnectorCapacity {
    type Config = ConnectorCapacityConfig;
    const META: ProbeMeta = META;

    fn from_config(config: Self::Config) -> Self {
        Self { config }
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(ConnectorCapacity);

#[async_trait]
impl Probe for ConnectorCapacity {
    fn meta(&self) -> &'static ProbeMeta {
        &META
    }

    fn draws(&self) -> Option<Vec<Draw>> {
        // One more than is held, for the connect that finds no room.
        let most = DRAW.max(self.config.find_limits_up_to.saturating_add(1));
        Some(vec![Draw::between(resource::DATABASE_CONNECTION, 1, most)])
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let vpc: Vpc = ctx.section()?;
        let targets = match target::targets(ctx, &vpc, META.id)? {
            Ok(targets) => targets,
            Err(skip) => return Ok(skip),
        };
        let mut target = match target::across_connector(targets) {
            Ok(target) => target,
            Err(skip) => return Ok(skip),
        };
        target::state(ctx, &target.path);
        target.pg.connect_timeout = self.config.connect_timeout.get();
        let drawn = match ctx.drawn(&resource::DATABASE_CONNECTION) {
            0 => DRAW,
            drawn => drawn,
        };
        let top = self.config.max_concurrency.get().min(drawn).min(DRAW);
        let (stages, telling) = self.ramp(ctx, &target, top).await?;
        let outcome = outcome(&self.config, &target.path, top, &stages).steps(telling);
        let up_to = self.config.find_limits_up_to.min(drawn.saturating_sub(1));
        // What is in trouble already is not loaded further.
        if up_to == 0 || outcome.verdict == Verdict::Fail {
            return Ok(outcome.find(not_established(&vpc, top)));
        }
        let search = Search { up_to, rate_window: self.config.rate_window.get() };
        let found = limits::find(ctx, &target, search).await?;
        Ok(limits::tell(outcome, &found).find(configured(&vpc)))
    }
}

impl ConnectorCapacity {
    /// The stages, and the steps of the climb that tells most: the first that failed, else the
    /// slowest.
    async fn ramp(
        &self,
        ctx: &ProbeCtx,
        target: &DatabaseTarget,
        top: u32,
    ) -> Result<(Vec<Stage>, Vec<Step>), ProbeError> {
        let began = clock::now();
        let mut stages = Vec::new();
        let mut telling: Option<(Attempt, Vec<Step>)> = None;
        for offered in 1..=top {
            let mut stage = Stage { offered, ..Stage::default() };
            let mut goes_on = true;
            for round in 1..=self.config.rounds.get() {
                ctx.progress(format!("{offered} of {top} at once, round {round}"));
                let climbs = self.round(ctx, target, offered, began).await?;
                goes_on = climbs.iter().all(|(attempt, _)| attempt.is_answered());
                for (attempt, steps) in climbs {
                    if attempt.unanswered().is_some() {
                        target::observe_steps(ctx, &target::database(), &steps);
                    }
                    let tells = telling.as_ref().is_none_or(|(most, _)| {
                        let failed = |attempt: &Attempt| attempt.unanswered().is_some();
                        !failed(most) && (failed(&attempt) || attempt.ms > most.ms)
                    });
                    if tells {
                        telling = Some((attempt.clone(), steps));
                    }
                    stage.attempts.push(attempt);
                }
                goes_on &= began.elapsed() < self.config.ramp_limit.get();
                if !goes_on {
                    break;
                }
                ctx.sleep(self.config.round_pause.get()).await?;
            }
            ctx.observe(target::database(), stage.observation(&target.path));
            stages.push(stage);
            if !goes_on {
                break;
            }
        }
        Ok((stages, telling.map(|(_, steps)| steps).unwrap_or_default()))
    }

    /// Opens `offered` connections at the same moment, then closes them.
    async fn round(
        &self,
        ctx: &ProbeCtx,
        target: &DatabaseTarget,
        offered: u32,
        began: clock::Instant,
    ) -> Result<Vec<(Attempt, Vec<Step>)>, ProbeError> {
        let kind = resource::DATABASE_CONNECTION;
        let leases = (0..offered).map(|_| ctx.lease(&kind));
        let leases = try_join_all(leases).await?;
        let at_ms = clock::millis(began.elapsed());
        let climbs = leases.into_iter().map(|lease| pg::connect(ctx, lease, &target.pg));
        let climbs = join_all(climbs).await;
        let mut seen = Vec::with_capacity(climbs.len());
        let mut open = Vec::with_capacity(climbs.len());
        for climb in climbs {
            let climb = climb.uninterrupted()?;
            seen.push((Attempt::of(target.path.way, at_ms, &climb.steps), climb.steps));
            open.extend(climb.result.ok());
        }
        join_all(open.into_iter().map(pg::PgConnection::close)).await;
        Ok(seen)
    }
}

fn outcome(
    config: &ConnectorCapacityConfig,
    path: &NetworkPath,
    top: u32,
    stages: &[Stage],
) -> Outcome {
    let attempts: Vec<_> = stages.iter().flat_map(|stage| &stage.attempts).collect();
    let lost: Vec<_> = attempts.iter().filter_map(|attempt| attempt.unanswered()).collect();
    let resent: usize = stages.iter().map(|stage| stage.resent(path.way)).sum();
    let tolerance_ms = clock::millis(config.queueing_tolerance.get());
    let queueing = queueing(stages, config.queueing_factor, tolerance_ms);
    // Queueing is a capacity fact only where the connector is known to be on the way.
    let booked = |finding: Finding| match path.books_to_connector() {
        true => finding.suggesting(VPC_CONNECTOR_CAPACITY),
        false => finding,
    };

    let mut outcome = Outcome::pass();
    if let Some(first) = lost.first() {
        let what = format!(
            "{} of {} connects got no answer from the far side ({})",
            lost.len(),
            attempts.len(),
            codes(&lost)
        );
        let finding = Finding::at(first, what);
        let mixed = lost.len() < attempts.len();
        let timed_out = lost.iter().all(|s| matches!(s.fault, Some(Fault::Timeout { .. })));
        outcome = outcome.failing(if mixed && timed_out {
            booked(finding).next(
                "some got through and some waited in vain: look at the connector's \
                                  CPU, instances and throughput at this moment",
            )
        } else {
            finding.next(
                "nothing here tells a full connector from a dead way: see \
                          vpc.direct-connectivity, vpc.scaling-delay and the connector's instances",
            )
        });
    }
    if let Some(Queueing { offered, p50, first }) = queueing {
        outcome = outcome.but(booked(Finding::new(format!(
            "connects queue: with {offered} at once the median is {p50:.1} ms, with one {first:.1} ms"
        ))));
    }
    if resent > 0 {
        outcome = outcome.but(booked(Finding::new(format!(
            "{resent} of {} connects got through only when TCP sent its SYN again (1 s or more)",
            attempts.len()
        ))));
    }
    if let Some(step) = attempts.iter().find_map(|attempt| attempt.behind()) {
        let what = "the path carried the connect and the database then failed";
        let finding = Finding::at(step, what).next("see vpc.direct-connectivity");
        // An error message is an answer; silence may still be lost packets.
        let all_answered = attempts.iter().all(|attempt| attempt.is_answered());
        outcome = if all_answered { outcome.find(finding) } else { outcome.but(finding) };
    }
    let reached = stages.last().map_or(0, |stage| stage.offered);
    if reached < top && attempts.iter().all(|attempt| attempt.is_answered()) {
        outcome = outcome.but(Finding::new(format!(
            "the ramp ended at {reached} of {top} connections at once: {} were used up",
            config.ramp_limit
        )));
    }
    let headline = (outcome.findings.is_empty()).then(|| {
        let answered: Vec<f64> = stages.iter().flat_map(Stage::answered_ms).collect();
        let p95 = percentile(&answered, 0.95).unwrap_or_default();
        Finding::new(format!(
            "{} connects, up to {reached} at once: none lost, none queued, 95 % within {p95:.1} ms",
            attempts.len()
        ))
    });
    outcome.findings.extend(headline);
    outcome = outcome.find(path.finding());
    for stage in stages {
        let answered = stage.answered_ms();
        for (name, share) in [("p50", 0.5), ("p95", 0.95), ("max", 1.0)] {
            if let Some(ms) = percentile(&answered, share) {
                outcome = match stages.first().and_then(Stage::p50).filter(|_| name == "p50") {
                    Some(first) if stage.offered > 1 => {
                        outcome.against(&name_of(name, stage.offered), ms, "ms", first)
                    }
                    _ => outcome.measure(&name_of(name, stage.offered), ms, "ms"),
                };
            }
        }
    }
    let count = |n: usize| u32::try_from(n).map_or(f64::INFINITY, f64::from);
    outcome.measure("connects", count(attempts.len()), "connections").measure(
        "unanswered",
        count(lost.len()),
        "connections",
    )
}

fn name_of(statistic: &str, offered: u32) -> String {
    format!("connect_{statistic}_at_{offered}")
}

/// The configured limits, none of which a ramp of `budget` connections can find.
fn not_established(vpc: &Vpc, budget: u32) -> Finding {
    Finding::new(format!(
        "connections the connector carries and new ones a minute: not established (budget {budget}); \
         {}",
        configured(vpc).summary
    ))
}

/// What the configuration says of the limits: printed, never compared.
fn configured(vpc: &Vpc) -> Finding {
    fn said<T: std::fmt::Display>(setting: &Setting<T>) -> String {
        match &setting.assumed {
            Some(why) => format!("{} (assumed: {why})", setting.value),
            None => format!("{} (stated)", setting.value),
        }
    }
    let per_instance = u64::from(vpc.connections_per_instance.value);
    let total = |instances: &Setting<u32>| u64::from(instances.value) * per_instance;
    Finding::new(format!(
        "the configuration would give {} x {per_instance} = {} connections with the fewest and {} x \
         {per_instance} = {} with the most instances: connections per instance {}, instances at \
         least {}, at most {}; connection rate {}",
        vpc.instances_min.value,
        total(&vpc.instances_min),
        vpc.instances_max.value,
        total(&vpc.instances_max),
        said(&vpc.connections_per_instance),
        said(&vpc.instances_min),
        said(&vpc.instances_max),
        said(&vpc.connection_rate),
    ))
}

#[cfg(test)]
mod tests {
    use shakedown_core::{Provenance, Tier, Vantage};

    use super::*;
    use crate::path::{Dial, Way};
    use crate::section::Egress;
    use crate::series::tests::ladder;

    const TIMEOUT: Fault = Fault::Timeout { limit: Span::secs(3) };

    fn path(vantage: Vantage) -> NetworkPath {
        let vpc = Vpc { name: "c".into(), egress: Some(Egress::AllTraffic), ..Vpc::default() };
        Dial { vantage, tier: Tier::Staging, host: "10.0.0.5", port: 5432, vpc: &vpc }.path()
    }

    fn stage(offered: u32, connects: &[(f64, Option<Fault>)]) -> Stage {
        let attempt = |(ms, fault): &(f64, Option<Fault>)| {
            Attempt::of(Way::Tcp, 0.0, &ladder(&[("connect", *ms)], fault.clone()))
        };
        Stage { offered, attempts: connects.iter().map(attempt).collect() }
    }

    fn judge(vantage: Vantage, stages: &[Stage]) -> Outcome {
        let top = stages.last().map_or(0, |stage| stage.offered);
        outcome(&ConnectorCapacityConfig::default(), &path(vantage), top, stages)
    }

    fn ok(ms: f64) -> (f64, Option<Fault>) {
        (ms, None)
    }

    fn lost(fault: Fault) -> (f64, Option<Fault>) {
        (3000.0, Some(fault))
    }

    #[test]
    fn stages_are_judged_by_loss_then_queueing_then_resent_syns() {
        let capacity = Some("vpc_connector_capacity");
        let table: [(&str, Vec<Stage>, Verdict, Option<&str>); 8] = [
            (
                "flat",
                vec![stage(1, &[ok(2.0)]), stage(2, &[ok(2.2), ok(4.0)])],
                Verdict::Pass,
                None,
            ),
            (
                "quick but many times slower",
                vec![stage(1, &[ok(1.0)]), stage(2, &[ok(90.0)])],
                Verdict::Pass,
                None,
            ),
            (
                "slow but no slower than alone",
                vec![stage(1, &[ok(600.0)]), stage(2, &[ok(900.0)])],
                Verdict::Pass,
                None,
            ),
            (
                "queueing",
                vec![stage(1, &[ok(2.0)]), stage(2, &[ok(700.0)])],
                Verdict::Degraded,
                capacity,
            ),
            (
                "resent from the start",
                vec![stage(1, &[ok(1001.0), ok(1002.0)])],
                Verdict::Degraded,
                capacity,
            ),
            ("all lost", vec![stage(1, &[lost(TIMEOUT)])], Verdict::Fail, None),
            (
                "some lost",
                vec![stage(1, &[ok(2.0)]), stage(2, &[ok(2.0), lost(TIMEOUT)])],
                Verdict::Fail,
                capacity,
            ),
            ("refused", vec![stage(1, &[ok(2.0), lost(Fault::Refused)])], Verdict::Fail, None),
        ];
        for (case, stages, verdict, cause) in table {
            let outcome = judge(Vantage::CloudRun, &stages);
            assert_eq!(outcome.verdict, verdict, "{case}: {outcome:?}");
            let suggested = outcome.findings[0].suggests.as_ref().map(|cause| cause.as_str());
            assert_eq!(suggested, cause, "{case}: {outcome:?}");
        }
    }

    #[test]
    fn nothing_is_booked_where_the_path_is_not_known_to_cross() {
        let stages = [stage(1, &[ok(2.0)]), stage(2, &[ok(2000.0), lost(TIMEOUT)])];
        let outcome = judge(Vantage::Unknown, &stages);
        assert_eq!(outcome.verdict, Verdict::Fail);
        assert!(outcome.findings.iter().all(|finding| finding.suggests.is_none()), "{outcome:?}");
    }

    #[test]
    fn a_database_that_answers_with_an_error_is_not_the_paths_trouble() {
        let sql = Fault::Sql { sqlstate: "53300".into(), message: "full".into() };
        for (fault, verdict) in [(sql, Verdict::Pass), (TIMEOUT, Verdict::Degraded)] {
            let steps = ladder(&[("connect", 1.0), ("startup", 5.0)], Some(fault));
            let attempts = vec![Attempt::of(Way::Tcp, 0.0, &steps)];
            let outcome = judge(Vantage::CloudRun, &[Stage { offered: 1, attempts }]);
            assert_eq!(outcome.verdict, verdict);
            assert_eq!(outcome.findings[0].rung.as_deref(), Some("startup"));
        }
    }

    #[test]
    fn limits_are_never_established_and_never_measurements() {
        let (config, vpc) = (ConnectorCapacityConfig::default(), Vpc::default());
        let stages = [stage(3, &[ok(2.0)])];
        let outcome = outcome(&config, &path(Vantage::CloudRun), 3, &stages);
        let limits = &not_established(&vpc, 3).summary;
        assert!(limits.contains("not established (budget 3)"), "{limits}");
        assert!(limits.contains("2 x 250 = 500"), "{limits}");
        assert!(limits.contains("10 x 250 = 2500"), "{limits}");
        assert!(
            limits.contains("250 (assumed: the strategy's number; no source found)"),
            "{limits}"
        );
        assert!(outcome.measurements.iter().all(|m| m.provenance == Provenance::Measured));
        assert!(outcome.measurements.iter().all(|m| m.value != 250.0 && m.value != 500.0));
    }

    #[test]
    fn only_who_asks_for_limits_draws_more_than_three() {
        let most = |up_to| {
            let config = ConnectorCapacityConfig { find_limits_up_to: up_to, ..Default::default() };
            let draws = ConnectorCapacity::from_config(config).draws().unwrap();
            (draws[0].least, draws[0].amount)
        };
        assert_eq!((most(0), most(40)), ((1, 3), (1, 41)));
        assert_eq!(ConnectorCapacity::from_config(Default::default()).draws().unwrap(), META.draws);
    }

    #[test]
    fn a_ramp_that_ran_out_of_time_says_so() {
        let config = ConnectorCapacityConfig::default();
        let stages = [stage(1, &[ok(2.0)])];
        let outcome = outcome(&config, &path(Vantage::CloudRun), 3, &stages);
        assert_eq!(outcome.verdict, Verdict::Degraded);
        assert!(outcome.findings[0].summary.contains("1 of 3"), "{outcome:?}");
    }

    #[test]
    fn stage_figures_name_their_stage_and_compare_with_the_first() {
        let stages = [stage(1, &[ok(2.0)]), stage(2, &[ok(4.0), ok(6.0)])];
        let outcome = judge(Vantage::CloudRun, &stages);
        let find = |name: &str| outcome.measurements.iter().find(|m| m.name == name);
        assert_eq!(find("connect_p50_at_1").map(|m| (m.value, m.baseline)), Some((2.0, None)));
        assert_eq!(find("connect_p50_at_2").map(|m| (m.value, m.baseline)), Some((4.0, Some(2.0))));
        assert_eq!(find("connect_max_at_2").map(|m| m.value), Some(6.0));
        assert_eq!(find("connects").map(|m| m.value), Some(3.0));
        assert_eq!(find("unanswered").map(|m| m.value), Some(0.0));
    }
}
