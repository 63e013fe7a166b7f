//! A line of a log that is being written: Cloud Logging JSON or plain text.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

/// What a line says. Empty strings mean "not said".
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Entry {
    /// When, by the clock of whoever wrote it. A time without a zone is taken as UTC.
    pub(crate) at: Option<Timestamp>,
    /// As written, `ERROR` for example.
    pub(crate) severity: String,
    /// The words, without terminal colours.
    pub(crate) message: String,
    /// The Cloud Run service.
    pub(crate) service: String,
    /// Its revision.
    pub(crate) revision: String,
    /// The instance of the revision.
    pub(crate) instance: String,
    /// The export's id of the entry.
    pub(crate) insert_id: String,
    /// The log it stands in.
    pub(crate) log: String,
}

impl Entry {
    /// Reads one line; `None` for a blank one.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let line = line.trim_end();
        if line.trim_start().starts_with('{')
            && let Ok(Value::Object(object)) = serde_json::from_str(line)
        {
            return Some(Self::of(&Value::Object(object)));
        }
        let message = plain(line);
        (!message.trim().is_empty()).then(|| Self {
            at: leading_time(&message),
            severity: level(&message),
            message: message.into_owned(),
            ..Self::default()
        })
    }

    fn of(object: &Value) -> Self {
        let first = |of: &Value, keys: &[&str]| {
            let mut texts = keys.iter().filter_map(|key| of[*key].as_str());
            texts.find(|text| !text.is_empty()).unwrap_or_default().to_owned()
        };
        let payload = &object["jsonPayload"];
        let mut message = first(object, &["textPayload", "message", "msg"]);
        if message.is_empty() {
            message = first(payload, &["message", "msg", "text"]);
            let error = first(&payload["error"], &["value", "message"]);
            if !error.is_empty() && !message.contains(&error) {
                message = format!("{message} {}: {error}", first(&payload["error"], &["type"]));
            }
        }
        let time = first(object, &["timestamp", "time", "receiveTimestamp"]);
        let time = if time.is_empty() { first(payload, &["timestamp", "time"]) } else { time };
        let mut severity = first(object, &["severity", "level"]);
        if severity.is_empty() {
            severity = first(payload, &["severity", "level"]);
        }
        let message = plain(&message).into_owned();
        if severity.is_empty() {
            severity = level(&message);
        }
        let resource = &object["resource"]["labels"];
        Self {
            at: time.parse().ok().or_else(|| leading_time(&message)),
            severity,
            service: first(resource, &["service_name"]),
            revision: first(resource, &["revision_name"]),
            instance: first(&object["labels"], &["instanceId"]),
            insert_id: first(object, &["insertId"]),
            log: first(object, &["logName"]),
            message,
        }
    }

    /// Whether it is more than news.
    pub(crate) fn is_bad(&self) -> bool {
        matches!(
            self.severity.to_ascii_uppercase().as_str(),
            "WARNING" | "WARN" | "ERROR" | "CRITICAL" | "FATAL" | "ALERT" | "EMERGENCY"
        )
    }
}

/// `text` without terminal colours.
fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut pieces = text.split("\u{1b}[");
    out.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let end = piece.find(|c: char| c.is_ascii_alphabetic()).map_or(piece.len(), |at| at + 1);
        out.push_str(&piece[end..]);
    }
    Cow::Owned(out)
}

/// The level a text line names in its first words.
fn level(message: &str) -> String {
    const LEVELS: [&str; 8] =
        ["CRITICAL", "FATAL", "ERROR", "WARNING", "WARN", "NOTICE", "INFO", "DEBUG"];
    let head = &message[..message.floor_char_boundary(80)];
    let mut words = head.split(|c: char| !c.is_ascii_alphabetic());
    words.find(|word| LEVELS.contains(word)).unwrap_or_default().to_owned()
}

/// The time a text line begins with: `2025-09-16T00:41:13.123Z`, `2025-09-16 00:41:13,123`,
/// `[2025-09-16 00:41:13 +0000]`.
fn leading_time(message: &str) -> Option<Timestamp> {
    let text = message.trim_start().trim_start_matches('[');
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.split_at_checked(9)?;
    let clock = clock.strip_prefix(['T', ' '])?;
    let mut stamp = format!("{date}T{clock}");
    let mut rest = rest;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        if digits > 0 {
            stamp.push('.');
            stamp.push_str(&fraction[..digits.min(9)]);
        }
        rest = &fraction[digits..];
    }
    let zone = rest.trim_start();
    let zoned = zone.get(..5).or(zone.get(..)).filter(|zone| {
        zone.starts_with(['+', '-']) && zone[1..].bytes().all(|b| b.is_ascii_digit())
    });
    match zoned.filter(|zone| zone.len() == 5) {
        Some(zone) => stamp.push_str(&format!("{}:{}", &zone[..3], &zone[3..])),
        None => stamp.push('Z'),
    }
    stamp.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().expect("a time"))
    }

    #[test]
    fn a_cloud_logging_entry_is_read() {
        let line = r#"{"insertId":"x1","timestamp":"2025-09-16T00:41:13.123Z","severity":"ERROR",
            "resource":{"labels":{"service_name":"backend","revision_name":"backend-7"}},
            "labels":{"instanceId":"abc"},"logName":"projects/p/logs/run.googleapis.com%2Fstdout",
            "jsonPayload":{"message":"phase failed","error":{"type":"TimeoutError","value":"late"}}}"#
            .replace('\n', "");
        let entry = Entry::read(&line).expect("an entry");
        assert_eq!(entry.at, at("2025-09-16T00:41:13.123Z"));
        assert_eq!(entry.message, "phase failed TimeoutError: late");
        let said = [&entry.service, &entry.revision, &entry.instance, &entry.insert_id];
        assert_eq!(said, ["backend", "backend-7", "abc", "x1"]);
        assert!(entry.is_bad() && entry.log.ends_with("stdout"));
        let own =
            Entry::read(r#"{"severity":"INFO","message":"hello","time":"2025-01-01T00:00:00Z"}"#);
        let own = own.expect("an entry");
        assert_eq!((own.message.as_str(), own.at), ("hello", at("2025-01-01T00:00:00Z")));
        assert!(!own.is_bad());
    }

    #[test]
    fn text_lines_carry_their_time_and_level() {
        for (line, expected, level) in [
            ("2025-09-16 00:41:13,250 ERROR boom", at("2025-09-16T00:41:13.25Z"), "ERROR"),
            ("[2025-09-16 00:41:13 +0200] [14] [INFO] up", at("2025-09-15T22:41:13Z"), "INFO"),
            ("2025-09-16T00:41:13Z up", at("2025-09-16T00:41:13Z"), ""),
            ("\u{1b}[31mWARNING\u{1b}[0m: odd", None, "WARNING"),
            ("INFOrmation only", None, ""),
            ("é", None, ""),
            ("2025-99-16 00:41:13 no time", None, ""),
        ] {
            let entry = Entry::read(line).expect(line);
            assert_eq!((entry.at, entry.severity.as_str()), (expected, level), "{line}");
        }
        assert_eq!(Entry::read("\u{1b}[31mred\u{1b}[0m line").expect("text").message, "red line");
        assert_eq!(Entry::read("   "), None);
        assert_eq!(Entry::read("{ not json").expect("text").message, "{ not json");
    }
}
