//! All traffic is sent into the VPC network, and nothing leads out of it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use shakedown_core::Case;
use shakedown_core::case::{Effect, Hit};
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::id::Cause;

use super::{CONFIGURATION_ERROR, egress_settings, only_egress};

/// The cause that another crate describes: what is outside does not answer.
const ELSEWHERE: Cause = Cause::new("dependency_unavailable");
/// So many say it by themselves, whether what was before the change is held or not.
const MANY: usize = 3;
/// So many that have nothing to do with each other do not fail at once.
const SEVERAL: usize = 2;
/// A change between what worked and what fails, which alone explains what is seen.
const SURE: f64 = 0.85;

/// Since egress was set to all traffic, connects to several public hosts come to nothing, and to none
/// before: behind the connector no NAT leads out.
pub(super) fn no_way_out(case: &Case<'_>) -> Option<Claim> {
    let hits = || case.hits.iter().enumerate().filter(|(_, hit)| hit.cause == ELSEWHERE.as_str());
    let lost: Vec<&Hit<'_>> = hits()
        .filter(|(index, hit)| says_timeout(hit) && case.effect(*index) != Effect::None)
        .map(|(_, hit)| hit)
        .collect();
    let first = lost.iter().map(|hit| hit.observation.moment.at).min()?;
    let settings = egress_settings(case);
    let setting = settings.iter().rfind(|setting| setting.observation.moment.at <= first)?;
    let at = setting.observation.moment.at;
    let hosts: BTreeSet<&str> = lost.iter().filter_map(|hit| public_host(hit)).collect();
    if !setting.value.contains("all") || hosts.len() < SEVERAL {
        return None;
    }
    let worked = case
        .traffic
        .iter()
        .any(|(_, traffic)| traffic.served() && traffic.first.is_some_and(|first| first < at));
    let claimed = Claimed::Cause(CONFIGURATION_ERROR);
    let sure = worked || hosts.len() >= MANY;
    let status = if sure { ClaimStatus::Supported } else { ClaimStatus::Undetermined };
    let mut claim = Claim::new(claimed, case.service, status);
    claim.confidence = if sure { SURE } else { 0.5 };
    claim.summary = format!(
        "since vpc-access-egress is {}, connects to {} time out, and none did before: all packets go \
         through the connector, and nothing (a Cloud NAT) leads out behind it.",
        setting.value,
        hosts.into_iter().collect::<Vec<_>>().join(", "),
    );
    let lines = lost.iter().take(3).map(|hit| hit.observation.clone());
    claim.supporting = std::iter::once(only_egress(setting.observation)).chain(lines).collect();
    claim.next = "deploy one revision with --vpc-egress=private-ranges-only, or look whether the \
                  connector's subnet has a Cloud NAT (`gcloud compute routers nats list`)"
        .to_owned();
    Some(claim)
}

pub(super) fn says_timeout(hit: &Hit<'_>) -> bool {
    let quote = hit.fact.get("quote");
    ["imeout", "timed out", "imed out", "ETIMEDOUT", "deadline exceeded"]
        .iter()
        .any(|words| quote.contains(words))
}

/// The public host that a line names: of an address, else by an IP address that is not private.
fn public_host<'e>(hit: &Hit<'e>) -> Option<&'e str> {
    let quote = hit.fact.get("quote");
    let named = ["https://", "http://", "host='"].iter().find_map(|before| {
        let host = &quote[quote.find(before)? + before.len()..];
        let end = |c: char| !c.is_ascii_alphanumeric() && !".-".contains(c);
        Some(&host[..host.find(end).unwrap_or(host.len())])
    });
    let public = |host: &&str| match host.parse::<Ipv4Addr>() {
        Ok(address) => !address.is_private() && !address.is_loopback() && !address.is_link_local(),
        Err(_) => host.contains('.') && !host.ends_with(".internal") && !host.ends_with(".local"),
    };
    let addresses = || {
        let words = quote.split(|c: char| !c.is_ascii_digit() && c != '.');
        words.map(|word| word.trim_matches('.')).find(|word| word.parse::<Ipv4Addr>().is_ok())
    };
    named.filter(public).or_else(|| addresses().filter(public))
}

#[cfg(test)]
mod tests {
    use shakedown_core::evidence::{Body, Change, Fact, Moment, Subject};
    use shakedown_core::id::ObservationKind;
    use shakedown_core::{Evidence, Observation, Provenance, Vantage};

    use super::*;

    fn at(second: i64, body: Body) -> Observation {
        let at = shakedown_core::clock::Timestamp::from_second(1_770_000_000 + second).unwrap();
        Observation {
            moment: Moment::ours(at),
            subject: Subject::service("shop"),
            vantage: Vantage::Unknown,
            provenance: Provenance::Quoted,
            body,
        }
    }

    fn lost(second: i64, quote: &str) -> Observation {
        let attributes = [
            ("signal", "smd.httpx"),
            ("cause", "dependency_unavailable"),
            ("weight", "0.7"),
            ("severity", "ERROR"),
            ("quote", quote),
        ];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        at(second, Body::Fact(Fact { fact: ObservationKind::new("app.dependency"), attributes }))
    }

    fn set(second: i64, to: &str) -> Observation {
        let key = "template.metadata.annotations.run.googleapis.com/vpc-access-egress".to_owned();
        let fields = vec![(key, "private-ranges-only".to_owned(), to.to_owned())];
        at(second, Body::Change(Change { actor: String::new(), method: String::new(), fields }))
    }

    fn claimed(observations: Vec<Observation>) -> bool {
        let evidence = Evidence::new(observations);
        Case::all(&evidence).iter().any(|case| no_way_out(case).is_some())
    }

    #[test]
    fn several_public_hosts_after_the_change_and_none_before() {
        let pay = "https://api.pay.example failed: httpx.ConnectTimeout";
        let mail = "httpx.ConnectTimeout (connect to 203.0.113.9:443 timed out after 10.0s)";
        let (change, back) = (set(10, "all-traffic"), set(10, "private-ranges-only"));
        assert!(claimed(vec![change.clone(), lost(20, pay), lost(30, mail)]));
        assert!(!claimed(vec![change.clone(), lost(20, pay), lost(30, pay)]), "one host");
        assert!(!claimed(vec![change.clone(), lost(5, pay), lost(30, mail)]), "before it too");
        assert!(!claimed(vec![back, lost(20, pay), lost(30, mail)]), "not all traffic");
        let private = "httpx.ConnectTimeout (connect to 10.1.2.3:443 timed out)";
        assert!(!claimed(vec![change, lost(20, pay), lost(30, private)]), "a private address");
    }
}
