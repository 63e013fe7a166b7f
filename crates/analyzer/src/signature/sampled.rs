//! What the samples of a monitor show.

use shakedown_core::monitor::Reading;
use shakedown_core::record::StampedSample;

use super::MetricTest;
use super::evaluate::{Answer, not_tested, seen};

/// So many of the run's first samples are what it began with.
const BASELINE: usize = 5;
/// A series about what nobody knows tests nothing.
const UNKNOWN: &str = "unknown";
/// The label that says why.
const BECAUSE: &str = "because";

/// Asks the samples of the metric.
pub(super) fn ask(test: &MetricTest, samples: &[StampedSample]) -> Answer {
    let mut values = Vec::new();
    let mut known = 0_usize;
    let mut why = "it was not sampled";
    for sample in samples.iter().map(|stamped| &stamped.sample) {
        if sample.metric.as_str() != test.id {
            continue;
        }
        let labelled = |with: &str| sample.labels.iter().any(|(_, value)| value == with);
        match &sample.value {
            Reading::Unavailable(reason) => why = reason,
            Reading::Value(_) if labelled(UNKNOWN) => {
                let because = sample.labels.iter().find(|(name, _)| name == BECAUSE);
                why = because.map_or("it was not known", |(_, why)| why);
            }
            Reading::Value(value) => {
                known += 1;
                if test.labels.is_empty() || test.labels.iter().any(|label| labelled(label)) {
                    values.push(*value);
                }
            }
        }
    }
    let id = &test.id;
    if known == 0 {
        return not_tested(format!("{id}: {why}"));
    }
    if let Some(times) = test.above_baseline {
        return median_above(test, times, &values);
    }
    let above = values.iter().filter(|value| test.above.is_none_or(|above| **value > above));
    let above = above.count();
    let is = above >= test.samples;
    if test.labels.is_empty() {
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        return seen(is, format!("{id} at most {most:.3}, above in {above} of {known} samples"));
    }
    seen(is, format!("{id} {} in {above} of {known} samples", test.labels.join(" or ")))
}

fn median_above(test: &MetricTest, times: f64, values: &[f64]) -> Answer {
    let id = &test.id;
    let Some((first, since)) =
        values.split_at_checked(BASELINE).filter(|(_, since)| since.len() >= BASELINE)
    else {
        return not_tested(format!("{id}: {} samples are too few for a median", values.len()));
    };
    let (began, then) = (median(first), median(since));
    let is = then > began * times && test.above.is_none_or(|above| then > above);
    seen(is, format!("{id} began at {began:.3} and was {then:.3} since, in the median"))
}

/// The middle one, the upper of two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    use shakedown_core::id::Metric;
    use shakedown_core::reproduction::FeatureState::{self, NotSeen, NotTested, Seen};
    use shakedown_core::{RunPhase, Sample};

    use super::*;

    const LATENCY: Metric = Metric::new("a.latency");

    fn stamped(samples: impl IntoIterator<Item = Sample>) -> Vec<StampedSample> {
        let stamp = |sample| StampedSample {
            sample,
            monitor: "a".into(),
            phase: Some(RunPhase::Database),
            probe: None,
        };
        samples.into_iter().map(stamp).collect()
    }

    fn test(text: &str) -> MetricTest {
        toml::from_str(text).expect(text)
    }

    fn state(text: &str, values: &[f64]) -> FeatureState {
        let samples = values.iter().map(|ms| Sample::measured(LATENCY, *ms, "ms"));
        ask(&test(text), &stamped(samples)).0
    }

    #[test]
    fn single_slow_answers_are_no_state() {
        let tenfold = "id = 'a.latency'\nabove = 50.0\nabove_baseline = 10.0";
        let busy = [1.9, 3.9, 1.8, 37.2, 9.3, 70.4, 16.7, 109.4, 36.9, 16.0, 264.2, 20.0];
        assert_eq!(state(tenfold, &busy), NotSeen);
        let lucky = [0.2, 0.2, 0.2, 0.3, 0.2, 3.0, 4.0, 3.0, 4.0, 5.0];
        assert_eq!(state(tenfold, &lucky), NotSeen, "ten times next to nothing");
        let slow = [1.9, 3.9, 1.8, 2.2, 2.3, 70.4, 66.7, 109.4, 4.0, 96.0, 264.2, 80.0];
        assert_eq!(state(tenfold, &slow), Seen);
        assert_eq!(state(tenfold, &slow[..7]), NotTested, "too few to tell");
    }

    #[test]
    fn a_state_is_asked_by_its_label_and_unknown_tests_nothing() {
        let pressure = test("id = 'a.state'\nlabels = ['pressure', 'full']\nsamples = 2");
        let said = |states: &[&str]| {
            let sample = |state: &&str| {
                Sample::measured(Metric::new("a.state"), 1.0, "state").label("state", *state)
            };
            ask(&pressure, &stamped(states.iter().map(sample))).0
        };
        assert_eq!(said(&["normal", "pressure", "full"]), Seen);
        assert_eq!(said(&["normal", "pressure", "normal"]), NotSeen);
        assert_eq!(said(&["unknown", "unknown"]), NotTested);
    }
}
