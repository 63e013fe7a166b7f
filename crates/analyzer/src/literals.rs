//! Where any of some hundred literals stand in a text.
//!
//! Most texts hold none of them, so what counts is how soon that is known. An automaton goes from
//! byte to byte and waits for memory at each; here every second place is asked alone whether a
//! literal may stand with four of its first five bytes at it, and what may is compared.

use hashbrown::HashMap;

/// What a literal is found by: its first four bytes, or the four after the first.
type Four = [u8; 4];

/// How far apart the places are that are asked: of its first bytes a literal has one `Four` for
/// each remainder.
const STEP: usize = 2;

/// Bits of the filter: 8 KiB, so that it stays in the processor's nearest cache.
const BITS: u32 = 16;

/// A set of literals to search for.
#[derive(Debug)]
pub(crate) struct Literals {
    all: Vec<String>,
    /// A bit for each `Four`, by its hash.
    filter: Box<[u64; 1 << (BITS - 6)]>,
    /// The literals that have a `Four`, by index, and how far from their beginning it is.
    by_four: HashMap<Four, Vec<(usize, usize)>>,
    /// Indices of the literals too short to have one for each remainder.
    short: Vec<usize>,
}

impl Literals {
    pub(crate) fn new(all: Vec<String>) -> Self {
        let mut filter = Box::new([0; 1 << (BITS - 6)]);
        let mut by_four: HashMap<Four, Vec<(usize, usize)>> = HashMap::new();
        let mut short = Vec::new();
        for (index, literal) in all.iter().enumerate() {
            if literal.len() < size_of::<Four>() + STEP - 1 {
                short.push(index);
                continue;
            }
            // From the last: where one place may be of two beginnings, the first comes first.
            for from in (0..STEP).rev() {
                if let Some(four) = literal.as_bytes()[from..].first_chunk() {
                    let (word, bit) = place(*four);
                    filter[word] |= bit;
                    by_four.entry(*four).or_default().push((index, from));
                }
            }
        }
        Self { all, filter, by_four, short }
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
        let mut at = 0;
        while let Some(four) = text.get(at..).and_then(<[u8]>::first_chunk) {
            let (word, bit) = place(*four);
            if self.filter[word] & bit != 0 {
                self.compare(*four, text, at, found);
            }
            at += STEP;
        }
    }

    /// Not often called, and not to be in the way of the loop.
    #[inline(never)]
    fn compare(&self, four: Four, text: &[u8], at: usize, found: &mut dyn FnMut(usize, usize)) {
        for (index, from) in self.by_four.get(&four).into_iter().flatten() {
            if let Some(begin) = at.checked_sub(*from)
                && self.stands(*index, text, begin)
            {
                found(*index, begin);
            }
        }
    }

    fn stands(&self, index: usize, text: &[u8], at: usize) -> bool {
        text[at..].starts_with(self.all[index].as_bytes())
    }
}

/// The word and the bit of the filter that stand for four bytes.
#[inline(always)]
fn place(four: Four) -> (usize, u64) {
    let hash = u32::from_le_bytes(four).wrapping_mul(0x9e37_79b1) >> (32 - BITS);
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
