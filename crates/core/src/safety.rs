//! Safety checks: the gate before a run and the stability check after each phase.
//!
//! The runner knows no cloud product, so what there is to ask before loading a target is asked by
//! the crates that know it.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::budget::Draw;
use crate::context::ProbeCtx;
use crate::id::ResourceKind;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum CheckState {
    /// Adding our load is safe as far as this check can tell.
    Ok,
    /// It could not be asked; the run goes on with less load.
    Unknown {
        /// Why.
        why: String,
    },
    /// Adding our load is not safe: the run does not start, or stops.
    Refused {
        /// Why, and what would change it.
        why: String,
    },
}

/// One answered question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was asked, for example `right database`.
    pub name: String,
    /// The answer.
    #[serde(flatten)]
    pub state: CheckState,
    /// What was found, as facts for the report.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Lowers the run's budget for a resource to this many, for example to one database connection
    /// when the database could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<(ResourceKind, u32)>,
    /// Whether the target was found in its good state; `--require-healthy` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
}

impl Check {
    /// A check that found nothing against adding load.
    pub fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self::with(name, CheckState::Ok, detail.into())
    }

    /// A check that could not be asked.
    pub fn unknown(name: &str, why: impl Into<String>) -> Self {
        Self::with(name, CheckState::Unknown { why: why.into() }, String::new())
    }

    /// A check that found adding load unsafe.
    pub fn refused(name: &str, why: impl Into<String>) -> Self {
        Self::with(name, CheckState::Refused { why: why.into() }, String::new())
    }

    fn with(name: &str, state: CheckState, detail: String) -> Self {
        Self { name: name.to_owned(), state, detail, limit: None, healthy: None }
    }

    /// And the run may use at most `count` of `kind`.
    #[must_use]
    pub fn limiting(mut self, kind: ResourceKind, count: u32) -> Self {
        self.limit = Some((kind, count));
        self
    }

    /// And the target was (not) in its good state.
    #[must_use]
    pub fn healthy(mut self, healthy: bool) -> Self {
        self.healthy = Some(healthy);
        self
    }
}

/// The static description of a safety check.
#[derive(Clone, Debug)]
pub struct SafetyMeta {
    /// `domain.name`.
    pub id: &'static str,
    /// One line about what it protects.
    pub summary: &'static str,
    /// What it takes from the shared budget, held for the whole run.
    pub draws: &'static [Draw],
}

/// Asks whether adding our load to the target is safe. Never whether the target is healthy: a sick
/// target is what we came for.
///
/// # Cancel safety
///
/// Every method may be dropped at any await. `finish` is still called, and must close what the
/// dropped call left open.
#[async_trait]
pub trait SafetyCheck: Send + Sync + Debug + 'static {
    /// The static description.
    fn meta(&self) -> &'static SafetyMeta;

    /// Before the first probe. May keep a connection and take the run lock. What could not be asked
    /// is [`CheckState::Unknown`], never an error.
    async fn gate(&self, ctx: &ProbeCtx) -> Vec<Check>;

    /// After each phase and at the end: is the target no worse for us, did we leave nothing behind?
    async fn stability(&self, ctx: &ProbeCtx) -> Vec<Check>;

    /// Once, at the end, also after an abort: gives back the lock and the connection.
    async fn finish(&self, ctx: &ProbeCtx);
}

/// How to build a safety check; the mirror of [`ProbeSpec`](crate::ProbeSpec).
pub trait SafetySpec: SafetyCheck + Sized {
    /// The table `[safety_checks."<id>"]`.
    type Config: Serialize + DeserializeOwned + Default;

    /// The static description.
    const META: SafetyMeta;

    /// Builds the check. Infallible, without I/O.
    fn from_config(config: Self::Config) -> Self;
}
