//! One JSON object of an export, found but not yet read: slices of its members.

use std::borrow::Cow;

use super::batch::Memory;
use super::build::number;
use super::fields::{Field, JSON_FIELDS, JsonField};
use super::habits::{Member, Next, Step};
use super::resource::{Met, take_resource};
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
/// escaped, objects with their braces. Empty means absent. What many records share is read already.
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
    pub(crate) service: Cow<'a, str>,
    pub(crate) revision: Cow<'a, str>,
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
    /// When it was last, where it is counted.
    pub(crate) last: &'a [u8],
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
    /// Of a logger's own record, what stands beside `text`.
    pub(crate) failure: Failure<'a>,
    pub(crate) audit: bool,
}

/// What a logger says of an exception beside its message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failure<'a> {
    /// `error`: an object or a string, with its quotes.
    pub(crate) error: &'a [u8],
    /// Its frames.
    pub(crate) stack: &'a [u8],
}

impl<'a> Failure<'a> {
    /// Whether nothing is said.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.error.is_empty() && self.stack.is_empty()
    }

    /// Passes over the value at `at`, which is kept where it is an object and no error is.
    #[cold]
    fn take_incident(&mut self, bytes: &'a [u8], at: usize) -> Result<usize, Bad> {
        let before = self.error;
        let end = self.take_error(bytes, at)?;
        if !before.is_empty() || bytes[at] != b'{' {
            self.error = before;
        }
        Ok(end)
    }

    /// Passes over the value at `at`, which is kept where it is an object or a string with anything
    /// in it.
    fn take_error(&mut self, bytes: &'a [u8], at: usize) -> Result<usize, Bad> {
        let end = skip_value(bytes, at)?;
        if matches!(bytes[at], b'{' | b'"') && end > at + 2 {
            self.error = &bytes[at..end];
        }
        Ok(end)
    }
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

impl<'a> Raw<'a> {
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

    /// The last of what it counts, as a record of its own: what ends a window is not at its beginning.
    pub(crate) fn last(&self) -> Option<Self> {
        let time = self.later()?;
        Some(Self { time, count: b"", last: b"", ..self.clone() })
    }

    /// How often it was, but for [`Self::last`].
    pub(crate) fn repeat(&self) -> u64 {
        (self.count() - u64::from(self.later().is_some())).max(1)
    }

    /// The time of the last, where it is not that of the first.
    fn later(&self) -> Option<&'a [u8]> {
        let later = !self.last.is_empty() && self.last != self.time && self.count() > 1;
        later.then_some(self.last)
    }

    fn count(&self) -> u64 {
        number(self.count).unwrap_or(1)
    }

    /// Whether it says something besides that it happened.
    pub(crate) fn has_payload(&self) -> bool {
        self.text_rank > 0
            || !self.json.whole.is_empty()
            || !self.proto.is_empty()
            || !self.http.is_empty()
            || !self.json.failure.is_empty()
            || self.test.is_some()
    }
}

/// Walks the members of the object that begins at `at`, giving each key's inside and the position
/// of its value; `visit` returns the position after the value. Returns the position after the
/// object.
#[inline(always)]
pub(crate) fn walk<'a>(
    bytes: &'a [u8],
    at: usize,
    mut visit: impl FnMut(&'a [u8], usize) -> Result<usize, Bad>,
) -> Result<usize, Bad> {
    let mut at = skip_ws(bytes, at + 1);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        expect(bytes, at, b'"')?;
        let key_end = string_end(bytes, at + 1)?;
        let key = &bytes[at + 1..key_end];
        at = skip_ws(bytes, key_end + 1);
        expect(bytes, at, b':')?;
        at = visit(key, skip_ws(bytes, at + 1))?;
        at = skip_ws(bytes, at);
        if bytes.get(at) == Some(&b'}') {
            return Ok(at + 1);
        }
        expect(bytes, at, b',')?;
        at = skip_ws(bytes, at + 1);
    }
}

/// Whether `byte` stands at the position.
#[inline(always)]
pub(crate) fn expect(bytes: &[u8], at: usize, byte: u8) -> Result<(), Bad> {
    match bytes.get(at) {
        Some(found) if *found == byte => Ok(()),
        None => Err(Bad::Incomplete),
        Some(_) => Err(Bad::Malformed(at)),
    }
}

/// Passes over the value at `at`; where it is a string that is not empty, `into` gets its inside.
#[inline(always)]
pub(crate) fn take_string<'a>(
    bytes: &'a [u8],
    at: usize,
    into: &mut &'a [u8],
) -> Result<usize, Bad> {
    if bytes.get(at) == Some(&b'"') {
        let end = string_end(bytes, at + 1)?;
        if end > at + 1 {
            *into = &bytes[at + 1..end];
        }
        return Ok(end + 1);
    }
    skip_value(bytes, at)
}

/// The same for a string that is read at once.
pub(crate) fn take_text<'a>(
    bytes: &'a [u8],
    at: usize,
    into: &mut Cow<'a, str>,
) -> Result<usize, Bad> {
    let mut inside: &[u8] = &[];
    let end = take_string(bytes, at, &mut inside)?;
    if !inside.is_empty() {
        *into = scan::text(inside);
    }
    Ok(end)
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
    memory: &mut Memory<'a>,
) -> Result<usize, Bad> {
    (raw.at, raw.hint) = (at, hint);
    let (mut next, mut value_end) = (Member::default(), at + 1);
    let end = loop {
        match memory.habits.step(bytes, value_end, next)? {
            Step::End(end) => break end,
            Step::Value(Next { member, field }, at) => {
                next = member;
                value_end = match field {
                    Some(field) => take(bytes, field, at, raw, memory)?,
                    None => skip_value(bytes, at)?,
                };
            }
        }
    };
    if raw.test.as_ref().is_some_and(|test| test.outcome.is_empty() && raw.text_rank == 0) {
        raw.test = None;
    }
    Ok(end)
}

#[inline(always)]
fn take<'a>(
    bytes: &'a [u8],
    field: Field,
    at: usize,
    raw: &mut Raw<'a>,
    memory: &mut Memory<'a>,
) -> Result<usize, Bad> {
    let text =
        |rank, raw: &mut Raw<'a>| take_ranked(bytes, at, rank, &mut raw.text_rank, &mut raw.text);
    match field {
        Field::Time(rank) => take_ranked(bytes, at, rank, &mut raw.time_rank, &mut raw.time),
        Field::LastTime => {
            take_string(bytes, at, &mut raw.last)?;
            take_ranked(bytes, at, 5, &mut raw.time_rank, &mut raw.time)
        }
        Field::Text(rank) => text(rank, raw),
        Field::TestText => {
            raw.hint.origin = Origin::TestResult;
            text(6, raw)
        }
        Field::Severity => take_scalar(bytes, at, &mut raw.severity),
        Field::Level if raw.severity.is_empty() => take_scalar(bytes, at, &mut raw.severity),
        Field::InsertId => take_string(bytes, at, &mut raw.insert_id),
        Field::Log => take_string(bytes, at, &mut raw.log),
        Field::Json => json(bytes, at, &mut raw.json),
        Field::Payload if bytes.get(at) == Some(&b'{') => json(bytes, at, &mut raw.json),
        Field::Payload => text(8, raw),
        Field::Proto => take_object(bytes, at, &mut raw.proto),
        Field::Http => take_object(bytes, at, &mut raw.http),
        Field::Error => raw.json.failure.take_error(bytes, at),
        Field::Stack => take_string(bytes, at, &mut raw.json.failure.stack),
        Field::Resource => take_resource(bytes, at, raw, &mut memory.resources),
        Field::Labels => labels(bytes, at, raw, &mut memory.labels),
        Field::Service if raw.service.is_empty() => take_text(bytes, at, &mut raw.service),
        Field::Revision if raw.revision.is_empty() => take_text(bytes, at, &mut raw.revision),
        Field::Instance if raw.instance.is_empty() => take_string(bytes, at, &mut raw.instance),
        Field::Level | Field::Service | Field::Revision | Field::Instance => skip_value(bytes, at),
        Field::Count => take_scalar(bytes, at, &mut raw.count),
        Field::TestName => take_string(bytes, at, &mut raw.test.get_or_insert_default().name),
        Field::Outcome => take_string(bytes, at, &mut raw.test.get_or_insert_default().outcome),
        Field::Stage(stage) => {
            let test = raw.test.get_or_insert_default();
            take_object(bytes, at, &mut test.stages[usize::from(stage)])
        }
    }
}

fn labels<'a>(
    bytes: &'a [u8],
    at: usize,
    raw: &mut Raw<'a>,
    met: &mut Met<'a, &'a [u8]>,
) -> Result<usize, Bad> {
    if bytes.get(at) != Some(&b'{') {
        return skip_value(bytes, at);
    }
    let (whole, instance) = met.take(bytes, at, |bytes, at| {
        let mut instance: &[u8] = &[];
        let end = walk(bytes, at, |key, at| match key {
            b"instanceId" | b"instance_id" => take_string(bytes, at, &mut instance),
            _ => skip_value(bytes, at),
        })?;
        Ok((end, instance))
    })?;
    if !instance.is_empty() {
        raw.instance = instance;
    }
    if whole.len() > 2 {
        raw.labels = whole;
    }
    Ok(at + whole.len())
}

fn json<'a>(bytes: &'a [u8], at: usize, json: &mut Json<'a>) -> Result<usize, Bad> {
    if bytes.get(at) != Some(&b'{') {
        return skip_value(bytes, at);
    }
    let end = walk(bytes, at, |key, at| match JSON_FIELDS.get(key) {
        None => skip_value(bytes, at),
        Some(JsonField::Message(rank)) => {
            take_ranked(bytes, at, rank, &mut json.message_rank, &mut json.message)
        }
        Some(JsonField::Time) => take_string(bytes, at, &mut json.time),
        Some(JsonField::Severity) => take_scalar(bytes, at, &mut json.severity),
        Some(JsonField::Level) if json.severity.is_empty() => {
            take_scalar(bytes, at, &mut json.severity)
        }
        Some(JsonField::Level) => skip_value(bytes, at),
        Some(JsonField::Error) => json.failure.take_error(bytes, at),
        Some(JsonField::Incident) => json.failure.take_incident(bytes, at),
        Some(JsonField::Stack) => take_string(bytes, at, &mut json.failure.stack),
        Some(JsonField::Type) => {
            let mut of: &[u8] = &[];
            let end = take_string(bytes, at, &mut of)?;
            json.audit = of.ends_with(b"AuditLog");
            Ok(end)
        }
    })?;
    if end > at + 2 {
        json.whole = &bytes[at..end];
    }
    Ok(end)
}
