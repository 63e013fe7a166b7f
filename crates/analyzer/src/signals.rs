//! One search for everything that matters in a text: all registered log signals, the start-up
//! markers, access lines.

use std::borrow::Cow;

use shakedown_core::lazy_regex::LazyRegex;
use shakedown_core::signal::{Emitter, LogSignal};
use shakedown_core::startup::{Marker, MarkerError, Markers, is_platform_line, line_at};

use crate::entry::{Entry, LogName, Origin, Severity};
use crate::literals::Literals;

/// Words with which a line says that its application goes on without.
const TOLERANT: [&str; 20] = [
    "non-critical",
    "non critical",
    "not critical",
    "not required",
    " optional",
    "(optional",
    "[optional",
    "Optional ",
    "raceful degradation",
    "racefully degrad",
    "ontinuing without",
    "ontinuing anyway",
    "ontinue without",
    "using fallback",
    "falling back",
    "Falling back",
    "as fallback",
    "in-memory",
    "not available - install",
    "(trapped)",
];

/// Where a traceback begins: the frames below it quote code, whose words are no statement.
const TRACEBACK: &str = "Traceback (most recent call last)";
/// The line above the frames, whatever a logger put before it.
const HEAD_OF_FRAMES: &str = "Traceback (most recent call last):";

/// What requests begin with.
pub(crate) const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What the servers of Rust write of a request.
const TRACED: &str = "tower_http::trace::on_";

/// What a test runner prints: such text never supports a cause.
const TEST_TALK: [&str; 5] =
    ["::test_", "AssertionError: assert", "short test summary info", "E       ", "/pytest"];

/// A pattern of the configuration or of a signal that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// No regular expression.
    #[error("`{of}`: the pattern `{pattern}` is no regular expression")]
    Pattern {
        /// The signal.
        of: String,
        /// The pattern.
        pattern: String,
        /// Why.
        source: regex::Error,
    },
    /// A marker of the start-up table.
    #[error(transparent)]
    Marker(#[from] MarkerError),
}

#[derive(Clone, Copy, Debug)]
enum Use {
    Signal(usize),
    Marker(usize),
    /// One that only the platform writes: an application that has it in its own output quotes it.
    PlatformMarker(usize),
    Access,
    Traced,
    TestTalk,
}

/// The compiled search.
#[derive(Debug)]
pub struct Search {
    literals: Literals,
    uses: Vec<Use>,
    signals: Vec<(&'static LogSignal, Option<LazyRegex>)>,
    markers: Markers,
    access: LazyRegex,
    /// A request as `gcloud run services logs read` prints it: `GET 200 https://HOST/PATH`.
    printed: LazyRegex,
    /// A request as a server's logger writes it, `GET /PATH 200 12 ms`, or a summary's row, with the
    /// whole address.
    logged: LazyRegex,
    /// A summary's row that is sorted by its status: `200 GET https://HOST/PATH`.
    sorted: LazyRegex,
    /// A request as `tower_http` traces it, in the span it opened for it.
    traced: LazyRegex,
}

/// A signal found in an entry.
#[derive(Debug)]
pub struct Found<'s, 'a> {
    /// Its index in [`Search::signal`].
    pub signal: usize,
    /// The line of the message that holds it; of a traceback also its last line, which names the
    /// exception.
    pub line: Cow<'a, str>,
    /// What its pattern captured.
    pub captured: Vec<(&'s str, &'a str)>,
    /// Whether the entry says that the application goes on without.
    pub tolerated: bool,
}

/// An answer in an access line of the application's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLine<'a> {
    /// `GET`, ..; empty for a WebSocket handshake.
    pub method: &'a str,
    /// The path, without its query.
    pub path: &'a str,
    /// Whether it was a WebSocket handshake.
    pub websocket: bool,
    /// The status; 101 for an accepted WebSocket.
    pub status: u16,
}

/// What an entry states.
#[derive(Debug, Default)]
pub struct Findings<'s, 'a> {
    /// The signals, at most one per kind.
    pub signals: Vec<Found<'s, 'a>>,
    /// The start-up markers.
    pub marks: Vec<Marker<'a>>,
    /// The access line.
    pub access: Option<AccessLine<'a>>,
}

impl Search {
    /// Compiles `signals` and `markers` into one search.
    ///
    /// # Errors
    ///
    /// [`PatternError`] for a pattern that is none.
    pub fn new(
        signals: impl IntoIterator<Item = &'static LogSignal>,
        markers: Markers,
    ) -> Result<Self, PatternError> {
        let mut signals: Vec<&LogSignal> = signals.into_iter().collect();
        signals.sort_by_key(|signal| signal.id);
        signals.dedup_by_key(|signal| signal.id);
        let mut uses = Vec::new();
        let mut literals: Vec<String> = Vec::new();
        let mut compiled = Vec::with_capacity(signals.len());
        for (index, signal) in signals.into_iter().enumerate() {
            for literal in signal.any {
                literals.push((*literal).to_owned());
                uses.push(Use::Signal(index));
            }
            let capture = signal.capture.map(|pattern| {
                LazyRegex::new(pattern).map_err(|source| PatternError::Pattern {
                    of: signal.id.to_owned(),
                    pattern: pattern.to_owned(),
                    source,
                })
            });
            compiled.push((signal, capture.transpose()?));
        }
        for (index, literal) in markers.literals().enumerate() {
            literals.push(literal.to_owned());
            let platform = is_platform_line(literal);
            uses.push(if platform { Use::PlatformMarker(index) } else { Use::Marker(index) });
        }
        for literal in [" HTTP/1.1\" ", " HTTP/1.0\" ", " HTTP/2\" ", "\"WebSocket /"] {
            literals.push(literal.to_owned());
            uses.push(Use::Access);
        }
        literals.push(TRACED.to_owned());
        uses.push(Use::Traced);
        for talk in TEST_TALK {
            literals.push(talk.to_owned());
            uses.push(Use::TestTalk);
        }
        let access = LazyRegex::new(
            r#""(?:(?P<method>[A-Z]{3,7}) (?P<path>[^\s?"]*)\S* HTTP/[0-9.]+" (?P<status>[1-5][0-9]{2})|WebSocket (?P<ws>[^\s?"]*)[^\s"]*" (?P<wstatus>[1-5][0-9]{2}|\[accepted\]))"#,
        )
        .expect("a constant pattern");
        let printed = LazyRegex::new(
            r"^(?:[\d:.TZ +-]+ )?(?P<method>[A-Z]{3,7}) (?P<status>[1-5][0-9]{2}) (?:[0-9.]+m?s )?https?://[^\s/]+(?P<path>/?[^\s?]*)\S*\s*$",
        )
        .expect("a constant pattern");
        let logged = LazyRegex::new(
            r"^ ?(?:[\d:.TZ +-]+ )?(?:--> )?(?P<method>[A-Z]{3,7}) (?:(?P<path>/[^\s?]*)\S*|(?P<host>https?://[^\s/]+)(?P<below>/?[^\s?]*)\S*) (?:-> ?|- |status[=: ]+)?(?P<status>[1-5][0-9]{2})(?: (?:- |in |[0-9]).*)?\s*$",
        )
        .expect("a constant pattern");
        let sorted = LazyRegex::new(
            r"^(?P<status>[1-5][0-9]{2}) (?P<method>[A-Z]{3,7}) (?:(?P<path>/[^\s?]*)\S*|(?P<host>https?://[^\s/]+)(?P<below>/?[^\s?]*)\S*)\s*$",
        )
        .expect("a constant pattern");
        let traced = LazyRegex::new(
            r"\{[^}\n]*?\bmethod=(?P<method>[A-Z]{3,7}) uri=(?:https?://[^\s/}]+)?(?P<path>/[^\s?}]*)[^}\n]*\}: tower_http::trace::on_[a-z]+: [^\n]*?\b(?:status=|Status code: )(?P<status>[1-5][0-9]{2})\b",
        )
        .expect("a constant pattern");
        Ok(Self {
            literals: Literals::new(literals),
            uses,
            signals: compiled,
            markers,
            access,
            printed,
            logged,
            sorted,
            traced,
        })
    }

    /// A signal by its index.
    pub fn signal(&self, index: usize) -> &'static LogSignal {
        self.signals[index].0
    }

    /// What `message`, the words of `entry`, states.
    pub fn look<'a>(&self, entry: &Entry<'_>, message: &'a str) -> Findings<'_, 'a> {
        if message.is_empty() || entry.origin == Origin::TestResult {
            return Findings::default();
        }
        let mut seen: Vec<(usize, usize)> = Vec::new();
        let (mut access, mut traced, mut test_talk) = (false, false, false);
        self.literals.find(message, &mut |literal, at| match self.uses[literal] {
            Use::Access => access = true,
            Use::TestTalk => test_talk = true,
            Use::Traced => traced = true,
            Use::Signal(index) if !self.admits(index, entry) => {}
            Use::Signal(_) | Use::Marker(_) | Use::PlatformMarker(_) => {
                if !seen.iter().any(|(before, _)| *before == literal) {
                    seen.push((literal, at));
                }
            }
        });
        let asked = behind_method(message);
        if seen.is_empty() && !access && !traced && asked.is_none() {
            return Findings::default();
        }
        let mut findings = Findings::default();
        if access {
            findings.access = self.access_line(message);
        } else if traced {
            findings.access =
                self.traced.get().captures(message).and_then(|groups| answer(&groups));
        } else if let Some(asked) = asked {
            findings.access = match asked {
                [b'1'..=b'5', ..] => {
                    self.printed.get().captures(message).and_then(|groups| answer(&groups))
                }
                _ => self.logged_line(entry, message),
            };
        }
        if seen.is_empty() || test_talk {
            return findings;
        }
        seen.sort_unstable();
        let quoted = matches!(entry.log, LogName::Stdout | LogName::Stderr);
        let mut tolerated: Option<bool> = None;
        for (literal, start) in seen {
            match self.uses[literal] {
                Use::Marker(index) => findings.marks.extend(self.markers.read(index, message)),
                Use::Signal(index) => {
                    if let Some(mut found) = self.signal_at(index, message, start) {
                        found.tolerated = *tolerated.get_or_insert_with(|| goes_on(message));
                        self.keep_best(&mut findings.signals, found);
                    }
                }
                Use::PlatformMarker(index) if !quoted => {
                    findings.marks.extend(self.markers.read(index, message));
                }
                Use::PlatformMarker(_) | Use::Access | Use::Traced | Use::TestTalk => {}
            }
        }
        findings
    }

    /// One line states one fact of a kind: the weightier signal stays.
    fn keep_best<'s, 'a>(&'s self, signals: &mut Vec<Found<'s, 'a>>, found: Found<'s, 'a>) {
        let kind = self.signal(found.signal).kind;
        let same = |other: &Found<'_, '_>| self.signal(other.signal).kind == kind;
        match signals.iter().position(same) {
            None => signals.push(found),
            Some(at) => {
                let rank = |found: &Found<'_, '_>| {
                    let signal = self.signal(found.signal);
                    (signal.weight, std::cmp::Reverse(signal.id))
                };
                if rank(&found) > rank(&signals[at]) {
                    signals[at] = found;
                }
            }
        }
    }

    /// Whether whoever wrote `entry` could state a signal, at its level.
    fn admits(&self, index: usize, entry: &Entry<'_>) -> bool {
        let (signal, _) = &self.signals[index];
        // What an administrative call says is the platform's word too.
        let platform =
            matches!(entry.log, LogName::System | LogName::Requests) || entry.audit.is_some();
        let quiet = matches!(entry.severity, Severity::Debug | Severity::Info | Severity::Notice);
        let told = signal.any_level || platform || !quiet;
        match signal.from {
            Emitter::Any => told,
            Emitter::Platform => told && (platform || entry.log == LogName::Other),
            Emitter::Application => told && !platform,
        }
    }

    fn signal_at<'a>(&self, index: usize, message: &'a str, start: usize) -> Option<Found<'_, 'a>> {
        let (signal, capture) = &self.signals[index];
        if !signal.all.iter().all(|literal| message.contains(literal))
            || signal.unless.iter().any(|literal| message.contains(literal))
        {
            return None;
        }
        let mut captured = Vec::new();
        if let Some(pattern) = capture {
            let pattern = pattern.get();
            // Whether it stands there is told sooner than where.
            if !pattern.is_match(message) {
                return None;
            }
            if pattern.captures_len() > 1 {
                let groups = pattern.captures(message)?;
                let group = |name| Some((name, groups.name(name)?.as_str()));
                captured.extend(pattern.capture_names().flatten().filter_map(group));
            }
        }
        Some(Found {
            signal: index,
            line: telling_line(message, start),
            captured,
            tolerated: false,
        })
    }

    fn access_line<'a>(&self, message: &'a str) -> Option<AccessLine<'a>> {
        let groups = self.access.get().captures(message)?;
        if let Some(path) = groups.name("ws") {
            let status = groups.name("wstatus")?.as_str().parse().unwrap_or(101);
            return Some(AccessLine { method: "", path: path.as_str(), websocket: true, status });
        }
        answer(&groups)
    }

    /// A request by its method, address and status alone, in whatever order. With a whole address it
    /// may be what the application asked of another, where the line is the application's own.
    fn logged_line<'a>(&self, entry: &Entry<'_>, message: &'a str) -> Option<AccessLine<'a>> {
        let sorted = matches!(
            message.as_bytes(),
            [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9', b' ', b'A'..=b'Z', ..]
        );
        let pattern = if sorted { &self.sorted } else { &self.logged };
        let groups = pattern.get().captures(message)?;
        let own = matches!(entry.log, LogName::Stdout | LogName::Stderr);
        if own && groups.name("host").is_some() { None } else { answer(&groups) }
    }

    /// The literals that are searched, for documentation and tests.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.literals.all().iter().map(String::as_str)
    }
}

/// What follows a method that stands first, or behind a time or an arrow.
fn behind_method(message: &str) -> Option<&[u8]> {
    let time =
        |byte: &u8| matches!(byte, b'0'..=b'9' | b':' | b'.' | b'T' | b'Z' | b' ' | b'+' | b'-');
    let bytes = message.as_bytes();
    let told = &bytes[bytes.iter().take_while(|byte| time(byte)).count()..];
    let told = told.strip_prefix(b"> ").unwrap_or(told);
    // For most the first letter says no.
    if !matches!(told, [b'D' | b'G' | b'H' | b'O' | b'P', ..]) {
        return None;
    }
    let behind = |method: &str| told.strip_prefix(method.as_bytes())?.strip_prefix(b" ");
    METHODS.into_iter().find_map(behind)
}

/// The answer to a plain request, of a pattern with its `status` and `path`.
fn answer<'a>(groups: &regex::Captures<'a>) -> Option<AccessLine<'a>> {
    let status = groups.name("status")?.as_str().parse().ok()?;
    let path = groups.name("path").or_else(|| groups.name("below"))?.as_str();
    let method = groups.name("method")?.as_str();
    Some(AccessLine { method, path, websocket: false, status })
}

/// Whether the words of a message, without its traceback, say that the application goes on.
fn goes_on(message: &str) -> bool {
    let said = message.find(TRACEBACK).map_or(message, |at| &message[..at]);
    TOLERANT.iter().any(|words| said.contains(words))
}

/// The line that holds the byte `at`, with the exception's own line where it only names a frame.
fn telling_line(message: &str, at: usize) -> Cow<'_, str> {
    let line = line_at(message, at);
    let last = message
        .trim_end()
        .rsplit('\n')
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("(Background on this error"));
    match last {
        Some(last) if line.trim_end().ends_with(HEAD_OF_FRAMES) => Cow::Borrowed(last),
        Some(last) if line.starts_with("File \"") && last != line => {
            Cow::Owned(format!("{line}: {last}"))
        }
        _ => Cow::Borrowed(line),
    }
}
