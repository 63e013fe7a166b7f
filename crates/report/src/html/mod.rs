//! `report.html`: one file, no scripts, nothing loaded from anywhere.

mod charts;
mod timeline;

use maud::{DOCTYPE, Markup, PreEscaped, html as page};
use shakedown_core::meta::RunPhase;
use shakedown_core::outcome::Outcome;
use shakedown_core::record::{ProbeRecord, ProbeResult};

use crate::clean::{CleanDiagnosis, CleanRecord};
use crate::diagnosis::conclusion;
use crate::human::Style;
use crate::stats::{Spread, series, stats};
use crate::words::{self, Tone};

const STYLE: &str = include_str!("style.css");

/// The run as one self-contained page. Its content policy is `default-src 'none'; style-src
/// 'unsafe-inline'`: whatever a quoted text may hold, nothing in it runs or loads.
pub fn html(record: &CleanRecord, diagnosis: Option<&CleanDiagnosis>) -> String {
    let overall = words::overall(record);
    let title = format!("{}: {}", overall.word, record.plan.session_id);
    page! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(record))
                main {
                    @if let Some(diagnosis) = diagnosis {
                        section { pre { (conclusion(diagnosis, &Style::default())) } }
                    }
                    (timeline::timeline(record))
                    @for phase in RunPhase::ALL { (phase_section(record, phase)) }
                    (signature(record))
                    (section("Notes", words::notes(record)))
                    (samples(record))
                    (budget(record))
                    (plan(record))
                }
                footer { "shakedown " (record.plan.version) ", record " code { (record.schema) } }
            }
        }
    }
    .into_string()
}

fn head(record: &CleanRecord) -> Markup {
    let overall = words::overall(record);
    let target = &record.plan.target;
    let started = record.started_at.to_string();
    let started = started.split('.').next().unwrap_or_default().replace('T', " ");
    page! {
        header class=(overall.tone.as_str()) {
            h1 { (overall.word) }
            p class="counts" {
                (overall.counts)
                @if let Some(ms) = record.elapsed_ms { " in " (words::duration(ms)) }
                @else { "; the run was cut off, this is what had finished" }
            }
            dl {
                (fact("environment", &format!("{} ({})", target.environment, target.tier.as_str())))
                (fact("seen from", target.vantage.as_str()))
                (fact("database", target.database.as_deref().unwrap_or_default()))
                (fact("scenario", target.scenario.as_deref().unwrap_or_default()))
                @if target.time_scale > 1 {
                    (fact("durations divided by", &target.time_scale.to_string()))
                }
                (fact("started", &format!("{} UTC", started.trim_end_matches('Z'))))
                (fact("session", &record.plan.session_id))
            }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    page! { @if !value.is_empty() { div { dt { (name) } dd { (value) } } } }
}

fn phase_section(record: &CleanRecord, phase: RunPhase) -> Markup {
    let probes = words::of_phase(record, phase);
    let done = record.phases.iter().find(|done| done.phase == phase);
    page! {
        @if !probes.is_empty() {
            section {
                h2 {
                    (words::heading(phase))
                    @if let Some(done) = done { small { (words::duration(done.elapsed_ms)) } }
                }
                @for probe in probes { (probe_row(record, probe)) }
            }
        }
    }
}

fn probe_row(record: &CleanRecord, probe: &ProbeRecord) -> Markup {
    let tone = Tone::of(&probe.result);
    let open = matches!(tone, Tone::Bad | Tone::Doubtful)
        && !matches!(probe.result, ProbeResult::Blocked { .. });
    let said = words::sentence(&probe.result);
    // What stands in full below is shown in the summary only as long as it is closed.
    let first = words::findings(&probe.result).first();
    let repeated = first.is_some_and(|finding| words::one_line(&finding.summary) == said);
    page! {
        details open[open] {
            summary {
                span class={ "badge " (tone.as_str()) } { (words::word(&probe.result)) }
                code { (words::name(record, probe)) }
                span class={ "said" @if repeated { " repeated" } } { (said) }
                span class="time" {
                    @if probe.elapsed_ms > 0.0 { (words::duration(probe.elapsed_ms)) }
                }
            }
            div class="body" {
                @if let Some(planned) = record.planned(&probe.id) { p class="good-state" { (planned.summary) } }
                (findings(probe))
                @if let Some(outcome) = probe.result.outcome() {
                    (measurements(outcome))
                    (steps(outcome))
                }
                @for cleanup in probe.cleanup.iter() {
                    @if let Some(why) = &cleanup.failed {
                        p class="bad-text" { "not undone: " (cleanup.what) ": " (why) }
                    }
                }
            }
        }
    }
}

fn findings(probe: &ProbeRecord) -> Markup {
    page! {
        @for finding in words::findings(&probe.result) {
            div class="finding" {
                p { (finding.summary) }
                ul {
                    @if let Some(place) = words::place(finding) { li { "at " code { (place) } } }
                    @if let Some(cause) = &finding.suggests {
                        li { "consistent with " code { (cause.as_str()) } }
                    }
                    @if let Some(symptom) = &finding.symptom {
                        li { "shows " code { (symptom.as_str()) } }
                    }
                    @if let Some(next) = &finding.next { li { "next: " (next) } }
                }
            }
        }
    }
}

fn measurements(outcome: &Outcome) -> Markup {
    page! {
        @if !outcome.measurements.is_empty() {
            table {
                thead { tr {
                    th { "measured" } th class="n" { "value" } th { "unit" }
                    th class="n" { "baseline" } th { "from" }
                } }
                tbody {
                    @for m in &outcome.measurements {
                        tr {
                            td { (m.name) }
                            td class="n" { (words::number(m.value)) }
                            td { (m.unit) }
                            td class="n" { @if let Some(b) = m.baseline { (words::number(b)) } }
                            td { (m.provenance) }
                        }
                    }
                }
            }
        }
    }
}

fn steps(outcome: &Outcome) -> Markup {
    page! {
        @if !outcome.steps.is_empty() {
            table {
                thead { tr { th { "rung" } th class="n" { "took" } th { "" } } }
                tbody {
                    @for step in &outcome.steps {
                        tr {
                            td { code { (step.rung) } }
                            td class="n" { (words::duration(step.elapsed_ms)) }
                            td {
                                @match &step.fault {
                                    Some(fault) => {
                                        span class="bad-text" { (fault) } " " code { (fault.code()) }
                                    },
                                    None => { (step.detail.as_deref().unwrap_or("ok")) },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn signature(record: &CleanRecord) -> Markup {
    let Some(reproduction) = &record.reproduction else { return Markup::default() };
    let (word, _) = words::reproduced(reproduction.verdict);
    let title = format!("Signature {}: {word}", reproduction.signature);
    section(&title, words::signature(reproduction))
}

/// A table of words and what they are about.
fn section(title: &str, lines: Vec<(&'static str, Tone, String)>) -> Markup {
    page! {
        @if !lines.is_empty() {
            section {
                h2 { (title) }
                table { tbody {
                    @for (word, tone, text) in lines {
                        tr { td { span class={ "badge " (tone.as_str()) } { (word) } } td { (text) } }
                    }
                } }
            }
        }
    }
}

fn samples(record: &CleanRecord) -> Markup {
    let all = series(record);
    page! {
        @if !all.is_empty() {
            section {
                h2 { "Samples" }
                div class="wide" {
                    table {
                        thead { tr {
                            th { "metric" } th { "over the run" } th { "unit" } th class="n" { "n" }
                            th class="n" { "min" } th class="n" { "median" } th class="n" { "p95" }
                            th class="n" { "max" } th { "from" }
                        } }
                        tbody {
                            @for (name, samples) in all {
                                @let spark = charts::sparkline(&name, &samples);
                                @let series = stats(name, &samples);
                                tr {
                                    td {
                                        code { (series.name) }
                                        @if let Some(why) = &series.last_reason {
                                            p class="said" {
                                                "unavailable " (series.unavailable) " times: " (why)
                                            }
                                        }
                                    }
                                    td { (spark) }
                                    td { (series.unit) }
                                    td class="n" { (series.count) }
                                    @for value in spread(series.spread) { td class="n" { (value) } }
                                    td { (series.provenance) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn spread(spread: Option<Spread>) -> [String; 4] {
    spread.map_or([const { String::new() }; 4], |spread| {
        [spread.min, spread.median, spread.p95, spread.max].map(words::number)
    })
}

fn budget(record: &CleanRecord) -> Markup {
    page! {
        @if !record.usage.is_empty() {
            section {
                h2 { "Budget used" }
                table { tbody {
                    @for usage in &record.usage {
                        tr {
                            td { (usage.resource.as_str()) }
                            td { (charts::bar(usage.peak, usage.ceiling)) }
                            td { (usage.peak) " of " (usage.ceiling) " at once" }
                        }
                    }
                } }
            }
        }
    }
}

fn plan(record: &CleanRecord) -> Markup {
    let plan = &record.plan;
    let checked = [("gate", &record.gate), ("stability", &record.stability)];
    page! {
        section {
            h2 { "Gate and plan" }
            table { tbody {
                @for (when, records) in checked {
                    @for (record, check) in
                        records.iter().flat_map(|r| r.checks.iter().map(move |c| (r, c))) {
                        @let (word, text) = words::check(check);
                        tr {
                            td { (when) @if let Some(phase) = record.after { " after " (phase) } }
                            td { span class={ "badge " (check_tone(word)) } { (word) } }
                            td { (text) }
                        }
                    }
                }
                @for guard in plan.guards.iter().filter(|guard| guard.not_armed.is_none()) {
                    tr { td { "guard" } td {} td { code { (guard.metric) } " " (guard.rule) } }
                }
                @for part in &plan.monitors {
                    tr { td { "monitor" } td {} td { code { (part.id) } " " (part.summary) } }
                }
                tr {
                    td { "time" } td {}
                    td {
                        "usually " (words::duration(plan.expected_ms)) ", at most "
                        (words::duration(plan.worst_ms)) "; the run ends after "
                        (words::duration(plan.run_limit_ms))
                    }
                }
                tr { td { "command" } td {} td { code { (plan.argv.join(" ")) } } }
            } }
        }
    }
}

fn check_tone(word: &str) -> &'static str {
    match word {
        "ok" => Tone::Good,
        "unknown" => Tone::Doubtful,
        _ => Tone::Bad,
    }
    .as_str()
}
