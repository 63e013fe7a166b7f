//! Fakes: probes, monitors and safety checks that do what a test says.
#![allow(dead_code, unused_macros, reason = "each test file uses its part of this")]

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shakedown_core::async_trait;
use shakedown_core::clock::Timestamp;
use shakedown_core::context::ProbeCtx;
use shakedown_core::credentials::Credentials;
use shakedown_core::environment::{Environment, Tier};
use shakedown_core::meta::{ProbeMeta, RunPhase};
use shakedown_core::monitor::{Monitor, MonitorError, MonitorMeta, MonitorSpec, Sample};
use shakedown_core::outcome::{Finding, Outcome};
use shakedown_core::probe::{Probe, ProbeError, ProbeSpec};
use shakedown_core::record::{JournalLine, Plan, ProbeRecord, ProbeResult, RunRecord};
use shakedown_core::registry::{Entries, MonitorEntry, Origin, ProbeEntry, Registry, SafetyEntry};
use shakedown_core::safety::{Check, SafetyCheck, SafetyMeta, SafetySpec};
use shakedown_core::units::Span;
use shakedown_runner::{FnSink, PlanOptions, RunOptions, Selection, plan, run, select};

pub(crate) type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
pub(crate) type Answer = Result<Outcome, ProbeError>;

pub(crate) const ORIGIN: Origin = Origin { package: "fakes", file: "fakes.rs", line: 1 };

thread_local! {
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes something that a test asserts later. Each test has a thread of its own, and a runtime of one
/// thread.
pub(crate) fn tell(what: &str) {
    TOLD.with_borrow_mut(|told| told.push(what.to_owned()));
}

/// What has been told so far.
pub(crate) fn told() -> Vec<String> {
    TOLD.with_borrow(Clone::clone)
}

// Probes

#[derive(Debug)]
struct Template;

#[async_trait]
impl Probe for Template {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, _: &ProbeCtx) -> Answer {
        Ok(Outcome::pass())
    }
}

impl ProbeSpec for Template {
    type Config = ();

    const META: ProbeMeta = ProbeMeta::new("fake.template", RunPhase::Network, "it holds");

    fn from_config((): ()) -> Self {
        Self
    }
}

pub(crate) struct Fake(pub(crate) for<'a> fn(&'a ProbeCtx) -> Future<'a, Answer>);

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

#[async_trait]
impl Probe for Fake {
    fn meta(&self) -> &'static ProbeMeta {
        &Template::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Answer {
        (self.0)(ctx).await
    }
}

pub(crate) fn meta(id: &'static str, phase: RunPhase) -> ProbeMeta {
    ProbeMeta::new(id, phase, "it holds")
}

pub(crate) fn entry(
    meta: ProbeMeta,
    build: fn(&Environment) -> Result<Box<dyn Probe>, toml::de::Error>,
) -> ProbeEntry {
    let meta: &'static ProbeMeta = Box::leak(Box::new(meta));
    ProbeEntry { meta, build, ..ProbeEntry::of::<Template>(ORIGIN) }
}

/// `probe!(meta, behaviour)`, where behaviour is an `async fn(&ProbeCtx) -> Answer`.
macro_rules! probe {
    ($meta:expr, $behaviour:path) => {
        $crate::common::entry($meta, |_| {
            Ok(Box::new($crate::common::Fake(|ctx| Box::pin($behaviour(ctx)))))
        })
    };
}
pub(crate) use probe;

pub(crate) async fn pass(_: &ProbeCtx) -> Answer {
    Ok(Outcome::pass())
}

pub(crate) async fn fail(_: &ProbeCtx) -> Answer {
    Ok(Outcome::fail(Finding::new("it does not hold")))
}

/// Ends by itself after ten seconds, unless cancelled.
pub(crate) async fn ten_seconds(ctx: &ProbeCtx) -> Answer {
    tell("begun");
    ctx.sleep(Duration::from_secs(10)).await?;
    Ok(Outcome::pass())
}

/// Never ends, whatever it is told.
pub(crate) async fn hang(_: &ProbeCtx) -> Answer {
    std::future::pending().await
}

// Monitors

type Sampled = Result<Vec<Sample>, MonitorError>;

/// Samples by the number of the call, beginning with 0.
pub(crate) struct FakeMonitor {
    calls: AtomicU32,
    sample: for<'a> fn(u32, &'a ProbeCtx) -> Future<'a, Sampled>,
}

impl FakeMonitor {
    pub(crate) fn new(sample: for<'a> fn(u32, &'a ProbeCtx) -> Future<'a, Sampled>) -> Self {
        Self { calls: AtomicU32::new(0), sample }
    }
}

impl fmt::Debug for FakeMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeMonitor")
    }
}

#[async_trait]
impl Monitor for FakeMonitor {
    fn meta(&self) -> &'static MonitorMeta {
        &Self::META
    }

    async fn sample(&self, ctx: &ProbeCtx) -> Sampled {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        (self.sample)(call, ctx).await
    }

    async fn close(&self) {
        tell("monitor closed");
    }
}

impl MonitorSpec for FakeMonitor {
    type Config = ();

    const META: MonitorMeta = MonitorMeta {
        id: "fake.monitor",
        summary: "watches",
        draws: &[],
        metrics: &[],
        period: Duration::ZERO,
        delay: Duration::ZERO,
    };

    fn from_config((): ()) -> Self {
        Self::new(|_, _| Box::pin(async { Ok(Vec::new()) }))
    }
}

pub(crate) fn monitor_entry(
    meta: MonitorMeta,
    build: fn(&Environment) -> Result<Box<dyn Monitor>, toml::de::Error>,
) -> MonitorEntry {
    let meta: &'static MonitorMeta = Box::leak(Box::new(meta));
    MonitorEntry { meta, build, ..MonitorEntry::of::<FakeMonitor>(ORIGIN) }
}

// Safety checks

type Checked = for<'a> fn(&'a ProbeCtx) -> Future<'a, Vec<Check>>;

pub(crate) struct FakeSafety {
    pub(crate) gate: Checked,
    pub(crate) stability: Checked,
}

impl fmt::Debug for FakeSafety {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeSafety")
    }
}

#[async_trait]
impl SafetyCheck for FakeSafety {
    fn meta(&self) -> &'static SafetyMeta {
        &Self::META
    }

    async fn gate(&self, ctx: &ProbeCtx) -> Vec<Check> {
        tell("gate");
        (self.gate)(ctx).await
    }

    async fn stability(&self, ctx: &ProbeCtx) -> Vec<Check> {
        tell("stability");
        (self.stability)(ctx).await
    }

    async fn finish(&self, _: &ProbeCtx) {
        tell("finished");
    }
}

impl SafetySpec for FakeSafety {
    type Config = ();

    const META: SafetyMeta = SafetyMeta { id: "fake.safety", summary: "room for us", draws: &[] };

    fn from_config((): ()) -> Self {
        Self { gate: |_| checks(vec![]), stability: |_| checks(vec![]) }
    }
}

pub(crate) fn checks<'a>(checks: Vec<Check>) -> Future<'a, Vec<Check>> {
    Box::pin(std::future::ready(checks))
}

pub(crate) fn safety_entry(
    meta: SafetyMeta,
    build: fn(&Environment) -> Result<Box<dyn SafetyCheck>, toml::de::Error>,
) -> SafetyEntry {
    let meta: &'static SafetyMeta = Box::leak(Box::new(meta));
    SafetyEntry { meta, build, ..SafetyEntry::of::<FakeSafety>(ORIGIN) }
}

// Runs

pub(crate) fn environment() -> Environment {
    let mut environment = Environment::default();
    environment.identity.tier = Tier::Lab;
    environment.identity.name = "fake".into();
    environment.safety.guards.clear();
    environment
}

pub(crate) fn registry(
    probes: impl Into<Vec<ProbeEntry>>,
    monitors: impl Into<Vec<MonitorEntry>>,
    safety_checks: impl Into<Vec<SafetyEntry>>,
) -> Registry {
    Registry::from_entries(Entries {
        probes: probes.into(),
        monitors: monitors.into(),
        safety_checks: safety_checks.into(),
        ..Entries::default()
    })
    .expect("no duplicates")
}

pub(crate) fn now() -> Timestamp {
    "2025-09-15T12:00:00Z".parse().expect("a time")
}

pub(crate) fn planned(registry: &Registry, environment: &Environment, repeat: u32) -> Plan {
    let selected = select(registry, &Selection::default()).expect("no patterns");
    let options = PlanOptions { repeat, ..PlanOptions::new("session", now()) };
    plan(registry, environment, &selected, options).expect("a plan")
}

/// Runs everything in `registry`; also returns the lines a sink heard.
pub(crate) async fn run_all(
    registry: &Registry,
    environment: Environment,
    options: RunOptions,
) -> (RunRecord, Vec<JournalLine>) {
    let plan = planned(registry, &environment, 1);
    run_plan(plan, registry, environment, options).await
}

pub(crate) async fn run_plan(
    plan: Plan,
    registry: &Registry,
    environment: Environment,
    options: RunOptions,
) -> (RunRecord, Vec<JournalLine>) {
    let mut lines = Vec::new();
    let mut sink = FnSink(|line: &JournalLine| lines.push(line.clone()));
    let record = run(plan, registry, environment, Credentials::default(), options, &mut sink).await;
    (record, lines)
}

/// Runs probes alone.
pub(crate) async fn run_probes(probes: impl Into<Vec<ProbeEntry>>) -> RunRecord {
    run_all(&registry(probes, [], []), environment(), RunOptions::default()).await.0
}

/// `id: word` of every probe, in the order they ended.
pub(crate) fn words(record: &RunRecord) -> Vec<String> {
    record.probes.iter().map(|probe| format!("{}: {}", probe.id, probe.result.word())).collect()
}

pub(crate) fn of<'r>(record: &'r RunRecord, id: &str) -> &'r ProbeRecord {
    record.probes.iter().find(|probe| probe.id == id).expect("it is in the record")
}

/// The sentence of a probe without an outcome.
pub(crate) fn why(record: &RunRecord, id: &str) -> String {
    match &of(record, id).result {
        ProbeResult::NoVerdict { how, error } => format!("{how:?}: {error}"),
        ProbeResult::Blocked { by, need } => format!("blocked by {by}: {need}"),
        ProbeResult::NotRun { why } => why.clone(),
        ProbeResult::Finished(outcome) => format!("{outcome:?}"),
    }
}

pub(crate) fn secs(secs: u64) -> Span {
    Span::secs(secs)
}
