//! The strategy's metric files: `[{timestamp, metrics, test_phase}]`.

use std::collections::{BTreeMap, BTreeSet};

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

/// A number, the facts that hold, or `{"unavailable": why}`.
enum Value<'r> {
    Number(f64),
    Facts(Vec<&'r str>),
    Unavailable(&'r str),
}

/// The unit of a metric that is a list of facts, one series each, 1 where the fact holds.
const FACTS: &str = "facts";
/// The label that names the fact.
const FACT: &str = "fact";

impl Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => number.serialize(serializer),
            Self::Facts(facts) => facts.serialize(serializer),
            Self::Unavailable(why) => BTreeMap::from([("unavailable", why)]).serialize(serializer),
        }
    }
}

/// The samples of the metrics that begin with `domain` and a dot, as the strategy's JSON array. The
/// names are what stands after the dot, with the labels where there are any; a metric of facts is the
/// list of those that hold. One element holds what one call of a monitor yielded.
pub fn strategy_metrics(record: &CleanRecord, domain: &str) -> String {
    let mut moments: Vec<Moment<'_>> = Vec::new();
    // Per monitor, the moment its latest samples went into, and their series.
    let mut open: BTreeMap<&str, (usize, BTreeSet<String>)> = BTreeMap::new();
    let within = |name: &str| Some(name.strip_prefix(domain)?.strip_prefix('.')?.to_owned());
    for stamped in &record.samples {
        let (sample, series) = (&stamped.sample, series_name(stamped));
        let fact = sample.labels.iter().find(|(label, _)| sample.unit == FACTS && label == FACT);
        let name = if fact.is_some() { sample.metric.as_str() } else { series.as_str() };
        let Some(name) = within(name) else { continue };
        let phase = stamped.phase.map(u8::from);
        let same = |(index, seen): &&mut (usize, BTreeSet<String>)| {
            moments[*index].test_phase == phase && !seen.contains(&series)
        };
        let index = match open.get_mut(stamped.monitor.as_str()).filter(same) {
            Some((index, seen)) => {
                seen.insert(series);
                *index
            }
            None => {
                moments.push(Moment {
                    timestamp: seconds(sample.taken_at.as_millisecond()),
                    metrics: BTreeMap::new(),
                    provenance: BTreeMap::new(),
                    test_phase: phase,
                });
                let index = moments.len() - 1;
                open.insert(&stamped.monitor, (index, BTreeSet::from([series])));
                index
            }
        };
        if let Reading::Value(_) = sample.value {
            moments[index].provenance.insert(name.clone(), sample.provenance);
        }
        let of = moments[index].metrics.entry(name);
        match (&sample.value, fact) {
            (Reading::Value(value), Some((_, fact))) => {
                if let Value::Facts(facts) = of.or_insert_with(|| Value::Facts(Vec::new())) {
                    facts.extend((*value > 0.0).then_some(fact.as_str()));
                }
            }
            (Reading::Value(value), None) => _ = of.or_insert(Value::Number(*value)),
            (Reading::Unavailable(why), _) => _ = of.or_insert(Value::Unavailable(why)),
        }
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
