//! The sentences that all reports share.

use std::collections::BTreeMap;

use shakedown_core::meta::RunPhase;
use shakedown_core::outcome::{Finding, Measurement, Verdict};
use shakedown_core::record::{Condition, NoVerdict, ProbeRecord, ProbeResult, RunRecord};
use shakedown_core::reproduction::{
    Difference, FeatureState, Reproduction, ReproductionVerdict, Unexpected,
};
use shakedown_core::safety::{Check, CheckState};

use crate::clean::CleanRecord;

/// The verdict over a run, in one or two words and one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overall {
    /// `PASSED`, `FAILED`, `REFUSED AT THE GATE`, ..
    pub word: &'static str,
    /// How many probes ended how: `2 failed, 1 degraded, 5 passed`.
    pub counts: String,
    /// Whether it is good news, bad news, or something in between.
    pub(crate) tone: Tone,
}

/// How a word is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Doubtful,
    Bad,
    Quiet,
}

impl Tone {
    pub(crate) fn of(result: &ProbeResult) -> Self {
        match result {
            ProbeResult::Finished(outcome) => match outcome.verdict {
                Verdict::Pass => Self::Good,
                Verdict::Degraded => Self::Doubtful,
                Verdict::Fail => Self::Bad,
                Verdict::Skip { .. } => Self::Quiet,
            },
            ProbeResult::NoVerdict { .. } => Self::Bad,
            ProbeResult::Blocked { .. } => Self::Doubtful,
            ProbeResult::NotRun { .. } => Self::Quiet,
        }
    }

    /// As a class name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Doubtful => "doubtful",
            Self::Bad => "bad",
            Self::Quiet => "quiet",
        }
    }
}

/// Conditions in the order in which they decide, with the word they give a run.
const WORDS: [(Condition, &str, Tone); 10] = [
    (Condition::Internal, "INTERNAL ERROR", Tone::Bad),
    (Condition::Interrupted, "INTERRUPTED", Tone::Bad),
    (Condition::CleanupNotProven, "CLEANUP NOT PROVEN", Tone::Bad),
    (Condition::GuardStopped, "STOPPED BY A GUARD", Tone::Bad),
    (Condition::DeadlineReached, "OUT OF TIME", Tone::Bad),
    (Condition::GateRefused, "REFUSED AT THE GATE", Tone::Bad),
    (Condition::NothingSelected, "NOTHING SELECTED", Tone::Bad),
    (Condition::Findings, "FAILED", Tone::Bad),
    (Condition::NoVerdict, "NO VERDICT", Tone::Bad),
    (Condition::Degraded, "DEGRADED", Tone::Doubtful),
];

/// The verdict over `record`: its first condition in the order in which they decide the exit code.
pub fn overall(record: &RunRecord) -> Overall {
    let counts = counts(record);
    if record.elapsed_ms.is_none() {
        return Overall { word: "CUT OFF", counts, tone: Tone::Bad };
    }
    let found = WORDS.iter().find(|(condition, ..)| record.conditions.contains(condition));
    let (word, tone) = found.map_or(("PASSED", Tone::Good), |&(_, word, tone)| (word, tone));
    Overall { word, counts, tone }
}

fn counts(record: &RunRecord) -> String {
    const ORDER: [(&str, &str); 7] = [
        ("fail", "failed"),
        ("no-verdict", "without verdict"),
        ("degraded", "degraded"),
        ("blocked", "blocked"),
        ("pass", "passed"),
        ("skip", "skipped"),
        ("not-run", "not run"),
    ];
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for probe in &record.probes {
        *counts.entry(probe.result.word()).or_default() += 1;
    }
    let counts: Vec<String> = ORDER
        .iter()
        .filter_map(|(word, text)| counts.get(word).map(|count| format!("{count} {text}")))
        .collect();
    if counts.is_empty() { "no probe ended".to_owned() } else { counts.join(", ") }
}

/// The word of a result as lists print it.
pub(crate) fn word(result: &ProbeResult) -> &'static str {
    match result {
        ProbeResult::Finished(outcome) => match outcome.verdict {
            Verdict::Pass => "PASS",
            Verdict::Degraded => "DEGRADED",
            Verdict::Fail => "FAIL",
            Verdict::Skip { .. } => "SKIP",
        },
        ProbeResult::NoVerdict { how, .. } => match how {
            NoVerdict::Error => "ERROR",
            NoVerdict::Timeout => "TIMEOUT",
            NoVerdict::Aborted => "ABORTED",
            NoVerdict::Panic => "PANIC",
            NoVerdict::Cancelled => "CANCELLED",
        },
        ProbeResult::Blocked { .. } => "BLOCKED",
        ProbeResult::NotRun { .. } => "NOT RUN",
    }
}

/// What to say of a probe in one sentence; empty when there is nothing to say.
pub(crate) fn sentence(result: &ProbeResult) -> String {
    let text = match result {
        ProbeResult::Finished(outcome) => match (&outcome.verdict, outcome.findings.first()) {
            (Verdict::Skip { reason }, _) => reason.to_string(),
            (_, Some(finding)) => finding.summary.clone(),
            (_, None) => outcome.measurements.first().map(measured).unwrap_or_default(),
        },
        ProbeResult::NoVerdict { error, .. } => error.clone(),
        ProbeResult::Blocked { by, need } => format!("no {need} ({by})"),
        ProbeResult::NotRun { why } => why.clone(),
    };
    one_line(&text)
}

/// The id, with the attempt when a probe runs more than once.
pub(crate) fn name(record: &CleanRecord, probe: &ProbeRecord) -> String {
    match record.planned(&probe.id).map_or(1, |planned| planned.repeat) {
        0 | 1 => probe.id.clone(),
        repeat => format!("{} ({}/{repeat})", probe.id, probe.attempt),
    }
}

/// `connect_p95 12.3 ms`.
pub(crate) fn measured(measurement: &Measurement) -> String {
    let Measurement { name, value, unit, .. } = measurement;
    let value = number(*value);
    if unit == "1" { format!("{name} {value}") } else { format!("{name} {value} {unit}") }
}

/// `at tls: tls:expired`: where and what, for a finding that says so.
pub(crate) fn place(finding: &Finding) -> Option<String> {
    match (&finding.rung, &finding.fault) {
        (Some(rung), Some(fault)) => Some(format!("{rung}: {}", fault.code())),
        (Some(rung), None) => Some(rung.clone()),
        (None, Some(fault)) => Some(fault.code()),
        (None, None) => None,
    }
}

/// The findings of a result.
pub(crate) fn findings(result: &ProbeResult) -> &[Finding] {
    result.outcome().map_or(&[], |outcome| &outcome.findings)
}

/// One answer of a safety check: its word, and what it says.
pub(crate) fn check(check: &Check) -> (&'static str, String) {
    let detail = match &check.state {
        CheckState::Ok => check.detail.clone(),
        CheckState::Unknown { why } | CheckState::Refused { why } => why.clone(),
    };
    let word = match check.state {
        CheckState::Ok => "ok",
        CheckState::Unknown { .. } => "unknown",
        CheckState::Refused { .. } => "refused",
    };
    let mut text = check.name.clone();
    if !detail.is_empty() {
        text = format!("{text}: {detail}");
    }
    if let Some((kind, count)) = &check.limit {
        text.push_str(&format!("; the run's budget of {kind} is {count}"));
    }
    (word, one_line(&text))
}

/// The probes of one phase, in the order they ended.
pub(crate) fn of_phase(record: &RunRecord, phase: RunPhase) -> Vec<&ProbeRecord> {
    record.probes.iter().filter(|probe| probe.phase == phase).collect()
}

/// `phase 2: Database connection`.
pub(crate) fn heading(phase: RunPhase) -> String {
    format!("Phase {}: {}", phase.number(), phase.title())
}

/// `text` without line breaks.
pub(crate) fn one_line(text: &str) -> String {
    text.split(['\n', '\t'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// `[   0.123s]`; empty brackets for what was not started.
pub(crate) fn clock(probe: &ProbeRecord) -> String {
    match probe.result {
        ProbeResult::Blocked { .. } | ProbeResult::NotRun { .. } => format!("[{:9}]", ""),
        _ => format!("[{:>8.3}s]", probe.elapsed_ms / 1e3),
    }
}

/// `text` with each of its lines at `indent`, broken between words to stay within `width`; 0 for one
/// line however long.
pub(crate) fn broken(indent: &str, text: &str, width: usize) -> String {
    let room = match width {
        0 => usize::MAX,
        width => width.saturating_sub(indent.chars().count()).max(20),
    };
    let mut out = String::new();
    let mut used = 0;
    for (index, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if index == 0 {
            out.push_str(indent);
        } else if used + 1 + length > room {
            out.push_str(&format!("\n{indent}"));
            used = 0;
        } else {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// The first `room` characters of `text`, with a sign that there was more.
pub(crate) fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(room.saturating_sub(3)).collect();
    if let Some((words, _)) = kept.rsplit_once(' ') {
        kept.truncate(words.len());
    }
    format!("{kept} ..")
}

/// `text` on one line of a terminal: what a stranger made too long is cut.
pub(crate) fn brief(text: &str) -> String {
    const LONGEST: usize = 400;
    let text = one_line(text);
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{} .. ({} more bytes)", &text[..end], text.len() - end),
    }
}

/// Milliseconds as people read them: `950 ms`, `12.3 s`, `4 min 10 s`, `1 h 30 min`.
pub(crate) fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{} ms", number(ms)),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{} s", trim(format!("{:.1}", ms / 1e3))),
        ms => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive, and far below 2^64 seconds"
            )]
            let seconds = (ms / 1e3).round() as u64;
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let parts = [(hours, "h"), (minutes, "min"), (seconds, "s")];
            let parts = parts.iter().filter(|(count, _)| *count > 0).take(2);
            parts.map(|(count, unit)| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
        }
    }
}

/// At most three digits behind the point, fewer for large numbers.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => trim(format!("{value:.0}")),
        v if v >= 100.0 => trim(format!("{value:.1}")),
        v if v >= 1.0 || v == 0.0 => trim(format!("{value:.2}")),
        _ => trim(format!("{value:.4}")),
    }
}

fn trim(text: String) -> String {
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What to know besides the probes: a word, its colour, and the sentence.
pub(crate) fn notes(record: &RunRecord) -> Vec<(&'static str, Tone, String)> {
    let mut notes: Vec<(&'static str, Tone, String)> = Vec::new();
    for event in &record.guards {
        let tone = if event.stopped { Tone::Bad } else { Tone::Doubtful };
        notes.push(("guard", tone, event.summary.clone()));
    }
    for check in record.gate.iter().chain(&record.stability).flat_map(|record| &record.checks) {
        let (word, text) = self::check(check);
        match word {
            "ok" => {}
            "unknown" => notes.push((word, Tone::Doubtful, text)),
            _ => notes.push((word, Tone::Bad, text)),
        }
    }
    for cleanup in record.probes.iter().flat_map(|probe| &probe.cleanup) {
        if let Some(why) = &cleanup.failed {
            notes.push(("not undone", Tone::Bad, format!("{}: {why}", cleanup.what)));
        }
    }
    for (monitor, error) in &record.monitor_failures {
        notes.push(("monitor", Tone::Doubtful, format!("{monitor}: {error}")));
    }
    for guard in &record.plan.guards {
        if let Some(why) = &guard.not_armed {
            let text = format!("{} {}: {why}", guard.metric, guard.rule);
            notes.push(("not armed", Tone::Quiet, text));
        }
    }
    notes.extend(record.plan.notes.iter().map(|text| ("plan", Tone::Quiet, text.clone())));
    notes.extend(record.remarks.iter().map(|text| ("remark", Tone::Doubtful, text.clone())));
    notes.dedup_by(|a, b| a.0 == b.0 && a.2 == b.2);
    notes
}

/// The verdict about a signature, as it is printed.
pub(crate) fn reproduced(verdict: ReproductionVerdict) -> (&'static str, Tone) {
    match verdict {
        ReproductionVerdict::Reproduced => ("REPRODUCED", Tone::Bad),
        ReproductionVerdict::NotReproduced => ("NOT REPRODUCED", Tone::Good),
        ReproductionVerdict::Undecided => ("UNDECIDED", Tone::Doubtful),
    }
}

/// What a run showed of a signature: the features, then where it differed, then probes that said
/// something else than expected. What does not decide is quiet.
pub(crate) fn signature(reproduction: &Reproduction) -> Vec<(&'static str, Tone, String)> {
    let features = reproduction.features.iter().map(|feature| {
        let (word, tone) = match feature.state {
            FeatureState::Seen => ("seen", Tone::Bad),
            FeatureState::NotSeen => ("not seen", Tone::Good),
            FeatureState::NotTested => ("not tested", Tone::Doubtful),
        };
        let tone = if feature.decisive { tone } else { Tone::Quiet };
        (word, tone, format!("{}: {}", feature.what, feature.found))
    });
    let differences = reproduction.differences.iter().map(|differs| {
        let Difference { condition, expected, found } = differs;
        ("differs", Tone::Quiet, format!("{condition}: then {expected}, here {found}"))
    });
    let unexpected = reproduction.unexpected.iter().map(|unexpected| {
        let Unexpected { probe, expected, found } = unexpected;
        ("unexpected", Tone::Doubtful, format!("{probe}: {found}, expected {expected}"))
    });
    features.chain(differences).chain(unexpected).collect()
}
