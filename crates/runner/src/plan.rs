//! The plan: what a run is going to do, worked out without touching anything.

use std::collections::BTreeMap;
use std::time::Duration;

use shakedown_core::budget::{Draw, Usage};
use shakedown_core::clock::{Timestamp, millis};
use shakedown_core::environment::{Environment, Guard, Tier};
use shakedown_core::id::ResourceKind;
use shakedown_core::meta::{Category, ProbeMeta, RunPhase};
use shakedown_core::record::{Plan, PlannedGuard, PlannedPart, PlannedProbe, Target};
use shakedown_core::registry::{ProbeEntry, Registry};
use shakedown_core::units::Span;

use crate::order::order;

/// What a plan is made of besides registry, environment and selection.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The session's id; see [`session_id`].
    pub session_id: String,
    /// When the plan is made.
    pub now: Timestamp,
    /// The command line. It stands in the plan as given: redact it first.
    pub argv: Vec<String>,
    /// How often each probe runs; 0 counts as 1.
    pub repeat: u32,
    /// The most the whole run may take, beyond the environment's own limits.
    pub ceiling: Option<Ceiling>,
    /// What a person should know before starting the run.
    pub notes: Vec<String>,
    /// Whether the monitors also run between the phases.
    pub infrastructure_monitoring: bool,
}

impl PlanOptions {
    /// A plan for the session `session_id` made at `now`: every probe once, no ceiling of its own.
    pub fn new(session_id: impl Into<String>, now: Timestamp) -> Self {
        Self {
            session_id: session_id.into(),
            now,
            argv: Vec::new(),
            repeat: 1,
            ceiling: None,
            notes: Vec::new(),
            infrastructure_monitoring: false,
        }
    }
}

/// The ceiling of an execution mode, for example 10 minutes for `fast_feedback`.
#[derive(Clone, Debug)]
pub struct Ceiling {
    /// What errors call it.
    pub name: String,
    /// The most a run may take, as the strategy says it: the lab's time scale is applied here.
    pub limit: Duration,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// What is selected usually takes longer than is allowed.
    #[error(
        "the selected probes usually take {expected} and {what} allows {ceiling}: select fewer \
         probes, repeat them less often, or {remedy}"
    )]
    TooLong {
        /// Whose ceiling it is.
        what: String,
        /// How long they usually take.
        expected: Span,
        /// The ceiling.
        ceiling: Span,
        /// What else would help.
        remedy: String,
    },
    /// Probes of one phase that need each other in a circle. A mistake in their metadata.
    #[error("these probes need each other in a circle: {}", probes.join(", "))]
    Circle {
        /// Their ids.
        probes: Vec<&'static str>,
    },
}

/// `PREFIX_YYYYmmdd_HHMMSS` in UTC. Characters of `prefix` that do not belong into the name of a
/// directory become `_`.
pub fn session_id(prefix: &str, now: Timestamp) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    let prefix: String = prefix.chars().map(plain).collect();
    format!("{prefix}_{}", now.strftime("%Y%m%d_%H%M%S"))
}

/// Plans a run of `selected`. Pure: no network, no file, no clock but `options.now`.
///
/// The durations of the probes are scaled by the environment's time scale. A probe that draws more
/// than there is beside what the monitors and safety checks hold is planned with the reason it will
/// not be started. A plan of nothing but `unit` probes has no monitors and no safety checks, because
/// such a run touches no network. A target of tier `production` can be planned; [`run`](crate::run)
/// refuses it.
///
/// # Errors
///
/// [`PlanError`].
pub fn plan(
    registry: &Registry,
    environment: &Environment,
    selected: &[&ProbeEntry],
    options: PlanOptions,
) -> Result<Plan, PlanError> {
    let metas = order(selected.iter().map(|entry| entry.meta))
        .map_err(|probes| PlanError::Circle { probes })?;
    let on_network = metas.iter().any(|meta| meta.category != Category::Unit);
    let parts = |id: &str, summary: &str, draws: &[Draw]| PlannedPart {
        id: id.to_owned(),
        summary: summary.to_owned(),
        draws: draws.to_vec(),
    };
    let checks = registry.safety_checks().filter(|_| on_network);
    let safety_checks: Vec<_> =
        checks.map(|e| parts(e.meta.id, e.meta.summary, e.meta.draws)).collect();
    let monitors = registry.monitors().filter(|_| on_network);
    let monitors: Vec<_> =
        monitors.map(|e| parts(e.meta.id, e.meta.summary, e.meta.draws)).collect();
    let budget = environment.safety.budget().usage();
    let left = left_for_probes(&budget, &safety_checks, &monitors);
    let draws = |meta: &ProbeMeta| {
        // A configuration that does not fit is the run's to report.
        let probe = registry.probe(meta.id).and_then(|entry| (entry.build)(environment).ok());
        probe.and_then(|probe| probe.draws()).unwrap_or_else(|| meta.draws.to_vec())
    };
    let probes: Vec<_> = metas
        .iter()
        .map(|meta| planned(meta, draws(meta), environment, &left, options.repeat.max(1)))
        .collect();
    let limits = Limits::new(environment, options.ceiling.as_ref());
    limits.check(&probes)?;
    let mut notes = options.notes;
    if environment.identity.tier == Tier::Production {
        notes.push("production is never probed: a run of this plan is refused".to_owned());
    }
    if options.infrastructure_monitoring && !monitors.is_empty() {
        notes.push("the monitors also run between the phases".to_owned());
    }
    let leaves = metas.iter().filter_map(|meta| Some((meta.id, meta.leaves?)));
    notes.extend(leaves.map(|(id, what)| format!("{id} leaves on the target: {what}")));
    let grace = millis(environment.safety.grace.get());
    let sum = |of: fn(&PlannedProbe) -> f64| probes.iter().map(of).sum::<f64>();
    Ok(Plan {
        session_id: options.session_id,
        created_at: options.now,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        argv: options.argv,
        target: target(environment),
        expected_ms: sum(|p| p.expected_ms * f64::from(p.repeat)),
        // Per probe its timeout, the grace period after it, and as much again for its cleanup.
        worst_ms: sum(|p| p.timeout_ms * f64::from(p.repeat))
            + sum(|p| f64::from(p.repeat)) * 2.0 * grace,
        run_limit_ms: millis(limits.run),
        phase_limits_ms: limits.phases.map(millis),
        guards: environment.safety.guards.iter().map(|g| guard(g, registry, on_network)).collect(),
        probes,
        monitors,
        safety_checks,
        budget,
        notes,
    })
}

fn planned(
    meta: &ProbeMeta,
    draws: Vec<Draw>,
    environment: &Environment,
    left: &BTreeMap<ResourceKind, u32>,
    repeat: u32,
) -> PlannedProbe {
    let scale = environment.time_scale();
    let words =
        |facts: &[shakedown_core::id::Capability]| facts.iter().map(ToString::to_string).collect();
    PlannedProbe {
        id: meta.id.to_owned(),
        summary: meta.summary.to_owned(),
        phase: meta.phase,
        category: meta.category,
        needs: words(meta.needs),
        provides: words(meta.provides),
        expected_ms: millis(scale.duration(meta.expected)),
        timeout_ms: millis(scale.limit(meta.timeout)),
        repeat,
        not_runnable: too_much(&draws, left),
        draws,
    }
}

/// Why `draws` cannot be had out of `left`.
fn too_much(draws: &[Draw], left: &BTreeMap<ResourceKind, u32>) -> Option<String> {
    let draw = draws.iter().find(|d| d.least > left.get(&d.resource).copied().unwrap_or(0))?;
    let left = left.get(&draw.resource).copied().unwrap_or(0);
    Some(format!(
        "it draws {} of `{}`, the budget leaves {left} for probes",
        draw.least, draw.resource
    ))
}

/// What the budget has beside what is held for the whole run. Mirrors the gate: a monitor never
/// takes the last one.
fn left_for_probes(
    budget: &[Usage],
    safety_checks: &[PlannedPart],
    monitors: &[PlannedPart],
) -> BTreeMap<ResourceKind, u32> {
    let mut left: BTreeMap<ResourceKind, u32> =
        budget.iter().map(|usage| (usage.resource.clone(), usage.ceiling)).collect();
    let spare = [(safety_checks, 0), (monitors, 1)];
    for (part, spare) in spare.iter().flat_map(|(parts, n)| parts.iter().map(move |p| (p, *n))) {
        let of = |left: &BTreeMap<ResourceKind, u32>, draw: &Draw| {
            left.get(&draw.resource).copied().unwrap_or(0)
        };
        if part.draws.iter().all(|draw| draw.amount + spare <= of(&left, draw)) {
            for draw in &part.draws {
                left.insert(draw.resource.clone(), of(&left, draw) - draw.amount);
            }
        }
    }
    left
}

struct Limits {
    run: Duration,
    whose: String,
    phases: [Duration; 4],
}

impl Limits {
    fn new(environment: &Environment, ceiling: Option<&Ceiling>) -> Self {
        let run = environment.safety.run_limit.get();
        let phases = environment.safety.phase_limits.map(Span::get);
        let ceiling = ceiling.map(|c| (environment.time_scale().limit(c.limit), &c.name));
        match ceiling {
            Some((limit, name)) if limit < run => {
                Self { run: limit, whose: format!("the mode `{name}`"), phases }
            }
            _ => Self { run, whose: "`safety.run_limit`".to_owned(), phases },
        }
    }

    fn check(&self, probes: &[PlannedProbe]) -> Result<(), PlanError> {
        let expected = |phase: Option<RunPhase>| {
            let probes = probes.iter().filter(|p| phase.is_none_or(|phase| p.phase == phase));
            let runnable = probes.filter(|p| p.not_runnable.is_none());
            Duration::from_secs_f64(
                runnable.map(|p| p.expected_ms * f64::from(p.repeat)).sum::<f64>() / 1e3,
            )
        };
        let fits = |what: &str, expected: Duration, ceiling: Duration, remedy: &str| {
            if expected <= ceiling {
                return Ok(());
            }
            Err(PlanError::TooLong {
                what: what.to_owned(),
                expected: Span(expected),
                ceiling: Span(ceiling),
                remedy: remedy.to_owned(),
            })
        };
        let remedy = match self.whose.as_str() {
            "`safety.run_limit`" => "split them into several runs",
            _ => "choose a longer mode",
        };
        fits(&self.whose, expected(None), self.run, remedy)?;
        for phase in RunPhase::ALL {
            let limit = self.phases[usize::from(phase.number()) - 1];
            let what = format!("{phase} (`safety.phase_limits`)");
            fits(&what, expected(Some(phase)), limit, "split them into several runs")?;
        }
        Ok(())
    }
}

fn target(environment: &Environment) -> Target {
    let identity = &environment.identity;
    let database = environment.database.as_ref().map(|database| {
        let address = database
            .socket_path()
            .unwrap_or_else(|| format!("{}:{}", database.host, database.port));
        format!("`{}` as `{}` at {address}", database.name, database.user)
    });
    Target {
        environment: identity.name.clone(),
        tier: identity.tier,
        project: identity.project.clone(),
        region: identity.region.clone(),
        vantage: identity.vantage,
        database,
        time_scale: environment.time_scale().into(),
        scenario: environment.lab.scenario.clone(),
    }
}

fn guard(guard: &Guard, registry: &Registry, on_network: bool) -> PlannedGuard {
    let sources = registry.monitors().flat_map(|entry| entry.meta.metrics);
    let sources: Vec<_> = sources.filter(|metric| metric.id == guard.metric).collect();
    let no_source = match sources.as_slice() {
        [] => Some("no monitor of this binary measures it"),
        sources => sources.iter().map(|metric| metric.no_source).min().flatten(),
    };
    let not_armed = if guard.above.is_none() && guard.above_baseline.is_none() {
        Some("it has no limit: set `above` or `above_baseline`".to_owned())
    } else if let Some(why) = no_source {
        Some(why.to_owned())
    } else if !on_network {
        Some("this run touches no network".to_owned())
    } else {
        None
    };
    PlannedGuard { metric: guard.metric.clone(), rule: rule(guard), not_armed }
}

fn rule(guard: &Guard) -> String {
    let above = guard.above.map(|above| format!("above {above}"));
    let baseline = guard.above_baseline.map(|times| match guard.floor {
        Some(floor) => format!("above {times} times the baseline and above {floor}"),
        None => format!("above {times} times the baseline"),
    });
    let mut rule = [above, baseline].into_iter().flatten().collect::<Vec<_>>().join(" or ");
    if !guard.lasting.get().is_zero() {
        rule.push_str(&format!(" for {}", guard.lasting));
    }
    rule
}
