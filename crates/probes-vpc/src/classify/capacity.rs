//! Whether the connector was full: from figures, never from a word.

use std::net::Ipv4Addr;

use shakedown_core::case::Argument;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::evidence::Body;
use shakedown_core::monitor::Reading;
use shakedown_core::{Case, Observation, Provenance};

use super::signals::{CAPACITY_WORD, CONNECTOR_BUSY, CONNECTOR_NORMAL};
use super::{UNREACHABLE, public};
use crate::causes::VPC_CONNECTOR_CAPACITY;

/// The share of a connector's processor from which on it has no room (a 99th percentile).
const CPU_FULL: f64 = 0.8;
/// The share of a connector's throughput from which on it has none.
const THROUGHPUT_FULL: f64 = 0.9;
/// The observation of a probe that watched connects become slow and quick again.
const LATENCY_STEP: &str = "vpc.latency-step";

/// What would decide it.
pub(super) const NEXT: &str = "`shakedown run vpc.connector-capacity vpc.scaling-delay` from inside the network, beside vpcaccess.googleapis.com/connector/cpu/utilizations and connector/instances of the same minutes";

/// How far from what is held of a service a figure may lie and still be about it, in seconds.
const REACH_S: i64 = 300;

/// How far from a line with figures a failure may lie and still be of that time, in seconds: they are
/// written every minute at most.
const BESIDE_S: i64 = 90;

/// Below this weight a text tells that no session came about, and not how.
const TELLS: f64 = 0.6;

/// What is known of the connector in the minutes that are held of a service.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Samples that state a connector without room.
    pub(super) full: Vec<Observation>,
    /// The highest share of its processor that was sampled.
    pub(super) cpu: Option<f64>,
}

/// The samples of the connector: its processor, its throughput as a share of what it can, as many
/// instances as it may have. What somebody assumed states nothing; what a lab simulates is true of
/// the lab.
pub(super) fn figures(case: &Case<'_>) -> Figures {
    let mut figures = Figures::default();
    let second = |at: &Option<_>| at.map(shakedown_core::clock::Timestamp::as_second);
    let (from, to) = (second(&case.held.from), second(&case.held.to));
    for (observation, sample) in &case.samples {
        let at = sample.taken_at.as_second();
        let near =
            from.is_none_or(|from| at >= from - REACH_S) && to.is_none_or(|to| at <= to + REACH_S);
        let Reading::Value(value) = sample.value else { continue };
        if !near || sample.provenance == Provenance::Assumed {
            continue;
        }
        let of = |word: &str| {
            let metric = sample.metric.as_str();
            metric.contains("connector") && metric.contains(word)
        };
        // A share of 1, or a percentage.
        let share = if sample.unit == "%" { value / 100.0 } else { value };
        if of("cpu") {
            figures.cpu = Some(figures.cpu.map_or(share, |cpu: f64| cpu.max(share)));
        }
        let most = sample.labels.iter().find(|(name, _)| name == "max");
        let most = most.and_then(|(_, most)| most.parse::<f64>().ok());
        let full = (of("cpu") && share >= CPU_FULL)
            || (of("throughput_utilization") && share >= THROUGHPUT_FULL)
            || (of("instances") && most.is_some_and(|most| value >= most));
        if full {
            figures.full.push((*observation).clone());
        }
    }
    figures
}

/// The lines, of whatever service, that state a connector without room: where the failures of this one
/// lie in the span of those lines, and not outside.
pub(super) fn busy_lines(cases: &[Case<'_>], failing: Option<&Argument<'_>>) -> Vec<Observation> {
    let second = |at: shakedown_core::clock::Timestamp| at.as_second();
    let spans: Vec<(i64, i64)> = cases
        .iter()
        .filter_map(|case| {
            let busy = case.seen_kind(CONNECTOR_BUSY)?;
            let (first, last) = (second(busy.first?), second(busy.last?));
            // Whoever says that it is over says that it was so until then.
            let over = case.seen_kind(CONNECTOR_NORMAL).and_then(|normal| normal.first);
            let last = over.map(second).filter(|over| *over >= first).map_or(last, |o| o.max(last));
            Some((first - BESIDE_S, last + BESIDE_S))
        })
        .collect();
    let within = |line: &&Observation| {
        let at = second(line.moment.at);
        spans.iter().any(|(from, to)| (*from..=*to).contains(&at))
    };
    if !failing.is_some_and(|failing| failing.observations.iter().flatten().all(within)) {
        return Vec::new();
    }
    let lines = cases.iter().flat_map(|case| case.of_kind(CONNECTOR_BUSY));
    lines.map(|hit| hit.observation.clone()).collect()
}

/// Its figures say that it is full while something fails that needs it.
pub(super) fn at_its_limit(case: &Case<'_>, full: Vec<Observation>) -> Claim {
    let claimed = Claimed::Cause(VPC_CONNECTOR_CAPACITY);
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Supported);
    claim.confidence = 0.75;
    let mut metrics: Vec<&str> = full
        .iter()
        .filter_map(|observation| match &observation.body {
            Body::Sample(sample) => Some(sample.metric.as_str()),
            Body::Fact(_) => Some("quoted from a log"),
            _ => None,
        })
        .collect();
    metrics.sort_unstable();
    metrics.dedup();
    claim.summary = format!(
        "{} figures ({}) show the connector at its limit while the database could not be reached through it.",
        full.len(),
        metrics.join(", ")
    );
    claim.supporting = full.into_iter().take(4).collect();
    claim.next = NEXT.to_owned();
    claim
}

/// Behind a connector that is shown at its limit nobody sees whether the database can be reached, where
/// all that is said of it is that waiting was given up.
pub(super) fn behind(case: &Case<'_>, capacity: &Claim) -> Option<Claim> {
    let gave_up = case
        .hits
        .iter()
        .filter(|hit| hit.cause == UNREACHABLE.as_str())
        .all(|hit| public::says_timeout(hit) || hit.weight < TELLS);
    if capacity.status != ClaimStatus::Supported || !gave_up {
        return None;
    }
    let claimed = Claimed::Cause(UNREACHABLE);
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Masked);
    claim.summary = "connects are given up on a way without room: whether the database can be reached is unknown.".to_owned();
    claim.next = NEXT.to_owned();
    Some(claim)
}

/// Connects across the connector were unanswered and then quick again: as when a connector scales
/// out, and as when egress comes up late. Its number of instances would tell.
pub(super) fn recovered(case: &Case<'_>) -> Option<Claim> {
    let mut facts = case.facts.iter().filter(|(_, fact)| {
        fact.fact.as_str() == LATENCY_STEP
            && fact.get("crosses_connector") == "yes"
            && fact.get("recovered") == "yes"
    });
    let (observation, fact) = facts.next_back()?;
    let claimed = Claimed::Cause(VPC_CONNECTOR_CAPACITY);
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Undetermined);
    claim.confidence = 0.5;
    let seconds = |name| fact.get(name).parse::<f64>().map(|ms| ms / 1e3).unwrap_or_default();
    claim.summary = format!(
        "connects across the connector went unanswered and were quick again after {:.1} to {:.1} s: so a connector without room behaves until it has scaled out, and so do egress that comes up late and a burst of connects, such as an application that opens its pool.",
        seconds("at_least_ms"),
        seconds("at_most_ms")
    );
    claim.supporting = vec![(*observation).clone()];
    claim.next = NEXT.to_owned();
    Some(claim)
}

/// The public address that was dialled while only private ranges go through the connector.
fn past_the_connector<'e>(case: &Case<'e>) -> Option<&'e str> {
    let public = |target: &str| {
        let address = target.rsplit_once(':').map_or(target, |(address, _)| address);
        address.parse::<Ipv4Addr>().is_ok_and(|ip| {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared)
        })
    };
    let only_private = super::egress_setting(case)?.contains("private");
    let mut targets = case.hits.iter().map(|hit| hit.fact.get("target"));
    targets.find(|target| only_private && public(target))
}

/// What an operator would think of, and what is wrong with it: the word alone, the platform's notice
/// about instances of the service, a database behind a connector that nobody measured.
pub(super) fn refuted(
    case: &Case<'_>,
    unreachable: Option<&Argument<'_>>,
    cpu: Option<f64>,
) -> Option<Claim> {
    let words: Vec<_> = case.of_kind(CAPACITY_WORD).collect();
    let behind = case.changes.iter().any(|(_, change)| {
        change.fields.iter().any(|(key, _, to)| key.contains("vpc-access") && !to.is_empty())
    });
    if words.is_empty() && (unreachable.is_none() || !(behind || cpu.is_some())) {
        return None;
    }
    let notices = words.iter().filter(|hit| hit.signal == "vpc.autoscaling-notice").count();
    let seen = case.seen_kind(CAPACITY_WORD).map_or(0, |seen| seen.count);
    let mut why = Vec::new();
    if words.len() > notices {
        why.push(match seen {
            1 => "1 line has the word and states no figure".to_owned(),
            seen => format!("{seen} lines have the word and none states a figure"),
        });
    }
    if notices > 0 {
        why.push(
            "\"no existing capacity\" is Cloud Run starting another instance of the service, not the connector".to_owned(),
        );
    }
    if let Some(target) = past_the_connector(case) {
        why.push(format!(
            "the dial that failed goes to {target}, a public address: with private-ranges-only egress that way does not cross the connector"
        ));
    }
    why.push(
        "no throughput, processor, instance count or queueing of the connector is held".to_owned(),
    );
    let claimed = Claimed::Cause(VPC_CONNECTOR_CAPACITY);
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Refuted);
    claim.summary = format!("{}.", why.join("; "));
    claim.supporting = words.into_iter().map(|hit| hit.observation.clone()).collect();
    claim.next = NEXT.to_owned();
    Some(claim)
}
