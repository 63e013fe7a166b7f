//! `shakedown run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use shakedown_analyzer::diagnose_run;
use shakedown_analyzer::signature::{Signature, evaluate};
use shakedown_core::meta::{Category, RunPhase};
use shakedown_core::record::{JournalLine, Plan, RunEvent, RunRecord};
use shakedown_core::{Registry, Tier, clock};
use shakedown_report::{CleanDiagnosis, CleanRecord};
use shakedown_runner::{FnSink, Interrupt, Journal, RunOptions, Tee};

use super::{analyze, plan, signature};
use crate::args::{Args, Command, OutputFormat, RunArgs};
#[cfg(feature = "lab")]
use crate::environment::load_environment;
use crate::environment::{Loaded, remote_only};
use crate::exit::usage;
use crate::progress::{Now, Progress};
use crate::strategy::StrategyCommand;
use crate::{exit, output};

pub(super) fn run(args: RunArgs, registry: &Registry) -> Result<u8> {
    let loaded = plan::load(&args, registry)?;
    let tier = loaded.environment.identity.tier;
    if tier == Tier::Production {
        return Err(usage(format!(
            "`{}` is a production environment and is never probed: `plan` and `doctor` work",
            loaded.environment.identity.name
        )));
    }
    if tier != Tier::Lab && (args.scenario.is_some() || args.environment.time_scale.is_some()) {
        return Err(usage("--scenario and --time-scale are for a lab; the target is none"));
    }
    let asked = args.reproduce.as_deref().map(signature::find).transpose()?;
    // Made once before anything is started, so that a wrong selection costs nothing.
    let plan = plan::make(&args, registry, &loaded)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let on_network = plan.probes.iter().any(|probe| probe.category != Category::Unit);
    let code = if tier == Tier::Lab && args.environment.lab_dir.is_none() && on_network {
        if remote_only() {
            return Err(usage("TESTING_MODE=staging_remote means no lab: choose another --env"));
        }
        runtime.block_on(in_a_lab(args, registry, loaded, asked))
    } else {
        runtime.block_on(spawned(args, registry, loaded, plan, asked))
    };
    // A probe that blocks its thread must not keep the program.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

#[cfg(feature = "lab")]
async fn in_a_lab(
    mut args: RunArgs,
    registry: &Registry,
    loaded: Loaded,
    asked: Option<Signature>,
) -> Result<u8> {
    let scenario = args.scenario.as_deref().unwrap_or("healthy");
    // The lab scales what it is told, so it is told the unscaled environment.
    let mut unscaled = args.environment.clone();
    let scale = unscaled.time_scale.take().unwrap_or(loaded.environment.time_scale().into());
    let unscaled = load_environment(&unscaled, registry)?;
    let request =
        super::lab::request(&unscaled.environment, scenario, scale, args.pg_bin.as_deref())?;
    let progress = Progress::new(args.is_document());
    let started = clock::now();
    progress.line(&format!("    LAB starting: {scenario}, time scale {scale}"));
    let lab = super::lab::start(&request).await?;
    progress.line(&format!("    LAB up after {:.1} s", started.elapsed().as_secs_f64()));
    progress.finish();
    args.environment.overrides.push(format!("lab.scenario={scenario:?}"));
    args.environment.time_scale = None;
    args.environment.lab_dir = Some(lab.ready().dir.clone());
    let outcome = async {
        let loaded = plan::load(&args, registry)?;
        let plan = plan::make(&args, registry, &loaded)?;
        spawned(args, registry, loaded, plan, asked).await
    };
    let outcome = outcome.await;
    let stopped = lab.stop().await.context("the lab did not stop in order");
    let code = outcome?;
    stopped?;
    Ok(code)
}

#[cfg(not(feature = "lab"))]
async fn in_a_lab(_: RunArgs, _: &Registry, _: Loaded, _: Option<Signature>) -> Result<u8> {
    Err(usage("this binary was built without a lab: attach to a running one with --lab-dir"))
}

/// [`against`] on a worker of the runtime, where its many short waits cost half of what they cost on
/// the thread that entered it.
async fn spawned(
    args: RunArgs,
    registry: &Registry,
    loaded: Loaded,
    plan: Plan,
    asked: Option<Signature>,
) -> Result<u8> {
    let registry = registry.clone();
    tokio::spawn(async move { against(&args, &registry, &loaded, plan, asked).await }).await?
}

/// Runs `plan` and leaves its record.
async fn against(
    args: &RunArgs,
    registry: &Registry,
    loaded: &Loaded,
    plan: Plan,
    asked: Option<Signature>,
) -> Result<u8> {
    // The lab's copy of the signature runs as fast as the lab.
    let asked = asked.map(|signature| signature.scaled(loaded.environment.time_scale()));
    let prefix = asked.as_ref().and_then(|signature| signature.session_prefix.as_deref());
    let (plan, dir) = session_dir(args, loaded, plan, prefix)?;
    let journal = Journal::create(&dir, loaded.redactor.clone())?;
    let interrupt = Interrupt::new();
    listen_for_signals(interrupt.clone());
    let budget = loaded.environment.safety.budget();
    let options = RunOptions {
        require_healthy: args.require_healthy,
        infrastructure_monitoring: args.infrastructure_monitoring,
        interrupt,
        budget: Some(budget.clone()),
        expected_by_signature: asked.iter().flat_map(|asked| asked.worsens.clone()).collect(),
    };
    let progress = Progress::new(args.is_document());
    let mut lines = shakedown_report::Live::new(loaded.redactor.clone(), output::stderr_colour());
    let mut now = Now::default();
    let mut sink = Tee(vec![
        Box::new(journal),
        Box::new(FnSink(|line: &JournalLine| {
            if let Some(text) = lines.line(line) {
                progress.line(&text);
            }
            now.take(&line.event);
            progress.show(&now, &budget, &loaded.redactor);
        })),
    ]);
    let environment = loaded.environment.clone();
    let credentials = loaded.credentials.clone();
    let record =
        shakedown_runner::run(plan, registry, environment, credentials, options, &mut sink).await;
    drop(sink);
    progress.finish();
    report(args, registry, loaded, record, asked.as_ref(), &dir)
}

/// Writes the files of the session and prints what was asked for.
fn report(
    args: &RunArgs,
    registry: &Registry,
    loaded: &Loaded,
    mut record: RunRecord,
    asked: Option<&Signature>,
    dir: &Path,
) -> Result<u8> {
    let startup = analyze::startup(loaded)?.unwrap_or_default();
    let diagnosis = diagnose_run(&record, &analyze::reasoning(registry, &startup))?;
    if let Some(asked) = asked {
        let lookup = |key: &str| signature::value(&loaded.environment, key);
        record.reproduction = Some(evaluate(asked, &record, &diagnosis, lookup));
    }
    let answer = record.reproduction.as_ref().map(|found| signature::code(found, args.expect));
    record.exit_codes = exit::codes(&record.conditions, args.strict, answer);
    let code = record.exit_codes[0];
    let record = CleanRecord::new(record, &loaded.redactor)?;
    let diagnosis = CleanDiagnosis::new(diagnosis, &loaded.redactor)?;
    shakedown_report::write_files(&record, &diagnosis, dir)?;
    output::out(&match args.output_format {
        OutputFormat::Json => shakedown_report::json(&record),
        OutputFormat::Junit => shakedown_report::junit(&record),
        OutputFormat::Human | OutputFormat::Detailed => {
            let style = output::style(args.is_detailed());
            let human = shakedown_report::human(&record, &style, Some(dir));
            let impact = match args.business_impact_analysis {
                true => shakedown_report::impact(&record, &diagnosis),
                false => String::new(),
            };
            let conclusion = shakedown_report::conclusion(&diagnosis, &style);
            format!("{human}{impact}\n{conclusion}")
        }
    });
    Ok(code)
}

/// A folder of its own for the session. Two runs in one second get two ids.
fn session_dir(
    args: &RunArgs,
    loaded: &Loaded,
    mut plan: Plan,
    prefix: Option<&str>,
) -> Result<(Plan, PathBuf)> {
    let results = match &args.results_dir {
        Some(dir) => dir.clone(),
        None => PathBuf::from(&loaded.environment.results.dir),
    };
    let prefix = prefix.unwrap_or(&loaded.environment.identity.session_prefix);
    plan.session_id = shakedown_runner::session_id(prefix, plan.created_at);
    loop {
        let dir = results.join(&plan.session_id);
        if !dir.exists() {
            return Ok((plan, dir));
        }
        plan.created_at += Duration::from_secs(1);
        plan.session_id = shakedown_runner::session_id(prefix, plan.created_at);
    }
}

/// Ctrl-C and SIGTERM: the first drains, the second aborts.
fn listen_for_signals(interrupt: Interrupt) {
    tokio::spawn(async move {
        #[cfg(unix)]
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
        loop {
            #[cfg(unix)]
            let asked = async {
                match &mut terminate {
                    Some(signal) => {
                        signal.recv().await;
                    }
                    None => std::future::pending().await,
                }
            };
            #[cfg(not(unix))]
            let asked = std::future::pending::<()>();
            tokio::select! {
                result = tokio::signal::ctrl_c() => if result.is_err() { return },
                () = asked => {}
            }
            interrupt.raise();
        }
    });
}

impl Now {
    fn take(&mut self, event: &RunEvent) {
        match event {
            RunEvent::PhaseStarted { phase } => self.phase = title(*phase),
            RunEvent::ProbeStarted { id, timeout_ms, .. } => {
                self.probe.clone_from(id);
                self.note.clear();
                self.limit = Duration::from_secs_f64(timeout_ms / 1e3);
                self.since = Some(clock::now());
            }
            RunEvent::ProbeProgress { text, .. } => self.note.clone_from(text),
            RunEvent::ProbeFinished(_) => {
                self.probe.clear();
                self.note.clear();
                self.since = None;
            }
            _ => {}
        }
    }
}

fn title(phase: RunPhase) -> String {
    format!("phase {} {}", phase.number(), phase.title())
}

impl RunArgs {
    /// With what its flags mean for the environment.
    pub(crate) fn completed(mut self) -> Self {
        if self.no_real_llm {
            self.environment.overrides.push("goldenpath.send_message=false".to_owned());
        }
        self
    }

    /// Whether standard output is a document for a program.
    fn is_document(&self) -> bool {
        matches!(self.output_format, OutputFormat::Json | OutputFormat::Junit)
    }
}

/// The arguments of one of the strategy's commands, as `run` reads them.
pub(super) fn parse(arguments: &[&str]) -> RunArgs {
    use clap::Parser as _;
    let words = ["shakedown", "run"].iter().chain(arguments);
    match Args::try_parse_from(words).map(|args| args.command) {
        Ok(Command::Run(args)) => args,
        other => unreachable!("the strategy's table holds a command `run` refuses: {other:?}"),
    }
}

/// The ids that one of the strategy's commands selects.
pub(crate) fn selected_by(command: &StrategyCommand, registry: &Registry) -> Vec<&'static str> {
    let args = parse(command.arguments);
    let selected = plan::selected(&args, registry).map(|(selected, _)| selected);
    selected.unwrap_or_default().iter().map(|entry| entry.meta.id).collect()
}
