//! What users lost in a run, and what that costs.

use shakedown_core::attempt::AttemptEnd;
use shakedown_core::evidence::Body;
use shakedown_core::outcome::{Finding, Outcome};
use shakedown_core::record::RunRecord;

use crate::clean::CleanRecord;
use crate::words;

/// The probe whose figures these are.
const PROBE: &str = "goldenpath.offline-impact";

/// The impact section, as text for a terminal: every share with the number it is a share of; an
/// amount of money only where the environment states the revenue, with what it assumes. What was not
/// measured says so.
pub fn impact(record: &CleanRecord) -> String {
    let lines = lines(record);
    format!("\nBusiness impact, in this run's window\n  {}\n", lines.join("\n  "))
}

fn lines(record: &RunRecord) -> Vec<String> {
    let mut ran = record.probes.iter().rev().filter(|probe| probe.id == PROBE);
    let Some(outcome) = ran.find_map(|probe| probe.result.outcome()) else {
        return vec![
            format!("not measured: {PROBE} did not come to an outcome"),
            deployments(record),
        ];
    };
    let mut lines = vec![
        share(outcome, "availability", "health_answers", "health answers good"),
        share(outcome, "session_establishment", "sessions", "sessions established"),
        share(outcome, "agent_success", "agent_runs", "agent runs answered"),
        deployments(record),
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

/// Start-ups that the run's probes recorded: one that completed is a deployment that serves, whatever
/// the audit log calls it.
fn deployments(record: &RunRecord) -> String {
    let observations = record.probes.iter().flat_map(|probe| &probe.observations);
    let attempts = observations.filter_map(|observation| match &observation.body {
        Body::Attempt(attempt) => Some(attempt.end),
        _ => None,
    });
    let ended: Vec<_> =
        attempts.filter(|end| matches!(end, AttemptEnd::Completed | AttemptEnd::Failed)).collect();
    if ended.is_empty() {
        return "start-ups completed: not measured: no start-up was recorded in this run".into();
    }
    let completed = ended.iter().filter(|end| **end == AttemptEnd::Completed).count();
    format!("start-ups completed: {completed} of {}", ended.len())
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
