//! Columns in the making: values of each row at its place, until a batch is full.
//!
//! A value is written to its row at once and counts only if the record turns out well: then the
//! row number goes up. So a record may be given up at any point, and a repeated key simply
//! overwrites. The memory is the decoder's own and stays warm; batches get exact copies.

mod convert;
mod finish;
mod view;

use std::sync::Arc;

use thalweg_stream::ColumnType;

use crate::scan::{Cursor, Stop, Token};
use crate::spec::{Field, TimestampReader};
use view::Views;

/// What a row has in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Nothing: the field has not been met.
    Missing,
    /// A value.
    Value,
    /// Null was written.
    Null,
    /// A value of another type.
    WrongType,
    /// A number that the type does not hold.
    OutOfRange,
    /// A string that is not what the type asks for.
    BadFormat,
    /// A number with more digits than the type holds.
    Inexact,
}

/// One declared column.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: Arc<str>,
    pub(crate) column_type: ColumnType,
    pub(crate) required: bool,
    /// Whether it is in the output; if not, values are checked and forgotten.
    pub(crate) kept: bool,
    coerce: bool,
    timestamp: TimestampReader,
    read_usual: ReadUsual,
    state: Vec<State>,
    values: Values,
    scratch: Vec<u8>,
}

/// Values by row.
#[derive(Debug)]
enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>, u8, i8),
    Date(Vec<i32>),
    Timestamp(Vec<i64>),
    String(Views),
    Binary(Views),
    Json(Views),
    List(Items),
}

/// Values of a list column: all items one after the other.
#[derive(Debug)]
struct Items {
    /// Items of each row that has a list.
    lens: Vec<u32>,
    item: Box<Column>,
    /// Items in `item`.
    count: usize,
    /// The rows that got items, ascending, and how many there were before each.
    starts: Vec<(usize, usize)>,
}

impl Column {
    /// A column with room for `rows` rows.
    pub(crate) fn new(field: &Field, rows: usize) -> Self {
        let mut column = Self::of_type(field, &field.column.column_type);
        column.ensure(rows);
        column
    }

    fn of_type(field: &Field, column_type: &ColumnType) -> Self {
        let views = || Views::new(field.kept);
        let values = match column_type {
            ColumnType::Bool => Values::Bool(Vec::new()),
            ColumnType::Int32 => Values::Int32(Vec::new()),
            ColumnType::Int64 => Values::Int64(Vec::new()),
            ColumnType::Float32 => Values::Float32(Vec::new()),
            ColumnType::Float64 => Values::Float64(Vec::new()),
            ColumnType::Decimal { precision, scale } => {
                Values::Decimal(Vec::new(), *precision, *scale)
            }
            ColumnType::Date => Values::Date(Vec::new()),
            ColumnType::Timestamp => Values::Timestamp(Vec::new()),
            ColumnType::String => Values::String(views()),
            ColumnType::Binary => Values::Binary(views()),
            ColumnType::Json => Values::Json(views()),
            ColumnType::List(item) => Values::List(Items {
                lens: Vec::new(),
                item: Box::new(Self::of_type(field, item)),
                count: 0,
                starts: Vec::new(),
            }),
        };
        Self {
            name: field.column.name.clone(),
            column_type: column_type.clone(),
            required: field.column.required,
            kept: field.kept,
            coerce: field.coerce,
            timestamp: field.timestamp.clone(),
            read_usual: read_usual(column_type, &field.timestamp),
            state: Vec::new(),
            values,
            scratch: Vec::new(),
        }
    }

    /// Makes room for rows up to `rows`.
    fn ensure(&mut self, rows: usize) {
        if rows <= self.state.len() {
            return;
        }
        self.state.resize(rows, State::Missing);
        match &mut self.values {
            Values::Bool(values) => values.resize(rows, false),
            Values::Int32(values) | Values::Date(values) => values.resize(rows, 0),
            Values::Int64(values) | Values::Timestamp(values) => values.resize(rows, 0),
            Values::Float32(values) => values.resize(rows, 0.0),
            Values::Float64(values) => values.resize(rows, 0.0),
            Values::Decimal(values, ..) => values.resize(rows, 0),
            Values::String(views) | Values::Binary(views) | Values::Json(views) => {
                views.ensure(rows);
            }
            Values::List(items) => items.lens.resize(rows, 0),
        }
    }

    /// What `row` has.
    #[inline(always)]
    pub(crate) fn state(&self, row: usize) -> State {
        self.state.get(row).copied().unwrap_or(State::Missing)
    }

    #[inline(always)]
    fn set_state(&mut self, row: usize, state: State) {
        if let Some(place) = self.state.get_mut(row) {
            *place = state;
        }
    }

    /// Notes that `row` has got a value, which ends at `end`.
    #[inline(always)]
    fn filled(&mut self, row: usize, end: usize) -> Option<usize> {
        *self.state.get_mut(row)? = State::Value;
        Some(end)
    }

    /// Puts a value that ends at `end` into `row`.
    #[inline(always)]
    fn put_float64(&mut self, row: usize, value: f64, end: usize) -> Option<usize> {
        let Values::Float64(values) = &mut self.values else {
            return None;
        };
        *values.get_mut(row)? = value;
        self.filled(row, end)
    }

    /// The timestamp of `row`, if this is a timestamp column and has one there.
    #[inline(always)]
    pub(crate) fn timestamp(&self, row: usize) -> Option<i64> {
        let Values::Timestamp(values) = &self.values else {
            return None;
        };
        let there = self.state(row) == State::Value;
        values.get(row).copied().filter(|_| there)
    }

    /// Forgets what `row`, the last one that has got anything, has got.
    pub(crate) fn forget(&mut self, row: usize) {
        self.set_state(row, State::Missing);
        match &mut self.values {
            Values::String(views) | Values::Binary(views) | Values::Json(views) => {
                views.forget(row);
            }
            Values::List(items) => {
                // All rows from this one on, for they may be items of a list themselves.
                while let Some((_, before)) = items.starts.pop_if(|(at, _)| *at >= row) {
                    for at in (before..items.count).rev() {
                        items.item.forget(at);
                    }
                    items.count = before;
                }
            }
            Values::Bool(_)
            | Values::Int32(_)
            | Values::Int64(_)
            | Values::Float32(_)
            | Values::Float64(_)
            | Values::Decimal(..)
            | Values::Date(_)
            | Values::Timestamp(_) => {}
        }
    }

    /// Reads the value at `at` into `row`, if it is usual for the type; says where it ends. It is
    /// only if [`ends_value`](Cursor::ends_value).
    #[inline(always)]
    pub(crate) fn usual(
        &mut self,
        row: usize,
        cursor: &mut Cursor<'_>,
        at: usize,
    ) -> Option<usize> {
        (self.read_usual)(self, row, cursor, at)
    }

    /// Reads any value under the cursor into `row`; `depth` containers are open around it.
    #[inline(never)]
    pub(crate) fn read(
        &mut self,
        row: usize,
        cursor: &mut Cursor<'_>,
        depth: u32,
    ) -> Result<State, Stop> {
        let start = cursor.pos;
        if let Some(end) = self.usual(row, cursor, start)
            && cursor.ends_value(end)
        {
            cursor.pos = end;
            return Ok(State::Value);
        }
        let token = cursor.token(depth)?;
        Ok(self.set(row, token, cursor.bytes(), start, cursor.pos))
    }

    /// Puts the value that stands in `bytes` from `start` to `end`, already passed as `token`,
    /// into `row`, which must have been forgotten if it had one.
    pub(crate) fn set(
        &mut self,
        row: usize,
        token: Token,
        bytes: &[u8],
        start: usize,
        end: usize,
    ) -> State {
        let state = self.convert(row, token, bytes, start, end);
        self.set_state(row, state);
        state
    }

    /// Notes that `row` has no value of this type.
    pub(crate) fn refuse(&mut self, row: usize, state: State) {
        self.set_state(row, state);
    }

    /// Puts text that is known to be JSON into `row` of a json column.
    pub(crate) fn set_json(&mut self, row: usize, text: &[u8]) {
        if let Values::Json(views) = &mut self.values {
            views.put(row, text);
            self.set_state(row, State::Value);
        }
    }
}

/// Reads the value at a position into a row, if it is usual for the column's type: where it ends.
type ReadUsual = fn(&mut Column, usize, &mut Cursor<'_>, usize) -> Option<usize>;

/// Reads a 64-bit float that is not of the shortest.
#[inline(never)]
fn longer_float64(
    column: &mut Column,
    row: usize,
    cursor: &mut Cursor<'_>,
    at: usize,
) -> Option<usize> {
    let (value, end) = cursor.longer_float(at)?;
    column.put_float64(row, value, end)
}

/// How the usual values of a type are read. One small function for each: of all in one, a compiler
/// makes twice the instructions.
fn read_usual(column_type: &ColumnType, timestamp: &TimestampReader) -> ReadUsual {
    match (column_type, timestamp) {
        (ColumnType::Int32, _) => |column, row, cursor, at| {
            let (value, end) = cursor.short_integer(at)?;
            let Values::Int32(values) = &mut column.values else {
                return None;
            };
            *values.get_mut(row)? = i32::try_from(value).ok()?;
            column.filled(row, end)
        },
        (ColumnType::Int64, _) | (ColumnType::Timestamp, TimestampReader::Auto) => {
            |column, row, cursor, at| {
                let (value, end) = cursor.short_integer(at)?;
                let (Values::Int64(values) | Values::Timestamp(values)) = &mut column.values else {
                    return None;
                };
                *values.get_mut(row)? = value;
                column.filled(row, end)
            }
        }
        (ColumnType::Float64, _) => |column, row, cursor, at| match cursor.short_float(at) {
            Some((value, end)) => column.put_float64(row, value, end),
            None => longer_float64(column, row, cursor, at),
        },
        (ColumnType::String, _) => |column, row, cursor, at| {
            let Values::String(views) = &mut column.values else {
                return None;
            };
            if cursor.at(at) != b'"' {
                return None;
            }
            let end = views.read(row, cursor, at)?;
            column.filled(row, end)
        },
        _ => |_, _, _, _| None,
    }
}
