//! A whole run of probes that do nothing: plan, journal, JSON and JUnit written.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use shakedown_core::environment::{Owners, Source, load};
use shakedown_core::registry::{Entries, Origin, ProbeEntry};
use shakedown_core::{
    Category, Credentials, Environment, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, Redactor,
    Registry, RunPhase, async_trait, clock,
};
use shakedown_report::CleanRecord;
use shakedown_runner::{Journal, PlanOptions, RunOptions};

/// Which of them it is stands in the registry; all do the same.
#[derive(Debug)]
struct NoOp;

const META: ProbeMeta = ProbeMeta {
    category: Category::Unit,
    expected: Duration::from_millis(1),
    ..ProbeMeta::new("bench.no-op", RunPhase::Network, "nothing is done")
};

#[async_trait]
impl Probe for NoOp {
    fn meta(&self) -> &'static ProbeMeta {
        &META
    }

    async fn run(&self, _: &ProbeCtx) -> Result<Outcome, ProbeError> {
        Ok(Outcome::pass())
    }
}

/// A registry of `count` of them, each with an id of its own.
fn registry(count: usize) -> Result<Registry> {
    let entry = |number: usize| {
        let id: &'static str = format!("bench.no-op-{number:04}").leak();
        ProbeEntry {
            meta: Box::leak(Box::new(ProbeMeta { id, ..META })),
            origin: Origin { package: "shakedown-bench", file: file!(), line: line!() },
            build: |_: &Environment| Ok(Box::new(NoOp)),
            schema: |generator| generator.subschema_for::<()>(),
            check: |table, _| (table, Vec::new()),
        }
    };
    let probes = (0..count).map(entry).collect();
    Ok(Registry::from_entries(Entries { probes, ..Entries::default() })?)
}

pub(crate) fn run(dir: &Path, count: usize) -> Result<()> {
    let registry = registry(count)?;
    let environment = load(&Source::default(), &Owners::default())?.environment;
    let selected: Vec<&ProbeEntry> = registry.probes().collect();
    let now = clock::wall();
    let session = dir.join(shakedown_runner::session_id("bench", now));
    let options = PlanOptions::new("bench", now);
    let plan = shakedown_runner::plan(&registry, &environment, &selected, options)?;
    let redactor = Redactor::new(&Credentials::default());
    let mut journal = Journal::create(&session, redactor.clone())?;
    // As the command line runs it: on a worker, so that a probe that blocks stops nothing else.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let record = runtime.block_on(runtime.spawn(async move {
        let (credentials, options) = (Credentials::default(), RunOptions::default());
        shakedown_runner::run(plan, &registry, environment, credentials, options, &mut journal)
            .await
    }))?;
    let record = CleanRecord::new(record, &redactor)?;
    let json = fs::File::create(session.join("test_execution_log.json"))?;
    let mut json = BufWriter::with_capacity(64 * 1024, json);
    shakedown_report::write_json(&record, &mut json)?;
    json.flush()?;
    fs::write(session.join("junit.xml"), shakedown_report::junit(&record))?;
    let passed = record.probes.iter().filter(|probe| probe.result.word() == "pass").count();
    ensure!(passed == count, "{passed} of {count} passed: {:?}", record.conditions);
    println!("{}", json!({ "passed": passed, "run_ms": record.elapsed_ms }));
    Ok(())
}
