//! JUnit reports: the failed test cases of an XML file, in the words of the tests.

use memchr::memmem;

use super::MAX_ENTRY;
use super::batch::{Batch, Why};
use super::record::{Hint, Raw, Test};
use crate::entry::Origin;

/// Reads test cases. Returns how many bytes were read.
pub(crate) fn parse<'a>(bytes: &'a [u8], last: bool, batch: &mut Batch<'a>) -> usize {
    let mut at = 0;
    while let Some(start) = memmem::find(&bytes[at..], b"<testcase").map(|n| at + n) {
        let Some(tag_end) = tag_end(bytes, start) else {
            return unfinished(bytes, start, last, batch);
        };
        let open = &bytes[start..tag_end];
        if open.ends_with(b"/>") {
            batch.raws.push(case(start, open, b""));
            at = tag_end;
            continue;
        }
        let Some(close) = memmem::find(&bytes[tag_end..], b"</testcase>").map(|n| tag_end + n)
        else {
            return unfinished(bytes, start, last, batch);
        };
        batch.raws.push(case(start, open, &bytes[tag_end..close]));
        at = close + b"</testcase>".len();
    }
    // A tag may begin in the last bytes.
    if last { bytes.len() } else { at.max(bytes.len().saturating_sub(16)) }
}

fn unfinished(bytes: &[u8], start: usize, last: bool, batch: &mut Batch<'_>) -> usize {
    if last {
        batch.broken.push((start, Why::Truncated));
    } else if bytes.len() - start > MAX_ENTRY {
        batch.broken.push((start, Why::TooLong));
    } else {
        return start;
    }
    bytes.len()
}

/// The position after the tag that begins at `start`: a `>` outside quotes.
fn tag_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut quote = None;
    for (n, byte) in bytes[start..].iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(start + n + 1),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

fn case<'a>(at: usize, open: &'a [u8], inner: &'a [u8]) -> Raw<'a> {
    let failed = [&b"<failure"[..], b"<error"].iter().find_map(|tag| memmem::find(inner, tag));
    let skipped = memmem::find(inner, b"<skipped").is_some();
    let outcome: &[u8] = match failed {
        Some(_) => b"failed",
        None if skipped => b"skipped",
        None => b"passed",
    };
    let text = failed.map_or(&b""[..], |start| &inner[start..]);
    Raw {
        at,
        hint: Hint { severity: None, origin: Origin::TestResult },
        plain: true,
        text,
        text_rank: 9,
        test: Some(Box::new(Test { name: open, outcome, xml: true, ..Test::default() })),
        ..Raw::default()
    }
}

/// `class::name: outcome: message`, and the text of the failure.
pub(crate) fn message(open: &[u8], outcome: &[u8], failure: &[u8]) -> String {
    let name = attribute(open, "name").unwrap_or_default();
    let class = attribute(open, "classname").filter(|class| !class.is_empty());
    let name = class.map_or_else(|| name.clone(), |class| format!("{class}::{name}"));
    let mut out = format!("{name}: {}", String::from_utf8_lossy(outcome));
    if let Some(end) = tag_end(failure, 0) {
        let words = attribute(&failure[..end], "message").unwrap_or_default();
        let close = memmem::find(&failure[end..], b"</").map_or(failure.len(), |n| end + n);
        let inner = &failure[end..close.max(end)];
        let text = match inner.trim_ascii().strip_prefix(b"<![CDATA[") {
            Some(data) => {
                let data = data.strip_suffix(b"]]>").unwrap_or(data);
                String::from_utf8_lossy(data).into_owned()
            }
            None => unescape(inner.trim_ascii()),
        };
        for part in [words, text] {
            if !part.is_empty() && !out.contains(&part) {
                out.push_str(if out.contains('\n') { "\n" } else { ": " });
                out.push_str(&part);
            }
        }
    }
    out
}

fn attribute(tag: &[u8], name: &str) -> Option<String> {
    let mut at = 0;
    while let Some(found) = memmem::find(&tag[at..], name.as_bytes()).map(|n| at + n) {
        at = found + name.len();
        let whole = found > 0 && tag[found - 1].is_ascii_whitespace();
        let (Some(b'='), Some(quote @ (b'"' | b'\''))) = (tag.get(at), tag.get(at + 1)) else {
            continue;
        };
        let end = memchr::memchr(*quote, &tag[at + 2..])?;
        if whole {
            return Some(unescape(&tag[at + 2..at + 2 + end]));
        }
        at += 2 + end;
    }
    None
}

fn unescape(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    if !text.contains('&') {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(12).position(|b| b == b';');
        let name = end.map(|end| &rest[1..end]).unwrap_or_default();
        let c = match name {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            name => name.strip_prefix('#').and_then(|code| {
                let hex = code.strip_prefix('x').map(|hex| u32::from_str_radix(hex, 16));
                char::from_u32(hex.unwrap_or_else(|| code.parse()).ok()?)
            }),
        };
        match (c, end) {
            (Some(c), Some(end)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            _ => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}
