//! The normalised log entry, whatever file it came from.

use std::borrow::Cow;

use jiff::Timestamp;
use shakedown_core::Provenance;
pub use shakedown_core::evidence::ClockSource;

use crate::read::audit::Audit;
use crate::read::scan;
pub use crate::severity::Severity;

/// One entry, borrowed from the block of input it stands in.
///
/// Empty strings mean "not said".
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When, in UTC. A text time without a zone is taken as
    /// [`ReadOptions::assumed_offset_s`](crate::read::ReadOptions::assumed_offset_s) says, and
    /// counted in [`Coverage::zone_assumed`](crate::coverage::Coverage::zone_assumed).
    pub time: Option<Timestamp>,
    /// Whose clock wrote [`time`](Self::time): Google's for exports, the container's for its own
    /// output.
    pub clock: ClockSource,
    /// The step of the written time, in milliseconds.
    pub resolution_ms: u32,
    /// From the field, else from the text.
    pub severity: Severity,
    /// The service.
    pub service: &'a str,
    /// Its revision.
    pub revision: &'a str,
    /// The instance of the revision.
    pub instance: &'a str,
    /// The export's id of the entry.
    pub insert_id: &'a str,
    /// The log it stands in.
    pub log: LogName,
    /// The text: `textPayload`, or `jsonPayload.message` with the error's type, value and traceback
    /// appended where the message does not hold them, or the status message of an audit entry.
    /// Without terminal colours; literal `\n` of a traceback are newlines. Not sanitized and not
    /// redacted: that is for whoever quotes it.
    pub message: Cow<'a, str>,
    /// In what form the export held it.
    pub payload: PayloadKind,
    /// The request, for entries about one.
    pub http: Option<Http<'a>>,
    /// The call, for audit entries.
    pub audit: Option<Box<Audit>>,
    /// The entry's labels.
    pub labels: Labels<'a>,
    /// What kind of record it is.
    pub origin: Origin,
    /// How often the export says this was seen: above 1 only for summaries.
    pub repeat: u64,
    /// Whether a copy of this entry without a payload was given before: what that copy told already
    /// (that there is an entry, its time and severity) must not be counted again.
    pub completes: bool,
    /// Whether whoever wrote the export cut the message.
    pub cut: bool,
    /// The same for messages that differ only in numbers and ids; 0 without a message.
    pub template: u64,
    /// Where it stands.
    pub location: Location,
    /// Always [`Provenance::Quoted`]: somebody else's words.
    pub provenance: Provenance,
}

/// The log an entry stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogName {
    /// The application's standard output.
    Stdout,
    /// The application's standard error.
    Stderr,
    /// Cloud Run itself (`run.googleapis.com/varlog/system`).
    System,
    /// Requests (`run.googleapis.com/requests`).
    Requests,
    /// Somebody's administrative call (`cloudaudit.googleapis.com/activity`).
    AuditActivity,
    /// Google's own change (`cloudaudit.googleapis.com/system_event`).
    AuditSystem,
    /// Another log, or the export does not say.
    #[default]
    Other,
}

impl LogName {
    /// The log a `logName` (percent-encoded or not) or a stream's name means.
    pub fn from_name(name: &[u8]) -> Self {
        const NAMES: [(&[u8], LogName); 6] = [
            (b"stderr", LogName::Stderr),
            (b"stdout", LogName::Stdout),
            (b"requests", LogName::Requests),
            (b"system", LogName::System),
            (b"activity", LogName::AuditActivity),
            (b"system_event", LogName::AuditSystem),
        ];
        let means = |(last, log): &(&[u8], Self)| match name.strip_suffix(*last)? {
            [] | [.., b'/'] | [.., b'%', b'2', b'F' | b'f'] => Some(*log),
            _ => None,
        };
        NAMES.iter().find_map(means).unwrap_or_default()
    }

    /// `stdout`, `stderr`, `system`, `requests`, `audit-activity`, `audit-system`, `other`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
            Self::Requests => "requests",
            Self::AuditActivity => "audit-activity",
            Self::AuditSystem => "audit-system",
            Self::Other => "other",
        }
    }
}

/// In what form an export held what an entry says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PayloadKind {
    /// Nothing but time, severity and labels: whoever saved it left the words out.
    #[default]
    None,
    /// A request without words.
    Http,
    /// A text.
    Text,
    /// An object.
    Json,
    /// An audit entry.
    Proto,
}

/// What kind of record an entry was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// An entry of a log.
    #[default]
    Log,
    /// A row of somebody's summary: no exact time, a count instead of entries.
    Summary,
    /// The failure of a test, in the words of the test.
    TestResult,
}

/// The request an entry is about. The remote address is not kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http<'a> {
    /// `GET`, ..
    pub method: Cow<'a, str>,
    /// The address without its query, which may hold a token.
    pub url: Cow<'a, str>,
    /// The status; 0 when not said.
    pub status: u16,
    /// How long the answer took, in seconds.
    pub latency_s: Option<f64>,
    /// Who asked.
    pub user_agent: Cow<'a, str>,
}

impl Http<'_> {
    /// The path of the address, `/` when it has none.
    pub fn path(&self) -> &str {
        let scheme = memchr::memmem::find(self.url.as_bytes(), b"://");
        let after = scheme.map_or(&*self.url, |at| &self.url[at + 3..]);
        after.find('/').map_or("/", |at| &after[at..])
    }
}

/// The labels of an entry, read when asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels<'a> {
    pub(crate) raw: &'a [u8],
}

impl<'a> Labels<'a> {
    /// The value of one label, for example `vpc-connectivity` or `scaling_reason`.
    pub fn get(&self, key: &str) -> Option<Cow<'a, str>> {
        self.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }

    /// All labels with a text for a value.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        scan::members(self.raw)
            .filter_map(|(key, value)| Some((scan::text(key), scan::string_value(value)?)))
    }
}

/// Which of the files that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// Where an entry stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file: an index into [`ReadReport::files`](crate::read::ReadReport::files).
    pub file: FileId,
    /// Its first byte, counted in the decompressed file (in the file as UTF-8, for UTF-16).
    pub offset: u64,
}

/// What takes the entries. One per worker thread; merged when all is read.
///
/// What you promise: the merged result does not depend on which sink got which entry, below the
/// bounds your documentation states. The mistake to expect: keeping "the first N seen" by order of
/// calls; keep the N smallest by (time, location) instead.
pub trait EntrySink: Send {
    /// Takes one entry. Entries of one file come in any order.
    fn entry(&mut self, entry: &Entry<'_>);

    /// Takes over what `other` collected.
    fn merge(&mut self, other: Self)
    where
        Self: Sized;
}
