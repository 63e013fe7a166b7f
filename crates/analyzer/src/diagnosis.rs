//! End to end: inputs to a diagnosis.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use shakedown_core::classify::FailureClassifier;
use shakedown_core::diagnosis::{Diagnosis, SCHEMA};
use shakedown_core::record::RunRecord;
use shakedown_core::signal::LogSignal;
use shakedown_core::startup::Markers;
use shakedown_core::{Evidence, Observation, StartupConfig};

use crate::coverage::{Coverage, Held};
use crate::engine;
use crate::entry::FileId;
use crate::facts;
use crate::read::{FileReport, Format, Input, ReadError, ReadOptions, ReadReport, read};
use crate::run::{self, RunError, read_run_dir};
use crate::series::{self, SeriesError};
use crate::signals::{PatternError, Search};
use crate::store::{Collected, Collector};

/// Why there is no diagnosis.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiagnoseError {
    /// The input could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A pattern of the start-up table or of a signal is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The only input is a run that could not be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The only input are figures that could not be read.
    #[error(transparent)]
    Series(#[from] SeriesError),
}

/// What to reason with.
pub struct Reasoning<'r> {
    /// The log signals of the linked crates: `registry.signals()`.
    pub signals: Vec<&'static LogSignal>,
    /// The classifiers, in any order.
    pub classifiers: Vec<Box<dyn FailureClassifier>>,
    /// How the application's start-up shows.
    pub startup: &'r StartupConfig,
}

impl std::fmt::Debug for Reasoning<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reasoning")
            .field("signals", &self.signals.len())
            .field("classifiers", &self.classifiers)
            .finish_non_exhaustive()
    }
}

/// A diagnosis and what the reader has to say.
#[derive(Debug)]
pub struct Diagnosed {
    /// The record.
    pub diagnosis: Diagnosis,
    /// What became of the files.
    pub report: ReadReport,
    /// What was read.
    pub coverage: Coverage,
}

impl Reasoning<'_> {
    fn search(&self) -> Result<Arc<Search>, PatternError> {
        let markers = Markers::new(self.startup).map_err(PatternError::from)?;
        Ok(Arc::new(Search::new(self.signals.iter().copied(), markers)?))
    }
}

/// Reads `inputs` (saved logs, run directories, or both) and says what broke.
///
/// The same input gives the same bytes, in any order of classifiers, and in any order of entries
/// below the bounds of [`crate::store`].
///
/// # Errors
///
/// When nothing could be read or a pattern is none.
pub fn diagnose(
    inputs: &[Input],
    reasoning: &Reasoning<'_>,
    options: &ReadOptions,
) -> Result<Diagnosed, DiagnoseError> {
    let search = reasoning.search()?;
    let (mut collector, coverage, mut report) =
        read(inputs, options, || Collector::new(Arc::clone(&search)))?;
    let mut observations = Vec::new();
    let mut runs = Vec::new();
    for dir in &report.run_dirs {
        let file = FileId(u32::try_from(report.files.len()).unwrap_or(u32::MAX));
        let mut about = FileReport::new(dir.display().to_string(), Format::RunDirectory);
        match read_run_dir(dir) {
            Ok(run) => {
                about.name.clone_from(&run.record.plan.session_id);
                about.bytes = run.bytes;
                let observed = run::observations(&run.record);
                about.records = observed.len() as u64;
                observations.extend(collector.observe(observed, file));
                runs.push(run::coverage(&run.record));
            }
            Err(error) if report.files.is_empty() && report.run_dirs.len() == 1 => {
                return Err(error.into());
            }
            Err(error) => about.ended_early = Some(error.to_string()),
        }
        report.files.push(about);
    }
    for path in &report.series {
        let mut about = FileReport::new(path.display().to_string(), Format::TimeSeries);
        match series::read(path) {
            Ok((bytes, samples)) => {
                (about.bytes, about.records) = (bytes, samples.len() as u64);
                observations.extend(samples);
            }
            Err(error) if report.files.is_empty() && report.series.len() == 1 => {
                return Err(error.into());
            }
            Err(error) => about.ended_early = Some(error.to_string()),
        }
        report.files.push(about);
    }
    let names = |file| report.name(file).to_owned();
    let mut collected = collector.finish(&names);
    for service in &mut collected {
        service.held.cut = !coverage.row_limits.is_empty();
    }
    for service in &collected {
        observations.extend(facts::observations(service, &search, &names, reasoning.startup));
    }
    let mut covered = coverage_value(&coverage, &report, &collected);
    if !runs.is_empty() {
        covered["runs"] = json!(runs);
    }
    let diagnosis = conclude(observations, covered, &report, reasoning);
    Ok(Diagnosed { diagnosis, report, coverage })
}

fn conclude(
    observations: Vec<Observation>,
    coverage: Value,
    report: &ReadReport,
    reasoning: &Reasoning<'_>,
) -> Diagnosis {
    let evidence = Evidence::new(observations);
    Diagnosis {
        schema: SCHEMA.to_owned(),
        inputs: report.files.iter().map(input_value).collect(),
        coverage,
        services: engine::diagnose_evidence(&evidence, &reasoning.classifiers),
    }
}

/// What a run found, before its directory is read back: as [`diagnose`] of that directory says it.
///
/// # Errors
///
/// [`DiagnoseError::Pattern`].
pub fn diagnose_run(
    record: &RunRecord,
    reasoning: &Reasoning<'_>,
) -> Result<Diagnosis, DiagnoseError> {
    let observed = run::observations(record);
    let mut about = FileReport::new(record.plan.session_id.clone(), Format::RunDirectory);
    about.records = observed.len() as u64;
    let quoted = observed.iter().any(Collector::takes);
    let (observations, collected) = if quoted {
        let search = reasoning.search()?;
        let mut collector = Collector::new(Arc::clone(&search));
        let mut observations = collector.observe(observed, FileId(0));
        let names = |_| record.plan.session_id.clone();
        let collected = collector.finish(&names);
        for service in &collected {
            observations.extend(facts::observations(service, &search, &names, reasoning.startup));
        }
        (observations, collected)
    } else {
        (observed, Vec::new())
    };
    let report = ReadReport { files: vec![about], ..ReadReport::default() };
    let mut covered = coverage_value(&Coverage::default(), &report, &collected);
    covered["runs"] = json!([run::coverage(record)]);
    Ok(conclude(observations, covered, &report, reasoning))
}

fn input_value(file: &crate::read::FileReport) -> Value {
    json!({
        "name": file.name,
        "format": file.format.as_str(),
        "bytes": file.bytes,
        "records": file.records,
        "broken": file.broken,
        "ended_early": file.ended_early,
    })
}

fn held_value(held: &Held) -> Value {
    json!({
        "entries": held.entries,
        "without_payload": held.without_payload,
        "from": held.window.map(|window| window.from),
        "to": held.window.map(|window| window.to),
    })
}

fn coverage_value(coverage: &Coverage, report: &ReadReport, collected: &[Collected]) -> Value {
    let severities: BTreeMap<&str, Value> =
        coverage.severities.iter().map(|(s, held)| (s.as_str(), held_value(held))).collect();
    let services: BTreeMap<&str, Value> = collected
        .iter()
        .map(|service| {
            let mut value = held_value(&coverage.service(&service.service));
            value["unclassified_errors"] = json!(service.held.unclassified);
            (service.service.as_str(), value)
        })
        .collect();
    let mut approximations: BTreeSet<String> = coverage.approximations.iter().cloned().collect();
    for service in collected.iter().filter(|service| service.approximated) {
        approximations.insert(format!(
            "{}: of lines that repeat a fact the first and the last of each instance are kept; counts are exact",
            service.service
        ));
    }
    let limits = coverage.row_limits.iter().map(|limit| {
        json!({
            "file": report.name(limit.file),
            "severity": limit.severity.map(|severity| severity.as_str()),
            "rows": limit.rows,
        })
    });
    let claimed = coverage.claimed.iter().map(|(file, window)| {
        json!({ "file": report.name(*file), "from": window.from, "to": window.to })
    });
    json!({
        "all": held_value(&coverage.all),
        "severities": severities,
        "services": services,
        "duplicates": coverage.duplicates,
        "without_time": coverage.without_time,
        "zone_assumed": coverage.zone_assumed,
        "summaries": coverage.summaries,
        "test_results": coverage.test_results,
        "cut_messages": coverage.cut_messages,
        "broken": coverage.broken,
        "not_entries": coverage.not_entries,
        "row_limits": limits.collect::<Vec<_>>(),
        "claimed": claimed.collect::<Vec<_>>(),
        "templates": coverage.templates,
        "approximations": approximations,
    })
}

/// The strategy's own shape: `failure_categories` by its six names, plus `unclassified`, so that
/// nothing is dropped.
///
/// A category holds what the diagnosis supports under that name: the symptom with its count and
/// span, or the root with its decisive lines. `unclassified` counts the entries at ERROR and above
/// in which no signal was found, and lists roots and symptoms the strategy has no name for.
pub fn strategy_report(diagnosis: &Diagnosis) -> Value {
    const CATEGORIES: [&str; 6] = [
        "smd_phase3_timeout",
        "vpc_connector_capacity",
        "cloud_sql_pool_exhaustion",
        "fastapi_lifespan_breakdown",
        "container_exit_code_3",
        "golden_path_offline",
    ];
    let mut categories: BTreeMap<&str, Vec<Value>> =
        CATEGORIES.iter().map(|category| (*category, Vec::new())).collect();
    let mut others = Vec::new();
    for service in &diagnosis.services {
        let symptoms = service.symptoms.iter().map(|symptom| {
            let value = json!({
                "service": service.service, "symptom": symptom.symptom,
                "count": symptom.count, "first": symptom.first, "last": symptom.last,
            });
            (symptom.symptom.as_str(), value)
        });
        let roots = service.roots.iter().map(|root| {
            let value = json!({
                "service": service.service, "cause": root.cause, "status": root.status,
                "confidence": root.confidence, "evidence": root.evidence,
            });
            (root.cause.as_str(), value)
        });
        for (name, value) in symptoms.chain(roots) {
            match categories.get_mut(name) {
                Some(list) => list.push(value),
                None => others.push(value),
            }
        }
    }
    let services = diagnosis.coverage["services"].as_object();
    let unclassified: u64 = services
        .into_iter()
        .flat_map(|services| services.values())
        .filter_map(|service| service["unclassified_errors"].as_u64())
        .sum();
    json!({
        "failure_categories": categories,
        "unclassified": { "count": unclassified, "other_findings": others },
    })
}
