//! A firewall that turns away what is sent to the database.

use std::net::Ipv4Addr;

use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::{Case, Observation};

use super::signals::DENIED;
use super::{CONFIGURATION_ERROR, UNREACHABLE, dropped};

/// The firewall says that it did it, to the very address that is not reached.
const SURE: f64 = 0.85;
/// Logs of a network come in batches: how far a denial may lie from a failure, in seconds.
const BESIDE_S: i64 = 90;
/// Lines that are quoted.
const MOST: usize = 3;

/// The database cannot be reached at an address to which a firewall denies connections meanwhile.
pub(super) fn denies(case: &Case<'_>, all: &[Case<'_>]) -> Option<Claim> {
    let unreachable = case.argue(&UNREACHABLE, |_| true)?;
    let failed: Vec<(i64, Vec<Ipv4Addr>)> = unreachable
        .observations
        .iter()
        .flatten()
        .map(|line| (line.moment.at.as_second(), dropped::addresses(line)))
        .collect();
    let denied: Vec<(&Observation, &str, Ipv4Addr)> = all
        .iter()
        .flat_map(|case| case.of_kind(DENIED))
        .filter_map(|hit| {
            let ip: Ipv4Addr = hit.fact.get("target").parse().ok()?;
            let at = hit.observation.moment.at.as_second();
            let same = |(failed, ips): &(i64, Vec<Ipv4Addr>)| {
                (failed - at).abs() <= BESIDE_S && ips.contains(&ip)
            };
            failed.iter().any(same).then(|| (hit.observation, hit.fact.get("rule"), ip))
        })
        .collect();
    let (_, rule, address) = denied.first()?;
    let claimed = Claimed::Cause(CONFIGURATION_ERROR);
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Supported);
    claim.confidence = SURE;
    let rule = if rule.is_empty() { "a firewall rule" } else { *rule };
    claim.summary = format!(
        "the network's own log says that {rule} denies connections to {address}, while the database cannot be reached there (DropInfo.Cause FIREWALL_RULE)."
    );
    claim.supporting = denied.iter().take(MOST).map(|(line, ..)| (*line).clone()).collect();
    claim.next = "`gcloud compute firewall-rules describe RULE`: direction, ranges, target tags and priority, and who changed it last".to_owned();
    Some(claim)
}
