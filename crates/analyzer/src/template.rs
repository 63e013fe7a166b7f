//! Message templates: what is left of a message when numbers and ids are taken out.

/// How much of a message makes its template, in bytes: the end of a long traceback is another
/// template only if its beginning differs.
const MAX_LEN: usize = 1024;

const PLAIN: u8 = 0;
const WORD: u8 = 1;
const DIGIT: u8 = 2;

static CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_digit() {
            class[byte] = DIGIT;
        } else if b.is_ascii_alphabetic() || b == b'_' || b == b'-' || b >= 0x80 {
            class[byte] = WORD;
        }
        byte += 1;
    }
    class
};

/// A hash that is the same for messages that differ only in words with digits in them: times,
/// counts, durations, addresses, ids. 0 for an empty message, and for no other.
#[inline]
pub fn template(message: &[u8]) -> u64 {
    if message.is_empty() {
        return 0;
    }
    let message = &message[..message.len().min(MAX_LEN)];
    let mut hash = 0x9e37_79b9_7f4a_7c15u64;
    let mut at = 0;
    while at < message.len() {
        let mut word = 0u64;
        let mut classes = 0u8;
        while let Some(byte) = message.get(at) {
            let class = CLASS[usize::from(*byte)];
            if class == PLAIN {
                break;
            }
            classes |= class;
            word = word.rotate_left(7) ^ u64::from(*byte) ^ (word >> 60);
            at += 1;
        }
        // A word with a digit counts as one wherever; what stands between words counts as it is.
        let word = if classes & DIGIT != 0 { 1 } else { word };
        let between = message.get(at).map_or(0, |byte| u64::from(*byte));
        at += 1;
        hash = (hash ^ word ^ (between << 56)).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    }
    hash | 1
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
}
