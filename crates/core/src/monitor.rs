//! Monitors: what is sampled beside the probes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::budget::Draw;
use crate::clock::Timestamp;
use crate::context::{ProbeCtx, Shared};
use crate::id::Metric;
use crate::units::Provenance;

/// The static description of one metric.
#[derive(Clone, Debug)]
pub struct MetricMeta {
    /// `domain.name`.
    pub id: &'static str,
    /// The name the strategy gives it, when it has one.
    pub strategy_name: Option<&'static str>,
    /// What exactly is counted or measured.
    pub definition: &'static str,
    /// The unit of its values.
    pub unit: &'static str,
    /// Why the monitor can never give a value here, when that is so: the metric is known, its source
    /// is missing. A guard on it is not armed.
    pub no_source: Option<&'static str>,
}

/// The static description of a monitor.
#[derive(Clone, Debug)]
pub struct MonitorMeta {
    /// `domain.name`.
    pub id: &'static str,
    /// One line about what it watches.
    pub summary: &'static str,
    /// What it takes from the shared budget, held for the whole run.
    pub draws: &'static [Draw],
    /// Every metric it may yield.
    pub metrics: &'static [MetricMeta],
    /// The metrics' own period, when the source has one that is longer than our cadence.
    pub period: Duration,
    /// How much later than taken a value becomes visible, as the source declares it.
    pub delay: Duration,
}

/// One value of one metric at one moment, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The metric.
    pub metric: Metric,
    /// What distinguishes series of one metric, for example `("state", "idle")`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// The unit of `value`.
    pub unit: String,
    /// The value, or the reason it could not be taken. Never zero for "unknown".
    pub value: Reading,
    /// When the source took it.
    pub taken_at: Timestamp,
    /// When it could be read.
    pub visible_at: Timestamp,
    /// Where it came from.
    pub provenance: Provenance,
}

impl Sample {
    /// A value we measured ourselves just now.
    pub fn measured(metric: Metric, value: f64, unit: &str) -> Self {
        Self::now(metric, Reading::Value(value), unit)
    }

    /// A value that could not be taken just now.
    pub fn unavailable(metric: Metric, unit: &str, why: impl Into<String>) -> Self {
        Self::now(metric, Reading::Unavailable(why.into()), unit)
    }

    fn now(metric: Metric, value: Reading, unit: &str) -> Self {
        let now = crate::clock::wall();
        Self {
            metric,
            labels: Vec::new(),
            unit: unit.to_owned(),
            value,
            taken_at: now,
            visible_at: now,
            provenance: Provenance::Measured,
        }
    }

    /// With one more label.
    #[must_use]
    pub fn label(mut self, name: &str, value: impl Into<String>) -> Self {
        self.labels.push((name.to_owned(), value.into()));
        self
    }
}

/// A value or the reason there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// The value.
    Value(f64),
    /// Why it could not be taken.
    Unavailable(String),
}

/// The most samples that [`Recent`] keeps: half an hour of a few dozen series every 10 s.
const RECENT: usize = 10_000;

/// What the monitors of the run saw lately, for probes that ask about it. The runner writes it.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Sample>>);

impl Recent {
    /// The run's.
    pub fn of(shared: &Shared) -> Arc<Self> {
        match shared.get_or_try_init(|| Ok::<_, Infallible>(Self::default())) {
            Ok(recent) => recent,
            Err(never) => match never {},
        }
    }

    /// Adds what was sampled; the oldest goes when there is too much.
    pub fn push(&self, samples: impl IntoIterator<Item = Sample>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(samples);
        let surplus = kept.len().saturating_sub(RECENT);
        kept.drain(..surplus);
    }

    /// What is there, in the order it came.
    pub fn samples(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Something sampled at the runner's cadence for the whole run.
///
/// The runner calls `sample` at its cadence, never twice at once, and stamps what it returns with
/// the run phase and the running probe. Keep connections between calls inside `self` (a mutex over
/// an option): the monitor's connection is opened at the gate and kept, so that it still sees when
/// logins are refused.
#[async_trait]
pub trait Monitor: Send + Sync + Debug + 'static {
    /// The static description.
    fn meta(&self) -> &'static MonitorMeta;

    /// Takes one sample of every metric.
    ///
    /// # Errors
    ///
    /// [`MonitorError`] when nothing at all could be sampled; a single metric that could not is an
    /// unavailable [`Sample`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any await; the next call must then work, if need be over a new connection.
    async fn sample(&self, ctx: &ProbeCtx) -> Result<Vec<Sample>, MonitorError>;

    /// Closes what is kept between calls. Called once, at the end of the run.
    async fn close(&self) {}
}

/// How to build a monitor; the mirror of [`ProbeSpec`](crate::ProbeSpec).
pub trait MonitorSpec: Monitor + Sized {
    /// The table `[monitors."<id>"]`.
    type Config: Serialize + DeserializeOwned + Default;

    /// The static description.
    const META: MonitorMeta;

    /// Builds the monitor. Infallible, without I/O.
    fn from_config(config: Self::Config) -> Self;
}

/// Why a whole sample could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct MonitorError {
    /// What was being done.
    pub what: String,
    /// Why it failed.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl MonitorError {
    /// Nothing could be sampled because of `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }
}
