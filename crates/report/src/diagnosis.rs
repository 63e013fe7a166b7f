//! A diagnosis for a tired person: verdict, root, since when, three decisive lines, what it is not,
//! what to do next.

use shakedown_core::attempt::AttemptEnd;
use shakedown_core::classify::ClaimStatus;
use shakedown_core::diagnosis::{
    EvidenceLine, HealthVerdict, Root, ServiceDiagnosis, Startup, Window,
};

use crate::clean::CleanDiagnosis;
use crate::human::{Paint, Style};
use crate::words::{Tone, broken};

/// How many decisive lines are shown without being asked.
const DECISIVE: usize = 3;
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
        for root in &service.roots {
            text.push_str(&short(root, paint));
        }
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
            service.masked.iter().map(|m| format!("{}: {}; next: {}", m.cause, m.summary, m.next)),
        );
        line(&mut text, "start-ups", &startups(service));
    }
    if diagnosis.services.is_empty() {
        text.push_str("\nNothing in it belongs to a service.\n");
    }
    text
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
    format!("Diagnosis\n{}", indent(&text, style.width))
}

/// Each line two columns in, as the probes of a run are printed, and what is too long for `width`
/// below its own beginning.
fn indent(text: &str, width: usize) -> String {
    let entry = |line: &str| match behind_label(line) {
        Some((label, what)) => {
            let what = broken(&" ".repeat(LABEL + 4), what, width);
            format!("  {label}{}\n", what.trim_start())
        }
        None => format!("  {line}\n"),
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
            quotes(&mut text, "for", &root.evidence, usize::MAX);
            quotes(&mut text, "against", &root.against, usize::MAX);
            list(&mut text, "explains", root.explains.iter().cloned());
            line(&mut text, "next", &root.next);
        }
        for refuted in refuted {
            line(&mut text, "not", &refuted.summary);
            quotes(&mut text, "because", &refuted.evidence, usize::MAX);
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
    let mut text = format!(
        "{} entries in {} input(s), {} to {}\n",
        number(&all["entries"]),
        diagnosis.inputs.len(),
        all["from"].as_str().unwrap_or("no time"),
        all["to"].as_str().unwrap_or("no time"),
    );
    let broken = number(&diagnosis.coverage["broken"]);
    let empty = number(&all["without_payload"]);
    let limits = diagnosis.coverage["row_limits"].as_array().map_or(0, Vec::len);
    for (count, what) in [
        (broken, "records could not be read"),
        (empty, "entries have no payload: what they said is not held"),
        (limits as u64, "lists end at a row limit: there was more"),
    ] {
        if count > 0 {
            text.push_str(&format!("  {count} {what}\n"));
        }
    }
    text
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

fn short(root: &Root, paint: Paint) -> String {
    let mut text = claim(root, paint);
    if let Some(since) = root.evidence.iter().filter_map(|line| line.at).min() {
        line(&mut text, "since", &since.to_string());
    }
    // The same words again tell nothing new.
    let mut said = std::collections::BTreeSet::new();
    let distinct: Vec<_> =
        root.evidence.iter().filter(|line| said.insert(line.quote.clone())).cloned().collect();
    quotes(&mut text, "because", &distinct, DECISIVE);
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

fn quotes(text: &mut String, label: &str, lines: &[EvidenceLine], most: usize) {
    for quoted in lines.iter().take(most) {
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

fn span(
    from: Option<shakedown_core::clock::Timestamp>,
    to: Option<shakedown_core::clock::Timestamp>,
) -> String {
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
