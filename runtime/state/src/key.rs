//! A key as the tables look it up: its hash, and a cell of two words that is the key if it is short.
//!
//! The low half of a cell's first word says what it is: up to 12, the view of a string of that
//! length (a single string column is the common key); [`INLINE`] and a length, another encoding of
//! up to 12 bytes; [`LONG`], a key whose bytes lie in the arena; [`FREE`], no key.

use arrow::array::{Array, AsArray, RecordBatch, StringViewArray};
use thalweg_stream::{KeyGroup, key};

/// Longest string, and longest other encoded key, that a cell holds (bytes).
const CELL_BYTES_MAX: usize = 12;
/// Mark of a short encoding; its length is added.
const INLINE: u32 = 0xffff_ff00;
/// Mark of a key in the arena.
const LONG: u32 = 0xffff_fffe;
/// Where the bytes of a long key that is looked up lie: in no arena.
const NOWHERE: u64 = u64::MAX;
/// Mark of a slot without a key.
const FREE: u32 = 0xffff_fffd;
/// Bytes that stand before a string in an encoded key: type tag and length.
const TEXT_HEADER: usize = 5;
/// Type tag of a string in an encoded key.
const TEXT_TAG: u8 = 0x07;

/// A cell of no key.
pub(crate) const FREE_CELL: [u64; 2] = [FREE as u64, 0];

/// An encoded key, ready to be looked up.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    hash: u64,
    /// For a long key, only what can be compared before its bytes are.
    pub(crate) cell: [u64; 2],
    pub(crate) long: &'a [u8],
}

impl<'a> Key<'a> {
    /// The key encoded as `bytes`, whose hash is `hash` ([`key::hash`]).
    #[must_use]
    pub fn new(hash: u64, bytes: &'a [u8]) -> Self {
        let (cell, long) = match bytes {
            [TEXT_TAG, a, b, c, d, text @ ..]
                if text.len() <= CELL_BYTES_MAX
                    && u32::from_le_bytes([*a, *b, *c, *d]) as usize == text.len() =>
            {
                (cell(text.len() as u32, text), &[][..])
            }
            short if short.len() <= CELL_BYTES_MAX => {
                (cell(INLINE + short.len() as u32, short), &[][..])
            }
            long => ([u64::from(LONG) | hash & !0xffff_ffff, NOWHERE], long),
        };
        Self { hash, cell, long }
    }

    /// The key that encodes and hashes `bytes` as they are.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self::new(key::hash(bytes), bytes)
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

    /// What it is looked up by.
    #[inline]
    pub(crate) fn sought(&self) -> Sought<'a> {
        Sought {
            place: place(self.cell),
            cell: self.cell,
            long: self.long,
        }
    }

    /// Whether the key's bytes lie in the arena.
    #[inline]
    pub(crate) fn is_long(&self) -> bool {
        !self.long.is_empty()
    }
}

/// What a key is looked up by; its hash is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought<'a> {
    /// Where an index looks for it.
    pub(crate) place: u64,
    pub(crate) cell: [u64; 2],
    pub(crate) long: &'a [u8],
}

/// The only key column, if it is of strings that all lie within their views: such keys need no
/// encoding ([`KeyBlock::push_views`]).
#[must_use]
pub fn short_texts<'b>(batch: &'b RecordBatch, by: &[usize]) -> Option<&'b StringViewArray> {
    let &[at] = by else { return None };
    let texts = batch.columns().get(at)?.as_string_view_opt()?;
    let long = |long, &view: &u128| long | (CELL_BYTES_MAX < view as u32 as usize);
    let short = texts.null_count() == 0 && !texts.views().iter().fold(false, long);
    short.then_some(texts)
}

/// Keys of a block of rows, laid out to be looked up together.
#[derive(Debug, Default)]
pub struct KeyBlock<'a> {
    places: Vec<u64>,
    cells: Vec<[u64; 2]>,
    /// Hashes and what of the keys lies in no cell: as many as there are keys, or none if they are
    /// of views, which are hashed only if need be.
    others: Vec<(u64, &'a [u8])>,
}

impl<'a> KeyBlock<'a> {
    /// Empties it, keeping memory.
    pub fn clear(&mut self) {
        self.places.clear();
        self.cells.clear();
        self.others.clear();
    }

    /// Adds a key; not to be mixed with [`push_views`](Self::push_views).
    pub fn push(&mut self, key: Key<'a>) {
        self.places.push(place(key.cell));
        self.cells.push(key.cell);
        self.others.push((key.hash, key.long));
    }

    /// Adds the keys that a single `Utf8View` column forms, from the views of strings of at most 12
    /// bytes (which then hold all of them). The same as encoding them.
    #[inline]
    pub fn push_views(&mut self, views: impl ExactSizeIterator<Item = u128> + Clone) {
        let cells = views.map(|view| [view as u64, (view >> 64) as u64]);
        self.places.extend(cells.clone().map(spread));
        self.cells.extend(cells);
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Where an index looks for them.
    pub(crate) fn places(&self) -> &[u64] {
        &self.places
    }

    pub(crate) fn cells(&self) -> &[[u64; 2]] {
        &self.cells
    }

    /// The key at `at`; nothing beyond the end.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<Key<'a>> {
        let cell @ [a, b] = *self.cells.get(at)?;
        let (hash, long) = match self.others.get(at) {
            Some(&other) => other,
            None => (hash_of_view(u128::from(a) | u128::from(b) << 64), &[][..]),
        };
        Some(Key { hash, cell, long })
    }

    /// What the key at `at` is looked up by; nothing beyond the end.
    pub(crate) fn sought(&self, at: usize) -> Option<Sought<'a>> {
        Some(Sought {
            place: *self.places.get(at)?,
            cell: *self.cells.get(at)?,
            long: self.others.get(at).map_or(&[], |other| other.1),
        })
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = Key<'a>> + '_ {
        (0..self.cells.len()).filter_map(|at| self.get(at))
    }
}

/// The hash of the key that a string of at most 12 bytes forms.
#[inline]
fn hash_of_view(view: u128) -> u64 {
    key::hash_short_text(view).unwrap_or_else(|| {
        // Behind the type tag the view is the encoding: length (u32), bytes.
        let mut encoded = [0; TEXT_HEADER + CELL_BYTES_MAX];
        encoded[0] = TEXT_TAG;
        encoded[1..].copy_from_slice(&view.to_le_bytes());
        key::hash(&encoded[..TEXT_HEADER + (view as u32 as usize).min(CELL_BYTES_MAX)])
    })
}

/// Where an index looks for the key of a cell, stored or not. No other process and no checkpoint knows
/// it, and it is cheaper than the hash.
#[inline]
pub(crate) fn place([a, b]: [u64; 2]) -> u64 {
    // A long key's second word is where its bytes lie.
    spread([a, if is_long(a) { 0 } else { b }])
}

/// Evenly spread bits of a short key's cell: by folding a product of its words, as XXH3 and others do.
/// As one factor may be zero, the first word is added.
#[inline]
fn spread([a, b]: [u64; 2]) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xe703_7ed1_a0b4_28db);
    (product as u64 ^ (product >> 64) as u64).wrapping_add(a.rotate_left(32))
}

fn cell(mark: u32, bytes: &[u8]) -> [u64; 2] {
    let mut raw = [0; 16];
    raw[..4].copy_from_slice(&mark.to_le_bytes());
    raw[4..4 + bytes.len()].copy_from_slice(bytes);
    let both = u128::from_le_bytes(raw);
    [both as u64, (both >> 64) as u64]
}

/// Whether a stored cell is of a key in the arena.
#[inline]
pub(crate) fn is_long(cell: u64) -> bool {
    cell as u32 == LONG
}

/// Whether a stored cell is of no key.
#[inline]
pub(crate) fn is_free(cell: u64) -> bool {
    cell as u32 == FREE
}

/// The encoded bytes of a stored key.
#[derive(Clone, Copy, Debug)]
pub struct KeyBytes<'a> {
    raw: [u8; TEXT_HEADER + CELL_BYTES_MAX],
    length: usize,
    long: Option<&'a [u8]>,
}

impl<'a> KeyBytes<'a> {
    pub(crate) fn inline(cell: [u64; 2]) -> Self {
        let both = (u128::from(cell[0]) | u128::from(cell[1]) << 64).to_le_bytes();
        let mark = cell[0] as u32;
        let mut raw = [0; TEXT_HEADER + CELL_BYTES_MAX];
        let length = if mark as usize <= CELL_BYTES_MAX {
            raw[0] = TEXT_TAG;
            raw[1..].copy_from_slice(&both);
            TEXT_HEADER + mark as usize
        } else {
            raw[..CELL_BYTES_MAX].copy_from_slice(&both[4..]);
            (mark.wrapping_sub(INLINE) as usize).min(CELL_BYTES_MAX)
        };
        Self {
            raw,
            length,
            long: None,
        }
    }

    pub(crate) fn long(bytes: &'a [u8]) -> Self {
        Self {
            raw: [0; TEXT_HEADER + CELL_BYTES_MAX],
            length: 0,
            long: Some(bytes),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.long.unwrap_or(&self.raw[..self.length])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
    use thalweg_stream::KeyEncoder;

    use super::{Key, KeyBlock, KeyBytes, short_texts};

    #[test]
    fn key_of_a_view_equals_the_encoded_key() {
        let batch = |texts: &[&str]| {
            let column = StringViewArray::from_iter_values(texts);
            RecordBatch::try_from_iter([("k", Arc::new(column) as ArrayRef)]).unwrap()
        };
        assert!(short_texts(&batch(&["a", "thirteen byte"]), &[0]).is_none());
        let texts = ["", "a", "device-1", "twelve bytes", "é"];
        let batch = batch(&texts);
        let mut block = KeyBlock::default();
        let column = short_texts(&batch, &[0]).unwrap();
        block.push_views(column.views().iter().copied());
        let mut encoder = KeyEncoder::new(vec![0]);
        encoder.encode(&batch).unwrap();
        for (row, text) in texts.iter().enumerate() {
            let encoded = Key::new(encoder.hashes()[row], encoder.key(row));
            let key = block.get(row).unwrap();
            assert_eq!(
                (key.hash(), key.cell),
                (encoded.hash(), encoded.cell),
                "{text}"
            );
            assert_eq!(KeyBytes::inline(key.cell).as_slice(), encoder.key(row));
        }
    }

    #[test]
    fn short_keys_of_other_types_are_told_apart_and_come_back() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(7), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("n", numbers, true)]).unwrap();
        let mut encoder = KeyEncoder::new(vec![0]);
        encoder.encode(&batch).unwrap();
        let mut cells = vec![
            Key::of(&[]).cell,
            Key::of(&[0; 3]).cell,
            Key::of(&[0; 4]).cell,
        ];
        for row in 0..3 {
            let key = Key::of(encoder.key(row));
            assert_eq!(KeyBytes::inline(key.cell).as_slice(), encoder.key(row));
            cells.push(key.cell);
        }
        // A string's tag and length that do not fit the bytes are no string.
        cells.push(Key::of(&[7, 9, 0, 0, 0, b'x']).cell);
        let all = cells.len();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), all);
    }
}
