//! From rows to an Arrow array: exact copies of what a batch needs.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int32Array, Int64Array, ListArray, StringViewArray, TimestampMillisecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Field;
use thalweg_stream::Fault;

use super::view::Views;
use super::{Column, Items, State, Values};

impl Column {
    /// The first `rows` rows as an array, unless nobody wants them; then all rows are forgotten.
    pub(crate) fn finish(&mut self, rows: usize) -> Result<Option<ArrayRef>, Fault> {
        let array = if self.kept {
            Some(self.array(rows)?)
        } else {
            None
        };
        self.clear(rows);
        Ok(array)
    }

    fn array(&mut self, rows: usize) -> Result<ArrayRef, Fault> {
        let state = self.state.get(..rows).unwrap_or_default();
        let is_value = |row: usize| state.get(row) == Some(&State::Value);
        let nulls = if state.iter().all(|s| *s == State::Value) {
            None
        } else {
            let values = BooleanBuffer::collect_bool(rows, is_value);
            Some(NullBuffer::new(values))
        };
        Ok(match &mut self.values {
            Values::Bool(values) => {
                let bits = BooleanBuffer::collect_bool(rows, |row| {
                    is_value(row) && values.get(row) == Some(&true)
                });
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::Int32(values) => {
                Arc::new(Int32Array::try_new(copy(values, state, &nulls), nulls)?)
            }
            Values::Int64(values) => {
                Arc::new(Int64Array::try_new(copy(values, state, &nulls), nulls)?)
            }
            Values::Float32(values) => {
                Arc::new(Float32Array::try_new(copy(values, state, &nulls), nulls)?)
            }
            Values::Float64(values) => {
                Arc::new(Float64Array::try_new(copy(values, state, &nulls), nulls)?)
            }
            Values::Decimal(values, precision, scale) => {
                let array = Decimal128Array::try_new(copy(values, state, &nulls), nulls)?;
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            Values::Date(values) => {
                Arc::new(Date32Array::try_new(copy(values, state, &nulls), nulls)?)
            }
            Values::Timestamp(values) => {
                let values = copy(values, state, &nulls);
                Arc::new(TimestampMillisecondArray::try_new(values, nulls)?.with_timezone("UTC"))
            }
            Values::String(views) | Values::Json(views) => string_array(views, state, nulls),
            Values::Binary(views) => binary_array(views, state, nulls),
            Values::List(items) => items.array(state, nulls)?,
        })
    }

    /// Forgets the first `rows` rows, which are all there are.
    fn clear(&mut self, rows: usize) {
        if let Some(used) = self.state.get_mut(..rows) {
            used.fill(State::Missing);
        }
        match &mut self.values {
            Values::String(views) | Values::Binary(views) | Values::Json(views) => views.clear(),
            Values::List(items) => {
                items.item.clear(items.count);
                items.count = 0;
                items.starts.clear();
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
}

impl Items {
    fn array(&mut self, state: &[State], nulls: Option<NullBuffer>) -> Result<ArrayRef, Fault> {
        let lens = (self.lens.iter().zip(state)).map(|(len, state)| {
            if *state == State::Value {
                *len as usize
            } else {
                0
            }
        });
        let offsets = OffsetBuffer::from_lengths(lens);
        let item = Arc::new(Field::new_list_field(self.item.column_type.arrow(), true));
        let values = self.item.array(self.count)?;
        Ok(Arc::new(ListArray::try_new(item, offsets, values, nulls)?))
    }
}

/// The values of the rows of `state`, zero where there is none.
fn copy<T>(values: &[T], state: &[State], nulls: &Option<NullBuffer>) -> ScalarBuffer<T>
where
    T: Copy + Default + arrow::datatypes::ArrowNativeType,
{
    let rows = values.iter().zip(state);
    let values: Vec<T> = match nulls {
        None => values.get(..state.len()).unwrap_or_default().to_vec(),
        Some(_) => rows
            .map(|(value, state)| match state {
                State::Value => *value,
                State::Missing
                | State::Null
                | State::WrongType
                | State::OutOfRange
                | State::BadFormat
                | State::Inexact => T::default(),
            })
            .collect(),
    };
    ScalarBuffer::from(values)
}

#[allow(unsafe_code, reason = "checking UTF-8 again costs 9 ns a row")]
fn string_array(views: &Views, state: &[State], nulls: Option<NullBuffer>) -> ArrayRef {
    let (values, heap) = view_buffers(views, state, &nulls);
    // SAFETY: a view is written by `Views::read` and `Views::put` alone, with its own length, its
    // first bytes and, if longer than twelve, a range of the heap, which shrinks only when the row
    // it shrinks by is forgotten. Rows without a value have the view of the empty string. The
    // content of every accepted row is UTF-8: the record was checked as a whole if it had other
    // than ASCII, and escapes stand for whole characters.
    let array = unsafe { StringViewArray::new_unchecked(values, heap, nulls) };
    Arc::new(array)
}

fn binary_array(views: &Views, state: &[State], nulls: Option<NullBuffer>) -> ArrayRef {
    let (values, heap) = view_buffers(views, state, &nulls);
    #[allow(unsafe_code, reason = "as above")]
    // SAFETY: as in `string_array`; bytes need not be UTF-8.
    let array = unsafe { BinaryViewArray::new_unchecked(values, heap, nulls) };
    Arc::new(array)
}

fn view_buffers(
    views: &Views,
    state: &[State],
    nulls: &Option<NullBuffer>,
) -> (ScalarBuffer<u128>, Vec<Buffer>) {
    let values = copy(&views.views, state, nulls);
    let heap = if views.heap.is_empty() {
        Vec::new()
    } else {
        vec![Buffer::from_slice_ref(&views.heap)]
    };
    (values, heap)
}
