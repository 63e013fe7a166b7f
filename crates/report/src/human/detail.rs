//! What a detailed report adds: gate and plan before, numbers and steps per probe, samples after.

use shakedown_core::record::ProbeRecord;

use super::{INDENT, Page};
use crate::clean::CleanRecord;
use crate::stats::{SeriesStats, StagedStats, staged_stats};
use crate::words::{self, Tone};

pub(super) fn before(page: &mut Page, record: &CleanRecord) {
    let plan = &record.plan;
    page.title("Plan");
    page.line("  ", &format!("shakedown {}, {}", plan.version, plan.argv.join(" ")));
    if let Some(database) = &plan.target.database {
        page.line("  ", &format!("database {database}"));
    }
    page.line(
        "  ",
        &format!(
            "{} probes, usually {}, at most {}; the run ends after {}",
            plan.probes.len(),
            words::duration(plan.expected_ms),
            words::duration(plan.worst_ms),
            words::duration(plan.run_limit_ms)
        ),
    );
    let draws = |draws: &[shakedown_core::budget::Draw]| {
        let draws: Vec<_> = draws.iter().map(|d| format!("{} {}", d.amount, d.resource)).collect();
        if draws.is_empty() { String::new() } else { format!(", holds {}", draws.join(", ")) }
    };
    for monitor in &plan.monitors {
        let text = format!("monitor {}{}: {}", monitor.id, draws(&monitor.draws), monitor.summary);
        page.line("  ", &text);
    }
    for check in &plan.safety_checks {
        let text = format!("safety check {}{}: {}", check.id, draws(&check.draws), check.summary);
        page.line("  ", &text);
    }
    for guard in plan.guards.iter().filter(|guard| guard.not_armed.is_none()) {
        page.line("  ", &format!("guard {} {}", guard.metric, guard.rule));
    }
    if record.gate.is_empty() {
        return;
    }
    page.title("Gate");
    for check in record.gate.iter().flat_map(|record| &record.checks) {
        let (word, text) = words::check(check);
        page.entry(word, tone(word), &text);
    }
}

fn tone(word: &str) -> Tone {
    match word {
        "ok" => Tone::Good,
        "unknown" => Tone::Doubtful,
        _ => Tone::Bad,
    }
}

pub(super) fn probe(page: &mut Page, probe: &ProbeRecord) {
    let Some(outcome) = probe.result.outcome() else { return };
    for measurement in &outcome.measurements {
        let mut text = format!("{} ({})", words::measured(measurement), measurement.provenance);
        if let Some(baseline) = measurement.baseline {
            text.push_str(&format!(", baseline {}", words::number(baseline)));
        }
        page.line(INDENT, &text);
    }
    for step in &outcome.steps {
        let end = match (&step.fault, &step.detail) {
            (Some(fault), _) => format!("{} ({})", fault, fault.code()),
            (None, Some(detail)) => detail.clone(),
            (None, None) => "ok".to_owned(),
        };
        let elapsed = words::duration(step.elapsed_ms);
        let text = format!("{:<8} {elapsed:>9}  {}", step.rung, words::brief(&end));
        page.text.push_str(&format!("{INDENT}{text}\n"));
    }
    if !probe.observations.is_empty() {
        page.line(INDENT, &format!("{} observations recorded", probe.observations.len()));
    }
}

pub(super) fn after(page: &mut Page, record: &CleanRecord) {
    let stability: Vec<_> = record.stability.iter().collect();
    if !stability.is_empty() {
        page.title("Stability");
        for checked in stability {
            let when = checked.after.map_or("end".to_owned(), |phase| phase.to_string());
            for check in &checked.checks {
                let (word, text) = words::check(check);
                page.entry(word, tone(word), &format!("{when}: {text}"));
            }
        }
    }
    let stats = staged_stats(record);
    if stats.is_empty() {
        return;
    }
    page.title("Samples");
    for StagedStats { whole, stages } in stats {
        let text = format!("{} [{}, {}]", whole.name, whole.unit, whole.provenance);
        page.line("  ", &words::brief(&format!("{text}: {}", in_numbers(&whole))));
        // Of a series without a value there is nothing to tell stage by stage.
        for (stage, stats) in stages.iter().filter(|_| whole.spread.is_some() && stages.len() > 1) {
            let stats = SeriesStats { last_reason: None, ..stats.clone() };
            page.line("    ", &format!("{stage}: {}", in_numbers(&stats)));
        }
    }
}

fn in_numbers(series: &SeriesStats) -> String {
    let mut text = match series.spread {
        Some(spread) => {
            let number = words::number;
            format!(
                "n {}, min {}, median {}, p95 {}, max {}",
                series.count,
                number(spread.min),
                number(spread.median),
                number(spread.p95),
                number(spread.max)
            )
        }
        None => "no value".to_owned(),
    };
    if series.gaps > 0 && series.spread.is_some() {
        text.push_str(&format!(", gaps {}", series.gaps));
    }
    if let Some(why) = &series.last_reason {
        text.push_str(&format!("; {} unavailable ({why})", series.unavailable));
    }
    text
}
