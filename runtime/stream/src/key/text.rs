//! The hash of a key that is one short string, straight from its Arrow view.
//!
//! Encoding such a key writes it in pieces of other sizes than the hash reads, and the processor
//! waits for each; from registers it takes a quarter of the time. The result is that of
//! [`hash`](super::hash), as a test shows for every length.

use super::HASH_SEED;

/// Type tag of a string, the first byte of its encoding.
const TAG: u64 = 0x07;
/// Words of XXH3's default secret (bytes 24 to 56), combined and seeded as its specification says
/// for inputs of 9 to 16 bytes.
const FLIP_LOW: u64 = (0x1f67_b3b7_a4a4_4072 ^ 0x78e5_c0cc_4ee6_79cb_u64).wrapping_add(HASH_SEED);
const FLIP_HIGH: u64 = (0x2172_ffcc_7dd0_5a82 ^ 0x8e24_43f7_7446_08b8_u64).wrapping_sub(HASH_SEED);

/// The hash of the key that one non-null string forms, given its view (`Utf8View`); nothing if it
/// has fewer than 4 or more than 11 bytes.
#[inline]
#[must_use]
pub fn hash_short_text(view: u128) -> Option<u64> {
    let length = view as u32;
    if !(4..=11).contains(&length) {
        return None;
    }
    // Tag, length (u32), text: at most 16 bytes, of which the first eight and the last eight count.
    let encoded_length = length + 5;
    let low = ((view as u64) << 8 | TAG) ^ FLIP_LOW;
    let (shift, [front, back]) = ((length - 4) * 8, [view as u64, (view >> 64) as u64]);
    // Of a shift by nothing, nothing comes from behind: hence in two steps.
    let high = (front >> shift | back << 1 << (63 - shift)) ^ FLIP_HIGH;
    let product = u128::from(low) * u128::from(high);
    let mixed = u64::from(encoded_length)
        .wrapping_add(low.swap_bytes())
        .wrapping_add(high)
        .wrapping_add(product as u64 ^ (product >> 64) as u64);
    let mixed = (mixed ^ mixed >> 37).wrapping_mul(0x1656_6791_9e37_79f9);
    Some(mixed ^ mixed >> 32)
}

#[cfg(test)]
mod tests {
    use arrow::array::StringViewArray;

    use super::hash_short_text;
    use crate::key::hash;

    #[test]
    fn hash_of_a_view_is_that_of_the_encoded_key() {
        for round in 0..50_u32 {
            for length in 0..=14 {
                let text: String = (0..length)
                    .map(|at| char::from(b' ' + ((round * 31 + at * 17) % 90) as u8))
                    .collect();
                let array = StringViewArray::from_iter_values([&text]);
                let mut encoded = vec![0x07];
                encoded.extend_from_slice(&length.to_le_bytes());
                encoded.extend_from_slice(text.as_bytes());
                let expected = (4..=11).contains(&length).then(|| hash(&encoded));
                assert_eq!(hash_short_text(array.views()[0]), expected, "{text:?}");
            }
        }
    }
}
