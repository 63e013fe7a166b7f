//! Asks whether the application's circuit breaker changes its state as one should. Good: it opens
//! after failures, tries again half open, and closes after a success.
//!
//! **How.** The states that the lines of each start-up name are read in time order. From `closed` it
//! may go to `open`, from `open` to `half_open`, from there to either.
//!
//! **Verdicts.** *Fail*: a change that a circuit breaker does not make. *Pass*: it changed, and only
//! so. *Skip (not exercised)*: no line names a state, or it never changed.
//!
//! **Draws** one HTTP connection for the health endpoints, and `application.draws` while a process of
//! ours runs.
//!
//! **Configuration**: see [`CircuitBreakerConfig`].
//!
//! **Cannot tell** changes between two lines that name a state.

use regex::Regex;
use serde::{Deserialize, Serialize};
use shakedown_core::{
    Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, SkipReason, async_trait,
};

use super::about::{about, meta, provenance, which};
use crate::startup::{Observed, Start};

/// See the module.
#[derive(Debug)]
pub struct CircuitBreaker(CircuitBreakerConfig);

/// `[probes."smd.circuit-breaker"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreakerConfig {
    /// How a line names the state, in its group `state`: `closed`, `open`, `half_open`. The default
    /// is the observed application's: `(circuit: closed)`, `[TIMEOUT - Circuit: open]`.
    pub pattern: StatePattern,
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        let pattern =
            r"(?i)\bcircuit(?:[ _]breaker)?(?: state)?: ?(?P<state>closed|open|half[ _-]?open)\b";
        Self { pattern: StatePattern(pattern.to_owned()) }
    }
}

/// A regular expression with a group `state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "register", schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub struct StatePattern(String);

impl TryFrom<String> for StatePattern {
    type Error = String;

    fn try_from(pattern: String) -> Result<Self, String> {
        let regex = Regex::new(&pattern).map_err(|error| error.to_string())?;
        if regex.capture_names().flatten().any(|name| name == "state") {
            Ok(Self(pattern))
        } else {
            Err(format!("`{pattern}` has no group `(?P<state>..)`"))
        }
    }
}

impl From<StatePattern> for String {
    fn from(pattern: StatePattern) -> Self {
        pattern.0
    }
}

impl ProbeSpec for CircuitBreaker {
    type Config = CircuitBreakerConfig;

    const META: ProbeMeta = ProbeMeta {
        aliases: &[
            "netra_backend/tests/unit/test_issue_1278_smd_phase3_timeout_reproduction.py::TestSMDPhase3TimeoutReproduction::test_phase3_circuit_breaker_state_transitions",
            "netra_backend/tests/unit/test_issue_1278_smd_phase3_database_timeout_unit.py::SMDPhase3DatabaseTimeoutIssue1278Tests::test_circuit_breaker_state_transitions_unit",
        ],
        ..meta(
            "smd.circuit-breaker",
            "the circuit breaker opens, half opens and closes in that order",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(CircuitBreaker);

#[async_trait]
impl Probe for CircuitBreaker {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let pattern = Regex::new(&self.0.pattern.0)
            .map_err(|error| ProbeError::internal("the pattern of the states", error))?;
        about(ctx, |observed| judge(&pattern, observed)).await
    }
}

/// The states that a start-up's lines name, repetitions left out.
fn states(pattern: &Regex, start: &Start) -> Vec<String> {
    let mut states: Vec<String> = Vec::new();
    for line in &start.lines {
        let Some(groups) = pattern.captures(&line.text) else { continue };
        let Some(state) = groups.name("state") else { continue };
        let state = state.as_str().to_lowercase().replace([' ', '-'], "_");
        let state = if state == "halfopen" { "half_open".to_owned() } else { state };
        if states.last() != Some(&state) {
            states.push(state);
        }
    }
    states
}

fn judge(pattern: &Regex, observed: &Observed) -> Outcome {
    let mut outcome = Outcome::pass();
    let mut changes = 0;
    let mut named: Option<String> = None;
    for start in &observed.starts {
        let states = states(pattern, start);
        for pair in states.windows(2) {
            changes += 1;
            let allowed = matches!(
                (pair[0].as_str(), pair[1].as_str()),
                ("closed", "open") | ("open", "half_open") | ("half_open", "open" | "closed")
            );
            if !allowed {
                let summary =
                    format!("it went from {} to {} in {}", pair[0], pair[1], which(start));
                outcome = outcome.failing(Finding::new(summary));
            }
        }
        if states.len() > 1 {
            let summary = format!("{} in {}", states.join(", then "), which(start));
            outcome = outcome.find(Finding::new(summary));
        }
        named = states.last().cloned().or(named);
    }
    match (changes, named) {
        (0, None) => Outcome::skip(SkipReason::NotExercised(
            "no line of a start-up names the state of a circuit breaker".into(),
        )),
        (0, Some(state)) => Outcome::skip(SkipReason::NotExercised(format!(
            "its state never changed: {state} in every line that names it"
        ))),
        (changes, _) => {
            let from =
                observed.starts.first().map_or(shakedown_core::Provenance::Quoted, provenance);
            outcome.number("state_changes", f64::from(changes), "1", from, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startup::testing::observed;

    #[track_caller]
    fn check(lines: &[&str], verdict: &str, says: &str) {
        let mut all = vec![(0, "a", "PHASE TRANSITION -> DATABASE")];
        all.extend((1..).zip(lines).map(|(at, line)| (at, "a", *line)));
        all.push((99, "a", "PHASE FAILED: DATABASE - no"));
        let pattern = Regex::new(&CircuitBreakerConfig::default().pattern.0).expect("a pattern");
        let outcome = judge(&pattern, &observed("", &all));
        let text = format!("{outcome:?}");
        assert_eq!(outcome.verdict.as_str(), verdict, "{text}");
        assert!(text.contains(says), "{text}");
    }

    #[test]
    fn changes_are_held_against_the_machine() {
        let attempt = |state: &str| format!("attempt with timeout 20.0s (circuit: {state})");
        let lines = ["closed", "closed", "open", "half_open", "closed"].map(attempt);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        check(&lines, "pass", "closed, then open, then half_open, then closed");
        check(&["[TIMEOUT - Circuit: open]", "circuit: closed"], "fail", "from open to closed");
        check(&["(circuit: closed)", "(circuit: closed)"], "skip", "never changed: closed");
        check(&["short circuit in the kitchen"], "skip", "names the state");
    }

    #[test]
    fn a_pattern_without_the_group_is_refused() {
        assert!(StatePattern::try_from("circuit (open|closed)".to_owned()).is_err());
        assert!(StatePattern::try_from("circuit (?P<state>open".to_owned()).is_err());
    }
}
