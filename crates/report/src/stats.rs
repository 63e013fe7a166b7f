//! The monitors' samples in a few numbers per series.

use std::collections::BTreeMap;

use serde::Serialize;
use shakedown_core::monitor::Reading;
use shakedown_core::record::{RunRecord, StampedSample};
use shakedown_core::units::Provenance;

/// One series of a metric over a run, or over one stage of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// How many stretches had no value: unavailable in a row, or a pause between two samples of more
    /// than twice the usual one (the median).
    pub gaps: usize,
    /// Why it was unavailable the last time.
    pub last_reason: Option<String>,
    /// Smallest, median, 95th percentile and largest value; `None` without any.
    pub spread: Option<Spread>,
}

/// How values lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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

/// A series over the stages of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StagedStats {
    /// Over the whole run.
    pub whole: SeriesStats,
    /// `before` the first phase, `phase 1` .. `phase 4`, `between` phases, `after` the last one; only
    /// those with samples, in the order in which they began.
    pub stages: Vec<(String, SeriesStats)>,
}

/// Every series of `record`, by name, summed up before, in each phase, between and after them.
pub fn staged_stats(record: &RunRecord) -> Vec<StagedStats> {
    let mut phases = record.samples.iter().map(|stamped| stamped.phase.is_some());
    let first = phases.clone().position(|in_phase| in_phase);
    let last = phases.rposition(|in_phase| in_phase);
    let mut staged: BTreeMap<String, Vec<(String, Vec<&StampedSample>)>> = BTreeMap::new();
    for (index, stamped) in record.samples.iter().enumerate() {
        let stage = match stamped.phase {
            Some(phase) => phase.to_string(),
            None if first.is_none_or(|first| index < first) => "before".to_owned(),
            None if last.is_some_and(|last| index > last) => "after".to_owned(),
            None => "between".to_owned(),
        };
        let stages = staged.entry(series_name(stamped)).or_default();
        match stages.iter_mut().find(|(known, _)| *known == stage) {
            Some((_, of_stage)) => of_stage.push(stamped),
            None => stages.push((stage, vec![stamped])),
        }
    }
    let sum_up = |(name, stages): (String, Vec<(String, Vec<&StampedSample>)>)| {
        let all: Vec<_> = stages.iter().flat_map(|(_, samples)| samples.iter().copied()).collect();
        let of = |(stage, samples): (String, Vec<&StampedSample>)| {
            (stage, stats(name.clone(), &samples))
        };
        let whole = stats(name.clone(), &all);
        StagedStats { whole, stages: stages.into_iter().map(of).collect() }
    };
    staged.into_iter().map(sum_up).collect()
}

/// Stretches without a value, by when the samples could be read.
fn gaps(samples: &[&StampedSample]) -> usize {
    let mut samples: Vec<_> = samples.iter().map(|stamped| &stamped.sample).collect();
    samples.sort_by_key(|sample| sample.visible_at);
    let missing = |index: usize| matches!(samples[index].value, Reading::Unavailable(_));
    let starts = |index: &usize| missing(*index) && (*index == 0 || !missing(index - 1));
    let unavailable = (0..samples.len()).filter(starts).count();
    let at = |index: usize| samples[index].visible_at.as_millisecond();
    let mut pauses: Vec<i64> = (1..samples.len()).map(|index| at(index) - at(index - 1)).collect();
    pauses.sort_unstable();
    // With fewer there is no usual pause.
    if pauses.len() < 3 {
        return unavailable;
    }
    let usual = pauses[(pauses.len() - 1) / 2].max(1);
    unavailable + pauses.iter().filter(|pause| **pause > 2 * usual).count()
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
        gaps: gaps(samples),
        last_reason,
        spread,
    }
}
