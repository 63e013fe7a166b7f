//! From the way packets take to whether it is the cause: on core alone.
//!
//! Capacity is claimed from capacity facts (a monitor's samples of the connector), never from a
//! word. What an administrator set (`vpc-access-egress`) is evidence for a configuration error
//! where the database cannot be reached by that way.

mod capacity;
mod dropped;
mod firewall;
mod public;
mod signals;

use shakedown_core::case::Argument;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::evidence::{Body, Change};
use shakedown_core::id::Cause;
use shakedown_core::{AttemptEnd, Case, Evidence, Observation};

use crate::causes::{VPC_CONNECTOR_CAPACITY, VPC_EGRESS};
use signals::{CAPACITY_WORD, CONNECTOR_BUSY, CONNECTOR_NORMAL, DENIED, NO_CONNECTOR};

const CONFIGURATION_ERROR: Cause = Cause::new("configuration_error");
const UNREACHABLE: Cause = Cause::new("cloud_sql_unreachable");

pub use signals::TABLE as SIGNALS;

shakedown_core::observation_kinds! {
    CAPACITY_WORD_META, CAPACITY_WORD, "a line that has the word capacity and states no figure";
    CONNECTOR_BUSY_META, CONNECTOR_BUSY, "a line that states a connector near the end of its processor; cpu";
    CONNECTOR_NORMAL_META, CONNECTOR_NORMAL, "a line that says that a connector is well again";
    DENIED_META, DENIED, "a firewall's log says that a connection was denied; target, rule";
    NO_CONNECTOR_META, NO_CONNECTOR, "the connector that a revision names does not exist, is not ready or may not be used";
}

#[cfg(feature = "register")]
shakedown_core::register_signal!(SIGNALS);

shakedown_core::classifier! {
    /// Whether the way into the VPC network is the cause.
    pub struct VpcPath;
    id: "vpc.path",
    summary: "tells a connector at its capacity from the word, and egress settings that do not fit the database's address",
    causes: [VPC_CONNECTOR_CAPACITY, VPC_EGRESS, CONFIGURATION_ERROR],
    symptoms: [],
    classify: all,
}

fn all(evidence: &Evidence) -> Vec<Claim> {
    let cases = Case::all(evidence);
    let claims = |case: &Case<'_>| {
        let setting = firewall::denies(case, &cases).or_else(|| dropped::connector(case));
        let setting = setting.or_else(|| egress(case));
        let setting = setting.or_else(|| public::no_way_out(case));
        let capacity = capacity(case, &cases);
        let behind = capacity.as_ref().and_then(|claim| capacity::behind(case, claim));
        [capacity, behind, path(case), setting].into_iter().flatten()
    };
    cases.iter().flat_map(claims).collect()
}

fn capacity(case: &Case<'_>, all: &[Case<'_>]) -> Option<Claim> {
    let unreachable = case.argue(&UNREACHABLE, |_| true);
    let queueing = case.argue(&VPC_CONNECTOR_CAPACITY, |_| true);
    let mut figures = capacity::figures(case);
    figures.full.extend(capacity::busy_lines(all, unreachable.as_ref()));
    if !figures.full.is_empty() && (unreachable.is_some() || queueing.is_some()) {
        return Some(capacity::at_its_limit(case, figures.full));
    }
    // Where the way was dead, connects that get through late are its coming back.
    if let Some(argument) = queueing.filter(|argument| argument.decisive || unreachable.is_none()) {
        let what = "that connects across the connector queue or get through only in part";
        let summary = format!("{} {what}; {}.", argument.say(), argument.effect());
        return Some(argument.claim(case.service, summary, capacity::NEXT));
    }
    capacity::recovered(case).or_else(|| capacity::refuted(case, unreachable.as_ref(), figures.cpu))
}

/// The way into the VPC network itself: only probes see it.
fn path(case: &Case<'_>) -> Option<Claim> {
    let argument = case.argue(&VPC_EGRESS, |_| true)?;
    let what = "that there is no way from here into the database's network";
    let summary = format!("{} {what}; {}.", argument.say(), argument.effect());
    let next = "a Connectivity Test from the connector's subnet to the database's address: its DropInfo.Cause names the place";
    Some(argument.claim(case.service, summary, next))
}

/// The egress setting that stood, whether it changed within the window, and who set it.
struct EgressSetting<'e> {
    observation: &'e Observation,
    value: &'e str,
    changed_from: &'e str,
    /// Whether the change was of nothing else.
    alone: bool,
}

/// The last egress setting that is held.
pub(super) fn egress_setting<'e>(case: &Case<'e>) -> Option<&'e str> {
    egress_settings(case).last().map(|setting| setting.value)
}

fn egress_settings<'e>(case: &Case<'e>) -> Vec<EgressSetting<'e>> {
    let setting = |(observation, change): &(&'e Observation, &'e Change)| {
        let (_, from, to) =
            change.fields.iter().find(|(key, ..)| key.ends_with("vpc-access-egress"))?;
        let alone = change.fields.len() == 1;
        Some(EgressSetting { observation, value: to, changed_from: from, alone })
    };
    case.changes.iter().filter_map(setting).collect()
}

/// With `all-traffic` even the way to a public address of Cloud SQL goes through the connector and
/// needs a NAT behind it; with `private-ranges-only` only private addresses do.
fn egress(case: &Case<'_>) -> Option<Claim> {
    let unreachable = case.argue(&UNREACHABLE, |_| true)?;
    let settings = egress_settings(case);
    let last = settings.iter().rfind(|setting| before_failure(setting, &unreachable))?;
    if !last.value.contains("all") {
        return None;
    }
    let worked_before = case.attempts.iter().any(|(observation, attempt)| {
        attempt.end == AttemptEnd::Completed && observation.moment.at < last.observation.moment.at
    });
    let changed = !last.changed_from.is_empty() && worked_before;
    let (status, confidence): (_, f64) =
        if changed { (ClaimStatus::Supported, 0.7) } else { (ClaimStatus::Undetermined, 0.45) };
    let mut claim = Claim::new(Claimed::Cause(CONFIGURATION_ERROR), case.service, status);
    claim.confidence = confidence.min(unreachable.confidence);
    let failed_before = case.failures().any(|(_, o, _)| o.moment.at < last.observation.moment.at);
    if changed && last.alone && !failed_before {
        // Nothing else differs between what worked and what fails: it explains what is seen of the
        // database, and stands before it.
        claim.confidence = (unreachable.confidence + 0.01).min(0.99);
    }
    claim.summary = if last.changed_from.is_empty() {
        format!(
            "The revisions that cannot reach the database are deployed with vpc-access-egress {}: every packet, also to Cloud SQL's public address, must pass the connector and a NAT behind it. Likely, not shown.",
            last.value
        )
    } else {
        format!(
            "vpc-access-egress was changed from {} to {} before the database could not be reached.",
            last.changed_from, last.value
        )
    };
    claim.supporting = vec![only_egress(last.observation)];
    claim.next = "deploy one revision with --vpc-egress=private-ranges-only, or run a Connectivity Test from the connector to the instance's address on 3307".to_owned();
    Some(claim)
}

/// A change without the settings that are not about egress.
fn only_egress(observation: &Observation) -> Observation {
    let mut observation = observation.clone();
    if let Body::Change(change) = &mut observation.body {
        change
            .fields
            .retain(|(key, ..)| key.contains("vpc-access-") || key.ends_with("network-interfaces"));
    }
    observation
}

fn before_failure(setting: &EgressSetting<'_>, unreachable: &Argument<'_>) -> bool {
    let first = unreachable.observations.iter().flatten().map(|o| o.moment.at).max();
    first.is_none_or(|failed| setting.observation.moment.at <= failed)
}
