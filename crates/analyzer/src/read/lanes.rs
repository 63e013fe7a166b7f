//! Sixteen bytes at once: where the next quote is, in text whose strings are mostly short, what JSON
//! is put together with, and what words there are.

use wide::u8x16;

/// How many bytes are looked at at once.
pub(crate) const WIDTH: usize = 16;

/// The place of the first byte that is `one` or `other`.
#[inline(always)]
pub(crate) fn find2(lanes: [u8; WIDTH], one: u8, other: u8) -> Option<usize> {
    let lanes = u8x16::new(lanes);
    let equal = lanes.simd_eq(u8x16::splat(one)) | lanes.simd_eq(u8x16::splat(other));
    let found = equal.to_bitmask();
    (found != 0).then_some(found.trailing_zeros() as usize)
}

/// Whether `bytes`, mostly a short string, hold `byte`.
#[inline]
pub(crate) fn holds(bytes: &[u8], byte: u8) -> bool {
    let first: Option<&[u8; WIDTH]> = bytes.first_chunk();
    match (first, bytes.last_chunk()) {
        // Two that may overlap hold all of it.
        (Some(first), Some(last)) if bytes.len() <= 2 * WIDTH => {
            let (first, last) = (u8x16::new(*first), u8x16::new(*last));
            let sought = u8x16::splat(byte);
            (first.simd_eq(sought) | last.simd_eq(sought)).to_bitmask() != 0
        }
        (Some(_), _) => memchr::memchr(byte, bytes).is_some(),
        _ => bytes.contains(&byte),
    }
}

/// A bit for each byte that is the same in both, the lowest for the first.
#[inline(always)]
pub(crate) fn equal(one: &[u8; 32], other: &[u8; 32]) -> u32 {
    let lanes = |bytes: &[u8; 32]| {
        let (halves, _) = bytes.as_chunks::<WIDTH>();
        [u8x16::new(halves[0]), u8x16::new(halves[1])]
    };
    let (one, other) = (lanes(one), lanes(other));
    one[0].simd_eq(other[0]).to_bitmask() | one[1].simd_eq(other[1]).to_bitmask() << WIDTH
}

/// What sixty-four bytes of JSON are put together with, a bit for each, the lowest for the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// `"`.
    pub(crate) quote: u64,
    /// `\`.
    pub(crate) escape: u64,
    /// `{` and `[`.
    pub(crate) open: u64,
    /// `}` and `]`.
    pub(crate) close: u64,
}

/// The marks among `bytes`.
#[inline(always)]
pub(crate) fn marks(bytes: &[u8; 64]) -> Marks {
    let mut marks = Marks::default();
    let (parts, _) = bytes.as_chunks::<WIDTH>();
    for (part, shift) in parts.iter().zip([0, 16, 32, 48]) {
        let lanes = u8x16::new(*part);
        let bits = |of: u8x16, byte| u64::from(of.simd_eq(u8x16::splat(byte)).to_bitmask());
        // A brace is a bracket with one more bit.
        let brackets = lanes | u8x16::splat(0x20);
        marks.quote |= bits(lanes, b'"') << shift;
        marks.escape |= bits(lanes, b'\\') << shift;
        marks.open |= bits(brackets, b'{') << shift;
        marks.close |= bits(brackets, b'}') << shift;
    }
    marks
}

/// For each bit how many at and below it are set, modulo 2: of quotes, what stands behind an opening
/// one.
#[inline(always)]
pub(crate) fn odd(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// What each of sixty-four bytes is, a bit for each, the lowest for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classes {
    /// Letters, digits, `_`, `-` and all that is not ASCII.
    pub(crate) word: u64,
    /// `0` to `9`.
    pub(crate) digit: u64,
}

/// The classes of `bytes`.
#[inline(always)]
pub(crate) fn classes(bytes: &[u8; 64]) -> Classes {
    let mut classes = Classes { word: 0, digit: 0 };
    let (parts, _) = bytes.as_chunks::<WIDTH>();
    for (part, shift) in parts.iter().zip([0, 16, 32, 48]) {
        let lanes = u8x16::new(*part);
        let equal = |byte| lanes.simd_eq(u8x16::splat(byte));
        let within = |lanes: u8x16, first: u8, many: u8| {
            let from = lanes - u8x16::splat(first);
            from.min(u8x16::splat(many - 1)).simd_eq(from)
        };
        let digit = within(lanes, b'0', 10);
        let letter = within(lanes | u8x16::splat(0x20), b'a', 26);
        // The high bit says it of what is not ASCII.
        let word = digit | letter | equal(b'_') | equal(b'-') | lanes;
        classes.digit |= u64::from(digit.to_bitmask()) << shift;
        classes.word |= u64::from(word.to_bitmask()) << shift;
    }
    classes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    #[test]
    fn bytes_that_differ_are_told() {
        for at in 0..32 {
            let mut other = [7; 32];
            other[at] = 8;
            assert_eq!(super::equal(&[7; 32], &other), !(1 << at));
        }
    }

    #[test]
    fn every_mark_is_told() {
        for (at, byte) in (0..=u8::MAX).enumerate() {
            let mut bytes = [b' '; 64];
            bytes[at % 64] = byte;
            let bit = |of: &[u8]| u64::from(of.contains(&byte)) << (at % 64);
            let (quote, escape) = (bit(b"\""), bit(b"\\"));
            let marks = super::Marks { quote, escape, open: bit(b"{["), close: bit(b"}]") };
            assert_eq!(super::marks(&bytes), marks, "{byte}");
        }
        assert_eq!(super::odd(1 << 3 | 1 << 6 | 1 << 63), 1 << 3 | 1 << 4 | 1 << 5 | 1 << 63);
    }

    #[test]
    fn every_byte_has_its_class() {
        for (at, byte) in (0..=u8::MAX).enumerate() {
            let mut bytes = [b' '; 64];
            bytes[at % 64] = byte;
            let bit = |set: bool| u64::from(set) << (at % 64);
            let word = byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || !byte.is_ascii();
            let classes = super::Classes { word: bit(word), digit: bit(byte.is_ascii_digit()) };
            assert_eq!(super::classes(&bytes), classes, "{byte}");
        }
    }

    proptest! {
        #[test]
        fn a_byte_is_found_wherever_it_stands(len in 0..70usize, at in 0..70usize) {
            let mut bytes = vec![b'a'; len];
            prop_assert!(!super::holds(&bytes, b'b'));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = b'b';
                prop_assert!(super::holds(&bytes, b'b'));
            }
        }

        #[test]
        fn the_first_of_two_bytes_is_found(lanes in any::<[u8; 16]>(), one in any::<u8>(), other in any::<u8>()) {
            let found = lanes.iter().position(|byte| *byte == one || *byte == other);
            prop_assert_eq!(super::find2(lanes, one, other), found);
            // Random bytes are rarely equal.
            let found = lanes.iter().position(|byte| *byte == lanes[9] || *byte == lanes[4]);
            prop_assert_eq!(super::find2(lanes, lanes[9], lanes[4]), found);
        }
    }
}
