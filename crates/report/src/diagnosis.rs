//! A diagnosis for a tired person: verdict, root, since when, three decisive lines, what it is not,
//! what to do next.

use shakedown_core::attempt::AttemptEnd;
use shakedown_core::classify::ClaimStatus;
use shakedown_core::clock::Timestamp;
use shakedown_core::diagnosis::{
    EvidenceLine, HealthVerdict, Root, ServiceDiagnosis, Startup, Window,
};

use crate::clean::CleanDiagnosis;
use crate::human::{Paint, Style};
use crate::words::{Tone, broken, cut};

/// How many decisive lines are shown without being asked.
const DECISIVE: usize = 3;
/// How much of a decisive line is shown without being asked, in characters.
const QUOTED: usize = 200;
/// From so many equal characters at their ends on two lines say the same.
const ALIKE: usize = 48;
/// Columns of a label, two more follow.
const LABEL: usize = 12;

/// The report of every service, the worst first.
pub fn diagnosis(diagnosis: &CleanDiagnosis, style: &Style) -> String {
    let paint = Paint(style.color);
    let mut text = coverage(diagnosis);
    let mut services: Vec<_> = diagnosis.services.iter().collect();
    services.sort_by_key(|service| (service.verdict, &service.service));
    for service in services {
        text.push('\n');
        text.push_str(&head(service, paint));
        let near = Near { window: service.window, one_input: diagnosis.inputs.len() == 1 };
        for root in &service.roots {
            text.push_str(&short(root, paint, near));
        }
        line(&mut text, "next", &open_question(service, &diagnosis.coverage));
        list(
            &mut text,
            "seen",
            service.symptoms.iter().map(|s| format!("{} {}x", s.symptom, s.count)),
        );
        list(
            &mut text,
            "not",
            service.refuted.iter().map(|r| format!("{}: {}", r.cause, r.summary)),
        );
        list(
            &mut text,
            "hidden",
            service.masked.iter().map(|m| {
                let known = m.summary.trim_end_matches('.');
                format!("{}: {known}; next: {}", m.cause, m.next)
            }),
        );
        line(&mut text, "start-ups", &startups(service));
    }
    if diagnosis.services.is_empty() {
        text.push_str("\nNothing in it belongs to a service.\n");
    }
    laid_out(&text, "", style.width)
}

/// What would tell why, where nothing that is held does. Empty where it is told or nothing is wrong.
fn open_question(service: &ServiceDiagnosis, coverage: &serde_json::Value) -> String {
    if !service.roots.is_empty() || service.verdict == HealthVerdict::Healthy {
        return String::new();
    }
    let held = &coverage["services"][service.service.as_str()];
    let number = |key: &str| held[key].as_u64().unwrap_or(0);
    let first = service.symptoms.iter().filter_map(|seen| seen.first).min();
    let when = first.map_or_else(
        || "of the same minutes".to_owned(),
        |at| format!("around {} UTC", at.strftime("%F %T")),
    );
    let around = format!("its own lines {when}, of every severity: nothing that is held says why");
    match number("unclassified_errors") {
        _ if service.window.from.is_none() => {
            "read the log itself, not what was written about it: nothing in it has a time"
                .to_owned()
        }
        _ if number("without_payload") * 2 > number("entries") => {
            "save the same minutes again with their payloads: without words nobody can say why"
                .to_owned()
        }
        0 => format!("save {around}"),
        1 => format!("read its one error that is not understood here, and {around}"),
        n => format!("read its {n} errors that are not understood here, and {around}"),
    }
}

/// What a run found, in a few lines for its end: the services that are not well with their verdict,
/// roots and next step, and under a root what only follows from it; one line for the others.
pub fn conclusion(diagnosis: &CleanDiagnosis, style: &Style) -> String {
    let paint = Paint(style.color);
    let mut services: Vec<_> = diagnosis.services.iter().collect();
    services.sort_by_key(|service| (service.verdict, &service.service));
    let (well, ill): (Vec<_>, Vec<_>) =
        services.iter().copied().partition(|service| service.verdict == HealthVerdict::Healthy);
    let mut text = String::new();
    for service in ill {
        // Told below another's root, or so little that there is nothing to tell.
        let Window { from, to } = service.window;
        let nothing = service.roots.is_empty() && from.or(to).is_none();
        if service.follows.is_some() || nothing {
            continue;
        }
        text.push_str(&head(service, paint));
        for root in &service.roots {
            text.push_str(&claim(root, paint));
            list(&mut text, "explains", root.explains.iter().cloned());
            let following = services.iter().filter_map(|s| Some((s, s.follows.as_ref()?)));
            for (other, follows) in following {
                if follows.service == service.service && follows.cause == root.cause {
                    line(&mut text, "also", &format!("{}: {}", other.service, follows.why));
                }
            }
            line(&mut text, "next", &root.next);
        }
        let not = service.refuted.iter().map(|refuted| refuted.cause.clone());
        list(&mut text, "not", not);
    }
    let well: Vec<&str> = well.iter().map(|service| service.service.as_str()).collect();
    if !well.is_empty() {
        let (word, tone) = word_of(HealthVerdict::Healthy);
        text.push_str(&format!("{} {}\n", paint.tone(word, tone), well.join(", ")));
    }
    if text.is_empty() {
        text.push_str("No probe came to a verdict that a diagnosis could rest on.\n");
    }
    // Two columns in, as the probes of a run are printed.
    format!("Diagnosis\n{}", laid_out(&text, "  ", style.width))
}

/// Each line behind `margin`, and what is too long for `width` below its own beginning.
fn laid_out(text: &str, margin: &str, width: usize) -> String {
    let entry = |line: &str| match behind_label(line) {
        Some((label, what)) => {
            let what = broken(&" ".repeat(margin.len() + LABEL + 2), what, width);
            format!("{margin}{label}{}\n", what.trim_start())
        }
        None if line.is_empty() => "\n".to_owned(),
        None => format!("{margin}{line}\n"),
    };
    text.lines().map(entry).collect()
}

/// A line with a label, cut behind it. Colours take no columns.
fn behind_label(line: &str) -> Option<(&str, &str)> {
    let (mut columns, mut painting) = (0, false);
    for (index, c) in line.char_indices() {
        match c {
            '\x1b' => painting = true,
            'm' if painting => painting = false,
            _ if painting => {}
            // A head begins at once, a label is at the right of its columns.
            c if columns == 0 && c != ' ' => return None,
            _ if columns == LABEL + 2 => return line.split_at_checked(index),
            _ => columns += 1,
        }
    }
    None
}

fn word_of(verdict: HealthVerdict) -> (&'static str, Tone) {
    match verdict {
        HealthVerdict::Failing => ("FAILING", Tone::Bad),
        HealthVerdict::Degraded => ("DEGRADED", Tone::Doubtful),
        HealthVerdict::Healthy => ("HEALTHY", Tone::Good),
        HealthVerdict::InsufficientEvidence => ("INSUFFICIENT EVIDENCE", Tone::Doubtful),
    }
}

/// Everything the diagnosis holds about one cause or symptom.
pub fn explanation(diagnosis: &CleanDiagnosis, cause: &str, style: &Style) -> String {
    let paint = Paint(style.color);
    let mut text = String::new();
    for service in &diagnosis.services {
        let roots: Vec<_> = service.roots.iter().filter(|root| root.cause == cause).collect();
        let refuted: Vec<_> = service.refuted.iter().filter(|r| r.cause == cause).collect();
        let masked: Vec<_> = service.masked.iter().filter(|m| m.cause == cause).collect();
        let symptoms: Vec<_> = service.symptoms.iter().filter(|s| s.symptom == cause).collect();
        if roots.is_empty() && refuted.is_empty() && masked.is_empty() && symptoms.is_empty() {
            continue;
        }
        text.push_str(&head(service, paint));
        for root in roots {
            text.push_str(&claim(root, paint));
            quotes(&mut text, "for", &root.evidence);
            quotes(&mut text, "against", &root.against);
            list(&mut text, "explains", root.explains.iter().cloned());
            line(&mut text, "next", &root.next);
        }
        for refuted in refuted {
            line(&mut text, "not", &refuted.summary);
            quotes(&mut text, "because", &refuted.evidence);
        }
        for masked in masked {
            line(&mut text, "hidden", &masked.summary);
            line(&mut text, "next", &masked.next);
        }
        for seen in symptoms {
            let explained =
                service.roots.iter().filter(|root| root.explains.contains(&seen.symptom));
            let explained: Vec<&str> = explained.map(|root| root.cause.as_str()).collect();
            line(&mut text, "seen", &format!("{}x, {}", seen.count, span(seen.first, seen.last)));
            line(&mut text, "explained by", &explained.join(", "));
        }
        text.push('\n');
    }
    if text.is_empty() {
        let known = diagnosis.services.iter().flat_map(|service| {
            let roots = service.roots.iter().map(|root| root.cause.as_str());
            let refuted = service.refuted.iter().map(|refuted| refuted.cause.as_str());
            roots.chain(refuted).chain(service.symptoms.iter().map(|s| s.symptom.as_str()))
        });
        let mut known: Vec<&str> = known.collect();
        known.sort_unstable();
        known.dedup();
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        text = format!("Nothing is said about `{cause}`; the diagnosis speaks of {known}.\n");
    }
    text
}

fn coverage(diagnosis: &CleanDiagnosis) -> String {
    let all = &diagnosis.coverage["all"];
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    let time = |value: &serde_json::Value| value.as_str()?.parse().ok();
    let runs = diagnosis.coverage["runs"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    for run in runs {
        text.push_str(&run_line(run));
    }
    let entries = number(&all["entries"]);
    let logs = diagnosis.inputs.len().saturating_sub(runs.len());
    if entries > 0 || logs > 0 {
        text.push_str(&format!(
            "{entries} entries in {}, {}\n",
            match diagnosis.inputs.len() {
                1 => "1 input".to_owned(),
                n => format!("{n} inputs"),
            },
            match (time(&all["from"]), time(&all["to"])) {
                (None, None) => "without times".to_owned(),
                (from, to) => span(from, to),
            },
        ));
    }
    let broken = number(&diagnosis.coverage["broken"]);
    let empty = number(&all["without_payload"]);
    let limits = diagnosis.coverage["row_limits"].as_array().map_or(0, Vec::len);
    for (count, one, more) in [
        (broken, "record could not be read", "records could not be read"),
        (
            empty,
            "entry has no payload: what it said is not held",
            "entries have no payload: what they said is not held",
        ),
        (
            limits as u64,
            "list ends at a row limit: there was more",
            "lists end at a row limit: there was more",
        ),
    ] {
        if count > 0 {
            text.push_str(&format!("  {count} {}\n", if count == 1 { one } else { more }));
        }
    }
    text
}

/// What is held of a run: how its probes ended, and how much was sampled beside them.
fn run_line(run: &serde_json::Value) -> String {
    let word = |key: &str| run[key].as_str().map_or_else(String::new, one_line);
    let ended = run["probes"].as_object().into_iter().flatten();
    let mut held: Vec<String> =
        ended.map(|(verdict, count)| format!("{count} {}", one_line(verdict))).collect();
    held.push(format!("{} samples", run["samples"]));
    if run["complete"] == false {
        held.push("it did not come to its end".to_owned());
    }
    let (environment, vantage) = (word("environment"), word("vantage"));
    let held = held.join(", ");
    format!("run {}: {environment} seen from {vantage}, {held}\n", word("session"))
}

fn head(service: &ServiceDiagnosis, paint: Paint) -> String {
    let (word, tone) = word_of(service.verdict);
    let name = match service.service.as_str() {
        "" => "(no service named)".to_owned(),
        name => one_line(name),
    };
    let Window { from, to } = service.window;
    format!("{} {name}  {}\n", paint.tone(word, tone), span(from, to))
}

fn claim(root: &Root, paint: Paint) -> String {
    let (word, tone) = match root.status {
        ClaimStatus::Supported => ("root", Tone::Bad),
        _ => ("maybe", Tone::Doubtful),
    };
    let label = format!("{word:>LABEL$}");
    format!(
        "{}  {} ({:.2}): {}\n",
        paint.tone(&label, tone),
        root.cause,
        root.confidence,
        one_line(&root.summary)
    )
}

/// What a line need not repeat: the day, the only input.
#[derive(Clone, Copy)]
struct Near {
    window: Window,
    one_input: bool,
}

impl Near {
    fn time(self, at: Timestamp) -> String {
        let day = |at: Timestamp| at.strftime("%F").to_string();
        let one_day = [self.window.from, self.window.to].into_iter().flatten();
        let format = if one_day.map(day).all(|held| held == day(at)) { "%T%.3f" } else { "%F %T" };
        at.strftime(format).to_string()
    }

    /// The entry's id or place, behind the file's name where there are several.
    fn source(self, source: &str) -> &str {
        let name = source.rsplit('/').next().unwrap_or(source);
        let id = name.find(['#', '@']).filter(|_| self.one_input);
        id.map_or(name, |id| &name[id..])
    }
}

/// Whether two lines are one message behind different beginnings.
fn end_alike(one: &str, other: &str) -> bool {
    let ends = one.chars().rev().zip(other.chars().rev());
    ends.take_while(|(a, b)| a == b).count() >= ALIKE
}

fn short(root: &Root, paint: Paint, near: Near) -> String {
    let mut text = claim(root, paint);
    if let Some(since) = root.evidence.iter().filter_map(|line| line.at).min() {
        line(&mut text, "since", &format!("{} UTC", since.strftime("%F %T")));
    }
    // The same words again, alone, within others or behind others, tell nothing new.
    let mut distinct: Vec<&EvidenceLine> = Vec::new();
    for quoted in &root.evidence {
        let words = quoted.quote.trim();
        let said = |other: &&EvidenceLine| {
            let others = other.quote.trim();
            others.contains(words) || words.contains(others) || end_alike(words, others)
        };
        if !distinct.iter().any(said) {
            distinct.push(quoted);
        }
    }
    for quoted in distinct.into_iter().take(DECISIVE) {
        let at = quoted.at.map(|at| format!("{} ", near.time(at))).unwrap_or_default();
        let words = cut(quoted.quote.trim(), QUOTED);
        line(&mut text, "because", &format!("{at}{words} [{}]", near.source(&quoted.source)));
    }
    line(&mut text, "next", &root.next);
    text
}

/// "5 attempts, 4 failed in phase DATABASE, 1 failed, one every 41.2 s (median)".
fn startups(service: &ServiceDiagnosis) -> String {
    let failed = |startup: &&Startup| startup.outcome == AttemptEnd::Failed;
    let mut phases: Vec<&str> = service
        .startups
        .iter()
        .filter(failed)
        .map(|startup| startup.failed_phase.as_deref().unwrap_or_default())
        .collect();
    phases.sort_unstable_by(|a, b| b.cmp(a));
    let mut parts = match service.startups.len() {
        0 => return String::new(),
        1 => vec!["1 attempt".to_owned()],
        n => vec![format!("{n} attempts")],
    };
    for same in phases.chunk_by(|a, b| a == b) {
        parts.push(match same[0] {
            "" if phases.iter().any(|phase| !phase.is_empty()) => {
                format!("{} failed outside any phase that is held", same.len())
            }
            "" => format!("{} failed", same.len()),
            phase => format!("{} failed in phase {phase}", same.len()),
        });
    }
    let mut periods: Vec<f64> = service.startups.iter().filter_map(|up| up.after_s).collect();
    periods.sort_by(f64::total_cmp);
    if let Some(median) = periods.get(periods.len() / 2).filter(|_| periods.len() > 1) {
        parts.push(format!("one every {median:.1} s (median)"));
    }
    parts.join(", ")
}

fn quotes(text: &mut String, label: &str, lines: &[EvidenceLine]) {
    for quoted in lines {
        let at = quoted.at.map(|at| format!("{at} ")).unwrap_or_default();
        line(text, label, &format!("{at}{} [{}]", quoted.quote.trim(), quoted.source));
    }
}

fn list(text: &mut String, label: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    if !items.is_empty() {
        line(text, label, &items.join("; "));
    }
}

fn line(text: &mut String, label: &str, what: &str) {
    if !what.is_empty() {
        text.push_str(&format!("{label:>LABEL$}  {}\n", one_line(what)));
    }
}

/// A stranger's line break would begin a line of ours.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
}

fn span(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => {
            let same_day = from.strftime("%F").to_string() == to.strftime("%F").to_string();
            let to = to.strftime(if same_day { "%T" } else { "%F %T" });
            format!("{} to {to} UTC", from.strftime("%F %T"))
        }
        (Some(at), None) | (None, Some(at)) => format!("{} UTC", at.strftime("%F %T")),
        (None, None) => "no time".to_owned(),
    }
}
