//! The contracts of shakedown and its record model.
//!
//! This crate does no I/O and knows no cloud product. It owns what every other crate agrees on:
//!
//! - what a probe, a monitor, a safety check and a classifier are ([`Probe`], [`Monitor`],
//!   [`SafetyCheck`], [`FailureClassifier`]) and what they are given ([`ProbeCtx`]);
//! - the shared budget that protects the target ([`Budget`], [`Lease`]);
//! - the environment file, layered and checked in one pure function ([`environment::load`]);
//! - what a run leaves behind ([`record`]): plan, events, outcomes, [`evidence`];
//! - the [`Redactor`] and the [`sanitize`](redact::sanitize) function that stand before every sink.
//!
//! # Embedding one probe
//!
//! Another tool that wants one probe builds it from its configuration and hands it a context; no
//! registry and no runner are involved:
//!
//! ```
//! # use shakedown_core::*;
//! # async fn embed<P: ProbeSpec>(environment: Environment) -> Result<Outcome, ProbeError> {
//! let probe = P::from_config(P::Config::default());
//! let ctx = ProbeCtx::builder(environment).build();
//! probe.run(&ctx).await
//! # }
//! ```
//!
//! # Absent on purpose
//!
//! Dynamic loading, global mutable state, reading of the process environment, printing, and any
//! decision about exit codes. Those that exist at all live in the command line crate.

pub mod attempt;
pub mod budget;
pub mod case;
pub mod classify;
pub mod cleanup;
pub mod clock;
pub mod context;
pub mod credentials;
mod declare;
pub mod diagnosis;
pub mod environment;
pub mod evidence;
pub mod fault;
pub mod id;
pub mod lazy_regex;
pub mod meta;
pub mod monitor;
pub mod outcome;
pub mod probe;
pub mod record;
pub mod redact;
#[cfg(feature = "register")]
pub mod registry;
pub mod reproduction;
pub mod safety;
pub mod scrub;
pub mod section;
pub mod signal;
pub mod startup;
pub mod units;

pub use async_trait::async_trait;
pub use attempt::{Attempt, AttemptEnd, Traffic};
pub use budget::{Allotment, Budget, BudgetError, Draw, Lease};
pub use case::{Case, Hit};
pub use classify::{Claim, ClaimStatus, ClassifierMeta, ClassifierSpec, FailureClassifier};
pub use context::{Interrupted, ProbeCtx};
pub use credentials::Credentials;
pub use diagnosis::Diagnosis;
pub use environment::{Environment, Tier};
pub use evidence::{Evidence, Observation, Subject, Vantage};
pub use fault::{Fault, Step};
pub use meta::{Category, ProbeMeta, RunPhase, Status};
pub use monitor::{Monitor, MonitorError, MonitorMeta, MonitorSpec, Sample};
pub use outcome::{Finding, Measurement, Outcome, SkipReason, Verdict};
pub use probe::{Probe, ProbeError, ProbeSpec};
pub use redact::Redactor;
#[cfg(feature = "register")]
pub use registry::Registry;
pub use safety::{SafetyCheck, SafetyMeta, SafetySpec};
pub use section::SectionSpec;
pub use signal::{LogSignal, SignalTable};
pub use startup::StartupConfig;
pub use units::{Provenance, Rate, Setting, Span};

/// What the registration macros expand to. Not part of the public contract.
#[cfg(feature = "register")]
#[doc(hidden)]
pub mod __private {
    pub use inventory;
}
