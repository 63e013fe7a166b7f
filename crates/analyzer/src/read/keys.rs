//! Finding what a member is by its key, with one comparison of bytes.

/// Slots of the table; more than twice as many as any set of keys, so that one is found at once.
const SLOTS: usize = 256;

/// A set of keys and what each stands for.
#[derive(Debug)]
pub(crate) struct Keys<T: 'static> {
    named: &'static [(&'static str, T)],
    /// Indices into `named`, from 1; 0 is empty.
    slots: [u8; SLOTS],
}

impl<T: Copy> Keys<T> {
    /// The table of `named`, made when the program is built.
    pub(crate) const fn new(named: &'static [(&'static str, T)]) -> Self {
        assert!(named.len() * 2 < SLOTS, "too many keys for the table");
        let mut slots = [0; SLOTS];
        let mut index = 0;
        while index < named.len() {
            let mut slot = first_slot(named[index].0.as_bytes());
            while slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = index as u8 + 1;
            index += 1;
        }
        Self { named, slots }
    }

    /// How many keys there are.
    pub(crate) const fn len(&self) -> usize {
        self.named.len()
    }

    /// What the key at a place stands for.
    pub(crate) fn at(&self, place: usize) -> T {
        self.named[place].1
    }

    /// The place of `key`.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let mut slot = first_slot(key);
        loop {
            let place = usize::from(self.slots[slot]).checked_sub(1)?;
            if same(self.named[place].0.as_bytes(), key) {
                return Some(place);
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// What `key` stands for.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<T> {
        self.find(key).map(|place| self.at(place))
    }
}

/// Equality of keys, without a call for those of usual length: two words that may overlap hold all
/// their bytes.
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && match one.len() {
            8..=16 => {
                one.first_chunk::<8>() == other.first_chunk()
                    && one.last_chunk::<8>() == other.last_chunk()
            }
            4..=7 => {
                one.first_chunk::<4>() == other.first_chunk()
                    && one.last_chunk::<4>() == other.last_chunk()
            }
            _ => one == other,
        }
}

/// Where the search for a key begins: its length and its two ends tell most keys apart.
#[inline]
const fn first_slot(key: &[u8]) -> usize {
    if key.is_empty() {
        return 0;
    }
    (key.len() * 31 + key[0] as usize * 7 + key[key.len() - 1] as usize) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::Keys;

    const NUMBERS: Keys<u8> = Keys::new(&[
        ("one", 1),
        ("two", 2),
        ("owe", 3),
        ("", 0),
        ("twelve", 12),
        ("twenty-two", 22),
    ]);

    #[test]
    fn every_key_is_found_and_no_other() {
        // `one` and `owe` begin in the same slot.
        for (key, number) in NUMBERS.named {
            assert_eq!(NUMBERS.get(key.as_bytes()), Some(*number));
        }
        // The last two differ from a key in the middle only.
        for other in ["ope", "three", "t", "oneone", "twElve", "twenty+two"] {
            assert_eq!(NUMBERS.get(other.as_bytes()), None, "{other}");
        }
    }
}
