//! From a record's slices to the entry that sinks see.

use std::borrow::Cow;

use shakedown_core::Provenance;
use shakedown_core::startup::is_platform_line;

use super::audit::Audit;
use super::record::{Failure, Raw, Test};
use super::scan::{self, Checked, string_value, text};
use super::{junit, text as lines, time};
use crate::entry::{
    ClockSource, Entry, FileId, Http, Labels, Location, LogName, Origin, PayloadKind, Severity,
};
use crate::template::template;
use time::{Minute, Stamp};

/// What a file and the options say about every entry of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'c> {
    pub(crate) file: FileId,
    /// The block's text.
    pub(crate) block: Checked<'c>,
    /// Where the block begins in the file.
    pub(crate) base: u64,
    /// The zone of times without one, in seconds east of UTC.
    pub(crate) assumed_offset_s: i32,
    /// The service of entries that name none.
    pub(crate) service: &'c str,
}

/// What reading an entry's members told besides the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// Its time had no zone.
    pub(crate) zone_assumed: bool,
}

/// Calls `give` with the entry that `raw` is.
#[inline]
pub(crate) fn entry<'a, R>(
    raw: &Raw<'a>,
    ctx: &Context<'a>,
    near: &mut Minute,
    give: impl FnOnce(&Entry<'_>, Notes) -> R,
) -> R {
    let block = ctx.block;
    let (instance, insert_id) = (block.text(raw.instance), block.text(raw.insert_id));
    let http = http(raw, block);
    let (message, payload, audit) = body(raw, block, http.is_some());
    let message = clean(message);
    let severity = level(raw.severity)
        .or(raw.hint.severity)
        .or_else(|| level(raw.json.severity))
        .or_else(|| test_level(raw))
        .or_else(|| Severity::from_text(&message))
        .unwrap_or_default();
    let mut clock = if raw.plain { ClockSource::Container } else { ClockSource::Google };
    // Taken apart at once: what is put together here and copied below is slow to be read.
    let told =
        |stamp: Stamp| (stamp.timestamp(ctx.assumed_offset_s), stamp.resolution_ms, !stamp.zoned);
    let (time, resolution_ms, zone_assumed) = if let Some(stamp) = time::stamp_near(raw.time, near)
    {
        told(stamp)
    } else if let Some(stamp) = time::stamp(raw.json.time) {
        told(stamp)
    } else {
        clock = ClockSource::Container;
        let message = message.as_bytes();
        let stamp = time::in_line(message).or_else(|| time::in_access_line(message));
        stamp.map_or((None, 1000, false), told)
    };
    let log = match LogName::from_name(raw.log) {
        LogName::Other if raw.log.is_empty() => infer_log(&message, payload, audit.as_deref()),
        log => log,
    };
    let entry = Entry {
        time,
        clock,
        resolution_ms,
        severity,
        service: if raw.service.is_empty() { ctx.service } else { &raw.service },
        revision: &raw.revision,
        instance: &instance,
        insert_id: &insert_id,
        log,
        payload,
        http,
        audit,
        labels: Labels { raw: raw.labels },
        origin: raw.hint.origin,
        repeat: raw.repeat(),
        completes: raw.completes,
        cut: is_cut(&message),
        template: template(message.as_bytes()),
        message,
        location: Location { file: ctx.file, offset: ctx.base + raw.at as u64 },
        provenance: Provenance::Quoted,
    };
    give(&entry, Notes { zone_assumed })
}

/// The words of a record, the form they were in, and the call it is about.
#[inline(always)]
fn body<'a>(
    raw: &Raw<'a>,
    block: Checked<'a>,
    http: bool,
) -> (Cow<'a, str>, PayloadKind, Option<Box<Audit>>) {
    if !raw.proto.is_empty() || raw.json.audit {
        let payload = if raw.proto.is_empty() { raw.json.whole } else { raw.proto };
        let audit = Audit::parse(payload);
        let message = audit.as_ref().map(|audit| audit.status_message.clone()).unwrap_or_default();
        return (Cow::Owned(message), PayloadKind::Proto, audit.map(Box::new));
    }
    if let Some(result) = &raw.test {
        let message = if result.xml {
            junit::message(result.name, result.outcome, raw.text)
        } else {
            test(result, text(raw.text))
        };
        return (Cow::Owned(message), PayloadKind::Text, None);
    }
    if !raw.json.whole.is_empty() && raw.text_rank < 3 {
        return (json(raw, block), PayloadKind::Json, None);
    }
    if raw.text_rank > 0 || !raw.json.failure.is_empty() {
        return (with_failure(words(raw, block), &raw.json.failure), PayloadKind::Text, None);
    }
    (Cow::Borrowed(""), if http { PayloadKind::Http } else { PayloadKind::None }, None)
}

/// The text of a record.
#[inline(always)]
fn words<'a>(raw: &Raw<'a>, block: Checked<'a>) -> Cow<'a, str> {
    if !raw.plain {
        return block.text(raw.text);
    }
    if raw.boxed > 0 {
        return Cow::Owned(super::table::without_box(raw.text, raw.boxed));
    }
    if raw.prefixed {
        return Cow::Owned(lines::without_prefixes(raw.text));
    }
    match block.lossy(raw.text) {
        text if text.contains("\r\n") => Cow::Owned(text.replace("\r\n", "\n")),
        text => text,
    }
}

/// How much of a payload without a message is shown.
const WHOLE_PAYLOAD: usize = 4096;

/// The message of a `jsonPayload`, with what its error adds.
#[inline]
fn json<'a>(raw: &Raw<'a>, block: Checked<'a>) -> Cow<'a, str> {
    let json = &raw.json;
    let message = if json.message_rank > 0 {
        block.text(json.message)
    } else {
        String::from_utf8_lossy(&json.whole[..json.whole.len().min(WHOLE_PAYLOAD)])
    };
    with_failure(message, &json.failure)
}

/// A message with what its logger says of the exception beside it.
#[inline(always)]
fn with_failure<'a>(message: Cow<'a, str>, failure: &Failure<'_>) -> Cow<'a, str> {
    if failure.is_empty() { message } else { joined(message, failure) }
}

/// The two in one text. Few records have an exception.
#[cold]
fn joined<'a>(mut message: Cow<'a, str>, failure: &Failure<'_>) -> Cow<'a, str> {
    let mut add = |part: Cow<'_, str>| {
        if !part.is_empty() && !message.contains(&*part) {
            let message = message.to_mut();
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(&part);
        }
    };
    if let Some(text) = string_value(failure.error) {
        add(text);
    } else if !failure.error.is_empty() {
        let part = |key: &str| scan::member(failure.error, key).and_then(string_value);
        let first = |keys: [&str; 2]| keys.iter().find_map(|key| part(key)).unwrap_or_default();
        // `{"message": "Missing field", "type": "str"}` without a value is a logger's remark about
        // its own record, not an error of the application: that has an exception's type.
        let kind = first(["type", "name"]);
        let exception = kind.ends_with("Error") || kind.ends_with("Exception");
        let value = match part("value").unwrap_or_default() {
            none if none.is_empty() && exception => first(["message", "msg"]),
            value => value,
        };
        if !value.is_empty() {
            add(if kind.is_empty() { value } else { Cow::Owned(format!("{kind}: {value}")) });
        }
        for key in ["summary", "traceback", "stack", "stack_trace", "stacktrace"] {
            add(part(key).unwrap_or_default());
        }
    }
    add(text(failure.stack));
    message
}

/// A test's result in one text: name, outcome, and the words of the stage that failed.
fn test(test: &Test<'_>, message: Cow<'_, str>) -> String {
    let mut out = text(test.name).into_owned();
    if !test.outcome.is_empty() {
        out.push_str(": ");
        out.push_str(&text(test.outcome));
    }
    let mut add = |part: Cow<'_, str>| {
        if !part.is_empty() && !out.contains(&*part) {
            out.push_str(if out.is_empty() { "" } else { ": " });
            out.push_str(&part);
        }
    };
    add(message);
    let failed = |stage: &&&[u8]| scan::member(stage, "outcome") != Some(b"\"passed\"");
    for stage in test.stages.iter().filter(|stage| !stage.is_empty()).filter(failed) {
        let crash = scan::member(stage, "crash").and_then(|crash| scan::member(crash, "message"));
        for part in [crash, scan::member(stage, "longrepr")].into_iter().flatten() {
            add(string_value(part).unwrap_or_default());
        }
    }
    out
}

fn test_level(raw: &Raw<'_>) -> Option<Severity> {
    match raw.test.as_ref().map_or(&b""[..], |test| test.outcome) {
        b"passed" | b"skipped" | b"xfailed" => Some(Severity::Info),
        _ if raw.hint.origin == Origin::TestResult => Some(Severity::Error),
        b"" => None,
        _ => Some(Severity::Error),
    }
}

/// The severity a field says. `DEFAULT` says nothing, so that the text decides.
fn level(field: &[u8]) -> Option<Severity> {
    match field {
        b"" => None,
        // As exports write them, which is how most are.
        b"INFO" => Some(Severity::Info),
        b"DEBUG" => Some(Severity::Debug),
        b"ERROR" => Some(Severity::Error),
        b"NOTICE" => Some(Severity::Notice),
        b"WARNING" => Some(Severity::Warning),
        b"CRITICAL" => Some(Severity::Critical),
        [b'0'..=b'9', ..] => match number(field)? {
            100..200 => Some(Severity::Debug),
            200..300 => Some(Severity::Info),
            300..400 => Some(Severity::Notice),
            400..500 => Some(Severity::Warning),
            500..600 => Some(Severity::Error),
            600..700 => Some(Severity::Critical),
            700..800 => Some(Severity::Alert),
            800 => Some(Severity::Emergency),
            _ => None,
        },
        word => Severity::from_word(word).filter(|level| *level != Severity::Default),
    }
}

pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A request out of the cells of a row, each told by its looks.
fn http_of_row(cells: &[u8]) -> Option<Http<'_>> {
    let mut http = Http::default();
    for cell in cells.split(|b| b.is_ascii_whitespace() || *b == b'|') {
        match cell {
            [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => {
                http.status = number(cell).and_then(|n| u16::try_from(n).ok()).unwrap_or_default();
            }
            [b'/', ..] | [b'h', b't', b't', b'p', ..] => {
                let query = memchr::memchr2(b'?', b'#', cell).unwrap_or(cell.len());
                http.url = text(&cell[..query]);
            }
            [b'A'..=b'Z', .., b'A'..=b'Z'] if cell.len() <= 7 => http.method = text(cell),
            _ => {}
        }
    }
    (http.status > 0).then_some(http)
}

#[inline]
fn http<'a>(raw: &Raw<'a>, block: Checked<'a>) -> Option<Http<'a>> {
    if raw.http.is_empty() {
        return None;
    }
    if raw.http.first() != Some(&b'{') {
        return http_of_row(raw.http);
    }
    let mut http = Http::default();
    for (key, value) in scan::members(raw.http) {
        let inner = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
        let words = inner.unwrap_or_default();
        match key {
            b"requestMethod" | b"method" => http.method = block.text(words),
            b"requestUrl" | b"url" => {
                let query = memchr::memchr2(b'?', b'#', words).unwrap_or(words.len());
                http.url = block.text(&words[..query]);
            }
            b"status" => {
                let status = number(inner.unwrap_or(value)).unwrap_or_default();
                http.status = u16::try_from(status).unwrap_or_default();
            }
            b"latency" => http.latency_s = latency(value),
            b"userAgent" | b"user_agent" => http.user_agent = block.text(words),
            _ => {}
        }
    }
    Some(http)
}

/// `"0.014146236s"`, or a number of seconds.
fn latency(value: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(value).ok()?.trim_matches('"');
    let seconds: f64 = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some(seconds)
}

fn infer_log(message: &str, payload: PayloadKind, audit: Option<&Audit>) -> LogName {
    match (payload, audit) {
        (PayloadKind::Proto, Some(audit)) if audit.principal.is_empty() => LogName::AuditSystem,
        (PayloadKind::Proto, _) => LogName::AuditActivity,
        (PayloadKind::Http, _) => LogName::Requests,
        // Exports that leave the log's name out are recognised by what is said.
        (PayloadKind::Text, _) if is_platform_line(message) => LogName::System,
        (PayloadKind::Text, _) if message.starts_with("The request ") => LogName::Requests,
        _ => LogName::Other,
    }
}

/// Without terminal colours; a traceback that was escaped twice on its way here has its lines back.
#[inline(always)]
fn clean(message: Cow<'_, str>) -> Cow<'_, str> {
    let special = memchr::memchr2(0x1b, b'\\', message.as_bytes());
    let Some(first) = special else { return message };
    let message = match memchr::memchr(0x1b, &message.as_bytes()[first..]) {
        Some(_) => Cow::Owned(strip_ansi(&message)),
        None => message,
    };
    if memchr::memchr(b'\\', message.as_bytes()).is_some()
        && message.contains("\\n")
        && (message.contains("Traceback (most recent call last)") || message.contains("\\n  File "))
    {
        return Cow::Owned(message.replace("\\n", "\n").replace("\\\"", "\""));
    }
    message
}

fn strip_ansi(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(0x1b, rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = after_escape(&rest[at + 1..]);
    }
    out.push_str(rest);
    out
}

/// What follows an escape sequence, given what follows its first byte: CSI to its final byte, OSC
/// to its end or the end of the line, anything else one character.
fn after_escape(rest: &str) -> &str {
    if let Some(csi) = rest.strip_prefix('[') {
        let end = csi.find(|c: char| !matches!(c, '\x20'..='\x3f')).unwrap_or(csi.len());
        let last = csi[end..].chars().next().filter(|c| matches!(c, '\x40'..='\x7e'));
        return &csi[end + last.map_or(0, char::len_utf8)..];
    }
    if let Some(osc) = rest.strip_prefix(']') {
        let end = osc.find(['\x07', '\x1b', '\n']).unwrap_or(osc.len());
        return osc[end..].strip_prefix('\x07').unwrap_or(&osc[end..]);
    }
    let mut chars = rest.chars();
    if rest.starts_with(|c: char| c.is_ascii_graphic()) {
        chars.next();
    }
    chars.as_str()
}

fn is_cut(message: &str) -> bool {
    ["...", "\u{2026}", "[truncated]", "(truncated)"].iter().any(|end| message.ends_with(end))
}
