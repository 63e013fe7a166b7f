//! What kind of file it is, from its first bytes.

use std::fmt;

use super::batch::{Batch, State};
use super::record::{self, Hint};
use super::scan::{skip_value, skip_ws};
use super::table::Columns;
use super::tree::{Tree, has_collection};

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A list of entries, `[{..},{..}]`, or entries one after the other over several lines.
    JsonArray,
    /// One entry per line.
    JsonLines,
    /// An object that holds entries: `logs_by_severity`, `raw_logs`, `detailed_by_severity`,
    /// `issues_by_severity`, the report of pytest-json-report.
    JsonObject,
    /// Lines of text.
    Text,
    /// The table of `gcloud logging read`.
    Table,
    /// A JUnit report.
    Junit,
    /// The journal of a run of shakedown.
    RunDirectory,
    /// Time series of Cloud Monitoring.
    TimeSeries,
    /// Nothing in it.
    Empty,
}

impl Format {
    /// `json-array`, `json-lines`, ..
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JsonArray => "json-array",
            Self::JsonLines => "json-lines",
            Self::JsonObject => "json-object",
            Self::Text => "text",
            Self::Table => "table",
            Self::Junit => "junit",
            Self::RunDirectory => "run-directory",
            Self::TimeSeries => "time-series",
            Self::Empty => "empty",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The format that the first bytes of a file (at least one block, or all of it) speak for, and the
/// state to read it from.
pub(crate) fn detect(head: &[u8]) -> (Format, State) {
    let start = skip_ws(head, 0);
    let rest = &head[start..];
    let tree = || State::Tree(Tree::default());
    let lines = || State::Lines { skipping: false };
    match rest.first() {
        None => (Format::Empty, lines()),
        Some(b'[') => match rest.get(skip_ws(rest, 1)) {
            // `[2025-09-16 00:41:13 +0000] [14] [INFO] ..`
            Some(b'{' | b'"' | b'[' | b']') | None => (Format::JsonArray, tree()),
            Some(_) => (Format::Text, lines()),
        },
        Some(b'{') => object(rest, tree, lines),
        Some(b'<') if is_junit(rest) => (Format::Junit, State::Junit),
        Some(_) => {
            if let Some(columns) = Columns::of_box(rest) {
                return (Format::Table, State::Table(columns));
            }
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            match Columns::of(&rest[..end]) {
                Some(columns) => (Format::Table, State::Table(columns)),
                None => (Format::Text, lines()),
            }
        }
    }
}

fn object(rest: &[u8], tree: impl Fn() -> State, lines: impl Fn() -> State) -> (Format, State) {
    if !matches!(rest.get(skip_ws(rest, 1)), Some(b'"' | b'}') | None) {
        return (Format::Text, lines());
    }
    if has_collection(rest) {
        return (Format::JsonObject, tree());
    }
    let line_end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    match skip_value(rest, 0) {
        // One object that is no entry: somebody's report, on one line.
        Ok(end) if skip_ws(rest, end) >= rest.len() && !is_entry(rest) => {
            (Format::JsonObject, tree())
        }
        // The first object ends on its line: one per line, or a single one.
        Ok(end) if end <= line_end => (Format::JsonLines, lines()),
        Ok(_) => (Format::JsonArray, tree()),
        // It does not end at all: cut off, or broken. Where the next line begins like another
        // entry, lines are meant.
        Err(_) => {
            let next = skip_ws(rest, line_end);
            let brace =
                rest.get(next) == Some(&b'{') && rest.get(line_end.wrapping_sub(1)) != Some(&b'[');
            if brace || line_end > 2 && next >= rest.len() {
                (Format::JsonLines, lines())
            } else {
                (Format::JsonObject, tree())
            }
        }
    }
}

fn is_entry(object: &[u8]) -> bool {
    let mut batch = Batch::default();
    let (raw, memory) = batch.slot();
    record::parse(object, 0, Hint::default(), raw, memory).is_ok() && raw.is_entry()
}

fn is_junit(rest: &[u8]) -> bool {
    let head = &rest[..rest.len().min(4096)];
    [&b"<testsuite"[..], b"<testcase"].iter().any(|tag| memchr::memmem::find(head, tag).is_some())
}
