//! One run, from the gate to the last event.

mod attempt;
mod gate;
mod guards;
mod log;
mod monitors;
mod needs;
mod parts;
mod wait;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shakedown_core::budget::{Budget, Usage};
use shakedown_core::cleanup::CleanupLedger;
use shakedown_core::clock::{self, Instant, millis};
use shakedown_core::context::{ProbeCtx, ProbeCtxBuilder, Shared};
use shakedown_core::credentials::Credentials;
use shakedown_core::environment::Environment;
use shakedown_core::meta::RunPhase;
use shakedown_core::outcome::Verdict;
use shakedown_core::record::{
    Condition, Plan, PlannedProbe, ProbeRecord, ProbeResult, RunEvent, RunRecord,
};
use shakedown_core::registry::Registry;
use tokio::sync::{mpsc, watch};

use self::guards::Guards;
use self::log::Log;
use self::monitors::{Monitors, Stage};
use self::needs::Needs;
use self::parts::Part;
use self::wait::{Halt, Message};
use crate::interrupt::{Interrupt, Urgency};
use crate::sink::EventSink;

/// How many messages of monitors and probes may wait for the run. Progress beyond it is lost,
/// samples wait.
const INBOX: usize = 256;

/// How a run is to be done.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Do not run unless some safety check found the target in its good state and none found it out
    /// of it.
    pub require_healthy: bool,
    /// Let the monitors run between the phases, too.
    pub infrastructure_monitoring: bool,
    /// Metrics whose worsening is what the run is meant to reproduce: noticed, but never a reason to
    /// stop.
    pub expected_by_signature: BTreeSet<String>,
    /// By which somebody asks the run to stop.
    pub interrupt: Interrupt,
    /// The budget to draw on, for somebody who watches it meanwhile; the environment's by default.
    pub budget: Option<Budget>,
}

/// Runs `plan` and returns what it found.
///
/// `registry` and `environment` are those the plan was made with, `credentials` the resolved ones.
/// Every event goes to `sink` before the next step is taken. Needs a tokio runtime with time and I/O.
/// With one thread a probe that never awaits stops everything; with several, call this from a spawned
/// task, where handing work from task to task costs less than from `block_on`.
///
/// Never fails: what went wrong stands in the record's
/// [`conditions`](RunRecord::conditions). A target of tier `production` is refused at the gate.
///
/// # Cancel safety
///
/// None: dropped before its end it leaves tasks behind, and no cleanup is run. To stop a run, raise
/// [`RunOptions::interrupt`].
pub async fn run(
    plan: Plan,
    registry: &Registry,
    environment: impl Into<Arc<Environment>>,
    credentials: impl Into<Arc<Credentials>>,
    options: RunOptions,
    sink: &mut dyn EventSink,
) -> RunRecord {
    let session = Arc::from(plan.session_id.as_str());
    let world = World::new(environment.into(), credentials.into(), options.budget.clone(), session);
    let (log, plan) = Log::begin(plan, sink);
    if plan.probes.is_empty() {
        return log.end(BTreeSet::from([Condition::NothingSelected]), world.budget.usage());
    }
    let mut run = Run::new(&plan, registry, world, options, log);
    if run.gate(&plan).await {
        run.phases(&plan).await;
    } else {
        run.skip(plan.probes.iter());
    }
    run.close().await;
    run.end()
}

/// What every context of the run is made of.
struct World {
    environment: Arc<Environment>,
    credentials: Arc<Credentials>,
    budget: Budget,
    shared: Shared,
    /// Undo actions of monitors and safety checks; each probe has its own.
    cleanup: CleanupLedger,
    session: Arc<str>,
}

impl World {
    fn new(
        environment: Arc<Environment>,
        credentials: Arc<Credentials>,
        budget: Option<Budget>,
        session: Arc<str>,
    ) -> Self {
        let budget = budget.unwrap_or_else(|| environment.safety.budget());
        let (shared, cleanup) = (Shared::default(), CleanupLedger::default());
        Self { environment, credentials, budget, shared, cleanup, session }
    }

    fn context(&self) -> ProbeCtxBuilder {
        ProbeCtx::builder(Arc::clone(&self.environment))
            .credentials(Arc::clone(&self.credentials))
            .budget(self.budget.clone())
            .shared(self.shared.clone())
            .cleanup(self.cleanup.clone())
            .session(Arc::clone(&self.session))
    }

    fn grace(&self) -> Duration {
        self.environment.safety.grace.get()
    }

    /// How long a monitor or a safety check may take to answer: a connect and the grace period.
    fn answer_limit(&self) -> Duration {
        self.environment.safety.connect_timeout.get() + self.grace()
    }
}

struct Run<'a> {
    registry: &'a Registry,
    world: World,
    options: RunOptions,
    log: Log<'a>,
    conditions: BTreeSet<Condition>,
    started: Instant,
    run_limit: Duration,
    phase_limits: [Duration; 4],
    /// Why nothing more is started, when that is so.
    halt: Option<Halt>,
    /// When the running phase's time is up.
    phase_deadline: Option<Instant>,
    needs: Needs,
    safety_checks: Vec<Part>,
    monitors: Monitors,
    guards: Guards,
    /// Per resource that was cut: why, for those that no longer fit.
    cuts: Vec<(shakedown_core::id::ResourceKind, String)>,
    inbox: mpsc::Receiver<Message>,
    outbox: mpsc::Sender<Message>,
    urgency: watch::Receiver<Urgency>,
    stage: watch::Sender<Stage>,
}

impl<'a> Run<'a> {
    fn new(
        plan: &Plan,
        registry: &'a Registry,
        world: World,
        options: RunOptions,
        log: Log<'a>,
    ) -> Self {
        let (outbox, inbox) = mpsc::channel(INBOX);
        let duration = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or(Duration::MAX);
        Self {
            registry,
            conditions: BTreeSet::new(),
            started: clock::now(),
            run_limit: duration(plan.run_limit_ms),
            phase_limits: plan.phase_limits_ms.map(duration),
            halt: None,
            phase_deadline: None,
            needs: Needs::new(&plan.probes),
            safety_checks: Vec::new(),
            monitors: Monitors::default(),
            guards: Guards::new(&world.environment, registry, plan, &options),
            cuts: Vec::new(),
            inbox,
            outbox,
            urgency: options.interrupt.listen(),
            stage: watch::Sender::new(Stage::default()),
            world,
            options,
            log,
        }
    }

    async fn phases(&mut self, plan: &Plan) {
        for phase in RunPhase::ALL {
            let probes: Vec<&PlannedProbe> =
                plan.probes.iter().filter(|probe| probe.phase == phase).collect();
            if probes.is_empty() {
                continue;
            }
            if self.halt.is_some() {
                self.skip(probes);
                continue;
            }
            self.phase(phase, probes).await;
            self.stability(Some(phase)).await;
        }
    }

    async fn phase(&mut self, phase: RunPhase, probes: Vec<&PlannedProbe>) {
        let started = clock::now();
        let limit = self.phase_limits[usize::from(phase.number()) - 1];
        self.phase_deadline = started.checked_add(limit);
        self.stage.send_modify(|stage| stage.enter(phase));
        self.log.emit(RunEvent::PhaseStarted { phase });
        for probe in probes {
            for attempt in 1..=probe.repeat {
                self.probe(probe, attempt).await;
            }
        }
        self.phase_deadline = None;
        self.halt.take_if(|halt| halt.only_this_phase);
        let between = self.options.infrastructure_monitoring;
        self.stage.send_modify(|stage| stage.leave(between));
        self.overdue();
        self.log.emit(RunEvent::PhaseFinished { phase, elapsed_ms: millis(started.elapsed()) });
    }

    async fn probe(&mut self, planned: &PlannedProbe, attempt: u32) {
        self.halt_at_deadline();
        let record = match self.hindrance(planned) {
            Some(result) => not_started(planned, attempt, result),
            None => self.attempt(planned, attempt).await,
        };
        self.finished(planned, record);
    }

    /// Why a probe is not even started.
    fn hindrance(&self, planned: &PlannedProbe) -> Option<ProbeResult> {
        if let Some(halt) = &self.halt {
            return Some(ProbeResult::NotRun { why: halt.why.clone() });
        }
        if let Some(why) = &planned.not_runnable {
            return Some(ProbeResult::NotRun { why: why.clone() });
        }
        self.needs.blocked(planned).or_else(|| self.too_much(planned))
    }

    /// Records probes that are not started because the run has halted.
    fn skip<'p>(&mut self, probes: impl IntoIterator<Item = &'p PlannedProbe>) {
        let why = self.halt.as_ref().map_or_else(String::new, |halt| halt.why.clone());
        for planned in probes {
            for attempt in 1..=planned.repeat {
                let result = ProbeResult::NotRun { why: why.clone() };
                self.finished(planned, not_started(planned, attempt, result));
            }
        }
    }

    fn finished(&mut self, planned: &PlannedProbe, record: ProbeRecord) {
        self.needs.finished(planned, &record.result);
        match &record.result {
            ProbeResult::Finished(outcome) => match outcome.verdict {
                Verdict::Fail => _ = self.conditions.insert(Condition::Findings),
                Verdict::Degraded => _ = self.conditions.insert(Condition::Degraded),
                Verdict::Pass | Verdict::Skip { .. } => {}
            },
            ProbeResult::NoVerdict { .. } => _ = self.conditions.insert(Condition::NoVerdict),
            ProbeResult::Blocked { .. } | ProbeResult::NotRun { .. } => {}
        }
        if record.cleanup.iter().any(|cleanup| cleanup.failed.is_some()) {
            self.conditions.insert(Condition::CleanupNotProven);
        }
        self.log.emit(RunEvent::ProbeFinished(Box::new(record)));
    }

    fn usage(&self) -> Vec<Usage> {
        self.world.budget.usage()
    }

    fn end(mut self) -> RunRecord {
        let judged = |record: &ProbeRecord| {
            let verdict = record.result.outcome().map(|outcome| &outcome.verdict);
            verdict.is_some_and(|verdict| !matches!(verdict, Verdict::Skip { .. }))
        };
        if !self.log.record().probes.iter().any(judged) {
            self.conditions.insert(Condition::NoVerdict);
        }
        let usage = self.usage();
        self.log.end(self.conditions, usage)
    }
}

fn not_started(planned: &PlannedProbe, attempt: u32, result: ProbeResult) -> ProbeRecord {
    ProbeRecord {
        id: planned.id.clone(),
        phase: planned.phase,
        attempt,
        at: clock::wall(),
        elapsed_ms: 0.0,
        result,
        observations: Vec::new(),
        cleanup: Vec::new(),
    }
}
