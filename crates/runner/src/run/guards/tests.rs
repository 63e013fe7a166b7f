use jiff::SignedDuration;
use shakedown_core::id::Metric;
use shakedown_core::monitor::Sample;
use shakedown_core::units::Provenance;

use super::*;

const METRIC: &str = "fake.latency";
const CADENCE: Duration = Duration::from_secs(10);

fn at(seconds: i64) -> Timestamp {
    let base: Timestamp = "2025-09-15T12:00:00Z".parse().expect("a time");
    base + SignedDuration::from_secs(seconds)
}

fn rule(above: Option<f64>, above_baseline: Option<f64>) -> Guard {
    Guard { metric: METRIC.into(), above, above_baseline, floor: None, lasting: Span::default() }
}

fn guards(guard: Guard) -> Guards {
    Guards {
        rules: vec![Rule {
            guard,
            fresh: 2 * CADENCE,
            expected: false,
            series: BTreeMap::new(),
            last: None,
            told_blind: false,
        }],
        load_began: None,
    }
}

fn sample(seconds: i64, value: impl Into<Option<f64>>) -> StampedSample {
    let value = value.into();
    let sample = Sample {
        metric: Metric::new(METRIC),
        labels: vec![],
        unit: "ms".into(),
        value: value.map_or(Reading::Unavailable("down".into()), Reading::Value),
        taken_at: at(seconds),
        visible_at: at(seconds),
        provenance: Provenance::Measured,
    };
    StampedSample { monitor: "fake".into(), phase: None, probe: None, sample }
}

/// What the guards say to a sample every ten seconds; `None` is one that is unavailable. The load
/// begins with the third.
fn said(guards: &mut Guards, values: &[impl Into<Option<f64>> + Copy]) -> Vec<String> {
    let mut said = Vec::new();
    for (n, &value) in (0..).zip(values) {
        let now = n * 10;
        if n == 2 {
            said.extend(guards.begin_at(at(now - 5)));
        }
        said.extend(guards.observe_at(&[sample(now, value)], at(now)));
        said.extend(guards.overdue_at(at(now)));
    }
    said.iter().map(word).collect()
}

fn word(notice: &Notice) -> String {
    match notice {
        Notice::Blind(text) => text.clone(),
        Notice::Passed { event, cut } => {
            let word = if event.stopped { "stop" } else { "notice" };
            format!("{word}{}: {}", if *cut { " and cut" } else { "" }, event.summary)
        }
    }
}

#[test]
fn what_got_worse_after_our_load_began_stops() {
    let said = said(&mut guards(rule(Some(0.9), None)), &[0.2, 0.3, 0.5, 0.95, 0.99]);
    assert_eq!(said, ["stop: fake.latency is 0.95, above 0.9; it was 0.3 before our load"]);
}

#[test]
fn what_was_past_it_before_cuts_our_load_and_never_stops() {
    let said = said(&mut guards(rule(Some(0.9), None)), &[0.95, 0.96, 0.99, 1.0, 0.1, 1.0]);
    let notice = "notice and cut: fake.latency was 0.96 before our load, above 0.9 already";
    assert_eq!(said, [notice]);
}

#[test]
fn a_relative_limit_compares_with_the_last_sample_before_our_load() {
    let twice = rule(None, Some(2.0));
    assert_eq!(said(&mut guards(twice.clone()), &[9.0, 10.0, 19.0, 20.0]), [""; 0]);
    let said = said(&mut guards(twice), &[9.0, 10.0, 19.0, 20.5]);
    assert_eq!(said, ["stop: fake.latency is 20.5, above 20; it was 10 before our load"]);
}

#[test]
fn what_stays_below_the_floor_is_too_little_to_matter() {
    let floored = Guard { floor: Some(50.0), ..rule(None, Some(2.0)) };
    assert_eq!(said(&mut guards(floored.clone()), &[0.1, 0.1, 0.3, 49.0]), [""; 0]);
    let said = said(&mut guards(floored), &[0.1, 0.1, 0.3, 51.0]);
    assert_eq!(said, ["stop: fake.latency is 51, above 50; it was 0.1 before our load"]);
}

#[test]
fn it_must_last_without_a_break() {
    let lasting = Guard { lasting: Span::secs(30), ..rule(Some(1.0), None) };
    assert_eq!(said(&mut guards(lasting.clone()), &[0., 0., 2., 2., 2., 0., 2., 2., 2.]), [""; 0]);
    let stop = "stop: fake.latency is 2, above 1; it was 0 before our load";
    assert_eq!(said(&mut guards(lasting.clone()), &[0., 0., 2., 2., 2., 2.]), [stop]);
    // One missing sample does not interrupt it, a hole of three does.
    let hole = [Some(0.), Some(0.), Some(2.), None, Some(2.), Some(2.)];
    assert_eq!(said(&mut guards(lasting.clone()), &hole), [stop]);
    let hole = [Some(0.), Some(0.), Some(2.), None, None, None, Some(2.), Some(2.)];
    let blind = "the guard on fake.latency cannot act: its latest sample is 30s old";
    assert_eq!(said(&mut guards(lasting), &hole), [blind]);
}

#[test]
fn a_sample_from_before_our_load_that_comes_late_is_still_baseline() {
    let mut guards = guards(rule(Some(1.0), None));
    guards.rules[0].fresh = Duration::from_secs(300);
    assert!(guards.observe_at(&[sample(-200, 0.5)], at(0)).is_empty());
    assert!(guards.begin_at(at(0)).is_empty());
    let late = guards.observe_at(&[sample(-100, 2.0)], at(90));
    let notice = "notice and cut: fake.latency was 2 before our load, above 1 already";
    assert_eq!(late.iter().map(word).collect::<Vec<_>>(), [notice]);
    assert!(guards.observe_at(&[sample(100, 2.0)], at(290)).is_empty());
}

#[test]
fn without_a_baseline_nobody_knows_whether_it_got_worse() {
    let absent = [None, None, Some(2.0), Some(2.0)];
    let said_of = said(&mut guards(rule(Some(1.0), None)), &absent);
    let blind = "no sample at the gate, guards cannot act: fake.latency";
    let notice =
        "notice and cut: fake.latency is 2, above 1; nobody knows what it was before our load";
    assert_eq!(said_of, [blind, notice]);
    assert_eq!(said(&mut guards(rule(None, Some(2.0))), &absent), [blind]);
}

#[test]
fn what_the_signature_expects_never_stops_and_cuts_nothing() {
    let mut expecting = guards(rule(Some(1.0), None));
    expecting.rules[0].expected = true;
    let said_of = said(&mut expecting, &[0.0, 0.0, 2.0, 2.0]);
    assert_eq!(said_of, ["notice: fake.latency is 2, above 1; as the signature expects"]);
    let mut expecting = guards(rule(Some(1.0), None));
    expecting.rules[0].expected = true;
    let said_of = said(&mut expecting, &[2.0, 2.0, 2.0]);
    assert_eq!(said_of, ["notice: fake.latency was 2 before our load, above 1 already"]);
}

#[test]
fn a_stale_sample_is_told_once_and_never_acted_on() {
    let mut guards = guards(rule(Some(1.0), None));
    guards.observe_at(&[sample(0, 0.0)], at(0));
    guards.begin_at(at(1));
    for now in [60, 70] {
        let said = guards.observe_at(&[sample(now - 50, 5.0)], at(now));
        let said: Vec<_> = said.iter().map(word).collect();
        let blind = "the guard on fake.latency cannot act: its latest sample is 50s old";
        assert_eq!(said, if now == 60 { vec![blind] } else { vec![] });
    }
    let fresh = guards.observe_at(&[sample(80, 5.0)], at(80));
    assert!(matches!(fresh[..], [Notice::Passed { .. }]), "it acts again");
}

#[test]
fn series_of_one_metric_are_told_apart_by_their_labels() {
    let mut guards = guards(rule(Some(1.0), None));
    let of = |seconds, value: f64, state: &str| {
        let mut stamped = sample(seconds, value);
        stamped.sample = stamped.sample.label("state", state);
        stamped
    };
    guards.observe_at(&[of(0, 5.0, "idle"), of(0, 0.0, "active")], at(0));
    let begun: Vec<_> = guards.begin_at(at(1)).iter().map(word).collect();
    assert_eq!(begun.len(), 1, "idle was high already: {begun:?}");
    let said = guards.observe_at(&[of(10, 5.0, "idle"), of(10, 2.0, "active")], at(10));
    assert!(matches!(&said[..], [Notice::Passed { event, .. }] if event.stopped), "{said:?}");
}
