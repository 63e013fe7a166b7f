//! The corpus and what diagnoses it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use shakedown_analyzer::read::{Input, ReadOptions};
use shakedown_analyzer::{Reasoning, diagnose};
use shakedown_core::classify::{ClaimStatus, FailureClassifier};
use shakedown_core::diagnosis::{Diagnosis, ServiceDiagnosis};
use shakedown_core::{Registry, StartupConfig};
use {shakedown_probes_cloudsql as _, shakedown_probes_goldenpath as _, shakedown_probes_vpc as _};

/// The truth of a window.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Truth {
    pub(crate) about: String,
    /// The `[startup]` table, as TOML; the observed application's when left out.
    pub(crate) startup: Option<String>,
    pub(crate) service: Vec<ServiceTruth>,
}

/// What is true of a service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceTruth {
    pub(crate) name: String,
    pub(crate) verdict: String,
    /// Supported roots: exactly these.
    #[serde(default)]
    pub(crate) roots: Vec<String>,
    /// Undetermined roots that must be there; others may.
    #[serde(default)]
    pub(crate) undetermined: Vec<String>,
    /// Symptoms that must be there.
    #[serde(default)]
    pub(crate) symptoms: Vec<String>,
    #[serde(default)]
    pub(crate) refuted: Vec<String>,
    #[serde(default)]
    pub(crate) masked: Vec<String>,
    /// Causes and symptoms that must not be claimed in any status.
    #[serde(default)]
    pub(crate) never: Vec<String>,
}

/// One window of the corpus.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) truth: Truth,
}

impl Window {
    pub(crate) fn startup(&self) -> StartupConfig {
        match &self.truth.startup {
            Some(text) => toml::from_str::<shakedown_probes_smd::Startup>(text).expect("a table").0,
            None => shakedown_probes_smd::Startup::default().0,
        }
    }
}

/// All windows, by name.
pub(crate) fn corpus() -> Vec<Window> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut windows: Vec<Window> = std::fs::read_dir(dir)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "toml"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let truth = std::fs::read_to_string(path.with_extension("toml")).expect(&name);
            let truth = toml::from_str(&truth).unwrap_or_else(|error| panic!("{name}: {error}"));
            // A folder holds logs and what else was saved of the same minutes.
            let bytes = if path.is_dir() { Vec::new() } else { std::fs::read(&path).expect(&name) };
            Window { name, bytes, truth, path }
        })
        .collect();
    windows.sort_by(|a, b| a.name.cmp(&b.name));
    windows
}

pub(crate) fn classifiers() -> Vec<Box<dyn FailureClassifier>> {
    let registry = Registry::linked().expect("no duplicates");
    registry.classifiers().map(|entry| (entry.build)()).collect()
}

pub(crate) fn diagnose_with(
    bytes: &[u8],
    name: &str,
    startup: &StartupConfig,
    classifiers: Vec<Box<dyn FailureClassifier>>,
) -> Diagnosis {
    let input = Input::Bytes(name.to_owned(), Arc::from(bytes));
    diagnose_inputs(&[input], startup, classifiers)
}

fn diagnose_inputs(
    inputs: &[Input],
    startup: &StartupConfig,
    classifiers: Vec<Box<dyn FailureClassifier>>,
) -> Diagnosis {
    let registry = Registry::linked().expect("no duplicates");
    let reasoning = Reasoning { signals: registry.signals().collect(), classifiers, startup };
    diagnose(inputs, &reasoning, &ReadOptions::default())
        .unwrap_or_else(|error| panic!("{inputs:?}: {error}"))
        .diagnosis
}

pub(crate) fn diagnosis_of(window: &Window, bytes: &[u8]) -> Diagnosis {
    if window.path.is_dir() {
        return diagnose_inputs(
            &[Input::Path(window.path.clone())],
            &window.startup(),
            classifiers(),
        );
    }
    diagnose_with(bytes, "window", &window.startup(), classifiers())
}

pub(crate) fn service<'d>(diagnosis: &'d Diagnosis, name: &str) -> Option<&'d ServiceDiagnosis> {
    diagnosis.services.iter().find(|service| service.service == name)
}

pub(crate) fn roots(service: &ServiceDiagnosis, status: ClaimStatus) -> Vec<String> {
    let mut roots: Vec<String> = service
        .roots
        .iter()
        .filter(|root| root.status == status)
        .map(|root| root.cause.clone())
        .collect();
    roots.sort();
    roots
}

pub(crate) fn verdict(service: &ServiceDiagnosis) -> String {
    serde_json::to_value(service.verdict).expect("a word").as_str().expect("a word").to_owned()
}
