//! Monitors beside the probes, and the guards that read them.

mod common;

use std::time::Duration;

use common::{
    Answer, FakeMonitor, environment, hang, meta, monitor_entry, pass, probe, registry, run_all,
    secs, tell, told, why, words,
};
use shakedown_core::budget::Draw;
use shakedown_core::clock::{self, Timestamp};
use shakedown_core::context::ProbeCtx;
use shakedown_core::environment::{Environment, Guard};
use shakedown_core::id::resource::DATABASE_CONNECTION;
use shakedown_core::meta::{ProbeMeta, RunPhase};
use shakedown_core::monitor::{
    MetricMeta, Monitor, MonitorError, MonitorMeta, MonitorSpec, Reading, Sample,
};
use shakedown_core::outcome::Outcome;
use shakedown_core::record::{Condition, RunEvent};
use shakedown_core::registry::MonitorEntry;
use shakedown_runner::RunOptions;

use RunPhase::{Database, Network, Startup};

const METRICS: &[MetricMeta] = &[MetricMeta {
    id: "fake.load",
    strategy_name: None,
    definition: "how much there is",
    unit: "1",
    no_source: None,
}];

type Build = fn(&Environment) -> Result<Box<dyn Monitor>, toml::de::Error>;

fn watching(id: &'static str, build: Build) -> MonitorEntry {
    monitor_entry(MonitorMeta { id, metrics: METRICS, ..FakeMonitor::META }, build)
}

fn load(value: f64) -> Vec<Sample> {
    vec![Sample::measured("fake.load".to_owned().into(), value, "1")]
}

/// Low at the gate, high from the third call on. Wall-clock time stands still in these tests, so the
/// samples say when they would have been taken.
fn worsening() -> MonitorEntry {
    watching("fake.worsening", |_| {
        Ok(Box::new(FakeMonitor::new(|call, _| {
            Box::pin(async move {
                let mut samples = load(if call < 2 { 0.1 } else { 0.95 });
                samples[0].taken_at = later(call);
                Ok(samples)
            })
        })))
    })
}

fn always_high() -> MonitorEntry {
    watching("fake.high", |_| {
        Ok(Box::new(FakeMonitor::new(|call, _| {
            Box::pin(async move {
                let mut samples = load(0.95);
                samples[0].taken_at = later(call);
                Ok(samples)
            })
        })))
    })
}

/// The first sample is from before the load, the others are from after it.
fn later(call: u32) -> Timestamp {
    match call {
        0 => clock::wall() - Duration::from_secs(1),
        call => clock::wall() + Duration::from_secs(u64::from(call)),
    }
}

fn guarded() -> Environment {
    let mut environment = environment();
    environment.safety.guards = vec![Guard {
        metric: "fake.load".into(),
        above: Some(0.9),
        above_baseline: None,
        floor: None,
        lasting: secs(0),
    }];
    environment
}

async fn a_minute(ctx: &ProbeCtx) -> Answer {
    ctx.sleep(Duration::from_secs(55)).await?;
    Ok(Outcome::pass())
}

#[tokio::test(start_paused = true)]
async fn samples_come_at_the_cadence_stamped_with_phase_and_probe() {
    let counting: Build = |_| {
        Ok(Box::new(FakeMonitor::new(|call, _| Box::pin(async move { Ok(load(call.into())) }))))
    };
    let probes = [probe!(meta("a.long", Database), a_minute)];
    let registry = registry(probes, [watching("fake.count", counting)], []);
    let (record, lines) = run_all(&registry, environment(), RunOptions::default()).await;
    let seen: Vec<_> = record
        .samples
        .iter()
        .map(|stamped| (stamped.sample.value.clone(), stamped.phase, stamped.probe.as_deref()))
        .collect();
    let expected: Vec<_> = (0..=6)
        .map(|n| match n {
            0 | 6 => (Reading::Value(f64::from(n)), None, None),
            n => (Reading::Value(f64::from(n)), Some(Database), Some("a.long")),
        })
        .collect();
    assert_eq!(seen, expected, "the baseline at the gate, one every 10 s of 55, one after");
    let first_sample = lines.iter().position(|l| matches!(l.event, RunEvent::Sampled { .. }));
    let first_probe = lines.iter().position(|l| matches!(l.event, RunEvent::ProbeStarted { .. }));
    assert!(first_sample < first_probe, "the baseline comes first");
    assert_eq!(told(), ["monitor closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_monitor_is_never_asked_twice_at_once_and_a_stuck_one_is_given_up() {
    let slow: Build = |_| {
        Ok(Box::new(FakeMonitor::new(|call, ctx| {
            Box::pin(async move {
                tell("slow begins");
                _ = ctx.sleep(Duration::from_secs(if call == 0 { 0 } else { 25 })).await;
                tell("slow ends");
                Ok(load(1.0))
            })
        })))
    };
    let stuck: Build = |_| {
        Ok(Box::new(FakeMonitor::new(|call, _| {
            Box::pin(async move {
                match call {
                    0 => Ok(load(2.0)),
                    _ => std::future::pending().await,
                }
            })
        })))
    };
    let meta = ProbeMeta { timeout: Duration::from_secs(90), ..meta("a.long", Network) };
    let registry = registry(
        [probe!(meta, eighty_seconds)],
        [watching("fake.slow", slow), watching("fake.stuck", stuck)],
        [],
    );
    let (record, _) = run_all(&registry, environment(), RunOptions::default()).await;
    let told = told();
    let steps: Vec<_> = told.iter().filter(|t| t.starts_with("slow")).collect();
    for pair in steps.chunks(2) {
        assert!(
            pair.len() == 1 || (pair[0] == "slow begins" && pair[1] == "slow ends"),
            "{told:?}"
        );
    }
    let slow = record.samples.iter().filter(|s| s.monitor == "fake.slow").count();
    assert_eq!(slow, 5, "at 0, 10 to 35, 40 to 65, 70 to 95 s, and once more after the phase");
    let failures: Vec<_> =
        record.monitor_failures.iter().map(|(id, error)| format!("{id}: {error}")).collect();
    assert_eq!(
        failures, ["fake.stuck: no sample within 35s"; 2],
        "from 10 s on, then from 50 s on, and not once more"
    );
    assert_eq!(words(&record), ["a.long: pass"]);
}

async fn eighty_seconds(ctx: &ProbeCtx) -> Answer {
    ctx.sleep(Duration::from_secs(80)).await?;
    Ok(Outcome::pass())
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_errs_or_panics_is_recorded_and_asked_again() {
    let moody: Build = |_| {
        Ok(Box::new(FakeMonitor::new(|call, _| {
            Box::pin(async move {
                match call {
                    0 => Err(MonitorError::new("not yet")),
                    1 => panic!("lost count"),
                    2 => Ok(load(f64::NAN)),
                    call => Ok(load(call.into())),
                }
            })
        })))
    };
    let steady: Build =
        |_| Ok(Box::new(FakeMonitor::new(|_, _| Box::pin(async { Ok(load(1.0)) }))));
    let registry = registry(
        [probe!(meta("a.long", Network), a_minute)],
        [watching("fake.moody", moody), watching("fake.steady", steady)],
        [],
    );
    let (record, _) = run_all(&registry, environment(), RunOptions::default()).await;
    let failures: Vec<_> = record.monitor_failures.iter().map(|(_, error)| &**error).collect();
    assert_eq!(failures, ["not yet", "panicked: lost count"]);
    let of = |id: &str| {
        let samples = record.samples.iter().filter(|s| s.monitor == id);
        samples.map(|s| s.sample.value.clone()).collect::<Vec<_>>()
    };
    let moody = of("fake.moody");
    let gaps = ["not yet", "panicked: lost count", "the monitor measured no number"];
    assert_eq!(moody[..3], gaps.map(|why| Reading::Unavailable(why.into())));
    assert_eq!(moody[3..], [3.0, 4.0, 5.0, 6.0].map(Reading::Value));
    assert_eq!(of("fake.steady").len(), 7, "the other is not disturbed");
}

#[tokio::test(start_paused = true)]
async fn monitors_pause_between_phases_unless_asked_not_to() {
    async fn slow_check() -> Vec<shakedown_core::safety::Check> {
        tokio::time::sleep(Duration::from_secs(24)).await;
        vec![]
    }
    let counting: Build = |_| {
        Ok(Box::new(FakeMonitor::new(|call, _| Box::pin(async move { Ok(load(call.into())) }))))
    };
    let slow = || {
        common::safety_entry(<common::FakeSafety as shakedown_core::SafetySpec>::META, |_| {
            Ok(Box::new(common::FakeSafety {
                gate: |_| common::checks(vec![]),
                stability: |_| Box::pin(slow_check()),
            }))
        })
    };
    for (infrastructure_monitoring, between) in [(false, 0), (true, 2)] {
        let registry = registry(
            [probe!(meta("a.long", Network), a_minute), probe!(meta("b.long", Startup), a_minute)],
            [watching("fake.count", counting)],
            [slow()],
        );
        let options = RunOptions { infrastructure_monitoring, ..RunOptions::default() };
        let (record, _) = run_all(&registry, environment(), options).await;
        let phases: Vec<_> = record.samples.iter().map(|stamped| stamped.phase).collect();
        let end = phases.iter().rposition(|phase| *phase == Some(Network)).expect("phase 1");
        let next = phases.iter().position(|phase| *phase == Some(Startup)).expect("phase 3");
        assert_eq!(next - end - 1, between, "{phases:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_metric_that_got_worse_stops_the_run() {
    let probes =
        [probe!(meta("a.long", Network), a_minute), probe!(meta("b.next", Database), pass)];
    let registry = registry(probes, [worsening()], []);
    let (record, _) = run_all(&registry, guarded(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.long: no-verdict", "b.next: not-run"]);
    let reason =
        "a guard stopped the run: fake.load is 0.95, above 0.9; it was 0.1 before our load";
    assert_eq!(why(&record, "b.next"), reason);
    assert!(record.conditions.contains(&Condition::GuardStopped));
    assert!(record.guards[0].stopped);
    assert_eq!(common::of(&record, "a.long").elapsed_ms, 20_000.0, "at the third sample");
}

#[tokio::test(start_paused = true)]
async fn a_metric_that_was_bad_before_us_cuts_our_load_to_one_connection() {
    const TWO: &[Draw] = &[Draw::new(DATABASE_CONNECTION, 2)];
    const ONE: &[Draw] = &[Draw::new(DATABASE_CONNECTION, 1)];
    let drawing = |id, draws| ProbeMeta { draws, ..meta(id, Network) };
    let probes = [probe!(drawing("a.one", ONE), a_minute), probe!(drawing("b.two", TWO), pass)];
    let registry = registry(probes, [always_high()], []);
    let (record, _) = run_all(&registry, guarded(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.one: pass", "b.two: not-run"]);
    let past = "fake.load was 0.95 before our load, above 0.9 already";
    let reason = format!("it draws 2 of `database-connection`, the budget leaves 1: {past}");
    assert_eq!(why(&record, "b.two"), reason);
    assert_eq!(record.guards.len(), 1, "told once");
    assert!(!record.conditions.contains(&Condition::GuardStopped));
}

#[tokio::test(start_paused = true)]
async fn what_the_signature_expects_does_not_stop() {
    let registry = registry([probe!(meta("a.long", Network), a_minute)], [worsening()], []);
    let options = RunOptions {
        expected_by_signature: ["fake.load".to_owned()].into(),
        ..RunOptions::default()
    };
    let (record, _) = run_all(&registry, guarded(), options).await;
    assert_eq!(words(&record), ["a.long: pass"]);
    assert_eq!((record.guards.len(), record.guards[0].stopped), (1, false));
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_sees_nothing_says_so_once() {
    let silent: Build = |_| {
        Ok(Box::new(FakeMonitor::new(|_, _| {
            Box::pin(async { Err(MonitorError::new("no such view")) })
        })))
    };
    let registry = registry(
        [probe!(meta("a.long", Network), a_minute)],
        [watching("fake.silent", silent)],
        [],
    );
    let (record, _) = run_all(&registry, guarded(), RunOptions::default()).await;
    let remark = "no sample at the gate, guards cannot act: fake.load";
    assert_eq!(record.remarks, [remark]);
    assert_eq!(words(&record), ["a.long: pass"]);
}

#[tokio::test(start_paused = true)]
async fn a_monitor_never_takes_the_last_place_of_the_budget() {
    const ONE: &[Draw] = &[Draw::new(DATABASE_CONNECTION, 1)];
    let mut small = environment();
    small.safety.database_connections = 1;
    let meta_of = MonitorMeta { draws: ONE, metrics: METRICS, ..FakeMonitor::META };
    let monitor = monitor_entry(meta_of, |_| Ok(Box::new(FakeMonitor::from_config(()))));
    let probe = ProbeMeta { draws: ONE, ..meta("a.one", Network) };
    let registry = registry([probe!(probe, pass)], [monitor], []);
    let (record, _) = run_all(&registry, small, RunOptions::default()).await;
    assert_eq!(words(&record), ["a.one: pass"]);
    let failure = "it draws 1 of `database-connection`, the budget leaves 1";
    assert_eq!(record.monitor_failures, [("fake.monitor".to_owned(), failure.to_owned())]);
    let [gap] = &record.samples[..] else { panic!("{:?}", record.samples) };
    assert_eq!(gap.sample.value, Reading::Unavailable(failure.into()), "every metric says why");
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_hangs_at_the_gate_does_not_hold_the_run() {
    let stuck: Build = |_| Ok(Box::new(FakeMonitor::new(|_, _| Box::pin(std::future::pending()))));
    let timeout = Duration::from_secs(5);
    let registry = registry(
        [probe!(ProbeMeta { timeout, ..meta("a.hang", Network) }, hang)],
        [watching("fake.stuck", stuck)],
        [],
    );
    let (record, _) = run_all(&registry, environment(), RunOptions::default()).await;
    assert_eq!(record.monitor_failures[0].1, "no sample within 35s");
    assert_eq!(words(&record), ["a.hang: no-verdict"]);
    assert_eq!(told(), ["monitor closed"]);
}
