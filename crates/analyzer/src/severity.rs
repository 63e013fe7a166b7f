//! How bad an entry says it is: from its field, else from its text.

use std::fmt;

/// The severities of Cloud Logging, in rising order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Severity {
    /// Neither the field nor the text says.
    #[default]
    Default,
    /// For developers.
    Debug,
    /// Normal.
    Info,
    /// Normal and worth a note: configuration changes, start, stop.
    Notice,
    /// May cause problems.
    Warning,
    /// Is likely to cause problems.
    Error,
    /// Causes problems.
    Critical,
    /// Somebody must act now.
    Alert,
    /// Unusable.
    Emergency,
}

impl Severity {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// All of them, in rising order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Default,
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// As Cloud Logging writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
            Self::Alert => "ALERT",
            Self::Emergency => "EMERGENCY",
        }
    }

    /// The severity a word names, in any case: Cloud Logging's, Python's, loguru's, PostgreSQL's,
    /// syslog's.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        let mut upper = [0u8; 9];
        let upper = upper.get_mut(..word.len())?;
        upper.copy_from_slice(word);
        upper.make_ascii_uppercase();
        Some(match &*upper {
            b"DEFAULT" | b"NOTSET" => Self::Default,
            b"DEBUG" | b"TRACE" | b"DEBUG1" | b"DEBUG2" | b"DEBUG3" | b"DEBUG4" | b"DEBUG5" => {
                Self::Debug
            }
            b"INFO" | b"SUCCESS" | b"LOG" | b"STATEMENT" | b"DETAIL" | b"HINT" => Self::Info,
            b"NOTICE" => Self::Notice,
            b"WARNING" | b"WARN" => Self::Warning,
            b"ERROR" | b"ERR" | b"SEVERE" => Self::Error,
            b"CRITICAL" | b"FATAL" | b"CRIT" => Self::Critical,
            b"ALERT" => Self::Alert,
            b"EMERGENCY" | b"EMERG" | b"PANIC" => Self::Emergency,
            _ => return None,
        })
    }

    /// The severity a line of text carries inside, as the loggers of Python, gunicorn, uvicorn,
    /// loguru, PostgreSQL and logfmt write it; a traceback is an error. `None` when no word stands
    /// where a level stands: "ERROR" in the middle of a sentence is no level.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let head = &bytes[..bytes.len().min(HEAD)];
        if head.starts_with(b"Traceback (most recent call last)") {
            return Some(Self::Error);
        }
        let mut at = 0;
        while at < head.len() {
            if head[at] == 0x1b {
                at = after_escape(head, at);
                continue;
            }
            if !head[at].is_ascii_uppercase() && !lower_level(head, at) {
                at += 1;
                continue;
            }
            let end = head[at..]
                .iter()
                .position(|b| !b.is_ascii_alphanumeric())
                .map_or(head.len(), |n| at + n);
            let level = Self::from_word(&head[at..end]);
            if let Some(level) = level.filter(|_| opens(head, at) && closes(head, end)) {
                return Some(level);
            }
            at = end.max(at + 1);
        }
        None
    }
}

/// A level stands at the beginning of a line: no format puts it later than this.
const HEAD: usize = 192;

/// `level=error`, `"level":"error"`, `[error]`: the only places where a level is in lower case.
fn lower_level(head: &[u8], at: usize) -> bool {
    head[at].is_ascii_lowercase()
        && matches!(head[..at], [.., b'=' | b'"' | b'['])
        && (head[..at].ends_with(b"level=")
            || head[..at].ends_with(b"\"level\":\"")
            || (head[..at].ends_with(b"[") && head[at..].contains(&b']')))
}

/// Whether what stands before `at` may stand before a level: the beginning, a bracket, a bar, a
/// dash, the end of a time. A plain word before it means a sentence.
fn opens(head: &[u8], at: usize) -> bool {
    let mut before = &head[..at];
    let spaced = before.ends_with(b" ") || before.ends_with(b"\t");
    loop {
        match before {
            [rest @ .., b' ' | b'\t'] => before = rest,
            [rest @ .., b'm'] if ends_in_escape(rest) => {
                let esc = rest.iter().rposition(|b| *b == 0x1b).unwrap_or(0);
                before = &rest[..esc];
            }
            _ => break,
        }
    }
    match before.last() {
        None => true,
        Some(b'[' | b'|' | b'(' | b'<' | b'=' | b'"') => true,
        Some(b'-' | b']' | b'Z' | b':') => spaced,
        // The end of a time, `UTC`, or a process id.
        Some(b'0'..=b'9') => spaced,
        Some(b'C') => spaced && before.ends_with(b"UTC"),
        Some(_) => false,
    }
}

fn ends_in_escape(rest: &[u8]) -> bool {
    let tail = &rest[rest.len().saturating_sub(12)..];
    tail.iter()
        .rposition(|b| *b == 0x1b)
        .is_some_and(|esc| tail[esc + 1..].iter().all(|b| matches!(b, b'[' | b';' | b'0'..=b'9')))
}

/// Whether what stands from `end` may stand after a level.
fn closes(head: &[u8], mut end: usize) -> bool {
    let start = end;
    while let Some(byte) = head.get(end) {
        match byte {
            b' ' | b'\t' => end += 1,
            0x1b => end = after_escape(head, end),
            b'|' | b']' | b')' | b'>' | b'"' => return true,
            b':' => return end == start || head.get(end - 1) != Some(&b' '),
            b'-' => return end > start,
            // `2025-09-16 00:42:58,123 ERROR module: text`, `level=error msg=..`
            _ => return end > start,
        }
    }
    true
}

fn after_escape(head: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    if head.get(end) == Some(&b'[') {
        end += 1;
        while head.get(end).is_some_and(|b| matches!(b, 0x20..=0x3f)) {
            end += 1;
        }
        end += 1;
    }
    end.min(head.len())
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_text_is_where_loggers_write_it() {
        use Severity::{Critical, Error, Info, Warning};
        let cases = [
            ("[2025-09-16 00:41:13 +0000] [14] [ERROR] Exception in worker process", Some(Error)),
            ("INFO:     Started server process [1]", Some(Info)),
            ("2025-09-07 13:35:00 - app.auth - WARNING - Token validation failed", Some(Warning)),
            ("2025-08-28 00:23:43.240 | CRITICAL | app.main:run:4 - no", Some(Critical)),
            (
                "\x1b[32m2025-08-28 00:23:43.240\x1b[0m | \x1b[31m\x1b[1mERROR   \x1b[0m | \x1b[36mapp\x1b[0m - x",
                Some(Error),
            ),
            (
                "2025-09-16 00:42:58.123 UTC [12] FATAL:  database \"x\" does not exist",
                Some(Critical),
            ),
            ("2025-09-16 00:42:58,123 WARNING sqlalchemy.pool: slow", Some(Warning)),
            ("ERROR:root:it broke", Some(Error)),
            ("time=2025-09-16T00:00:00Z level=error msg=\"no\"", Some(Error)),
            ("Traceback (most recent call last):\n  File \"x\"", Some(Error)),
            ("No ERROR was found in the logs", None),
            ("the ERROR: key of the dictionary", None),
            ("handled INFO request", None),
            ("10.0.0.1:1 - \"GET /ERROR HTTP/1.1\" 200", None),
            ("", None),
        ];
        for (text, level) in cases {
            assert_eq!(Severity::from_text(text), level, "{text}");
        }
    }

    #[test]
    fn every_severity_is_named_by_its_own_word() {
        for severity in Severity::ALL {
            assert_eq!(Severity::from_word(severity.as_str().as_bytes()), Some(severity));
        }
        assert_eq!(Severity::from_word(b"warn"), Some(Severity::Warning));
        assert_eq!(Severity::from_word(b"CAPACITY"), None);
        assert_eq!(Severity::from_word(b"EMERGENCYLIGHT"), None);
    }
}
