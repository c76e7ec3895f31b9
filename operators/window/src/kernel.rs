//! How the values of a batch get into the accumulators: one pass per measure.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMillisecondType,
};
use thalweg_state::{FingerprintSet, PaneMut, Reader, Slot, fingerprint, put_bytes, put_u32};
use thalweg_stream::{Fault, key};

use crate::accumulator::{add_float, add_int, int, rank, split};
use crate::measure::{Measure, Measures, Numbers, ROWS};

/// Rows of one window of a batch, with the slot each belongs to.
pub(crate) struct Target<'a, 'p> {
    rows: &'a [u32],
    slots: &'a [Slot],
    pane: &'a mut PaneMut<'p>,
    /// Whether the rows themselves are counted.
    counted: bool,
}

impl<'a, 'p> Target<'a, 'p> {
    pub(crate) fn new(rows: &'a [u32], slots: &'a [Slot], pane: &'a mut PaneMut<'p>) -> Self {
        Self {
            rows,
            slots,
            pane,
            counted: false,
        }
    }

    /// Counts every row in its slot, unless a measure has done so along with its own.
    pub(crate) fn count_rows(&mut self) {
        if !self.counted {
            self.each(None, |_, _| ());
        }
    }

    /// Calls `update` with each row that takes part and the words of its slot.
    #[inline]
    fn each(&mut self, mask: Option<&BooleanBuffer>, mut update: impl FnMut(usize, &mut [u64])) {
        let rows = (self.slots.iter().zip(self.rows)).map(|(&slot, &row)| (slot, row as usize));
        match mask {
            None if self.counted => self.pane.each_touched(rows, update),
            None => {
                self.counted = true;
                self.pane.each_touched(rows, |row, words| {
                    if let Some(count) = words.get_mut(ROWS) {
                        *count += 1;
                    }
                    update(row, words);
                });
            }
            Some(mask) => {
                let rows = rows.filter(|&(_, row)| mask.value(row));
                self.pane.each_touched(rows, update);
            }
        }
    }
}

/// The words a new slot starts with: extremes of nothing, else zero.
pub(crate) fn initial_words(measures: &Measures) -> Vec<u64> {
    let mut words = vec![0; measures.words];
    for measure in &measures.list {
        for (at, wide, narrow) in [
            (measure.min, i128::MAX, i64::MAX),
            (measure.max, i128::MIN, i64::MIN),
        ] {
            match (at, measure.numbers) {
                (Some(at), Numbers::Int | Numbers::Float) => words[at] = narrow as u64,
                (Some(at), Numbers::Decimal) => {
                    words[at..at + 2].copy_from_slice(&split(wide));
                }
                (Some(_), Numbers::Bytes | Numbers::None) | (None, _) => {}
            }
        }
    }
    words
}

/// Brings `target`'s values of one measure into the accumulators.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "a measure's numbers follow its column's type"
)]
pub(crate) fn update(
    measure: &Measure,
    batch: &RecordBatch,
    target: &mut Target<'_, '_>,
) -> Result<(), Fault> {
    let mask = mask(measure, batch)?;
    let mask = mask.as_ref();
    let Some(argument) = measure.argument else {
        count(measure, mask, target);
        return Ok(());
    };
    let column = column(batch, argument)?;
    match (measure.numbers, column.data_type()) {
        (Numbers::Int, DataType::Int64) => {
            let values = column.as_primitive::<Int64Type>().values();
            ints(measure, mask, target, |row| values[row]);
        }
        (Numbers::Int, DataType::Int32) => {
            let values = column.as_primitive::<Int32Type>().values();
            ints(measure, mask, target, |row| i64::from(values[row]));
        }
        (Numbers::Int, DataType::Timestamp(_, _)) => {
            let values = column.as_primitive::<TimestampMillisecondType>().values();
            ints(measure, mask, target, |row| values[row]);
        }
        (Numbers::Int, DataType::Date32) => {
            let values = column.as_primitive::<Date32Type>().values();
            ints(measure, mask, target, |row| i64::from(values[row]));
        }
        (Numbers::Int, DataType::Boolean) => {
            let values = column.as_boolean().values();
            ints(measure, mask, target, |row| i64::from(values.value(row)));
        }
        (Numbers::Float, DataType::Float64) => {
            let values = column.as_primitive::<Float64Type>().values();
            floats(measure, mask, target, |row| values[row]);
        }
        (Numbers::Float, DataType::Float32) => {
            let values = column.as_primitive::<Float32Type>().values();
            floats(measure, mask, target, |row| f64::from(values[row]));
        }
        (Numbers::Decimal, DataType::Decimal128(_, _)) => {
            let values = column.as_primitive::<Decimal128Type>().values();
            decimals(measure, mask, target, |row| values[row]);
        }
        (Numbers::Bytes, DataType::Utf8View) => {
            let values = column.as_string_view();
            texts(measure, mask, target, |row| values.value(row).as_bytes());
        }
        (Numbers::Bytes, DataType::BinaryView) => {
            let values = column.as_binary_view();
            texts(measure, mask, target, |row| values.value(row));
        }
        (Numbers::None, _) => count(measure, mask, target),
        (_, other) => {
            return Err(Fault::bug(format!(
                "argument at position {argument} has type {other}"
            )));
        }
    }
    Ok(())
}

/// The rows that take part, or nothing if all do.
fn mask(measure: &Measure, batch: &RecordBatch) -> Result<Option<BooleanBuffer>, Fault> {
    let mut mask = None;
    if let Some(at) = measure.filter {
        let filter = (column(batch, at)?.as_boolean_opt())
            .ok_or_else(|| Fault::bug("a filter is not boolean"))?;
        mask = Some(match filter.nulls() {
            Some(nulls) => filter.values() & nulls.inner(),
            None => filter.values().clone(),
        });
    }
    if let Some(at) = measure.argument
        && let Some(nulls) = column(batch, at)?.nulls()
        && nulls.null_count() > 0
    {
        mask = Some(match mask {
            Some(mask) => &mask & nulls.inner(),
            None => nulls.inner().clone(),
        });
    }
    Ok(mask)
}

fn column(batch: &RecordBatch, at: usize) -> Result<&ArrayRef, Fault> {
    (batch.columns().get(at)).ok_or_else(|| Fault::bug(format!("column {at} is missing")))
}

#[inline]
fn pair(words: &mut [u64], at: usize) -> Option<&mut [u64; 2]> {
    words.get_mut(at..)?.first_chunk_mut()
}

/// Counts a value that takes part; rows are counted when they are assigned.
#[inline]
fn bump(words: &mut [u64], count: usize) {
    if count != ROWS
        && let Some(word) = words.get_mut(count)
    {
        *word += 1;
    }
}

fn count(measure: &Measure, mask: Option<&BooleanBuffer>, target: &mut Target<'_, '_>) {
    if measure.count != ROWS {
        target.each(mask, |_, words| bump(words, measure.count));
    }
}

/// Where a measure keeps count, sum, least and greatest, of those that it keeps.
type Places = [Option<usize>; 4];

/// Calls `update` with the places, the value of each row that takes part, and its words. Which
/// places there are is decided here for all rows, as far as `update` is inlined.
#[inline(always)]
fn by_places<V>(
    measure: &Measure,
    mask: Option<&BooleanBuffer>,
    target: &mut Target<'_, '_>,
    value: impl Fn(usize) -> V,
    update: impl Fn(Places, V, &mut [u64]),
) {
    let count = Some(measure.count).filter(|&count| count != ROWS);
    match [count, measure.sum, measure.min, measure.max] {
        [None, Some(sum), None, None] => target.each(mask, |row, words| {
            update([None, Some(sum), None, None], value(row), words);
        }),
        [None, Some(sum), Some(min), Some(max)] => target.each(mask, |row, words| {
            update([None, Some(sum), Some(min), Some(max)], value(row), words);
        }),
        [Some(count), Some(sum), Some(min), Some(max)] => target.each(mask, |row, words| {
            let places = [Some(count), Some(sum), Some(min), Some(max)];
            update(places, value(row), words);
        }),
        places => target.each(mask, |row, words| update(places, value(row), words)),
    }
}

#[inline(always)]
fn extremes([count, _, min, max]: Places, words: &mut [u64], value: i64) {
    bump(words, count.unwrap_or(ROWS));
    if let Some(word) = min.and_then(|at| words.get_mut(at)) {
        *word = (*word as i64).min(value) as u64;
    }
    if let Some(word) = max.and_then(|at| words.get_mut(at)) {
        *word = (*word as i64).max(value) as u64;
    }
}

fn ints(
    measure: &Measure,
    mask: Option<&BooleanBuffer>,
    target: &mut Target<'_, '_>,
    value: impl Fn(usize) -> i64,
) {
    by_places(measure, mask, target, value, |places, value, words| {
        if let Some(sum) = places[1].and_then(|at| pair(words, at)) {
            add_int(sum, i128::from(value));
        }
        extremes(places, words, value);
    });
}

fn floats(
    measure: &Measure,
    mask: Option<&BooleanBuffer>,
    target: &mut Target<'_, '_>,
    value: impl Fn(usize) -> f64,
) {
    by_places(measure, mask, target, value, |places, value, words| {
        if let Some(sum) = places[1].and_then(|at| pair(words, at)) {
            add_float(sum, value);
        }
        extremes(places, words, rank(value));
    });
}

fn decimals(
    measure: &Measure,
    mask: Option<&BooleanBuffer>,
    target: &mut Target<'_, '_>,
    value: impl Fn(usize) -> i128,
) {
    target.each(mask, |row, words| {
        let value = value(row);
        bump(words, measure.count);
        if let Some(sum) = measure.sum.and_then(|at| pair(words, at)) {
            add_int(sum, value);
        }
        if let Some(min) = measure.min.and_then(|at| pair(words, at)) {
            *min = split(int(*min).min(value));
        }
        if let Some(max) = measure.max.and_then(|at| pair(words, at)) {
            *max = split(int(*max).max(value));
        }
    });
}

fn texts<'v>(
    measure: &Measure,
    mask: Option<&BooleanBuffer>,
    target: &mut Target<'_, '_>,
    value: impl Fn(usize) -> &'v [u8],
) {
    let mut payload = Vec::new();
    let rows = target.rows.iter().zip(target.slots);
    for (&row, &slot) in rows {
        let row = row as usize;
        if mask.is_some_and(|mask| !mask.value(row)) {
            continue;
        }
        bump(target.pane.touched_mut(slot), measure.count);
        for (at, better) in [
            (measure.min, std::cmp::Ordering::Less),
            (measure.max, std::cmp::Ordering::Greater),
        ] {
            let Some(at) = at else { continue };
            let pane = target.pane.as_ref();
            let current = pane.payload(slot);
            let value = value(row);
            if text(current, at).is_none_or(|old| value.cmp(old) == better) {
                replace_text(current, at, value, &mut payload);
                target.pane.set_payload(slot, &payload);
            }
        }
    }
}

/// Length that stands for "no value yet".
const NO_TEXT: u32 = u32::MAX;

/// Entry `at` of a payload: each is a length (u32) and bytes.
pub(crate) fn text(payload: &[u8], at: usize) -> Option<&[u8]> {
    let mut reader = Reader::new(payload);
    for _ in 0..at {
        skip_text(&mut reader)?;
    }
    skip_text(&mut reader)?
}

/// Reads the next entry, which may be no value; nothing at the payload's end.
fn skip_text<'a>(reader: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    match reader.u32().ok()? {
        NO_TEXT => Some(None),
        length => reader.take(length as usize).ok().map(Some),
    }
}

pub(crate) fn replace_text(old: &[u8], at: usize, value: &[u8], new: &mut Vec<u8>) {
    new.clear();
    let mut reader = Reader::new(old);
    let mut entry = 0;
    loop {
        let before = skip_text(&mut reader);
        if before.is_none() && entry > at {
            return;
        }
        match before.flatten() {
            _ if entry == at => put_bytes(new, value),
            Some(bytes) => put_bytes(new, bytes),
            None => put_u32(new, NO_TEXT),
        }
        entry += 1;
    }
}

/// Adds the values of a distinct count to `set`, and counts those that are new.
///
/// A fingerprint covers the measure's number, the encoded key and the encoded value.
pub(crate) fn distinct(
    measure: (usize, &Measure),
    batch: &RecordBatch,
    window_start: i64,
    target: &mut Target<'_, '_>,
    set: &mut FingerprintSet,
) -> Result<(), Fault> {
    let (number, measure) = measure;
    let (Some(argument), Some(counter)) = (measure.argument, measure.distinct) else {
        return Ok(());
    };
    let mask = mask(measure, batch)?;
    let column = column(batch, argument)?;
    let mut bytes = Vec::new();
    for (&row, &slot) in target.rows.iter().zip(target.slots) {
        let row = row as usize;
        if mask.as_ref().is_some_and(|mask| !mask.value(row)) {
            continue;
        }
        bytes.clear();
        put_u32(&mut bytes, number as u32);
        let entry = target.pane.as_ref().entry(slot);
        put_bytes(&mut bytes, entry.key.as_slice());
        let group = key::key_group(entry.hash);
        key::encode_value(column, row, &mut bytes)?;
        if set.insert(window_start, group, fingerprint(&bytes), 0)
            && let Some(word) = target.pane.touched_mut(slot).get_mut(counter)
        {
            *word += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{replace_text, text};

    #[test]
    fn payload_entries_are_replaced_one_by_one() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        replace_text(&[], 2, b"two", &mut a);
        assert_eq!(
            (text(&a, 0), text(&a, 2), text(&a, 3)),
            (None, Some(&b"two"[..]), None)
        );
        replace_text(&a, 0, b"", &mut b);
        replace_text(&b, 2, b"II", &mut a);
        let entries: Vec<_> = (0..3).map(|at| text(&a, at)).collect();
        assert_eq!(entries, [Some(&b""[..]), None, Some(&b"II"[..])]);
    }
}
