//! JSON trees: lists of entries, and objects that hold such lists somewhere.

use memchr::memmem;

use super::MAX_ENTRY;
use super::batch::{Batch, Why};
use super::record::{self, Hint, Raw};
use super::scan::{self, Bad, skip_value, skip_ws, string_end};
use crate::entry::Origin;
use crate::severity::Severity;

/// How deep lists of entries may lie; what is deeper is passed over.
const MAX_DEPTH: usize = 16;

/// Where in a tree the next byte stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The containers around it, outermost first.
    stack: Vec<Frame>,
    /// Passing over a value too long to hold.
    skip: Option<Skip>,
    /// Looking for the next record after a broken one.
    lost: bool,
    /// How far the records of the list are indented; `None` when they do not stand on lines of
    /// their own.
    indent: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    list: bool,
    hint: Hint,
    /// Whether members with other names than the known ones are looked into too.
    deep: bool,
    /// Whether the members are messages and how often they occurred.
    counts: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Skip {
    depth: usize,
    string: bool,
    escaped: bool,
}

/// What the name of a member says about what it holds.
fn known(key: &[u8], hint: Hint) -> Option<Frame> {
    let frame = Frame { list: false, hint, deep: false, counts: false };
    let origin = |origin| Some(Frame { hint: Hint { origin, ..hint }, ..frame });
    match key {
        b"logs_by_severity"
        | b"raw_logs"
        | b"entries"
        | b"log_entries"
        | b"logs"
        | b"detailed_by_severity" => origin(Origin::Log),
        b"sample_entries" | b"samples" | b"examples" => origin(Origin::Log),
        b"issues_by_severity"
        | b"issues"
        | b"unique_messages"
        | b"errors"
        | b"warnings"
        | b"results" => origin(Origin::Summary).map(|frame| Frame {
            deep: key.starts_with(b"issues"),
            counts: key == b"unique_messages",
            ..frame
        }),
        b"tests" | b"failures" | b"error_messages" | b"failed_tests" => origin(Origin::TestResult),
        key => {
            let severity = Severity::from_word(key).or_else(|| {
                Severity::from_word(key.strip_suffix(b"S").or(key.strip_suffix(b"s"))?)
            })?;
            Some(Frame { hint: Hint { severity: Some(severity), ..hint }, ..frame })
        }
    }
}

/// A member that only a collection of entries has, never an entry.
fn is_collection(key: &[u8]) -> bool {
    matches!(
        key,
        b"logs_by_severity"
            | b"raw_logs"
            | b"log_entries"
            | b"detailed_by_severity"
            | b"issues_by_severity"
            | b"sample_entries"
            | b"entries"
            | b"tests"
    )
}

impl Tree {
    /// Reads `bytes`. Returns how many were read.
    pub(crate) fn parse<'a>(
        &mut self,
        bytes: &'a [u8],
        last: bool,
        batch: &mut Batch<'a>,
    ) -> usize {
        let mut at = 0;
        loop {
            if let Some(skip) = &mut self.skip {
                match skip.run(&bytes[at..]) {
                    Some(len) => at += len,
                    None => return bytes.len(),
                }
                self.skip = None;
            }
            if self.lost {
                match self.find_record(bytes, at) {
                    Some(found) => at = found,
                    // The mark that is looked for may begin in the last bytes.
                    None if last => return bytes.len(),
                    None => return at.max(bytes.len().saturating_sub(64)),
                }
                self.lost = false;
            }
            at = skip_ws(bytes, at);
            while bytes.get(at) == Some(&b',') {
                at = skip_ws(bytes, at + 1);
            }
            if at >= bytes.len() {
                return bytes.len();
            }
            match self.step(bytes, at, batch) {
                Ok(next) => at = next,
                Err(Bad::Malformed(_)) => {
                    batch.broken.push((at, Why::Malformed));
                    self.lost = true;
                    at += 1;
                }
                Err(Bad::Incomplete) if last => {
                    // Either the end is missing, or a quote somewhere before it: what follows is
                    // looked through once more for records that are whole.
                    let from = at + 1;
                    let rescue = self.find_record(bytes, from);
                    let why = if rescue.is_some() { Why::Malformed } else { Why::Truncated };
                    batch.broken.push((at, why));
                    match rescue {
                        Some(found) => at = found,
                        None => return bytes.len(),
                    }
                }
                Err(Bad::Incomplete) if bytes.len() - at > MAX_ENTRY => {
                    if let Some(found) = self.find_record(bytes, at + 1) {
                        batch.broken.push((at, Why::Malformed));
                        at = found;
                    } else if matches!(bytes[at], b'{' | b'[') {
                        batch.broken.push((at, Why::TooLong));
                        self.skip = Some(Skip::default());
                    } else {
                        // A member's name, or a text: its value is what is too long.
                        at = self.enter_long(bytes, at, batch);
                    }
                }
                Err(Bad::Incomplete) => return at,
            }
        }
    }

    /// Reads one value, member or closing bracket. Returns the position after it.
    #[inline]
    fn step<'a>(
        &mut self,
        bytes: &'a [u8],
        at: usize,
        batch: &mut Batch<'a>,
    ) -> Result<usize, Bad> {
        let top = self.stack.last().copied();
        match bytes[at] {
            b'{' if top.is_none_or(|top| top.list) => self.object(bytes, at, batch),
            b'[' if top.is_none_or(|top| top.list) => {
                let hint = top.map_or(Hint::default(), |top| top.hint);
                self.push(Frame { list: true, hint, deep: false, counts: false }, at)
            }
            b'}' if top.is_some_and(|top| !top.list) => self.pop(at),
            b']' if top.is_some_and(|top| top.list) => self.pop(at),
            b'"' => match top {
                Some(top) if !top.list => self.member(bytes, at, top, batch),
                _ => {
                    let end = string_end(bytes, at + 1)?;
                    self.message(at, &bytes[at + 1..end], b"", batch);
                    Ok(end + 1)
                }
            },
            _ => {
                let end = skip_value(bytes, at)?;
                batch.not_entries += 1;
                Ok(end)
            }
        }
    }

    fn push(&mut self, frame: Frame, at: usize) -> Result<usize, Bad> {
        if self.stack.len() >= MAX_DEPTH {
            self.skip = Some(Skip::default());
            return Ok(at);
        }
        self.stack.push(frame);
        Ok(at + 1)
    }

    fn pop(&mut self, at: usize) -> Result<usize, Bad> {
        self.stack.pop();
        Ok(at + 1)
    }

    /// An object where entries are expected: an entry, or a collection of them.
    #[inline]
    fn object<'a>(
        &mut self,
        bytes: &'a [u8],
        at: usize,
        batch: &mut Batch<'a>,
    ) -> Result<usize, Bad> {
        let top = self.stack.last().copied();
        let hint = top.map_or(Hint::default(), |top| top.hint);
        let inside = Frame { list: false, hint, deep: top.is_some_and(|t| t.deep), counts: false };
        if top.is_none() && has_collection(&bytes[at..]) {
            return self.push(inside, at);
        }
        let (raw, memory) = batch.slot();
        let end = record::parse(bytes, at, hint, raw, memory);
        // A report of its own day has a time too.
        let words = top.is_some() || raw.has_payload() || !raw.insert_id.is_empty();
        if end.is_ok() && raw.is_entry() && words {
            // An export's own id: an entry, whatever it is called where it stands.
            if raw.hint.origin == Origin::Summary && !raw.insert_id.is_empty() {
                raw.hint.origin = Origin::Log;
            }
            self.learn_indent(bytes, at);
            return end;
        }
        batch.raws.pop();
        let end = end?;
        if end == at + 2 {
            batch.not_entries += 1;
            return Ok(end);
        }
        // Somebody's report of their own shape: looked through for what is like an entry.
        let report = top.is_none_or(|top| top.deep);
        let origin = if report { Origin::Summary } else { hint.origin };
        self.push(Frame { deep: report, hint: Hint { origin, ..hint }, ..inside }, at)
    }

    fn member<'a>(
        &mut self,
        bytes: &'a [u8],
        at: usize,
        top: Frame,
        batch: &mut Batch<'a>,
    ) -> Result<usize, Bad> {
        let key_end = string_end(bytes, at + 1)?;
        let key = &bytes[at + 1..key_end];
        let colon = skip_ws(bytes, key_end + 1);
        match bytes.get(colon) {
            Some(b':') => {}
            None => return Err(Bad::Incomplete),
            Some(_) => return Err(Bad::Malformed(colon)),
        }
        let value = skip_ws(bytes, colon + 1);
        let first = *bytes.get(value).ok_or(Bad::Incomplete)?;
        if top.counts {
            let end = skip_value(bytes, value)?;
            self.message(at, key, &bytes[value..end], batch);
            return Ok(end);
        }
        if key == b"time_range" && first == b'{' {
            let end = skip_value(bytes, value)?;
            let range = &bytes[value..end];
            let bound = |name| scan::member(range, name).and_then(|v| v.strip_prefix(b"\""));
            if let (Some(start), Some(stop)) = (bound("start"), bound("end")) {
                batch.claims.push((start, stop));
            }
            return Ok(end);
        }
        if !matches!(first, b'{' | b'[') {
            return skip_value(bytes, value);
        }
        let frame = match known(key, top.hint) {
            Some(frame) => Frame { deep: frame.deep || top.deep, ..frame },
            None if top.deep => Frame { ..top },
            None => {
                // Passed over piece by piece, so that its length does not matter.
                self.skip = Some(Skip::default());
                return Ok(value);
            }
        };
        if first == b'{' && frame.deep {
            // One issue, under its own name.
            let (raw, memory) = batch.slot();
            let end = record::parse(bytes, value, frame.hint, raw, memory);
            if end.is_ok() && raw.text_rank > 0 {
                return end;
            }
            batch.raws.pop();
            end?;
        }
        self.push(Frame { list: first == b'[', ..frame }, value)
    }

    /// A text that stands for an entry, in a list or before its count.
    fn message<'a>(&self, at: usize, text: &'a [u8], count: &'a [u8], batch: &mut Batch<'a>) {
        let Some(top) = self.stack.last().filter(|top| top.hint.origin != Origin::Log || top.list)
        else {
            batch.not_entries += 1;
            return;
        };
        batch.raws.push(Raw { at, hint: top.hint, text, text_rank: 9, count, ..Raw::default() });
    }

    /// Goes on after a member whose value is longer than an entry may be.
    fn enter_long(&mut self, bytes: &[u8], at: usize, batch: &mut Batch<'_>) -> usize {
        batch.broken.push((at, Why::TooLong));
        let value = string_end(bytes, at + 1).map(|end| skip_ws(bytes, end + 1));
        let list = self.stack.last().is_none_or(|top| top.list);
        self.skip = Some(Skip::default());
        match value {
            Ok(colon) if !list => skip_ws(bytes, colon + 1).min(bytes.len()),
            _ => at,
        }
    }

    fn learn_indent(&mut self, bytes: &[u8], at: usize) {
        let spaces = bytes[..at].iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
        if at > spaces {
            self.indent = (bytes[at - spaces - 1] == b'\n').then_some(spaces);
        }
    }

    /// What stands before and at the first byte of a record on a line of its own.
    fn mark(&self) -> Option<Vec<u8>> {
        Some([&b"\n"[..], &vec![b' '; self.indent?], b"{"].concat())
    }

    /// The next place where a record seems to begin.
    fn find_record(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let rest = bytes.get(from..)?;
        if let Some(mark) = self.mark() {
            return memmem::find(rest, &mark).map(|n| from + n + mark.len() - 1);
        }
        memmem::find_iter(rest, b"{\"").map(|n| from + n).find(|at| begins_record(bytes, *at))
    }

    /// The last place after `from` where a record seems to begin.
    pub(crate) fn rfind_record(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let rest = bytes.get(from..)?;
        if let Some(mark) = self.mark() {
            return memmem::rfind(rest, &mark).map(|n| from + n + mark.len() - 1);
        }
        memmem::rfind_iter(rest, b"{\"").map(|n| from + n).find(|at| begins_record(bytes, *at))
    }
}

/// Whether the object at `at` seems to be a record rather than a part of one.
fn begins_record(bytes: &[u8], at: usize) -> bool {
    let before = bytes[..at].iter().rev().find(|b| !b.is_ascii_whitespace());
    let key = &bytes[at + 2..];
    matches!(before, None | Some(b',' | b'[' | b'}'))
        && FIRST.iter().any(|name| key.starts_with(name))
}

/// Members that entries begin with, and what is inside entries does not.
const FIRST: [&[u8]; 14] = [
    b"insertId\"",
    b"insert_id\"",
    b"timestamp\"",
    b"logName\"",
    b"log_name\"",
    b"textPayload\"",
    b"text_payload\"",
    b"jsonPayload\"",
    b"json_payload\"",
    b"httpRequest\"",
    b"protoPayload\"",
    b"receiveTimestamp\"",
    b"errorGroups\"",
    b"severity\"",
];

/// Whether the object at the beginning of `bytes` has a member that only collections have, as far
/// as it can be seen.
pub(crate) fn has_collection(bytes: &[u8]) -> bool {
    let mut at = skip_ws(bytes, 1);
    loop {
        if bytes.get(at) != Some(&b'"') {
            return false;
        }
        let Ok(key_end) = string_end(bytes, at + 1) else { return false };
        let colon = skip_ws(bytes, key_end + 1);
        let value = skip_ws(bytes, colon + 1);
        if is_collection(&bytes[at + 1..key_end]) && matches!(bytes.get(value), Some(b'{' | b'[')) {
            return true;
        }
        let Ok(end) = skip_value(bytes, value) else { return false };
        at = skip_ws(bytes, end);
        if bytes.get(at) != Some(&b',') {
            return false;
        }
        at = skip_ws(bytes, at + 1);
    }
}

impl Skip {
    /// Passes over a value piece by piece. Returns how much of `bytes` belonged to it when it ended
    /// here.
    fn run(&mut self, bytes: &[u8]) -> Option<usize> {
        for (n, byte) in bytes.iter().enumerate() {
            if self.string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            if self.depth == 0 && !self.string {
                return Some(n + 1);
            }
        }
        None
    }
}
