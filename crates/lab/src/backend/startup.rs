//! The start-up sequence: seven phases, each with real work of its kind, in the observed
//! application's words.

use std::fmt::Write as _;
use std::time::Duration;

use shakedown_core::clock::{self, Instant};

use super::App;
use super::log::Level;
use super::phases;

/// The module whose logger the sequence uses.
pub(super) const SMD: &str = "netra_backend.app.smd";
const RULE: &str = "============================================================";

/// A phase of the start-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Init,
    Dependencies,
    Database,
    Cache,
    Services,
    Websocket,
    Finalize,
}

impl Phase {
    pub(crate) const ALL: [Self; 7] = [
        Self::Init,
        Self::Dependencies,
        Self::Database,
        Self::Cache,
        Self::Services,
        Self::Websocket,
        Self::Finalize,
    ];

    /// As markers have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Dependencies => "DEPENDENCIES",
            Self::Database => "DATABASE",
            Self::Cache => "CACHE",
            Self::Services => "SERVICES",
            Self::Websocket => "WEBSOCKET",
            Self::Finalize => "FINALIZE",
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Init => "Foundation",
            Self::Dependencies => "Core Service Managers",
            Self::Database => "Database Setup",
            Self::Cache => "Redis Setup",
            Self::Services => "Chat Pipeline & Critical Services",
            Self::Websocket => "WebSocket Integration",
            Self::Finalize => "Validation & Optional Services",
        }
    }
}

/// How far the start-up is, for health checks.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) began: Instant,
    pub(crate) phase: Phase,
    pub(crate) completed: Vec<(Phase, Duration)>,
    pub(crate) state: State,
    /// Whether the cache was there.
    pub(crate) cache: bool,
}

/// Where the start-up stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    InProgress,
    Complete,
    Failed(String),
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            began: clock::now(),
            phase: Phase::Init,
            completed: Vec::new(),
            state: State::InProgress,
            cache: false,
        }
    }
}

/// Why a phase failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The error, in the application's words.
    pub(crate) message: String,
    /// The traceback of what was underneath.
    pub(crate) traceback: String,
    /// Whether a limit ended it.
    pub(crate) timed_out: bool,
    /// The circuit breaker's state; `closed` where there is none, as the observed application says it.
    pub(crate) circuit: &'static str,
}

/// Runs all phases.
///
/// # Errors
/// The text of the exception that leaves the sequence, `CRITICAL STARTUP FAILURE: ..`, everything
/// logged.
pub(crate) async fn run(app: &App) -> Result<(), String> {
    let log = &app.log;
    for line in [RULE, "DETERMINISTIC STARTUP SEQUENCE INITIATED", RULE] {
        log.info(SMD, line);
    }
    for (index, phase) in Phase::ALL.into_iter().enumerate() {
        let began = clock::now();
        enter(app, index, phase);
        match phases::run(app, phase).await {
            Ok(()) => app.progress(|progress| progress.completed.push((phase, began.elapsed()))),
            Err(failure) => {
                let error = fail(app, phase, began.elapsed(), &failure);
                app.progress(|progress| progress.state = State::Failed(error.clone()));
                return Err(error);
            }
        }
    }
    complete(app);
    Ok(())
}

/// The completion of a phase is logged when the next begins.
fn enter(app: &App, index: usize, phase: Phase) {
    let log = &app.log;
    let last = app.progress(|progress| {
        progress.phase = phase;
        progress.completed.last().copied()
    });
    if let Some((done, took)) = last {
        log.info(SMD, &completed(done, took));
    }
    log.info(SMD, &format!(" CYCLE:  PHASE TRANSITION  ->  {}", phase.name()));
    let epoch = clock::wall().as_millisecond();
    log.info(SMD, &format!("   Started at: {}.{:03}s elapsed", epoch / 1000, epoch % 1000));
    log.info(SMD, &format!("PHASE {}: {} - {}", index + 1, phase.name(), phase.heading()));
}

fn completed(phase: Phase, took: Duration) -> String {
    format!(" PASS:  PHASE COMPLETED: {} ({:.3}s)", phase.name(), took.as_secs_f64())
}

fn complete(app: &App) {
    let log = &app.log;
    let progress = app.progress(|progress| {
        progress.state = State::Complete;
        progress.clone()
    });
    if let Some(&(phase, took)) = progress.completed.last() {
        log.info(SMD, &completed(phase, took));
    }
    let total = progress.began.elapsed().as_secs_f64();
    log.info(SMD, RULE);
    log.info(SMD, "[U+1F680] DETERMINISTIC STARTUP SEQUENCE COMPLETED SUCCESSFULLY");
    log.info(SMD, &format!(" PASS:  Total Time: {total:.3}s"));
    log.info(SMD, &format!(" PASS:  Phases Completed: {}/7", progress.completed.len()));
    log.info(SMD, " CHART:  PHASE TIMING BREAKDOWN:");
    for (phase, took) in &progress.completed {
        let took = took.as_secs_f64();
        let share = took / total.max(f64::EPSILON) * 100.0;
        log.info(SMD, &format!("   {:<12}: {took:.3}s ({share:.1}%)", phase.name()));
    }
    log.info(SMD, RULE);
}

fn fail(app: &App, phase: Phase, after: Duration, failure: &Failure) -> String {
    let log = &app.log;
    let Failure { message, traceback, timed_out, circuit } = failure;
    let progress = app.progress(|progress| progress.clone());
    let seconds = after.as_secs_f64();
    let mut failed =
        format!(" FAIL:  PHASE FAILED: {} - {message} (after {seconds:.2}s)", phase.name());
    if *timed_out {
        failed.push_str(&format!(" [TIMEOUT - Circuit: {circuit}]"));
    }
    log.error(SMD, message);
    log.error(SMD, &failed);
    log.error(SMD, "[U+1F4A5] DETERMINISTIC STARTUP SEQUENCE FAILED");
    log.error(SMD, &format!(" FAIL:  Failed at Phase: {}", phase.name()));
    log.error(
        SMD,
        &format!(" FAIL:  Time Elapsed: {:.3}s", progress.began.elapsed().as_secs_f64()),
    );
    let names = |phases: &[Phase]| {
        let mut list = String::new();
        for phase in phases {
            let comma = if list.is_empty() { "" } else { ", " };
            let _ = write!(list, "{comma}'{}'", phase.name().to_lowercase());
        }
        format!("[{list}]")
    };
    let done: Vec<_> = progress.completed.iter().map(|(phase, _)| *phase).collect();
    log.error(SMD, &format!(" PASS:  Completed Phases: {}", names(&done)));
    log.error(SMD, &format!(" FAIL:  Failed Phases: {}", names(&[phase])));
    log.entry(Level::Critical, SMD, "[U+1F534] CRITICAL: CHAT FUNCTIONALITY IS BROKEN", None);
    let error = format!("CRITICAL STARTUP FAILURE: {message}");
    log.error("logging", &format!("{traceback}\n{RAISED}{error}"));
    let middleware = format!("uvicorn-compatible session middleware error: {error}");
    log.entry(Level::Error, "logging", &middleware, Some(("DeterministicStartupError", &error)));
    error
}

/// How the sequence's own exception ends a traceback.
const RAISED: &str = "\nThe above exception was the direct cause of the following exception:\n\n\
Traceback (most recent call last):\n  \
File \"/app/netra_backend/app/core/lifespan_manager.py\", line 36, in lifespan\n    \
start_time, logger = await run_complete_startup(app)\n  \
File \"/app/netra_backend/app/smd.py\", line 197, in initialize_system\n    \
raise DeterministicStartupError(f\"CRITICAL STARTUP FAILURE: {e}\") from e\n\
netra_backend.app.smd.DeterministicStartupError: ";
