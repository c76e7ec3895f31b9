//! Hash and fingerprint of keys, both at once.
//!
//! XXH3-64 and XXH3-128 of 17 to 128 bytes are made of the same products
//! (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>), which are computed once here;
//! and keys of common types are encoded into places of a fixed size, a block of rows before any of
//! it is hashed, so that the processor need not wait for its own writes.

use arrow::array::Array;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{HASH_SEED, KeyColumn, KeyEncoder, hash};
use crate::fault::Fault;

/// Longest encoded key that takes the fast path (bytes).
const BYTES_MAX: usize = 128;
/// Room that writing beyond the end of a key needs (bytes).
const MARGIN: usize = 16;
/// Rows encoded before they are hashed.
const BLOCK_ROWS: usize = 64;

type Place = [u8; BYTES_MAX + MARGIN];

/// Places of a block of keys.
#[derive(Debug)]
pub(super) struct Places(Box<[Place; BLOCK_ROWS]>);

impl Default for Places {
    fn default() -> Self {
        Self(Box::new([[0; BYTES_MAX + MARGIN]; BLOCK_ROWS]))
    }
}

impl KeyEncoder {
    /// Calls `each` with the hash of every row's key of `batch`, in order, and its fingerprint:
    /// XXH3-128 of the encoded key with the seed of the hash.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn digest(
        &mut self,
        batch: &arrow::array::RecordBatch,
        mut each: impl FnMut(u64, u128),
    ) -> Result<(), Fault> {
        let columns = self.key_columns(batch)?;
        let mut places = std::mem::take(&mut self.places);
        let rows = batch.num_rows();
        let mut lengths = [None; BLOCK_ROWS];
        for from in (0..rows).step_by(BLOCK_ROWS) {
            let block = from..(from + BLOCK_ROWS).min(rows);
            for ((row, place), length) in block.clone().zip(&mut *places.0).zip(&mut lengths) {
                *length = (columns.iter()).try_fold(0, |at, column| column.place(row, at, place));
            }
            for ((row, place), length) in block.zip(&*places.0).zip(&lengths) {
                if let Some(key) = length.and_then(|length| place.get(..length)) {
                    let (hash, print) = digest(key);
                    each(hash, print);
                    continue;
                }
                self.bytes.clear();
                for column in &columns {
                    column.encode(row, &mut self.bytes)?;
                }
                let (hash, print) = digest(&self.bytes);
                each(hash, print);
            }
        }
        self.places = places;
        self.bytes.clear();
        Ok(())
    }
}

impl KeyColumn<'_> {
    /// Writes the encoded value at `at`, and perhaps something behind; where it ends. Nothing if it
    /// does not fit or its type is not a common one.
    #[inline]
    fn place(&self, row: usize, at: usize, place: &mut Place) -> Option<usize> {
        match self {
            Self::Text(texts) if texts.is_valid(row) => {
                let view = *texts.views().get(row)?;
                let length = view as u32 as usize;
                let end = at + 5 + length;
                if end > BYTES_MAX {
                    return None;
                }
                *place.get_mut(at)? = 0x07;
                // A short view is length and bytes, as the encoding is.
                *place.get_mut(at + 1..)?.first_chunk_mut()? = view.to_le_bytes();
                if length > 12 {
                    let text = texts.value(row).as_bytes();
                    place.get_mut(at + 5..end)?.copy_from_slice(text);
                }
                Some(end)
            }
            Self::Int64(numbers) if numbers.is_valid(row) => {
                let end = at + 9;
                if end > BYTES_MAX {
                    return None;
                }
                *place.get_mut(at)? = 0x03;
                let number = numbers.values().get(row)?.to_le_bytes();
                *place.get_mut(at + 1..)?.first_chunk_mut()? = number;
                Some(end)
            }
            Self::Text(_) | Self::Int64(_) | Self::Other(_) => None,
        }
    }
}

/// The hash and the fingerprint of an encoded key.
fn digest(key: &[u8]) -> (u64, u128) {
    match key.len() {
        17..=BYTES_MAX => middle(key),
        _ => (hash(key), xxh3_128_with_seed(key, HASH_SEED)),
    }
}

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
/// The default secret, as far as inputs of up to 128 bytes use it.
const SECRET: [u8; 128] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
];

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The product of 16 bytes of the key with 16 of the secret, and the sum of the key's words.
#[inline]
fn mix(key: &[u8], at: usize, secret: usize) -> (u64, u64) {
    let (low, high) = (word(key, at), word(key, at + 8));
    let secret_low = word(&SECRET, secret).wrapping_add(HASH_SEED);
    let secret_high = word(&SECRET, secret + 8).wrapping_sub(HASH_SEED);
    let product = u128::from(low ^ secret_low) * u128::from(high ^ secret_high);
    (
        product as u64 ^ (product >> 64) as u64,
        low.wrapping_add(high),
    )
}

#[inline]
fn avalanche(mixed: u64) -> u64 {
    let mixed = (mixed ^ mixed >> 37).wrapping_mul(0x1656_6791_9e37_79f9);
    mixed ^ mixed >> 32
}

/// Of 17 to 128 bytes.
#[inline]
fn middle(key: &[u8]) -> (u64, u128) {
    let length = key.len() as u64;
    let start = length.wrapping_mul(PRIME_1);
    let (mut sum, mut low, mut high) = (start, start, 0_u64);
    // Pairs of 16 bytes from both ends, the innermost first.
    for pair in (0..key.len().div_ceil(32)).rev() {
        let (front, front_words) = mix(key, pair * 16, pair * 32);
        let (back, back_words) = mix(key, key.len() - 16 - pair * 16, pair * 32 + 16);
        sum = sum.wrapping_add(front).wrapping_add(back);
        low = low.wrapping_add(front) ^ back_words;
        high = high.wrapping_add(back) ^ front_words;
    }
    let print_low = avalanche(low.wrapping_add(high));
    let print_high = (low.wrapping_mul(PRIME_1))
        .wrapping_add(high.wrapping_mul(PRIME_4))
        .wrapping_add(length.wrapping_sub(HASH_SEED).wrapping_mul(PRIME_2));
    let print_high = 0_u64.wrapping_sub(avalanche(print_high));
    (
        avalanche(sum),
        u128::from(print_high) << 64 | u128::from(print_low),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray,
    };
    use xxhash_rust::xxh3::xxh3_128_with_seed;

    use super::{HASH_SEED, KeyEncoder, digest, hash};

    #[test]
    fn a_digest_is_what_the_two_hashes_say_at_every_length() {
        let mut random = 1_u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005) + 1;
            (random >> 33) as u8
        })
        .take(400)
        .collect();
        for length in 0..=300 {
            for from in [0, 1, 7, 100] {
                let key = &bytes[from..from + length];
                let expected = (hash(key), xxh3_128_with_seed(key, HASH_SEED));
                assert_eq!(digest(key), expected, "{length} bytes");
            }
        }
    }

    #[test]
    fn digests_of_rows_are_those_of_their_encoded_keys() {
        let rows = 200;
        let texts = (0..rows).map(|row| (row % 11 > 0).then(|| "é+x".repeat(row % 53)));
        let numbers = (0..rows as i64).map(|row| (row % 7 > 0).then(|| row << (row % 50)));
        let times = (0..rows as i64).map(|row| row * 977);
        let columns: [(_, ArrayRef); 3] = [
            ("t", Arc::new(StringViewArray::from_iter(texts))),
            ("n", Arc::new(Int64Array::from_iter(numbers))),
            (
                "at",
                Arc::new(TimestampMillisecondArray::from_iter_values(times)),
            ),
        ];
        let columns = columns.map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("equal lengths");
        for by in [
            vec![0],
            vec![1],
            vec![0, 1],
            vec![1, 0, 1],
            vec![0, 2],
            vec![],
        ] {
            let mut encoder = KeyEncoder::new(by.clone());
            let mut digests = Vec::new();
            encoder
                .digest(&batch, |hash, print| digests.push((hash, print)))
                .expect("supported types");
            encoder.encode(&batch).expect("supported types");
            for (row, &got) in digests.iter().enumerate() {
                assert_eq!(got, digest(encoder.key(row)), "{by:?} row {row}");
            }
            assert_eq!(digests.len(), rows);
        }
    }
}
