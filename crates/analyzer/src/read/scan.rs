//! Finding one's way in JSON without building it: strings, values, members.
//!
//! Nothing here recurses, so depth costs nothing, and nothing validates more than it must: a number
//! is whatever stands between two structural bytes. Strict reading happens where a value is used.

use std::borrow::Cow;

use super::lanes;

/// Why a value could not be passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// The bytes end within it.
    Incomplete,
    /// What stands at the position cannot stand there.
    Malformed(usize),
}

/// The first position from `at` that is no white space.
#[inline(always)]
pub(crate) fn skip_ws(bytes: &[u8], at: usize) -> usize {
    // Mostly there is none, and what is white space is not above a space.
    match bytes.get(at) {
        Some(..=b' ') => skip_many(bytes, at),
        _ => at,
    }
}

/// [`skip_ws`] within an indentation.
#[inline(never)]
fn skip_many(bytes: &[u8], mut at: usize) -> usize {
    const SPACES: u64 = u64::from_le_bytes([b' '; 8]);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            _ => break,
        }
        while let Some(next) = bytes[at..].first_chunk() {
            let other = u64::from_le_bytes(*next) ^ SPACES;
            if other != 0 {
                at += (other.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
    }
    at
}

/// The closing quote of the string whose content begins at `at`.
#[inline(always)]
pub(crate) fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, Bad> {
    // Most strings are short: the search over long ones costs more to start.
    for _ in 0..4 {
        let Some(next) = bytes.get(at..).and_then(<[u8]>::first_chunk) else { break };
        let Some(found) = lanes::find2(*next, b'"', b'\\') else {
            at += lanes::WIDTH;
            continue;
        };
        at += found;
        if bytes[at] == b'"' {
            return Ok(at);
        }
        at += 2;
    }
    long_string_end(bytes, at)
}

/// [`string_end`] without a bound.
fn long_string_end(bytes: &[u8], mut at: usize) -> Result<usize, Bad> {
    loop {
        let rest = bytes.get(at..).ok_or(Bad::Incomplete)?;
        let found = at + memchr::memchr2(b'"', b'\\', rest).ok_or(Bad::Incomplete)?;
        if bytes[found] == b'"' {
            return Ok(found);
        }
        at = found + 2;
    }
}

/// The position after the value that begins at `at`.
#[inline(always)]
pub(crate) fn skip_value(bytes: &[u8], at: usize) -> Result<usize, Bad> {
    match bytes.get(at) {
        Some(b'"') => Ok(string_end(bytes, at + 1)? + 1),
        _ => skip_other(bytes, at),
    }
}

/// [`skip_value`] for what is no string.
#[inline(never)]
fn skip_other(bytes: &[u8], at: usize) -> Result<usize, Bad> {
    match bytes.get(at) {
        None => Err(Bad::Incomplete),
        Some(b'{' | b'[') => skip_container(bytes, at),
        Some(_) => skip_scalar(bytes, at),
    }
}

fn skip_scalar(bytes: &[u8], at: usize) -> Result<usize, Bad> {
    let len = bytes[at..]
        .iter()
        .position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.'))
        .ok_or(Bad::Incomplete)?;
    if len == 0 { Err(Bad::Malformed(at)) } else { Ok(at + len) }
}

/// The position after the object or array that begins at `at`.
fn skip_container(bytes: &[u8], mut at: usize) -> Result<usize, Bad> {
    let mut depth = 0;
    loop {
        if let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let marks = lanes::marks(chunk);
            if marks.escape == 0 {
                let inside = lanes::odd(marks.quote);
                match close(&mut depth, marks.open & !inside, marks.close & !inside) {
                    Some(end) => return Ok(at + end + 1),
                    None => at += chunk.len(),
                }
                if inside >> (u64::BITS - 1) == 1 {
                    at = string_end(bytes, at)? + 1;
                }
                continue;
            }
        }
        match bytes.get(at).ok_or(Bad::Incomplete)? {
            b'"' => {
                at = string_end(bytes, at + 1)? + 1;
                // Mostly one byte stands between two strings.
                if bytes.get(at + 1) == Some(&b'"') && matches!(bytes[at], b':' | b',') {
                    at += 1;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            b'\n' => {
                at = skip_ws(bytes, at);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
}

/// Goes through what opens and closes containers in sixty-four bytes. Returns where the outermost
/// ends.
#[inline(always)]
fn close(depth: &mut u32, open: u64, mut close: u64) -> Option<usize> {
    let mut closed = 0;
    while close != 0 {
        let at = close.trailing_zeros();
        closed += 1;
        if *depth + (open & ((1 << at) - 1)).count_ones() == closed {
            return Some(at as usize);
        }
        close &= close - 1;
    }
    *depth = *depth + open.count_ones() - closed;
    None
}

/// The members of an object given as its bytes: the inside of each key, and its value's bytes.
/// Ends where the object does, or where it is broken.
pub(crate) fn members(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = if object.first() == Some(&b'{') { 1 } else { object.len() };
    std::iter::from_fn(move || {
        at = skip_ws(object, at);
        if object.get(at) == Some(&b',') {
            at = skip_ws(object, at + 1);
        }
        if object.get(at) != Some(&b'"') {
            return None;
        }
        let key_end = string_end(object, at + 1).ok()?;
        let key = &object[at + 1..key_end];
        at = skip_ws(object, key_end + 1);
        if object.get(at) != Some(&b':') {
            return None;
        }
        let start = skip_ws(object, at + 1);
        at = skip_value(object, start).ok()?;
        Some((key, &object[start..at]))
    })
}

/// The value of one member of an object given as its bytes.
pub(crate) fn member<'a>(object: &'a [u8], key: &str) -> Option<&'a [u8]> {
    members(object).find(|(found, _)| *found == key.as_bytes()).map(|(_, value)| value)
}

/// The text of a value that is a string.
pub(crate) fn string_value(value: &[u8]) -> Option<Cow<'_, str>> {
    match value {
        [b'"', inner @ .., b'"'] => Some(text(inner)),
        _ => None,
    }
}

/// The text of the inside of a JSON string. Broken escapes stay as they are, lone surrogates and
/// invalid UTF-8 become U+FFFD.
#[inline]
pub(crate) fn text(inner: &[u8]) -> Cow<'_, str> {
    if inner.is_empty() {
        return Cow::Borrowed("");
    }
    if !lanes::holds(inner, b'\\') {
        return lossy(inner);
    }
    Cow::Owned(unescape(inner))
}

/// Bytes that were looked through once for where they are text, so that no part of them need be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked<'a>(&'a str);

impl<'a> Checked<'a> {
    /// Of a block; what begins after its first byte that is no UTF-8 is looked at when asked for.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let valid = |end: usize| std::str::from_utf8(&bytes[..end]).unwrap_or_default();
        Self(simdutf8::compat::from_utf8(bytes).unwrap_or_else(|e| valid(e.valid_up_to())))
    }

    /// The text of the inside of a JSON string, see [`text`]; cheap for a part of these bytes.
    #[inline]
    pub(crate) fn text(self, inner: &'a [u8]) -> Cow<'a, str> {
        if lanes::holds(inner, b'\\') { Cow::Owned(unescape(inner)) } else { self.lossy(inner) }
    }

    /// The same as [`String::from_utf8_lossy`]; cheap for a part of these bytes.
    #[inline]
    pub(crate) fn lossy(self, part: &'a [u8]) -> Cow<'a, str> {
        // What lies where these bytes do is a part of them.
        let from = part.as_ptr().addr().wrapping_sub(self.0.as_ptr().addr());
        match self.0.get(from..from.wrapping_add(part.len())) {
            Some(text) => Cow::Borrowed(text),
            None => lossy(part),
        }
    }
}

/// The same as [`String::from_utf8_lossy`], faster for what is valid.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

fn unescape(inner: &[u8]) -> String {
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &inner[at..]) {
        out.extend_from_slice(&inner[at..at + found]);
        at += found + 2;
        match inner.get(at - 1) {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'b') => out.push(8),
            Some(b'f') => out.push(12),
            Some(b'u') => {
                let (c, len) = unicode(&inner[at..]);
                match c {
                    Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => out.extend_from_slice(b"\\u"),
                }
                at += len;
            }
            Some(quoted @ (b'"' | b'\\' | b'/')) => out.push(*quoted),
            Some(other) => out.extend_from_slice(&[b'\\', *other]),
            None => {
                out.push(b'\\');
                at -= 1;
            }
        }
    }
    out.extend_from_slice(&inner[at..]);
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// The character of the digits after `\u`, and how many bytes they and a second half take.
fn unicode(after: &[u8]) -> (Option<char>, usize) {
    let Some(first) = hex4(after) else { return (None, 0) };
    if let Some(c) = char::from_u32(first) {
        return (Some(c), 4);
    }
    let second = after.get(4..6).filter(|b| *b == b"\\u").and_then(|_| hex4(&after[6..]));
    match second {
        Some(low @ 0xdc00..=0xdfff) if first < 0xdc00 => {
            let c = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(c), 10)
        }
        _ => (Some(char::REPLACEMENT_CHARACTER), 4),
    }
}

fn hex4(digits: &[u8]) -> Option<u32> {
    let digits = digits.first_chunk::<4>()?;
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_end_where_they_end() {
        for (text, end) in [
            (r#""a\"b" ,"#, Ok(6)),
            (r#"{"a":[1,{"b":"]}"}]}x"#, Ok(20)),
            ("12.5e3,", Ok(6)),
            ("null}", Ok(4)),
            (r#"{"a":"b"#, Err(Bad::Incomplete)),
            (r#""abc\"#, Err(Bad::Incomplete)),
            (",", Err(Bad::Malformed(0))),
            (
                r#"[["0123456789012345678901234567890123456789012345678901234"],{"a":[1]},"]"]]"#,
                Ok(75),
            ),
            (
                r#"{"0123456789":"01234567890123456789012345678901234567890123456789}","b":{}}"#,
                Ok(75),
            ),
        ] {
            assert_eq!(skip_value(text.as_bytes(), 0), end, "{text}");
        }
    }

    #[test]
    fn a_million_open_brackets_are_passed_over_without_recursion() {
        let bomb = [vec![b'['; 1_000_000], vec![b']'; 1_000_000]].concat();
        assert_eq!(skip_value(&bomb, 0), Ok(2_000_000));
        assert_eq!(skip_value(&bomb[..1_500_000], 0), Err(Bad::Incomplete));
    }

    #[test]
    fn broken_escapes_stay_and_lone_surrogates_are_replaced() {
        assert_eq!(text(br"a\qb\u12"), r"a\qb\u12");
        assert_eq!(text(br"\ud83d\udd04 \ud83d x"), "\u{1f504} \u{fffd} x");
        assert_eq!(text(b"\xff"), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn parts_of_what_was_checked_are_what_they_are_alone(
            bytes in proptest::collection::vec(prop_oneof![Just(b'a'), Just(0xc3), Just(0xa4)], 0..20),
            other in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            let checked = Checked::new(&bytes);
            for from in 0..=bytes.len() {
                for to in from..=bytes.len() {
                    let part = &bytes[from..to];
                    prop_assert_eq!(checked.lossy(part), String::from_utf8_lossy(part));
                }
            }
            prop_assert_eq!(checked.lossy(&other), String::from_utf8_lossy(&other));
        }

        #[test]
        fn any_text_comes_back_from_its_json(value in any::<String>()) {
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(string_value(json.as_bytes()).unwrap(), value);
        }

        #[test]
        fn any_object_is_walked_as_serde_reads_it(
            map in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..8),
            pretty in any::<bool>(),
        ) {
            let json = if pretty {
                serde_json::to_string_pretty(&map).unwrap()
            } else {
                serde_json::to_string(&map).unwrap()
            };
            prop_assert_eq!(skip_value(json.as_bytes(), 0), Ok(json.len()));
            let walked: std::collections::BTreeMap<_, _> = members(json.as_bytes())
                .map(|(k, v)| (text(k).into_owned(), string_value(v).unwrap().into_owned()))
                .collect();
            prop_assert_eq!(walked, map);
        }

        #[test]
        fn containers_end_where_their_last_bracket_is(parts in proptest::collection::vec(
            prop_oneof![
                Just("["), Just("]"), Just("{}"), Just("\"]\""), Just("\"\\\"[\""), Just("\n  "),
                Just("\"012345678901234567890123456789\""), Just(","),
            ],
            0..40,
        )) {
            let text = format!("[{}", parts.concat());
            let mut depth = 1;
            let mut end = Err(Bad::Incomplete);
            let mut at = 1;
            for part in &parts {
                at += part.len();
                depth += i32::from(*part == "[") - i32::from(*part == "]");
                if depth == 0 {
                    end = Ok(at);
                    break;
                }
            }
            prop_assert_eq!(skip_value(text.as_bytes(), 0), end);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = skip_value(&bytes, 0);
            let _ = text(&bytes);
            let _ = members(&bytes).count();
        }
    }
}
