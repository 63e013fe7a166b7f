//! Where any of some hundred literals stand in a text.
//!
//! Most texts hold none of them, so what counts is how soon that is known. An automaton goes from
//! byte to byte and waits for memory at each; here every third place is asked alone whether a
//! literal may stand with four of six certain bytes at it, and what may is compared. The six are
//! those that the fewest other literals hold: words of every text are in many of them.

/// What a literal is found by: four of its bytes, as they lie.
type Four = u32;

/// How far apart the places are that are asked: of its six bytes a literal has one `Four` for each
/// remainder.
const STEP: usize = 3;

/// How many places are asked at once.
const PLACES: usize = (size_of::<u64>() - size_of::<Four>()) / STEP + 1;

/// Bits of the filter: 8 KiB, so that it stays in the processor's nearest cache.
const BITS: u32 = 16;

/// How many literals have fours, and how many bytes of each: all fours are told by 16 bits.
const MOST: usize = 1 << 14;

/// How many sets of literals are told apart before their fours are compared.
const BUCKETS: usize = 1 << 10;

/// Four bytes of a literal. Small, so that all of them stay in the nearest cache, too.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    four: Four,
    /// Which literal.
    index: u16,
    /// How far from its beginning they stand.
    from: u16,
}

/// A set of literals to search for.
#[derive(Debug)]
pub(crate) struct Literals {
    all: Vec<String>,
    /// A bit for each `Four`, by its hash.
    filter: Box<[u64; 1 << (BITS - 6)]>,
    /// What each `Four` may be of, those whose hash has the same high bits beside each other.
    fours: Vec<Candidate>,
    /// Where in `fours` those with such high bits begin, and one more for their end.
    begins: Vec<u16>,
    /// Indices of the literals too short to have one for each remainder, and of those beyond [`MOST`].
    slow: Vec<usize>,
}

impl Literals {
    pub(crate) fn new(all: Vec<String>) -> Self {
        let mut filter = Box::new([0; 1 << (BITS - 6)]);
        let mut fours = Vec::new();
        let mut slow = Vec::new();
        let mut held = vec![0u32; 1 << BITS];
        for four in all.iter().flat_map(|literal| literal.as_bytes().windows(size_of::<Four>())) {
            held[hash(read(four))] += 1;
        }
        for (index, literal) in all.iter().enumerate() {
            let known = &literal.as_bytes()[..literal.len().min(MOST)];
            let windows = known.windows(size_of::<Four>() + STEP - 1);
            let shared = |six: &[u8]| -> u32 {
                six.windows(size_of::<Four>()).map(|four| held[hash(read(four))]).sum()
            };
            let best = windows.enumerate().min_by_key(|(_, six)| shared(six));
            let Some((begin, six)) = best.filter(|_| index < MOST) else {
                slow.push(index);
                continue;
            };
            // From the last: where one place may be of two beginnings, the first comes first.
            for (from, four) in six.windows(size_of::<Four>()).enumerate().rev() {
                let four = read(four);
                let (word, bit) = place(four);
                filter[word] |= bit;
                fours.push(Candidate { four, index: index as u16, from: (begin + from) as u16 });
            }
        }
        // Stable: what stands beside each other stays in the order of its literals.
        fours.sort_by_key(|candidate| bucket(candidate.four));
        let begin = |high| fours.partition_point(|candidate| bucket(candidate.four) < high) as u16;
        let begins = (0..=BUCKETS).map(begin).collect();
        Self { all, filter, fours, begins, slow }
    }

    /// All of them, by index.
    pub(crate) fn all(&self) -> &[String] {
        &self.all
    }

    /// Calls `found` with the index of each literal that `text` holds and where it begins, for each
    /// of its places; those of one literal in their order.
    pub(crate) fn find(&self, text: &str, found: &mut dyn FnMut(usize, usize)) {
        let text = text.as_bytes();
        for index in &self.slow {
            (0..text.len())
                .filter(|at| self.stands(*index, text, *at))
                .for_each(|at| found(*index, at));
        }
        let mut ask = |four: Four, at: usize| {
            let (word, bit) = place(four);
            if self.filter[word] & bit != 0 {
                self.compare(four, text, at, found);
            }
        };
        let mut at = 0;
        while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk) {
            let eight = u64::from_le_bytes(*eight);
            for n in 0..PLACES {
                ask((eight >> (8 * STEP * n)) as u32, at + STEP * n);
            }
            at += PLACES * STEP;
        }
        while let Some(four) = text.get(at..).and_then(<[u8]>::first_chunk) {
            ask(u32::from_le_bytes(*four), at);
            at += STEP;
        }
    }

    /// Not often called, and not to be in the way of the loop.
    #[inline(never)]
    fn compare(&self, four: Four, text: &[u8], at: usize, found: &mut dyn FnMut(usize, usize)) {
        let high = bucket(four);
        let (begin, end) = (usize::from(self.begins[high]), usize::from(self.begins[high + 1]));
        for candidate in self.fours[begin..end].iter().filter(|candidate| candidate.four == four) {
            let index = usize::from(candidate.index);
            if let Some(begin) = at.checked_sub(usize::from(candidate.from))
                && self.stands(index, text, begin)
            {
                found(index, begin);
            }
        }
    }

    fn stands(&self, index: usize, text: &[u8], at: usize) -> bool {
        let literal = self.all[index].as_bytes();
        // Those that begin alike mostly differ in their last byte, which is cheaper to ask.
        text.get(at..at + literal.len())
            .is_some_and(|found| found.last() == literal.last() && found == literal)
    }
}

/// The first four of `bytes`, which has so many.
fn read(bytes: &[u8]) -> Four {
    bytes.first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

/// The word and the bit of the filter that stand for four bytes.
#[inline(always)]
fn place(four: Four) -> (usize, u64) {
    let hash = hash(four);
    (hash >> 6, 1 << (hash & 63))
}

/// The set of literals that four bytes may be of.
fn bucket(four: Four) -> usize {
    hash(four) / ((1 << BITS) / BUCKETS)
}

#[inline(always)]
fn hash(four: Four) -> usize {
    (four.wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Literals;

    proptest! {
        #[test]
        fn what_is_found_is_what_is_there(
            literals in prop::collection::vec("[ab\u{e4}]{1,9}", 0..20),
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
