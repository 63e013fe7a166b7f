//! What a service did as a whole: its attempts to start, its answers, how often a fact was seen.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// One line of a log, quoted: sanitized, redacted, cut to a few hundred bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Quote {
    /// When, if the line has a time.
    pub at: Option<Timestamp>,
    /// Where it stands: file, and the entry's id or else its byte.
    pub source: String,
    /// The words.
    pub text: String,
}

/// How an attempt to start ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AttemptEnd {
    /// The application said that its start-up is complete.
    Completed,
    /// It failed, or its process exited before it was complete.
    Failed,
    /// Somebody stopped it (a roll-out, a scale-in).
    Stopped,
    /// What is held of it ends before its end.
    #[default]
    Unknown,
}

/// A start-up phase and how long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct PhaseTime {
    /// The phase, as configured.
    pub phase: String,
    /// Its duration by the log's clock, `None` when its end is not held.
    pub seconds: Option<f64>,
}

/// The signs of an attempt by their place among lines without a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// The first sign.
    pub began: u64,
    /// The begin of the phase it failed in, else the first sign.
    pub phase_began: u64,
    /// The last sign.
    pub ended: u64,
}

/// One attempt of one instance to start, put together from its lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// Its first sign.
    pub began: Option<Timestamp>,
    /// The first sign of its failure.
    pub failed_at: Option<Timestamp>,
    /// When it said that it is complete.
    pub completed_at: Option<Timestamp>,
    /// Its last sign.
    pub ended: Option<Timestamp>,
    /// When the phase it failed in began.
    pub phase_began: Option<Timestamp>,
    /// Where its signs stand, when they have no time: lines are in the order they were written.
    pub places: Option<Places>,
    /// How it ended.
    pub end: AttemptEnd,
    /// The phases it went through.
    pub phases: Vec<PhaseTime>,
    /// The phase it failed in; empty when nobody said.
    pub failed_phase: String,
    /// Whether it came as far as the database phase; `None` when nothing says so.
    pub reached_database: Option<bool>,
    /// Whether the phase it failed in is the database phase.
    pub failed_in_database: bool,
    /// The limit its error message names, in seconds.
    pub claimed_timeout_s: Option<f64>,
    /// The wait that ended in the failure, as measured between the log's own times, in seconds.
    pub measured_s: Option<f64>,
    /// The limit that fired, where one fits what was measured.
    pub limit: String,
    /// Whether the failure calls itself a timeout.
    pub timed_out: bool,
    /// The exit code of its process.
    pub exit_code: Option<i32>,
    /// Who stated the exit code: `platform`, `server` (gunicorn) or `application`.
    pub exit_source: String,
    /// Whether it died while the worker was booting, before the application's own start-up.
    pub at_import: bool,
    /// Only its end is held: nobody said that it failed, in which phase or why.
    pub silent: bool,
    /// A failure that its own start-up swallowed: it failed, then said it was complete.
    pub swallowed: bool,
    /// The lines that say how it failed, in time order, a few.
    pub words: Vec<Quote>,
}

impl Attempt {
    /// Whether it failed.
    pub fn failed(&self) -> bool {
        self.end == AttemptEnd::Failed
    }
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestKind {
    /// A health check of any sort.
    Health,
    /// A WebSocket handshake.
    Websocket,
    /// What a browser asks before a call of a page of another origin: `OPTIONS`.
    Preflight,
    /// A file that is the same for everybody: a server gives it out without anything it needs.
    Static,
    /// Anything else.
    Other,
}

/// Whoever fails a request answers it so soon after it wrote why, in seconds.
const AT_ONCE_S: i64 = 5;

/// The answers of a service to one kind of request with one status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// What was asked for.
    pub request: RequestKind,
    /// The path, for the first few distinct ones; empty for the rest.
    pub path: String,
    /// Whether the application's server said so (an access line), not the platform.
    pub access: bool,
    /// Whether a browser may have asked what it asks a [preflight](RequestKind::Preflight) for: by a
    /// method that changes something, and no other client says that it did.
    #[serde(default)]
    pub browser: bool,
    /// The status.
    pub status: u16,
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Option<Timestamp>,
    /// The last.
    pub last: Option<Timestamp>,
    /// The minutes since 1970 in which they were, in order; empty where they are too many to keep.
    #[serde(default)]
    pub minutes: Vec<i64>,
    /// One of them.
    pub quote: Quote,
}

impl Traffic {
    /// Whether the service did what was asked: below 400; a WebSocket only when it was upgraded.
    pub fn served(&self) -> bool {
        match self.request {
            RequestKind::Websocket => matches!(self.status, 101 | 200),
            _ => (200..400).contains(&self.status),
        }
    }

    /// Whether one of them was within a minute or two of `at`; where the minutes are not held,
    /// between the first and the last.
    pub fn near(&self, at: Timestamp) -> bool {
        let minute = at.as_second().div_euclid(60);
        self.between(minute - 1, minute + 1)
    }

    /// Whether one of them was asked for, and answered, just when a line was written at `at`: it came
    /// within the minute before, or was answered at once.
    pub fn beside(&self, at: Timestamp) -> bool {
        let minute = |second: i64| second.div_euclid(60);
        self.between(minute(at.as_second()) - 1, minute(at.as_second() + AT_ONCE_S))
    }

    fn between(&self, from: i64, to: i64) -> bool {
        let reach = |end: Option<Timestamp>| end.map(|end| end.as_second().div_euclid(60));
        if self.minutes.is_empty() {
            return reach(self.first).is_some_and(|first| first <= to)
                && reach(self.last).is_some_and(|last| from <= last);
        }
        let next = self.minutes.partition_point(|held| *held < from);
        self.minutes.get(next).is_some_and(|held| *held <= to)
    }

    /// Whether the service failed: 5xx, or the platform had no instance to ask.
    pub fn failed(&self) -> bool {
        let no_instance = || self.quote.text.contains("there was no available instance");
        self.status >= 500 || (self.status == 429 && !self.access && no_instance())
    }
}

/// How often a signal was seen in a service: exact, whatever was kept of its lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The signal.
    pub signal: String,
    /// The kind of fact it states.
    pub fact: String,
    /// How many lines.
    pub count: u64,
    /// The first.
    pub first: Option<Timestamp>,
    /// The last.
    pub last: Option<Timestamp>,
}

/// What is held about a service: the ground under every conclusion from something *not* seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    /// Entries held.
    pub entries: u64,
    /// Those without any words.
    pub without_payload: u64,
    /// Those at ERROR and above.
    pub errors: u64,
    /// Those of them in which nothing was recognised.
    pub unclassified: u64,
    /// Those that are neither audit entries nor the platform's.
    pub own: u64,
    /// Rows were cut at a limit, here or in a severity of this export.
    pub cut: bool,
    /// The first entry.
    pub from: Option<Timestamp>,
    /// The last entry.
    pub to: Option<Timestamp>,
}
