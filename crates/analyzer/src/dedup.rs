//! Which entries were seen before.

/// How many distinct ids are told apart exactly; beyond it an unknown id is taken as new.
pub(crate) const MAX_IDS: usize = 1_500_000;

/// Slots at the most: `MAX_IDS` fill less than three quarters of them, 16 MiB in all.
const MAX_SLOTS: usize = 1 << 21;

/// What is known about an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Not seen before.
    New,
    /// Seen before, without a payload; this copy has one.
    Completes,
    /// Seen before, and this copy adds nothing.
    Duplicate,
}

/// The ids seen so far, as hashes of 63 bits: among a million ids two share one with a probability
/// of 5 in 100 million. The lowest bit says whether a copy with a payload was seen.
#[derive(Debug, Default)]
pub(crate) struct Dedup {
    slots: Vec<u64>,
    len: usize,
    /// How many ids came after the table was full and were not in it.
    pub(crate) beyond: u64,
}

impl Dedup {
    /// Notes an id, given by its [`hash`].
    #[inline]
    pub(crate) fn see(&mut self, id: u64, payload: bool) -> Seen {
        if self.len * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let key = id | 1;
        // The table is searched by the high bits: the low one is not the id's own.
        let mut at = (id >> 20) as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                if self.len >= MAX_IDS {
                    self.beyond += 1;
                    return Seen::New;
                }
                self.slots[at] = if payload { key } else { key ^ 1 };
                self.len += 1;
                return Seen::New;
            }
            if slot | 1 == key {
                if payload && slot & 1 == 0 {
                    self.slots[at] = key;
                    return Seen::Completes;
                }
                return Seen::Duplicate;
            }
            at = (at + 1) & mask;
        }
    }

    /// Loads the slots of `ids`, which lie all over memory, at once instead of one after the other.
    pub(crate) fn touch(&self, ids: &[u64]) {
        let mask = self.slots.len().wrapping_sub(1);
        let slot = |id: &u64| self.slots.get((id >> 20) as usize & mask).copied().unwrap_or(0);
        std::hint::black_box(ids.iter().map(slot).fold(0, |all, slot| all ^ slot));
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(1 << 10);
        if size > MAX_SLOTS {
            return;
        }
        let old = std::mem::replace(&mut self.slots, vec![0; size]);
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            let mut at = (slot >> 20) as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }
}

/// The hash of an id, never one whose key would be empty.
#[inline]
pub(crate) fn hash(id: &[u8]) -> u64 {
    let mut hash = fold(0x243f_6a88_85a3_08d3 ^ id.len() as u64);
    let (words, _) = id.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word));
    }
    fold(hash ^ last(id) ^ 0x1319_8a2e_0370_7344) | 2
}

/// The last eight bytes. All of what is shorter: parts that overlap hold it, given its length.
#[inline]
fn last(id: &[u8]) -> u64 {
    if let Some(eight) = id.last_chunk() {
        return u64::from_le_bytes(*eight);
    }
    if let (Some(first), Some(last)) = (id.first_chunk(), id.last_chunk()) {
        return u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
    }
    let at = |at: usize| id.get(at).map_or(0, |byte| u64::from(*byte));
    at(0) | at(1) << 8 | at(2) << 16
}

/// Both words of a product with what has no pattern.
#[inline]
pub(crate) fn fold(word: u64) -> u64 {
    let wide = u128::from(word) * 0x9e37_79b9_7f4a_7c15;
    (wide >> 64) as u64 ^ wide as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_with_a_payload_completes_one_without() {
        let mut seen = Dedup::default();
        let id = hash(b"68c8870d000acd87ab41bf3e");
        assert_eq!(seen.see(id, false), Seen::New);
        assert_eq!(seen.see(id, false), Seen::Duplicate);
        assert_eq!(seen.see(id, true), Seen::Completes);
        assert_eq!(seen.see(id, true), Seen::Duplicate);
        assert_eq!(seen.see(id, false), Seen::Duplicate);
    }

    #[test]
    fn every_byte_of_an_id_counts_and_so_does_its_length() {
        let long = *b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let mut hashes = std::collections::BTreeSet::new();
        for len in 0..=long.len() {
            hashes.insert(hash(&long[..len]));
            for at in 0..len {
                let mut other = long;
                other[at] = 1;
                hashes.insert(hash(&other[..len]));
            }
        }
        assert_eq!(hashes.len(), (0..=long.len()).map(|len| len + 1).sum::<usize>());
    }

    #[test]
    fn ids_are_told_apart_exactly_up_to_the_bound_and_memory_stays_bounded_beyond() {
        let mut seen = Dedup::default();
        let id = |n: usize| hash(format!("{n:x}-{n}").as_bytes());
        for n in 0..MAX_IDS + 1000 {
            assert_eq!(seen.see(id(n), true), Seen::New);
        }
        for n in (0..MAX_IDS).step_by(97) {
            assert_eq!(seen.see(id(n), true), Seen::Duplicate);
        }
        assert_eq!(seen.beyond, 1000);
        assert!(seen.slots.len() <= MAX_SLOTS);
    }
}
