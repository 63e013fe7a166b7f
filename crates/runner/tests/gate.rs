//! Before the first probe: safety checks, the budget they leave, and what refuses a run.

mod common;

use std::time::Duration;

use common::{
    Answer, Future, checks, environment, hang, meta, monitor_entry, pass, probe, registry, run_all,
    safety_entry, tell, told, why, words,
};
use shakedown_core::budget::{Draw, Lease};
use shakedown_core::context::ProbeCtx;
use shakedown_core::environment::Tier;
use shakedown_core::id::resource::{self, DATABASE_CONNECTION};
use shakedown_core::meta::{ProbeMeta, RunPhase};
use shakedown_core::monitor::{MonitorMeta, MonitorSpec, Sample};
use shakedown_core::outcome::Outcome;
use shakedown_core::record::{Condition, RunEvent, RunRecord};
use shakedown_core::registry::{MonitorEntry, ProbeEntry, SafetyEntry};
use shakedown_core::safety::{Check, CheckState, SafetyMeta, SafetySpec};
use shakedown_runner::RunOptions;

use common::{FakeMonitor, FakeSafety};

const ONE: &[Draw] = &[Draw::new(DATABASE_CONNECTION, 1)];
const TWO: &[Draw] = &[Draw::new(DATABASE_CONNECTION, 2)];

type Checked = for<'a> fn(&'a ProbeCtx) -> Future<'a, Vec<Check>>;

fn safety(
    build: fn(
        &shakedown_core::Environment,
    ) -> Result<Box<dyn shakedown_core::SafetyCheck>, toml::de::Error>,
) -> SafetyEntry {
    safety_entry(SafetyMeta { draws: ONE, ..FakeSafety::META }, build)
}

/// `gate!(behaviour)`: a safety check that draws one connection and answers so at the gate.
macro_rules! gate {
    ($gate:expr) => {
        safety(|_| {
            const GATE: Checked = $gate;
            Ok(Box::new(FakeSafety { gate: GATE, stability: |_| checks(vec![]) }))
        })
    };
}

async fn leases(ctx: &ProbeCtx) -> Answer {
    let all = ctx.drawn(&DATABASE_CONNECTION);
    let mut leases: Vec<Lease> = Vec::new();
    for _ in 0..all {
        leases.push(ctx.lease(&DATABASE_CONNECTION).await?);
    }
    let usage = ctx.budget().usage();
    let usage = usage.iter().find(|u| u.resource == DATABASE_CONNECTION).expect("it has a budget");
    leases.into_iter().for_each(Lease::settle);
    Ok(Outcome::pass().measure("in_use", f64::from(usage.in_use), "connections"))
}

fn drawing(id: &'static str, draws: &'static [Draw]) -> ProbeEntry {
    probe!(ProbeMeta { draws, ..meta(id, RunPhase::Database) }, leases)
}

/// A monitor that holds one connection, as long as it gets one.
fn holding_monitor() -> MonitorEntry {
    let meta = MonitorMeta { draws: ONE, ..FakeMonitor::META };
    monitor_entry(meta, |_| {
        Ok(Box::new(FakeMonitor::new(|_, ctx| {
            Box::pin(async move {
                std::mem::forget(ctx.lease(&DATABASE_CONNECTION).await);
                Ok(vec![Sample::measured("fake.one".to_owned().into(), 1.0, "1")])
            })
        })))
    })
}

fn lab() -> shakedown_core::Environment {
    environment()
}

fn conditions(record: &RunRecord) -> Vec<Condition> {
    record.conditions.iter().copied().collect()
}

#[tokio::test(start_paused = true)]
async fn what_checks_and_monitors_hold_is_not_the_probes() {
    const KEEPS: Checked = |ctx| {
        Box::pin(async move {
            std::mem::forget(ctx.lease(&DATABASE_CONNECTION).await);
            vec![Check::ok("slots", "4 of 100 free")]
        })
    };
    let registry = registry([drawing("a.two", TWO)], [holding_monitor()], [gate!(KEEPS)]);
    let (record, _) = run_all(&registry, lab(), RunOptions::default()).await;
    let outcome = record.probes[0].result.outcome().expect("finished");
    assert_eq!(outcome.measurements[0].value, 4.0, "its own 2, the check's and the monitor's");
    let usage = record.usage.iter().find(|u| u.resource == DATABASE_CONNECTION).expect("used");
    assert_eq!((usage.peak, usage.ceiling), (4, 5));
    assert_eq!(conditions(&record), []);
    assert_eq!(told(), ["gate", "stability", "monitor closed", "stability", "finished"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_stops_everything_before_it_begins() {
    let refusing = gate!(|_| checks(vec![Check::refused("run lock", "somebody else is running")]));
    let registry = registry([drawing("a.one", ONE)], [holding_monitor()], [refusing]);
    let (record, lines) = run_all(&registry, lab(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.one: not-run"]);
    assert_eq!(why(&record, "a.one"), "the gate refused: run lock: somebody else is running");
    assert_eq!(conditions(&record), [Condition::GateRefused, Condition::NoVerdict]);
    assert!(record.samples.is_empty() && record.phases.is_empty());
    assert!(!lines.iter().any(|line| matches!(line.event, RunEvent::ProbeStarted { .. })));
    assert_eq!(told(), ["gate", "finished"]);
}

#[tokio::test(start_paused = true)]
async fn production_is_refused_without_asking_anybody() {
    let mut production = lab();
    production.identity.tier = Tier::Production;
    let registry = registry([drawing("a.one", ONE)], [], [gate!(|_| checks(vec![]))]);
    let (record, _) = run_all(&registry, production, RunOptions::default()).await;
    assert_eq!(words(&record), ["a.one: not-run"]);
    assert!(record.conditions.contains(&Condition::GateRefused));
    assert_eq!(told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn when_the_database_cannot_be_asked_one_connection_is_left_for_the_probes() {
    const DOWN: Checked = |_| {
        checks(vec![
            Check::unknown("database", "connection refused").limiting(DATABASE_CONNECTION, 1),
        ])
    };
    let registry = registry(
        [drawing("a.one", ONE), drawing("b.two", TWO)],
        [holding_monitor()],
        [gate!(DOWN)],
    );
    let (record, _) = run_all(&registry, lab(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.one: pass", "b.two: not-run"]);
    let reason = "it draws 2 of `database-connection`, the budget leaves 1: database is unknown: \
                  connection refused";
    assert_eq!(why(&record, "b.two"), reason);
    let (monitor, error) = &record.monitor_failures[0];
    assert_eq!(monitor, "fake.monitor");
    assert!(error.ends_with("connection refused"), "{error}");
    assert!(record.samples.is_empty());
    let usage = record.usage.iter().find(|u| u.resource == DATABASE_CONNECTION).expect("used");
    assert_eq!((usage.peak, usage.ceiling), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_check_leaves_of_the_budget_is_shared_by_monitors_and_probes() {
    const FEW: Checked = |ctx| {
        Box::pin(async move {
            std::mem::forget(ctx.lease(&DATABASE_CONNECTION).await);
            vec![Check::ok("slots", "few free").limiting(DATABASE_CONNECTION, 3)]
        })
    };
    let registry =
        registry([drawing("a.one", ONE), drawing("b.two", TWO)], [holding_monitor()], [gate!(FEW)]);
    let (record, _) = run_all(&registry, lab(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.one: pass", "b.two: not-run"]);
    assert_eq!(record.samples.len(), 1, "the monitor has its place");
    let usage = record.usage.iter().find(|u| u.resource == DATABASE_CONNECTION).expect("used");
    assert_eq!((usage.peak, usage.ceiling), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_can_do_with_less_gets_what_is_left() {
    const SOME: &[Draw] = &[Draw::between(DATABASE_CONNECTION, 1, 3)];
    const MORE: &[Draw] = &[Draw::between(DATABASE_CONNECTION, 2, 3)];
    const DOWN: Checked =
        |_| checks(vec![Check::unknown("database", "down").limiting(DATABASE_CONNECTION, 1)]);
    let probes = || [drawing("a.some", SOME), drawing("b.more", MORE)];
    let cut = registry(probes(), [], [gate!(DOWN)]);
    let (record, _) = run_all(&cut, lab(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.some: pass", "b.more: not-run"]);
    assert!(why(&record, "b.more").starts_with("it draws 2 of `database-connection`"));
    let in_use = |record: &RunRecord| {
        record.probes[0].result.outcome().expect("finished").measurements[0].value
    };
    assert_eq!(in_use(&record), 1.0);
    let (record, _) = run_all(&registry(probes(), [], []), lab(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.some: pass", "b.more: pass"]);
    assert_eq!(in_use(&record), 3.0, "all of it where the load was not cut");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_lowers_the_budget_but_holds_its_connection_keeps_it() {
    const BUSY: Checked = |ctx| {
        Box::pin(async move {
            std::mem::forget(ctx.lease(&DATABASE_CONNECTION).await);
            vec![Check::ok("slots", "2 free").limiting(DATABASE_CONNECTION, 1)]
        })
    };
    let registry = registry([drawing("a.one", ONE), drawing("b.two", TWO)], [], [gate!(BUSY)]);
    let (record, _) = run_all(&registry, lab(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.one: pass", "b.two: not-run"]);
    let usage = record.usage.iter().find(|u| u.resource == DATABASE_CONNECTION).expect("used");
    assert_eq!((usage.peak, usage.ceiling), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_or_panics_is_unknown_and_halves_nothing_but_our_load() {
    const HANGS: Checked = |_| Box::pin(std::future::pending());
    let registry_of_hang =
        registry([drawing("a.one", ONE), drawing("b.two", TWO)], [], [gate!(HANGS)]);
    let (record, _) = run_all(&registry_of_hang, lab(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.one: pass", "b.two: not-run"]);
    let CheckState::Unknown { why } = &record.gate[0].checks[0].state else { panic!("unknown") };
    assert_eq!(why, "no answer within 35s");
    assert!(!record.conditions.contains(&Condition::Internal));

    const PANICS: Checked = |_| Box::pin(async { panic!("slot table") });
    let registry = registry([drawing("a.one", ONE)], [], [gate!(PANICS)]);
    let (record, _) = run_all(&registry, lab(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.one: pass"]);
    let CheckState::Unknown { why } = &record.gate[0].checks[0].state else { panic!("unknown") };
    assert_eq!(why, "panicked: slot table");
    assert!(record.conditions.contains(&Condition::Internal), "a panic is a bug of ours");
}

#[tokio::test(start_paused = true)]
async fn require_healthy_refuses_the_sick_and_the_unknown_and_is_off_by_default() {
    const SICK: Checked = |_| checks(vec![Check::ok("backend", "503").healthy(false)]);
    const UNKNOWN: Checked = |_| checks(vec![Check::unknown("backend", "no answer")]);
    const WELL: Checked = |_| {
        let well = Check::ok("backend", "200").healthy(true);
        checks(vec![Check::unknown("operations", "needs an API"), well])
    };
    for (gate, healthy) in [(gate!(SICK), false), (gate!(UNKNOWN), false), (gate!(WELL), true)] {
        let registry = registry([probe!(meta("a.x", RunPhase::Network), pass)], [], [gate]);
        let (record, _) = run_all(&registry, lab(), RunOptions::default()).await;
        assert_eq!(words(&record), ["a.x: pass"], "a sick target is what we came for");
        let options = RunOptions { require_healthy: true, ..RunOptions::default() };
        let (record, _) = run_all(&registry, lab(), options).await;
        assert_eq!(words(&record) == ["a.x: pass"], healthy);
        assert_eq!(record.conditions.contains(&Condition::GateRefused), !healthy);
        if !healthy {
            assert!(why(&record, "a.x").starts_with("environment not healthy: backend"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_became_worse_for_us_stops_the_run_after_the_phase() {
    let stability: Checked = |_| checks(vec![Check::refused("sessions", "2 of ours are left")]);
    assert_eq!(size_of_val(&stability), size_of::<usize>(), "a plain function");
    let unstable = safety(|_| {
        Ok(Box::new(FakeSafety {
            gate: |_| checks(vec![]),
            stability: |_| checks(vec![Check::refused("sessions", "2 of ours are left")]),
        }))
    });
    let probes = [
        probe!(meta("a.first", RunPhase::Network), pass),
        probe!(meta("b.second", RunPhase::Database), pass),
    ];
    let registry = registry(probes, [], [unstable]);
    let (record, _) = run_all(&registry, lab(), RunOptions::default()).await;
    assert_eq!(words(&record), ["a.first: pass", "b.second: not-run"]);
    let after: Vec<_> = record.stability.iter().map(|checked| checked.after).collect();
    assert_eq!(after, [Some(RunPhase::Network), None], "asked again at the end");
    assert_eq!(conditions(&record), [Condition::GuardStopped]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_lingers_is_waited_for_and_one_that_is_gone_is_not_waited_for_forever() {
    async fn drops(ctx: &ProbeCtx) -> Answer {
        drop(ctx.lease(&DATABASE_CONNECTION).await?);
        Ok(Outcome::pass())
    }
    async fn leaks(ctx: &ProbeCtx) -> Answer {
        std::mem::forget(ctx.lease(&DATABASE_CONNECTION).await?);
        Ok(Outcome::pass())
    }
    let one = |id| ProbeMeta { draws: ONE, ..meta(id, RunPhase::Database) };
    let mut small = lab();
    small.safety.database_connections = 1;
    let registry = registry(
        [
            probe!(one("a.drops"), drops),
            probe!(one("b.leaks"), leaks),
            probe!(one("c.starves"), pass),
            probe!(meta("d.free", RunPhase::Database), pass),
        ],
        [],
        [],
    );
    let (record, _) = run_all(&registry, small, RunOptions::default()).await;
    assert_eq!(
        words(&record),
        ["a.drops: pass", "b.leaks: pass", "c.starves: not-run", "d.free: pass"]
    );
    assert_eq!(why(&record, "c.starves"), "what it draws did not come free within 10s");
}

#[tokio::test(start_paused = true)]
async fn what_a_check_registers_for_cleanup_is_undone_at_the_end() {
    const REGISTERS: Checked = |ctx| {
        ctx.cleanup().register("the lock", || async {
            tell("lock released");
            Ok(())
        });
        ctx.cleanup().register("the session", || async { Err("still there".into()) });
        checks(vec![])
    };
    let registry = registry([probe!(meta("a.x", RunPhase::Network), pass)], [], [gate!(REGISTERS)]);
    let (record, _) = run_all(&registry, lab(), RunOptions::default()).await;
    assert_eq!(told(), ["gate", "stability", "stability", "finished", "lock released"]);
    assert_eq!(conditions(&record), [Condition::CleanupNotProven]);
    assert_eq!(record.remarks, ["not undone: the session: still there"]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_takes_more_than_it_declared_gets_no_verdict_and_no_connection() {
    async fn greedy(ctx: &ProbeCtx) -> Answer {
        ctx.lease(&resource::WEBSOCKET).await?.settle();
        Ok(Outcome::pass())
    }
    let meta = ProbeMeta { draws: ONE, ..meta("a.greedy", RunPhase::Database) };
    let registry = registry([probe!(meta, greedy)], [], []);
    let (record, _) = run_all(&registry, lab(), RunOptions::default()).await;
    let error = "Error: a lease of `websocket` was asked beyond the 0 declared in `draws`";
    assert_eq!(why(&record, "a.greedy"), error);
}

#[tokio::test(start_paused = true)]
async fn finish_is_called_also_when_probes_hang_and_a_finish_that_hangs_is_given_up() {
    let meta = ProbeMeta { timeout: Duration::from_secs(1), ..meta("a.hang", RunPhase::Network) };
    let registry = registry([probe!(meta, hang)], [], [gate!(|_| checks(vec![]))]);
    let (_, lines) = run_all(&registry, lab(), RunOptions::default()).await;
    assert_eq!(told().last().map(String::as_str), Some("finished"));
    assert!(matches!(lines.last().expect("lines").event, RunEvent::RunFinished { .. }));
}
