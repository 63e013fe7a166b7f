//! The report for a person at a terminal.

mod detail;

use std::path::Path;

use shakedown_core::meta::RunPhase;
use shakedown_core::record::{ProbeRecord, ProbeResult};
use shakedown_core::reproduction::Reproduction;

use crate::clean::CleanRecord;
use crate::words::{self, Tone};

/// How a report for a terminal looks.
#[derive(Clone, Debug)]
pub struct Style {
    /// Whether ANSI colours are used.
    pub color: bool,
    /// Whether measurements, steps, samples, gate and plan are printed too.
    pub detail: bool,
    /// Columns to stay within; 0 for as many as it takes.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { color: false, detail: false, width: 100 }
    }
}

/// Colours or their absence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    pub(crate) fn tone(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Good => "32;1",
            Tone::Doubtful => "33;1",
            Tone::Bad => "31;1",
            Tone::Quiet => "2",
        };
        self.code(text, code)
    }

    fn bold(self, text: &str) -> String {
        self.code(text, "1")
    }

    fn code(self, text: &str, code: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// What a person needs to know in ten seconds: the verdict first, then a line per probe, what failed
/// with its rung, its error and what to do next, the budget, and what could not be looked at. Ends
/// with where the files are, when `session_dir` is given.
pub fn human(record: &CleanRecord, style: &Style, session_dir: Option<&Path>) -> String {
    let names = record.probes.iter().map(|probe| words::name(record, probe).chars().count());
    let names = names.filter(|&length| length <= LONGEST_NAME).max().unwrap_or(0);
    let paint = Paint(style.color);
    let mut page = Page { text: String::new(), paint, width: style.width, names };
    head(&mut page, record);
    if style.detail {
        detail::before(&mut page, record);
    }
    for phase in RunPhase::ALL {
        let probes = words::of_phase(record, phase);
        if probes.is_empty() {
            continue;
        }
        let done = record.phases.iter().find(|done| done.phase == phase);
        let elapsed =
            done.map_or_else(String::new, |d| format!(" ({})", words::duration(d.elapsed_ms)));
        page.title(&format!("{}{elapsed}", words::heading(phase)));
        for probe in probes {
            page.probe(record, probe, style.detail);
            if style.detail {
                detail::probe(&mut page, probe);
            }
        }
    }
    if let Some(reproduction) = &record.reproduction {
        signature(&mut page, reproduction);
    }
    tail(&mut page, record);
    if style.detail {
        detail::after(&mut page, record);
    }
    if let Some(dir) = session_dir {
        page.text.push('\n');
        page.line("", &format!("Results: {}", dir.display()));
    }
    page.text
}

fn head(page: &mut Page, record: &CleanRecord) {
    let overall = words::overall(record);
    let elapsed = record.elapsed_ms.map(|ms| format!(" in {}", words::duration(ms)));
    let word = page.paint.tone(overall.word, overall.tone);
    page.text.push_str(&format!("{word}: {}{}\n", overall.counts, elapsed.unwrap_or_default()));
    let target = &record.plan.target;
    let mut text = format!(
        "{} ({}) seen from {}, session {}",
        target.environment,
        target.tier.as_str(),
        target.vantage.as_str(),
        record.plan.session_id
    );
    if let Some(scenario) = &target.scenario {
        text.push_str(&format!(", scenario {scenario}"));
    }
    if target.time_scale > 1 {
        text.push_str(&format!(", durations divided by {}", target.time_scale));
    }
    page.line("", &text);
    if record.elapsed_ms.is_none() {
        page.line("", "the run was cut off: this is what had finished");
    }
}

/// Whether the failure asked for was reproduced, feature by feature.
fn signature(page: &mut Page, reproduction: &Reproduction) {
    let (word, tone) = words::reproduced(reproduction.verdict);
    let word = page.paint.tone(word, tone);
    page.title(&format!("Signature {}: {word}", reproduction.signature));
    page.line("  ", &reproduction.title);
    for (word, tone, text) in words::signature(reproduction) {
        page.entry(word, tone, &text);
    }
}

fn tail(page: &mut Page, record: &CleanRecord) {
    let notes = words::notes(record);
    if !notes.is_empty() {
        page.title("Notes");
        for (word, tone, text) in notes {
            page.entry(word, tone, &text);
        }
    }
    if !record.usage.is_empty() {
        page.title("Budget used");
        for usage in &record.usage {
            let text = format!("{}: {} of {} at once", usage.resource, usage.peak, usage.ceiling);
            page.line("  ", &text);
        }
    }
}

/// The text so far.
struct Page {
    text: String,
    paint: Paint,
    width: usize,
    /// The column in which names end.
    names: usize,
}

impl Page {
    fn title(&mut self, title: &str) {
        let title = self.paint.bold(title);
        self.text.push_str(&format!("\n{title}\n"));
    }

    /// One probe: its line, and for those that are not fine what to know about it.
    fn probe(&mut self, record: &CleanRecord, probe: &ProbeRecord, detail: bool) {
        let tone = Tone::of(&probe.result);
        let word = self.paint.tone(&format!("{:>9}", words::word(&probe.result)), tone);
        let (clock, name) = (words::clock(probe), words::name(record, probe));
        let line = format!("  {word} {clock} {name}");
        let column = self.names.max(name.chars().count()) + 2;
        let room = match self.width {
            0 => usize::MAX,
            width => width.saturating_sub(INDENT.len() + column),
        };
        let sentence = words::brief(&words::sentence(&probe.result));
        let fits = |text: &str| !text.is_empty() && text.chars().count() <= room;
        let beside = match &probe.result {
            _ if tone == Tone::Bad => None,
            _ if fits(&sentence) => Some(sentence.clone()),
            ProbeResult::Finished(outcome) if tone == Tone::Good && !detail => {
                let number = outcome.measurements.first().map(words::measured);
                number.filter(|number| fits(number)).or_else(|| Some(words::cut(&sentence, room)))
            }
            _ => None,
        };
        match beside {
            Some(beside) => {
                let gap = " ".repeat(column - name.chars().count());
                self.text.push_str(&format!("{}\n", format!("{line}{gap}{beside}").trim_end()));
            }
            None => {
                self.text.push_str(&format!("{line}\n"));
                if !sentence.is_empty() {
                    self.line(INDENT, &sentence);
                }
            }
        }
        if detail || matches!(tone, Tone::Bad | Tone::Doubtful) {
            self.findings(&probe.result, detail);
        }
    }

    /// What stands behind a result. Without detail only what says where, why or what next.
    fn findings(&mut self, result: &ProbeResult, detail: bool) {
        let mut left_out = 0;
        for (index, finding) in words::findings(result).iter().enumerate() {
            let suggests =
                finding.suggests.as_ref().map(|cause| format!("consistent with {cause}"));
            let place = words::place(finding).map(|place| format!("at {place}"));
            let facts: Vec<String> = [place, suggests].into_iter().flatten().collect();
            if index > 0 {
                if !detail && facts.is_empty() && finding.next.is_none() {
                    left_out += 1;
                    continue;
                }
                self.line(INDENT, &words::brief(&finding.summary));
            }
            if !facts.is_empty() {
                self.line(&format!("{INDENT}  "), &facts.join("; "));
            }
            if let Some(next) = &finding.next {
                self.line(&format!("{INDENT}  "), &format!("next: {}", words::brief(next)));
            }
        }
        if left_out > 0 {
            self.line(INDENT, &format!("({left_out} more in the detailed report)"));
        }
    }

    /// A word in a column of its own, and what it is about.
    fn entry(&mut self, word: &str, tone: Tone, text: &str) {
        const COLUMN: usize = 11;
        let at = self.text.len();
        self.line(&" ".repeat(COLUMN + 1), &words::brief(text));
        let painted = self.paint.tone(&format!("{word:>COLUMN$}"), tone);
        self.text.replace_range(at..at + COLUMN, &painted);
    }

    /// `text` at `indent`, broken between words to stay within the width.
    fn line(&mut self, indent: &str, text: &str) {
        self.text.push_str(&words::broken(indent, text, self.width));
        self.text.push('\n');
    }
}

/// A name longer than this does not move the others' column.
const LONGEST_NAME: usize = 34;

/// Where what belongs to a probe begins: under its id.
const INDENT: &str = "                        ";
