//! What a person sees while a run goes on: lines, and on a terminal a status below them.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shakedown_core::Budget;
use shakedown_core::redact::sanitize;
use shakedown_core::{Redactor, clock};

use crate::output;

/// Shows the live lines of a run.
pub(crate) enum Progress {
    /// Nothing: somebody parses what we print.
    Silent,
    /// One line per event that matters.
    Lines,
    /// Lines above a status that moves.
    Status(Status),
}

/// The moving part.
pub(crate) struct Status {
    bar: ProgressBar,
}

/// What is going on, for the status.
#[derive(Clone, Debug, Default)]
pub(crate) struct Now {
    /// The run phase's number and title.
    pub(crate) phase: String,
    /// The running probe.
    pub(crate) probe: String,
    /// Its own words.
    pub(crate) note: String,
    /// Its limit.
    pub(crate) limit: Duration,
    /// When it began.
    pub(crate) since: Option<clock::Instant>,
}

impl Progress {
    /// Lines for logs, a status for people, silence where a document is the output.
    pub(crate) fn new(document: bool) -> Self {
        match (document, output::stderr_is_terminal()) {
            (true, false) => Self::Silent,
            (false, false) => Self::Lines,
            (_, true) => {
                let bar = ProgressBar::new_spinner().with_style(style());
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.enable_steady_tick(Duration::from_millis(120));
                Self::Status(Status { bar })
            }
        }
    }

    /// Prints a line; `line` has been redacted and sanitized.
    pub(crate) fn line(&self, line: &str) {
        match self {
            Self::Silent => {}
            Self::Lines => output::note(line),
            Self::Status(status) => status.bar.println(line),
        }
    }

    /// Shows what is going on.
    pub(crate) fn show(&self, now: &Now, budget: &Budget, redactor: &Redactor) {
        let Self::Status(Status { bar }) = self else { return };
        let elapsed = now.since.map(|since| since.elapsed().as_secs_f64()).unwrap_or_default();
        let mut text = now.phase.clone();
        if !now.probe.is_empty() {
            let limit = now.limit.as_secs_f64();
            text.push_str(&format!("  {}  {elapsed:.0}s of {limit:.0}s", now.probe));
        }
        if !now.note.is_empty() {
            let note = redactor.redact(&now.note).into_owned();
            text.push_str(&format!("  {}", sanitize(&note).replace('\n', " ")));
        }
        for usage in budget.usage().into_iter().filter(|u| u.in_use > 0) {
            text.push_str(&format!("  {} {}/{}", usage.resource, usage.in_use, usage.ceiling));
        }
        bar.set_message(text);
    }

    /// Takes the status away.
    pub(crate) fn finish(&self) {
        if let Self::Status(Status { bar }) = self {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| {
        // The template is a constant; the default is as good as any fallback.
        ProgressStyle::default_spinner()
    })
}
