//! A linked probe, run as the runner would, and everything it told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use shakedown_core::context::{Note, ProbeCtxBuilder};
use shakedown_core::environment::{Layer, Source, load};
use shakedown_core::evidence::{Body, Fact, Observation};
use shakedown_core::{Environment, Outcome, ProbeCtx, ProbeError, Registry, Verdict, clock};

/// How much longer than its own timeout a probe may take before its test is ended.
const GRACE: Duration = Duration::from_secs(30);

/// The environment of these layers, checked by every section that is linked.
///
/// # Panics
///
/// With every error of the texts.
#[track_caller]
pub fn linked_environment(layers: &[&str]) -> Environment {
    let layer = |text: &&str| Layer { origin: "test".into(), text: (*text).into() };
    let source = Source { layers: layers.iter().map(layer).collect(), ..Source::default() };
    let owners = Registry::linked().expect("what is linked fits together").owners();
    match load(&source, &owners) {
        Ok(loaded) => loaded.environment,
        Err(errors) => panic!("the test's environment is wrong:\n{errors}"),
    }
}

/// A probe's outcome and what it told on the way.
#[derive(Debug)]
pub struct Ran {
    /// The verdict with its steps, findings and numbers.
    pub outcome: Outcome,
    /// What it said while it was at work.
    pub progress: Vec<String>,
    /// The evidence it gave.
    pub observed: Vec<Observation>,
}

/// Runs the linked probe `id` under its own scaled timeout, with its whole draw set aside of a budget
/// of its own; `equip` adds what else the context has.
///
/// # Errors
///
/// The probe's own.
///
/// # Panics
///
/// Where there is no such probe, where it does not end by itself, or took more than it declares.
pub async fn run(
    id: &str,
    environment: &Arc<Environment>,
    equip: impl FnOnce(ProbeCtxBuilder) -> ProbeCtxBuilder,
) -> Result<Ran, ProbeError> {
    let registry = Registry::linked().expect("what is linked fits together");
    let entry = registry.probe(id).unwrap_or_else(|| panic!("no probe {id} is linked"));
    let probe = (entry.build)(environment).unwrap_or_else(|error| panic!("{id}: {error}"));
    let budget = environment.safety.budget();
    let allotment = budget.reserve(entry.meta.draws).await.expect("a probe fits into the budget");
    let timeout = environment.time_scale().limit(entry.meta.timeout);
    let notes: Arc<Mutex<Vec<Note>>> = Arc::default();
    let heard = Arc::clone(&notes);
    let builder = ProbeCtx::builder(Arc::clone(environment))
        .budget(budget.clone())
        .allotment(allotment)
        .deadline(clock::now() + timeout)
        .listener(move |note| heard.lock().expect("nobody panics here").push(note));
    let ctx = equip(builder).build();
    let outcome = tokio::time::timeout(timeout + GRACE, probe.run(&ctx)).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("{id} does not end by itself"))?;
    drop(ctx);
    for usage in budget.usage() {
        let draws = entry.meta.draws.iter().filter(|draw| draw.resource == usage.resource);
        assert!(usage.peak <= draws.map(|draw| draw.amount).sum(), "{id}: {usage:?}");
    }
    let (mut progress, mut observed) = (Vec::new(), Vec::new());
    for note in notes.lock().expect("nobody panics here").drain(..) {
        match note {
            Note::Progress(text) => progress.push(text),
            Note::Observed(observation) => observed.push(*observation),
        }
    }
    Ok(Ran { outcome, progress, observed })
}

impl Ran {
    /// Rung and fault of the findings, as `rung:code`.
    pub fn faults(&self) -> Vec<String> {
        let findings = self.outcome.findings.iter();
        findings
            .filter_map(|f| Some(format!("{}:{}", f.rung.as_ref()?, f.fault.as_ref()?.code())))
            .collect()
    }

    /// The number of that name.
    pub fn measured(&self, name: &str) -> Option<f64> {
        self.outcome.measurements.iter().find(|m| m.name == name).map(|m| m.value)
    }

    /// Whether a finding's summary has these words.
    pub fn said(&self, words: &str) -> bool {
        self.outcome.findings.iter().any(|finding| finding.summary.contains(words))
    }

    /// The facts of that kind.
    pub fn facts(&self, kind: &str) -> Vec<&Fact> {
        let facts = self.observed.iter().filter_map(|observation| match &observation.body {
            Body::Fact(fact) if fact.fact.as_str() == kind => Some(fact),
            _ => None,
        });
        facts.collect()
    }

    /// Why it was skipped, if it was.
    pub fn skipped(&self) -> Option<String> {
        match &self.outcome.verdict {
            Verdict::Skip { reason } => Some(reason.to_string()),
            _ => None,
        }
    }
}
