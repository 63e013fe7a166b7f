//! The record of a diagnosis: schema `shakedown.diagnosis/1`.
//!
//! The order of the fields is the order in the file; all lists are sorted, so that the same input
//! gives the same bytes.

use serde::{Deserialize, Serialize};

use crate::attempt::PhaseTime;
use crate::classify::ClaimStatus;
use crate::clock::Timestamp;
use crate::units::Provenance;

/// The schema's name.
pub const SCHEMA: &str = "shakedown.diagnosis/1";

/// What broke, per service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct Diagnosis {
    /// [`SCHEMA`].
    pub schema: String,
    /// What was read: one object per file.
    pub inputs: Vec<serde_json::Value>,
    /// How much of the window the input really holds, in the reader's words.
    pub coverage: serde_json::Value,
    /// One diagnosis per service, by name.
    pub services: Vec<ServiceDiagnosis>,
}

/// The JSON Schema of a [`Diagnosis`], for whoever reads one.
#[cfg(feature = "register")]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Diagnosis).to_value()
}

/// The state of a service over the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthVerdict {
    /// It does not do what it is for, and a cause is known or likely.
    Failing,
    /// It does some of it, or did not for a while.
    Degraded,
    /// It says itself that it works: requests answered, start-ups complete.
    Healthy,
    /// What is held does not decide.
    InsufficientEvidence,
}

/// A span of time by the log's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct Window {
    /// The first entry held.
    #[cfg_attr(feature = "register", schemars(with = "Option<String>"))]
    pub from: Option<Timestamp>,
    /// The last entry held.
    #[cfg_attr(feature = "register", schemars(with = "Option<String>"))]
    pub to: Option<Timestamp>,
}

/// The diagnosis of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct ServiceDiagnosis {
    /// The service; empty when the input does not name one.
    pub service: String,
    /// What is held of it.
    pub window: Window,
    /// Its state.
    pub verdict: HealthVerdict,
    /// Why it broke, the surest first.
    pub roots: Vec<Root>,
    /// What was seen of it, by name.
    pub symptoms: Vec<SymptomSeen>,
    /// What it is not.
    pub refuted: Vec<Refuted>,
    /// What another fault hides.
    pub masked: Vec<Masked>,
    /// Its attempts to start, in time order.
    pub startups: Vec<Startup>,
    /// What somebody changed, in time order.
    pub changes: Vec<ChangeSeen>,
    /// Where its roots are told already: what was seen of it is what another service's root does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
}

/// Why a service's failure is no root of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct Follows {
    /// The service or resource whose root it is.
    pub service: String,
    /// That root's cause.
    pub cause: String,
    /// One sentence.
    pub why: String,
}

/// A root cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct Root {
    /// The cause.
    pub cause: String,
    /// `supported` or `undetermined`.
    pub status: ClaimStatus,
    /// 0 to 1, two decimals; `docs/guide/confidence.md` says what 0.9 means.
    pub confidence: f64,
    /// One sentence, the fact first.
    pub summary: String,
    /// The decisive lines.
    pub evidence: Vec<EvidenceLine>,
    /// The lines that speak against it.
    pub against: Vec<EvidenceLine>,
    /// The symptoms it explains.
    pub explains: Vec<String>,
    /// What would decide what is open.
    pub next: String,
}

/// A quoted line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct EvidenceLine {
    /// When; `null` for a line without a time.
    #[cfg_attr(feature = "register", schemars(with = "Option<String>"))]
    pub at: Option<Timestamp>,
    /// File, and the entry's id or else its byte.
    pub source: String,
    /// The words: sanitized, redacted, cut.
    pub quote: String,
    /// Whose number it is.
    pub provenance: Provenance,
}

/// A symptom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct SymptomSeen {
    /// Its name.
    pub symptom: String,
    /// How often.
    pub count: u64,
    /// The first time.
    #[cfg_attr(feature = "register", schemars(with = "Option<String>"))]
    pub first: Option<Timestamp>,
    /// The last time.
    #[cfg_attr(feature = "register", schemars(with = "Option<String>"))]
    pub last: Option<Timestamp>,
}

/// A cause that the evidence rules out, or that only a word suggests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct Refuted {
    /// The cause.
    pub cause: String,
    /// Why not, in one sentence.
    pub summary: String,
    /// The lines that rule it out or only seem to speak for it.
    pub evidence: Vec<EvidenceLine>,
}

/// A cause about which nothing can be told because another stops the evidence from appearing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct Masked {
    /// The cause.
    pub cause: String,
    /// What hides it.
    pub summary: String,
    /// What would decide it.
    pub next: String,
}

/// An attempt to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct Startup {
    /// The instance, its last 12 characters.
    pub instance: String,
    /// The revision.
    pub revision: String,
    /// Its first sign.
    #[cfg_attr(feature = "register", schemars(with = "Option<String>"))]
    pub at: Option<Timestamp>,
    /// The phases and how long each took.
    pub phases: Vec<PhaseTime>,
    /// The phase it failed in.
    pub failed_phase: Option<String>,
    /// The limit the error message names, in seconds.
    pub claimed_timeout_s: Option<f64>,
    /// The wait that really was, in seconds.
    pub measured_s: Option<f64>,
    /// The limit that fired, where one fits.
    pub limit: Option<String>,
    /// The exit code.
    pub exit_code: Option<i32>,
    /// Who stated it: `platform`, `server` (gunicorn) or `application`.
    #[serde(default)]
    pub exit_source: Option<String>,
    /// From the beginning of the attempt before it to its own, in seconds: the restart period.
    #[serde(default)]
    pub after_s: Option<f64>,
    /// `completed`, `failed`, `stopped`, `unknown`.
    pub outcome: crate::attempt::AttemptEnd,
    /// From the first sign of failure or start to the exit, in seconds.
    pub to_exit_s: Option<f64>,
}

/// A change to the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
pub struct ChangeSeen {
    /// When.
    #[cfg_attr(feature = "register", schemars(with = "Option<String>"))]
    pub at: Option<Timestamp>,
    /// Who, masked.
    pub actor: String,
    /// The method called, or the platform's word.
    pub method: String,
    /// The revision it made, when it says so.
    pub revision: String,
    /// What changed against the change before: key, from, to.
    pub fields: Vec<(String, String, String)>,
}
