//! Tracebacks that were cut into one entry per line, as Cloud Run does with what is printed to
//! standard error.
//!
//! A line of a traceback states little: its exception without its frames does not say who raised it,
//! its frames without their exception say nothing. What looks like a line of one is put aside, and
//! what belongs together by its time is looked at as the one text it was. What belongs to nothing is
//! looked at by itself. Pieces of one moment may come in any order.

use shakedown_core::evidence::ClockSource;

use super::line::{Line, line_of};
use super::{Place, Service};
use crate::entry::{Entry, Labels, Location, LogName, Origin, PayloadKind, Severity};
use crate::read::text::{TRACEBACK, is_chained, is_exception};
use crate::signals::Search;

/// Pieces kept per instance, first and last.
const KEEP: usize = 256;
/// Pieces of one traceback follow each other within this, in microseconds: they are written at once
/// and stamped one by one.
const APART_US: i64 = 500_000;
/// Longer lines are cut: what names a module or an address stands before.
const LONGEST: usize = 4096;

/// What a line of a traceback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// `Traceback (most recent call last):`
    Head,
    /// Where, or the code there.
    Frame,
    /// What stands between two exceptions of which one led to the other.
    Chain,
    /// What was raised.
    Exception,
}

/// A line of a traceback that is an entry of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    line: Line,
    part: Part,
    text: String,
    log: LogName,
    repeat: u64,
}

impl Piece {
    /// The piece that `entry` is, if it is one. For most entries their first byte says no.
    pub(super) fn of(entry: &Entry<'_>) -> Option<Self> {
        if !matches!(entry.severity, Severity::Default | Severity::Error | Severity::Critical)
            || entry.origin != Origin::Log
            || entry.http.is_some()
        {
            return None;
        }
        let part = entry.time.and(part(&entry.message))?;
        let mut end = entry.message.len().min(LONGEST);
        while !entry.message.is_char_boundary(end) {
            end -= 1;
        }
        Some(Self {
            line: line_of(entry, &entry.message),
            part,
            text: entry.message[..end].to_owned(),
            log: entry.log,
            repeat: entry.repeat,
        })
    }

    /// Its time, in microseconds.
    fn at(&self) -> i64 {
        self.line.at.map_or(0, jiff::Timestamp::as_microsecond)
    }

    fn place(&self) -> (Location, i64) {
        (Location { file: self.line.file, offset: self.line.offset }, self.at())
    }
}

/// What a line of a traceback it is, if it is one and nothing else.
fn part(message: &str) -> Option<Part> {
    let bytes = message.as_bytes();
    let first = *bytes.first()?;
    if !(first.is_ascii_alphabetic() || first == b' ') {
        return None;
    }
    if first == b' ' {
        // Groups of exceptions draw lines beside theirs.
        let words = message.trim_start_matches([' ', '|', '+', '-']);
        return match words.as_bytes() {
            _ if memchr::memchr(b'\n', bytes).is_some() => None,
            [b'F', b'i', b'l', b'e', b' ', b'"' | b'<', ..] => Some(Part::Frame),
            words if words.ends_with(TRACEBACK) => Some(Part::Head),
            // A frame of another language.
            [b'a', b't', b' ', ..] => None,
            words if bytes.contains(&b'|') && is_exception(words) => Some(Part::Exception),
            [c, ..] if c.is_ascii_alphabetic() || b"_^~@*".contains(c) => {
                bytes.starts_with(b"    ").then_some(Part::Frame)
            }
            _ => None,
        };
    }
    let colon = memchr::memchr2(b':', b' ', bytes).unwrap_or(bytes.len());
    let named = bytes.get(colon) != Some(&b' ') && names_exception(&bytes[..colon]);
    let begins = |words: &str| message.starts_with(words);
    let part = match () {
        () if named || begins("panic: ") || begins("called `") => Part::Exception,
        () if is_chained(bytes) => Part::Chain,
        // Tables keep no indentation.
        () if begins("File \"") || (begins("goroutine ") && message.contains(" [running]:")) => {
            Part::Frame
        }
        () if begins("thread '") && message.contains("' panicked at ") => Part::Head,
        () if bytes.trim_ascii_end().ends_with(TRACEBACK) => Part::Head,
        () => return None,
    };
    memchr::memchr(b'\n', bytes.trim_ascii_end()).is_none().then_some(part)
}

/// The name of an exception: by its ending, or a class in a module (`psycopg2.errors.UndefinedTable`).
fn names_exception(name: &[u8]) -> bool {
    let class = || {
        let mut parts = name.split(|b| *b == b'.');
        let last = parts.next_back().unwrap_or_default();
        let word = |part: &[u8]| {
            !part.is_empty() && part.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
        };
        last.first().is_some_and(u8::is_ascii_uppercase)
            && last.iter().any(u8::is_ascii_lowercase)
            && word(last)
            && parts.next_back().is_some_and(word)
            && parts.all(word)
    };
    is_exception(name) || class()
}

impl Service {
    /// Keeps a line of a traceback until the others are there.
    pub(super) fn put_aside(&mut self, piece: Piece, entry: &Entry<'_>, search: &Search) {
        let place = self.place_of(entry);
        let instance = self.instances.entry((&place).into()).or_default();
        if let Some(time) = entry.time {
            instance.times.push(time.as_microsecond());
        }
        instance.pieces.push(piece);
        for piece in surplus(&mut instance.pieces, false) {
            self.folded = true;
            alone(&piece).iter().for_each(|whole| self.read(whole, &place, search));
        }
    }

    /// Takes a text that was put together.
    fn read(&mut self, whole: &Whole<'_>, place: &Place<'_>, search: &Search) {
        let entry = whole.entry(place.0, place.1);
        let found = search.look(&entry, &entry.message);
        if !found.signals.is_empty() || !found.marks.is_empty() {
            self.classified_errors += whole.errors;
        }
        self.remember(&entry, &found);
    }

    /// Puts tracebacks together.
    pub(super) fn join(&mut self, search: &Search) {
        let places = self.instances.iter_mut().filter(|(_, instance)| !instance.pieces.is_empty());
        let places: Vec<_> = places
            .map(|(place, instance)| (place.clone(), std::mem::take(&mut instance.pieces)))
            .collect();
        for ((revision, instance), mut pieces) in places {
            let place = Place(&revision, &instance);
            for piece in surplus(&mut pieces, true) {
                self.folded = true;
                alone(&piece).iter().for_each(|whole| self.read(whole, &place, search));
            }
            for whole in wholes(&mut pieces) {
                self.read(&whole, &place, search);
            }
        }
    }
}

/// A text of one entry, put together of pieces or one of them.
struct Whole<'p> {
    /// Whose time, id and place it has: the last exception's.
    last: &'p Piece,
    text: String,
    severity: Severity,
    /// The pieces at ERROR and above.
    errors: u64,
}

impl Whole<'_> {
    /// The entry it would have been.
    fn entry<'e>(&'e self, revision: &'e str, instance: &'e str) -> Entry<'e> {
        let Piece { line, log, repeat, .. } = self.last;
        Entry {
            time: line.at,
            clock: if line.order > 0 { ClockSource::Container } else { ClockSource::Google },
            resolution_ms: 1,
            severity: self.severity,
            service: "",
            revision,
            instance,
            insert_id: &line.insert_id,
            log: *log,
            message: self.text.as_str().into(),
            payload: PayloadKind::Text,
            http: None,
            audit: None,
            labels: Labels::default(),
            origin: Origin::Log,
            repeat: *repeat,
            completes: false,
            cut: false,
            template: 0,
            location: Location { file: line.file, offset: line.offset },
            provenance: shakedown_core::Provenance::Quoted,
        }
    }

    fn of<'p>(mut pieces: Vec<&'p Piece>) -> Option<Whole<'p>> {
        let raised = pieces.iter().filter(|piece| piece.part == Part::Exception).count();
        if raised == 1 {
            // Where times do not tell, it stands last.
            pieces.sort_by_key(|piece| piece.part == Part::Exception);
        }
        let raised = pieces.iter().rfind(|piece| piece.part == Part::Exception);
        let last = *raised.or(pieces.last())?;
        let severity = pieces.iter().map(|piece| piece.line.severity).max().unwrap_or_default();
        let errors = pieces.iter().filter(|piece| piece.line.severity >= Severity::Error);
        let errors = errors.map(|piece| piece.repeat).sum();
        let lines: Vec<&str> = pieces.iter().map(|piece| piece.text.trim_end()).collect();
        Some(Whole { last, text: lines.join("\n"), severity, errors })
    }
}

/// Lets go of pieces from the middle when they are too many, or more than are kept `at_the_end`.
fn surplus(pieces: &mut Vec<Piece>, at_the_end: bool) -> Vec<Piece> {
    if pieces.len() < if at_the_end { KEEP * 2 + 1 } else { KEEP * 8 } {
        return Vec::new();
    }
    pieces.sort_by_key(|piece| (piece.at(), piece.place()));
    pieces.dedup();
    let surplus = pieces.len().saturating_sub(KEEP * 2);
    pieces.drain(KEEP..KEEP + surplus).collect()
}

/// A piece by itself.
fn alone(piece: &Piece) -> Option<Whole<'_>> {
    Whole::of(vec![piece])
}

/// The texts that the pieces of one instance were.
fn wholes(pieces: &mut Vec<Piece>) -> Vec<Whole<'_>> {
    in_order(pieces);
    let mut wholes = Vec::new();
    let mut open: Vec<&Piece> = Vec::new();
    for piece in pieces.iter() {
        if open.last().is_some_and(|last| ends(&open, last, piece)) {
            close(&mut open, &mut wholes);
        }
        open.push(piece);
    }
    close(&mut open, &mut wholes);
    wholes
}

/// Whether `next` belongs to another traceback than those before it.
fn ends(open: &[&Piece], last: &Piece, next: &Piece) -> bool {
    let apart = next.at() - last.at();
    let raised = last.part == Part::Exception;
    // Where the panic stands above its frames.
    let above = next.part == Part::Frame && open.iter().all(|o| o.part == Part::Exception);
    let another = raised && !above && next.part != Part::Chain && apart > 0;
    // Of one moment: what was raised twice was told twice.
    let again = raised && next.part == Part::Head && open.iter().any(|o| o.part == Part::Head);
    apart > APART_US || another || again
}

fn close<'p>(open: &mut Vec<&'p Piece>, wholes: &mut Vec<Whole<'p>>) {
    let pieces = std::mem::take(open);
    let whole = pieces.iter().any(|piece| matches!(piece.part, Part::Head | Part::Frame));
    if whole {
        wholes.extend(Whole::of(pieces));
    } else {
        wholes.extend(pieces.into_iter().filter_map(alone));
    }
}

/// Puts pieces in the order they were written: by time, and within one moment as the file has them,
/// backwards where the file has the newest first.
fn in_order(pieces: &mut Vec<Piece>) {
    pieces.sort_by_key(Piece::place);
    pieces.dedup();
    let mut forwards = 0_i64;
    for pair in pieces.windows(2) {
        let [one, other] = pair else { continue };
        let way = match (one.at().cmp(&other.at()), one.part, other.part) {
            _ if one.line.file != other.line.file => 0,
            (std::cmp::Ordering::Less, ..) => 1,
            (std::cmp::Ordering::Greater, ..) => -1,
            (_, Part::Head, Part::Frame) | (_, Part::Frame, Part::Exception) => 1,
            (_, Part::Frame, Part::Head) | (_, Part::Exception, Part::Frame) => -1,
            _ => 0,
        };
        forwards += way;
    }
    if forwards < 0 {
        pieces.reverse();
    }
    pieces.sort_by_key(Piece::at);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::FileId;

    /// Pieces as a file holds them: microseconds and line.
    fn pieces(lines: &[(i64, &str)]) -> Vec<Piece> {
        let piece = |(n, (at, text)): (usize, &(i64, &str))| Piece {
            line: Line {
                at: Some(jiff::Timestamp::from_microsecond(1_770_000_000_000_000 + at).unwrap()),
                order: 0,
                text: (*text).to_owned(),
                insert_id: format!("id{n}"),
                file: FileId(0),
                offset: n as u64,
                revision: String::new(),
                severity: Severity::Default,
                captured: Vec::new(),
                tolerated: false,
            },
            part: part(text).unwrap_or_else(|| panic!("{text}")),
            text: (*text).to_owned(),
            log: LogName::Stderr,
            repeat: 1,
        };
        lines.iter().enumerate().map(piece).collect()
    }

    fn texts(lines: &[(i64, &str)]) -> Vec<String> {
        wholes(&mut pieces(lines)).into_iter().map(|whole| whole.text).collect()
    }

    const HEAD: &str = "Traceback (most recent call last):";
    const FRAME: &str = "  File \"/srv/a.py\", line 3, in load";
    const CODE: &str = "    return open(path)";
    const RAISED: &str = "shop.errors.NotOpen: shelf 3";

    #[test]
    fn lines_are_put_together_whatever_the_order_of_the_file() {
        let whole = [HEAD, FRAME, CODE, RAISED].join("\n");
        assert_eq!(texts(&[(0, HEAD), (9, FRAME), (9, CODE), (20, RAISED)]), [&*whole]);
        assert_eq!(texts(&[(20, RAISED), (9, CODE), (9, FRAME), (0, HEAD)]), [&*whole]);
        assert_eq!(texts(&[(0, RAISED), (0, CODE), (0, FRAME), (0, HEAD)]), [&*whole]);
        let shuffled = texts(&[(0, CODE), (0, RAISED), (0, HEAD), (0, FRAME)]);
        assert!(shuffled.len() == 1 && shuffled[0].ends_with(RAISED), "{shuffled:?}");
    }

    #[test]
    fn two_tracebacks_stay_two_and_a_chain_is_one() {
        let one = [(0, HEAD), (1, FRAME), (2, RAISED)];
        let again = one.map(|(at, text)| (at + 40, text));
        assert_eq!(texts(&[one, again].concat()).len(), 2);
        let chain = (3, "During handling of the above exception, another exception occurred:");
        assert_eq!(texts(&[&one[..], &[chain], &again].concat()).len(), 1);
        let later = one.map(|(at, text)| (at + 2 * APART_US, text));
        assert_eq!(texts(&[one, later].concat()).len(), 2);
    }

    #[test]
    fn panics_of_other_languages_are_put_together_too() {
        let thread = "thread 'main' panicked at src/main.rs:7:9:";
        let value = "called `Result::unwrap()` on an `Err` value: PoolTimedOut";
        assert_eq!(texts(&[(0, thread), (3, value)]), [[thread, value].join("\n")]);
        let (panic, frames) = ("panic: shelf 3", "goroutine 1 [running]:");
        assert_eq!(texts(&[(0, panic), (3, frames)]), [[frames, panic].join("\n")]);
    }

    #[test]
    fn exceptions_without_frames_stay_by_themselves() {
        assert_eq!(texts(&[(0, RAISED), (5, "ValueError: 4")]), [RAISED, "ValueError: 4"]);
    }

    #[test]
    fn what_is_no_line_of_a_traceback_is_none() {
        for text in [
            "",
            "GET /carts 200",
            "ValueError raised while the cart was read",
            "    \"name\": \"indented JSON\",",
            "    at Object.<anonymous> (/srv/server.js:3:1)",
            "  two spaces",
            "ValueError: 4\nand more",
            "shop.cart: opened",
            "http://shop.example/",
        ] {
            assert_eq!(part(text), None, "{text}");
        }
        assert_eq!(part("  |   File \"/srv/a.py\", line 3, in load"), Some(Part::Frame));
        assert_eq!(part("  | ValueError: 4"), Some(Part::Exception));
        assert_eq!(part("ERROR:    Traceback (most recent call last):"), Some(Part::Head));
    }
}
