//! A deploy that leaves the way into the VPC network out, while the database has a private address.

use std::net::Ipv4Addr;

use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::evidence::{Body, Change};
use shakedown_core::{AttemptEnd, Case, Observation};

use super::{CONFIGURATION_ERROR, UNREACHABLE, only_egress};

/// The settings that lead into a network: a connector, or interfaces of the service's own.
const WAYS: [&str; 2] = ["vpc-access-connector", "network-interfaces"];
/// What is written of packets that nothing answers.
const UNANSWERED: [&str; 5] = ["imed out", "imeout", "ETIMEDOUT", "o route to host", "nreachable"];
/// A change between what worked and what fails, which alone explains what is seen.
const SURE: f64 = 0.8;
/// The same, where nobody tells that the address is a private one.
const LIKELY: f64 = 0.7;

/// The connector was removed by the last change before the database could not be reached, at an
/// address that is private, or that nobody tells.
pub(super) fn connector(case: &Case<'_>) -> Option<Claim> {
    let unreachable = case.argue(&UNREACHABLE, |_| true)?;
    let lines = || unreachable.observations.iter().flatten();
    let address = lines().flat_map(|line| addresses(line)).find(Ipv4Addr::is_private);
    if address.is_none() && lines().flat_map(|line| addresses(line)).any(|ip| !ip.is_loopback()) {
        return None;
    }
    let failed = lines().map(|line| line.moment.at).min()?;
    let (observation, change, key, was) =
        case.changes.iter().rev().find_map(|(observation, change)| {
            let (key, was) = way_removed(change)?;
            (observation.moment.at <= failed).then_some((*observation, change, key, was))
        })?;
    let other = way_taken(change);
    // One way for another is a loss only where what is sent gets no answer in every start-up since.
    if other.is_some() && !(address.is_some() && is_lost(case, observation, lines())) {
        return None;
    }
    let at = observation.moment.at;
    let started = case.attempts.iter().any(|(observation, attempt)| {
        attempt.end == AttemptEnd::Completed && observation.moment.at < at
    });
    let served = case
        .traffic
        .iter()
        .any(|(_, traffic)| traffic.served() && traffic.first.is_some_and(|first| first < at));
    let claimed = Claimed::Cause(CONFIGURATION_ERROR);
    let alone = change.fields.iter().all(|(key, ..)| is_way(key) || key.contains("vpc-access-"));
    let worked = started || served;
    let sure = worked && (address.is_some() || alone);
    let status = if sure { ClaimStatus::Supported } else { ClaimStatus::Undetermined };
    let mut claim = Claim::new(claimed, case.service, status);
    claim.confidence = match (sure, address) {
        (true, Some(_)) => SURE,
        (true, None) => LIKELY,
        (false, _) => 0.5,
    };
    let place = match address {
        Some(address) => format!(
            " at {address}, a private address: nothing leads there from outside its network"
        ),
        None => ": nothing leads to a private address from outside its network".to_owned(),
    };
    claim.summary = match other {
        None => format!(
            "{key} ({was}) was left out of the last deploy before the database could not be reached{place}."
        ),
        Some((way, to)) => format!(
            "{key} ({was}) gave way to {way} ({to}) in the last deploy before the database could not be reached{place}, and nothing that was started since gets an answer."
        ),
    };
    claim.supporting = vec![only_egress(observation)];
    claim.next =
        "deploy again with --vpc-connector or --network, as the revision before had it".to_owned();
    Some(claim)
}

/// Whether a setting leads into a network.
fn is_way(key: &str) -> bool {
    WAYS.iter().any(|way| key.ends_with(way))
}

/// The way that a change took away.
fn way_removed(change: &Change) -> Option<(&str, &str)> {
    let of = is_way;
    let gone =
        change.fields.iter().find(|(key, from, to)| of(key) && !from.is_empty() && to.is_empty());
    gone.map(|(key, from, _)| (key.rsplit('/').next().unwrap_or(key), from.as_str()))
}

/// The way that a change set beside one that it took away.
fn way_taken(change: &Change) -> Option<(&str, &str)> {
    let set = change.fields.iter().find(|(key, _, to)| is_way(key) && !to.is_empty());
    set.map(|(key, _, to)| (key.rsplit('/').next().unwrap_or(key), to.as_str()))
}

/// Whether, since the change, no start-up completed and what is sent to the database stays
/// unanswered: a server that refuses was reached.
fn is_lost<'e>(
    case: &Case<'_>,
    change: &Observation,
    mut lines: impl Iterator<Item = &'e &'e Observation>,
) -> bool {
    let came_up = case.attempts.iter().any(|(observation, attempt)| {
        attempt.end == AttemptEnd::Completed && observation.moment.at >= change.moment.at
    });
    let unanswered = |line: &&Observation| {
        let Body::Fact(fact) = &line.body else { return false };
        let quote = fact.get("quote");
        UNANSWERED.iter().any(|words| quote.contains(words))
    };
    !came_up && lines.any(unanswered)
}

/// The addresses in what a line says it dialled and in its words, which may be cut before them.
pub(super) fn addresses(line: &Observation) -> Vec<Ipv4Addr> {
    let Body::Fact(fact) = &line.body else { return Vec::new() };
    let words = ["target", "quote"]
        .into_iter()
        .flat_map(|name| fact.get(name).split(|c: char| !c.is_ascii_digit() && c != '.'));
    words.filter_map(|word| word.trim_matches('.').parse::<Ipv4Addr>().ok()).collect()
}
