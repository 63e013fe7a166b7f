//! Records of an export are made alike: their members mostly stand in the same order, with the same
//! bytes between them. What was read once is then known by one comparison.

use super::fields::{FIELDS, Field};
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
    /// How many bytes stand from the end of its value to the beginning of the next: `,"logName":`. 0
    /// when that is not known.
    len: usize,
    next: Next,
    /// They, and zeros after them.
    between: [u128; WIDTH / 16],
    /// Which bits are of them.
    mask: [u128; WIDTH / 16],
}

impl Habit {
    fn new(between: &[u8], next: Next) -> Self {
        let (mut padded, mut mask) = ([0; WIDTH], [0; WIDTH]);
        let Some(room) = padded.get_mut(..between.len()) else { return Self::default() };
        room.copy_from_slice(between);
        mask[..between.len()].fill(0xff);
        Self { len: between.len(), next, between: halves(&padded), mask: halves(&mask) }
    }

    /// Whether it is known and goes on so here.
    #[inline(always)]
    fn is_at(&self, found: &[u8; WIDTH]) -> bool {
        let found = halves(found);
        let differs = |half: usize| (found[half] ^ self.between[half]) & self.mask[half];
        self.len > 0 && differs(0) | differs(1) == 0
    }
}

#[inline(always)]
fn halves(bytes: &[u8; WIDTH]) -> [u128; WIDTH / 16] {
    let (halves, _) = bytes.as_chunks();
    [u128::from_le_bytes(halves[0]), u128::from_le_bytes(halves[1])]
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

/// How it went on after each member the last time.
#[derive(Debug)]
pub(crate) struct Habits([Habit; FIELDS.len() + 2]);

impl Default for Habits {
    fn default() -> Self {
        Self([Habit::default(); FIELDS.len() + 2])
    }
}

impl Habits {
    /// Goes on from `at`, where the value of `member` ends.
    #[inline(always)]
    pub(crate) fn step(&mut self, bytes: &[u8], at: usize, member: Member) -> Result<Step, Bad> {
        let habit = &self.0[usize::from(member.0)];
        let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
        if found.is_some_and(|found| habit.is_at(found)) {
            // There may be more white space than the last time.
            return Ok(Step::Value(habit.next, skip_ws(bytes, at + habit.len)));
        }
        self.learn(bytes, at, member)
    }

    /// The same by looking at what is there.
    #[inline(never)]
    fn learn(&mut self, bytes: &[u8], from: usize, member: Member) -> Result<Step, Bad> {
        let mut at = skip_ws(bytes, from);
        if bytes.get(at) == Some(&b'}') {
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
        // Members without a meaning are many, and after them anything may come.
        if member != Member::OTHER {
            self.0[usize::from(member.0)] = Habit::new(&bytes[from..at], next);
        }
        Ok(Step::Value(next, at))
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
