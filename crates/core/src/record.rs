//! What a run leaves behind.
//!
//! The runner emits [`RunEvent`]s; the journal holds one [`JournalLine`] per event, and folding the
//! events gives the [`RunRecord`] that reports read. A run that was killed still has the journal,
//! and therefore the record of everything that had finished.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::budget::{Draw, Usage};
use crate::cleanup::CleanupRecord;
use crate::clock::Timestamp;
use crate::environment::Tier;
use crate::evidence::{Observation, Vantage};
use crate::id::Metric;
use crate::meta::{Category, RunPhase};
use crate::monitor::Sample;
use crate::outcome::Outcome;
use crate::reproduction::Reproduction;
use crate::safety::Check;

/// The schema of a [`RunRecord`]; changes when its meaning does.
pub const RUN_SCHEMA: &str = "shakedown.run/1";

/// What a run is going to do. Making one touches no network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `PREFIX_YYYYmmdd_HHMMSS`, UTC.
    pub session_id: String,
    /// When the plan was made.
    pub created_at: Timestamp,
    /// The version of shakedown.
    pub version: String,
    /// The command line, redacted.
    pub argv: Vec<String>,
    /// The target.
    pub target: Target,
    /// The probes, in the order they run.
    pub probes: Vec<PlannedProbe>,
    /// The monitors beside them.
    pub monitors: Vec<PlannedPart>,
    /// The safety checks around them.
    pub safety_checks: Vec<PlannedPart>,
    /// The guards, armed or not.
    pub guards: Vec<PlannedGuard>,
    /// What the run may use of the target at once.
    pub budget: Vec<Usage>,
    /// How long the run may take, in milliseconds.
    pub run_limit_ms: f64,
    /// How long each phase may take, in milliseconds.
    pub phase_limits_ms: [f64; 4],
    /// How long the selected probes usually take together, in milliseconds.
    pub expected_ms: f64,
    /// How long they may take at most: every timeout and grace period used up.
    pub worst_ms: f64,
    /// What a person should know before starting it: flags without a meaning here, keys ignored.
    pub notes: Vec<String>,
}

/// The target of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The environment's name.
    pub environment: String,
    /// How much care it needs.
    pub tier: Tier,
    /// Its cloud project.
    pub project: String,
    /// Its region.
    pub region: String,
    /// From where it is looked at.
    pub vantage: Vantage,
    /// How the database is reached, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The lab's time scale; 1 elsewhere.
    pub time_scale: u32,
    /// The lab's scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
}

/// One probe of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedProbe {
    /// Its id.
    pub id: String,
    /// What it states.
    pub summary: String,
    /// Its run phase.
    pub phase: RunPhase,
    /// Its category.
    pub category: Category,
    /// What it takes at once.
    pub draws: Vec<Draw>,
    /// The facts it cannot run without.
    pub needs: Vec<String>,
    /// The facts it provides.
    pub provides: Vec<String>,
    /// Usually, in milliseconds.
    pub expected_ms: f64,
    /// At most, in milliseconds.
    pub timeout_ms: f64,
    /// How often it runs.
    pub repeat: u32,
    /// Why it will not be started, when that is known already: it draws more than the budget has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_runnable: Option<String>,
}

/// One monitor or safety check of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedPart {
    /// Its id.
    pub id: String,
    /// What it does.
    pub summary: String,
    /// What it holds for the whole run.
    pub draws: Vec<Draw>,
}

/// One guard of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedGuard {
    /// The metric.
    pub metric: String,
    /// The rule, for people.
    pub rule: String,
    /// Why it cannot act; `None` when it is armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_armed: Option<String>,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum ProbeResult {
    /// With an outcome.
    Finished(Outcome),
    /// Without a verdict: an error on our side, a timeout, a panic.
    NoVerdict {
        /// How.
        how: NoVerdict,
        /// The error, with its causes.
        error: String,
    },
    /// A fact it needs does not hold.
    Blocked {
        /// The probe that was to provide it.
        by: String,
        /// The fact.
        need: String,
    },
    /// It was not started.
    NotRun {
        /// Why.
        why: String,
    },
}

/// How a probe came to have no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoVerdict {
    /// It returned an error.
    Error,
    /// Its time was up; it ended within the grace period.
    Timeout,
    /// Its time was up and it had to be aborted.
    Aborted,
    /// It panicked.
    Panic,
    /// The run was being stopped.
    Cancelled,
}

impl ProbeResult {
    /// One word: `pass`, `degraded`, `fail`, `skip`, `no-verdict`, `blocked`, `not-run`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Finished(outcome) => outcome.verdict.as_str(),
            Self::NoVerdict { .. } => "no-verdict",
            Self::Blocked { .. } => "blocked",
            Self::NotRun { .. } => "not-run",
        }
    }

    /// The outcome, when there is one.
    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }
}

/// The record of one probe of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// Its id.
    pub id: String,
    /// Its run phase.
    pub phase: RunPhase,
    /// 1 for the first time.
    pub attempt: u32,
    /// When it was started, or decided not to be. Not called `at` in JSON, where the line of the
    /// journal has that name.
    #[serde(rename = "started_at")]
    pub at: Timestamp,
    /// How long it ran, in milliseconds.
    pub elapsed_ms: f64,
    /// How it ended.
    #[serde(flatten)]
    pub result: ProbeResult,
    /// What it observed besides its outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observations: Vec<Observation>,
    /// What had to be undone after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cleanup: Vec<CleanupRecord>,
}

/// A sample with what was going on when it was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StampedSample {
    /// The monitor.
    pub monitor: String,
    /// The run phase; `None` before, between and after phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RunPhase>,
    /// The running probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// The sample.
    pub sample: Sample,
}

/// What a guard noticed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardEvent {
    /// The metric.
    pub metric: Metric,
    /// The value that was too high.
    pub value: f64,
    /// The limit it was above.
    pub limit: f64,
    /// The value at the gate, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// Whether it stopped the run: only what got worse after our load began does.
    pub stopped: bool,
    /// The sentence for people.
    pub summary: String,
}

/// The answers of one safety check at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckRecord {
    /// The safety check.
    pub by: String,
    /// After which phase; `None` at the gate and at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RunPhase>,
    /// The answers.
    pub checks: Vec<Check>,
}

/// Something that decides the exit code, beyond the probes' results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Something of ours broke.
    Internal,
    /// Somebody interrupted the run.
    Interrupted,
    /// Something we created is not known to be gone.
    CleanupNotProven,
    /// A guard stopped the run.
    GuardStopped,
    /// The run's own time was up.
    DeadlineReached,
    /// The gate refused.
    GateRefused,
    /// Nothing was selected.
    NothingSelected,
    /// A probe failed.
    Findings,
    /// A probe was degraded.
    Degraded,
    /// A probe came to no verdict, or all were skipped or blocked.
    NoVerdict,
}

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunEvent {
    /// The run begins.
    RunStarted {
        /// The schema of this journal.
        schema: String,
        /// What is going to be done.
        plan: Box<Plan>,
    },
    /// A safety check answered before the first probe.
    Gate(CheckRecord),
    /// A phase begins.
    PhaseStarted {
        /// Which.
        phase: RunPhase,
    },
    /// A probe begins.
    ProbeStarted {
        /// Its id.
        id: String,
        /// Its run phase.
        phase: RunPhase,
        /// 1 for the first time.
        attempt: u32,
        /// When it will be cancelled, in milliseconds from now.
        timeout_ms: f64,
    },
    /// A probe tells where it is. Not journaled.
    ProbeProgress {
        /// Its id.
        id: String,
        /// Its words.
        text: String,
    },
    /// A probe ended, or was not started.
    ProbeFinished(Box<ProbeRecord>),
    /// A monitor's samples.
    Sampled {
        /// The samples of one call.
        samples: Vec<StampedSample>,
    },
    /// A monitor could not be sampled at all.
    MonitorFailed {
        /// Its id.
        monitor: String,
        /// Why.
        error: String,
    },
    /// A guard noticed something.
    GuardNoticed(GuardEvent),
    /// A safety check answered after a phase or at the end.
    Stability(CheckRecord),
    /// A phase ended.
    PhaseFinished {
        /// Which.
        phase: RunPhase,
        /// How long it took, in milliseconds.
        elapsed_ms: f64,
    },
    /// Something a person should know.
    Remark {
        /// The sentence.
        text: String,
    },
    /// The run ended.
    RunFinished {
        /// What decides the exit code.
        conditions: BTreeSet<Condition>,
        /// What was used of the budget.
        usage: Vec<Usage>,
        /// How long the run took, in milliseconds.
        elapsed_ms: f64,
    },
}

/// One line of `journal.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalLine {
    /// 1, 2, 3, ..
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: RunEvent,
}

/// A phase that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Which.
    pub phase: RunPhase,
    /// How long it took, in milliseconds.
    pub elapsed_ms: f64,
}

/// Everything a run found: the fold of its events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`RUN_SCHEMA`].
    pub schema: String,
    /// What was to be done.
    pub plan: Plan,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds; `None` when it was killed.
    pub elapsed_ms: Option<f64>,
    /// What the gate found.
    pub gate: Vec<CheckRecord>,
    /// The probes, in the order they ended.
    pub probes: Vec<ProbeRecord>,
    /// The phases that ended.
    pub phases: Vec<PhaseRecord>,
    /// The monitors' samples.
    pub samples: Vec<StampedSample>,
    /// The monitors' failures: id and error.
    pub monitor_failures: Vec<(String, String)>,
    /// What the guards noticed.
    pub guards: Vec<GuardEvent>,
    /// What the stability checks found.
    pub stability: Vec<CheckRecord>,
    /// What a person should know.
    pub remarks: Vec<String>,
    /// What decides the exit code.
    pub conditions: BTreeSet<Condition>,
    /// What was used of the budget.
    pub usage: Vec<Usage>,
    /// The exit codes of the conditions, the one the program ended with first. Whoever chooses exit
    /// codes fills it in; the runner leaves it empty.
    #[serde(default)]
    pub exit_codes: Vec<u8>,
    /// Whether a known failure was reproduced, when that was asked. Filled in like the exit codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reproduction: Option<Reproduction>,
}

impl RunRecord {
    /// The record of a run that begins.
    pub fn new(plan: Plan, started_at: Timestamp) -> Self {
        Self {
            schema: RUN_SCHEMA.to_owned(),
            plan,
            started_at,
            elapsed_ms: None,
            gate: Vec::new(),
            probes: Vec::new(),
            phases: Vec::new(),
            samples: Vec::new(),
            monitor_failures: Vec::new(),
            guards: Vec::new(),
            stability: Vec::new(),
            remarks: Vec::new(),
            conditions: BTreeSet::new(),
            usage: Vec::new(),
            exit_codes: Vec::new(),
            reproduction: None,
        }
    }

    /// Adds one event.
    pub fn apply(&mut self, event: RunEvent) {
        match event {
            RunEvent::Gate(record) => self.gate.push(record),
            RunEvent::ProbeFinished(record) => self.probes.push(*record),
            RunEvent::Sampled { samples } => self.samples.extend(samples),
            RunEvent::MonitorFailed { monitor, error } => {
                self.monitor_failures.push((monitor, error));
            }
            RunEvent::GuardNoticed(event) => self.guards.push(event),
            RunEvent::Stability(record) => self.stability.push(record),
            RunEvent::PhaseFinished { phase, elapsed_ms } => {
                self.phases.push(PhaseRecord { phase, elapsed_ms });
            }
            RunEvent::Remark { text } => self.remarks.push(text),
            RunEvent::RunFinished { conditions, usage, elapsed_ms } => {
                self.conditions = conditions;
                self.usage = usage;
                self.elapsed_ms = Some(elapsed_ms);
            }
            RunEvent::RunStarted { .. }
            | RunEvent::PhaseStarted { .. }
            | RunEvent::ProbeStarted { .. }
            | RunEvent::ProbeProgress { .. } => {}
        }
    }

    /// The record of a journal. `None` when it does not begin with the start of a run. A last line
    /// cut short by a kill is left out.
    pub fn from_journal(text: &str) -> Option<Self> {
        let mut lines =
            text.lines().map_while(|line| serde_json::from_str::<JournalLine>(line).ok());
        let JournalLine { at, event: RunEvent::RunStarted { plan, .. }, .. } = lines.next()? else {
            return None;
        };
        let mut record = Self::new(*plan, at);
        for line in lines {
            record.apply(line.event);
        }
        Some(record)
    }
}
