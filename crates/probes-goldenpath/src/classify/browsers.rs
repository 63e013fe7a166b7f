//! Browsers that say that no WebSocket comes about: the pages are served, what they need is not.

use shakedown_core::attempt::{RequestKind, Traffic};
use shakedown_core::case::Hit;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::{Case, Observation};

use super::signals::BROWSER;
use super::{CONFIGURATION_ERROR, DEPENDENCY_UNAVAILABLE};

/// Fewer complaints are single tabs'.
const SOME: u64 = 10;
/// What goes on for so long is no moment, in seconds.
const LASTS_S: i64 = 180;
/// Others are held and answer, and browsers ask none of them: their pages have another address.
const ELSEWHERE: f64 = 0.7;
/// Nobody else is held.
const UNASKED: f64 = 0.62;
/// Lines that are quoted.
const MOST: usize = 3;

/// Many browsers, through the service that serves their pages, say that no WebSocket comes about, while
/// no service that is held was asked for one.
pub(super) fn complain(case: &Case<'_>, all: &[Case<'_>]) -> Option<Claim> {
    let seen = case.seen_kind(BROWSER).filter(|seen| seen.count >= SOME)?;
    let lasts = seen.last?.as_second() - seen.first?.as_second();
    let asked = |traffic: &Traffic| traffic.last >= seen.first;
    if lasts < LASTS_S || all.iter().any(|c| c.answers(RequestKind::Websocket).any(asked)) {
        return None;
    }
    let named = |hit: &Hit<'_>| [hit.fact.get("target"), hit.fact.get("host")].concat();
    let target = case.of_kind(BROWSER).map(named).last()?;
    let others = all.iter().filter(|other| other.service != case.service);
    let mut answers = others.flat_map(|other| &other.traffic);
    let (cause, confidence, what) = match answers.any(|(_, traffic)| traffic.served()) {
        true => {
            (CONFIGURATION_ERROR, ELSEWHERE, "services that are held answer, and none was asked")
        }
        false => (DEPENDENCY_UNAVAILABLE, UNASKED, "no other service is held"),
    };
    let mut claim = Claim::new(Claimed::Cause(cause), case.service, ClaimStatus::Supported);
    claim.confidence = confidence;
    claim.summary = format!(
        "{} lines of browsers say that no WebSocket to {target} comes about; {what}. Pages are served, \
         and what they are for is not there.",
        seen.count
    );
    let lines = case.of_kind(BROWSER).take(MOST).map(|hit| hit.observation);
    claim.supporting = lines.map(Observation::clone).collect();
    claim.next = format!(
        "compare the address in the pages' build with the service's own, and open one WebSocket to {target}"
    );
    Some(claim)
}
