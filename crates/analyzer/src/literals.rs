//! Where any of some hundred literals stand in a text.
//!
//! Most texts hold none of them, so what counts is how soon that is known. An automaton goes from
//! byte to byte and waits for memory at each; here every third place is asked alone whether a
//! literal may stand with five of seven certain bytes at it, and what may is compared. The seven are
//! those that the fewest other literals hold, and of them what is least like plain words: what
//! stands in every text is in many of them.

/// What a literal is found by: five of its bytes, as they lie, above three zeros.
type Five = u64;

/// How many bytes make a `Five`.
const WIDTH: usize = 5;

/// How far apart the places are that are asked: of its seven bytes a literal has one `Five` for each
/// remainder.
const STEP: usize = 3;

/// How many bytes of a literal are for finding it.
const SPAN: usize = WIDTH + STEP - 1;

/// How many places are asked at once.
const PLACES: usize = (size_of::<Five>() - WIDTH) / STEP + 1;

/// Bits of the filter: 8 KiB, so that it stays in the processor's nearest cache.
const BITS: u32 = 16;

/// How many sets of literals are told apart before their fives are compared.
const BUCKETS: usize = 1 << 12;

/// Five bytes of a literal.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    five: Five,
    /// Which literal.
    index: usize,
    /// Where it begins, counted from them.
    begin: isize,
}

/// A set of literals to search for.
#[derive(Debug)]
pub(crate) struct Literals {
    all: Vec<String>,
    /// A bit for each `Five`, by its hash.
    filter: Box<[u64; 1 << (BITS - 6)]>,
    /// What each `Five` may be of, those whose hash has the same high bits beside each other.
    fives: Vec<Candidate>,
    /// Where in `fives` those with such high bits begin, and one more for their end.
    begins: Vec<u32>,
    /// Indices of the literals too short to have one for each remainder.
    short: Vec<usize>,
}

impl Literals {
    pub(crate) fn new(all: Vec<String>) -> Self {
        let mut fives = Vec::new();
        let mut short = Vec::new();
        let mut held = vec![0u32; 1 << BITS];
        for five in all.iter().flat_map(|literal| literal.as_bytes().windows(WIDTH)) {
            held[hash(read(five))] += 1;
        }
        let common = |span: &[u8]| {
            let shared = |five| held[hash(read(five))];
            let plain = |byte: &&u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b' ');
            (span.windows(WIDTH).map(shared).sum::<u32>(), span.iter().filter(plain).count())
        };
        for (index, literal) in all.iter().enumerate() {
            let literal = literal.as_bytes();
            let rarest = literal.windows(SPAN).enumerate().min_by_key(|(_, span)| common(span));
            let (from, span) = match rarest {
                Some(rarest) => rarest,
                // One byte too few: the one before it may be any.
                None if literal.len() == SPAN - 1 => (0, literal),
                None => {
                    short.push(index);
                    continue;
                }
            };
            // From the last: where one place may be of two beginnings, the first comes first.
            for (at, five) in span.windows(WIDTH).enumerate().rev() {
                fives.push(Candidate { five: read(five), index, begin: -((from + at) as isize) });
            }
            if span.len() < SPAN {
                fives.extend((0..=u8::MAX).map(|before| {
                    let five = [before, span[0], span[1], span[2], span[3]];
                    Candidate { five: read(&five), index, begin: 1 }
                }));
            }
        }
        let mut filter = Box::new([0; 1 << (BITS - 6)]);
        for candidate in &fives {
            let (word, bit) = place(candidate.five);
            filter[word] |= bit;
        }
        // Stable: what stands beside each other stays in the order of its literals.
        fives.sort_by_key(|candidate| bucket(candidate.five));
        let begin = |high| fives.partition_point(|candidate| bucket(candidate.five) < high) as u32;
        let begins = (0..=BUCKETS).map(begin).collect();
        Self { all, filter, fives, begins, short }
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
        let mut ask = |five: Five, at: usize| {
            let (word, bit) = place(five);
            if self.filter[word] & bit != 0 {
                self.compare(five, text, at, found);
            }
        };
        let mut at = 0;
        while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk) {
            let eight = u64::from_le_bytes(*eight);
            for n in 0..PLACES {
                ask(eight >> (8 * STEP * n) << UNUSED, at + STEP * n);
            }
            at += PLACES * STEP;
        }
        while let Some(five) = text.get(at..at + WIDTH) {
            ask(read(five), at);
            at += STEP;
        }
    }

    /// Not often called, and not to be in the way of the loop.
    #[inline(never)]
    fn compare(&self, five: Five, text: &[u8], at: usize, found: &mut dyn FnMut(usize, usize)) {
        let high = bucket(five);
        let (begin, end) = (self.begins[high] as usize, self.begins[high + 1] as usize);
        for candidate in self.fives[begin..end].iter().filter(|candidate| candidate.five == five) {
            if let Some(begin) = at.checked_add_signed(candidate.begin)
                && self.stands(candidate.index, text, begin)
            {
                found(candidate.index, begin);
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

/// The bits of a `Five` below its bytes.
const UNUSED: usize = 8 * (size_of::<Five>() - WIDTH);

/// Of five bytes.
fn read(bytes: &[u8]) -> Five {
    bytes.iter().rev().fold(0, |five, byte| five << 8 | Five::from(*byte)) << UNUSED
}

/// The word and the bit of the filter that stand for five bytes.
#[inline(always)]
fn place(five: Five) -> (usize, u64) {
    let hash = hash(five);
    (hash >> 6, 1 << (hash & 63))
}

/// The set of literals that five bytes may be of.
fn bucket(five: Five) -> usize {
    hash(five) / ((1 << BITS) / BUCKETS)
}

#[inline(always)]
fn hash(five: Five) -> usize {
    (five.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BITS)) as usize
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
