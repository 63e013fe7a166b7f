//! What a plan says and refuses.

mod common;

use std::time::Duration;

use common::{
    entry, environment, meta, monitor_entry, now, pass, probe, registry, safety_entry, secs,
};
use proptest::prelude::*;
use shakedown_core::budget::Draw;
use shakedown_core::environment::{Environment, Guard, Tier};
use shakedown_core::id::{Capability, resource};
use shakedown_core::meta::{Category, ProbeMeta, RunPhase};
use shakedown_core::monitor::{MetricMeta, MonitorMeta, MonitorSpec};
use shakedown_core::record::Plan;
use shakedown_core::registry::{MonitorEntry, ProbeEntry, Registry, SafetyEntry};
use shakedown_core::safety::{SafetyMeta, SafetySpec};
use shakedown_runner::{Ceiling, PlanError, PlanOptions, Selection, plan, select, session_id};

use RunPhase::{Database, Network, Startup};

fn make(
    registry: &Registry,
    environment: &Environment,
    options: PlanOptions,
) -> Result<Plan, PlanError> {
    let selected = select(registry, &Selection::default()).expect("no patterns");
    plan(registry, environment, &selected, options)
}

fn options() -> PlanOptions {
    PlanOptions::new(session_id("issue_1278", now()), now())
}

const ONE: &[Draw] = &[Draw::new(resource::DATABASE_CONNECTION, 1)];

fn monitor(id: &'static str) -> MonitorEntry {
    const METRICS: &[MetricMeta] = &[MetricMeta {
        id: "fake.latency",
        strategy_name: None,
        definition: "how long it takes",
        unit: "ms",
        no_source: None,
    }];
    let meta = MonitorMeta { id, draws: ONE, metrics: METRICS, ..common::FakeMonitor::META };
    monitor_entry(meta, |_| Ok(Box::new(common::FakeMonitor::from_config(()))))
}

fn safety() -> SafetyEntry {
    let meta = SafetyMeta { draws: ONE, ..common::FakeSafety::META };
    safety_entry(meta, |_| Ok(Box::new(common::FakeSafety::from_config(()))))
}

fn drawing(id: &'static str, draws: &'static [Draw]) -> ProbeEntry {
    probe!(ProbeMeta { draws, ..meta(id, Network) }, pass)
}

#[test]
fn session_ids_are_utc_and_fit_a_directory() {
    assert_eq!(session_id("issue_1278", now()), "issue_1278_20250915_120000");
    assert_eq!(session_id("../x y", now()), "___x_y_20250915_120000");
}

#[test]
fn probes_are_ordered_by_phase_need_whether_they_provide_and_id() {
    const A: &[Capability] = &[Capability::new("a")];
    const B: &[Capability] = &[Capability::new("b")];
    const BOTH: &[Capability] = &[Capability::new("a"), Capability::new("b")];
    let registry = registry(
        [
            probe!(meta("a.last", Database), pass),
            probe!(ProbeMeta { needs: B, ..meta("a.needs-b", Network) }, pass),
            probe!(ProbeMeta { needs: A, provides: B, ..meta("b.middle", Network) }, pass),
            probe!(meta("c.free", Network), pass),
            probe!(ProbeMeta { provides: BOTH, needs: A, ..meta("z.root", Network) }, pass),
        ],
        [],
        [],
    );
    let plan = make(&registry, &environment(), options()).expect("a plan");
    let ids: Vec<_> = plan.probes.iter().map(|probe| &*probe.id).collect();
    assert_eq!(ids, ["z.root", "b.middle", "a.needs-b", "c.free", "a.last"]);
}

#[test]
fn needs_in_a_circle_are_an_error_that_names_them() {
    const A: &[Capability] = &[Capability::new("a")];
    const B: &[Capability] = &[Capability::new("b")];
    let registry = registry(
        [
            probe!(ProbeMeta { needs: B, provides: A, ..meta("a.x", Network) }, pass),
            probe!(ProbeMeta { needs: A, provides: B, ..meta("b.y", Network) }, pass),
            probe!(meta("c.z", Network), pass),
        ],
        [],
        [],
    );
    let error = make(&registry, &environment(), options()).expect_err("a circle");
    assert_eq!(error.to_string(), "these probes need each other in a circle: a.x, b.y");
}

#[test]
fn the_time_scale_reaches_the_probes_and_the_ceiling() {
    let minute = ProbeMeta {
        expected: Duration::from_secs(60),
        timeout: Duration::from_secs(5),
        ..meta("a.minute", Network)
    };
    let registry = registry([probe!(minute, pass)], [], []);
    let mut environment = environment();
    environment.lab.time_scale = serde_json::from_str("10").expect("a time scale");
    let limit = Duration::from_secs(600);
    let ceiling = Some(Ceiling { name: "fast_feedback".into(), limit });
    let plan = make(&registry, &environment, PlanOptions { ceiling, repeat: 2, ..options() });
    let plan = plan.expect("fits");
    let probe = &plan.probes[0];
    assert_eq!((probe.expected_ms, probe.timeout_ms), (6_000.0, 1_000.0), "limits: at least 1 s");
    assert_eq!(plan.expected_ms, 12_000.0);
    assert_eq!(plan.worst_ms, 2.0 * (1_000.0 + 2.0 * 5_000.0));
    assert_eq!(plan.run_limit_ms, 60_000.0);
}

#[test]
fn what_cannot_fit_is_refused_with_what_to_do() {
    let ten_minutes =
        |id, phase| ProbeMeta { expected: Duration::from_secs(600), ..meta(id, phase) };
    let registry = registry(
        [probe!(ten_minutes("a.x", Network), pass), probe!(ten_minutes("b.y", Startup), pass)],
        [],
        [],
    );
    let environment = environment();
    let limit = Duration::from_secs(600);
    let ceiling = Some(Ceiling { name: "fast_feedback".into(), limit });
    let error = make(&registry, &environment, PlanOptions { ceiling, ..options() });
    assert_eq!(
        error.expect_err("20 minutes in 10").to_string(),
        "the selected probes usually take 20min and the mode `fast_feedback` allows 10min: select \
         fewer probes, repeat them less often, or choose a longer mode"
    );
    make(&registry, &environment, options()).expect("phase 1 has exactly its 10 minutes");
    let error = make(&registry, &environment, PlanOptions { repeat: 2, ..options() });
    let error = error.expect_err("phase 1 has 10 minutes").to_string();
    assert!(error.contains("20min and phase 1 (`safety.phase_limits`) allows 10min"), "{error}");
    let error = make(&registry, &environment, PlanOptions { repeat: 5, ..options() });
    let error = error.expect_err("a run has 90 minutes").to_string();
    assert!(error.contains("100min and `safety.run_limit` allows 90min"), "{error}");
}

#[test]
fn what_draws_more_than_there_is_is_planned_as_not_runnable() {
    const THREE: &[Draw] = &[Draw::new(resource::DATABASE_CONNECTION, 3)];
    const FOUR: &[Draw] = &[Draw::new(resource::DATABASE_CONNECTION, 4)];
    let registry = registry(
        [drawing("a.three", THREE), drawing("b.four", FOUR)],
        [monitor("fake.monitor")],
        [safety()],
    );
    let plan = make(&registry, &environment(), options()).expect("a plan");
    let reasons: Vec<_> = plan.probes.iter().map(|probe| probe.not_runnable.as_deref()).collect();
    let four = "it draws 4 of `database-connection`, the budget leaves 3 for probes";
    assert_eq!(reasons, [None, Some(four)]);
}

#[test]
fn a_plan_of_unit_probes_watches_nothing() {
    let unit = ProbeMeta { category: Category::Unit, ..meta("a.unit", Network) };
    let mut environment = environment();
    environment.safety.guards = Guard::strategy();
    let registry = registry([probe!(unit, pass)], [monitor("fake.monitor")], [safety()]);
    let plan = make(&registry, &environment, options()).expect("a plan");
    assert!(plan.monitors.is_empty() && plan.safety_checks.is_empty());
}

#[test]
fn a_guard_without_a_source_is_not_armed_and_says_why() {
    let mut environment = environment();
    let guard = |metric: &str| Guard {
        metric: metric.into(),
        above: None,
        above_baseline: Some(2.0),
        floor: Some(50.0),
        lasting: secs(300),
    };
    environment.safety.guards = vec![guard("fake.latency"), guard("fake.cpu")];
    environment.safety.guards.push(Guard { above_baseline: None, ..guard("fake.latency") });
    let registry = registry([probe!(meta("a.x", Network), pass)], [monitor("fake.monitor")], []);
    let plan = make(&registry, &environment, options()).expect("a plan");
    let rule = "above 2 times the baseline and above 50 for 5min";
    let guards: Vec<_> =
        plan.guards.iter().map(|g| (&*g.metric, &*g.rule, g.not_armed.as_deref())).collect();
    assert_eq!(guards[0], ("fake.latency", rule, None));
    assert_eq!(guards[1], ("fake.cpu", rule, Some("no monitor of this binary measures it")));
    assert_eq!(guards[2].2, Some("it has no limit: set `above` or `above_baseline`"));
}

#[test]
fn production_is_planned_with_a_warning() {
    let mut environment = environment();
    environment.identity.tier = Tier::Production;
    let registry = registry([probe!(meta("a.x", Network), pass)], [], []);
    let plan = make(&registry, &environment, options()).expect("a plan");
    assert!(plan.notes[0].contains("refused"), "{:?}", plan.notes);
}

proptest! {
    /// Whatever needs and provisions probes declare, an order holds them all, once, and puts every
    /// provider of a phase before those that need it; or it is a circle.
    #[test]
    fn an_order_is_complete_and_honours_needs(
        graph in proptest::collection::vec((0..3usize, 0..5usize, 0..5usize), 1..30),
    ) {
        const FACTS: [Capability; 5] = [
            Capability::new("f0"), Capability::new("f1"), Capability::new("f2"),
            Capability::new("f3"), Capability::new("f4"),
        ];
        let probes: Vec<ProbeEntry> = graph.iter().enumerate().map(|(n, &(phase, needs, provides))| {
            let id = Box::leak(format!("p.n{n:02}").into_boxed_str());
            let fact = |n: usize| -> &'static [Capability] { Box::leak(Box::new([FACTS[n].clone()])) };
            let meta = ProbeMeta {
                needs: fact(needs), provides: fact(provides), ..meta(id, RunPhase::ALL[phase])
            };
            entry(meta, |_| Ok(Box::new(common::Fake(|ctx| Box::pin(pass(ctx))))))
        }).collect();
        let count = probes.len();
        let registry = registry(probes, [], []);
        let Ok(plan) = make(&registry, &environment(), options()) else { return Ok(()) };
        prop_assert_eq!(plan.probes.len(), count);
        for (index, probe) in plan.probes.iter().enumerate() {
            for later in &plan.probes[index + 1..] {
                prop_assert!(probe.phase <= later.phase);
                let provides = later.provides != later.needs
                    && later.phase == probe.phase
                    && probe.needs != probe.provides
                    && later.provides.iter().any(|fact| probe.needs.contains(fact));
                prop_assert!(!provides, "{} needs what {} provides", probe.id, later.id);
            }
        }
    }
}
