//! Sixteen bytes at once: where the next quote is, in text whose strings are mostly short.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
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
