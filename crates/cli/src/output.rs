//! The only place that prints. Everything passes the redactor and the sanitizer on its way.

use std::io::{self, IsTerminal as _, Write as _};

use shakedown_core::redact::{Redactor, sanitize};
use shakedown_report::Style;

/// Writes to standard output. A closed pipe ends the output, not the program.
pub(crate) fn out(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Writes one line to standard error.
pub(crate) fn note(text: &str) {
    let text = Redactor::default().redact(text).into_owned();
    let _ = writeln!(io::stderr().lock(), "{}", sanitize(&text));
}

/// Prints an error with its causes, one per line.
pub(crate) fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  caused by: {cause}"));
    }
    note(&text);
}

/// Whether a person reads standard error.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard output may carry colours: a terminal, and nobody said otherwise.
fn stdout_colour() -> bool {
    io::stdout().is_terminal() && !no_colour()
}

/// Whether standard error may carry colours.
pub(crate) fn stderr_colour() -> bool {
    stderr_is_terminal() && !no_colour()
}

#[expect(clippy::disallowed_methods, reason = "this crate reads the process environment")]
fn no_colour() -> bool {
    let set = |name| std::env::var(name).is_ok_and(|value| !value.is_empty());
    set("NO_COLOR") || std::env::var("TERM").is_ok_and(|term| term == "dumb")
}

/// How a report is laid out on standard output.
pub(crate) fn style(detail: bool) -> Style {
    let width = console::Term::stdout().size_checked().map_or(100, |(_, width)| width.into());
    Style { color: stdout_colour(), detail, width }
}

/// One JSON document, pretty, with a final newline.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    out(&format!("{}\n", Redactor::default().redact(&text)));
    Ok(())
}
