//! How much speaks for a cause.

use std::collections::{BTreeMap, BTreeSet};

use super::{CEILING, Case, DECISIVE, Effect, Hit, PROBE_FINDING, SUPPORTED, any_of, round};
use crate::attempt::Attempt;
use crate::classify::{Claim, ClaimStatus, Claimed};
use crate::evidence::{Body, Observation};
use crate::id::Cause;

impl<'e> Case<'e> {
    /// Weighs what speaks for `cause`, over the hits that `admit` lets through. `None` when nothing
    /// with an effect does.
    pub fn argue(&self, cause: &Cause, admit: impl Fn(&Hit<'e>) -> bool) -> Option<Argument<'e>> {
        let attempts = self.owned(cause);
        let mut facts: BTreeMap<&str, (f64, bool, Vec<&'e Observation>)> = BTreeMap::new();
        let mut effects = BTreeSet::new();
        let mut probes = BTreeSet::new();
        for (hit, effect) in self.hits.iter().zip(&self.effects) {
            if hit.cause != cause.as_str() || hit.weight <= 0.0 || hit.survived() || !admit(hit) {
                continue;
            }
            let (factor, name) = match effect {
                Effect::Death(index) if attempts.contains(index) => (1.0, "death"),
                Effect::Before(index) if attempts.contains(index) => (0.8, "death"),
                Effect::Requests => (0.9, "requests"),
                Effect::Itself => (1.0, "itself"),
                Effect::Unknown if hit.weight >= DECISIVE && hit.unheard() > 0.0 => {
                    (hit.unheard(), "unknown")
                }
                _ => continue,
            };
            effects.insert(name);
            probes.extend(Some(hit.fact.get("probe")).filter(|probe| !probe.is_empty()));
            let entry = facts.entry(hit.signal).or_default();
            entry.0 = entry.0.max(hit.weight * factor);
            // Where nothing shows what followed, only what is left of it decides.
            let left = if name == "unknown" { hit.weight * factor } else { hit.weight };
            entry.1 |= left >= DECISIVE;
            entry.2.push(hit.observation);
        }
        if facts.is_empty() {
            return None;
        }
        let mut tallies = self.tallies.iter().filter(|tally| facts.contains_key(&*tally.signal));
        let more = tallies.any(|tally| {
            let kept = self.hits.iter().filter(|hit| hit.signal == tally.signal).count();
            tally.count > kept as u64
        });
        let mut weights: Vec<f64> = facts.values().map(|fact| fact.0).collect();
        weights.sort_by(f64::total_cmp);
        // The strongest counts in full, each further one by half: texts of one failure are kin.
        let strongest = weights.pop().unwrap_or_default();
        let mut parts: Vec<f64> = weights.iter().map(|weight| weight / 2.0).collect();
        parts.push(strongest);
        if effects.contains("death") {
            parts.push(0.3);
            let exit = |index: &usize| self.attempts[*index].1.exit_code.is_some();
            parts.extend(attempts.iter().any(exit).then_some(0.15));
        }
        if effects.contains("requests") || effects.contains("itself") {
            parts.push(0.3);
        }
        let confidence = any_of(&parts) * self.coverage();
        Some(Argument {
            cause: cause.clone(),
            confidence: round(confidence.min(CEILING)),
            decisive: facts.values().any(|fact| fact.1),
            signals: facts.keys().copied().collect(),
            observations: facts.into_values().map(|fact| fact.2).collect(),
            more,
            attempts: attempts.iter().map(|index| self.attempts[*index]).collect(),
            requests: effects.contains("requests"),
            probes: probes.into_iter().collect(),
        })
    }

    /// What thin coverage leaves of a confidence: what is held of an export without words is as
    /// true as in a full one, but who knows what else was written.
    fn coverage(&self) -> f64 {
        if self.held.without_payload * 2 > self.held.entries { 0.96 } else { 1.0 }
    }
}

/// What speaks for a cause.
#[derive(Clone, Debug)]
pub struct Argument<'e> {
    /// The cause.
    pub cause: Cause,
    /// 0 to 1.
    pub confidence: f64,
    /// Whether one of the facts is decisive by itself.
    pub decisive: bool,
    /// The signals that had an effect, by id.
    pub signals: Vec<&'e str>,
    /// Their lines: one list per signal, in time order.
    pub observations: Vec<Vec<&'e Observation>>,
    /// Whether there were more such lines than are kept.
    pub more: bool,
    /// The failed start-ups that belong to the cause.
    pub attempts: Vec<(&'e Observation, &'e Attempt)>,
    /// Whether requests failed meanwhile.
    pub requests: bool,
    /// The probes whose findings speak for it, by id.
    pub probes: Vec<&'e str>,
}

impl Argument<'_> {
    /// How many observations speak for it, of those that were kept, and how many of them probes made.
    fn counts(&self) -> (usize, usize) {
        let distinct: BTreeMap<_, &Observation> =
            self.observations.iter().flatten().map(|o| (std::ptr::from_ref(*o), *o)).collect();
        let probed = |o: &&&Observation| match &o.body {
            Body::Fact(fact) => fact.fact.as_str() == PROBE_FINDING,
            _ => false,
        };
        (distinct.len(), distinct.values().filter(probed).count())
    }

    /// "1 line says", "29 lines say", "At least 12 lines say" where not all are kept, "2 findings of
    /// probes say", or both.
    pub fn say(&self) -> String {
        let (all, probed) = self.counts();
        let many = |n: usize, one: &str, more: &str| match n {
            0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {more}")),
        };
        let lines = many(all - probed, "line", "lines");
        let findings = many(probed, "finding of a probe", "findings of probes");
        let both: Vec<String> = [lines, findings].into_iter().flatten().collect();
        let least = if self.more { "At least " } else { "" };
        format!("{least}{} {}", both.join(" and "), if all == 1 { "says" } else { "say" })
    }

    /// The claim this argument carries: supported when decisive and strong enough.
    pub fn claim(&self, service: &str, summary: String, next: &str) -> Claim {
        let supported = self.decisive && self.confidence >= SUPPORTED;
        let status = if supported { ClaimStatus::Supported } else { ClaimStatus::Undetermined };
        let mut claim = Claim::new(Claimed::Cause(self.cause.clone()), service, status);
        claim.confidence = if supported { self.confidence } else { self.confidence.min(0.55) };
        claim.summary = summary;
        // Round by round, so that the first lines of every signal come before the second of any.
        let most = self.observations.iter().map(Vec::len).max().unwrap_or(0);
        for round in 0..most.min(4) {
            let lines = self.observations.iter().filter_map(|lines| lines.get(round));
            claim.supporting.extend(lines.map(|line| (*line).clone()));
        }
        claim.next = next.to_owned();
        claim
    }

    /// "5 start-ups failed in phase DATABASE", "requests failed meanwhile", or nothing.
    pub fn effect(&self) -> String {
        let phases: BTreeSet<&str> = self
            .attempts
            .iter()
            .map(|(_, attempt)| attempt.failed_phase.as_str())
            .filter(|phase| !phase.is_empty())
            .collect();
        let phases: Vec<&str> = phases.into_iter().collect();
        let ups = match self.attempts.len() {
            0 if self.requests => return "requests failed meanwhile".to_owned(),
            0 if !self.probes.is_empty() => {
                return format!("measured by {}", self.probes.join(", "));
            }
            0 => return "what followed is not held".to_owned(),
            1 => "1 start-up failed".to_owned(),
            n => format!("{n} start-ups failed"),
        };
        if phases.is_empty() { ups } else { format!("{ups} in phase {}", phases.join(", ")) }
    }
}
