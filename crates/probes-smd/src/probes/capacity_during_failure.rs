//! Asks what the monitors saw while a start-up failed. Good: nothing they watch was at its limit then.
//!
//! **How.** The samples from `before` the failure until `after` it are set beside those of the rest of
//! the run: least and greatest value of each series, in and outside that window. A share is at its
//! limit above `share_limit`; a latency is when its greatest value in the window is more than
//! `latency_factor` times its median outside.
//!
//! **Verdicts.** *Fail*: something was at its limit. *Pass*: samples were taken in the window and
//! nothing was. *Skip*: no start-up failed, or the monitors were not running then.
//!
//! **Draws** one HTTP connection for the health endpoints, and `application.draws` while a process of
//! ours runs.
//!
//! **Configuration**: see [`CapacityDuringFailureConfig`].
//!
//! **Cannot tell** what is not sampled here: a metric without a source is named, never filled in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shakedown_core::clock::Timestamp;
use shakedown_core::monitor::{Reading, Recent};
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Sample, Setting,
    SkipReason, Span, async_trait,
};

use super::about::{about, meta, nothing_failed, which};
use crate::startup::{Observed, Start};

/// See the module.
#[derive(Debug)]
pub struct CapacityDuringFailure(CapacityDuringFailureConfig);

/// `[probes."smd.capacity-during-failure"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CapacityDuringFailureConfig {
    /// The window begins so long before the first sign of the failure. Default 90 s: a start-up's
    /// database phase and some more.
    pub before: Span,
    /// It ends so long after it. Default 30 s: three samples at the strategy's cadence.
    pub after: Span,
    /// A share above this is at its limit. Default 0.9, the strategy's alert threshold for the pool.
    pub share_limit: Setting<f64>,
    /// A latency above so many times its median is at its limit. Default 10, the strategy's latency
    /// while capacity is short.
    pub latency_factor: Setting<f64>,
}

impl Default for CapacityDuringFailureConfig {
    fn default() -> Self {
        Self {
            before: Span::secs(90),
            after: Span::secs(30),
            share_limit: Setting::assumed(0.9, "the strategy's alert threshold"),
            latency_factor: Setting::assumed(10.0, "the strategy's latency under pressure"),
        }
    }
}

impl ProbeSpec for CapacityDuringFailure {
    type Config = CapacityDuringFailureConfig;

    const META: ProbeMeta = ProbeMeta {
        aliases: &[
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_staging_infrastructure_capacity_monitoring",
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_staging_vpc_connector_pressure_measurement",
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_staging_cloud_sql_connection_patterns",
            "tests/e2e/test_issue_1278_staging_startup_failure_reproduction.py::StagingStartupFailureIssue1278E2ETests::test_vpc_connector_capacity_pressure_during_startup",
            "tests/e2e/test_issue_1278_staging_startup_failure_reproduction.py::StagingStartupFailureIssue1278E2ETests::test_cloud_sql_pool_exhaustion_during_startup",
            "tests/e2e/test_issue_1278_staging_startup_failure_reproduction.py::StagingStartupFailureIssue1278E2ETests::test_infrastructure_metrics_collection_during_failure",
            "tests/e2e/test_smd_phase3_timeout_staging_gcp.py::TestSMDPhase3TimeoutStagingGCP::test_infrastructure_monitoring_integration",
            "tests/e2e/test_smd_phase3_timeout_staging_gcp.py::TestSMDPhase3TimeoutStagingGCP::test_performance_metrics_collection_during_failure",
        ],
        ..meta(
            "smd.capacity-during-failure",
            "nothing the monitors watch is at its limit while a start-up fails",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(CapacityDuringFailure);

#[async_trait]
impl Probe for CapacityDuringFailure {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        about(ctx, |observed| judge(&self.0, observed, &Recent::of(ctx.shared()).samples())).await
    }
}

/// One series, in and outside the window.
#[derive(Debug, Default)]
struct Series {
    unit: String,
    inside: Vec<f64>,
    outside: Vec<f64>,
    unavailable: Option<String>,
}

impl Series {
    fn most(&self) -> Option<f64> {
        self.inside.iter().copied().reduce(f64::max)
    }

    fn usual(&self) -> Option<f64> {
        let mut outside = self.outside.clone();
        outside.sort_by(f64::total_cmp);
        outside.get(outside.len() / 2).copied()
    }
}

fn judge(config: &CapacityDuringFailureConfig, observed: &Observed, samples: &[Sample]) -> Outcome {
    let mut failed = observed.failed().rev().peekable();
    if failed.peek().is_none() {
        return nothing_failed(observed);
    }
    // The latest failure that was sampled; the ones before the run began were not.
    let sampled = failed.find_map(|start| {
        let series = series(config, start, samples);
        series.values().any(|series| !series.inside.is_empty()).then_some((start, series))
    });
    let Some((start, series)) = sampled else {
        let why = "the monitors took no sample around any of the failures that were seen";
        return Outcome::skip(SkipReason::Unavailable(why.into()));
    };
    let mut outcome = Outcome::pass().find(Finding::new(format!("looked at {}", which(start))));
    let mut missing = Vec::new();
    for (name, series) in &series {
        let Some(most) = series.most() else {
            missing.extend(series.unavailable.as_ref().map(|why| format!("{name} ({why})")));
            continue;
        };
        if let Some(over) = over(config, name, series, most) {
            outcome = outcome.failing(Finding::new(over));
        }
        let name = name.replace(['.', ' ', '{', '}', '='], "_");
        outcome = outcome.number(
            &format!("{}_max", name.trim_end_matches('_')),
            most,
            &series.unit,
            shakedown_core::Provenance::Measured,
            series.usual(),
        );
    }
    if !missing.is_empty() {
        let names = missing.join(", ");
        outcome = outcome.find(Finding::new(format!("without a value in that time: {names}")));
    }
    outcome
}

/// What is at its limit, if it is.
fn over(
    config: &CapacityDuringFailureConfig,
    name: &str,
    series: &Series,
    most: f64,
) -> Option<String> {
    if series.unit == "1" && most > config.share_limit.value {
        return Some(format!("{name} was at {:.0} % while it failed", most * 100.0));
    }
    let usual = series.usual().filter(|usual| *usual > 0.0)?;
    let factor = most / usual;
    (series.unit == "ms" && factor > config.latency_factor.value).then(|| {
        format!(
            "{name} was {most:.0} ms while it failed, {factor:.0} times its usual {usual:.0} ms"
        )
    })
}

/// The samples by series, in and outside the window around the failure of `start`.
fn series(
    config: &CapacityDuringFailureConfig,
    start: &Start,
    samples: &[Sample],
) -> BTreeMap<String, Series> {
    let Some(failed) = start.attempt.failed_at else { return BTreeMap::new() };
    let (from, to) = (failed - config.before.get(), failed + config.after.get());
    let within = |at: Timestamp| at >= from && at <= to;
    let mut all: BTreeMap<String, Series> = BTreeMap::new();
    for sample in samples {
        let labels = sample.labels.iter().map(|(name, value)| format!(" {name}={value}"));
        let name = format!("{}{}", sample.metric, labels.collect::<String>());
        let series = all.entry(name).or_default();
        series.unit.clone_from(&sample.unit);
        match &sample.value {
            Reading::Value(value) if within(sample.taken_at) => series.inside.push(*value),
            Reading::Value(value) => series.outside.push(*value),
            Reading::Unavailable(why) => series.unavailable = Some(why.clone()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use shakedown_core::id::Metric;

    use super::*;
    use crate::startup::testing::{HEALTHY, at, observed};

    const FAILURE: &[(i64, &str, &str)] = &[
        (0, "a", "PHASE TRANSITION -> DATABASE"),
        (10_000, "a", "PHASE FAILED: DATABASE - timeout"),
        (10_100, "a", "Container called exit(3)."),
    ];

    fn sample(metric: &'static str, ms: i64, value: f64, unit: &str) -> Sample {
        let mut sample = Sample::measured(Metric::new(metric), value, unit);
        sample.taken_at = at(ms);
        sample
    }

    #[track_caller]
    fn check(lines: &[(i64, &str, &str)], samples: &[Sample], verdict: &str, says: &str) {
        let config = CapacityDuringFailureConfig::default();
        let outcome = judge(&config, &observed("", lines), samples);
        let text = format!("{outcome:?}");
        assert_eq!(outcome.verdict.as_str(), verdict, "{text}");
        assert!(text.contains(says), "{text}");
    }

    #[test]
    fn what_was_at_its_limit_in_the_window_is_named() {
        let usual = |metric, unit| sample(metric, 400_000, 5.0, unit);
        let calm = sample("cloudsql.query_latency", 9_000, 6.0, "ms");
        let slow = sample("cloudsql.query_latency", 9_000, 80.0, "ms");
        let full = sample("cloudsql.connection_pool_utilization", 9_000, 0.96, "1");
        let latency = usual("cloudsql.query_latency", "ms");
        check(FAILURE, &[latency.clone(), calm.clone()], "pass", "cloudsql_query_latency_max");
        check(FAILURE, &[latency, slow], "fail", "80 ms while it failed, 16 times its usual 5 ms");
        check(FAILURE, &[full], "fail", "cloudsql.connection_pool_utilization was at 96 %");
        let none = Sample::unavailable(Metric::new("vpc.state"), "1", "no source");
        check(FAILURE, &[calm, none], "pass", "vpc.state (no source)");
    }

    #[test]
    fn without_a_sample_or_a_failure_there_is_no_verdict() {
        let late = sample("cloudsql.query_latency", 500_000, 6.0, "ms");
        check(FAILURE, &[late], "skip", "took no sample around");
        check(HEALTHY, &[], "skip", "no start-up failed");
    }
}
