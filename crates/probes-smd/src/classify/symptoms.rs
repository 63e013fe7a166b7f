//! What is seen of failing start-ups.

use std::collections::BTreeMap;

use shakedown_core::attempt::Attempt;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed, ClassifierSpec as _, Seen};
use shakedown_core::clock::Timestamp;
use shakedown_core::id::Symptom;
use shakedown_core::{Case, Observation};

use super::StartupSymptoms;
use super::signals::{EXIT, LIFESPAN, MEMORY, PHASE_WORDS};
use crate::causes::{
    EXIT_CODE_3, INSTANCE_KILLED, LIFESPAN_BREAKDOWN, PHASE3_TIMEOUT, RESTART_LOOP, STARTUP_FAILED,
};

/// From so many failed start-ups on they are a loop.
const LOOP: u64 = 3;

pub(super) fn claims(case: &Case<'_>) -> Vec<Claim> {
    let mut seen: BTreeMap<&str, (Symptom, Seen, Vec<Observation>)> = BTreeMap::new();
    let mut add = |key, symptom: Symptom, part: Option<Seen>, lines: Vec<Observation>| {
        if let Some(part) = part.filter(|part| part.count > 0) {
            seen.insert(key, (symptom, part, lines));
        }
    };
    let timed_out = count(case, |attempt| attempt.timed_out && attempt.failed_in_database);
    // Where no phase's own marker is held, the error message counts.
    let nowhere = |(_, _, attempt): (_, _, &Attempt)| attempt.failed_phase.is_empty();
    let failed = case.failures().next().is_some() && case.failures().all(nowhere);
    let (part, lines) = match timed_out.0 {
        None if failed => of_kind(case, PHASE_WORDS),
        _ => timed_out,
    };
    add("phase3", PHASE3_TIMEOUT, part, lines);
    let (part, lines) = of_kind(case, LIFESPAN);
    add("lifespan", LIFESPAN_BREAKDOWN, part, lines);
    let platform = of_kind(case, EXIT);
    // Where the platform's lines are not held, the server's own word counts.
    let (part, lines) = if platform.0.is_some() {
        platform
    } else {
        count(case, |attempt| attempt.exit_code == Some(3))
    };
    add("exit", EXIT_CODE_3, part, lines);
    let (part, lines) = of_kind(case, MEMORY);
    add("killed", INSTANCE_KILLED, part, lines);
    let (part, lines) = count(case, |_| true);
    let looping = part.is_some_and(|part| part.count >= LOOP);
    if looping {
        add("loop", RESTART_LOOP, part, lines.clone());
    }
    add("failed", STARTUP_FAILED, part, lines);
    for symptom in StartupSymptoms::META.symptoms {
        if !seen.values().any(|(known, ..)| known == symptom)
            && let (Some(part), lines) = case.symptom_found(symptom)
        {
            seen.insert(symptom.as_str(), (symptom.clone(), part, lines));
        }
    }
    seen.into_values()
        .map(|(symptom, seen, supporting)| {
            let mut claim =
                Claim::new(Claimed::Symptom(symptom), case.service, ClaimStatus::Supported);
            claim.confidence = 1.0;
            claim.seen = Some(seen);
            claim.supporting = supporting;
            claim
        })
        .collect()
}

fn of_kind(case: &Case<'_>, kind: &str) -> (Option<Seen>, Vec<Observation>) {
    let lines = case.of_kind(kind).map(|hit| hit.observation.clone()).take(3).collect();
    (case.seen_kind(kind), lines)
}

/// The failed start-ups that `wanted` lets through.
fn count(case: &Case<'_>, wanted: impl Fn(&Attempt) -> bool) -> (Option<Seen>, Vec<Observation>) {
    let failures: Vec<_> = case.failures().filter(|(_, _, attempt)| wanted(attempt)).collect();
    let at = |attempt: &Attempt| -> Option<Timestamp> { attempt.failed_at.or(attempt.ended) };
    let parts = failures.iter().map(|(_, _, attempt)| (1, at(attempt), at(attempt)));
    let lines = failures.iter().map(|(_, observation, _)| (*observation).clone()).take(3).collect();
    (shakedown_core::case::seen(parts), lines)
}
