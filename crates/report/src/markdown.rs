//! `summary.md`.

use shakedown_core::meta::RunPhase;
use shakedown_core::record::ProbeRecord;

use crate::clean::{CleanDiagnosis, CleanRecord};
use crate::diagnosis::conclusion;
use crate::human::Style;
use crate::stats::series_stats;
use crate::words::{self, Tone};

/// The run as Markdown: verdict, a table of probes per phase, what is not fine in detail, budget,
/// samples, notes. Quoted text is escaped, so that it can neither format nor link.
pub fn markdown(record: &CleanRecord, diagnosis: Option<&CleanDiagnosis>) -> String {
    let overall = words::overall(record);
    let plan = &record.plan;
    let elapsed = record.elapsed_ms.map(|ms| format!(" in {}", words::duration(ms)));
    let mut out =
        format!("# {}: {}{}\n\n", overall.word, overall.counts, elapsed.unwrap_or_default());
    let facts = [
        ("environment", plan.target.environment.clone()),
        ("tier", plan.target.tier.as_str().to_owned()),
        ("seen from", plan.target.vantage.as_str().to_owned()),
        ("database", plan.target.database.clone().unwrap_or_default()),
        ("scenario", plan.target.scenario.clone().unwrap_or_default()),
        ("time scale", plan.target.time_scale.to_string()),
        ("session", plan.session_id.clone()),
        ("started", record.started_at.to_string()),
        ("command", plan.argv.join(" ")),
        ("shakedown", plan.version.clone()),
    ];
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        out.push_str(&format!("- {name}: {}\n", escape(value)));
    }
    if let Some(diagnosis) = diagnosis {
        // A block by its indentation: no text in it can end it. Not every reader of Markdown knows that
        // markup in it is text.
        let text = conclusion(diagnosis, &Style::default()).replace('<', "&lt;");
        let (title, lines) = text.split_once('\n').unwrap_or((&text, ""));
        out.push_str(&format!("\n## {title}\n\n"));
        out.extend(lines.lines().map(|line| format!("    {line}\n")));
    }
    for phase in RunPhase::ALL {
        let probes = words::of_phase(record, phase);
        if !probes.is_empty() {
            out.push_str(&format!("\n## {}\n\n", words::heading(phase)));
            out.push_str("| verdict | probe | seconds | |\n|---|---|---:|---|\n");
            for probe in probes {
                let (word, name) = (words::word(&probe.result), words::name(record, probe));
                let (name, said) = (escape(&name), escape(&words::sentence(&probe.result)));
                let seconds = probe.elapsed_ms / 1e3;
                out.push_str(&format!("| {word} | {name} | {seconds:.3} | {said} |\n"));
            }
        }
    }
    let worth_a_look = |probe: &&ProbeRecord| {
        matches!(Tone::of(&probe.result), Tone::Bad | Tone::Doubtful)
            && !words::findings(&probe.result).is_empty()
    };
    section(&mut out, "What to look at", details(record, worth_a_look));
    section(&mut out, "Samples", samples(record));
    section(&mut out, "Budget used", budget(record));
    if let Some(reproduction) = &record.reproduction {
        let (word, _) = words::reproduced(reproduction.verdict);
        let title = format!("Signature {}: {word}", reproduction.signature);
        section(&mut out, &title, list(words::signature(reproduction)));
    }
    section(&mut out, "Notes", list(words::notes(record)));
    out
}

fn section(out: &mut String, title: &str, body: String) {
    if !body.is_empty() {
        out.push_str(&format!("\n## {title}\n\n{body}"));
    }
}

fn details(record: &CleanRecord, wanted: impl Fn(&&ProbeRecord) -> bool) -> String {
    let mut out = String::new();
    for probe in record.probes.iter().filter(wanted) {
        out.push_str(&format!("- **{}**\n", escape(&words::name(record, probe))));
        for finding in words::findings(&probe.result) {
            out.push_str(&format!("  - {}\n", escape(&finding.summary)));
            let place = words::place(finding).map(|place| format!("at {place}"));
            let suggests =
                finding.suggests.as_ref().map(|cause| format!("consistent with {cause}"));
            let next = finding.next.as_ref().map(|next| format!("next: {next}"));
            for fact in [place, suggests, next].into_iter().flatten() {
                out.push_str(&format!("    - {}\n", escape(&fact)));
            }
        }
    }
    out
}

fn samples(record: &CleanRecord) -> String {
    let stats = series_stats(record);
    if stats.is_empty() {
        return String::new();
    }
    let mut out = "| metric | unit | from | n | min | median | p95 | max | unavailable |\n\
                   |---|---|---|---:|---:|---:|---:|---:|---|\n"
        .to_owned();
    for series in stats {
        let spread = series.spread.map_or([const { String::new() }; 4], |spread| {
            [spread.min, spread.median, spread.p95, spread.max].map(words::number)
        });
        let gaps = series.last_reason.map(|why| format!("{} times: {why}", series.unavailable));
        out.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            escape(&series.name),
            escape(&series.unit),
            series.provenance,
            series.count,
            spread.join(" | "),
            escape(&gaps.unwrap_or_default()),
        ));
    }
    out
}

fn budget(record: &CleanRecord) -> String {
    let usage = record.usage.iter();
    usage
        .map(|u| {
            format!("- {}: {} of {} at once\n", escape(u.resource.as_str()), u.peak, u.ceiling)
        })
        .collect()
}

fn list(lines: Vec<(&'static str, Tone, String)>) -> String {
    lines.into_iter().map(|(word, _, text)| format!("- {word}: {}\n", escape(&text))).collect()
}

/// `text` on one line, with everything that Markdown or HTML would act on escaped.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let text = words::one_line(text);
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        let inside_a_word =
            before.is_alphanumeric() && chars.peek().is_some_and(|c| c.is_alphanumeric());
        before = c;
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '_' if inside_a_word => out.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    // No bare address becomes a link by itself.
    out.replace("://", ":&#47;&#47;")
}
