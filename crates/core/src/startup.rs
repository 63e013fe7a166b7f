//! How an application's start-up shows in its log: the shape of the table `[startup]`, and from marker
//! lines to attempts to start.
//!
//! The table itself, with its defaults, belongs to the crate of the start-up phase; whoever
//! reconstructs start-ups, from saved logs or from a process that runs, takes this shape and the same
//! reconstruction, so that another team's application needs TOML, not code.

mod attempts;
mod markers;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use attempts::{Sign, Timeline};
pub use markers::{Marker, MarkerError, Markers, Role, is_platform_line, line_at};

/// The phases of a start-up, the lines that mark them, and the limits inside them.
///
/// Every marker is a regular expression with a literal text of at least six bytes outside its
/// groups; groups it may name: `phase`, `seconds`, `error`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StartupConfig {
    /// The phases in order. A marker whose `phase` is not one of them is none.
    pub phases: Vec<String>,
    /// The phase that first needs the database.
    pub database_phase: String,
    /// The sequence begins.
    pub begun: Vec<String>,
    /// A phase begins (group `phase`).
    pub phase_started: Vec<String>,
    /// A phase is complete (groups `phase`, `seconds`).
    pub phase_completed: Vec<String>,
    /// A phase failed (groups `phase`, `error`).
    pub phase_failed: Vec<String>,
    /// The whole start-up is complete.
    pub completed: Vec<String>,
    /// The whole start-up failed (groups `phase`, `error`).
    pub failed: Vec<String>,
    /// How an error message names the limit it claims (group `seconds`).
    pub claimed_timeout: Vec<String>,
    /// Limits inside a phase, to name the one that fired.
    pub limits: Vec<StartupLimit>,
    /// What a phase that times out speaks for, by phase.
    pub phase_causes: BTreeMap<String, String>,
}

/// A limit inside a start-up phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StartupLimit {
    /// Its name.
    pub name: String,
    /// Its length in seconds.
    pub seconds: f64,
    /// The limit that messages of the same version claim, in seconds; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<f64>,
}
