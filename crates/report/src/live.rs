//! A line per event, for a person who watches.

use std::collections::BTreeMap;

use shakedown_core::Redactor;
use shakedown_core::record::{JournalLine, RunEvent};
use shakedown_core::safety::CheckState;

use crate::clean::clean;
use crate::human::Paint;
use crate::words::{self, Tone};

/// Turns events into plain lines, as nextest prints them:
///
/// ```text
///     PASS [   0.123s] vpc.direct-connectivity
/// ```
///
/// Progress and samples give no lines. Where the lines go is the caller's business.
#[derive(Debug)]
pub struct Live {
    redactor: Redactor,
    paint: Paint,
    repeats: BTreeMap<String, u32>,
}

impl Live {
    /// Lines without what `redactor` hides, with ANSI colours or without.
    pub fn new(redactor: Redactor, color: bool) -> Self {
        Self { redactor, paint: Paint(color), repeats: BTreeMap::new() }
    }

    /// The line of one event, without its newline; `None` when the event gives none.
    pub fn line(&mut self, line: &JournalLine) -> Option<String> {
        let (word, tone, text) = self.parts(&line.event)?;
        let text = words::brief(&clean(&text, &self.redactor));
        Some(format!("{} {text}", self.paint.tone(&format!("{word:>9}"), tone)))
    }

    fn parts(&mut self, event: &RunEvent) -> Option<(&'static str, Tone, String)> {
        Some(match event {
            RunEvent::RunStarted { plan, .. } => {
                let repeats = plan.probes.iter().filter(|probe| probe.repeat > 1);
                self.repeats = repeats.map(|probe| (probe.id.clone(), probe.repeat)).collect();
                let target = &plan.target;
                let probes = plan.probes.len();
                let text = format!(
                    "{probes} probe{} against {} ({}), about {}, session {}",
                    if probes == 1 { "" } else { "s" },
                    target.environment,
                    target.tier.as_str(),
                    words::duration(plan.expected_ms),
                    plan.session_id
                );
                ("Running", Tone::Quiet, text)
            }
            RunEvent::Gate(record) | RunEvent::Stability(record) => {
                let bad = record.checks.iter().find(|check| check.state != CheckState::Ok)?;
                let (word, text) = words::check(bad);
                let tone = if word == "refused" { Tone::Bad } else { Tone::Doubtful };
                (if word == "refused" { "REFUSED" } else { "UNKNOWN" }, tone, text)
            }
            RunEvent::PhaseStarted { phase } => {
                ("Phase", Tone::Quiet, format!("{}: {}", phase.number(), phase.title()))
            }
            RunEvent::ProbeFinished(record) => {
                let attempt = self.repeats.get(&record.id);
                let attempt = attempt
                    .map_or_else(String::new, |repeat| format!(" ({}/{repeat})", record.attempt));
                let mut text = format!("{} {}{attempt}", words::clock(record), record.id);
                let tone = Tone::of(&record.result);
                let sentence = words::sentence(&record.result);
                if tone != Tone::Good && !sentence.is_empty() {
                    text.push_str(&format!(": {sentence}"));
                }
                (words::word(&record.result), tone, text)
            }
            RunEvent::MonitorFailed { monitor, error } => {
                ("MONITOR", Tone::Doubtful, format!("{monitor}: {error}"))
            }
            RunEvent::GuardNoticed(event) => {
                let tone = if event.stopped { Tone::Bad } else { Tone::Doubtful };
                ("GUARD", tone, event.summary.clone())
            }
            RunEvent::Remark { text } => ("NOTE", Tone::Doubtful, text.clone()),
            _ => return None,
        })
    }
}
