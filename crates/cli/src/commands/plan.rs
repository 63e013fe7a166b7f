//! `shakedown plan`, and the way from the command line to a plan.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use shakedown_core::clock;
use shakedown_core::environment::{Consent, Environment};
use shakedown_core::meta::{Category, RunPhase};
use shakedown_core::record::Plan;
use shakedown_core::redact::sanitize;
use shakedown_core::registry::ProbeEntry;
use shakedown_core::{Redactor, Registry, Tier};
use shakedown_runner::{Ceiling, PlanOptions, Selection, select, session_id};

use crate::args::{CategoryArg, ExecutionMode, OutputFormat, RunArgs};
use crate::environment::{Loaded, load_environment};
use crate::exit::usage;
use crate::{exit, output, strategy};

/// `fast_feedback` leaves out probes that usually take longer than this.
const SLOW: Duration = Duration::from_secs(60);

pub(super) fn plan(args: &RunArgs, registry: &Registry) -> Result<u8> {
    let loaded = load(args, registry)?;
    let plan = make(args, registry, &loaded)?;
    let text = match args.output_format {
        OutputFormat::Human | OutputFormat::Detailed => {
            loaded.redactor.redact(&sanitize(&render(&plan, args.is_detailed()))).into_owned()
        }
        OutputFormat::Json => {
            let text = serde_json::to_string_pretty(&plan)?;
            format!("{}\n", loaded.redactor.redact_json(&text))
        }
        OutputFormat::Junit => return Err(usage("a plan has no JUnit form: use human or json")),
    };
    output::out(&text);
    Ok(exit::PASSED)
}

/// The environment that `args` name, with what they allow.
pub(super) fn load(args: &RunArgs, registry: &Registry) -> Result<Loaded> {
    let mut loaded = load_environment(&args.environment, registry)?;
    loaded.environment.consent = Consent {
        processes: args.allow_process.iter().cloned().collect(),
        application_writes: args.allow_app_writes,
    };
    Ok(loaded)
}

/// The plan that `args` ask for. Touches no network.
pub(super) fn make(args: &RunArgs, registry: &Registry, loaded: &Loaded) -> Result<Plan> {
    let (selected, left_out) = selected(args, registry)?;
    if selected.is_empty() {
        return Err(usage(nothing_selected(args)));
    }
    let mut notes = loaded.notes.clone();
    notes.extend(flag_notes(args));
    let starts = selected.iter().any(|entry| entry.meta.phase == RunPhase::Startup);
    notes.extend(process_note(&loaded.environment).filter(|_| starts));
    if !left_out.is_empty() {
        notes.push(format!("fast_feedback leaves out slow probes: {}", left_out.join(", ")));
    }
    let now = clock::wall();
    let prefix = &loaded.environment.identity.session_prefix;
    let options = PlanOptions {
        argv: argv(&loaded.redactor),
        repeat: args.repeat,
        ceiling: args.execution_mode.map(ceiling),
        notes,
        infrastructure_monitoring: args.infrastructure_monitoring,
        ..PlanOptions::new(session_id(prefix, now), now)
    };
    shakedown_runner::plan(registry, &loaded.environment, &selected, options)
        .map_err(|error| usage(error.to_string()))
}

/// The probes `args` select, and the ids that the mode leaves out of them.
pub(super) fn selected<'r>(
    args: &RunArgs,
    registry: &'r Registry,
) -> Result<(Vec<&'r ProbeEntry>, Vec<&'static str>)> {
    let selection = selection(args, registry)?;
    let selected = select(registry, &selection)
        .map_err(|error| usage(format!("{:#}", anyhow::Error::from(error))))?;
    let fast = args.execution_mode == Some(ExecutionMode::FastFeedback);
    let (slow, selected): (Vec<_>, Vec<_>) =
        selected.into_iter().partition(|entry| fast && entry.meta.expected > SLOW);
    Ok((selected, slow.iter().map(|entry| entry.meta.id).collect()))
}

fn selection(args: &RunArgs, registry: &Registry) -> Result<Selection> {
    let mut selection = Selection {
        patterns: args.test_pattern.clone(),
        selectors: args.selectors.clone(),
        categories: args.categories.iter().map(|category| (*category).into()).collect(),
        markers: args.markers.clone(),
        ..Selection::default()
    };
    for text in &args.phase {
        match text.parse::<u8>().map(RunPhase::try_from) {
            Ok(phase) => selection.phases.push(phase.map_err(usage)?),
            Err(_) => {
                let step = strategy::step(text).ok_or_else(|| {
                    usage(format!("there is no phase `{text}`: 1 to 4, or a step such as 3.2"))
                })?;
                selection.ids.get_or_insert_default().extend(step_ids(step, registry)?);
            }
        }
    }
    // Phases and steps are values of one kind: `--phase 1 --phase 2.1` widens.
    if !selection.phases.is_empty()
        && let Some(ids) = &mut selection.ids
    {
        let phases = std::mem::take(&mut selection.phases);
        let inside = registry.probes().filter(|entry| phases.contains(&entry.meta.phase));
        ids.extend(inside.map(|entry| entry.meta.id.to_owned()));
    }
    Ok(selection)
}

fn step_ids(step: &strategy::StrategyCommand, registry: &Registry) -> Result<BTreeSet<String>> {
    let selection = selection(&super::run::parse(step.arguments), registry)?;
    Ok(select(registry, &selection)?.iter().map(|entry| entry.meta.id.to_owned()).collect())
}

fn nothing_selected(args: &RunArgs) -> String {
    let mut text = "nothing is selected".to_owned();
    let answered = args.selectors.iter().chain(&args.test_pattern);
    for selector in answered {
        let reason = strategy::TESTS.iter().find_map(|class| {
            let named = class.tests.iter().any(|test| strategy::node_id(class, test) == *selector);
            named.then_some(class.without_probe)
        });
        if let Some(reason) = reason {
            text.push_str(&format!("\n  {selector}\n    {reason}"));
        }
    }
    text.push_str(
        "\n`shakedown list` shows every probe, `list --unmapped` the strategy's names without one",
    );
    text
}

/// The command that run phase 3 would run: what it is, what it may take, and whether it may.
fn process_note(environment: &Environment) -> Option<String> {
    let application = environment.resolved.get("application")?;
    let words: Vec<&str> =
        application.get("command")?.as_array()?.iter().filter_map(|word| word.as_str()).collect();
    let name = application.get("service")?.as_str()?;
    if words.is_empty() {
        return None;
    }
    let draws = application.get("draws").and_then(toml::Value::as_integer).unwrap_or_default();
    let writes = application.get("writes").and_then(toml::Value::as_bool).unwrap_or_default();
    let takes = environment.database.as_ref().map_or_else(
        || "no database is configured for it".to_owned(),
        |database| {
            let does = if writes { "writing to" } else { "only reading" };
            format!("at most {draws} connections of the budget, {does} {}", database.name)
        },
    );
    let what = format!("phase 3 runs `{}` as {name}: {takes}", words.join(" "));
    let allowed =
        environment.identity.tier == Tier::Lab || environment.consent.processes.contains(name);
    Some(if allowed {
        what
    } else {
        format!("{what}; not in this run: outside a lab it needs --allow-process {name}")
    })
}

/// What the flags that change nothing here have to say for themselves.
fn flag_notes(args: &RunArgs) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |given: bool, text: &str| {
        if given {
            notes.push(text.to_owned());
        }
    };
    note(args.collect_metrics, "--collect-metrics changes nothing: samples are always written");
    note(args.no_docker, "--no-docker changes nothing: nothing here uses docker");
    note(args.real_services, "--real-services changes nothing: probes always use real services");
    note(args.tb.is_some(), "--tb changes nothing: there are no tracebacks here");
    notes
}

fn ceiling(mode: ExecutionMode) -> Ceiling {
    let (name, minutes) = match mode {
        ExecutionMode::FastFeedback => ("fast_feedback", 10),
        ExecutionMode::Full => ("full", 90),
        ExecutionMode::StagingE2e => ("staging_e2e", 75),
    };
    Ceiling { name: name.to_owned(), limit: Duration::from_secs(minutes * 60) }
}

fn argv(redactor: &Redactor) -> Vec<String> {
    std::env::args().map(|argument| redactor.redact(&argument).into_owned()).collect()
}

impl From<CategoryArg> for Category {
    fn from(category: CategoryArg) -> Self {
        match category {
            CategoryArg::Unit => Self::Unit,
            CategoryArg::Integration => Self::Integration,
            CategoryArg::E2e => Self::E2e,
        }
    }
}

impl RunArgs {
    /// Whether everything is to be shown.
    pub(super) fn is_detailed(&self) -> bool {
        self.verbose > 0 || self.output_format == OutputFormat::Detailed
    }
}

/// A plan for people.
fn render(plan: &Plan, detail: bool) -> String {
    let target = &plan.target;
    let mut text = format!(
        "{} ({}, project {}), seen from {}\n",
        target.environment,
        target.tier.as_str(),
        target.project,
        target.vantage.as_str()
    );
    if let Some(database) = &target.database {
        text.push_str(&format!("database {database}\n"));
    }
    if target.time_scale > 1 {
        text.push_str(&format!(
            "time scale {}: every duration is divided by it\n",
            target.time_scale
        ));
    }
    text.push_str(&format!("session {}\n", plan.session_id));
    let width = plan.probes.iter().map(|probe| probe.id.len()).max().unwrap_or(0);
    let mut phase = None;
    for probe in &plan.probes {
        if phase != Some(probe.phase) {
            phase = Some(probe.phase);
            let limit = plan.phase_limits_ms[usize::from(probe.phase.number()) - 1];
            text.push_str(&format!(
                "\nPhase {}: {} (at most {})\n",
                probe.phase.number(),
                probe.phase.title(),
                duration(limit)
            ));
        }
        let draws: Vec<String> =
            probe.draws.iter().map(|draw| format!("{} {}", draw.amount, draw.resource)).collect();
        let draws = if draws.is_empty() { "draws nothing".to_owned() } else { draws.join(", ") };
        text.push_str(&format!(
            "  {:width$}  {:>6} of {:>6}  {draws}\n",
            probe.id,
            duration(probe.expected_ms),
            duration(probe.timeout_ms),
        ));
        if detail {
            text.push_str(&format!("  {:width$}  {}\n", "", probe.summary));
        }
        if let Some(why) = &probe.not_runnable {
            text.push_str(&format!("  {:width$}  will not run: {why}\n", ""));
        }
    }
    text.push_str("\nBeside them\n");
    for part in plan.safety_checks.iter().chain(&plan.monitors) {
        text.push_str(&format!("  {:width$}  {}\n", part.id, part.summary));
    }
    text.push_str("\nGuards\n");
    for guard in &plan.guards {
        let state = guard.not_armed.as_ref().map(|why| format!(" (not armed: {why})"));
        text.push_str(&format!("  {} {}{}\n", guard.metric, guard.rule, state.unwrap_or_default()));
    }
    let budget: Vec<String> =
        plan.budget.iter().map(|usage| format!("{} {}", usage.ceiling, usage.resource)).collect();
    text.push_str(&format!(
        "\nAt once at most {}.\nUsually {}, at worst {}; the run ends at {}.\n",
        budget.join(", "),
        duration(plan.expected_ms),
        duration(plan.worst_ms),
        duration(plan.run_limit_ms),
    ));
    for note in &plan.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

fn duration(ms: f64) -> String {
    match ms / 1e3 {
        s if s >= 120.0 => format!("{:.0}min", s / 60.0),
        s if s >= 10.0 => format!("{s:.0}s"),
        s => format!("{s:.1}s"),
    }
}
