//! A signature from a run that showed a failure.

use shakedown_core::attempt::AttemptEnd;
use shakedown_core::diagnosis::{Diagnosis, ServiceDiagnosis, Startup};
use shakedown_core::record::RunRecord;

use super::{Condition, Feature, ProbeTest, SCHEMA, Signature, StartupTest};

/// Why no signature can be made of a run.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// Nothing failed in it.
    #[error("no start-up and no probe failed in this run: there is no failure to describe")]
    NothingFailed,
}

/// The signature of the failure that `record` and its `diagnosis` show: the last start-up that
/// failed and the probes that failed. A person reads it, renames it, and takes away what happened by
/// chance.
///
/// # Errors
/// [`DeriveError`] for a run in which nothing failed.
pub fn derive(
    id: &str,
    record: &RunRecord,
    diagnosis: &Diagnosis,
) -> Result<Signature, DeriveError> {
    let mut features = Vec::new();
    let mut signature_of = String::new();
    let failed = diagnosis.services.iter().filter_map(|service| {
        let last = |startup: &&Startup| startup.outcome == AttemptEnd::Failed;
        Some((service, service.startups.iter().rfind(last)?))
    });
    if let Some((service, startup)) = failed.max_by_key(|(_, startup)| startup.at) {
        signature_of.clone_from(&service.service);
        startup_features(&mut features, service, startup);
    }
    let mut failed: Vec<&str> = record
        .probes
        .iter()
        .filter(|probe| probe.result.word() == "fail")
        .map(|probe| probe.id.as_str())
        .collect();
    failed.sort_unstable();
    failed.dedup();
    for probe in failed {
        let test = ProbeTest { id: probe.to_owned(), verdict: "fail".to_owned() };
        let feature =
            feature(format!("{}-fails", probe.replace('.', "-")), format!("{probe} fails"));
        features.push(Feature { probe: Some(test), ..feature });
    }
    if features.is_empty() {
        return Err(DeriveError::NothingFailed);
    }
    let target = &record.plan.target;
    let condition = |what: &str, key: Option<&str>, was: String| Condition {
        what: what.to_owned(),
        key: key.map(str::to_owned),
        was,
    };
    Ok(Signature {
        schema: SCHEMA.to_owned(),
        id: id.to_owned(),
        title: format!("the failure seen in {}", record.plan.session_id),
        service: signature_of,
        session_prefix: None,
        worsens: Default::default(),
        features,
        conditions: vec![
            condition("environment", Some("environment.name"), target.environment.clone()),
            condition("hour", Some("run.hour"), super::evaluate::hour(record)),
        ],
        expect: Default::default(),
    })
}

fn feature(id: String, what: String) -> Feature {
    Feature {
        id,
        what,
        decisive: true,
        startup: None,
        probe: None,
        measurement: None,
        metric: None,
        startups: None,
        symptom: None,
    }
}

fn startup_features(features: &mut Vec<Feature>, service: &ServiceDiagnosis, startup: &Startup) {
    let mut add = |id: &str, what: String, test: StartupTest| {
        features.push(Feature { startup: Some(test), ..feature(id.to_owned(), what) });
    };
    let failed = startup.failed_phase.clone();
    let completed: Vec<String> = startup
        .phases
        .iter()
        .map(|time| time.phase.clone())
        .filter(|phase| failed.as_ref() != Some(phase))
        .collect();
    if !completed.is_empty() {
        let what = format!("the phases {} complete", completed.join(", "));
        add("phases-before", what, StartupTest { completed, ..StartupTest::default() });
    }
    if let Some(phase) = failed {
        let ends_at_limit = startup.limit.is_some();
        let what = match ends_at_limit {
            true => format!("the phase {phase} ends at the limit in force there"),
            false => format!("the phase {phase} fails"),
        };
        let test =
            StartupTest { failed_phase: Some(phase), ends_at_limit, ..StartupTest::default() };
        add("failed-phase", what, test);
    }
    if startup.exit_code.is_some_and(|code| code != 0) {
        let test = StartupTest { exits_non_zero: true, ..StartupTest::default() };
        add("exits-non-zero", "the process exits with an error".to_owned(), test);
    }
    for seen in &service.symptoms {
        let id = seen.symptom.replace('_', "-");
        let what = format!("the symptom {} is seen", seen.symptom);
        let feature = Feature { decisive: false, ..feature(id, what) };
        features.push(Feature { symptom: Some(seen.symptom.clone()), ..feature });
    }
}
