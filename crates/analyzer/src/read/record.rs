//! One JSON object of an export, found but not yet read: slices of its members.

use super::scan::{self, Bad, skip_value, skip_ws, string_end};
use crate::entry::Origin;
use crate::severity::Severity;

/// What the place of a record in its file says about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The severity of the list it stands in.
    pub(crate) severity: Option<Severity>,
    /// What the list holds.
    pub(crate) origin: Origin,
}

/// A record's members that matter, as slices of the block: strings without their quotes and still
/// escaped, objects with their braces. Empty means absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Raw<'a> {
    /// Its first byte, counted from the beginning of the block.
    pub(crate) at: usize,
    pub(crate) hint: Hint,
    /// Whether a copy without a payload was seen before.
    pub(crate) completes: bool,
    /// Whether `text` is plain text rather than the inside of a JSON string.
    pub(crate) plain: bool,
    /// Whether something else put a prefix before each line of it.
    pub(crate) prefixed: bool,
    /// The column of a boxed table that it is a cell of over several lines, from 1; 0 for none.
    pub(crate) boxed: u8,
    pub(crate) time: &'a [u8],
    /// How good `time` is: an entry's own time beats the time of its reception.
    pub(crate) time_rank: u8,
    pub(crate) severity: &'a [u8],
    pub(crate) service: &'a [u8],
    pub(crate) revision: &'a [u8],
    pub(crate) instance: &'a [u8],
    pub(crate) insert_id: &'a [u8],
    pub(crate) log: &'a [u8],
    /// Text or message, and how good it is.
    pub(crate) text: &'a [u8],
    pub(crate) text_rank: u8,
    pub(crate) json: Json<'a>,
    pub(crate) proto: &'a [u8],
    pub(crate) http: &'a [u8],
    pub(crate) labels: &'a [u8],
    pub(crate) count: &'a [u8],
    pub(crate) test: Option<Box<Test<'a>>>,
}

/// The members of a `jsonPayload`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Json<'a> {
    /// All of it.
    pub(crate) whole: &'a [u8],
    pub(crate) message: &'a [u8],
    pub(crate) message_rank: u8,
    pub(crate) severity: &'a [u8],
    pub(crate) time: &'a [u8],
    /// `error`: an object or a string, with its quotes.
    pub(crate) error: &'a [u8],
    pub(crate) stack: &'a [u8],
    pub(crate) audit: bool,
}

/// The members of a test's result.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Test<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) outcome: &'a [u8],
    /// Whether `name` is the tag of an XML report.
    pub(crate) xml: bool,
    /// `setup`, `call`, `teardown`.
    pub(crate) stages: [&'a [u8]; 3],
}

impl Raw<'_> {
    /// Whether anything was found that makes the object an entry.
    pub(crate) fn is_entry(&self) -> bool {
        !(self.time.is_empty()
            && self.text_rank == 0
            && self.insert_id.is_empty()
            && self.json.whole.is_empty()
            && self.proto.is_empty()
            && self.http.is_empty()
            && self.test.is_none())
    }

    /// Whether it says something besides that it happened.
    pub(crate) fn has_payload(&self) -> bool {
        self.text_rank > 0
            || !self.json.whole.is_empty()
            || !self.proto.is_empty()
            || !self.http.is_empty()
            || self.test.is_some()
    }
}

/// Walks the members of the object that begins at `at`, giving each key's inside and the position
/// of its value; `visit` returns the position after the value. Returns the position after the
/// object.
#[inline(always)]
fn walk<'a>(
    bytes: &'a [u8],
    at: usize,
    mut visit: impl FnMut(&'a [u8], usize) -> Result<usize, Bad>,
) -> Result<usize, Bad> {
    let mut at = skip_ws(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        match bytes.get(at) {
            Some(b'"') => {}
            None => return Err(Bad::Incomplete),
            Some(_) => return Err(Bad::Malformed(at)),
        }
        let key_end = string_end(bytes, at + 1)?;
        let key = &bytes[at + 1..key_end];
        at = skip_ws(bytes, key_end + 1);
        match bytes.get(at) {
            Some(b':') => {}
            None => return Err(Bad::Incomplete),
            Some(_) => return Err(Bad::Malformed(at)),
        }
        at = visit(key, skip_ws(bytes, at + 1))?;
        at = skip_ws(bytes, at);
        match bytes.get(at) {
            Some(b',') => at = skip_ws(bytes, at + 1),
            Some(b'}') => return Ok(at + 1),
            None => return Err(Bad::Incomplete),
            Some(_) => return Err(Bad::Malformed(at)),
        }
    }
}

/// Passes over the value at `at`; where it is a string that is not empty, `into` gets its inside.
#[inline(always)]
fn take_string<'a>(bytes: &'a [u8], at: usize, into: &mut &'a [u8]) -> Result<usize, Bad> {
    if bytes.get(at) == Some(&b'"') {
        let end = string_end(bytes, at + 1)?;
        if end > at + 1 {
            *into = &bytes[at + 1..end];
        }
        return Ok(end + 1);
    }
    skip_value(bytes, at)
}

/// The same for a string or a number.
fn take_scalar<'a>(bytes: &'a [u8], at: usize, into: &mut &'a [u8]) -> Result<usize, Bad> {
    let end = take_string(bytes, at, into)?;
    if bytes[at].is_ascii_digit() {
        *into = &bytes[at..end];
    }
    Ok(end)
}

/// The same for a string that replaces what has a lower rank only.
#[inline(always)]
fn take_ranked<'a>(
    bytes: &'a [u8],
    at: usize,
    rank: u8,
    best: &mut u8,
    into: &mut &'a [u8],
) -> Result<usize, Bad> {
    let mut found: &[u8] = &[];
    let end = take_string(bytes, at, &mut found)?;
    // An empty string is a payload too, of the lowest kind.
    let rank = if bytes[at] != b'"' {
        0
    } else if found.is_empty() {
        rank.min(1)
    } else {
        rank
    };
    if rank > *best {
        *best = rank;
        *into = found;
    }
    Ok(end)
}

/// Passes over the value at `at`; where it is an object, `into` gets it.
#[inline(always)]
fn take_object<'a>(bytes: &'a [u8], at: usize, into: &mut &'a [u8]) -> Result<usize, Bad> {
    let end = skip_value(bytes, at)?;
    if bytes[at] == b'{' && end > at + 2 {
        *into = &bytes[at..end];
    }
    Ok(end)
}

/// Reads the object that begins at `at` into `raw`, which must be a new one. Returns the position after it.
#[inline]
pub(crate) fn parse<'a>(
    bytes: &'a [u8],
    at: usize,
    hint: Hint,
    raw: &mut Raw<'a>,
) -> Result<usize, Bad> {
    (raw.at, raw.hint) = (at, hint);
    let end = walk(bytes, at, |key, at| member(bytes, key, at, raw))?;
    if raw.test.as_ref().is_some_and(|test| test.outcome.is_empty() && raw.text_rank == 0) {
        raw.test = None;
    }
    Ok(end)
}

#[inline(always)]
fn member<'a>(bytes: &'a [u8], key: &[u8], at: usize, raw: &mut Raw<'a>) -> Result<usize, Bad> {
    let time =
        |rank, raw: &mut Raw<'a>| take_ranked(bytes, at, rank, &mut raw.time_rank, &mut raw.time);
    let text =
        |rank, raw: &mut Raw<'a>| take_ranked(bytes, at, rank, &mut raw.text_rank, &mut raw.text);
    match key {
        b"timestamp" => time(9, raw),
        b"time" | b"@timestamp" | b"ts" | b"datetime" => time(8, raw),
        b"first_seen" | b"first_occurrence" | b"firstSeen" | b"created_at" => time(7, raw),
        b"receiveTimestamp" | b"receive_timestamp" => time(6, raw),
        b"last_seen" | b"last_occurrence" | b"date" => time(5, raw),
        b"severity" => take_scalar(bytes, at, &mut raw.severity),
        b"level" | b"levelname" | b"log_level" if raw.severity.is_empty() => {
            take_scalar(bytes, at, &mut raw.severity)
        }
        b"insertId" | b"insert_id" => take_string(bytes, at, &mut raw.insert_id),
        b"logName" | b"log_name" | b"stream" => take_string(bytes, at, &mut raw.log),
        b"textPayload" | b"text_payload" => text(9, raw),
        b"message" => text(8, raw),
        b"msg" => text(7, raw),
        b"error_message" | b"errorMessage" => {
            raw.hint.origin = Origin::TestResult;
            text(6, raw)
        }
        b"log" | b"text" | b"line" => text(5, raw),
        b"issue" | b"sample" | b"description" => text(4, raw),
        b"pattern" | b"title" => text(3, raw),
        b"raw_payload" => text(2, raw),
        b"jsonPayload" | b"json_payload" => json(bytes, at, &mut raw.json),
        // The Python client's name for either.
        b"payload" if bytes.get(at) == Some(&b'{') => json(bytes, at, &mut raw.json),
        b"payload" => text(8, raw),
        b"protoPayload" | b"proto_payload" => take_object(bytes, at, &mut raw.proto),
        b"httpRequest" | b"http_request" => take_object(bytes, at, &mut raw.http),
        b"resource" => resource(bytes, at, raw),
        b"labels" => {
            let end = take_object(bytes, at, &mut raw.labels)?;
            if let Some([b'"', instance @ .., b'"']) = scan::member(raw.labels, "instanceId")
                .or_else(|| scan::member(raw.labels, "instance_id"))
            {
                raw.instance = instance;
            }
            Ok(end)
        }
        b"service" | b"service_name" | b"container_name" | b"container"
            if raw.service.is_empty() =>
        {
            take_string(bytes, at, &mut raw.service)
        }
        b"revision" | b"revision_name" if raw.revision.is_empty() => {
            take_string(bytes, at, &mut raw.revision)
        }
        b"instance" | b"instance_id" | b"instanceId" if raw.instance.is_empty() => {
            take_string(bytes, at, &mut raw.instance)
        }
        b"count" | b"occurrences" | b"frequency" => take_scalar(bytes, at, &mut raw.count),
        b"nodeid" | b"test_name" | b"test" | b"test_id" => {
            take_string(bytes, at, &mut raw.test.get_or_insert_default().name)
        }
        b"outcome" => take_string(bytes, at, &mut raw.test.get_or_insert_default().outcome),
        b"setup" => take_object(bytes, at, &mut raw.test.get_or_insert_default().stages[0]),
        b"call" => take_object(bytes, at, &mut raw.test.get_or_insert_default().stages[1]),
        b"teardown" => take_object(bytes, at, &mut raw.test.get_or_insert_default().stages[2]),
        _ => skip_value(bytes, at),
    }
}

fn resource<'a>(bytes: &'a [u8], at: usize, raw: &mut Raw<'a>) -> Result<usize, Bad> {
    if bytes.get(at) != Some(&b'{') {
        return skip_value(bytes, at);
    }
    let mut fallback: &[u8] = &[];
    let end = walk(bytes, at, |key, at| match key {
        b"labels" if bytes.get(at) == Some(&b'{') => walk(bytes, at, |key, at| match key {
            b"service_name" => take_string(bytes, at, &mut raw.service),
            b"revision_name" => take_string(bytes, at, &mut raw.revision),
            b"database_id" | b"job_name" | b"connector_name" | b"container_name" | b"module_id" => {
                take_string(bytes, at, &mut fallback)
            }
            b"pod_name" if raw.instance.is_empty() => take_string(bytes, at, &mut raw.instance),
            _ => skip_value(bytes, at),
        }),
        _ => skip_value(bytes, at),
    })?;
    if raw.service.is_empty() {
        raw.service = fallback;
    }
    Ok(end)
}

fn json<'a>(bytes: &'a [u8], at: usize, json: &mut Json<'a>) -> Result<usize, Bad> {
    if bytes.get(at) != Some(&b'{') {
        return skip_value(bytes, at);
    }
    let end = walk(bytes, at, |key, at| {
        let message = |rank, json: &mut Json<'a>| {
            take_ranked(bytes, at, rank, &mut json.message_rank, &mut json.message)
        };
        match key {
            b"message" => message(9, json),
            b"msg" => message(8, json),
            b"textPayload" | b"text" | b"log" => message(7, json),
            b"event" | b"detail" | b"description" | b"reason" => message(4, json),
            b"timestamp" | b"time" | b"ts" => take_string(bytes, at, &mut json.time),
            b"severity" => take_scalar(bytes, at, &mut json.severity),
            b"level" | b"levelname" if json.severity.is_empty() => {
                take_scalar(bytes, at, &mut json.severity)
            }
            b"error" | b"exception" => {
                let end = skip_value(bytes, at)?;
                if matches!(bytes[at], b'{' | b'"') && end > at + 2 {
                    json.error = &bytes[at..end];
                }
                Ok(end)
            }
            b"traceback" | b"stack" | b"stack_trace" | b"exc_info" => {
                take_string(bytes, at, &mut json.stack)
            }
            b"@type" => {
                let mut of: &[u8] = &[];
                let end = take_string(bytes, at, &mut of)?;
                json.audit = of.ends_with(b"AuditLog");
                Ok(end)
            }
            _ => skip_value(bytes, at),
        }
    })?;
    if end > at + 2 {
        json.whole = &bytes[at..end];
    }
    Ok(end)
}
