//! A failure that another service's root has told already is told once.

use shakedown_core::Provenance;
use shakedown_core::classify::ClaimStatus;
use shakedown_core::diagnosis::{Follows, Root, ServiceDiagnosis};

use crate::corroborate::{near, probed};

/// The one cause that names no culprit: something the service needs does not answer.
const ELSEWHERE: &str = "dependency_unavailable";

/// Marks the services whose roots are another's, and drops what only callers saw of a service that
/// says itself why it is down.
///
/// A *resource* is what has no start-ups of its own and was measured broken by probes, as a database
/// is. It follows the service that fails for the same cause by its own lines. A service that only
/// does not answer, says nothing itself, and did so in the same minutes, follows the resource: that
/// it needs it is likely and not proven, and the sentence says so.
pub(crate) fn follow(services: &mut [ServiceDiagnosis]) {
    for service in services.iter_mut() {
        drop_what_callers_saw(&mut service.roots);
    }
    let resources: Vec<(usize, String)> = services
        .iter()
        .enumerate()
        .filter(|(_, service)| service.startups.is_empty())
        .filter_map(|(index, service)| {
            let root = service.roots.first().filter(|root| only_measured(root))?;
            (root.cause != ELSEWHERE).then(|| (index, root.cause.clone()))
        })
        .collect();
    for (resource, cause) in resources {
        let says_so = services.iter().position(|service| {
            let fails = |root: &Root| is_supported(root) && root.cause == cause;
            !service.startups.is_empty() && service.roots.first().is_some_and(fails)
        });
        if let Some(main) = says_so {
            let why = format!("the same, measured at {}", services[resource].service);
            services[resource].follows = Some(follows(&services[main], &cause, why));
        }
        let main = says_so.unwrap_or(resource);
        let (named, lead) = (services[resource].service.clone(), services[main].clone());
        let lines = services[resource].roots[0].evidence.clone();
        for (index, service) in services.iter_mut().enumerate() {
            let outside =
                |root: &Root| root.cause == ELSEWHERE && is_supported(root) && only_measured(root);
            let alone = !service.roots.is_empty() && service.roots.iter().all(outside);
            let (from, to) = (service.window.from, service.window.to);
            let then = lines.iter().any(|line| near(line.at, from, to));
            if index == main || index == resource || !alone || !then || service.follows.is_some() {
                continue;
            }
            let why = format!(
                "did not answer while {named} was broken; that it needs it is likely, and its own \
                 lines, which are not held, would tell"
            );
            service.follows = Some(follows(&lead, &cause, why));
        }
    }
}

fn follows(service: &ServiceDiagnosis, cause: &str, why: String) -> Follows {
    Follows { service: service.service.clone(), cause: cause.to_owned(), why }
}

/// That a service does not answer its callers is no root beside the one that it names itself.
fn drop_what_callers_saw(roots: &mut Vec<Root>) {
    let named = roots.iter().any(|root| is_supported(root) && root.cause != ELSEWHERE);
    if named {
        roots.retain(|root| root.cause != ELSEWHERE || !only_measured(root));
    }
}

fn is_supported(root: &Root) -> bool {
    root.status == ClaimStatus::Supported
}

/// Whether only probes speak for it.
fn only_measured(root: &Root) -> bool {
    probed(root).next().is_some()
        && root.evidence.iter().all(|line| line.provenance == Provenance::Measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, startups: bool, roots: &[(&str, &str)]) -> ServiceDiagnosis {
        let at = "2026-03-04T08:05:00Z";
        let root = |(cause, provenance): &(&str, &str)| {
            serde_json::json!({
                "cause": cause, "status": "supported", "confidence": 0.9, "summary": "s.",
                "evidence": [{ "at": at, "source": "s", "quote": "q", "provenance": provenance }],
                "against": [], "explains": [], "next": "n",
            })
        };
        let startup = serde_json::json!({
            "instance": "i", "revision": "r", "at": at, "phases": [], "outcome": "failed",
        });
        serde_json::from_value(serde_json::json!({
            "service": name,
            "window": { "from": "2026-03-04T08:00:00Z", "to": "2026-03-04T08:10:00Z" },
            "verdict": "failing",
            "roots": roots.iter().map(root).collect::<Vec<_>>(),
            "symptoms": [], "refuted": [], "masked": [],
            "startups": if startups { vec![startup] } else { vec![] },
            "changes": [],
        }))
        .expect("a diagnosis")
    }

    fn followed(services: &[ServiceDiagnosis]) -> Vec<Option<&str>> {
        services
            .iter()
            .map(|service| service.follows.as_ref().map(|follows| follows.service.as_str()))
            .collect()
    }

    #[test]
    fn one_root_stays_and_what_only_does_not_answer_follows_it() {
        let mut services = [
            service("auth", false, &[(ELSEWHERE, "measured")]),
            service(
                "backend",
                true,
                &[("cloud_sql_unreachable", "quoted"), (ELSEWHERE, "measured")],
            ),
            service("database", false, &[("cloud_sql_unreachable", "measured")]),
        ];
        follow(&mut services);
        assert_eq!(followed(&services), [Some("backend"), None, Some("backend")]);
        assert_eq!(services[1].roots.len(), 1, "{:?}", services[1].roots);
    }

    #[test]
    fn without_lines_of_its_own_the_resource_is_the_root() {
        let mut services = [
            service("auth", false, &[(ELSEWHERE, "measured")]),
            service("database", false, &[("cloud_sql_unreachable", "measured")]),
        ];
        follow(&mut services);
        assert_eq!(followed(&services), [Some("database"), None]);
    }

    #[test]
    fn two_roots_stay_two() {
        // Nothing both need was measured broken.
        let mut services = [
            service("auth", false, &[(ELSEWHERE, "measured")]),
            service("backend", true, &[("code_defect", "measured")]),
        ];
        follow(&mut services);
        assert_eq!(followed(&services), [None, None]);
        // Its own lines name another cause.
        let mut services = [
            service("backend", true, &[("code_defect", "quoted")]),
            service("database", false, &[("cloud_sql_slow", "measured")]),
        ];
        follow(&mut services);
        assert_eq!(followed(&services), [None, None]);
        // Its own lines say that something does not answer.
        let mut services = [
            service("auth", true, &[(ELSEWHERE, "quoted")]),
            service("database", false, &[("cloud_sql_slow", "measured")]),
        ];
        follow(&mut services);
        assert_eq!(followed(&services), [None, None]);
    }
}
