//! Times as logs write them, read by hand: this runs for every entry.

use jiff::Timestamp;

/// A time as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Seconds since 1970 in UTC, or in the unknown zone when `zoned` is false.
    pub(crate) seconds: i64,
    /// Nanoseconds of the second.
    pub(crate) nanos: i32,
    /// The step of the written time, in milliseconds; finer ones count as 1.
    pub(crate) resolution_ms: u32,
    /// Whether a zone was written.
    pub(crate) zoned: bool,
    /// How many bytes it took.
    pub(crate) len: usize,
}

impl Stamp {
    /// The moment, when no zone was written in a zone `offset_s` east of UTC.
    pub(crate) fn timestamp(&self, offset_s: i32) -> Option<Timestamp> {
        let offset = if self.zoned { 0 } else { i64::from(offset_s) };
        Timestamp::new(self.seconds.checked_sub(offset)?, self.nanos).ok()
    }
}

fn two(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', ..] => Some(i64::from((a - b'0') * 10 + (b - b'0'))),
        _ => None,
    }
}

/// The number that eight digits make: pairs of neighbours are joined, three times.
fn eight(digits: [u8; 8]) -> Option<i32> {
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let values = u64::from_le_bytes(digits) ^ u64::from_le_bytes([b'0'; 8]);
    // Above 9 a value with 0x76 added, or it itself, has its high bit set.
    if (values | (values & !HIGH).wrapping_add(u64::from_le_bytes([0x76; 8]))) & HIGH != 0 {
        return None;
    }
    let twos = (values * 10 + (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    Some(((fours & 0xffff) * 10_000 + (fours >> 32)) as i32)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant's algorithm).
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Unsigned, which divides faster; an era more, so that it stays above 0.
    let year = (year + 400 - i64::from(month <= 2)) as u32;
    let (era, of_era) = (i64::from(year / 400), i64::from(year % 400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (era - 1) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The minute met last: entries mostly stand beside others of the same.
#[derive(Debug, Default)]
pub(crate) struct Minute(Option<([u8; 16], i64)>);

/// The time at the beginning of `bytes`: `2025-09-16T00:42:59.910682Z`, with a space or `T`, a
/// fraction after a dot or comma or none, a zone (`Z`, `+00:00`, ` +0000`, ` UTC`) or none, `/`
/// between the parts of the date as Go and nginx write them.
#[inline(never)]
pub(crate) fn stamp(bytes: &[u8]) -> Option<Stamp> {
    stamp_near(bytes, &mut Minute::default())
}

/// The same, of which the last minute is remembered.
#[inline(always)]
pub(crate) fn stamp_near(bytes: &[u8], near: &mut Minute) -> Option<Stamp> {
    let written = bytes.first_chunk()?;
    let begun = match near.0 {
        Some((known, begun)) if known == *written => begun,
        _ => {
            let begun = minute(written)?;
            near.0 = Some((*written, begun));
            begun
        }
    };
    let second = two(bytes.get(17..)?)?;
    if bytes[16] != b':' || second > 60 {
        return None;
    }
    let mut len = 19;
    let mut nanos = 0i32;
    let mut digits = 0u32;
    if matches!(bytes.get(19), Some(b'.' | b',')) && bytes.get(20).is_some_and(u8::is_ascii_digit) {
        len = 20;
        if let Some(first) = bytes[20..].first_chunk().and_then(|digits| eight(*digits)) {
            (nanos, digits, len) = (first, 8, 28);
        }
        while let Some(digit @ b'0'..=b'9') = bytes.get(len) {
            if digits < 9 {
                nanos = nanos * 10 + i32::from(digit - b'0');
                digits += 1;
            }
            len += 1;
        }
        nanos *= 10i32.pow(9 - digits);
    }
    let zone = zone(&bytes[len..]);
    let (offset, zone_len) = zone.unwrap_or((0, 0));
    Some(Stamp {
        // A leap second is the second it follows.
        seconds: begun + second.min(59) - offset,
        nanos,
        resolution_ms: match digits {
            0 => 1000,
            1 => 100,
            2 => 10,
            _ => 1,
        },
        zoned: zone.is_some(),
        len: len + zone_len,
    })
}

/// When the minute began that `2025-09-16T00:42` is, in seconds since 1970.
fn minute(date: &[u8; 16]) -> Option<i64> {
    let between = date[4];
    if !(between == b'-' || between == b'/')
        || date[7] != between
        || !matches!(date[10], b'T' | b't' | b' ')
        || date[13] != b':'
    {
        return None;
    }
    let year = two(date)? * 100 + two(&date[2..])?;
    let (month, day) = (two(&date[5..])?, two(&date[8..])?);
    let (hour, minute) = (two(&date[11..])?, two(&date[14..])?);
    if !(1..=12).contains(&month)
        || !(1..=month_days(year, month)).contains(&day)
        || hour > 23
        || minute > 59
    {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60)
}

/// The time a logger put at the beginning of a line, after a bracket or a colour.
pub(crate) fn in_line(line: &[u8]) -> Option<Stamp> {
    stamp(&line[line_start(line)..])
}

/// The time of a request as Apache, nginx and gunicorn write it behind who asked:
/// `10.4.0.7 - - [14/Feb/2026:06:07:05 +0000] "GET ..`.
pub(crate) fn in_access_line(line: &[u8]) -> Option<Stamp> {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let open = memchr::memchr(b'[', &line[..line.len().min(ASKER)])?;
    let written: &[u8; 28] = line[open..].first_chunk()?;
    let parts = [written[3], written[7], written[12], written[15], written[18], written[27]];
    if parts != *b"//:::]" {
        return None;
    }
    let month = MONTHS.chunks_exact(3).position(|name| *name == written[4..7])? as i64 + 1;
    let year = two(&written[8..])? * 100 + two(&written[10..])?;
    let (day, hour) = (two(&written[1..])?, two(&written[13..])?);
    let (minute, second) = (two(&written[16..])?, two(&written[19..])?);
    let (offset, _) = zone(&written[21..27])?;
    let fits =
        (1..=month_days(year, month)).contains(&day) && hour <= 23 && minute <= 59 && second <= 60;
    let begun = days(year, month, day) * 86_400 + hour * 3600 + minute * 60;
    fits.then_some(Stamp {
        seconds: begun + second.min(59) - offset,
        nanos: 0,
        resolution_ms: 1000,
        zoned: true,
        len: written.len(),
    })
}

/// Who asked stands in so many bytes before the time.
const ASKER: usize = 96;

/// How much of the beginning of a line is bracket and colour.
pub(crate) fn line_start(line: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match &line[at..] {
            [b'[' | b' ', ..] if at < 8 => at += 1,
            [0x1b, b'[', rest @ ..] if at < 32 => {
                let digits = rest.iter().take_while(|b| matches!(b, b'0'..=b'9' | b';')).count();
                if rest.get(digits) != Some(&b'm') {
                    return at;
                }
                at += digits + 3;
            }
            _ => return at,
        }
    }
}

/// Seconds east of UTC and how many bytes say so.
fn zone(bytes: &[u8]) -> Option<(i64, usize)> {
    match bytes.first()? {
        b'Z' | b'z' => Some((0, 1)),
        b' ' if bytes.starts_with(b" UTC") || bytes.starts_with(b" GMT") => Some((0, 4)),
        b' ' if matches!(bytes.get(1), Some(b'+' | b'-')) => {
            // ` -0700` is a zone, ` - module - ERROR` is not.
            let (offset, len) = zone(&bytes[1..])?;
            Some((offset, len + 1))
        }
        sign @ (b'+' | b'-') => {
            let hours = two(&bytes[1..])?;
            let colon = usize::from(bytes.get(3) == Some(&b':'));
            let (minutes, len) = match two(bytes.get(3 + colon..).unwrap_or_default()) {
                Some(minutes) => (minutes, 5 + colon),
                None if colon == 0 => (0, 3),
                None => return None,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            Some((if *sign == b'-' { -offset } else { offset }, len))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<(String, u32, bool, usize)> {
        let stamp = stamp(text.as_bytes())?;
        let at = stamp.timestamp(0)?.to_string();
        Some((at, stamp.resolution_ms, stamp.zoned, stamp.len))
    }

    #[test]
    fn times_of_every_logger_are_read() {
        for (text, at, resolution, zoned, len) in [
            ("2025-09-16T00:42:59.910682Z", "2025-09-16T00:42:59.910682Z", 1, true, 27),
            ("2025-09-15T21:37:17.707975+00:00", "2025-09-15T21:37:17.707975Z", 1, true, 32),
            ("2025-09-15 14:37:17-0700 x", "2025-09-15T21:37:17Z", 1000, true, 24),
            ("2025-09-16 00:41:13 +0000] [14]", "2025-09-16T00:41:13Z", 1000, true, 25),
            ("2025-09-07 13:35:00 - app - WARNING", "2025-09-07T13:35:00Z", 1000, false, 19),
            ("2025-09-07 13:35:00,123 ERROR", "2025-09-07T13:35:00.123Z", 1, false, 23),
            ("2025/09/07 13:35:00 [error]", "2025-09-07T13:35:00Z", 1000, false, 19),
            ("2025-09-07 13:35:00.5 UTC [9]", "2025-09-07T13:35:00.5Z", 100, true, 25),
            ("2025-09-07T13:35:00+02", "2025-09-07T11:35:00Z", 1000, true, 22),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", 1000, true, 20),
            ("2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854775807Z", 1, true, 30),
            ("2024-02-29T00:00:60Z", "2024-02-29T00:00:59Z", 1000, true, 20),
        ] {
            assert_eq!(read(text), Some((at.to_owned(), resolution, zoned, len)), "{text}");
        }
        for text in
            ["", "2025-09-16", "2025-02-29T00:00:00Z", "2025-13-01T00:00:00Z", "20250916T004259Z"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn an_access_line_has_its_time_behind_who_asked() {
        let at = |line: &str| {
            in_access_line(line.as_bytes()).and_then(|s| s.timestamp(0)).map(|at| at.to_string())
        };
        let line = "10.4.0.7 - ann [14/Feb/2026:06:07:05 -0130] \"GET / HTTP/1.1\" 200 5";
        assert_eq!(at(line).as_deref(), Some("2026-02-14T07:37:05Z"));
        for none in [
            "10.4.0.7 - - [30/Feb/2026:06:07:05 +0000] \"GET /\"",
            "10.4.0.7 - - [14/Foo/2026:06:07:05 +0000] \"GET /\"",
            "10.4.0.7 - - [14/Feb/2026:06:07:05 +0000",
            "list [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]",
            "",
        ] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_moved_by_the_assumed_one() {
        let stamp = stamp(b"2025-09-15 14:37:17").unwrap();
        assert_eq!(stamp.timestamp(-7 * 3600).unwrap().to_string(), "2025-09-15T21:37:17Z");
    }

    proptest! {
        #[test]
        fn every_time_comes_back(seconds in -62_000_000_000i64..250_000_000_000, nanos in 0i32..1_000_000_000) {
            let at = Timestamp::new(seconds, nanos).unwrap();
            let written = at.to_string();
            prop_assert_eq!(stamp(written.as_bytes()).and_then(|s| s.timestamp(0)), Some(at));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = stamp(&bytes);
        }
    }
}
