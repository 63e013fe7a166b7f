//! A server that listens where the platform does not ask.

use std::collections::BTreeSet;

use shakedown_core::Case;
use shakedown_core::attempt::Attempt;
use shakedown_core::case::Hit;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};

use super::signals::{ASKED, LISTENS};
use crate::causes::CONFIGURATION_ERROR;

/// Both sides say it themselves, and the start-up fails for it: as sure as a driver's own code.
const SURE: f64 = 0.9;

/// The ports a hit names, whichever group of its pattern found them.
fn port<'e>(hit: &Hit<'e>) -> &'e str {
    match hit.fact.get("port") {
        "" => hit.fact.get("variable"),
        port => port,
    }
}

/// The address a server says it listens on.
fn host<'e>(hit: &Hit<'e>) -> &'e str {
    hit.fact.get("host").trim_end_matches(':')
}

/// Addresses that only the same machine can ask.
fn is_loopback(host: &str) -> bool {
    host.starts_with("127.") || matches!(host, "localhost" | "[::1]")
}

/// Whether the platform ended it: it neither died of itself nor said in which phase it failed.
fn was_given_up(attempt: &Attempt) -> bool {
    matches!(attempt.exit_code, None | Some(0))
        && !attempt.at_import
        && attempt.failed_phase.is_empty()
}

/// Start-ups fail because the application listens on another port than the one that is asked, or
/// where nobody outside its container can ask.
pub(super) fn elsewhere(case: &Case<'_>) -> Option<Claim> {
    // What dies of itself is not asked for on any port.
    if case.failures().next().is_none() || !case.failures().all(|(_, _, a)| was_given_up(a)) {
        return None;
    }
    let asked: Vec<&Hit<'_>> = case.of_kind(ASKED).collect();
    let listens: Vec<&Hit<'_>> = case.of_kind(LISTENS).collect();
    let (first, last) = (asked.first()?, listens.last()?);
    let ports: BTreeSet<&str> = asked.iter().map(|hit| port(hit)).collect();
    let reached = |hit: &&Hit<'_>| ports.contains(port(hit)) && !is_loopback(host(hit));
    if listens.iter().any(reached) {
        return None;
    }
    let (host, there) = (host(last), port(last));
    let place = match ports.contains(there) {
        true => format!("only on {host}, where nobody outside its container can ask"),
        false => format!("on port {there}"),
    };
    let claimed = Claimed::Cause(CONFIGURATION_ERROR);
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Supported);
    claim.confidence = SURE;
    claim.summary = format!(
        "the application listens {place}, and the platform asks on port {}: it starts and is never found.",
        ports.into_iter().collect::<Vec<_>>().join(" and ")
    );
    claim.supporting = vec![last.observation.clone(), first.observation.clone()];
    claim.next = "let the application listen on 0.0.0.0 and the port in the environment variable PORT, or give the revision the application's port (`gcloud run deploy --port`)".to_owned();
    Some(claim)
}
