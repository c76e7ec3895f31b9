//! A key as the tables look it up: its hash, and its encoded bytes in words if they are few.

use thalweg_stream::KeyGroup;
use thalweg_stream::key;

/// Longest encoded key that is stored within its slot (bytes).
pub(crate) const INLINE_BYTES_MAX: usize = 23;
/// Tag of a cell whose bytes lie in the arena.
const LONG: u64 = 0xff;
/// A cell that no key has: the slot is free.
pub(crate) const FREE: u64 = 0xfe;

/// An encoded key, ready to be looked up.
///
/// Keys of up to 23 bytes (a string of up to 18, two int64) are compared as three words without
/// touching other memory.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    hash: u64,
    pub(crate) cell: [u64; 3],
    pub(crate) long: &'a [u8],
}

impl<'a> Key<'a> {
    /// The key encoded as `bytes`, whose hash is `hash` ([`key::hash`]).
    #[must_use]
    pub fn new(hash: u64, bytes: &'a [u8]) -> Self {
        if bytes.len() > INLINE_BYTES_MAX {
            let cell = [LONG | (bytes.len() as u64) << 8, 0, 0];
            return Self {
                hash,
                cell,
                long: bytes,
            };
        }
        let mut raw = [0; 24];
        raw[0] = bytes.len() as u8;
        raw[1..=bytes.len()].copy_from_slice(bytes);
        Self {
            hash,
            cell: cell_of(raw),
            long: &[],
        }
    }

    /// The key that encodes and hashes `bytes` as they are.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self::new(key::hash(bytes), bytes)
    }

    /// The key that a single `Utf8View` column forms, from the view of a string of at most 12
    /// bytes (which then holds all of it); nothing for longer ones. The same as encoding it.
    #[inline]
    #[must_use]
    pub fn of_view(view: u128) -> Option<Key<'static>> {
        let length = view as u32 as usize;
        if length > 12 {
            return None;
        }
        // 1 byte for our length, 1 for the type tag; then the view is the encoding already:
        // length (u32), bytes, zeros behind them.
        let head = (length as u64 + 5) | 0x07 << 8;
        let cell = [
            head | (view as u64) << 16,
            (view >> 48) as u64,
            (view >> 112) as u64,
        ];
        let mut raw = [0; 24];
        raw[0..8].copy_from_slice(&cell[0].to_le_bytes());
        raw[8..16].copy_from_slice(&cell[1].to_le_bytes());
        raw[16..24].copy_from_slice(&cell[2].to_le_bytes());
        Some(Key {
            hash: key::hash(&raw[1..6 + length]),
            cell,
            long: &[],
        })
    }

    /// The key's hash.
    #[inline]
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The key group the hash belongs to.
    #[inline]
    #[must_use]
    pub fn group(&self) -> KeyGroup {
        key::key_group(self.hash)
    }

    /// Whether the key's bytes lie in the arena.
    #[inline]
    pub(crate) fn is_long(&self) -> bool {
        !self.long.is_empty()
    }
}

fn cell_of(raw: [u8; 24]) -> [u64; 3] {
    let mut cell = [0; 3];
    for (word, bytes) in cell.iter_mut().zip(raw.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    cell
}

/// Length of the long key a stored cell stands for, or nothing if the cell holds the key itself.
pub(crate) fn long_length(cell: u64) -> Option<u32> {
    (cell & 0xff == LONG).then_some((cell >> 8) as u32)
}

/// The encoded bytes of a stored key.
#[derive(Clone, Copy, Debug)]
pub struct KeyBytes<'a> {
    raw: [u8; 24],
    long: Option<&'a [u8]>,
}

impl<'a> KeyBytes<'a> {
    pub(crate) fn inline(cell: [u64; 3]) -> Self {
        let mut raw = [0; 24];
        for (bytes, word) in raw.chunks_exact_mut(8).zip(cell) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self { raw, long: None }
    }

    pub(crate) fn long(bytes: &'a [u8]) -> Self {
        Self {
            raw: [0; 24],
            long: Some(bytes),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match self.long {
            Some(bytes) => bytes,
            None => &self.raw[1..=usize::from(self.raw[0]).min(INLINE_BYTES_MAX)],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
    use thalweg_stream::KeyEncoder;

    use super::{Key, KeyBytes};

    #[test]
    fn key_of_a_view_equals_the_encoded_key() {
        let texts = ["", "a", "device-1", "twelve bytes", "thirteen byte", "é"];
        let column = StringViewArray::from_iter_values(texts);
        let views: Vec<u128> = column.views().to_vec();
        let batch = RecordBatch::try_from_iter([("k", Arc::new(column) as ArrayRef)]).unwrap();
        let mut encoder = KeyEncoder::new(vec![0]);
        encoder.encode(&batch).unwrap();
        for (row, text) in texts.iter().enumerate() {
            let encoded = Key::new(encoder.hashes()[row], encoder.key(row));
            let Some(key) = Key::of_view(views[row]) else {
                assert!(text.len() > 12);
                continue;
            };
            assert_eq!(
                (key.hash(), key.cell),
                (encoded.hash(), encoded.cell),
                "{text}"
            );
            assert_eq!(KeyBytes::inline(key.cell).as_slice(), encoder.key(row));
        }
    }
}
