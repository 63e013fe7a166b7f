//! The monitors' samples in a few numbers per series.

use std::collections::BTreeMap;

use shakedown_core::monitor::Reading;
use shakedown_core::record::{RunRecord, StampedSample};
use shakedown_core::units::Provenance;

/// One series of a metric over a run.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesStats {
    /// The metric, with its labels: `cloudsql.connections{state=idle}`.
    pub name: String,
    /// The unit of the values.
    pub unit: String,
    /// Where the values came from.
    pub provenance: Provenance,
    /// How many values there are.
    pub count: usize,
    /// How many times the value was unavailable.
    pub unavailable: usize,
    /// Why it was unavailable the last time.
    pub last_reason: Option<String>,
    /// Smallest, median, 95th percentile and largest value; `None` without any.
    pub spread: Option<Spread>,
}

/// How values lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one; of an even number the lower.
    pub median: f64,
    /// The smallest that 95 % do not exceed.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

/// Every series of `record`, by name.
pub fn series_stats(record: &RunRecord) -> Vec<SeriesStats> {
    series(record).into_iter().map(|(name, samples)| stats(name, &samples)).collect()
}

/// The samples of every series, by name, in the order they were taken.
pub(crate) fn series(record: &RunRecord) -> BTreeMap<String, Vec<&StampedSample>> {
    let mut series: BTreeMap<String, Vec<&StampedSample>> = BTreeMap::new();
    for sample in &record.samples {
        series.entry(series_name(sample)).or_default().push(sample);
    }
    for samples in series.values_mut() {
        samples.sort_by_key(|stamped| stamped.sample.taken_at);
    }
    series
}

/// The metric with its labels.
pub(crate) fn series_name(stamped: &StampedSample) -> String {
    let metric = stamped.sample.metric.as_str();
    if stamped.sample.labels.is_empty() {
        return metric.to_owned();
    }
    let labels: Vec<_> =
        stamped.sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{metric}{{{}}}", labels.join(","))
}

/// One series in a few numbers.
pub(crate) fn stats(name: String, samples: &[&StampedSample]) -> SeriesStats {
    let mut values = Vec::new();
    let mut last_reason = None;
    for stamped in samples {
        match &stamped.sample.value {
            Reading::Value(value) => values.push(*value),
            Reading::Unavailable(why) => last_reason = Some(why.clone()),
        }
    }
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
    let spread = (!values.is_empty()).then(|| Spread {
        min: at(0),
        median: at(50),
        p95: at(95),
        max: at(100),
    });
    let last = samples.last().map(|stamped| &stamped.sample);
    SeriesStats {
        name,
        unit: last.map(|sample| sample.unit.clone()).unwrap_or_default(),
        provenance: last.map_or(Provenance::Measured, |sample| sample.provenance),
        count: values.len(),
        unavailable: samples.len() - values.len(),
        last_reason,
        spread,
    }
}
