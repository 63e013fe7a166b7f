//! The monitor `vpc.connector`: how connects fare on the way through the connector.
//!
//! Google publishes no count of a connector's connections, and its throughput and instances only
//! through its Monitoring API. What can be measured from here is what a connect takes, and whether it
//! gets through. From that alone follow the facts true at a moment
//! (`vpc.capacity_pressure_indicators`) and the state (`vpc.state`), which is `unknown` wherever the
//! path does not cross the connector or too little was seen.
//!
//! It holds no connection of the budget: it takes one for a moment when the probes leave one free,
//! and says so when they do not.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::id::{Metric, resource};
use shakedown_core::monitor::MetricMeta;
use shakedown_core::{
    Lease, Monitor, MonitorError, MonitorMeta, MonitorSpec, ProbeCtx, Sample, Setting, Span,
    async_trait,
};
use shakedown_wire::{net, pg};
use tokio::sync::Mutex;

use crate::path::Way;
use crate::probes::target::{DatabaseTarget, across_connector, targets};
use crate::section::Vpc;
use crate::series::{Attempt, FIRST_RETRANSMIT_MS, percentile};

/// Connections through the connector.
pub const CONCURRENT_CONNECTIONS: Metric = Metric::new("vpc.concurrent_connections");
/// Share of the connector's bandwidth in use.
pub const THROUGHPUT_UTILIZATION: Metric = Metric::new("vpc.throughput_utilization");
/// Changes of the number of its instances.
pub const SCALING_EVENTS: Metric = Metric::new("vpc.scaling_events");
/// What a connect took.
pub const CONNECTION_LATENCY: Metric = Metric::new("vpc.connection_latency");
/// The facts that speak of pressure, each true or not.
pub const CAPACITY_PRESSURE_INDICATORS: Metric = Metric::new("vpc.capacity_pressure_indicators");
/// Share of connects that did not get through.
pub const ERROR_RATES: Metric = Metric::new("vpc.error_rates");
/// The state that follows from them.
pub const STATE: Metric = Metric::new("vpc.state");

const NO_COUNT: &str = "Google publishes no connection count of a connector";
const NO_THROUGHPUT: &str = "needs Google's Monitoring API \
                             (vpcaccess.googleapis.com/connector/sent_bytes_count, received_bytes_count)";
const NO_INSTANCES: &str =
    "needs Google's Monitoring API (vpcaccess.googleapis.com/connector/instances)";

/// How many connects are remembered, for the state and the error rate.
const REMEMBERED: usize = 10;
/// So many quick connects in a row are needed to call it normal.
const STEADY: usize = 3;
/// A latency is a multiple of the baseline only once it is above so many times that.
const BASELINE_FACTOR: f64 = 10.0;

const RATIO: &str = "1";

const fn metric(
    id: &'static str,
    strategy_name: Option<&'static str>,
    unit: &'static str,
    definition: &'static str,
    no_source: Option<&'static str>,
) -> MetricMeta {
    MetricMeta { id, strategy_name, definition, unit, no_source }
}

/// The monitor `vpc.connector`; see the module.
#[derive(Debug)]
pub struct Connector {
    config: ConnectorConfig,
    seen: Mutex<VecDeque<Attempt>>,
}

/// `[monitors."vpc.connector"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectorConfig {
    /// A connect that takes longer is slow. Default 50 ms, assumed: the strategy's lower bound of
    /// "under pressure". Written in milliseconds, which the lab's time scale leaves alone: a round
    /// trip is no shorter there.
    pub pressure_latency_ms: Setting<f64>,
    /// A connect that takes longer is very slow. Default 200 ms, assumed: the strategy's lower bound
    /// of "while scaling".
    pub scaling_latency_ms: Setting<f64>,
    /// How long a connect of the monitor may take. Default 3 s: longer than one lost SYN, and short
    /// enough that a probe that waits for the connection gets it in time.
    pub connect_patience: Span,
}

impl Default for ConnectorConfig {
    fn default() -> Self {
        Self {
            pressure_latency_ms: Setting::assumed(50.0, "the strategy's bound; no source found"),
            scaling_latency_ms: Setting::assumed(200.0, "the strategy's bound; no source found"),
            connect_patience: Span::secs(3),
        }
    }
}

impl MonitorSpec for Connector {
    type Config = ConnectorConfig;

    const META: MonitorMeta = MonitorMeta {
        id: "vpc.connector",
        summary: "what a connect through the connector takes, and the state that follows from it",
        draws: &[],
        metrics: &[
            metric(
                "vpc.concurrent_connections",
                Some("concurrent_connections"),
                "connections",
                "connections open through the connector",
                Some(NO_COUNT),
            ),
            metric(
                "vpc.throughput_utilization",
                Some("throughput_utilization"),
                RATIO,
                "bytes through the connector over what its instances carry",
                Some(NO_THROUGHPUT),
            ),
            metric(
                "vpc.scaling_events",
                Some("scaling_events"),
                "events",
                "changes of the number of the connector's instances",
                Some(NO_INSTANCES),
            ),
            metric(
                "vpc.connection_latency",
                Some("connection_latency"),
                "ms",
                "one connect through the connector, until the far side answered: TCP's handshake, or \
                 on a proxy's socket the database's first answer",
                None,
            ),
            metric(
                "vpc.capacity_pressure_indicators",
                Some("capacity_pressure_indicators"),
                "facts",
                "the facts that speak of pressure, one series each: 1 where it is true of the latest \
                 connects, 0 where it is not; never added up to a score",
                None,
            ),
            metric(
                "vpc.error_rates",
                Some("error_rates"),
                RATIO,
                "share of the monitor's last 10 connects that got no answer from the far side",
                None,
            ),
            metric(
                "vpc.state",
                None,
                "state",
                "1 for the state that follows from the last 10 connects: normal, pressure, scaling, \
                 overloaded, or unknown; the label `because` holds the facts it rests on",
                None,
            ),
        ],
        period: Duration::ZERO,
        delay: Duration::ZERO,
    };

    fn from_config(config: Self::Config) -> Self {
        Self { config, seen: Mutex::default() }
    }
}

#[cfg(feature = "register")]
shakedown_core::register_monitor!(Connector);

#[async_trait]
impl Monitor for Connector {
    fn meta(&self) -> &'static MonitorMeta {
        &Self::META
    }

    async fn sample(&self, ctx: &ProbeCtx) -> Result<Vec<Sample>, MonitorError> {
        let mut samples = vec![
            Sample::unavailable(CONCURRENT_CONNECTIONS, "connections", NO_COUNT),
            Sample::unavailable(THROUGHPUT_UTILIZATION, RATIO, NO_THROUGHPUT),
            Sample::unavailable(SCALING_EVENTS, "events", NO_INSTANCES),
        ];
        let target = match target(ctx)? {
            Ok(target) => target,
            Err(why) => {
                samples.extend(blind(&why));
                return Ok(samples);
            }
        };
        let lease = match spare(ctx) {
            Ok(lease) => lease,
            Err(why) => {
                samples.extend(blind(why));
                return Ok(samples);
            }
        };
        let attempt = self.connect(ctx, lease, &target).await?;
        let mut seen = self.seen.lock().await;
        seen.push_back(attempt);
        while seen.len() > REMEMBERED {
            seen.pop_front();
        }
        samples.extend(self.judge(seen.make_contiguous()));
        Ok(samples)
    }
}

/// The way through the connector, or why there is none to look at.
fn target(ctx: &ProbeCtx) -> Result<Result<DatabaseTarget, String>, MonitorError> {
    let failed = |error: &dyn std::fmt::Display| MonitorError::new(error.to_string());
    let vpc: Vpc = ctx.section().map_err(|error| failed(&error))?;
    let ways = targets(ctx, &vpc, Connector::META.id).map_err(|error| failed(&error))?;
    let Ok(ways) = ways else { return Ok(Err("[database] is not configured".into())) };
    Ok(match across_connector(ways) {
        Ok(target) if target.path.books_to_connector() => Ok(target),
        Ok(target) => Err(format!("nobody knows whether it is crossed: {}", target.path.why)),
        Err(_) => Err("no path from here crosses the connector".into()),
    })
}

/// A connection that nobody needs just now, or why there is none.
fn spare(ctx: &ProbeCtx) -> Result<Lease, &'static str> {
    const ONE: [Draw; 1] = [Draw::new(resource::DATABASE_CONNECTION, 1)];
    const TAKEN: &str = "the probes hold all of the budget's database connections";
    let budget = ctx.budget();
    let used = budget.usage();
    let usage = used.iter().find(|usage| usage.resource == resource::DATABASE_CONNECTION);
    if usage.is_none_or(|usage| usage.ceiling < 2) {
        return Err("the run's budget is one database connection, which is the probes'");
    }
    let allotment = budget.reserve(&ONE).now_or_never().and_then(Result::ok).ok_or(TAKEN)?;
    allotment.try_lease(&resource::DATABASE_CONNECTION).map_err(|_| TAKEN)
}

impl Connector {
    async fn connect(
        &self,
        ctx: &ProbeCtx,
        lease: Lease,
        target: &DatabaseTarget,
    ) -> Result<Attempt, MonitorError> {
        let way = target.path.way;
        let limit = self.config.connect_patience.get();
        let interrupted = |error: shakedown_core::ProbeError| MonitorError::new(error.to_string());
        let steps = match way {
            Way::Tcp => {
                let (host, port) = address(target);
                let climb = net::tcp_within(ctx, lease, &host, port, limit).await;
                let climb = climb.uninterrupted().map_err(interrupted)?;
                if let Ok(peer) = climb.result {
                    peer.close().await;
                }
                climb.steps
            }
            Way::Socket => {
                let mut pg = target.pg.clone();
                pg.connect_timeout = pg.connect_timeout.min(limit);
                let climb = pg::connect(ctx, lease, &pg).await.uninterrupted();
                let climb = climb.map_err(interrupted)?;
                if let Ok(connection) = climb.result {
                    connection.close().await;
                }
                climb.steps
            }
        };
        Ok(Attempt::of(way, 0.0, &steps))
    }

    fn judge(&self, seen: &[Attempt]) -> Vec<Sample> {
        let Some(latest) = seen.last() else { return Vec::new() };
        let latency = match latest.unanswered() {
            None => Sample::measured(CONNECTION_LATENCY, latest.ms, "ms"),
            Some(step) => {
                let fault = step.fault.as_ref().map_or_else(String::new, ToString::to_string);
                Sample::unavailable(CONNECTION_LATENCY, "ms", format!("no answer: {fault}"))
            }
        };
        let lost = seen.iter().filter(|attempt| attempt.unanswered().is_some()).count();
        let rate = lost as f64 / seen.len() as f64;
        let facts = self.facts(seen);
        let mut samples = vec![latency, Sample::measured(ERROR_RATES, rate, RATIO)];
        samples.extend(facts.iter().map(|(fact, holds)| {
            Sample::measured(CAPACITY_PRESSURE_INDICATORS, f64::from(u8::from(*holds)), "facts")
                .label("fact", *fact)
        }));
        let (state, because) = state(seen, &facts);
        samples.push(
            Sample::measured(STATE, 1.0, "state").label("state", state).label("because", because),
        );
        samples
    }

    /// What is true of the last connects, each by itself.
    fn facts(&self, seen: &[Attempt]) -> [(&'static str, bool); 5] {
        let answered: Vec<f64> =
            seen.iter().filter(|attempt| attempt.unanswered().is_none()).map(|a| a.ms).collect();
        let recent: Vec<f64> = seen.iter().rev().take(STEADY).map(|attempt| attempt.ms).collect();
        let worst = recent.iter().copied().fold(0.0, f64::max);
        let lost = seen.iter().any(|attempt| attempt.unanswered().is_some());
        // The quickest half of what was answered stands for the way without pressure.
        let baseline = percentile(&answered, 0.5).unwrap_or(f64::INFINITY);
        [
            ("connect-slow", worst > self.config.pressure_latency_ms.value),
            ("connect-very-slow", worst > self.config.scaling_latency_ms.value),
            (
                "connect-above-10x-baseline",
                seen.len() > STEADY && worst > baseline * BASELINE_FACTOR && worst > 1.0,
            ),
            ("syn-retransmitted", answered.iter().any(|ms| *ms >= FIRST_RETRANSMIT_MS)),
            ("connects-lost-and-answered", lost && !answered.is_empty()),
        ]
    }
}

/// Where TCP is dialled.
fn address(target: &DatabaseTarget) -> (String, u16) {
    let (host, port) = target.path.target.rsplit_once(':').unwrap_or((&target.path.target, ""));
    (host.to_owned(), port.parse().unwrap_or(5432))
}

/// The metrics that need a connect, when there was none.
fn blind(why: &str) -> [Sample; 4] {
    [
        Sample::unavailable(CONNECTION_LATENCY, "ms", why),
        Sample::unavailable(CAPACITY_PRESSURE_INDICATORS, "facts", why),
        Sample::unavailable(ERROR_RATES, RATIO, why),
        Sample::measured(STATE, 1.0, "state").label("state", "unknown").label("because", why),
    ]
}

/// The state, and the facts it rests on. A connector whose connects are *all* lost is not told from a
/// way that is broken: unknown.
fn state(seen: &[Attempt], facts: &[(&'static str, bool)]) -> (&'static str, String) {
    let holds = |name: &str| facts.iter().any(|(fact, holds)| *fact == name && *holds);
    let because: Vec<_> = facts.iter().filter(|(_, holds)| *holds).map(|(fact, _)| *fact).collect();
    let quick = seen.iter().rev().take_while(|attempt| attempt.unanswered().is_none()).count();
    let state = if holds("connects-lost-and-answered") && quick < STEADY {
        "overloaded"
    } else if holds("syn-retransmitted") || holds("connects-lost-and-answered") {
        // Connects waited or were lost and get through: capacity is or was being added.
        "scaling"
    } else if seen.iter().all(|attempt| attempt.unanswered().is_some()) {
        return ("unknown", "no connect was answered: full, or no way at all".into());
    } else if holds("connect-slow") || holds("connect-very-slow") {
        "pressure"
    } else if quick >= STEADY {
        return ("normal", format!("the last {STEADY} connects were quick"));
    } else {
        return ("unknown", format!("fewer than {STEADY} connects seen"));
    };
    (state, because.join(", "))
}

#[cfg(test)]
mod tests {
    use shakedown_core::Fault;
    use shakedown_core::monitor::Reading;

    use super::*;
    use crate::series::tests::ladder;

    /// Milliseconds of each connect; a negative one was lost.
    fn seen(ms: &[f64]) -> Vec<Attempt> {
        let attempt = |ms: &f64| {
            let fault = (*ms < 0.0).then_some(Fault::Timeout { limit: Span::secs(5) });
            Attempt::of(Way::Tcp, 0.0, &ladder(&[("connect", ms.abs())], fault))
        };
        ms.iter().map(attempt).collect()
    }

    fn judged(ms: &[f64]) -> Vec<Sample> {
        Connector::from_config(ConnectorConfig::default()).judge(&seen(ms))
    }

    fn label(samples: &[Sample], metric: &Metric, label: &str) -> String {
        let sample = samples.iter().find(|sample| sample.metric == *metric).expect("sampled");
        let found = sample.labels.iter().find(|(name, _)| name == label);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    #[test]
    fn the_state_rests_on_facts_and_is_unknown_without() {
        let state = |ms: &[f64]| label(&judged(ms), &STATE, "state");
        assert_eq!(state(&[1.0]), "unknown");
        assert_eq!(state(&[1.0, 2.0, 1.0]), "normal");
        assert_eq!(state(&[1.0, 2.0, 80.0]), "pressure");
        assert_eq!(state(&[1.0, 1.0, 1002.0, 1.0, 1.0, 1.0]), "scaling");
        assert_eq!(state(&[1.0, 1.0, -5000.0, 1.0]), "overloaded");
        assert_eq!(state(&[1.0, 1.0, -5000.0, 1.0, 1.0, 1.0]), "scaling", "and over");
        assert_eq!(state(&[-5000.0, -5000.0, -5000.0]), "unknown", "full or broken: who knows");
        let because = label(&judged(&[1.0, 2.0, 80.0]), &STATE, "because");
        assert_eq!(because, "connect-slow");
    }

    #[test]
    fn indicators_are_facts_each_by_itself() {
        let samples = judged(&[1.0, 1.0, 1.0, 1.0, 60.0]);
        let indicators = samples.iter().filter(|s| s.metric == CAPACITY_PRESSURE_INDICATORS);
        let holding: Vec<_> = indicators
            .filter(|sample| sample.value == Reading::Value(1.0))
            .map(|sample| sample.labels[0].1.as_str())
            .collect();
        assert_eq!(holding, ["connect-slow", "connect-above-10x-baseline"]);
    }

    #[test]
    fn a_lost_connect_has_no_latency_and_counts_as_an_error() {
        let samples = judged(&[1.0, -5000.0]);
        assert!(matches!(samples[0].value, Reading::Unavailable(_)), "{samples:?}");
        assert_eq!(samples[1].value, Reading::Value(0.5));
    }

    #[test]
    fn every_metric_is_declared_and_sampled() {
        let declared = Connector::META.metrics;
        let mut sampled = judged(&[1.0]);
        sampled.extend(blind("why"));
        for sample in &sampled {
            let meta = declared.iter().find(|meta| meta.id == sample.metric.as_str());
            assert_eq!(meta.map(|meta| meta.unit), Some(sample.unit.as_str()), "{sample:?}");
        }
        for meta in declared {
            let taken = sampled.iter().any(|sample| sample.metric.as_str() == meta.id);
            assert_eq!(taken, meta.no_source.is_none(), "{}", meta.id);
        }
    }
}
