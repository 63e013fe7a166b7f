//! What a probe found.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Step};
use crate::id::{Cause, Symptom};
use crate::units::Provenance;

/// The verdict of a probe about the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// The good state the probe's summary states holds.
    Pass,
    /// It holds, but something is worth a look.
    Degraded,
    /// It does not hold.
    Fail,
    /// The question does not arise here.
    Skip {
        /// Why.
        reason: SkipReason,
    },
}

impl Verdict {
    /// One lower-case word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Degraded => "degraded",
            Self::Fail => "fail",
            Self::Skip { .. } => "skip",
        }
    }
}

/// Why a question does not arise. An error is never a reason to skip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "kebab-case")]
pub enum SkipReason {
    /// The thing to measure did not happen in this run, for example no scaling step.
    NotExercised(String),
    /// The environment does not have what the probe looks at; names the key to set.
    NotConfigured(String),
    /// No credentials; names the key to set.
    NoCredentials(String),
    /// Nothing here can measure it, and why.
    Unavailable(String),
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotExercised(why) => write!(f, "not exercised: {why}"),
            Self::NotConfigured(why) => write!(f, "not configured: {why}"),
            Self::NoCredentials(why) => write!(f, "no credentials: {why}"),
            Self::Unavailable(why) => write!(f, "unavailable: {why}"),
        }
    }
}

/// One measured number. A number that could not be measured is not a measurement: leave it out and
/// say why in a [`Finding`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was measured, `snake_case`, for example `connect_p95`.
    pub name: String,
    /// The value, in `unit`.
    pub value: f64,
    /// The unit: `ms`, `s`, `connections`, `bytes`, `Mbit/s`, `1/min`, `1` for a bare ratio.
    pub unit: String,
    /// Where it came from.
    pub provenance: Provenance,
    /// What it is compared with, in the same unit, when anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
}

/// One thing worth telling, good or bad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// One sentence, the fact first.
    pub summary: String,
    /// The rung it was seen at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung: Option<String>,
    /// The typed error behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The service or resource it is about, where the probe looked at several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The cause it is consistent with. Consistent is not proven: claims are the classifiers' work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggests: Option<Cause>,
    /// The symptom it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symptom: Option<Symptom>,
    /// What to do or to look at next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    /// A finding that is only a sentence.
    pub fn new(summary: impl Into<String>) -> Self {
        Self {
            summary: summary.into(),
            rung: None,
            fault: None,
            about: None,
            suggests: None,
            symptom: None,
            next: None,
        }
    }

    /// The same, about `service`.
    #[must_use]
    pub fn about(mut self, service: impl Into<String>) -> Self {
        self.about = Some(service.into());
        self
    }

    /// The finding of a failed step.
    pub fn at(step: &Step, what: impl fmt::Display) -> Self {
        let mut finding = match &step.fault {
            Some(fault) => Self::new(format!("{what}: {fault}")),
            None => Self::new(what.to_string()),
        };
        finding.rung = Some(step.rung.clone());
        finding.fault.clone_from(&step.fault);
        finding
    }

    /// With the cause it is consistent with.
    #[must_use]
    pub fn suggesting(mut self, cause: Cause) -> Self {
        self.suggests = Some(cause);
        self
    }

    /// With what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// What a probe found: its verdict with the numbers and sentences behind it.
///
/// A probe that could not come to a verdict returns [`ProbeError`](crate::ProbeError) instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The numbers, in the order they should be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
    /// The sentences, the most important first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The rungs taken, in order; a probe that climbs often keeps the telling ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

impl Outcome {
    fn with(verdict: Verdict) -> Self {
        Self { verdict, measurements: Vec::new(), findings: Vec::new(), steps: Vec::new() }
    }

    /// The good state holds.
    pub fn pass() -> Self {
        Self::with(Verdict::Pass)
    }

    /// The good state holds, but see `why`.
    pub fn degraded(why: Finding) -> Self {
        Self::with(Verdict::Degraded).find(why)
    }

    /// The good state does not hold: `why`.
    pub fn fail(why: Finding) -> Self {
        Self::with(Verdict::Fail).find(why)
    }

    /// The question does not arise.
    pub fn skip(reason: SkipReason) -> Self {
        Self::with(Verdict::Skip { reason })
    }

    /// Adds a number measured in this run.
    #[must_use]
    pub fn measure(self, name: &str, value: f64, unit: &str) -> Self {
        self.number(name, value, unit, Provenance::Measured, None)
    }

    /// Adds a number measured in this run beside what it is compared with.
    #[must_use]
    pub fn against(self, name: &str, value: f64, unit: &str, baseline: f64) -> Self {
        self.number(name, value, unit, Provenance::Measured, Some(baseline))
    }

    /// Adds a number of any provenance.
    #[must_use]
    pub fn number(
        mut self,
        name: &str,
        value: f64,
        unit: &str,
        provenance: Provenance,
        baseline: Option<f64>,
    ) -> Self {
        self.measurements.push(Measurement {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            provenance,
            baseline,
        });
        self
    }

    /// Adds a sentence without changing the verdict.
    #[must_use]
    pub fn find(mut self, finding: Finding) -> Self {
        self.findings.push(finding);
        self
    }

    /// Adds a sentence and lowers a pass to degraded; a fail or a skip stays what it is.
    #[must_use]
    pub fn but(mut self, finding: Finding) -> Self {
        if self.verdict == Verdict::Pass {
            self.verdict = Verdict::Degraded;
        }
        self.find(finding)
    }

    /// Adds a sentence and makes the verdict a fail.
    #[must_use]
    pub fn failing(mut self, finding: Finding) -> Self {
        self.verdict = Verdict::Fail;
        self.find(finding)
    }

    /// Adds the rungs taken.
    #[must_use]
    pub fn steps(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }
}
