//! One probe at a time: how it can end, and what becomes of the others.

mod common;

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use common::{
    Answer, environment, fail, hang, meta, of, pass, planned, probe, registry, run_all, run_plan,
    run_probes, tell, ten_seconds, told, why, words,
};
use shakedown_core::context::ProbeCtx;
use shakedown_core::evidence::{Body, Fact, Subject};
use shakedown_core::id::{Capability, ObservationKind};
use shakedown_core::meta::{ProbeMeta, RunPhase};
use shakedown_core::outcome::{Finding, Outcome, SkipReason};
use shakedown_core::probe::ProbeError;
use shakedown_core::record::{Condition, JournalLine, RunEvent, RunRecord};
use shakedown_core::registry::ProbeEntry;
use shakedown_core::units::Span;
use shakedown_runner::RunOptions;

use RunPhase::{Database, Impact, Network};

async fn ends_late_with_an_outcome(ctx: &ProbeCtx) -> Answer {
    ctx.cancelled().cancelled().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    fail(ctx).await
}

async fn panics(_: &ProbeCtx) -> Answer {
    panic!("slot {} is gone", 4)
}

async fn errs(_: &ProbeCtx) -> Answer {
    let cause = std::io::Error::other("disk full");
    Err(ProbeError::internal("writing the scratch file", cause))
}

async fn skips(_: &ProbeCtx) -> Answer {
    Ok(Outcome::skip(SkipReason::NotExercised("no step".into())))
}

async fn measures_nothing(_: &ProbeCtx) -> Answer {
    let outcome = Outcome::pass().measure("good", 1.0, "ms").against("bad", f64::NAN, "ms", 1.0);
    Ok(outcome.against("half", 2.0, "ms", f64::INFINITY))
}

async fn observes_and_hangs(ctx: &ProbeCtx) -> Answer {
    let fact = Fact { fact: ObservationKind::new("fake"), attributes: vec![] };
    ctx.observe(Subject::service("backend"), Body::Fact(fact));
    ctx.progress("half way");
    hang(ctx).await
}

async fn with_cleanup(ctx: &ProbeCtx) -> Answer {
    ctx.cleanup().register("first", || async {
        tell("first undone");
        Ok(())
    });
    ctx.cleanup().register("second", || async { Err("still there".into()) });
    ctx.cleanup().register("third", || async { panic!("undo broke") });
    Ok(Outcome::pass())
}

async fn with_hanging_cleanup(ctx: &ProbeCtx) -> Answer {
    ctx.cleanup().register("never reached", || async { Ok(()) });
    ctx.cleanup().register("hangs", std::future::pending);
    hang(ctx).await
}

fn limited(id: &'static str) -> ProbeMeta {
    ProbeMeta { timeout: Duration::from_secs(5), ..meta(id, Network) }
}

#[tokio::test(start_paused = true)]
async fn every_way_to_end_is_told_apart_and_stops_nobody_else() {
    let record = run_probes([
        probe!(limited("a.in-time"), pass),
        probe!(limited("b.timeout"), ten_seconds),
        probe!(limited("c.late"), ends_late_with_an_outcome),
        probe!(limited("d.hang"), hang),
        probe!(limited("e.panic"), panics),
        probe!(limited("f.error"), errs),
        probe!(limited("g.skip"), skips),
        probe!(limited("h.fail"), fail),
        probe!(limited("i.pass"), pass),
    ])
    .await;
    assert_eq!(
        words(&record),
        [
            "a.in-time: pass",
            "b.timeout: no-verdict",
            "c.late: no-verdict",
            "d.hang: no-verdict",
            "e.panic: no-verdict",
            "f.error: no-verdict",
            "g.skip: skip",
            "h.fail: fail",
            "i.pass: pass"
        ]
    );
    assert_eq!(why(&record, "b.timeout"), "Timeout: no verdict within its 5s");
    assert_eq!(
        why(&record, "c.late"),
        "Timeout: no verdict within its 5s; its late verdict `fail` does not count"
    );
    assert_eq!(
        why(&record, "d.hang"),
        "Aborted: no verdict within its 5s; it did not end when cancelled and was aborted"
    );
    assert_eq!(why(&record, "e.panic"), "Panic: panicked: slot 4 is gone");
    assert_eq!(why(&record, "f.error"), "Error: writing the scratch file: disk full");
    assert_eq!(record.conditions, [Condition::Findings, Condition::NoVerdict].into());
    let ms = |id| of(&record, id).elapsed_ms;
    assert_eq!((ms("b.timeout"), ms("c.late"), ms("d.hang")), (5_000.0, 6_000.0, 10_000.0));
}

#[tokio::test(start_paused = true)]
async fn what_was_observed_survives_an_abort_and_progress_is_heard() {
    let registry = registry([probe!(limited("a.hang"), observes_and_hangs)], [], []);
    let (record, lines) = run_all(&registry, environment(), RunOptions::default()).await;
    assert_eq!(of(&record, "a.hang").observations.len(), 1);
    let progress = |line: &&JournalLine| matches!(&line.event, RunEvent::ProbeProgress { text, .. } if text == "half way");
    assert_eq!(lines.iter().filter(progress).count(), 1);
    let journaled = lines.iter().filter(|line| !progress(line)).map(|line| line.seq);
    let count = lines.len() as u64 - 1;
    assert!(journaled.eq(1..=count), "progress leaves no gap in the numbers");
}

#[tokio::test(start_paused = true)]
async fn numbers_that_are_none_do_not_reach_the_record() {
    let record = run_probes([probe!(limited("a.nan"), measures_nothing)]).await;
    let outcome = of(&record, "a.nan").result.outcome().expect("finished");
    let names: Vec<_> = outcome.measurements.iter().map(|m| (&*m.name, m.baseline)).collect();
    assert_eq!(names, [("good", None), ("half", None)]);
    assert_eq!(outcome.findings, [Finding::new("the probe measured no number for `bad`")]);
}

#[tokio::test(start_paused = true)]
async fn cleanup_runs_in_reverse_and_its_failures_are_conditions() {
    let record = run_probes([probe!(limited("a.cleans"), with_cleanup)]).await;
    let cleanup: Vec<_> =
        of(&record, "a.cleans").cleanup.iter().map(|c| (&*c.what, c.failed.as_deref())).collect();
    assert_eq!(
        cleanup,
        [("third", Some("panicked: undo broke")), ("second", Some("still there")), ("first", None)]
    );
    assert_eq!(told(), ["first undone"]);
    assert_eq!(record.conditions, [Condition::CleanupNotProven].into());
    assert_eq!(words(&record), ["a.cleans: pass"], "the verdict stays what it is");
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_hangs_is_given_up_after_the_grace_period() {
    let record = run_probes([
        probe!(limited("a.hangs"), with_hanging_cleanup),
        probe!(limited("b.next"), pass),
    ])
    .await;
    let cleanup: Vec<_> =
        of(&record, "a.hangs").cleanup.iter().map(|c| (&*c.what, c.failed.as_deref())).collect();
    assert_eq!(
        cleanup,
        [("hangs", Some("not done within 5s")), ("never reached", Some("no time was left for it"))]
    );
    assert_eq!(words(&record)[1], "b.next: pass");
    assert!(record.conditions.contains(&Condition::CleanupNotProven));
}

const LOGIN: &[Capability] = &[Capability::new("login")];
const ANSWER: &[Capability] = &[Capability::new("answer")];

fn chain(login: fn(ProbeMeta) -> ProbeEntry) -> Vec<ProbeEntry> {
    vec![
        login(ProbeMeta { provides: LOGIN, ..meta("z.login", Network) }),
        probe!(ProbeMeta { needs: LOGIN, provides: ANSWER, ..meta("a.ask", Network) }, pass),
        probe!(ProbeMeta { needs: ANSWER, ..meta("b.judge", Impact) }, pass),
        probe!(meta("c.observe", Impact), pass),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_fails_blocks_its_chain_and_nobody_else() {
    let record = run_probes(chain(|meta| probe!(meta, fail))).await;
    assert_eq!(
        words(&record),
        ["z.login: fail", "a.ask: blocked", "b.judge: blocked", "c.observe: pass"]
    );
    assert_eq!(why(&record, "a.ask"), "blocked by z.login: login");
    assert_eq!(why(&record, "b.judge"), "blocked by a.ask: answer");
    assert_eq!(record.conditions, [Condition::Findings].into());
}

#[tokio::test(start_paused = true)]
async fn what_passes_blocks_nobody_and_runs_before_who_needs_it() {
    let record = run_probes(chain(|meta| probe!(meta, pass))).await;
    let expected = ["z.login: pass", "a.ask: pass", "b.judge: pass", "c.observe: pass"];
    assert_eq!(words(&record), expected);
    assert_eq!(record.conditions, [].into());
}

#[tokio::test(start_paused = true)]
async fn a_need_that_nobody_selected_provides_or_one_of_two_provides_blocks_nobody() {
    let needs = |id| ProbeMeta { needs: LOGIN, ..meta(id, Database) };
    let record = run_probes([probe!(needs("a.alone"), pass)]).await;
    assert_eq!(words(&record), ["a.alone: pass"]);

    let provides = |id| ProbeMeta { provides: LOGIN, ..meta(id, Network) };
    let two = [
        probe!(provides("a.broken"), fail),
        probe!(provides("b.works"), pass),
        probe!(needs("c.needs"), pass),
    ];
    assert_eq!(words(&run_probes(two).await)[2], "c.needs: pass");

    let later = ProbeMeta { provides: LOGIN, ..meta("z.later", Impact) };
    let later = run_probes([probe!(needs("a.early"), pass), probe!(later, fail)]).await;
    assert_eq!(words(&later), ["a.early: pass", "z.later: fail"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_of_nothing_but_skips_has_no_verdict() {
    let record = run_probes([probe!(limited("a.skip"), skips)]).await;
    assert_eq!(record.conditions, [Condition::NoVerdict].into());
    let nothing = run_probes([]).await;
    assert_eq!(nothing.conditions, [Condition::NothingSelected].into());
    assert!(nothing.elapsed_ms.is_some());
}

#[tokio::test(start_paused = true)]
async fn each_attempt_of_a_repeated_probe_has_its_record() {
    let registry =
        registry([probe!(meta("a.x", Network), pass), probe!(meta("b.y", Network), fail)], [], []);
    let environment = environment();
    let plan = planned(&registry, &environment, 3);
    let (record, _) = run_plan(plan, &registry, environment, RunOptions::default()).await;
    let attempts: Vec<_> = record.probes.iter().map(|p| (&*p.id, p.attempt)).collect();
    assert_eq!(attempts, [("a.x", 1), ("a.x", 2), ("a.x", 3), ("b.y", 1), ("b.y", 2), ("b.y", 3)]);
}

#[tokio::test(start_paused = true)]
async fn the_record_is_the_fold_of_the_events() {
    let registry = registry(
        [probe!(limited("a.hang"), observes_and_hangs), probe!(limited("b.cleans"), with_cleanup)],
        [],
        [],
    );
    let (record, lines) = run_all(&registry, environment(), RunOptions::default()).await;
    let RunEvent::RunStarted { plan, .. } = &lines[0].event else { panic!("begins with the plan") };
    let mut folded = RunRecord::new((**plan).clone(), lines[0].at);
    lines.iter().skip(1).for_each(|line| folded.apply(line.event.clone()));
    assert_eq!(folded, record);
}

static RELEASED: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// Blocks its thread until the test is over.
async fn blocks(_: &ProbeCtx) -> Answer {
    let (released, changed) = &RELEASED;
    let guard = released.lock().expect("unpoisoned");
    drop(changed.wait_while(guard, |released| !*released).expect("unpoisoned"));
    Ok(Outcome::pass())
}

/// Real time: a thread that is blocked stops a paused clock, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_blocks_its_thread_is_left_behind() {
    let timeout = Duration::from_millis(50);
    let registry = registry(
        [
            probe!(ProbeMeta { timeout, ..meta("a.blocks", Network) }, blocks),
            probe!(meta("b.next", Network), pass),
        ],
        [],
        [],
    );
    let mut environment = environment();
    environment.safety.grace = Span::millis(50);
    let (record, _) = run_all(&registry, environment, RunOptions::default()).await;
    *RELEASED.0.lock().expect("unpoisoned") = true;
    RELEASED.1.notify_all();
    assert_eq!(words(&record), ["a.blocks: no-verdict", "b.next: pass"]);
    assert_eq!(
        why(&record, "a.blocks"),
        "Aborted: no verdict within its 50ms; it blocks its thread and could not even be aborted"
    );
}

#[tokio::test]
async fn a_thousand_probes_that_do_nothing() {
    let noop = |n: u32| {
        let id = Box::leak(format!("noop.n{n:04}").into_boxed_str());
        probe!(ProbeMeta { expected: Duration::ZERO, ..meta(id, Network) }, pass)
    };
    let probes: Vec<_> = (0..1_000).map(noop).collect();
    let record = run_probes(probes).await;
    assert_eq!(record.probes.len(), 1_000);
    assert!(record.probes.iter().all(|probe| probe.result.word() == "pass"));
    assert!(record.probes.is_sorted_by_key(|probe| probe.id.clone()));
}
