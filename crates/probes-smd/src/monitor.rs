//! The monitor of the application: what a start-up took, what the process holds.
//!
//! Memory and threads are those of the process we started, while it runs, else those the service
//! publishes at `metrics_path`, else the most that the process we started had held. The times are those of the latest start-up that was seen; they are
//! given again at every sample with the time they were taken at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::clock;
use shakedown_core::id::{Metric, resource};
use shakedown_core::monitor::{MetricMeta, Reading};
use shakedown_core::{
    Monitor, MonitorError, MonitorMeta, MonitorSpec, ProbeCtx, Provenance, Sample, async_trait,
};
use shakedown_wire::http::{self, Request};

use crate::application::Application;
use crate::startup::{Held, Observed, Origin, Start, Startups, way_out_s};

/// How long each start-up phase took.
pub const PHASE_TIMING: Metric = Metric::new("smd.smd_phase_timing");
/// How long the whole start-up took.
pub const STARTUP_DURATION: Metric = Metric::new("smd.startup_sequence_duration");
/// From the first sign of a failure to the exit.
pub const ERROR_PROPAGATION: Metric = Metric::new("smd.error_propagation_timing");
/// From a failure or from our ending it until nothing of the process was left.
pub const CLEANUP_DURATION: Metric = Metric::new("smd.resource_cleanup_duration");
/// Resident memory.
pub const MEMORY: Metric = Metric::new("smd.memory_usage_patterns");
/// Threads.
pub const THREADS: Metric = Metric::new("smd.thread_pool_utilization");

const NONE_SEEN: &str = "no start-up observed yet: set [application] command or logs";
const NO_PROCESS: &str = "a container's own figures need a process we started ([application] \
                          command) or a metrics_path that answers";

/// See the module.
#[derive(Debug)]
pub struct ApplicationMonitor {
    config: ApplicationMonitorConfig,
    /// Whether the metrics endpoint did not answer as one; it is not asked again then.
    silent: AtomicBool,
}

/// `[monitors."smd.application"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ApplicationMonitorConfig {
    /// Where the service publishes metrics in Prometheus' text form, for example `/metrics`. Default
    /// empty: it is not asked, because few services publish them to strangers. The process we started
    /// is asked there as well.
    pub metrics_path: String,
    /// The series that is its resident memory, in bytes. Default Prometheus' own name.
    pub memory_series: String,
    /// The series that is its threads. Default that of Prometheus' clients that have one.
    pub threads_series: String,
}

impl Default for ApplicationMonitorConfig {
    fn default() -> Self {
        Self {
            metrics_path: String::new(),
            memory_series: "process_resident_memory_bytes".into(),
            threads_series: "process_threads".into(),
        }
    }
}

const fn metric(
    id: &'static str,
    strategy_name: &'static str,
    unit: &'static str,
    definition: &'static str,
) -> MetricMeta {
    MetricMeta { id, strategy_name: Some(strategy_name), definition, unit, no_source: None }
}

impl MonitorSpec for ApplicationMonitor {
    type Config = ApplicationMonitorConfig;

    const META: MonitorMeta = MonitorMeta {
        id: "smd.application",
        summary: "the application's start-up times, and memory and threads of its process",
        draws: &[Draw::new(resource::HTTP_CONNECTION, 1)],
        metrics: &[
            metric(
                "smd.smd_phase_timing",
                "smd_phase_timing",
                "s",
                "duration of each phase of the latest start-up seen, between its marker lines",
            ),
            metric(
                "smd.startup_sequence_duration",
                "startup_sequence_duration",
                "s",
                "from the first sign of the latest start-up seen to its completion or failure",
            ),
            metric(
                "smd.error_propagation_timing",
                "error_propagation_timing",
                "s",
                "from the first sign of the latest failed start-up to the exit of its process",
            ),
            metric(
                "smd.resource_cleanup_duration",
                "resource_cleanup_duration",
                "s",
                "from the failure, or from our ending it, until no process, socket or session of the \
                 started process was left",
            ),
            metric(
                "smd.memory_usage_patterns",
                "memory_usage_patterns",
                "bytes",
                "resident memory of the started process and its children, once it is over the most it held; \
                 else the service's own figure",
            ),
            metric(
                "smd.thread_pool_utilization",
                "thread_pool_utilization",
                "1",
                "threads of the started process and its children, once it is over the most it had; else \
                 the service's own figure; how many tasks wait for one is not published",
            ),
        ],
        period: Duration::ZERO,
        delay: Duration::ZERO,
    };

    fn from_config(config: Self::Config) -> Self {
        Self { config, silent: AtomicBool::new(false) }
    }
}

#[cfg(feature = "register")]
shakedown_core::register_monitor!(ApplicationMonitor);

#[async_trait]
impl Monitor for ApplicationMonitor {
    fn meta(&self) -> &'static MonitorMeta {
        &Self::META
    }

    async fn sample(&self, ctx: &ProbeCtx) -> Result<Vec<Sample>, MonitorError> {
        let startups = Startups::of(ctx);
        let observed = startups.last();
        let mut samples = times(observed.as_deref());
        let running = startups.running.get();
        let held = running.and_then(|(group, _)| group.held()).filter(|held| held.processes > 0);
        if let Some(held) = held {
            samples.extend(figures(held));
            return Ok(samples);
        }
        let mut published = self.published(ctx).await;
        // A start-up may be over between two samples: the most that it held is known all the same.
        let process = observed.as_ref().and_then(|observed| observed.process.as_ref());
        if let Some(peak) = process.and_then(|process| process.peak)
            && published.iter().all(|sample| matches!(sample.value, Reading::Unavailable(_)))
        {
            published = figures(peak);
        }
        samples.extend(published);
        Ok(samples)
    }
}

impl ApplicationMonitor {
    /// What the service publishes of itself.
    async fn published(&self, ctx: &ProbeCtx) -> [Sample; 2] {
        let none = |why: &str| {
            [Sample::unavailable(MEMORY, "bytes", why), Sample::unavailable(THREADS, "1", why)]
        };
        if self.config.metrics_path.is_empty() || self.silent.load(Ordering::Relaxed) {
            return none(NO_PROCESS);
        }
        let Ok(section) = ctx.section::<Application>() else { return none(NO_PROCESS) };
        let Some(service) = ctx.environment().services.get(&section.service) else {
            return none("the service is not in [services]");
        };
        let Ok(lease) = ctx.lease(&resource::HTTP_CONNECTION).await else {
            return none("no HTTP connection is left in the budget");
        };
        let url = format!("{}{}", service.url.trim_end_matches('/'), self.config.metrics_path);
        match http::send(ctx, lease, &Request::get(url)).await.result {
            Ok(answer) if answer.is_success() => {
                let text = String::from_utf8_lossy(&answer.body);
                let sample = |metric: Metric, unit: &str, series: &str| match sum(&text, series) {
                    Some(value) => Sample {
                        provenance: Provenance::Quoted,
                        ..Sample::measured(metric, value, unit)
                    },
                    None => {
                        let why = format!("the service publishes no series {series}");
                        Sample::unavailable(metric, unit, why)
                    }
                };
                [
                    sample(MEMORY, "bytes", &self.config.memory_series),
                    sample(THREADS, "1", &self.config.threads_series),
                ]
            }
            Ok(answer) => {
                // A service without metrics does not get any while we look.
                self.silent.store(answer.status == 404, Ordering::Relaxed);
                none(&format!("its metrics_path answers {}", answer.status))
            }
            Err(fault) => none(&fault.to_string()),
        }
    }
}

/// What the processes of a start-up hold.
fn figures(held: Held) -> [Sample; 2] {
    #[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
    let bytes = held.resident_bytes as f64;
    [
        Sample::measured(MEMORY, bytes, "bytes"),
        Sample::measured(THREADS, f64::from(held.threads), "1"),
    ]
}

/// A series of Prometheus' text form, summed over its labels.
fn sum(text: &str, series: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(series)?;
        let rest = match rest.as_bytes().first()? {
            b'{' => rest.rsplit_once('}')?.1,
            b' ' | b'\t' => rest,
            _ => return None,
        };
        rest.split_whitespace().next()?.parse::<f64>().ok()
    });
    values.filter(|value| value.is_finite()).reduce(|all, value| all + value)
}

/// The times of the latest start-ups.
fn times(observed: Option<&Observed>) -> Vec<Sample> {
    let latest = observed.and_then(Observed::latest);
    let failed = observed.and_then(|observed| observed.failed().next_back());
    let mut samples: Vec<Sample> = Vec::new();
    let phases = latest.map(|start| &start.attempt.phases).into_iter().flatten();
    for (phase, seconds) in phases.filter_map(|phase| Some((&phase.phase, phase.seconds?))) {
        let start = latest.expect("the phases are its own");
        samples.push(of(start, PHASE_TIMING, seconds).label("phase", phase.clone()));
    }
    if samples.is_empty() {
        let why = if latest.is_some() { "the start-up names no phase" } else { NONE_SEEN };
        samples.push(Sample::unavailable(PHASE_TIMING, "s", why));
    }
    let took = latest.and_then(|start| Some((start, start.took_s()?)));
    samples.push(or(STARTUP_DURATION, took, NONE_SEEN));
    let way = failed.and_then(|start| Some((start, way_out_s(start)?)));
    let why = if failed.is_some() {
        "no exit of the failed start-up is held"
    } else {
        "no start-up failed"
    };
    samples.push(or(ERROR_PROPAGATION, way, why));
    let process = observed.and_then(|observed| observed.process.as_ref());
    samples.push(match process.map(|process| process.gone_after_s) {
        Some(Some(gone)) => Sample::measured(CLEANUP_DURATION, gone, "s"),
        Some(None) => Sample::unavailable(CLEANUP_DURATION, "s", "something of the process stayed"),
        None => Sample::unavailable(CLEANUP_DURATION, "s", "no process of ours has ended yet"),
    });
    samples
}

fn or(metric: Metric, value: Option<(&Start, f64)>, why: &str) -> Sample {
    match value {
        Some((start, value)) => of(start, metric, value),
        None => Sample::unavailable(metric, "s", why),
    }
}

/// A value of a start-up, taken when it ended.
fn of(start: &Start, metric: Metric, value: f64) -> Sample {
    let provenance = match start.origin {
        Origin::Process => Provenance::Measured,
        Origin::Logs => Provenance::Quoted,
    };
    let taken_at = start.attempt.ended.unwrap_or_else(clock::wall);
    Sample { taken_at, provenance, ..Sample::measured(metric, value, "s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::testing::{HEALTHY, observed};

    fn reading<'a>(samples: &'a [Sample], metric: &Metric, label: &str) -> &'a Reading {
        let sample = samples.iter().find(|sample| {
            sample.metric == *metric && sample.labels.iter().all(|(_, value)| value == label)
        });
        &sample.unwrap_or_else(|| panic!("{metric} {label}: {samples:?}")).value
    }

    #[test]
    fn every_metric_is_sampled_or_says_why_not() {
        let samples = times(None);
        for metric in [PHASE_TIMING, STARTUP_DURATION, ERROR_PROPAGATION, CLEANUP_DURATION] {
            assert!(matches!(reading(&samples, &metric, ""), Reading::Unavailable(_)), "{metric}");
        }
        let samples = times(Some(&observed("", HEALTHY)));
        assert_eq!(*reading(&samples, &PHASE_TIMING, "DATABASE"), Reading::Value(0.5));
        assert_eq!(*reading(&samples, &STARTUP_DURATION, ""), Reading::Value(0.99));
        let provenance = samples.iter().map(|sample| sample.provenance);
        assert!(provenance.take(2).all(|from| from == Provenance::Quoted), "a log's own times");
    }

    #[test]
    fn a_failure_is_timed_to_its_exit() {
        let lines = [
            (0, "a", "PHASE TRANSITION -> DATABASE"),
            (1_000, "a", "PHASE FAILED: DATABASE - no"),
            (1_250, "a", "Container called exit(3)."),
        ];
        let samples = times(Some(&observed("", &lines)));
        assert_eq!(*reading(&samples, &ERROR_PROPAGATION, ""), Reading::Value(0.25));
    }

    #[test]
    fn a_series_is_summed_over_its_labels() {
        let text = "# HELP x y\nprocess_resident_memory_bytes 1.5e6\nprocess_threads{pool=\"a\"} 3\n\
                    process_threads{pool=\"b}\"} 4 1700000000\nprocess_threads_max 99\n";
        assert_eq!(sum(text, "process_resident_memory_bytes"), Some(1.5e6));
        assert_eq!(sum(text, "process_threads"), Some(7.0));
        assert_eq!(sum(text, "go_threads"), None);
    }
}
