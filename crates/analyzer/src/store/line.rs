//! A line that is kept, and how a few of many are.

use jiff::Timestamp;
use shakedown_core::attempt::RequestKind;
use shakedown_core::redact::quotable;

use super::SourceName;
use crate::entry::{ClockSource, Entry, FileId, Severity};

/// A line that states a fact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// When.
    pub at: Option<Timestamp>,
    /// Its place, for lines of container output; 0 for the others.
    pub order: u64,
    /// The words.
    pub text: String,
    /// The entry's id.
    pub insert_id: String,
    /// The file, for lines without an id also the byte.
    pub file: FileId,
    /// The first byte of the entry.
    pub offset: u64,
    /// The revision.
    pub revision: String,
    /// The level.
    pub severity: Severity,
    /// What the signal's pattern captured.
    pub captured: Vec<(String, String)>,
    /// The line says that the application goes on without.
    pub tolerated: bool,
}

/// The first and the last few of many, by their own order.
#[derive(Clone, Debug)]
pub struct Bounded<T> {
    items: Vec<T>,
    keep: usize,
    /// Whether any were let go.
    pub dropped: bool,
}

impl<T: Ord> Bounded<T> {
    pub(super) fn new(keep: usize) -> Self {
        Self { items: Vec::new(), keep, dropped: false }
    }

    pub(super) fn push(&mut self, item: T) {
        self.items.push(item);
        if self.items.len() >= self.keep * 8 {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        self.items.sort_unstable();
        self.items.dedup();
        let surplus = self.items.len().saturating_sub(self.keep * 2);
        if surplus > 0 {
            self.items.drain(self.keep..self.keep + surplus);
            self.dropped = true;
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.dropped |= other.dropped;
        for item in other.items {
            self.push(item);
        }
    }

    /// What was kept, in order.
    pub fn into_sorted(mut self) -> Vec<T> {
        self.shrink();
        self.items
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    pub(super) count: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
}

impl Counted {
    pub(super) fn add(&mut self, count: u64, first: Option<Timestamp>, last: Option<Timestamp>) {
        self.count += count;
        self.first = self.first.into_iter().chain(first).min();
        self.last = self.last.into_iter().chain(last).max();
    }
}

/// A quote's source: the file, and the entry's id or else its byte.
pub fn source(names: &SourceName<'_>, line: &Line) -> String {
    let file = names(line.file);
    if line.insert_id.is_empty() {
        format!("{file}@{}", line.offset)
    } else {
        format!("{file}#{}", line.insert_id)
    }
}

pub(super) fn line_of(entry: &Entry<'_>, text: &str) -> Line {
    // A container's own output is in the order it was written, and often tells whole seconds only.
    // Exports come in any order.
    let in_order = entry.time.is_none()
        || (entry.clock == ClockSource::Container && entry.insert_id.is_empty());
    Line {
        at: entry.time,
        order: if in_order { entry.location.offset } else { 0 },
        text: quotable(text),
        insert_id: quotable(entry.insert_id),
        file: entry.location.file,
        offset: entry.location.offset,
        revision: entry.revision.to_owned(),
        severity: entry.severity,
        captured: Vec::new(),
        tolerated: false,
    }
}

/// What a path asks for, by its segments.
pub(super) fn request_kind(path: &str) -> RequestKind {
    const HEALTH: [&str; 9] =
        ["health", "healthz", "ready", "readyz", "live", "livez", "ping", "readiness", "liveness"];
    const SOCKET: [&str; 4] = ["ws", "websocket", "socket.io", "wss"];
    let mut kind = RequestKind::Other;
    for part in path.as_bytes().split(|byte| *byte == b'/') {
        let is = |name: &&str| part.eq_ignore_ascii_case(name.as_bytes());
        // `/ws/health` is a health check of the WebSocket router, by plain HTTP.
        if HEALTH.iter().any(is) {
            return RequestKind::Health;
        }
        if SOCKET.iter().any(is) {
            kind = RequestKind::Websocket;
        }
    }
    if kind == RequestKind::Other && is_static(path) { RequestKind::Static } else { kind }
}

/// Whether a path asks for what a server gives out by itself: by its first folder or its ending.
fn is_static(path: &str) -> bool {
    const FOLDERS: [&str; 3] = ["/static/", "/assets/", "/_next/static/"];
    const ENDS: [&str; 10] =
        ["css", "js", "mjs", "map", "ico", "svg", "woff", "woff2", "ttf", "webmanifest"];
    FOLDERS.iter().any(|folder| path.starts_with(folder))
        || path == "/robots.txt"
        || path.rsplit_once('.').is_some_and(|(_, end)| ENDS.contains(&end))
}
