//! Lines: JSON objects, container output with and without times, or both mixed.

use super::batch::{Batch, End, State, Why};
use super::record::{self, Hint, Raw};
use super::scan::{skip_ws, text};
use super::{MAX_ENTRY, time};
use crate::severity::Severity;
use crate::signals::METHODS;

/// Reads lines. See `State::parse`.
pub(crate) fn parse<'a>(
    bytes: &'a [u8],
    end: End,
    skipping: bool,
    batch: &mut Batch<'a>,
) -> (State, usize) {
    let mut at = 0;
    if skipping {
        match memchr::memchr(b'\n', bytes) {
            Some(newline) => at = newline + 1,
            None => return (State::Lines { skipping: true }, bytes.len()),
        }
    }
    let mut group: Option<Group<'a>> = None;
    while at < bytes.len() {
        let newline = memchr::memchr(b'\n', &bytes[at..]).map(|n| at + n);
        let next = match newline {
            Some(newline) => newline + 1,
            None if end == End::Open => break,
            None => bytes.len(),
        };
        let mut line = &bytes[at..newline.unwrap_or(bytes.len())];
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_ENTRY {
            close(&mut group, bytes, batch);
            batch.broken.push((at, Why::TooLong));
        } else if is_json(line) {
            close(&mut group, bytes, batch);
            json_line(bytes, at, at + line.len(), newline.is_none(), batch);
        } else {
            text_line(&mut group, bytes, at, line, batch);
        }
        at = next;
    }
    if end == End::Open {
        // What the next block begins with may continue the last entry.
        if let Some(group) = group.take() {
            at = group.at;
        }
        if bytes.len() - at > MAX_ENTRY {
            batch.broken.push((at, Why::TooLong));
            return (State::Lines { skipping: !bytes.ends_with(b"\n") }, bytes.len());
        }
    }
    close(&mut group, bytes, batch);
    (State::Lines { skipping: false }, at)
}

/// Whether a line is meant as a JSON object; `{'a': 1}` is Python's way to print, and text.
fn is_json(line: &[u8]) -> bool {
    let start = skip_ws(line, 0);
    line.get(start) == Some(&b'{')
        && matches!(line.get(skip_ws(line, start + 1)), Some(b'"' | b'}') | None)
}

fn json_line<'a>(bytes: &'a [u8], at: usize, end: usize, last: bool, batch: &mut Batch<'a>) {
    let line = &bytes[..end];
    let mut at = skip_ws(line, at);
    while at < end {
        let (raw, memory) = batch.slot();
        match record::parse(line, at, Hint::default(), raw, memory) {
            Ok(after) => {
                if !raw.is_entry() {
                    let text = &line[at..after];
                    *raw = Raw { at, text, text_rank: 9, plain: true, ..Raw::default() };
                }
                at = skip_ws(line, after);
                if line.get(at) == Some(&b',') {
                    at = skip_ws(line, at + 1);
                }
            }
            Err(_) => {
                batch.raws.pop();
                let why = if last { Why::Truncated } else { Why::Malformed };
                batch.broken.push((at, why));
                return;
            }
        }
    }
}

/// The lines of one text entry so far.
struct Group<'a> {
    at: usize,
    /// Where its last line that is not blank ends.
    end: usize,
    head: Line<'a>,
    traceback: Traceback,
    /// Whether a traceback that follows belongs to it.
    fails: bool,
    lines: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Traceback {
    No,
    /// Its frames: the next line that is not indented is the exception.
    Frames,
    /// After the exception.
    Done,
}

/// A line of text in its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) service: &'a [u8],
    pub(crate) stream: &'a [u8],
    pub(crate) time: &'a [u8],
    /// How long the prefix is that the application did not write.
    pub(crate) prefix: usize,
    /// What follows prefix and time.
    rest: &'a [u8],
}

/// Takes a line apart: the prefix of `docker compose logs` (`name-1  | `), the one of a container
/// runtime (`TIME stdout F `), the one of `docker logs --timestamps` and `gcloud run services logs
/// read` (a time before a line that has its own), and the line's own time.
pub(crate) fn split(line: &[u8]) -> Line<'_> {
    let mut out = Line::default();
    if let Some(bar) = memchr::memchr(b'|', &line[..line.len().min(64)]) {
        let name = line[..bar].trim_ascii_end();
        let wordlike = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
        if name.len() < bar && name.iter().all(wordlike) && name.iter().any(u8::is_ascii_alphabetic)
        {
            out.service = name;
            out.prefix = (bar + 2).min(line.len());
        }
    }
    let start = out.prefix + time::line_start(&line[out.prefix..]);
    let Some(stamp) = time::stamp(&line[start..]) else {
        out.rest = &line[out.prefix..];
        return out;
    };
    let end = start + stamp.len;
    out.time = &line[start..end];
    out.rest = &line[end..];
    for stream in [&b" stdout F "[..], b" stderr F ", b" stdout P ", b" stderr P "] {
        if out.rest.starts_with(stream) {
            out.stream = &stream[1..7];
            out.prefix = end + stream.len();
            out.rest = &line[out.prefix..];
        }
    }
    let after = out.rest.strip_prefix(b" ").or(out.rest.strip_prefix(b"\t"));
    if let Some(after) = after.filter(|_| start == 0 || line[..start].ends_with(b" ")) {
        let own = time::line_start(after);
        // The pod's or the platform's time before a line as the application wrote it.
        if time::stamp(&after[own..]).is_some() || is_json(after) || indented(out.rest) {
            out.prefix = line.len() - after.len();
            out.rest = after;
        }
    }
    out
}

/// Whether what follows a time is deeper than the one space after it.
fn indented(rest: &[u8]) -> bool {
    matches!(rest, [b' ', b' ' | b'\t', ..] | [b'\t', b' ' | b'\t', ..])
}

fn text_line<'a>(
    group: &mut Option<Group<'a>>,
    bytes: &'a [u8],
    at: usize,
    line: &'a [u8],
    batch: &mut Batch<'a>,
) {
    let parts = split(line);
    let body = &line[parts.prefix..];
    if let Some(open) = group.as_mut().filter(|open| open.end - open.at + line.len() < MAX_ENTRY)
        && continues(open, &parts, body)
    {
        if !body.trim_ascii().is_empty() {
            open.end = at + line.len();
        }
        open.lines += 1;
        return;
    }
    close(group, bytes, batch);
    if body.trim_ascii().is_empty() {
        return;
    }
    if parts.prefix > 0 && is_json(body) {
        let first = batch.raws.len();
        json_line(bytes, at + parts.prefix, at + line.len(), false, batch);
        for raw in &mut batch.raws[first..] {
            raw.at = at;
            if raw.time.is_empty() {
                raw.time = parts.time;
            }
            if raw.service.is_empty() {
                raw.service = text(parts.service);
            }
        }
        return;
    }
    let head = String::from_utf8_lossy(&body[..body.len().min(192)]);
    // Loggers write it as a message: `ERROR:    Traceback (most recent call last):`.
    let traceback = parts.rest.trim_ascii_end().ends_with(TRACEBACK);
    *group = Some(Group {
        at,
        end: at + line.len(),
        head: parts,
        traceback: if traceback { Traceback::Frames } else { Traceback::No },
        fails: Severity::from_text(&head).is_some_and(|level| level >= Severity::Warning),
        lines: 1,
    });
}

/// What stands above the frames.
pub(crate) const TRACEBACK: &[u8] = b"Traceback (most recent call last):";

fn is_traceback(rest: &[u8]) -> bool {
    rest.trim_ascii_start().starts_with(TRACEBACK)
}

/// Whether a line is a request as Next.js writes it: one space before its method.
fn is_request(rest: &[u8]) -> bool {
    let Some(told @ [b'D' | b'G' | b'H' | b'O' | b'P', ..]) = rest.strip_prefix(b" ") else {
        return false;
    };
    METHODS.iter().any(|method| {
        told.strip_prefix(method.as_bytes()).is_some_and(|path| path.starts_with(b" /"))
    })
}

/// Whether a line belongs to the entry before it.
fn continues(open: &mut Group<'_>, parts: &Line<'_>, body: &[u8]) -> bool {
    if parts.service != open.head.service {
        return false;
    }
    // What follows the runtime's prefix; for a line with only its own time, what follows that.
    let rest = if parts.prefix > 0 || parts.time.is_empty() { body } else { parts.rest };
    if body.trim_ascii().is_empty() {
        return true;
    }
    let timed = !parts.time.is_empty() && parts.prefix == 0;
    let deeper = if timed { indented(rest) } else { matches!(rest, [b' ' | b'\t', ..]) };
    if deeper {
        return !is_request(rest);
    }
    let trimmed = rest.trim_ascii_start();
    if is_traceback(trimmed) {
        let belongs = (open.fails && !timed) || open.traceback == Traceback::Frames;
        if belongs {
            open.traceback = Traceback::Frames;
        }
        return belongs;
    }
    let starts = |list: &[&[u8]]| list.iter().any(|start| trimmed.starts_with(start));
    match open.traceback {
        Traceback::No => false,
        // The exception itself, unless another line was written in between.
        Traceback::Frames if timed || Severity::from_text(&head(trimmed)).is_some() => {
            let exception = is_exception(trimmed);
            open.traceback = Traceback::Done;
            exception
        }
        Traceback::Frames => {
            open.traceback = Traceback::Done;
            true
        }
        Traceback::Done if is_chained(trimmed) => {
            open.traceback = Traceback::Frames;
            true
        }
        Traceback::Done => {
            !timed
                && starts(&[
                    b"(Background on this error",
                    b"[SQL",
                    b"[parameters",
                    b"DETAIL:",
                    b"HINT:",
                    b"CONTEXT:",
                    b"LINE ",
                ])
        }
    }
}

fn head(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&text[..text.len().min(192)])
}

/// `module.NameError: text`, or the bare name.
pub(crate) fn is_exception(line: &[u8]) -> bool {
    let name = line.iter().position(|b| matches!(b, b':' | b' ')).map_or(line, |n| &line[..n]);
    name.iter().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(b))
        && name.iter().any(u8::is_ascii_lowercase)
        && [&b"Error"[..], b"Exception", b"Exit", b"Warning", b"Interrupt", b"Timeout"]
            .iter()
            .any(|end| name.ends_with(end))
}

fn close<'a>(group: &mut Option<Group<'a>>, bytes: &'a [u8], batch: &mut Batch<'a>) {
    let Some(group) = group.take() else { return };
    // A prefix on the first line is cut off here; those of further lines when the text is read.
    let start = if group.lines == 1 { group.at + group.head.prefix } else { group.at };
    batch.raws.push(Raw {
        at: group.at,
        plain: true,
        time: group.head.time,
        time_rank: 1,
        service: text(group.head.service),
        log: group.head.stream,
        text: &bytes[start..group.end],
        text_rank: 9,
        prefixed: group.lines > 1 && group.head.prefix > 0,
        ..Raw::default()
    });
}

/// A text of several lines without the prefixes that something else put before each.
pub(crate) fn without_prefixes(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, line) in text.split(|b| *b == b'\n').enumerate() {
        if n > 0 {
            out.push('\n');
        }
        out.push_str(&String::from_utf8_lossy(&line[split(line).prefix..]));
    }
    out
}

/// Whether an entry begins with this line whatever stands before it, so that input may be divided
/// here.
pub(crate) fn begins_entry(line: &[u8]) -> bool {
    if is_json(line) {
        return true;
    }
    let parts = split(line);
    !parts.time.is_empty()
        && parts.prefix == 0
        && !indented(parts.rest)
        && !is_traceback(parts.rest)
        && !is_exception(parts.rest.trim_ascii_start())
        && !is_chained(parts.rest.trim_ascii_start())
}

/// What stands between the tracebacks of two exceptions of which one led to the other.
pub(crate) fn is_chained(line: &[u8]) -> bool {
    line.starts_with(b"During handling of the above exception")
        || line.starts_with(b"The above exception was the direct cause")
}
