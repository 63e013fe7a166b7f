//! Records of an export are made alike: their members mostly stand in the same order, with the same
//! bytes between them. What was read once is then known by one comparison.

use super::fields::{FIELDS, Field};
use super::lanes;
use super::record::expect;
use super::scan::{Bad, skip_ws, string_end};

/// Which member of a record: 0 is its beginning, 1 any member without a meaning, and the others have
/// their place in [`FIELDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member(u8);

impl Member {
    const OTHER: Self = Self(1);

    fn of(place: Option<usize>) -> Self {
        place.map_or(Self::OTHER, |place| Self(place as u8 + 2))
    }
}

/// How many bytes are compared at once. What is longer is not remembered.
const WIDTH: usize = 32;

/// How it goes on after a member.
#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    /// How many bytes stand from the end of its value to the beginning of the next: `,"logName":`,
    /// or to the end of the record. 0 when that is not known.
    len: usize,
    /// `None` for the end.
    next: Option<Next>,
    /// They, and zeros after them.
    between: [u8; WIDTH],
    /// A bit for each of them.
    mask: u32,
}

impl Habit {
    fn new(between: &[u8], next: Option<Next>) -> Self {
        let mut padded = [0; WIDTH];
        let Some(room) = padded.get_mut(..between.len()) else { return Self::default() };
        room.copy_from_slice(between);
        let mask = !u32::MAX.unbounded_shl(between.len() as u32);
        Self { len: between.len(), next, between: padded, mask }
    }

    /// Whether it is known and goes on so here.
    #[inline(always)]
    fn is_at(&self, found: &[u8; WIDTH]) -> bool {
        self.len > 0 && !lanes::equal(found, &self.between) & self.mask == 0
    }

    /// Goes on so from `at`.
    #[inline(always)]
    fn step(&self, bytes: &[u8], at: usize) -> Step {
        let at = at + self.len;
        // There may be more white space than the last time.
        self.next.map_or(Step::End(at), |next| Step::Value(next, skip_ws(bytes, at)))
    }
}

/// The member that comes next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Next {
    pub(crate) member: Member,
    /// What it means.
    pub(crate) field: Option<Field>,
}

/// Where one is in a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Before the value of a member.
    Value(Next, usize),
    /// After the record.
    End(usize),
}

/// In how many ways it may go on after a member: text, JSON or request, with a severity or without.
const WAYS: usize = 4;

/// How it went on after each member.
#[derive(Debug, Default)]
pub(crate) struct Habits {
    /// None at all before the first is learnt.
    of: Vec<[Habit; WAYS]>,
    /// Which way is forgotten for the next that is new.
    oldest: usize,
}

impl Habits {
    /// Goes on from `at`, where the value of `member` ends.
    #[inline(always)]
    pub(crate) fn step(&mut self, bytes: &[u8], at: usize, member: Member) -> Result<Step, Bad> {
        if let Some([first, others @ ..]) = self.of.get(usize::from(member.0))
            && let Some(found) = bytes.get(at..).and_then(<[u8]>::first_chunk)
        {
            if first.is_at(found) {
                return Ok(first.step(bytes, at));
            }
            if let Some(other) = others.iter().find(|other| other.is_at(found)) {
                return Ok(other.step(bytes, at));
            }
        }
        // Taken apart, so that what is known above stays in registers: a call writes to memory, and
        // what is written in parts is slow to be read as a whole.
        match self.learn(bytes, at, member)? {
            Step::Value(next, at) => Ok(Step::Value(next, at)),
            Step::End(end) => Ok(Step::End(end)),
        }
    }

    /// The same by looking at what is there.
    #[inline(never)]
    fn learn(&mut self, bytes: &[u8], from: usize, member: Member) -> Result<Step, Bad> {
        let mut at = skip_ws(bytes, from);
        if bytes.get(at) == Some(&b'}') {
            self.remember(member, &bytes[from..=at], None);
            return Ok(Step::End(at + 1));
        }
        if member != Member::default() {
            expect(bytes, at, b',')?;
            at = skip_ws(bytes, at + 1);
        }
        expect(bytes, at, b'"')?;
        let key_end = string_end(bytes, at + 1)?;
        let place = FIELDS.find(&bytes[at + 1..key_end]);
        at = skip_ws(bytes, key_end + 1);
        expect(bytes, at, b':')?;
        at = skip_ws(bytes, at + 1);
        let next = Next { member: Member::of(place), field: place.map(|place| FIELDS.at(place)) };
        self.remember(member, &bytes[from..at], Some(next));
        Ok(Step::Value(next, at))
    }

    fn remember(&mut self, member: Member, between: &[u8], next: Option<Next>) {
        // Members without a meaning are many, and after them anything may come.
        if member == Member::OTHER {
            return;
        }
        self.of.resize_with(FIELDS.len() + 2, Default::default);
        let ways = &mut self.of[usize::from(member.0)];
        let place = ways.iter().position(|way| way.len == 0).unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % WAYS;
            self.oldest
        });
        ways[place] = Habit::new(between, next);
    }
}

#[cfg(test)]
mod tests {
    use super::{Habits, Member, Step};

    #[test]
    fn a_record_is_walked_the_same_whatever_came_before() {
        let records = [
            r#"{"severity":1,"nobody":2,"time":3 } "#,
            r#"{ "severity": 1 , "nobody": 2,  "time":3}"#,
            r#"{"severity":  1,"nobody":2,"time" : 3}"#,
            r#"{"time":3,"severity":1,"nobody":2,"nobody":2}"#,
            r#"{"severity":1,
                                                    "time":3}"#,
            "{}",
            "{ }",
        ];
        let values = |habits: &mut Habits, record: &str| {
            let (mut member, mut at) = (Member::default(), 1);
            let mut values = String::new();
            loop {
                match habits.step(record.as_bytes(), at, member).unwrap() {
                    Step::End(end) => return (values, end),
                    Step::Value(next, value) => {
                        values += &format!("{:?} {}\n", next.field, &record[value..=value]);
                        (member, at) = (next.member, value + 1);
                    }
                }
            }
        };
        // Long enough that what follows is compared, too.
        let records = records.map(|record| format!("{record}{}", " ".repeat(32)));
        let mut habits = Habits::default();
        for before in &records {
            for record in &records {
                let alone = values(&mut Habits::default(), record);
                values(&mut habits, before);
                assert_eq!(values(&mut habits, record), alone, "{before} {record}");
            }
        }
    }
}
