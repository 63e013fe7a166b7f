//! What the samples of a monitor show.

use std::time::Duration;

use jiff::Timestamp;
use shakedown_core::monitor::Reading;
use shakedown_core::record::StampedSample;

use super::evaluate::{Answer, not_tested, seen};
use super::{During, MetricTest};

/// So many of the run's first samples are what it began with.
const BASELINE: usize = 5;
/// A series about what nobody knows tests nothing.
const UNKNOWN: &str = "unknown";
/// The label that says why.
const BECAUSE: &str = "because";

/// What one sample says.
struct Point {
    at: Timestamp,
    value: f64,
    /// It is of a series the test is about.
    picked: bool,
}

/// Asks the samples of the metric.
pub(super) fn ask(test: &MetricTest, samples: &[StampedSample]) -> Answer {
    let id = &test.id;
    let points = match points(id, &test.labels, samples) {
        Ok(points) => points,
        Err(why) => return not_tested(why),
    };
    if let Some([least, most]) = test.lasts {
        return lasted(test, &episodes(test, &points), least.get(), most.get());
    }
    if let Some(apart) = test.apart {
        return began_apart(test, &episodes(test, &points), apart.get());
    }
    let picked = points.iter().filter(|point| point.picked);
    if let Some(bounds) = test.between {
        let picked: Vec<&Point> = picked.collect();
        return median_between(test, bounds, &picked, samples);
    }
    let values: Vec<f64> = picked.map(|point| point.value).collect();
    if let Some(times) = test.above_baseline {
        return median_above(test, times, &values);
    }
    let known = points.len();
    let above = points.iter().filter(|point| test.meets(point)).count();
    let is = above >= test.samples;
    if test.labels.is_empty() {
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        return seen(is, format!("{id} at most {most:.3}, above in {above} of {known} samples"));
    }
    seen(is, format!("{id} {} in {above} of {known} samples", test.labels.join(" or ")))
}

/// What is known of the metric, in order of time; else why nothing is.
fn points(id: &str, labels: &[String], samples: &[StampedSample]) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    let mut why = "it was not sampled";
    for sample in samples.iter().map(|stamped| &stamped.sample) {
        if sample.metric.as_str() != id {
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
                let picked = labels.is_empty() || labels.iter().any(|label| labelled(label));
                points.push(Point { at: sample.taken_at, value: *value, picked });
            }
        }
    }
    if points.is_empty() {
        return Err(format!("{id}: {why}"));
    }
    points.sort_by_key(|point| point.at);
    Ok(points)
}

impl MetricTest {
    fn meets(&self, point: &Point) -> bool {
        point.picked && self.above.is_none_or(|above| point.value > above)
    }

    /// What the samples of an episode have in common.
    fn so(&self) -> String {
        let above = self.above.map(|above| format!("above {above}"));
        let labels = (!self.labels.is_empty()).then(|| self.labels.join(" or "));
        [labels, above].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Samples in a row that meet the test. Between two samples nobody looked, so its ends are known
/// within the gaps around it.
struct Episode {
    /// Its first sample.
    began: Timestamp,
    /// Between its first and last sample.
    at_least: Duration,
    /// Between the samples around it: `None` as long as none came after it.
    at_most: Option<Duration>,
}

fn episodes(test: &MetricTest, points: &[Point]) -> Vec<Episode> {
    let mut episodes: Vec<Episode> = Vec::new();
    let mut before = None;
    for run in points.chunk_by(|a, b| test.meets(a) == test.meets(b)) {
        let (first, last) = (run[0].at, run[run.len() - 1].at);
        if test.meets(&run[0]) {
            let at_least = last.duration_since(first).unsigned_abs();
            episodes.push(Episode { began: first, at_least, at_most: None });
        } else {
            if let Some(episode) = episodes.last_mut() {
                let since = before.unwrap_or(episode.began);
                episode.at_most = Some(first.duration_since(since).unsigned_abs());
            }
            before = Some(last);
        }
    }
    episodes
}

fn lasted(test: &MetricTest, episodes: &[Episode], least: Duration, most: Duration) -> Answer {
    let (id, so) = (&test.id, test.so());
    if episodes.is_empty() {
        return seen(false, format!("{id} was never {so}"));
    }
    let fits = |episode: &&Episode| {
        episode.at_least <= most && episode.at_most.is_some_and(|at_most| at_most >= least)
    };
    if let Some(fits) = episodes.iter().find(fits) {
        return seen(true, format!("{id} was {so} for {}", length(fits)));
    }
    let found = episodes.iter().map(length).collect::<Vec<_>>().join(", ");
    let found = format!("{id} was {so} for {found}");
    match episodes.iter().any(|open| open.at_most.is_none() && open.at_least <= most) {
        true => not_tested(format!("{found}: the run ended before it did")),
        false => seen(false, found),
    }
}

fn length(episode: &Episode) -> String {
    let at_least = episode.at_least.as_secs_f64();
    match episode.at_most {
        Some(at_most) => format!("{at_least:.1} to {:.1} s", at_most.as_secs_f64()),
        None => format!("at least {at_least:.1} s"),
    }
}

fn began_apart(test: &MetricTest, episodes: &[Episode], apart: Duration) -> Answer {
    let (id, so) = (&test.id, test.so());
    let gaps = episodes.windows(2).map(|two| two[1].began.duration_since(two[0].began));
    match gaps.map(|gap| gap.unsigned_abs()).min() {
        None => seen(false, format!("{id} was {so} {} times: no two to compare", episodes.len())),
        Some(gap) => {
            let found = format!("{id} was {so} again after {:.1} s", gap.as_secs_f64());
            seen(gap >= apart, found)
        }
    }
}

fn median_between(
    test: &MetricTest,
    [least, most]: [f64; 2],
    picked: &[&Point],
    samples: &[StampedSample],
) -> Answer {
    let id = &test.id;
    let mut values: Vec<f64> = picked.iter().map(|point| point.value).collect();
    let mut when = String::new();
    if let Some(During { id: other, labels }) = &test.during {
        let states = match points(other, labels, samples) {
            Ok(states) => states,
            Err(why) => return not_tested(why),
        };
        let then = |point: &&&Point| {
            let newest = states.partition_point(|state| state.at <= point.at).checked_sub(1);
            newest.is_some_and(|newest| states[newest].picked)
        };
        values = picked.iter().filter(then).map(|point| point.value).collect();
        when = format!(" while {other} was {}", labels.join(" or "));
    }
    if values.is_empty() {
        return seen(false, format!("no sample of {id}{when}"));
    }
    let (median, count) = (median(&values), values.len());
    let is = (least..=most).contains(&median);
    seen(is, format!("{id} {median:.3} in the median of {count} samples{when}"))
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

    /// A state every ten seconds, each with a latency taken a second later.
    fn every_ten_seconds(states: &[(&str, f64)]) -> Vec<StampedSample> {
        let at = |seconds: usize| Timestamp::from_second(seconds as i64).expect("in range");
        let both = states.iter().enumerate().flat_map(|(index, (state, ms))| {
            let mut said =
                Sample::measured(Metric::new("a.state"), 1.0, "state").label("state", *state);
            let mut took = Sample::measured(LATENCY, *ms, "ms");
            (said.taken_at, took.taken_at) = (at(index * 10), at(index * 10 + 1));
            [said, took]
        });
        stamped(both)
    }

    fn answer(text: &str, states: &[(&str, f64)]) -> (FeatureState, String) {
        ask(&test(text), &every_ten_seconds(states))
    }

    const NORMAL: (&str, f64) = ("normal", 6.0);
    const SCALING: (&str, f64) = ("scaling", 300.0);

    #[test]
    fn an_episode_lasts_between_the_samples_around_it() {
        let scales = "id = 'a.state'\nlabels = ['scaling']\nlasts = ['30s', '60s']";
        let (state, found) = answer(scales, &[NORMAL, SCALING, SCALING, SCALING, NORMAL]);
        assert_eq!((state, &*found), (Seen, "a.state was scaling for 20.0 to 40.0 s"));
        assert_eq!(answer(scales, &[NORMAL, SCALING, NORMAL]).0, NotSeen, "too short");
        let long = [[NORMAL; 1].as_slice(), &[SCALING; 8], &[NORMAL]].concat();
        assert_eq!(answer(scales, &long).0, NotSeen, "too long");
        assert_eq!(answer(scales, &long[..5]).0, NotTested, "it was not over yet");
        assert_eq!(answer(scales, &long[..9]).0, NotSeen, "not over, and too long already");
        assert_eq!(answer(scales, &[NORMAL, NORMAL]).0, NotSeen);
        assert_eq!(answer(scales, &[("unknown", 6.0)]).0, NotTested);
        let held = "id = 'a.latency'\nabove = 250.0\nlasts = ['10s', '20s']";
        assert_eq!(answer(held, &[NORMAL, SCALING, SCALING, NORMAL]).0, Seen);
    }

    #[test]
    fn episodes_are_so_far_apart() {
        let cools = "id = 'a.state'\nlabels = ['scaling']\napart = '30s'";
        let (state, found) = answer(cools, &[SCALING, NORMAL, NORMAL, SCALING, NORMAL]);
        assert_eq!((state, &*found), (Seen, "a.state was scaling again after 30.0 s"));
        assert_eq!(answer(cools, &[SCALING, NORMAL, SCALING]).0, NotSeen, "too soon");
        assert_eq!(answer(cools, &[SCALING, SCALING, NORMAL]).0, NotSeen, "only once");
    }

    #[test]
    fn a_median_is_asked_of_the_time_another_metric_shows_something() {
        let slow = "id = 'a.latency'\nbetween = [200.0, 500.0]\nwhile = { id = 'a.state', labels = ['scaling'] }";
        let (state, found) = answer(slow, &[NORMAL, SCALING, SCALING, NORMAL, NORMAL]);
        let said = "a.latency 300.000 in the median of 2 samples while a.state was scaling";
        assert_eq!((state, &*found), (Seen, said));
        assert_eq!(answer(slow, &[NORMAL, ("scaling", 6.0)]).0, NotSeen);
        assert_eq!(answer(slow, &[NORMAL, ("pressure", 300.0)]).0, NotSeen, "it never scaled");
        assert_eq!(answer(slow, &[("unknown", 300.0)]).0, NotTested);
    }
}
