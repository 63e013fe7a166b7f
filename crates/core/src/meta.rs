//! What a probe says about itself before it runs.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::budget::Draw;
use crate::id::Capability;

/// A phase of a run, in the strategy's numbering. Not a start-up phase of the application.
///
/// Phases order the work; they do not gate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum RunPhase {
    /// Phase 1: the network path.
    Network = 1,
    /// Phase 2: the database.
    Database = 2,
    /// Phase 3: the application's start-up.
    Startup = 3,
    /// Phase 4: the user's path and what an outage costs.
    Impact = 4,
}

impl RunPhase {
    /// All phases, in order.
    pub const ALL: [Self; 4] = [Self::Network, Self::Database, Self::Startup, Self::Impact];

    /// 1 to 4.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The strategy's heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Network => "Infrastructure connectivity",
            Self::Database => "Database connection",
            Self::Startup => "Start-up sequence",
            Self::Impact => "Business impact",
        }
    }
}

impl fmt::Display for RunPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "phase {}", self.number())
    }
}

impl From<RunPhase> for u8 {
    fn from(phase: RunPhase) -> Self {
        phase.number()
    }
}

impl TryFrom<u8> for RunPhase {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.number() == number)
            .ok_or_else(|| format!("there is no run phase {number}: 1 to 4"))
    }
}

/// What a probe needs around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Touches no network.
    Unit,
    /// Touches one part of the target.
    Integration,
    /// Touches the whole path.
    E2e,
}

impl Category {
    /// As written on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Integration => "integration",
            Self::E2e => "e2e",
        }
    }
}

/// How far users may rely on a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its id, measurements and verdicts keep their meaning.
    Stable,
    /// May still change.
    Preview,
    /// Kept for its id; the summary names the replacement.
    Deprecated,
}

/// The static description of a probe. Always a `const`, always by struct update:
///
/// ```
/// # use shakedown_core::{budget::Draw, id::resource, ProbeMeta, RunPhase};
/// const META: ProbeMeta = ProbeMeta {
///     draws: &[Draw::new(resource::DATABASE_CONNECTION, 1)],
///     ..ProbeMeta::new("acme.ledger-reachable", RunPhase::Network, "the ledger answers")
/// };
/// ```
#[derive(Clone, Debug)]
pub struct ProbeMeta {
    /// `domain.name`, lower case with dashes. Public, stable, never reused for something else.
    pub id: &'static str,
    /// One line that states the *good* state: "the pool never draws more than its limit".
    pub summary: &'static str,
    /// The run phase it belongs to.
    pub phase: RunPhase,
    /// What it needs around it.
    pub category: Category,
    /// Free words for `--markers`.
    pub markers: &'static [&'static str],
    /// Facts it cannot run without. If every probe that provides one failed, it is blocked.
    pub needs: &'static [Capability],
    /// Facts that hold once it passed or was degraded.
    pub provides: &'static [Capability],
    /// The most it takes from the shared budget, all at once. It starts with all of it or not at all.
    pub draws: &'static [Draw],
    /// How long it usually takes; for the plan.
    pub expected: Duration,
    /// When the runner cancels it.
    pub timeout: Duration,
    /// Other names it is found by: whole pytest node ids.
    pub aliases: &'static [&'static str],
    /// What it leaves on the target on purpose, for the plan; nearly always nothing.
    pub leaves: Option<&'static str>,
    /// How far users may rely on it.
    pub status: Status,
}

impl ProbeMeta {
    /// Sensible values for everything a probe does not say: an `integration` probe with the marker
    /// `staging`, no needs, no draws, 60 s limit, stable.
    pub const fn new(id: &'static str, phase: RunPhase, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            phase,
            category: Category::Integration,
            markers: &["staging"],
            needs: &[],
            provides: &[],
            draws: &[],
            expected: Duration::from_secs(5),
            timeout: Duration::from_secs(60),
            aliases: &[],
            leaves: None,
            status: Status::Stable,
        }
    }
}
