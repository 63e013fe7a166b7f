//! Where any of some hundred literals stand in a text.
//!
//! Most texts hold none of them, so what counts is how soon that is known. An automaton goes from
//! byte to byte and waits for memory at each; here every place is asked alone whether a literal may
//! begin with the four bytes at it, and what may is compared.

use hashbrown::HashMap;

/// What a literal is found by.
type Beginning = [u8; 4];

/// Bits of the filter: 8 KiB, so that it stays in the processor's nearest cache.
const BITS: u32 = 16;

/// A set of literals to search for.
#[derive(Debug)]
pub(crate) struct Literals {
    all: Vec<String>,
    /// A bit for each beginning, by its hash.
    filter: Box<[u64; 1 << (BITS - 6)]>,
    /// Indices of the literals with a beginning.
    by_beginning: HashMap<Beginning, Vec<usize>>,
    /// Indices of the literals too short to have one.
    short: Vec<usize>,
}

impl Literals {
    pub(crate) fn new(all: Vec<String>) -> Self {
        let mut filter = Box::new([0; 1 << (BITS - 6)]);
        let mut by_beginning: HashMap<Beginning, Vec<usize>> = HashMap::new();
        let mut short = Vec::new();
        for (index, literal) in all.iter().enumerate() {
            let Some(beginning) = literal.as_bytes().first_chunk() else {
                short.push(index);
                continue;
            };
            let (word, bit) = place(*beginning);
            filter[word] |= bit;
            by_beginning.entry(*beginning).or_default().push(index);
        }
        Self { all, filter, by_beginning, short }
    }

    /// All of them, by index.
    pub(crate) fn all(&self) -> &[String] {
        &self.all
    }

    /// Calls `found` with the index of each literal that `text` holds and where it begins, for each
    /// of its places; those of one literal in their order.
    pub(crate) fn find(&self, text: &str, found: &mut dyn FnMut(usize, usize)) {
        let text = text.as_bytes();
        for index in &self.short {
            (0..text.len())
                .filter(|at| self.stands(*index, text, *at))
                .for_each(|at| found(*index, at));
        }
        for (at, beginning) in text.windows(size_of::<Beginning>()).enumerate() {
            let Some(beginning) = beginning.first_chunk() else { return };
            let (word, bit) = place(*beginning);
            if self.filter[word] & bit != 0 {
                self.compare(*beginning, text, at, found);
            }
        }
    }

    /// Not often called, and not to be in the way of the loop.
    #[inline(never)]
    fn compare(
        &self,
        beginning: Beginning,
        text: &[u8],
        at: usize,
        found: &mut dyn FnMut(usize, usize),
    ) {
        let candidates = self.by_beginning.get(&beginning).into_iter().flatten();
        candidates
            .filter(|index| self.stands(**index, text, at))
            .for_each(|index| found(*index, at));
    }

    fn stands(&self, index: usize, text: &[u8], at: usize) -> bool {
        text[at..].starts_with(self.all[index].as_bytes())
    }
}

/// The word and the bit of the filter that stand for a beginning.
#[inline(always)]
fn place(beginning: Beginning) -> (usize, u64) {
    let hash = u32::from_le_bytes(beginning).wrapping_mul(0x9e37_79b1) >> (32 - BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Literals;

    proptest! {
        #[test]
        fn what_is_found_is_what_is_there(
            literals in prop::collection::vec("[ab\u{e4}]{1,7}", 0..20),
            text in "[ab\u{e4}]{0,60}",
        ) {
            let mut found = Vec::new();
            Literals::new(literals.clone()).find(&text, &mut |literal, at| found.push((literal, at)));
            found.sort_unstable();
            let mut there = Vec::new();
            for (index, literal) in literals.iter().enumerate() {
                let places = (0..text.len()).filter(|at| text.as_bytes()[*at..].starts_with(literal.as_bytes()));
                there.extend(places.map(|at| (index, at)));
            }
            prop_assert_eq!(found, there);
        }
    }
}
