//! A lab per test, and the crate's probes run against it as a run would.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use shakedown_core::context::Note;
use shakedown_core::environment::{Layer, Source, load};
use shakedown_core::evidence::{Body, Fact, Observation};
use shakedown_core::{
    Credentials, Environment, Outcome, ProbeCtx, ProbeError, Registry, Verdict, clock,
};
use shakedown_lab::{Lab, LabOptions, Scenario, ServerPrograms, TimeScale};
use tempfile::TempDir;

/// The scale of every lab here: the strategy's 30 s become 3 s.
pub(crate) const SCALE: u32 = 10;

/// What the lab starts this very program with: see `supervisor` and `backend`.
fn entry(name: &str) -> Vec<std::ffi::OsString> {
    ["--ignored", "--exact", name, "--nocapture"].map(Into::into).to_vec()
}

/// The body of the ignored test `supervisor`: the process between a lab and its server.
pub(crate) fn supervise() {
    if std::io::stdin().is_terminal() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Without a lab on the other end there is nothing to supervise, which is no failure.
    let _ = runtime.block_on(shakedown_lab::supervise());
    runtime.shutdown_background();
}

/// The body of the ignored test `backend`: the lab's application.
#[expect(clippy::disallowed_methods, reason = "it stands for a program")]
pub(crate) fn be_the_backend() {
    if std::env::var_os("K_SERVICE").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let code = runtime.block_on(shakedown_lab::backend(std::env::vars(), std::io::stdout()));
    std::process::exit(code.into());
}

/// A running lab with the environment a run would load for it.
pub(crate) struct Staging {
    pub(crate) lab: Lab,
    pub(crate) environment: Arc<Environment>,
    credentials: Arc<Credentials>,
    _tmp: TempDir,
}

/// The built-in scenario of that name, or a scenario's TOML without its name; without the application,
/// whose connections would be counted.
pub(crate) async fn staging(scenario: &str) -> Staging {
    staging_with(scenario, false).await
}

/// As [`staging`], with the application if asked for.
pub(crate) async fn staging_with(scenario: &str, application: bool) -> Staging {
    let scenario = match Scenario::find(scenario) {
        Ok(built_in) => built_in,
        Err(_) => {
            toml::from_str(&format!("name = \"test\"\nsummary = \"a test's own\"\n{scenario}"))
                .unwrap()
        }
    };
    let tmp = tempfile::Builder::new().prefix("v").rand_bytes(5).tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(tmp.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let programs = ServerPrograms::find(None, std::env::var_os("PATH").as_deref()).unwrap();
    let options = LabOptions {
        tmp: tmp.path().into(),
        scenario,
        time_scale: TimeScale::new(SCALE).unwrap(),
        supervise_args: entry("supervisor"),
        backend_args: entry("backend"),
        application,
        ..LabOptions::new(std::env::current_exe().unwrap(), programs)
    };
    let lab = Lab::start(&options).await.unwrap();
    let text = std::fs::read_to_string(lab.overlay()).unwrap();
    let environment = environment(&[&text, "[vpc]\nname = \"lab-vpc-connector\"\n"]);
    let password = std::fs::read_to_string(lab.dir().join("secrets/database")).unwrap();
    let mut credentials = Credentials::default();
    credentials.insert("database", SecretString::from(password.trim_end().to_owned()));
    let credentials = Arc::new(credentials);
    Staging { lab, environment: Arc::new(environment), credentials, _tmp: tmp }
}

/// An environment of these texts, checked by everything that is linked.
pub(crate) fn environment(texts: &[&str]) -> Environment {
    let layer = |text: &&str| Layer { origin: "test".into(), text: (*text).into() };
    let source = Source { layers: texts.iter().map(layer).collect(), ..Source::default() };
    load(&source, &Registry::linked().unwrap().owners()).unwrap().environment
}

/// A probe's outcome and what it told on the way.
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) progress: Vec<String>,
    pub(crate) observed: Vec<Observation>,
}

impl Ran {
    /// Rung and fault of the findings, as `rung:code`.
    pub(crate) fn faults(&self) -> Vec<String> {
        let findings = self.outcome.findings.iter();
        findings
            .filter_map(|f| Some(format!("{}:{}", f.rung.as_ref()?, f.fault.as_ref()?.code())))
            .collect()
    }

    pub(crate) fn measured(&self, name: &str) -> Option<f64> {
        self.outcome.measurements.iter().find(|m| m.name == name).map(|m| m.value)
    }

    pub(crate) fn said(&self, words: &str) -> bool {
        self.outcome.findings.iter().any(|finding| finding.summary.contains(words))
    }

    pub(crate) fn facts(&self, kind: &str) -> Vec<&Fact> {
        let facts = self.observed.iter().filter_map(|observation| match &observation.body {
            Body::Fact(fact) if fact.fact.as_str() == kind => Some(fact),
            _ => None,
        });
        facts.collect()
    }

    pub(crate) fn skipped(&self) -> Option<String> {
        match &self.outcome.verdict {
            Verdict::Skip { reason } => Some(reason.to_string()),
            _ => None,
        }
    }
}

/// The value of an attribute.
pub(crate) fn attribute<'a>(fact: &'a Fact, key: &str) -> &'a str {
    let found = fact.attributes.iter().find(|(name, _)| name == key);
    found.map_or_else(|| panic!("no attribute {key} in {fact:?}"), |(_, value)| value)
}

impl Staging {
    /// Runs the probe `id` with its whole draw set aside, under its own scaled timeout.
    pub(crate) async fn run(&self, id: &str) -> Ran {
        run(&self.environment, &self.credentials, id).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.lab.stop().await.unwrap();
    }
}

/// As [`Staging::run`] for an environment that is no lab.
pub(crate) async fn run_in(environment: &Arc<Environment>, id: &str) -> Result<Ran, ProbeError> {
    run(environment, &Arc::default(), id).await
}

async fn run(
    environment: &Arc<Environment>,
    credentials: &Arc<Credentials>,
    id: &str,
) -> Result<Ran, ProbeError> {
    let registry = Registry::linked().unwrap();
    let entry = registry.probe(id).unwrap();
    let probe = (entry.build)(environment).unwrap();
    let budget = environment.safety.budget();
    let allotment = budget.reserve(entry.meta.draws).await.unwrap();
    let timeout = environment.time_scale().limit(entry.meta.timeout);
    let notes: Arc<Mutex<Vec<Note>>> = Arc::default();
    let heard = Arc::clone(&notes);
    let ctx = ProbeCtx::builder(Arc::clone(environment))
        .credentials(Arc::clone(credentials))
        .budget(budget.clone())
        .allotment(allotment)
        .deadline(clock::now() + timeout)
        .listener(move |note| heard.lock().unwrap().push(note))
        .build();
    // The deadline is the probe's own; this one is only there to end a test that hangs.
    let outcome = tokio::time::timeout(timeout + Duration::from_secs(30), probe.run(&ctx));
    let outcome = outcome.await.expect("the probe ends by itself")?;
    drop(ctx);
    for usage in budget.usage() {
        assert!(usage.peak <= draw(entry.meta.draws, &usage.resource), "{id}: {usage:?}");
    }
    let (mut progress, mut observed) = (Vec::new(), Vec::new());
    for note in notes.lock().unwrap().drain(..) {
        match note {
            Note::Progress(text) => progress.push(text),
            Note::Observed(observation) => observed.push(*observation),
        }
    }
    Ok(Ran { outcome, progress, observed })
}

fn draw(draws: &[shakedown_core::Draw], kind: &shakedown_core::id::ResourceKind) -> u32 {
    draws.iter().filter(|draw| draw.resource == *kind).map(|draw| draw.amount).sum()
}
