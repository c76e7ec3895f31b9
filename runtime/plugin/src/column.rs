//! Columns in and out of a guest: Arrow arrays to the contract's buffers, and back, checked.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMillisecondType,
};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, PrimitiveArray,
    StringArray, StringViewArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use thalweg_stream::ColumnType;

use crate::notation;
use crate::trap::Failed;
use crate::wire;

/// The buffers of an argument, borrowed from the array where they are the same.
pub(crate) struct Lowered<'a> {
    notation: String,
    validity: Option<Vec<u8>>,
    offsets: Vec<u8>,
    bytes: Bytes<'a>,
}

enum Bytes<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl Lowered<'_> {
    /// Appends what tells the value of a row from others of its column.
    pub(crate) fn key(&self, row: usize, rows: usize, key: &mut Vec<u8>) {
        let valid = (self.validity.as_ref()).is_none_or(|valid| valid.get(row) != Some(&0));
        key.push(u8::from(valid));
        if !valid {
            return;
        }
        let bytes = self.wire().bytes;
        let (offsets, _) = self.offsets.as_chunks::<4>();
        let at = |row: usize| {
            let offset = offsets
                .get(row)
                .map_or(0, |offset| u32::from_le_bytes(*offset));
            usize::try_from(offset).unwrap_or(usize::MAX)
        };
        let range = match offsets.is_empty() {
            true => {
                let width = bytes.len() / rows.max(1);
                row * width..(row + 1) * width
            }
            false => at(row)..at(row + 1),
        };
        key.extend_from_slice(&range.len().to_le_bytes());
        key.extend_from_slice(bytes.get(range).unwrap_or_default());
    }

    pub(crate) fn wire(&self) -> wire::Argument<'_> {
        wire::Argument {
            notation: &self.notation,
            validity: self.validity.as_deref(),
            offsets: &self.offsets,
            bytes: match &self.bytes {
                Bytes::Borrowed(bytes) => bytes,
                Bytes::Owned(bytes) => bytes,
            },
        }
    }
}

/// The buffers of `array`, which must be what carries `column_type`.
pub(crate) fn lower<'a>(array: &'a dyn Array, column_type: &ColumnType) -> Option<Lowered<'a>> {
    if *array.data_type() != column_type.arrow() {
        return None;
    }
    let valid = |nulls: &NullBuffer| spread(nulls.inner());
    let mut offsets = Vec::new();
    let bytes = match column_type {
        ColumnType::Bool => Bytes::Owned(spread(array.as_boolean().values())),
        ColumnType::Int32 => primitive::<Int32Type>(array),
        ColumnType::Int64 => primitive::<Int64Type>(array),
        ColumnType::Float32 => primitive::<Float32Type>(array),
        ColumnType::Float64 => primitive::<Float64Type>(array),
        ColumnType::Date => primitive::<Date32Type>(array),
        ColumnType::Timestamp => primitive::<TimestampMillisecondType>(array),
        ColumnType::Decimal { .. } => primitive::<Decimal128Type>(array),
        ColumnType::String | ColumnType::Json => {
            let array = array.as_string_view();
            let rows = (0..array.len()).map(|row| array.value(row).as_bytes());
            Bytes::Owned(blobs(rows, &mut offsets)?)
        }
        ColumnType::Binary => {
            let array = array.as_binary_view();
            Bytes::Owned(blobs(
                (0..array.len()).map(|row| array.value(row)),
                &mut offsets,
            )?)
        }
        ColumnType::List(_) => return None,
    };
    Some(Lowered {
        notation: notation::of(column_type)?,
        validity: (array.nulls().filter(|nulls| nulls.null_count() > 0)).map(valid),
        offsets,
        bytes,
    })
}

/// One byte, 0 or 1, for each bit.
fn spread(bits: &BooleanBuffer) -> Vec<u8> {
    /// Multiplying by it copies a byte every seven bits, so that each bit of the lower seven comes
    /// to the beginning of a byte of its own.
    const EVERY_SEVEN: u64 = 0x0002_0408_1020_4081;
    const FIRST_OF_EACH: u64 = 0x0101_0101_0101_0101;
    let mut bytes = Vec::with_capacity(bits.len().next_multiple_of(64));
    for word in bits.bit_chunks().iter_padded() {
        for byte in word.to_le_bytes().map(u64::from) {
            let lower = (byte & 0x7F).wrapping_mul(EVERY_SEVEN) & FIRST_OF_EACH;
            bytes.extend_from_slice(&(lower | (byte >> 7) << 56).to_le_bytes());
        }
    }
    bytes.truncate(bits.len());
    bytes
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array) -> Bytes<'_> {
    Bytes::Borrowed(array.as_primitive::<T>().values().inner().as_slice())
}

/// Writes texts one after the other; nothing if they do not fit into 4 GiB.
fn blobs<'a>(rows: impl Iterator<Item = &'a [u8]>, offsets: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    offsets.extend_from_slice(&0_u32.to_le_bytes());
    for row in rows {
        bytes.extend_from_slice(row);
        offsets.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    }
    Some(bytes)
}

/// The array that a guest's column stands for; nothing in it is taken on trust.
pub(crate) fn lift(
    column: wire::Column,
    column_type: &ColumnType,
    rows: usize,
) -> Result<ArrayRef, Failed> {
    let expected = notation::of(column_type).unwrap_or_default();
    if column.notation != expected {
        return Err(Failed::output(format!(
            "returned a column of type {:?}, not {expected:?}",
            column.notation
        )));
    }
    let nulls = column
        .validity
        .map(|valid| validity(&valid, rows))
        .transpose()?;
    let (offsets, bytes) = (column.offsets, column.bytes);
    let variable = matches!(
        column_type,
        ColumnType::String | ColumnType::Json | ColumnType::Binary
    );
    if !variable && !offsets.is_empty() {
        return Err(Failed::output(
            "returned offsets for values of fixed length",
        ));
    }
    Ok(match column_type {
        ColumnType::Bool => Arc::new(BooleanArray::new(flags(&bytes, rows, "value")?, nulls)),
        ColumnType::Int32 => Arc::new(values::<Int32Type>(bytes, rows, nulls)?),
        ColumnType::Int64 => Arc::new(values::<Int64Type>(bytes, rows, nulls)?),
        ColumnType::Float32 => Arc::new(values::<Float32Type>(bytes, rows, nulls)?),
        ColumnType::Float64 => Arc::new(values::<Float64Type>(bytes, rows, nulls)?),
        ColumnType::Date => Arc::new(values::<Date32Type>(bytes, rows, nulls)?),
        ColumnType::Timestamp => {
            let array = values::<TimestampMillisecondType>(bytes, rows, nulls)?;
            Arc::new(array.with_timezone("UTC"))
        }
        ColumnType::Decimal { precision, scale } => {
            let array = values::<Decimal128Type>(bytes, rows, nulls)?;
            let array = array.with_precision_and_scale(*precision, *scale);
            let array = array.and_then(|array| {
                array.validate_decimal_precision(*precision)?;
                Ok(array)
            });
            Arc::new(
                array.map_err(|_| {
                    Failed::output(format!("returned a number beyond {column_type}"))
                })?,
            )
        }
        ColumnType::String | ColumnType::Json => {
            let offsets = starts(&offsets, bytes.len(), rows)?;
            // Checks that every row is UTF-8 by itself, null or not.
            let array = StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls)
                .map_err(|_| Failed::output("returned text that is not UTF-8"))?;
            Arc::new(StringViewArray::from(&array))
        }
        ColumnType::Binary => {
            let offsets = starts(&offsets, bytes.len(), rows)?;
            let array = BinaryArray::try_new(offsets, Buffer::from_vec(bytes), nulls)
                .map_err(|_| Failed::output("returned offsets that do not fit its bytes"))?;
            Arc::new(BinaryViewArray::from(&array))
        }
        ColumnType::List(_) => return Err(Failed::output("returned a list")),
    })
}

fn length(what: &str, given: usize, rows: usize) -> Failed {
    Failed::output(format!("returned {given} bytes of {what} for {rows} rows"))
}

/// One bit for each byte, which must be 0 or 1.
fn flags(bytes: &[u8], rows: usize, what: &str) -> Result<BooleanBuffer, Failed> {
    if bytes.len() != rows {
        return Err(length(what, bytes.len(), rows));
    }
    if bytes.iter().any(|byte| *byte > 1) {
        return Err(Failed::output(format!(
            "returned a {what} that is neither 0 nor 1"
        )));
    }
    Ok(bytes.iter().map(|byte| *byte == 1).collect())
}

fn validity(bytes: &[u8], rows: usize) -> Result<NullBuffer, Failed> {
    flags(bytes, rows, "validity").map(NullBuffer::new)
}

fn values<T: ArrowPrimitiveType>(
    bytes: Vec<u8>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<PrimitiveArray<T>, Failed> {
    if Some(bytes.len()) != rows.checked_mul(size_of::<T::Native>()) {
        return Err(length("values", bytes.len(), rows));
    }
    let buffer = if bytes.as_ptr().cast::<T::Native>().is_aligned() {
        Buffer::from_vec(bytes)
    } else {
        Buffer::from_slice_ref(&bytes)
    };
    Ok(PrimitiveArray::new(
        ScalarBuffer::new(buffer, 0, rows),
        nulls,
    ))
}

/// Offsets of `rows` values into so many bytes.
fn starts(bytes: &[u8], length: usize, rows: usize) -> Result<OffsetBuffer<i32>, Failed> {
    let wrong = || Failed::output("returned offsets that do not fit its bytes");
    let (offsets, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || Some(offsets.len()) != rows.checked_add(1) {
        return Err(self::length("offsets", bytes.len(), rows));
    }
    // Beyond 2 GiB there is no output: the limit of what a call returns is far below.
    let offsets = (offsets
        .iter()
        .map(|bytes| i32::try_from(u32::from_le_bytes(*bytes))))
    .collect::<Result<Vec<i32>, _>>()
    .map_err(|_| wrong())?;
    let ascending = offsets.first() == Some(&0) && offsets.is_sorted();
    let end = offsets.last().and_then(|end| usize::try_from(*end).ok());
    if !ascending || end != Some(length) {
        return Err(wrong());
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

/// The rows that failed, ascending, and why.
pub(crate) fn failures(
    failed: wire::Failures,
    rows: usize,
) -> Result<Vec<(usize, String)>, Failed> {
    if failed.rows.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = || Failed::output("returned failed rows that are not in order");
    let (numbers, rest) = failed.rows.as_chunks::<4>();
    let wire::Blobs { offsets, bytes } = failed.messages;
    let ends = starts(&offsets, bytes.len(), numbers.len())?;
    if !rest.is_empty() || numbers.len() > rows {
        return Err(wrong());
    }
    let mut found = Vec::with_capacity(numbers.len());
    let mut next = 0;
    for (number, range) in numbers.iter().zip(ends.windows(2)) {
        let row = usize::try_from(u32::from_le_bytes(*number)).map_err(|_| wrong())?;
        if row < next || row >= rows {
            return Err(wrong());
        }
        next = row + 1;
        let text = match range {
            [start, end] => usize::try_from(*start).ok().zip(usize::try_from(*end).ok()),
            _ => None,
        };
        let text = text
            .and_then(|(start, end)| bytes.get(start..end))
            .ok_or_else(wrong)?;
        found.push((row, String::from_utf8_lossy(text).into_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_become_bytes_wherever_they_begin() {
        let bits: BooleanBuffer = (0..333_u32)
            .map(|n| n.wrapping_mul(2_654_435_761) >> 30 == 0)
            .collect();
        for offset in [0, 1, 7, 8, 63, 64, 65, 200] {
            for length in [0, 1, 8, 63, 64, 65, 130] {
                let bits = bits.slice(offset, length);
                let bytes: Vec<u8> = bits.iter().map(u8::from).collect();
                assert_eq!(spread(&bits), bytes, "{offset} {length}");
            }
        }
    }
}
