//! Saved answers of Cloud Monitoring (`timeSeries.list`): figures, where logs have words.

use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use shakedown_core::evidence::{Body, ClockSource, Moment, Observation, Subject};
use shakedown_core::id::Metric;
use shakedown_core::monitor::{Reading, Sample};
use shakedown_core::{Provenance, Vantage};

/// The longest document that is read, in bytes: an hour of a dozen metrics has far less.
const LONGEST: u64 = 64 << 20;
/// As much as is looked at to recognise one.
const HEAD: u64 = 4096;

/// Why a document of figures could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesError {
    /// It cannot be read.
    #[error("cannot read {name}")]
    Io {
        /// The file.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no answer of Cloud Monitoring after all.
    #[error("{name} is no list of time series")]
    Shape {
        /// The file.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// Whether a file seems to hold time series rather than log entries.
pub(crate) fn recognise(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    let has = |word: &[u8]| memchr::memmem::find(&head, word).is_some();
    read.is_ok() && has(b"\"metric\"") && (has(b"\"timeSeries\"") || has(b"\"points\""))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    time_series: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: Described,
    #[serde(default)]
    resource: Described,
    #[serde(default)]
    unit: String,
    #[serde(default)]
    points: Vec<Point>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Described {
    r#type: String,
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Point {
    interval: Interval,
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interval {
    end_time: Timestamp,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Value {
    double_value: Option<f64>,
    /// An integer, as text.
    int64_value: Option<String>,
    distribution_value: Option<Distribution>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Distribution {
    mean: Option<f64>,
}

impl Value {
    fn number(&self) -> Option<f64> {
        let integer = || self.int64_value.as_ref()?.parse().ok();
        let mean = || self.distribution_value.as_ref()?.mean;
        self.double_value.or_else(integer).or_else(mean)
    }
}

/// The points of a document as samples: Google's figures, at the end of their intervals.
///
/// # Errors
///
/// [`SeriesError`].
pub(crate) fn read(path: &Path) -> Result<(u64, Vec<Observation>), SeriesError> {
    let name = || path.display().to_string();
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        .map_err(|source| SeriesError::Io { name: name(), source })?;
    let shape = |source| SeriesError::Shape { name: name(), source };
    let series = match text.trim_start().starts_with('[') {
        true => serde_json::from_str::<Vec<Series>>(&text).map_err(shape)?,
        false => serde_json::from_str::<Answer>(&text).map_err(shape)?.time_series,
    };
    Ok((text.len() as u64, series.iter().flat_map(samples).collect()))
}

fn samples(series: &Series) -> impl Iterator<Item = Observation> {
    let labels: Vec<(String, String)> = series
        .resource
        .labels
        .iter()
        .chain(&series.metric.labels)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    series.points.iter().filter_map(move |point| {
        let at = point.interval.end_time;
        let sample = Sample {
            metric: Metric::from(series.metric.r#type.clone()),
            labels: labels.clone(),
            unit: series.unit.clone(),
            value: Reading::Value(point.value.number()?),
            taken_at: at,
            visible_at: at,
            provenance: Provenance::GoogleApi,
        };
        Some(Observation {
            moment: Moment { at, clock: ClockSource::Google, resolution_ms: 60_000, skew_ms: 500 },
            subject: Subject::default(),
            vantage: Vantage::Unknown,
            provenance: Provenance::GoogleApi,
            body: Body::Sample(sample),
        })
    })
}
