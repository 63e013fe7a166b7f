//! What a probe measured at the database decides what a service's own lines leave open.

use shakedown_core::Provenance;
use shakedown_core::classify::ClaimStatus;
use shakedown_core::clock::Timestamp;
use shakedown_core::diagnosis::{EvidenceLine, HealthVerdict, Root, ServiceDiagnosis};

/// How far apart a measurement and a service's own lines may lie and still be about the same minutes,
/// in seconds.
const REACH_S: i64 = 600;
/// How much a measurement adds to what the lines say: it is about the same thing, seen by another.
const ADDS: f64 = 0.6;
/// No log proves more than this.
const CEILING: f64 = 0.98;

/// Supports the undetermined roots of each service that a probe measured elsewhere in the same
/// minutes. Only what is claimed of a service already can be: a measurement at the database says
/// nothing about a service that does not complain of it.
pub(crate) fn corroborate(services: &mut [ServiceDiagnosis]) {
    let measured: Vec<(String, Root)> = services
        .iter()
        .flat_map(|service| {
            service.roots.iter().map(|root| (service.service.clone(), root.clone()))
        })
        .filter(|(_, root)| root.status == ClaimStatus::Supported && probed(root).next().is_some())
        .collect();
    for service in services {
        let (from, to) = (service.window.from, service.window.to);
        for root in &mut service.roots {
            let same = measured.iter().find(|(elsewhere, other)| {
                *elsewhere != service.service
                    && other.cause == root.cause
                    && probed(other).any(|line| near(line.at, from, to))
            });
            if let Some((elsewhere, other)) = same.filter(|_| root.status != ClaimStatus::Supported)
            {
                root.status = ClaimStatus::Supported;
                let confidence = 1.0 - (1.0 - root.confidence) * (1.0 - ADDS);
                root.confidence = (confidence.min(CEILING) * 100.0).round() / 100.0;
                root.summary
                    .push_str(&format!(" Probes measured it at {elsewhere} in the same minutes."));
                root.evidence.extend(probed(other).take(2).cloned());
                root.next.clone_from(&other.next);
                if service.verdict == HealthVerdict::InsufficientEvidence {
                    service.verdict = HealthVerdict::Failing;
                }
            }
        }
        let rank = |root: &Root| (root.status == ClaimStatus::Supported, root.confidence);
        service.roots.sort_by(|a, b| {
            let ((a_is, a_sure), (b_is, b_sure)) = (rank(a), rank(b));
            b_is.cmp(&a_is).then(b_sure.total_cmp(&a_sure)).then_with(|| a.cause.cmp(&b.cause))
        });
    }
}

pub(crate) fn probed(root: &Root) -> impl Iterator<Item = &EvidenceLine> {
    root.evidence.iter().filter(|line| line.provenance == Provenance::Measured)
}

pub(crate) fn near(at: Option<Timestamp>, from: Option<Timestamp>, to: Option<Timestamp>) -> bool {
    let second = |at: Timestamp| at.as_second();
    let Some(at) = at.map(second) else { return false };
    from.is_none_or(|from| at >= second(from) - REACH_S)
        && to.is_none_or(|to| at <= second(to) + REACH_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, status: &str, provenance: &str, at: &str) -> ServiceDiagnosis {
        let line = serde_json::json!({
            "at": at, "source": "s", "quote": "q", "provenance": provenance,
        });
        serde_json::from_value(serde_json::json!({
            "service": name,
            "window": { "from": "2026-03-04T08:00:00Z", "to": "2026-03-04T08:10:00Z" },
            "verdict": "failing",
            "roots": [{
                "cause": "cloud_sql_unreachable", "status": status, "confidence": 0.55,
                "summary": "s.", "evidence": [line], "against": [], "explains": [], "next": "n",
            }],
            "symptoms": [], "refuted": [], "masked": [], "startups": [], "changes": [],
        }))
        .expect("a diagnosis")
    }

    #[test]
    fn a_measurement_of_the_same_minutes_decides_and_another_does_not() {
        let table = [
            ("measured", "2026-03-04T08:05:00Z", ClaimStatus::Supported),
            ("quoted", "2026-03-04T08:05:00Z", ClaimStatus::Undetermined),
            ("measured", "2026-03-04T12:00:00Z", ClaimStatus::Undetermined),
        ];
        for (provenance, at, status) in table {
            let mut services = [
                service("backend", "undetermined", "quoted", "2026-03-04T08:01:00Z"),
                service("database", "supported", provenance, at),
            ];
            corroborate(&mut services);
            let root = &services[0].roots[0];
            assert_eq!(root.status, status, "{provenance} {at}");
            assert_eq!(root.evidence.len() > 1, status == ClaimStatus::Supported);
        }
    }
}
