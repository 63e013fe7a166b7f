//! Message templates: what is left of a message when numbers and ids are taken out.

use crate::dedup;
use crate::read::lanes::{self, Classes};

/// How much of a message makes its template, in bytes: the end of a long traceback is another
/// template only if its beginning differs.
const MAX_LEN: usize = 1024;

/// A hash that is the same for messages that differ only in words with digits in them: times,
/// counts, durations, addresses, ids. 0 for an empty message, and for no other.
#[inline]
pub fn template(message: &[u8]) -> u64 {
    if message.is_empty() {
        return 0;
    }
    let message = &message[..message.len().min(MAX_LEN)];
    let mut hash = 0;
    // What stands between words with digits counts as it is.
    let mut step = |between: &[u8]| hash = dedup::fold(hash ^ dedup::hash(between));
    // Where the last word with digits ended, and whether it goes on.
    let (mut ended, mut on) = (0, false);
    let mut at = 0;
    // Where the word begins that stands at `at`.
    let mut begun = 0;
    while at < message.len() {
        let Classes { word, mut digit } = classes_from(message, at);
        if on {
            let end = (!word).trailing_zeros();
            (ended, on) = (at + end as usize, end == u64::BITS);
            digit &= u64::MAX.unbounded_shl(end);
        }
        while digit != 0 {
            let first = digit.trailing_zeros();
            let begin = match !word & ((1 << first) - 1) {
                0 => begun,
                before => at + (u64::BITS - before.leading_zeros()) as usize,
            };
            step(&message[ended..begin]);
            let end = (first + (!word >> first).trailing_zeros()).min(u64::BITS);
            (ended, on) = (at + end as usize, end == u64::BITS);
            digit &= u64::MAX.unbounded_shl(end);
        }
        // A word that goes on and has no digit yet is looked at once more, from its beginning.
        let open = (!word).leading_zeros();
        if on || open == u64::BITS {
            at += CHUNK;
        } else {
            at += CHUNK - open as usize;
            begun = at;
        }
    }
    step(&message[ended..]);
    hash | 1
}

/// How many bytes are classed at once.
const CHUNK: usize = 64;

/// The classes of as many bytes from `at`; what is not there is of no word.
#[inline(always)]
fn classes_from(message: &[u8], at: usize) -> Classes {
    let rest = &message[at..];
    if let Some(chunk) = rest.first_chunk() {
        return lanes::classes(chunk);
    }
    // The end of a long message lies in its last chunk; that of a short one is copied.
    if let Some(last) = message.last_chunk() {
        let Classes { word, digit } = lanes::classes(last);
        let before = (CHUNK - rest.len()) as u32;
        return Classes { word: word >> before, digit: digit >> before };
    }
    let mut padded = [0; CHUNK];
    padded[..rest.len()].copy_from_slice(rest);
    lanes::classes(&padded)
}

/// How often each template occurred, for a bounded number of templates.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    /// Template and count; 0 is an empty slot.
    slots: Vec<(u64, u64)>,
    len: usize,
    beyond: u64,
}

impl Templates {
    /// How many templates are told apart. A service has some hundreds.
    pub const MAX: usize = 1 << 15;

    /// Counts one entry. Those without a message (0) do not count.
    #[inline]
    pub fn add(&mut self, template: u64) {
        self.add_many(template, 1);
    }

    fn add_many(&mut self, template: u64, many: u64) {
        if template == 0 {
            return;
        }
        if self.len * 2 >= self.slots.len() && self.slots.len() < Self::MAX * 2 {
            self.grow();
        }
        let at = self.find(template);
        if self.slots[at].0 == 0 {
            if self.len >= Self::MAX {
                self.beyond += many;
                return;
            }
            self.len += 1;
            self.slots[at].0 = template;
        }
        self.slots[at].1 += many;
    }

    fn find(&self, template: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (template >> 32) as usize & mask;
        while self.slots[at].0 != 0 && self.slots[at].0 != template {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(256);
        let old = std::mem::replace(&mut self.slots, vec![(0, 0); size]);
        for slot in old.into_iter().filter(|slot| slot.0 != 0) {
            let at = self.find(slot.0);
            self.slots[at] = slot;
        }
    }

    /// Takes over another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (template, many) in other.slots.iter().filter(|slot| slot.0 != 0) {
            self.add_many(*template, *many);
        }
        self.beyond += other.beyond;
    }

    /// How many distinct templates were counted.
    pub fn distinct(&self) -> u64 {
        self.len as u64
    }

    /// How many entries had templates beyond [`MAX`](Self::MAX).
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// How often a template occurred.
    pub fn count(&self, template: u64) -> u64 {
        if self.slots.is_empty() || template == 0 { 0 } else { self.slots[self.find(template)].1 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Templates, template};

    #[test]
    fn a_million_distinct_messages_do_not_grow_memory_without_end() {
        let mut templates = Templates::default();
        for n in 1..=200_000u64 {
            templates.add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        assert_eq!(templates.distinct(), Templates::MAX as u64);
        assert_eq!(templates.beyond(), 200_000 - Templates::MAX as u64);
        assert!(templates.slots.len() <= Templates::MAX * 2);
    }

    #[test]
    fn messages_that_differ_in_numbers_and_ids_are_one_template() {
        let same =
            ["Request 17 took 1.5ms for 0069c7a9-88ff", "Request 4 took 22.75ms for aa11bb22-0000"];
        assert_eq!(template(same[0].as_bytes()), template(same[1].as_bytes()));
        assert_ne!(template(b"pool exhausted"), template(b"pool established"));
        assert_ne!(template(b"a b"), template(b"b a"));
        assert_ne!(template(b"x"), 0);
        assert_eq!(template(b""), 0);
    }

    /// The words of a message one by one, those with digits alike.
    fn words(message: &str) -> String {
        let of_word = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c) || !c.is_ascii();
        let mut out = String::new();
        for word in message.split_inclusive(|c| !of_word(c)) {
            let end = word.trim_end_matches(|c| !of_word(c));
            let digits = end.contains(|c: char| c.is_ascii_digit());
            out.push_str(if digits { "\u{1}" } else { end });
            out.push_str(&word[end.len()..]);
        }
        out
    }

    proptest! {
        #[test]
        fn only_words_with_digits_may_differ(
            one in proptest::collection::vec("[a-]{0,30}|[a1]{0,70}|[ (]|\u{e4}", 0..12),
            at in 0..12usize,
            other in "[a1]{1,70}|[ (]|b",
        ) {
            let mut two = one.clone();
            match two.get_mut(at) {
                Some(part) => *part = other,
                None => two.push(other),
            }
            let (one, two) = (one.concat(), two.concat());
            let same = words(&one) == words(&two);
            prop_assert_eq!(template(one.as_bytes()) == template(two.as_bytes()), same);
        }
    }
}
