//! The values of one column, by its type, ready to be written row by row.

use std::cell::Cell;

use arrow::array::{
    Array, AsArray, BinaryViewArray, BooleanArray, ListArray, PrimitiveArray, StringViewArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit,
    TimestampMillisecondType, UInt8Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thalweg_stream::schema::{DELETE, INSERT, UPDATE};
use thalweg_stream::{ColumnType, Origin};

use super::Timestamps;
use super::text::{write_json, write_string, write_view};
use crate::{calendar, decimal};

/// What a column of a batch means.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    /// A value of a type.
    Column(ColumnType),
    /// What the row does.
    Change,
    /// Where it came from.
    Origin,
}

impl Meaning {
    /// A timestamp.
    pub(super) fn timestamp() -> Self {
        Self::Column(ColumnType::Timestamp)
    }
}

/// A column's array with its type known.
#[derive(Clone, Debug)]
pub(super) enum Cells<'a> {
    Bool(&'a BooleanArray),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>, i8),
    String(&'a StringViewArray),
    Json(&'a StringViewArray),
    Binary(&'a BinaryViewArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Timestamp(&'a PrimitiveArray<TimestampMillisecondType>, LastTime),
    List(&'a ListArray, Box<Cells<'a>>),
    Change(&'a PrimitiveArray<UInt8Type>),
    Origin(&'a PrimitiveArray<UInt64Type>),
    /// A type that no column has; written as text.
    Other(&'a dyn Array),
}

impl<'a> Cells<'a> {
    /// The values of `array`, or nothing if it is not of the type it should be.
    pub(super) fn of(array: &'a dyn Array, meaning: &Meaning) -> Option<Self> {
        match meaning {
            Meaning::Column(column_type) => Self::typed(array, column_type),
            Meaning::Change => array.as_primitive_opt().map(Self::Change),
            Meaning::Origin => array.as_primitive_opt().map(Self::Origin),
        }
    }

    fn typed(array: &'a dyn Array, column_type: &ColumnType) -> Option<Self> {
        Some(match column_type {
            ColumnType::Bool => Self::Bool(array.as_boolean_opt()?),
            ColumnType::Int32 => Self::Int32(array.as_primitive_opt()?),
            ColumnType::Int64 => Self::Int64(array.as_primitive_opt()?),
            ColumnType::Float32 => Self::Float32(array.as_primitive_opt()?),
            ColumnType::Float64 => Self::Float64(array.as_primitive_opt()?),
            ColumnType::Decimal { .. } => {
                let DataType::Decimal128(_, scale) = array.data_type() else {
                    return None;
                };
                Self::Decimal(array.as_primitive_opt()?, *scale)
            }
            ColumnType::String => Self::String(array.as_string_view_opt()?),
            ColumnType::Json => Self::Json(array.as_string_view_opt()?),
            ColumnType::Binary => Self::Binary(array.as_binary_view_opt()?),
            ColumnType::Date => Self::Date(array.as_primitive_opt()?),
            ColumnType::Timestamp => {
                Self::Timestamp(array.as_primitive_opt()?, LastTime::default())
            }
            ColumnType::List(item) => {
                let list = array.as_list_opt::<i32>()?;
                let items = Self::typed(list.values().as_ref(), item)?;
                Self::List(list, Box::new(items))
            }
        })
    }

    /// The values of an array of any type.
    pub(super) fn of_any(array: &'a dyn Array) -> Self {
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "Arrow has many types that streams do not have"
        )]
        let known = match array.data_type() {
            DataType::Boolean => array.as_boolean_opt().map(Self::Bool),
            DataType::Int32 => array.as_primitive_opt().map(Self::Int32),
            DataType::Int64 => array.as_primitive_opt().map(Self::Int64),
            DataType::Float32 => array.as_primitive_opt().map(Self::Float32),
            DataType::Float64 => array.as_primitive_opt().map(Self::Float64),
            DataType::Decimal128(_, scale) => {
                let values = array.as_primitive_opt();
                values.map(|values| Self::Decimal(values, *scale))
            }
            DataType::Utf8View => array.as_string_view_opt().map(Self::String),
            DataType::BinaryView => array.as_binary_view_opt().map(Self::Binary),
            DataType::Date32 => array.as_primitive_opt().map(Self::Date),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                let values = array.as_primitive_opt();
                values.map(|values| Self::Timestamp(values, LastTime::default()))
            }
            DataType::List(_) => array.as_list_opt::<i32>().map(|list| {
                let items = Self::of_any(list.values().as_ref());
                Self::List(list, Box::new(items))
            }),
            _ => None,
        };
        known.unwrap_or(Self::Other(array))
    }

    fn array(&self) -> &'a dyn Array {
        match self {
            Self::Bool(values) => *values,
            Self::Int32(values) => *values,
            Self::Int64(values) => *values,
            Self::Float32(values) => *values,
            Self::Float64(values) => *values,
            Self::Decimal(values, _) => *values,
            Self::String(values) | Self::Json(values) => *values,
            Self::Binary(values) => *values,
            Self::Date(values) => *values,
            Self::Timestamp(values, _) => *values,
            Self::List(values, _) => *values,
            Self::Change(values) => *values,
            Self::Origin(values) => *values,
            Self::Other(values) => *values,
        }
    }

    /// Whether `row` is null or does not exist.
    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        let array = self.array();
        row >= array.len() || array.nulls().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the value of `row`, which is not null.
    pub(super) fn write(&self, row: usize, timestamps: Timestamps, out: &mut Vec<u8>) {
        match self {
            Self::Bool(values) => {
                let text: &[u8] = if values.value(row) { b"true" } else { b"false" };
                out.extend_from_slice(text);
            }
            Self::Int32(values) => write_integer(values.value(row), out),
            Self::Int64(values) => write_integer(values.value(row), out),
            Self::Float32(values) => write_float(values.value(row), out),
            Self::Float64(values) => write_float(values.value(row), out),
            Self::Decimal(values, scale) => decimal::write(values.value(row), *scale, out),
            Self::String(values) => match values.views().get(row) {
                Some(view) => write_view(*view, || values.value(row), out),
                None => write_string(values.value(row), out),
            },
            Self::Json(values) => write_json(values.value(row), out),
            Self::Binary(values) => write_string(&STANDARD.encode(values.value(row)), out),
            Self::Date(values) => {
                out.push(b'"');
                calendar::write_date(i64::from(values.value(row)), out);
                out.push(b'"');
            }
            Self::Timestamp(values, last) => match timestamps {
                Timestamps::UnixMs => write_integer(values.value(row), out),
                Timestamps::Rfc3339Millis => last.write(values.value(row), out),
            },
            Self::List(values, items) => {
                let ends = values.offsets().get(row..row + 2).unwrap_or_default();
                let (start, end) = match ends {
                    [start, end] => (*start as usize, *end as usize),
                    _ => (0, 0),
                };
                write_list(items, start..end, timestamps, out);
            }
            Self::Change(values) => out.extend_from_slice(match values.value(row) {
                INSERT => b"\"insert\"",
                UPDATE => b"\"update\"",
                DELETE => b"\"delete\"",
                _ => b"null",
            }),
            Self::Origin(values) => {
                write_string(&format!("{:?}", Origin(values.value(row))), out);
            }
            Self::Other(values) => {
                let options = FormatOptions::default();
                match ArrayFormatter::try_new(*values, &options) {
                    Ok(formatter) => write_string(&formatter.value(row).to_string(), out),
                    Err(_) => write_string(&values.data_type().to_string(), out),
                }
            }
        }
    }
}

/// The timestamp that a column wrote last: results of one window have their times in common.
#[derive(Clone, Debug, Default)]
pub(super) struct LastTime {
    ms: Cell<i64>,
    /// Its text with quotes; no length before anything is written, nor for years beyond four
    /// digits.
    text: Cell<[u8; TIME_BYTES]>,
    length: Cell<usize>,
}

/// Bytes of `"2026-01-01T00:00:00.000Z"`.
const TIME_BYTES: usize = 26;

impl LastTime {
    #[inline]
    fn write(&self, ms: i64, out: &mut Vec<u8>) {
        if self.length.get() == TIME_BYTES && self.ms.get() == ms {
            out.extend_from_slice(&self.text.get());
            return;
        }
        let start = out.len();
        out.push(b'"');
        calendar::write_timestamp(ms, out);
        out.push(b'"');
        let written = out.get(start..).unwrap_or_default();
        self.length.set(written.len());
        self.ms.set(ms);
        if let Some(text) = written.first_chunk() {
            self.text.set(*text);
        }
    }
}

fn write_list(
    items: &Cells<'_>,
    range: std::ops::Range<usize>,
    timestamps: Timestamps,
    out: &mut Vec<u8>,
) {
    out.push(b'[');
    for at in range.clone() {
        if at > range.start {
            out.push(b',');
        }
        if items.is_null(at) {
            out.extend_from_slice(b"null");
        } else {
            items.write(at, timestamps, out);
        }
    }
    out.push(b']');
}

#[inline]
fn write_integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[inline]
fn write_float<F: zmij::Float + Into<f64> + Copy>(value: F, out: &mut Vec<u8>) {
    if Into::<f64>::into(value).is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}
