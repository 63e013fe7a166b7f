//! What users lost in a run, and what that costs.

use shakedown_core::attempt::AttemptEnd;
use shakedown_core::diagnosis::{Diagnosis, ServiceDiagnosis};
use shakedown_core::outcome::{Finding, Outcome};
use shakedown_core::record::RunRecord;

use crate::clean::{CleanDiagnosis, CleanRecord};
use crate::words;

/// The probe whose figures these are.
const PROBE: &str = "goldenpath.offline-impact";

/// The impact section, as text for a terminal: every share with the number it is a share of; an
/// amount of money only where the environment states the revenue, with what it assumes. What was not
/// measured says so.
pub fn impact(record: &CleanRecord, diagnosis: &CleanDiagnosis) -> String {
    let lines = lines(record, diagnosis);
    format!("\nBusiness impact, in this run's window\n  {}\n", lines.join("\n  "))
}

fn lines(record: &RunRecord, diagnosis: &Diagnosis) -> Vec<String> {
    let mut ran = record.probes.iter().rev().filter(|probe| probe.id == PROBE);
    let Some(outcome) = ran.find_map(|probe| probe.result.outcome()) else {
        return vec![
            format!("not measured: {PROBE} did not come to an outcome"),
            deployments(diagnosis),
        ];
    };
    let mut lines = vec![
        share(outcome, "availability", "health_answers", "health answers good"),
        share(outcome, "session_establishment", "sessions", "sessions established"),
        share(outcome, "agent_success", "agent_runs", "agent runs answered"),
        deployments(diagnosis),
    ];
    match outcome.measurements.iter().find(|m| m.name == "at_risk") {
        Some(at_risk) => {
            let amount = words::number(at_risk.value);
            lines.push(format!("at risk: {amount} {} ({})", at_risk.unit, at_risk.provenance));
            let why = outcome.findings.iter().find(|finding| assumes(finding));
            lines.extend(why.map(|finding| words::one_line(&finding.summary)));
        }
        None => lines.push("no amount of money: `business.arr_usd` is not stated".into()),
    }
    lines
}

fn assumes(finding: &Finding) -> bool {
    finding.summary.contains("at risk, assuming")
}

fn share(outcome: &Outcome, name: &str, of: &str, what: &str) -> String {
    let value = |name: &str| outcome.measurements.iter().find(|m| m.name == name).map(|m| m.value);
    match (value(name), value(of)) {
        (Some(share), Some(of)) => {
            format!("{what}: {} % of {}", words::number(share * 100.0), words::number(of))
        }
        _ => format!("{what}: not measured"),
    }
}

/// Start-ups that the diagnosis has put together: one that completed is a deployment that serves,
/// whatever the audit log calls it.
fn deployments(diagnosis: &Diagnosis) -> String {
    let ended = |service: &ServiceDiagnosis| -> Option<String> {
        let count = |end| service.startups.iter().filter(|startup| startup.outcome == end).count();
        let (completed, failed) = (count(AttemptEnd::Completed), count(AttemptEnd::Failed));
        let name = &service.service;
        (completed + failed > 0).then(|| format!("{completed} of {} of {name}", completed + failed))
    };
    let services: Vec<_> = diagnosis.services.iter().filter_map(ended).collect();
    match services.is_empty() {
        true => "start-ups completed: not measured: none was seen in this run".into(),
        false => format!("start-ups completed: {}", services.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_comes_with_what_it_is_a_share_of_or_is_not_measured() {
        let outcome =
            Outcome::pass().measure("agent_success", 0.5, "1").measure("agent_runs", 4.0, "1");
        let of = |name, of| share(&outcome, name, of, "agent runs answered");
        assert_eq!(of("agent_success", "agent_runs"), "agent runs answered: 50 % of 4");
        assert_eq!(of("availability", "health_answers"), "agent runs answered: not measured");
    }
}
