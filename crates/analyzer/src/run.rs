//! Runs of shakedown itself: what a run measured becomes evidence beside the logs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use shakedown_core::case::PROBE_FINDING;
use shakedown_core::evidence::{Body, Fact, Moment, Observation, Probed, Subject};
use shakedown_core::id::ObservationKind;
use shakedown_core::outcome::{Finding, Verdict};
use shakedown_core::record::{ProbeRecord, RunRecord};
use shakedown_core::redact::quotable;
use shakedown_core::{Outcome, Provenance, Vantage};

/// How much a failed probe's finding speaks for the cause it is consistent with. The rung and the
/// error are measured; what lies behind them is read off the rung, as a driver's text is.
const FAILED: f64 = 0.8;
/// How much a degraded probe's does: never enough alone.
const DOUBTED: f64 = 0.5;

/// What a run left behind.
#[derive(Clone, Debug)]
pub struct RunEvidence {
    /// The run.
    pub record: RunRecord,
    /// How many bytes its journal has.
    pub bytes: u64,
}

/// Why a run directory could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is no journal, or it cannot be read.
    #[error("cannot read the journal of {dir}")]
    Journal {
        /// The directory.
        dir: String,
        /// Why.
        source: io::Error,
    },
    /// The journal does not begin with the start of a run.
    #[error("the journal of {dir} holds no run")]
    NoRun {
        /// The directory.
        dir: String,
    },
}

/// Reads `journal.jsonl` of a run directory. A run that was killed gives what it had finished.
///
/// # Errors
///
/// When there is no journal or no run in it.
pub fn read_run_dir(dir: &Path) -> Result<RunEvidence, RunError> {
    let name = || dir.display().to_string();
    let journal = fs::read(dir.join("journal.jsonl"))
        .map_err(|source| RunError::Journal { dir: name(), source })?;
    let record = RunRecord::from_journal(&String::from_utf8_lossy(&journal))
        .ok_or_else(|| RunError::NoRun { dir: name() })?;
    Ok(RunEvidence { record, bytes: journal.len() as u64 })
}

/// What a run observed, as evidence.
///
/// Observations of probes are taken as they are. Each finished probe adds its verdict and its
/// findings, about the service they name, else the one its observations name, else the environment as
/// a whole; a fault is about what its step was taken to. A finding of a probe that was not content speaks for
/// the cause it is consistent with. A sample is about nothing in particular: it names its metric.
pub fn observations(record: &RunRecord) -> Vec<Observation> {
    let target = &record.plan.target;
    let measured = |at, subject: &Subject, provenance, body| Observation {
        moment: Moment::ours(at),
        subject: subject.clone(),
        vantage: target.vantage,
        provenance,
        body,
    };
    let told = |probe: &ProbeRecord| {
        let findings = probe.result.outcome().map_or(0, |outcome| outcome.findings.len());
        probe.observations.len() + 2 * findings + 1
    };
    let room = record.probes.iter().map(told).sum::<usize>() + record.samples.len();
    let mut out = Vec::with_capacity(room);
    for probe in &record.probes {
        out.extend(probe.observations.iter().cloned());
        let Some(outcome) = probe.result.outcome() else { continue };
        if matches!(outcome.verdict, Verdict::Skip { .. }) {
            continue;
        }
        let general = general(probe, &target.environment);
        let probed = Probed { probe: probe.id.clone(), ended: outcome.verdict.clone() };
        let ended = probe.at + std::time::Duration::from_secs_f64(probe.elapsed_ms.max(0.0) / 1e3);
        let mut told = BTreeSet::new();
        for finding in &outcome.findings {
            let (at, subject) = place(probe, outcome, finding, &general);
            let subject = finding.about.as_deref().map_or(subject, Subject::service);
            if finding.fault.is_some() {
                told.insert(subject.service.clone());
            }
            let fact = Body::Fact(fact(record, probe, outcome, finding));
            out.push(measured(at.unwrap_or(ended), &subject, Provenance::Measured, fact));
        }
        // What is about the environment as a whole is no service's state.
        if told.is_empty() && general.service != target.environment {
            told.insert(general.service);
        }
        told.remove(&target.environment);
        for service in told {
            let body = Body::Probed(probed.clone());
            out.push(measured(ended, &Subject::service(service), Provenance::Measured, body));
        }
    }
    for stamped in &record.samples {
        let (sample, nothing) = (&stamped.sample, Subject::default());
        let body = Body::Sample(sample.clone());
        out.push(measured(sample.taken_at, &nothing, sample.provenance, body));
    }
    out
}

/// What a probe is about as a whole: the one service its observations name, else the environment.
fn general(probe: &ProbeRecord, environment: &str) -> Subject {
    let named: BTreeSet<&str> =
        probe.observations.iter().map(|o| o.subject.service.as_str()).collect();
    let mut named = named.into_iter();
    match (named.next(), named.next()) {
        (Some(service), None) if !service.is_empty() => Subject::service(service),
        _ => Subject::service(environment),
    }
}

/// When the step of a finding was taken, and about what: the observed step with the same fault at
/// the same rung, else the probe's own.
fn place(
    probe: &ProbeRecord,
    outcome: &Outcome,
    finding: &Finding,
    general: &Subject,
) -> (Option<jiff::Timestamp>, Subject) {
    let same = |rung: &str, fault| {
        finding.fault.is_some() && finding.rung.as_deref() == Some(rung) && finding.fault == fault
    };
    for observation in &probe.observations {
        if let Body::Step(step) = &observation.body
            && same(&step.rung, step.fault.clone())
        {
            return (Some(step.at), Subject::service(&observation.subject.service));
        }
    }
    let step = outcome.steps.iter().find(|step| same(&step.rung, step.fault.clone()));
    (step.map(|step| step.at), general.clone())
}

fn fact(record: &RunRecord, probe: &ProbeRecord, outcome: &Outcome, finding: &Finding) -> Fact {
    let code = finding.fault.as_ref().map(shakedown_core::Fault::code).unwrap_or_default();
    let rung = finding.rung.clone().unwrap_or_default();
    let mut attributes = vec![
        ("signal", format!("{}.{rung}.{code}", probe.id)),
        ("quote", quotable(&finding.summary)),
        ("source", format!("{} {}", record.plan.session_id, probe.id)),
        ("probe", probe.id.clone()),
        ("verdict", outcome.verdict.as_str().to_owned()),
        ("effect", "self".to_owned()),
    ];
    let weight = match outcome.verdict {
        Verdict::Fail => FAILED,
        Verdict::Degraded => DOUBTED,
        _ => 0.0,
    };
    let named = [("rung", rung), ("fault", code)];
    attributes.extend(named.into_iter().filter(|(_, value)| !value.is_empty()));
    if let Some(cause) = finding.suggests.as_ref().filter(|_| weight > 0.0) {
        attributes.push(("cause", cause.to_string()));
        attributes.push(("weight", weight.to_string()));
    }
    if let Some(symptom) = &finding.symptom {
        attributes.push(("symptom", symptom.to_string()));
    }
    let attributes = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Fact { fact: ObservationKind::new(PROBE_FINDING), attributes }
}

/// What a run's coverage is: which of its probes came to a verdict.
pub(crate) fn coverage(record: &RunRecord) -> serde_json::Value {
    let mut words = BTreeMap::<&str, u64>::new();
    for probe in &record.probes {
        *words.entry(probe.result.word()).or_default() += 1;
    }
    let vantage: Vantage = record.plan.target.vantage;
    serde_json::json!({
        "session": record.plan.session_id,
        "environment": record.plan.target.environment,
        "vantage": vantage.as_str(),
        "from": record.started_at,
        "complete": record.elapsed_ms.is_some(),
        "probes": words,
        "samples": record.samples.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_journal_or_a_run_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_run_dir(dir.path()), Err(RunError::Journal { .. })));
        fs::write(dir.path().join("journal.jsonl"), "{}\n").unwrap();
        let error = read_run_dir(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    }
}
