//! What ends a run early: interrupts and deadlines.

mod common;

use std::time::Duration;

use common::{
    Answer, checks, environment, hang, meta, of, pass, planned, probe, registry, run_all, run_plan,
    safety_entry, secs, tell, ten_seconds, told, why, words,
};
use shakedown_core::clock::{self, Instant};
use shakedown_core::context::ProbeCtx;
use shakedown_core::meta::RunPhase;
use shakedown_core::record::{Condition, RunEvent};
use shakedown_core::registry::{ProbeEntry, Registry, SafetyEntry};
use shakedown_core::safety::SafetySpec;
use shakedown_runner::{Interrupt, RunOptions};

use RunPhase::{Database, Network};

/// Raises `interrupt` after each of so many seconds.
fn raise(interrupt: &Interrupt, seconds: &[u64]) {
    let interrupt = interrupt.clone();
    let begun = clock::now();
    let seconds = seconds.to_vec();
    tokio::spawn(async move {
        for after in seconds {
            tokio::time::sleep_until(begun + Duration::from_secs(after)).await;
            interrupt.raise();
        }
    });
}

fn safety() -> SafetyEntry {
    let build = |_: &_| {
        let check = common::FakeSafety::from_config(());
        Ok(Box::new(check) as Box<dyn shakedown_core::SafetyCheck>)
    };
    safety_entry(common::FakeSafety::META, build)
}

fn with(first: ProbeEntry) -> Registry {
    registry(
        [
            probe!(meta("a.before", Network), pass),
            first,
            probe!(meta("c.after", Network), pass),
            probe!(meta("d.later", Database), pass),
        ],
        [],
        [safety()],
    )
}

async fn cleans_slowly(ctx: &ProbeCtx) -> Answer {
    ctx.cleanup().register("slow", || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        tell("undone");
        Ok(())
    });
    ctx.cleanup().register("hangs", std::future::pending);
    hang(ctx).await
}

async fn run_interrupted(
    registry: &Registry,
    seconds: &[u64],
) -> (shakedown_core::record::RunRecord, Duration) {
    let options = RunOptions::default();
    raise(&options.interrupt, seconds);
    let begun: Instant = clock::now();
    let (record, lines) = run_all(registry, environment(), options).await;
    assert!(matches!(lines.last().expect("lines").event, RunEvent::RunFinished { .. }));
    (record, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn the_first_interrupt_drains() {
    let registry = with(probe!(meta("b.running", Network), ten_seconds));
    let (record, took) = run_interrupted(&registry, &[3]).await;
    assert_eq!(
        words(&record),
        ["a.before: pass", "b.running: no-verdict", "c.after: not-run", "d.later: not-run"]
    );
    assert_eq!(why(&record, "b.running"), "Cancelled: the run was interrupted");
    assert_eq!(why(&record, "d.later"), "the run was interrupted");
    assert!(record.conditions.contains(&Condition::Interrupted));
    assert_eq!(told(), ["gate", "begun", "stability", "stability", "finished"]);
    assert_eq!(took, Duration::from_secs(3), "the probe ended when it was cancelled");
}

#[tokio::test(start_paused = true)]
async fn the_first_interrupt_leaves_the_grace_period() {
    let registry = with(probe!(meta("b.running", Network), hang));
    let (record, took) = run_interrupted(&registry, &[3]).await;
    assert_eq!(
        why(&record, "b.running"),
        "Aborted: the run was interrupted; it did not end when cancelled and was aborted"
    );
    assert_eq!(took, Duration::from_secs(3 + 5));
}

#[tokio::test(start_paused = true)]
async fn the_second_interrupt_aborts_but_closes_and_records() {
    let registry = with(probe!(meta("b.running", Network), cleans_slowly));
    let after = &[3, 4];
    let (record, took) = run_interrupted(&registry, after).await;
    assert_eq!(words(&record)[1..3], ["b.running: no-verdict", "c.after: not-run"]);
    assert!(record.conditions.contains(&Condition::Interrupted));
    assert!(record.conditions.contains(&Condition::CleanupNotProven));
    let cleanup: Vec<_> =
        of(&record, "b.running").cleanup.iter().map(|c| (&*c.what, c.failed.is_some())).collect();
    assert_eq!(cleanup, [("hangs", true), ("slow", true)]);
    assert_eq!(told(), ["gate", "finished"], "no stability check, but the lock is given back");
    assert_eq!(took, Duration::from_millis(4_500), "half a second for what hangs");
}

#[tokio::test(start_paused = true)]
async fn a_second_interrupt_still_runs_cleanup_that_is_quick() {
    async fn cleans(ctx: &ProbeCtx) -> Answer {
        ctx.cleanup().register("quick", || async {
            tell("undone");
            Ok(())
        });
        hang(ctx).await
    }
    let registry = with(probe!(meta("b.running", Network), cleans));
    let after = &[1, 2];
    let (record, took) = run_interrupted(&registry, after).await;
    assert_eq!(told(), ["gate", "undone", "finished"]);
    assert!(!record.conditions.contains(&Condition::CleanupNotProven));
    assert_eq!(took, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_before_the_run_starts_nothing() {
    let registry = with(probe!(meta("b.running", Network), pass));
    let options = RunOptions::default();
    options.interrupt.raise();
    let (record, _) = run_all(&registry, environment(), options).await;
    assert!(words(&record).iter().all(|word| word.ends_with("not-run")), "{:?}", words(&record));
    assert_eq!(record.conditions, [Condition::Interrupted, Condition::NoVerdict].into());
    assert_eq!(told(), [""; 0], "nobody was asked");
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_at_the_gate_ends_the_gate() {
    let slow = safety_entry(common::FakeSafety::META, |_| {
        Ok(Box::new(common::FakeSafety {
            gate: |_| Box::pin(std::future::pending()),
            stability: |_| checks(vec![]),
        }))
    });
    let registry = registry([probe!(meta("a.x", Network), pass)], [], [slow]);
    let (record, took) = run_interrupted(&registry, &[2]).await;
    assert_eq!(words(&record), ["a.x: not-run"]);
    assert_eq!(took, Duration::from_secs(2));
    assert_eq!(told().last().map(String::as_str), Some("finished"));
}

#[tokio::test(start_paused = true)]
async fn when_the_runs_time_is_up_the_rest_is_not_run() {
    let registry = with(probe!(meta("b.running", Network), ten_seconds));
    let mut short = environment();
    short.safety.run_limit = secs(6);
    let mut plan = planned(&registry, &environment(), 1);
    plan.run_limit_ms = 6_000.0;
    let (record, _) = run_plan(plan, &registry, short, RunOptions::default()).await;
    assert_eq!(
        words(&record),
        ["a.before: pass", "b.running: no-verdict", "c.after: not-run", "d.later: not-run"]
    );
    assert_eq!(why(&record, "b.running"), "Cancelled: the run's 6s were up");
    assert_eq!(of(&record, "b.running").elapsed_ms, 6_000.0);
    assert!(record.conditions.contains(&Condition::DeadlineReached));
    assert_eq!(told().last().map(String::as_str), Some("finished"));
}

#[tokio::test(start_paused = true)]
async fn when_a_phases_time_is_up_the_next_phase_begins() {
    let registry = with(probe!(meta("b.running", Network), ten_seconds));
    let mut plan = planned(&registry, &environment(), 1);
    plan.phase_limits_ms[0] = 4_000.0;
    let (record, _) = run_plan(plan, &registry, environment(), RunOptions::default()).await;
    assert_eq!(
        words(&record),
        ["a.before: pass", "b.running: no-verdict", "c.after: not-run", "d.later: pass"]
    );
    assert_eq!(why(&record, "c.after"), "the time allowed for the phase was up");
    assert!(record.conditions.contains(&Condition::DeadlineReached));
}
