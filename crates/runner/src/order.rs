//! The order of probes: by phase, what provides a fact before what needs it and before what does not
//! care, then by id.

use std::collections::{BTreeMap, BTreeSet};

use shakedown_core::meta::{ProbeMeta, RunPhase};

/// Puts `probes` into the order they run in. `Err` holds the ids of one phase that need each other
/// in a circle.
///
/// A need whose provider belongs to a later phase orders nothing: phases come first.
pub(crate) fn order<'p>(
    probes: impl IntoIterator<Item = &'p ProbeMeta>,
) -> Result<Vec<&'p ProbeMeta>, Vec<&'static str>> {
    let mut phases: BTreeMap<RunPhase, BTreeMap<&'static str, &ProbeMeta>> = BTreeMap::new();
    for meta in probes {
        phases.entry(meta.phase).or_default().insert(meta.id, meta);
    }
    let mut ordered = Vec::new();
    for phase in phases.into_values() {
        ordered.extend(order_phase(&phase)?);
    }
    Ok(ordered)
}

/// What provides a fact comes first: if it fails, the reader should meet that before anything else.
fn rank(meta: &ProbeMeta) -> (bool, &'static str) {
    (meta.provides.is_empty(), meta.id)
}

fn order_phase<'p>(
    probes: &BTreeMap<&'static str, &'p ProbeMeta>,
) -> Result<Vec<&'p ProbeMeta>, Vec<&'static str>> {
    // Per fact: how many of its providers have not been placed, and who waits for it.
    let mut facts: BTreeMap<&str, (usize, Vec<&'static str>)> = BTreeMap::new();
    for meta in probes.values() {
        for fact in meta.provides {
            facts.entry(fact.as_str()).or_default().0 += 1;
        }
    }
    let mut waits: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut ready = BTreeSet::new();
    for meta in probes.values() {
        let mut open = 0;
        for need in meta.needs.iter().filter(|need| !meta.provides.contains(need)) {
            if let Some((_, waiting)) = facts.get_mut(need.as_str()) {
                waiting.push(meta.id);
                open += 1;
            }
        }
        if open == 0 {
            ready.insert(rank(meta));
        } else {
            waits.insert(meta.id, open);
        }
    }
    let mut ordered = Vec::with_capacity(probes.len());
    while let Some((_, id)) = ready.pop_first() {
        let meta = probes[id];
        ordered.push(meta);
        for fact in meta.provides {
            let Some((open, waiting)) = facts.get_mut(fact.as_str()) else { continue };
            *open -= 1;
            if *open > 0 {
                continue;
            }
            for id in std::mem::take(waiting) {
                if let Some(open) = waits.get_mut(id) {
                    *open -= 1;
                    if *open == 0 {
                        waits.remove(id);
                        ready.insert(rank(probes[id]));
                    }
                }
            }
        }
    }
    if waits.is_empty() { Ok(ordered) } else { Err(waits.into_keys().collect()) }
}
