//! The strategy's metric files: `[{timestamp, metrics, test_phase}]`.

use std::collections::BTreeMap;

use serde::Serialize;
use shakedown_core::monitor::Reading;
use shakedown_core::units::Provenance;

use crate::clean::CleanRecord;
use crate::stats::{StagedStats, series_name, staged_stats};

/// One moment.
#[derive(Serialize)]
struct Moment<'r> {
    /// Seconds since 1970, UTC, as the strategy's `time.time()`.
    timestamp: f64,
    /// The value, or why there is none, by name.
    metrics: BTreeMap<String, Value<'r>>,
    /// Where each value came from; not in the strategy, but no number stands without it.
    provenance: BTreeMap<String, Provenance>,
    /// The run phase; `null` before, between and after the phases.
    test_phase: Option<u8>,
}

/// A number, or `{"unavailable": why}`.
enum Value<'r> {
    Number(f64),
    Unavailable(&'r str),
}

impl Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Unavailable(why) => BTreeMap::from([("unavailable", why)]).serialize(serializer),
        }
    }
}

/// The samples of the metrics that begin with `domain` and a dot, as the strategy's JSON array. The
/// names are what stands after the dot, with the labels where there are any. One element holds what
/// one call of a monitor yielded.
pub fn strategy_metrics(record: &CleanRecord, domain: &str) -> String {
    let mut moments: Vec<Moment<'_>> = Vec::new();
    // Per monitor, the moment its latest samples went into.
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for stamped in &record.samples {
        let name = series_name(stamped);
        let Some(name) = name.strip_prefix(domain).and_then(|name| name.strip_prefix('.')) else {
            continue;
        };
        let phase = stamped.phase.map(u8::from);
        let index = open.get(stamped.monitor.as_str()).copied().filter(|&index: &usize| {
            moments[index].test_phase == phase && !moments[index].metrics.contains_key(name)
        });
        let index = index.unwrap_or_else(|| {
            moments.push(Moment {
                timestamp: seconds(stamped.sample.taken_at.as_millisecond()),
                metrics: BTreeMap::new(),
                provenance: BTreeMap::new(),
                test_phase: phase,
            });
            moments.len() - 1
        });
        open.insert(&stamped.monitor, index);
        let value = match &stamped.sample.value {
            Reading::Value(value) => Value::Number(*value),
            Reading::Unavailable(why) => Value::Unavailable(why),
        };
        moments[index].metrics.insert(name.to_owned(), value);
        moments[index].provenance.insert(name.to_owned(), stamped.sample.provenance);
    }
    moments.sort_by(|a, b| a.timestamp.total_cmp(&b.timestamp));
    let mut text = serde_json::to_string_pretty(&moments)
        .expect("numbers and strings of a record that has been through JSON already");
    text.push('\n');
    text
}

/// Every metric summed up over the whole run and over its stages, as one JSON document, schema
/// `shakedown.metrics/1`: `{schema, series: [{whole, stages: [[stage, stats]]}]}`, stats being name,
/// unit, provenance, count, unavailable, gaps, last_reason and spread (min, median, p95, max).
pub fn metric_summaries(record: &CleanRecord) -> String {
    #[derive(Serialize)]
    struct Summaries {
        schema: &'static str,
        series: Vec<StagedStats>,
    }
    let summaries = Summaries { schema: "shakedown.metrics/1", series: staged_stats(record) };
    let mut text = serde_json::to_string_pretty(&summaries)
        .expect("numbers and strings of a record that has been through JSON already");
    text.push('\n');
    text
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 stay below 2^53")]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1e3
}
