//! Values of rows as bytes, and back into columns.
//!
//! The format is that of keys ([`thalweg_stream::key`]), save that floats keep their bits: what
//! comes out is what went in. Encoded keys can be read back with the same [`ColumnBuilder`].

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float32Builder, Float64Builder, Int32Builder, Int64Builder, ListArray, StringViewBuilder,
    TimestampMillisecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type};
use thalweg_stream::Fault;
use thalweg_stream::key;

use crate::error::StateError;
use crate::wire::{Reader, put_u32};

/// Appends one value of `column` to `out`, exactly.
///
/// # Errors
/// A bug if the column is of a type that no stream has.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "only types that hold floats differ from keys"
)]
pub fn encode_value(column: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    if column.is_null(row) {
        out.push(0x00);
        return Ok(());
    }
    match column.data_type() {
        DataType::Float64 => {
            out.push(0x05);
            let value = column.as_primitive::<Float64Type>().value(row);
            out.extend_from_slice(&value.to_le_bytes());
        }
        DataType::Float32 => {
            out.push(0x04);
            let value = column.as_primitive::<Float32Type>().value(row);
            out.extend_from_slice(&value.to_le_bytes());
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            out.push(0x0b);
            put_u32(out, items.len() as u32);
            for item in 0..items.len() {
                encode_value(&items, item, out)?;
            }
        }
        _ => key::encode_value(column, row, out)?,
    }
    Ok(())
}

/// Collects encoded values of one column.
#[derive(Debug)]
pub struct ColumnBuilder(Kind);

#[derive(Debug)]
enum Kind {
    Bool(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringViewBuilder),
    Binary(BinaryViewBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMillisecondBuilder),
    List(Box<List>),
}

#[derive(Debug)]
struct List {
    field: FieldRef,
    items: ColumnBuilder,
    count: i32,
    offsets: Vec<i32>,
    valid: Vec<bool>,
}

impl ColumnBuilder {
    /// A builder of a column of `data_type`.
    ///
    /// # Errors
    /// A bug if no stream has that type.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "Arrow has many types that no stream has"
    )]
    pub fn new(data_type: &DataType) -> Result<Self, Fault> {
        Ok(Self(match data_type {
            DataType::Boolean => Kind::Bool(BooleanBuilder::new()),
            DataType::Int32 => Kind::Int32(Int32Builder::new()),
            DataType::Int64 => Kind::Int64(Int64Builder::new()),
            DataType::Float32 => Kind::Float32(Float32Builder::new()),
            DataType::Float64 => Kind::Float64(Float64Builder::new()),
            DataType::Decimal128(_, _) => {
                Kind::Decimal(Decimal128Builder::new().with_data_type(data_type.clone()))
            }
            DataType::Utf8View => Kind::Text(StringViewBuilder::new()),
            DataType::BinaryView => Kind::Binary(BinaryViewBuilder::new()),
            DataType::Date32 => Kind::Date(Date32Builder::new()),
            DataType::Timestamp(_, _) => Kind::Timestamp(
                TimestampMillisecondBuilder::new().with_data_type(data_type.clone()),
            ),
            DataType::List(field) => Kind::List(Box::new(List {
                field: Arc::clone(field),
                items: Self::new(field.data_type())?,
                count: 0,
                offsets: vec![0],
                valid: Vec::new(),
            })),
            other => return Err(Fault::bug(format!("state cannot hold type {other}"))),
        }))
    }

    /// Appends the next value of `input`.
    ///
    /// # Errors
    /// If it is not a value of this column's type.
    pub fn push(&mut self, input: &mut Reader<'_>) -> Result<(), StateError> {
        let tag = input.u8()?;
        match (&mut self.0, tag) {
            (_, 0x00) => self.push_null(),
            (Kind::Bool(to), 0x01) => to.append_value(input.u8()? != 0),
            (Kind::Int32(to), 0x02) => to.append_value(i32::from_le_bytes(input.array()?)),
            (Kind::Int64(to), 0x03) => to.append_value(input.i64()?),
            (Kind::Float32(to), 0x04) => to.append_value(f32::from_le_bytes(input.array()?)),
            (Kind::Float64(to), 0x05) => to.append_value(f64::from_le_bytes(input.array()?)),
            (Kind::Decimal(to), 0x06) => to.append_value(i128::from_le_bytes(input.array()?)),
            (Kind::Text(to), 0x07) => to.append_value(
                std::str::from_utf8(input.bytes()?)
                    .map_err(|_| StateError::Shape("text is not UTF-8"))?,
            ),
            (Kind::Binary(to), 0x08) => to.append_value(input.bytes()?),
            (Kind::Date(to), 0x09) => to.append_value(i32::from_le_bytes(input.array()?)),
            (Kind::Timestamp(to), 0x0a) => to.append_value(input.i64()?),
            (Kind::List(to), 0x0b) => {
                for _ in 0..input.u32()? {
                    to.items.push(input)?;
                    to.count += 1;
                }
                to.offsets.push(to.count);
                to.valid.push(true);
            }
            _ => return Err(StateError::Shape("a value is of another type")),
        }
        Ok(())
    }

    /// Appends null.
    pub fn push_null(&mut self) {
        match &mut self.0 {
            Kind::Bool(to) => to.append_null(),
            Kind::Int32(to) => to.append_null(),
            Kind::Int64(to) => to.append_null(),
            Kind::Float32(to) => to.append_null(),
            Kind::Float64(to) => to.append_null(),
            Kind::Decimal(to) => to.append_null(),
            Kind::Text(to) => to.append_null(),
            Kind::Binary(to) => to.append_null(),
            Kind::Date(to) => to.append_null(),
            Kind::Timestamp(to) => to.append_null(),
            Kind::List(to) => {
                to.offsets.push(to.count);
                to.valid.push(false);
            }
        }
    }

    /// The column of what was appended; the builder is empty again.
    ///
    /// # Errors
    /// A bug if a list does not add up.
    pub fn finish(&mut self) -> Result<ArrayRef, Fault> {
        Ok(match &mut self.0 {
            Kind::Bool(to) => Arc::new(to.finish()),
            Kind::Int32(to) => Arc::new(to.finish()),
            Kind::Int64(to) => Arc::new(to.finish()),
            Kind::Float32(to) => Arc::new(to.finish()),
            Kind::Float64(to) => Arc::new(to.finish()),
            Kind::Decimal(to) => Arc::new(to.finish()),
            Kind::Text(to) => Arc::new(to.finish()),
            Kind::Binary(to) => Arc::new(to.finish()),
            Kind::Date(to) => Arc::new(to.finish()),
            Kind::Timestamp(to) => Arc::new(to.finish()),
            Kind::List(to) => {
                let offsets = std::mem::replace(&mut to.offsets, vec![0]);
                to.count = 0;
                Arc::new(ListArray::try_new(
                    Arc::clone(&to.field),
                    OffsetBuffer::new(ScalarBuffer::from(offsets)),
                    to.items.finish()?,
                    Some(NullBuffer::from(std::mem::take(&mut to.valid))),
                )?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Decimal128Array, Float64Array,
        Int64Array, ListArray, StringViewArray, TimestampMillisecondArray,
    };
    use arrow::datatypes::{Float64Type, Int64Type};

    use super::{ColumnBuilder, encode_value};
    use crate::wire::Reader;

    fn round_trip(column: &ArrayRef) -> ArrayRef {
        let mut bytes = Vec::new();
        for row in 0..column.len() {
            encode_value(column, row, &mut bytes).unwrap();
        }
        let mut reader = Reader::new(&bytes);
        let mut builder = ColumnBuilder::new(column.data_type()).unwrap();
        for _ in 0..column.len() {
            builder.push(&mut reader).unwrap();
        }
        reader.end().unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn values_of_every_kind_come_back() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None])),
            Arc::new(
                Decimal128Array::from(vec![Some(-5), None])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
            Arc::new(StringViewArray::from(vec![
                Some("ä"),
                None,
                Some("a longer string than 12"),
            ])),
            Arc::new(BinaryViewArray::from(vec![Some(&[0xff, 0][..]), None])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(1), None]).with_timezone("UTC")),
            Arc::new(lists),
        ];
        for column in &columns {
            assert_eq!(&round_trip(column), column);
        }
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, f64::INFINITY, 0.1]));
        let back = round_trip(&floats);
        let bits = |c: &ArrayRef| -> Vec<u64> {
            (c.as_primitive::<Float64Type>().values().iter())
                .map(|v| v.to_bits())
                .collect()
        };
        assert_eq!(bits(&back), bits(&floats));
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let mut bytes = Vec::new();
        encode_value(&numbers, 0, &mut bytes).unwrap();
        let mut builder = ColumnBuilder::new(&arrow::datatypes::DataType::Utf8View).unwrap();
        assert!(builder.push(&mut Reader::new(&bytes)).is_err());
        let mut builder = ColumnBuilder::new(numbers.data_type()).unwrap();
        assert!(builder.push(&mut Reader::new(&bytes[..5])).is_err());
    }
}
