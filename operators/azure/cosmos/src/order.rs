//! The order of rows of one document: which of two is newer.
//!
//! An order is the concatenation of some columns' values in an encoding that compares as bytes:
//!
//! | value | bytes |
//! |---|---|
//! | null | `00` |
//! | integer, date, timestamp, decimal | `01`, big-endian with the sign bit turned |
//! | float | `01`, its bits, turned so that they sort; −0 is 0, NaN is the greatest |
//! | bool | `01`, 0 or 1 |
//! | string | `01`, the bytes with `00` as `00 ff`, then `00 00` |
//!
//! It stands in stamps as hexadecimal digits, which compare alike. The columns are `newest_by` if
//! there is one, then, for a stream of appended rows, event time, `window_start` and origin; so
//! that which row wins does not depend on where checkpoints fall. A stream of changes has no order
//! of its own beyond `newest_by`: later changes win.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMillisecondType, UInt64Type,
};
use thalweg_stream::{ColumnType, Fault, StreamKind, StreamSchema};

use crate::error::CosmosError;

/// The column of a window's start, by which rows of equal event time are told apart.
const WINDOW_START: &str = "window_start";

/// Which columns make the order of a stream's rows.
#[derive(Clone, Debug)]
pub(crate) struct Ordering {
    columns: Vec<usize>,
}

impl Ordering {
    /// The order of rows of `schema`.
    pub(crate) fn new(schema: &StreamSchema, newest_by: Option<&str>) -> Result<Self, CosmosError> {
        let mut columns = Vec::new();
        if let Some(name) = newest_by {
            let at = schema.column(name).ok_or_else(|| {
                let what = format!("the stream has no column \"{name}\"");
                CosmosError::of_option("newest_by", what)
            })?;
            let column_type = schema.columns.get(at).map(|c| &c.column_type);
            if let Some(unfit) = column_type.filter(|t| !has_order(t)) {
                let what = format!("column \"{name}\" is {unfit}, which has no order");
                return Err(CosmosError::of_option("newest_by", what));
            }
            columns.push(at);
        }
        if schema.kind == StreamKind::Append {
            columns.extend(schema.event_time_at());
            let window = schema.column(WINDOW_START).filter(|&at| {
                schema
                    .columns
                    .get(at)
                    .is_some_and(|c| c.column_type == ColumnType::Timestamp)
            });
            columns.extend(window);
            columns.push(schema.origin_at());
        }
        Ok(Self { columns })
    }

    /// Appends the order of a row to `out`.
    pub(crate) fn append(
        &self,
        batch: &RecordBatch,
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        for &at in &self.columns {
            let column = batch.columns().get(at);
            let column =
                column.ok_or_else(|| Fault::bug("batch has fewer columns than its stream"))?;
            append_value(column, row, out)?;
        }
        Ok(())
    }
}

fn has_order(column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Bool
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. }
        | ColumnType::String
        | ColumnType::Date
        | ColumnType::Timestamp => true,
        ColumnType::Binary | ColumnType::Json | ColumnType::List(_) => false,
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "Arrow has many types that no stream has"
)]
fn append_value(column: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    if column.is_null(row) {
        out.push(0);
        return Ok(());
    }
    out.push(1);
    match column.data_type() {
        DataType::Timestamp(_, _) => {
            integer(
                column.as_primitive::<TimestampMillisecondType>().value(row),
                out,
            );
        }
        DataType::Int64 => integer(column.as_primitive::<Int64Type>().value(row), out),
        DataType::Int32 => integer(column.as_primitive::<Int32Type>().value(row).into(), out),
        DataType::Date32 => integer(column.as_primitive::<Date32Type>().value(row).into(), out),
        DataType::UInt64 => {
            out.extend_from_slice(&column.as_primitive::<UInt64Type>().value(row).to_be_bytes());
        }
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row), out),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row).into(), out),
        DataType::Decimal128(_, _) => {
            let value = column.as_primitive::<Decimal128Type>().value(row);
            out.extend_from_slice(&((value as u128) ^ (1 << 127)).to_be_bytes());
        }
        DataType::Boolean => out.push(u8::from(column.as_boolean().value(row))),
        DataType::Utf8View => {
            for &byte in column.as_string_view().value(row).as_bytes() {
                out.push(byte);
                if byte == 0 {
                    out.push(0xff);
                }
            }
            out.extend_from_slice(&[0, 0]);
        }
        other => return Err(Fault::bug(format!("rows cannot be ordered by {other}"))),
    }
    Ok(())
}

fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&((value as u64) ^ (1 << 63)).to_be_bytes());
}

fn float(value: f64, out: &mut Vec<u8>) {
    let value = if value.is_nan() {
        f64::NAN.abs()
    } else {
        value + 0.0
    };
    let bits = value.to_bits();
    let sortable = if bits >> 63 == 0 {
        bits | (1 << 63)
    } else {
        !bits
    };
    out.extend_from_slice(&sortable.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array,
        StringViewArray,
    };

    use super::append_value;

    /// Every array is ascending; its encodings must be strictly so.
    fn ascends(column: &ArrayRef) {
        let encoded: Vec<Vec<u8>> = (0..column.len())
            .map(|row| {
                let mut out = Vec::new();
                append_value(column, row, &mut out).expect("ordered type");
                // Whatever follows must not change the order.
                out.push(if row % 2 == 0 { 0xff } else { 0 });
                out
            })
            .collect();
        for pair in encoded.windows(2) {
            assert!(pair[0] < pair[1], "{column:?}: {pair:02x?}");
        }
    }

    #[test]
    fn values_sort_as_their_bytes() {
        ascends(
            &(Arc::new(Int64Array::from(vec![
                None,
                Some(i64::MIN),
                Some(-1),
                Some(0),
                Some(7),
            ])) as ArrayRef),
        );
        ascends(
            &(Arc::new(Int32Array::from(vec![
                None,
                Some(i32::MIN),
                Some(-1),
                Some(i32::MAX),
            ])) as ArrayRef),
        );
        ascends(&(Arc::new(BooleanArray::from(vec![None, Some(false), Some(true)])) as ArrayRef));
        let floats = [
            f64::NEG_INFINITY,
            -1.5,
            -f64::MIN_POSITIVE,
            0.0,
            1e-300,
            2.0,
            f64::INFINITY,
        ];
        let floats = floats.into_iter().chain([f64::NAN]).map(Some);
        ascends(
            &(Arc::new([None].into_iter().chain(floats).collect::<Float64Array>()) as ArrayRef),
        );
        ascends(
            &(Arc::new(Decimal128Array::from(vec![
                None,
                Some(i128::MIN),
                Some(-1),
                Some(3),
            ])) as ArrayRef),
        );
        let texts = vec![
            None,
            Some(""),
            Some("\0"),
            Some("\0a"),
            Some("a"),
            Some("a\0"),
            Some("ab"),
        ];
        ascends(&(Arc::new(StringViewArray::from(texts)) as ArrayRef));
    }

    #[test]
    fn zeroes_are_equal() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0]));
        let mut encoded = [Vec::new(), Vec::new()];
        for (row, out) in encoded.iter_mut().enumerate() {
            append_value(&column, row, out).expect("floats");
        }
        assert_eq!(encoded[0], encoded[1]);
    }
}
