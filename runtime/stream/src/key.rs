//! The key encoding, its hash and key groups: part of the checkpoint format, never to change.
//!
//! A key is the concatenation of its columns, each a type tag and a value, little-endian:
//!
//! | tag | type | value |
//! |---|---|---|
//! | `00` | null of any type | none |
//! | `01` | bool | one byte, 0 or 1 |
//! | `02` `03` | int32, int64 | 4, 8 bytes |
//! | `04` `05` | float32, float64 | 4, 8 bytes; −0 becomes 0, every NaN the same quiet NaN |
//! | `06` | decimal | 16 bytes, unscaled |
//! | `07` `08` | string or json, binary | length (u32), bytes |
//! | `09` `0a` | date, timestamp | 4, 8 bytes |
//! | `0b` | list | item count (u32), each item as above |
//!
//! The hash is XXH3-64 with seed [`HASH_SEED`]; its top eight bits are the key group.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMillisecondType,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::fault::Fault;

mod digest;
mod text;

pub use text::hash_short_text;

/// Number of key groups: the unit in which keyed state moves between workers.
pub const KEY_GROUPS: usize = 256;
/// Seed of the key hash ("thalweg" in ASCII).
pub const HASH_SEED: u64 = 0x0074_6861_6c77_6567;

/// One of 256 groups of keys.
pub type KeyGroup = u8;

/// The hash of an encoded key.
#[inline]
#[must_use]
pub fn hash(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, HASH_SEED)
}

/// The key group of a key's hash.
#[inline]
#[must_use]
pub fn key_group(hash: u64) -> KeyGroup {
    (hash >> 56) as KeyGroup
}

/// The worker, of `workers`, that owns a key group: contiguous ranges.
#[must_use]
pub fn owner(group: KeyGroup, workers: usize) -> usize {
    usize::from(group) * workers / KEY_GROUPS
}

/// Encodes and hashes the keys of batches. Buffers are reused from batch to batch.
#[derive(Debug, Default)]
pub struct KeyEncoder {
    columns: Vec<usize>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    hashes: Vec<u64>,
    places: digest::Places,
}

impl KeyEncoder {
    /// An encoder of the key that `columns` (positions in the batch) form.
    #[must_use]
    pub fn new(columns: Vec<usize>) -> Self {
        Self {
            columns,
            ..Self::default()
        }
    }

    /// Encodes every row's key of `batch`; read them with [`key`](Self::key) and
    /// [`hashes`](Self::hashes).
    ///
    /// # Errors
    /// A bug if a column is missing or of a type that no stream has.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<(), Fault> {
        self.bytes.clear();
        self.ends.clear();
        self.hashes.clear();
        let columns = self.key_columns(batch)?;
        for row in 0..batch.num_rows() {
            let start = self.bytes.len();
            for column in &columns {
                column.encode(row, &mut self.bytes)?;
            }
            self.ends.push(self.bytes.len());
            self.hashes.push(hash(&self.bytes[start..]));
        }
        Ok(())
    }

    /// Hashes every row's key of `batch` without keeping the encoded keys.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn hash_only(&mut self, batch: &RecordBatch) -> Result<&[u64], Fault> {
        self.hashes.clear();
        let columns = self.key_columns(batch)?;
        let texts = match columns[..] {
            [KeyColumn::Text(texts)] if texts.null_count() == 0 => Some(texts),
            _ => None,
        };
        for row in 0..batch.num_rows() {
            if let Some(hash) = texts.and_then(|texts| hash_short_text(texts.views()[row])) {
                self.hashes.push(hash);
                continue;
            }
            self.bytes.clear();
            for column in &columns {
                column.encode(row, &mut self.bytes)?;
            }
            self.hashes.push(hash(&self.bytes));
        }
        self.bytes.clear();
        Ok(&self.hashes)
    }

    fn key_columns<'b>(&self, batch: &'b RecordBatch) -> Result<Vec<KeyColumn<'b>>, Fault> {
        (self.columns.iter())
            .map(|&at| {
                (batch.columns().get(at).map(KeyColumn::new))
                    .ok_or_else(|| Fault::bug("key column is missing"))
            })
            .collect()
    }

    /// The encoded key of `row` of the last batch encoded.
    #[must_use]
    pub fn key(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }

    /// The hashes of the last batch, one a row.
    #[must_use]
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }
}

/// A column of a key; those of common types are looked at once a batch instead of once a row.
enum KeyColumn<'b> {
    Text(&'b StringViewArray),
    Int64(&'b Int64Array),
    Other(&'b ArrayRef),
}

impl<'b> KeyColumn<'b> {
    fn new(column: &'b ArrayRef) -> Self {
        if let Some(texts) = column.as_string_view_opt() {
            Self::Text(texts)
        } else if let Some(numbers) = column.as_primitive_opt() {
            Self::Int64(numbers)
        } else {
            Self::Other(column)
        }
    }

    /// As [`encode_value`].
    #[inline]
    fn encode(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::Text(texts) if texts.is_valid(row) => {
                encode_bytes(0x07, texts.value(row).as_bytes(), out);
            }
            Self::Int64(numbers) if numbers.is_valid(row) => {
                out.push(0x03);
                out.extend_from_slice(&numbers.value(row).to_le_bytes());
            }
            Self::Text(_) | Self::Int64(_) => out.push(0x00),
            Self::Other(column) => encode_value(column, row, out)?,
        }
        Ok(())
    }
}

fn encode_bytes(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    // Records are limited to far less than 4 GiB.
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

/// Appends the encoding of one value of `column` to `out`.
///
/// # Errors
/// A bug if the column is of a type that no stream has.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow has many types that no stream has"
)]
pub fn encode_value(column: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    if column.is_null(row) {
        out.push(0x00);
        return Ok(());
    }
    macro_rules! fixed {
        ($tag:literal, $value:expr) => {{
            out.push($tag);
            out.extend_from_slice(&$value.to_le_bytes());
        }};
    }
    match column.data_type() {
        DataType::Utf8View => {
            encode_bytes(0x07, column.as_string_view().value(row).as_bytes(), out)
        }
        DataType::Int64 => fixed!(0x03, column.as_primitive::<Int64Type>().value(row)),
        DataType::Int32 => fixed!(0x02, column.as_primitive::<Int32Type>().value(row)),
        DataType::Boolean => fixed!(0x01, u8::from(column.as_boolean().value(row))),
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            let value = if value.is_nan() {
                f64::NAN
            } else {
                value + 0.0
            };
            fixed!(0x05, value);
        }
        DataType::Float32 => {
            let value = column.as_primitive::<Float32Type>().value(row);
            let value = if value.is_nan() {
                f32::NAN
            } else {
                value + 0.0
            };
            fixed!(0x04, value);
        }
        DataType::Decimal128(_, _) => {
            fixed!(0x06, column.as_primitive::<Decimal128Type>().value(row));
        }
        DataType::BinaryView => encode_bytes(0x08, column.as_binary_view().value(row), out),
        DataType::Date32 => fixed!(0x09, column.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(_, _) => {
            fixed!(
                0x0a,
                column.as_primitive::<TimestampMillisecondType>().value(row)
            );
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            fixed!(0x0b, (items.len() as u32));
            for item in 0..items.len() {
                encode_value(&items, item, out)?;
            }
        }
        other => return Err(Fault::bug(format!("a key cannot have type {other}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray};

    use super::{KEY_GROUPS, KeyEncoder, hash, key_group, owner};

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .expect("columns of equal length")
    }

    #[test]
    fn columns_looked_at_once_encode_as_their_values_do() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec![Some("dev-1"), None, Some("")]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(5), Some(-6)]));
        let float: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-0.0)]));
        let batch = batch(vec![("t", text), ("n", number), ("f", float)]);
        let mut encoder = KeyEncoder::new(vec![0, 1, 2]);
        encoder.encode(&batch).expect("supported types");
        let hashes = encoder.hashes().to_vec();
        for row in 0..batch.num_rows() {
            let mut bytes = Vec::new();
            for column in batch.columns() {
                super::encode_value(column, row, &mut bytes).expect("supported types");
            }
            assert_eq!(encoder.key(row), bytes);
        }
        assert_eq!(encoder.hash_only(&batch).expect("supported types"), hashes);
    }

    fn encoded(columns: Vec<(&str, ArrayRef)>) -> Vec<String> {
        let mut encoder = KeyEncoder::new((0..columns.len()).collect());
        let batch = batch(columns);
        encoder.encode(&batch).expect("supported types");
        (0..batch.num_rows())
            .map(|row| {
                let hex: String = encoder
                    .key(row)
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect();
                assert_eq!(encoder.hashes()[row], hash(encoder.key(row)));
                format!("{hex} {:016x}", encoder.hashes()[row])
            })
            .collect()
    }

    /// Golden vectors: the encoding is part of the checkpoint format.
    #[test]
    fn encoding_and_hash_are_those_of_the_format() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec![Some("dev-1"), Some(""), None]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(-1), None, Some(258)]));
        let keys = encoded(vec![("t", text), ("n", number)]);
        let bytes: Vec<&str> = keys.iter().filter_map(|k| k.split(' ').next()).collect();
        assert_eq!(
            bytes,
            [
                "07050000006465762d3103ffffffffffffffff",
                "070000000000",
                "00030201000000000000"
            ]
        );
        let hashes: Vec<&str> = keys.iter().filter_map(|k| k.split(' ').nth(1)).collect();
        assert_eq!(hashes, GOLDEN_HASHES);
    }
    const GOLDEN_HASHES: [&str; 3] = ["59da02707fbbdda2", "ed98c56a1548f2ab", "4fc483f50a0401ea"];

    #[test]
    fn equal_floats_have_equal_keys() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            f64::from_bits(0x7ff0_0000_0000_0001),
        ]));
        let keys = encoded(vec![("f", floats)]);
        assert_eq!(keys[0], keys[1]);
        assert_eq!(keys[2], keys[3]);
        assert_eq!(keys[2], keys[4]);
    }

    #[test]
    fn hashes_neither_collide_nor_crowd() {
        let mut seen = HashSet::new();
        let mut groups = [0_u32; KEY_GROUPS];
        let ids: ArrayRef = Arc::new(StringViewArray::from_iter_values(
            (0..100_000).map(|i| format!("device-{i}")),
        ));
        let batch = batch(vec![("id", ids)]);
        let mut encoder = KeyEncoder::new(vec![0]);
        for &hash in encoder.hash_only(&batch).expect("strings") {
            assert!(seen.insert(hash));
            groups[usize::from(key_group(hash))] += 1;
        }
        assert!(
            groups.iter().all(|&n| (250..550).contains(&n)),
            "{groups:?}"
        );
    }

    #[test]
    fn groups_are_owned_in_contiguous_ranges() {
        for workers in [1, 2, 3, 7, 256] {
            let owners: Vec<usize> = (0..=255).map(|g| owner(g, workers)).collect();
            assert!(owners.is_sorted());
            assert_eq!(owners.iter().collect::<HashSet<_>>().len(), workers);
        }
    }
}
