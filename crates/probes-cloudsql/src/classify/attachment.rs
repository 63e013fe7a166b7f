//! A deploy that leaves the connection to the instance out, of a service that uses its socket.

use shakedown_core::case::Effect;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::{Case, Observation};

use super::CONFIGURATION_ERROR;

/// The setting that gives a revision its socket under `/cloudsql`.
const ATTACHMENT: &str = "cloudsql-instances";
/// A change between what worked and what fails, which alone explains what is seen.
const SURE: f64 = 0.9;
/// A deploy is noted when its revision is ready, which may fail before that, in seconds.
const READY_S: i64 = 60;

/// The socket is not there since a change took the instance away that it belonged to.
pub(super) fn lost(case: &Case<'_>) -> Option<Claim> {
    let hits = case.hits.iter().enumerate();
    let missing: Vec<&Observation> = hits
        .filter(|(index, hit)| {
            hit.fact.get("lacks") == "socket" && case.effect(*index) != Effect::None
        })
        .map(|(_, hit)| hit.observation)
        .collect();
    let failed = missing.iter().map(|line| line.moment.at.as_second()).min()?;
    let (change, key, was, is) = case.changes.iter().rev().find_map(|(observation, change)| {
        let changed = |(key, was, is): &&(String, String, String)| {
            let kept = |instance: &str| is.split(',').any(|other| other.trim() == instance.trim());
            key.ends_with(ATTACHMENT) && !was.is_empty() && !was.split(',').all(kept)
        };
        let (key, was, is) = change.fields.iter().find(changed)?;
        let before = observation.moment.at.as_second() <= failed + READY_S;
        before.then_some((*observation, key, was, is))
    })?;
    let claimed = Claimed::Cause(CONFIGURATION_ERROR);
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Supported);
    claim.confidence = SURE;
    let key = key.rsplit('/').next().unwrap_or(key);
    let now = match is.as_str() {
        "" => "was left out of".to_owned(),
        other => format!("was exchanged for {other} in"),
    };
    claim.summary = format!(
        "{key} ({was}) {now} the last deploy before its socket was not there: a revision has \
         the sockets of the instances it names."
    );
    claim.supporting =
        std::iter::once(change).chain(missing.into_iter().take(2)).cloned().collect();
    claim.next =
        "deploy again with --add-cloudsql-instances, as the revision before had it".to_owned();
    Some(claim)
}
