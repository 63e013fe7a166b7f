//! Log signals: which texts matter, as data.
//!
//! A domain crate lists the exact texts of drivers, proxies and platforms in a `const` table and
//! registers it with [`register_signal!`](crate::register_signal). The analyzer searches all tables
//! at once; each hit becomes a [`Fact`](crate::evidence::Fact) that quotes its line. Adding a cause
//! changes no file in core or analyzer.

use crate::id::{Cause, ObservationKind};

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Emitter {
    /// The application, its server (uvicorn, gunicorn) or a driver inside it: stdout and stderr.
    Application,
    /// The platform: `run.googleapis.com/varlog/system`, request logs.
    Platform,
    /// Either.
    Any,
}

/// One text that states a fact.
///
/// What you must do: quote the driver's or platform's own words, long enough that a feature name or
/// a configuration dump cannot contain them by accident. The mistake to expect: a single word
/// ("capacity", "pool", "database"), which states nothing.
#[derive(Clone, Copy, Debug)]
pub struct LogSignal {
    /// `crate.name`, unique: distinct signals of one kind count as distinct facts.
    pub id: &'static str,
    /// The kind of fact a hit states.
    pub kind: ObservationKindRef,
    /// Literals, compared byte by byte; one must occur. Redundant spaces are not normalised.
    pub any: &'static [&'static str],
    /// Literals that must all occur besides.
    pub all: &'static [&'static str],
    /// Literals that must not occur.
    pub unless: &'static [&'static str],
    /// A regular expression with named groups, run on hits only; its groups become attributes. A
    /// line it does not match is no hit.
    pub capture: Option<&'static str>,
    /// Whose lines count.
    pub from: Emitter,
    /// The cause it speaks for, if it speaks for one by itself.
    pub speaks_for: Option<CauseRef>,
    /// 0 to 1: the share of lines with this text, found where something broke at that moment, in
    /// which the cause was the right one. Below 0.5 a signal never supports a cause alone.
    pub weight: f64,
    /// Whether it counts although the line's level is INFO or lower.
    pub any_level: bool,
    /// Constant attributes of the fact.
    pub attributes: &'static [(&'static str, &'static str)],
}

/// An observation kind's name in a `const` table.
pub type ObservationKindRef = &'static str;
/// A cause's name in a `const` table.
pub type CauseRef = &'static str;

impl LogSignal {
    /// A signal of the application's lines at WARNING and above (or without a level), which speaks
    /// for nothing by itself.
    pub const fn new(
        id: &'static str,
        kind: ObservationKindRef,
        any: &'static [&'static str],
    ) -> Self {
        Self {
            id,
            kind,
            any,
            all: &[],
            unless: &[],
            capture: None,
            from: Emitter::Application,
            speaks_for: None,
            weight: 0.0,
            any_level: false,
            attributes: &[],
        }
    }

    /// The same, speaking for `cause` with `weight`.
    pub const fn speaks(mut self, cause: CauseRef, weight: f64) -> Self {
        self.speaks_for = Some(cause);
        self.weight = weight;
        self
    }

    /// The same, where all of `literals` occur too.
    pub const fn with(mut self, literals: &'static [&'static str]) -> Self {
        self.all = literals;
        self
    }

    /// The same, where none of `literals` occurs.
    pub const fn unless(mut self, literals: &'static [&'static str]) -> Self {
        self.unless = literals;
        self
    }

    /// The same, with attributes out of `pattern`'s named groups.
    pub const fn capture(mut self, pattern: &'static str) -> Self {
        self.capture = Some(pattern);
        self
    }

    /// The same, from lines of `emitter`.
    pub const fn from(mut self, emitter: Emitter) -> Self {
        self.from = emitter;
        self
    }

    /// The same, at any level.
    pub const fn any_level(mut self) -> Self {
        self.any_level = true;
        self
    }

    /// The same, with constant attributes.
    pub const fn attributes(mut self, attributes: &'static [(&'static str, &'static str)]) -> Self {
        self.attributes = attributes;
        self
    }

    /// The kind as an id.
    pub const fn observation(&self) -> ObservationKind {
        ObservationKind::new(self.kind)
    }

    /// The cause as an id.
    pub fn cause(&self) -> Option<Cause> {
        self.speaks_for.map(Cause::new)
    }
}

/// A named table of signals.
#[derive(Clone, Copy, Debug)]
pub struct SignalTable {
    /// Its name: the crate's domain, for example `cloudsql`.
    pub name: &'static str,
    /// The signals.
    pub signals: &'static [LogSignal],
}
