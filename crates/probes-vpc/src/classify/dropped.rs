//! A deploy that leaves the way into the VPC network out, while the database has a private address.

use std::net::Ipv4Addr;

use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::evidence::Change;
use shakedown_core::{AttemptEnd, Case, Observation};

use super::{CONFIGURATION_ERROR, UNREACHABLE, only_egress};

/// The settings that lead into a network: a connector, or interfaces of the service's own.
const WAYS: [&str; 2] = ["vpc-access-connector", "network-interfaces"];
/// A change between what worked and what fails, which alone explains what is seen.
const SURE: f64 = 0.8;

/// The connector was removed by the last change before the database could not be reached, at an
/// address that is private.
pub(super) fn connector(case: &Case<'_>) -> Option<Claim> {
    let unreachable = case.argue(&UNREACHABLE, |_| true)?;
    let address = unreachable.observations.iter().flatten().find_map(|line| private(line))?;
    let failed = unreachable.observations.iter().flatten().map(|line| line.moment.at).min()?;
    let (observation, key, was) = case.changes.iter().rev().find_map(|(observation, change)| {
        let (key, was) = way_removed(change)?;
        (observation.moment.at <= failed).then_some((*observation, key, was))
    })?;
    let at = observation.moment.at;
    let started = case.attempts.iter().any(|(observation, attempt)| {
        attempt.end == AttemptEnd::Completed && observation.moment.at < at
    });
    let served = case
        .traffic
        .iter()
        .any(|(_, traffic)| traffic.served() && traffic.first.is_some_and(|first| first < at));
    let claimed = Claimed::Cause(CONFIGURATION_ERROR);
    let worked = started || served;
    let status = if worked { ClaimStatus::Supported } else { ClaimStatus::Undetermined };
    let mut claim = Claim::new(claimed, case.service, status);
    claim.confidence = if worked { SURE } else { 0.5 };
    claim.summary = format!(
        "{key} ({was}) was left out of the last deploy before the database could not be reached at {address}, a private address: nothing leads there from outside its network."
    );
    claim.supporting = vec![only_egress(observation)];
    claim.next =
        "deploy again with --vpc-connector or --network, as the revision before had it".to_owned();
    Some(claim)
}

/// The way that a change took away.
fn way_removed(change: &Change) -> Option<(&str, &str)> {
    let of = |key: &str| WAYS.iter().any(|way| key.ends_with(way));
    // One way for another is no loss.
    if change.fields.iter().any(|(key, _, to)| of(key) && !to.is_empty()) {
        return None;
    }
    let gone =
        change.fields.iter().find(|(key, from, to)| of(key) && !from.is_empty() && to.is_empty());
    gone.map(|(key, from, _)| (key.rsplit('/').next().unwrap_or(key), from.as_str()))
}

/// A private address in what a line says it dialled, else in its words, which may be cut before it.
fn private(line: &Observation) -> Option<Ipv4Addr> {
    let shakedown_core::evidence::Body::Fact(fact) = &line.body else { return None };
    let words = ["target", "quote"]
        .into_iter()
        .flat_map(|name| fact.get(name).split(|c: char| !c.is_ascii_digit() && c != '.'));
    let addresses = words.filter_map(|word| word.trim_matches('.').parse::<Ipv4Addr>().ok());
    addresses.into_iter().find(|address| address.is_private())
}
