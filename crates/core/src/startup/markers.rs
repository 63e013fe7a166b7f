//! Which lines mark a start-up: those every server and Cloud Run write, and the configured ones.

use regex::Regex;

use super::StartupConfig;
use crate::lazy_regex::LazyRegex;

/// A marker of the table `[startup]` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarkerError {
    /// No regular expression.
    #[error("`{of}`: the pattern `{pattern}` is no regular expression")]
    Pattern {
        /// The key of the start-up table.
        of: String,
        /// The pattern.
        pattern: String,
        /// Why.
        source: regex::Error,
    },
    /// A marker that every line might match.
    #[error(
        "`{of}`: the pattern `{pattern}` needs a plain text of at least six bytes outside its groups"
    )]
    NoLiteral {
        /// The key of the start-up table.
        of: String,
        /// The pattern.
        pattern: String,
    },
}

/// What a marker line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The platform starts an instance.
    Instance,
    /// The server's first line.
    Server,
    /// A worker boots.
    Worker,
    /// The server's process is up.
    Process,
    /// The application's start-up is awaited.
    Waiting,
    /// The application's own sequence begins.
    Begun,
    /// A phase begins.
    PhaseStarted,
    /// A phase is complete.
    PhaseCompleted,
    /// An error message that names the limit it claims.
    ClaimedTimeout,
    /// A phase failed.
    PhaseFailed,
    /// The start-up failed.
    Failed,
    /// The worker died while it booted.
    ImportDeath,
    /// Nobody can ask it, whatever the application says: its port is not to be had.
    NotReady,
    /// The platform's start-up probe was not answered, whatever the application says.
    Unanswered,
    /// Somebody listens where the platform asks: a server does so before its workers boot.
    PortOpen,
    /// The platform's start-up probe was answered by the application.
    Ready,
    /// The start-up is complete.
    Completed,
    /// A server says where it listens: it is up, unless it dies at once.
    Listening,
    /// What runs beside an application, or by itself, is ready: a proxy.
    SideReady,
    /// The server says with which code its worker exited.
    WorkerExit,
    /// The server says that its worker was killed; the number is the worker's process.
    WorkerKilled,
    /// The platform says with which code the container exited.
    ContainerExit,
    /// The process was killed by a signal.
    Killed,
    /// Somebody asked it to stop; the number, if any, is the process that was asked.
    Stop,
}

impl Role {
    /// Every way to say that a process is up: the last word counts.
    pub const UP: [Self; 4] = [Self::Completed, Self::Listening, Self::Ready, Self::SideReady];

    /// Every way to say that a process ended of itself or was killed.
    pub const EXIT: [Self; 4] =
        [Self::WorkerExit, Self::WorkerKilled, Self::ContainerExit, Self::Killed];
}

/// A marker found in a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Marker<'a> {
    /// What it says.
    pub role: Role,
    /// The phase, in the spelling of the configuration.
    pub phase: Option<String>,
    /// A number it carries: a duration in seconds, an exit code, a signal.
    pub number: Option<f64>,
    /// The line.
    pub line: &'a str,
}

impl Marker<'_> {
    /// Whether it is about a failure and its line calls what happened a timeout.
    pub fn says_timeout(&self) -> bool {
        self.role >= Role::ClaimedTimeout && says_timeout(self.line)
    }
}

/// Whether a line calls what happened a timeout: the word by itself or an exception of that name, not
/// a part of another name (`connect_timeout=75`, `DatabaseTimeoutConfig`), and not what somebody
/// files it under (`... pattern detected: what happened`, `[TIMEOUT - Circuit: closed]`).
fn says_timeout(line: &str) -> bool {
    let told = line.rfind("pattern detected: ").map_or(line, |at| &line[at + 18..]);
    let told = told.rfind("[TIMEOUT").map_or(told, |at| &told[..at]).to_ascii_lowercase();
    let part = |c: char| c.is_ascii_alphanumeric() || "_.=".contains(c);
    let words = told.match_indices("timeout").any(|(at, word)| {
        let (before, after) = (&told[..at], &told[at + word.len()..]);
        let named = ["error", "exception"].iter().find_map(|end| after.strip_prefix(end));
        let end = named.unwrap_or(after);
        (named.is_some() || !before.ends_with(part))
            && !end.starts_with(|c: char| part(c) && c != '.')
    });
    words || told.contains("timed out") || told.contains("deadline exceeded")
}

#[derive(Debug)]
struct Pattern {
    literal: String,
    role: Role,
    regex: Match,
}

/// What a line must match beside its literal.
#[derive(Debug)]
enum Match {
    Nothing,
    Common(LazyRegex),
    Configured(Regex),
}

impl Match {
    fn regex(&self) -> Option<&Regex> {
        match self {
            Self::Nothing => None,
            Self::Common(lazy) => Some(lazy.get()),
            Self::Configured(regex) => Some(regex),
        }
    }
}

/// The compiled markers.
#[derive(Debug)]
pub struct Markers {
    patterns: Vec<Pattern>,
    phases: Vec<String>,
}

/// A traceback whose last line is an error, not somebody's wish to stop (`KeyboardInterrupt`,
/// `CancelledError`).
const ENDED: &str =
    r"(?s)Traceback \(most recent.*\n[\w.]*(?:[^d\s]Error|mentedError|Exception)\b[^\n]*\s*$";

/// Whose process a signal was sent to.
const OF_A_WORKER: &str = r"(?:pid:? ?(?P<number>\d+)\) )?was sent SIG";

/// A server that says where it listens, for whoever asks from outside. Not what an application opens
/// before it is ready (figures, a debugger), nor what listens beside it (`127.0.0.1`).
const LISTENS: &str = concat!(
    r"(?i)(?P<not>(?:metrics|prometheus|pprof|debug\w*|admin|health|probes?|proxy)\b.{0,40}listening on)",
    r"|(?:server|app|api|http)\b.{0,30} listening on \S*?\d{2,5}\b",
    r"|listening on (?:port |https?://)?(?:\*|0\.0\.0\.0|\[::\]|localhost)?:?(?P<number>\d{4,5})\b",
);

/// What gunicorn, uvicorn, other servers and Cloud Run write: literal, role, pattern of a number. The
/// literals begin with what few texts hold, so that most need no second look.
const COMMON: &[(&str, Role, Option<&str>)] = &[
    ("Starting new instance. Reason:", Role::Instance, None),
    ("Starting gunicorn ", Role::Server, None),
    ("Booting worker with pid", Role::Worker, Some(r"with pid:? ?(?P<number>\d+)")),
    ("Started server process [", Role::Process, None),
    ("Waiting for application startup.", Role::Waiting, None),
    ("Application startup complete.", Role::Completed, None),
    ("Uvicorn running on ", Role::Completed, None),
    ("Application startup failed. Exiting.", Role::Failed, None),
    ("Exception in worker process", Role::ImportDeath, None),
    ("Error loading ASGI app.", Role::ImportDeath, None),
    ("uvicorn/importer.py\"", Role::ImportDeath, None),
    (
        "gunicorn/workers/base.py\"",
        Role::ImportDeath,
        Some("(?s)in spawn_worker.*in load_wsgi|in load_wsgi.*in spawn_worker"),
    ),
    // Nothing below what a process begins with caught it: the process ended with it.
    ("/bin/uvicorn\"", Role::Failed, Some(ENDED)),
    ("/bin/gunicorn\"", Role::Failed, Some(ENDED)),
    ("<frozen runpy>", Role::Failed, Some(ENDED)),
    // The framework enters the application's lifespan: leaving it is another function.
    ("starlette/routing.py\"", Role::Failed, Some("(?s)in lifespan\\b.*in __aenter__")),
    ("Worker failed to boot.", Role::Failed, None),
    ("App failed to load.", Role::ImportDeath, None),
    // The socket is bound after the application's start-up: uvicorn, gunicorn, Node.
    ("error while attempting to bind on address", Role::NotReady, None),
    ("Can't connect to ('", Role::NotReady, None),
    ("Error: listen E", Role::NotReady, None),
    (
        "Worker (pid:",
        Role::WorkerExit,
        Some(r"Worker \(pid:\d+\) (?:exited with code|was sent code) (?P<number>-?\d+)"),
    ),
    (
        "Container called exit(",
        Role::ContainerExit,
        Some(r"Container called exit\((?P<number>-?\d+)\)"),
    ),
    ("Container terminated on signal ", Role::Killed, Some(r"on signal (?P<number>\d+)")),
    ("was sent SIGKILL!", Role::WorkerKilled, Some(OF_A_WORKER)),
    ("was sent SIGTERM!", Role::Stop, Some(OF_A_WORKER)),
    ("Handling signal: term", Role::Stop, None),
    ("d SIGTERM", Role::Stop, Some("eceived SIGTERM")),
    ("SIGTERM signal received", Role::Stop, None),
    ("Shutting down user disabled instance", Role::Stop, None),
    ("STARTUP TCP probe failed", Role::Unanswered, None),
    ("STARTUP HTTP probe failed", Role::Unanswered, None),
    ("STARTUP GRPC probe failed", Role::Unanswered, None),
    ("STARTUP TCP probe succeeded", Role::PortOpen, None),
    ("STARTUP HTTP probe succeeded", Role::Ready, None),
    ("STARTUP GRPC probe succeeded", Role::Ready, None),
    ("Container failed to start.", Role::Failed, None),
    // Next.js; Node, Go and Rust servers; ASP.NET; Spring Boot, PostgreSQL, the Auth Proxy
    ("Ready in ", Role::Completed, Some(r"^\W*Ready in (?P<number>[\d.]+) ?m?s")),
    ("istening on ", Role::Listening, Some(LISTENS)),
    ("g\" addr=", Role::Listening, Some(r#""listening" addr=\S*?:(?P<number>\d{2,5})\b"#)),
    ("istening on: http", Role::Listening, None),
    ("Tomcat started on port", Role::Completed, None),
    ("JVM running for", Role::Completed, Some(r"Started \w+ in (?P<number>[\d.]+) seconds")),
    ("ss running for", Role::Completed, Some(r"Started \w+ in (?P<number>[\d.]+) seconds")),
    ("database system is ready to accept connections", Role::Completed, None),
    ("connections!", Role::SideReady, Some("ready for new connections!")),
];

/// What lines of Cloud Run itself begin with, in its `varlog/system`.
const PLATFORM: [&str; 14] = [
    "Container called exit(",
    "Container terminated on signal",
    "Container failed to start.",
    "Default STARTUP ",
    "STARTUP HTTP probe ",
    "STARTUP TCP probe ",
    "STARTUP GRPC probe ",
    "LIVENESS HTTP probe ",
    "LIVENESS TCP probe ",
    "LIVENESS GRPC probe ",
    "Starting new instance. Reason:",
    "Shutting down user disabled instance",
    "Memory limit of ",
    "Cloud SQL connection failed. Please see https://cloud.google.com/sql/docs/",
];

/// Whether `text` begins as only lines of the platform do.
pub fn is_platform_line(text: &str) -> bool {
    PLATFORM.iter().any(|begin| text.starts_with(begin))
}

impl Markers {
    /// The common markers and those of `config`.
    ///
    /// # Errors
    ///
    /// [`MarkerError`] for a pattern that is none, or that has no literal to search for.
    pub fn new(config: &StartupConfig) -> Result<Self, MarkerError> {
        let mut patterns = Vec::new();
        for (literal, role, number) in COMMON {
            let regex = number.map_or(Match::Nothing, |number| {
                Match::Common(LazyRegex::new(number).expect("a constant pattern"))
            });
            patterns.push(Pattern { literal: (*literal).to_owned(), role: *role, regex });
        }
        let configured = [
            ("begun", Role::Begun, &config.begun),
            ("phase_started", Role::PhaseStarted, &config.phase_started),
            ("phase_completed", Role::PhaseCompleted, &config.phase_completed),
            ("phase_failed", Role::PhaseFailed, &config.phase_failed),
            ("completed", Role::Completed, &config.completed),
            ("failed", Role::Failed, &config.failed),
            ("claimed_timeout", Role::ClaimedTimeout, &config.claimed_timeout),
        ];
        for (key, role, list) in configured {
            for pattern in list {
                let of = format!("startup.{key}");
                let literal = literal_of(pattern).ok_or_else(|| MarkerError::NoLiteral {
                    of: of.clone(),
                    pattern: pattern.clone(),
                })?;
                let regex = Regex::new(pattern).map_err(|source| MarkerError::Pattern {
                    of,
                    pattern: pattern.clone(),
                    source,
                })?;
                patterns.push(Pattern { literal, role, regex: Match::Configured(regex) });
            }
        }
        Ok(Self { patterns, phases: config.phases.clone() })
    }

    /// The literals to search for, by index.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| pattern.literal.as_str())
    }

    /// Every marker in `message`, for those who read few lines; whoever reads millions searches the
    /// [`literals`](Self::literals) all at once.
    pub fn find<'a>(&self, message: &'a str) -> Vec<Marker<'a>> {
        (0..self.patterns.len()).filter_map(|index| self.read(index, message)).collect()
    }

    /// What the marker `index` (of [`literals`](Self::literals)) says if it stands in `message`.
    pub fn read<'a>(&self, index: usize, message: &'a str) -> Option<Marker<'a>> {
        let Pattern { literal, role, regex } = &self.patterns[index];
        let at = message.find(literal.as_str())?;
        let mut marker =
            Marker { role: *role, phase: None, number: None, line: line_at(message, at) };
        let Some(regex) = regex.regex() else { return Some(marker) };
        let groups = regex.captures(message)?;
        if groups.name("not").is_some() {
            return None;
        }
        if let Some(phase) = groups.name("phase") {
            let known = self.phases.iter().find(|known| known.eq_ignore_ascii_case(phase.as_str()));
            // A phase of another name is another application's, or a heading: no marker.
            marker.phase = Some(known?.clone());
        }
        let number = groups.name("number").or_else(|| groups.name("seconds"));
        marker.number = number.and_then(|number| number.as_str().parse().ok());
        Some(marker)
    }
}

/// The line of `message` that holds the byte `at`, trimmed.
pub fn line_at(message: &str, at: usize) -> &str {
    let start = message[..at].rfind('\n').map_or(0, |n| n + 1);
    let end = message[at..].find('\n').map_or(message.len(), |n| at + n);
    message[start..end].trim()
}

/// The longest plain text of a pattern that every match must hold, at least six bytes.
fn literal_of(pattern: &str) -> Option<String> {
    let mut best = String::new();
    let mut run = String::new();
    let mut depth = 0_u32;
    let mut class = false;
    let mut chars = pattern.chars().peekable();
    let flush = |run: &mut String, best: &mut String| {
        if run.len() > best.len() {
            best.clone_from(run);
        }
        run.clear();
    };
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some(escaped) if !escaped.is_alphanumeric() => Some(escaped),
                _ => None,
            },
            '[' if !class => {
                class = true;
                None
            }
            ']' if class => {
                class = false;
                None
            }
            '(' if !class => {
                depth += 1;
                None
            }
            ')' if !class => {
                depth = depth.saturating_sub(1);
                None
            }
            '|' if !class && depth == 0 => return None,
            '.' | '+' | '^' | '$' | '{' | '}' | '|' | '*' | '?' => None,
            plain => Some(plain),
        };
        let optional = matches!(chars.peek(), Some('?' | '*' | '{'));
        match plain {
            Some(plain) if depth == 0 && !class && !optional => run.push(plain),
            _ => flush(&mut run, &mut best),
        }
    }
    flush(&mut run, &mut best);
    (best.len() >= 6).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_word_and_not_a_part_of_a_name() {
        for line in [
            "Database initialization timeout after 25.0s",
            "TimeoutError: ",
            "asyncio.exceptions.TimeoutError",
            "connection timed out",
            "context deadline exceeded",
            "Issue #1 pattern detected: statement timeout",
            "failed: timeout expired [TIMEOUT - Circuit: closed]",
        ] {
            assert!(says_timeout(line), "{line}");
        }
        for line in [
            "'DatabaseTimeoutConfig' object has no attribute 'connection_timeout'",
            "password authentication failed (connect_timeout=75)",
            "password authentication failed (after 1.20s) [TIMEOUT - Circuit: closed]",
            "database timeout failure - Issue #1 pattern detected: KeyError",
            "timeout=75.0",
        ] {
            assert!(!says_timeout(line), "{line}");
        }
    }

    #[test]
    fn a_process_that_is_stopped_did_not_fail() {
        let markers = Markers::new(&StartupConfig::default()).unwrap();
        let ended = |last: &str| {
            let head =
                "Traceback (most recent call last):\n  File \"/usr/local/bin/uvicorn\", line 8";
            let text = format!("{head}, in <module>\n    sys.exit(main())\n{last}");
            markers.find(&text).iter().any(|marker| marker.role == Role::Failed)
        };
        assert!(ended("KeyError: 'rates'") && ended("NotImplementedError"));
        assert!(!ended("KeyboardInterrupt") && !ended("asyncio.exceptions.CancelledError"));
    }

    #[test]
    fn the_literal_of_a_pattern_is_one_every_match_holds() {
        assert_eq!(
            literal_of(r"PHASE FAILED: (?P<phase>\w+) - ").as_deref(),
            Some("PHASE FAILED: ")
        );
        assert_eq!(literal_of(r"(?:abcdefgh)?\d+ started ok").as_deref(), Some(" started ok"));
        assert_eq!(literal_of(r"phases?: \d"), None);
        assert_eq!(literal_of(r"one thing|another"), None);
        assert_eq!(
            literal_of(r"timeout after (?P<seconds>[\d.]+)s").as_deref(),
            Some("timeout after ")
        );
    }
}
