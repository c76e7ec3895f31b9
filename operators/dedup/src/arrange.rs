//! Rows in the order in which they are looked up: by slice, then by the first byte of the key.
//!
//! Keys are spread evenly, so rows as they come are each looked for in memory that is in no cache
//! and on a page that the processor has to translate first. Thousands of rows at a time, those of
//! one part of the state are looked up together, and what the first of them brings near is there
//! for the others.

use std::ops::Range;

use thalweg_state::Print;
use thalweg_stream::{Fault, StreamSchema};

use crate::epoch::{EpochBatch, RowAt};
use crate::slice::Slices;

/// Values of the first byte.
const PARTS: usize = 256;
/// Slices from the first to the last at which rows are still counted by slice and part: the
/// counters fit the first cache.
const SLICES_MAX: i64 = 16;
/// Rows for which counting pays.
const ROWS_MIN: usize = 256;

/// Rows by slice and, where there are many, first byte of the key; those alike in the order in
/// which they came. Memory is kept from time to time.
#[derive(Debug, Default)]
pub(crate) struct Arranged {
    timed: bool,
    pub(crate) prints: Vec<Print>,
    /// As many as there are rows, or none.
    pub(crate) times: Vec<i64>,
    pub(crate) rows: Vec<RowAt>,
    /// Slices with the end of their rows, ascending.
    slices: Vec<(i64, usize)>,
    /// Where the next row of a slice and first byte goes.
    next: Vec<u32>,
    /// Slice and first byte of each row, counted from the first slice.
    keys: Vec<u32>,
}

/// The key of a row that does not count.
const NO_KEY: u32 = u32::MAX;

impl Arranged {
    /// Nothing yet; rows have their times with them or not.
    pub(crate) fn new(timed: bool) -> Self {
        Self {
            timed,
            ..Self::default()
        }
    }

    /// Arranges those rows of `batches`, which are numbered from `first` on, that are to be passed on.
    pub(crate) fn fill(
        &mut self,
        batches: &[EpochBatch],
        first: u32,
        (schema, slices): (&StreamSchema, Slices),
    ) -> Result<(), Fault> {
        let mut all = Vec::with_capacity(batches.len());
        let (mut rows, mut oldest, mut newest) = (0, i64::MAX, i64::MIN);
        for batch in batches {
            let times = schema.event_times(&batch.rows)?;
            for (&passes, &time) in batch.passes.iter().zip(times) {
                rows += usize::from(passes);
                oldest = oldest.min(if passes { time } else { i64::MAX });
                newest = newest.max(if passes { time } else { i64::MIN });
            }
            all.push((batch, times));
        }
        self.slices.clear();
        self.prints.clear();
        self.times.clear();
        self.rows.clear();
        if rows == 0 {
            return Ok(());
        }
        let base = slices.of(oldest);
        let span = slices.of(newest).saturating_sub(base);
        if span < SLICES_MAX && rows >= ROWS_MIN {
            self.prints.resize(rows, Print::new(0, 0));
            if self.timed {
                self.times.resize(rows, 0);
            }
            self.rows.resize(rows, RowAt { batch: 0, row: 0 });
            self.count(&all, (base, span as usize + 1), slices);
            self.place(&all, first);
        } else {
            self.sort(&all, first, slices);
        }
        Ok(())
    }

    /// Counts the rows of each slice and first byte, to know where they go.
    fn count(
        &mut self,
        batches: &[(&EpochBatch, &[i64])],
        (base, span): (i64, usize),
        slices: Slices,
    ) {
        self.keys.clear();
        self.next.clear();
        self.next.resize(span * PARTS, 0);
        // The slice of the row before, usually that of the next.
        let (mut slice, mut times_of) = (base, slices.times(base));
        for &(batch, times) in batches {
            let rows = batch.prints.iter().zip(times).zip(&batch.passes);
            for ((print, &time), &passes) in rows {
                if !passes {
                    self.keys.push(NO_KEY);
                    continue;
                }
                if !times_of.contains(&time) {
                    slice = slices.of(time);
                    times_of = slices.times(slice);
                }
                let key = (slice - base) as usize * PARTS + (print.spread() >> 56) as usize;
                self.next[key] += 1;
                self.keys.push(key as u32);
            }
        }
        let mut end = 0;
        for (slice, counts) in (base..).zip(self.next.chunks_mut(PARTS)) {
            let start = end;
            for count in counts {
                (*count, end) = (end, end + *count);
            }
            if end > start {
                self.slices.push((slice, end as usize));
            }
        }
    }

    fn place(&mut self, batches: &[(&EpochBatch, &[i64])], first: u32) {
        let mut keys = self.keys.iter();
        for (number, (batch, times)) in (first..).zip(batches) {
            let rows = (0_u32..).zip(batch.prints.iter().zip(*times));
            for ((row, (&print, &time)), &key) in rows.zip(&mut keys) {
                if key == NO_KEY {
                    continue;
                }
                let next = &mut self.next[key as usize];
                let at = *next as usize;
                *next += 1;
                self.prints[at] = print;
                if self.timed {
                    self.times[at] = time;
                }
                self.rows[at] = RowAt { batch: number, row };
            }
        }
    }

    /// The same by slice alone, for few rows or many slices.
    fn sort(&mut self, batches: &[(&EpochBatch, &[i64])], first: u32, slices: Slices) {
        let mut order = Vec::new();
        for (number, &(batch, times)) in (first..).zip(batches) {
            let rows = batch.prints.iter().zip(times).zip(&batch.passes);
            for (row, ((&print, &time), &passes)) in (0_u32..).zip(rows) {
                if passes {
                    let at = RowAt { batch: number, row };
                    order.push((slices.of(time), at, print, time));
                }
            }
        }
        order.sort_unstable_by_key(|&(slice, at, ..)| (slice, at));
        for rows in order.chunk_by(|a, b| a.0 == b.0) {
            for &(_, at, print, time) in rows {
                self.prints.push(print);
                if self.timed {
                    self.times.push(time);
                }
                self.rows.push(at);
            }
            self.slices.push((rows[0].0, self.rows.len()));
        }
    }

    /// Blocks of at most so many rows, each of one slice.
    pub(crate) fn blocks(&self, rows_max: usize) -> impl Iterator<Item = (i64, Range<usize>)> + '_ {
        let mut start = 0;
        self.slices.iter().flat_map(move |&(slice, end)| {
            let from = std::mem::replace(&mut start, end);
            (from..end)
                .step_by(rows_max)
                .map(move |at| (slice, at..end.min(at.saturating_add(rows_max))))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, TimestampMillisecondArray, UInt64Array};
    use thalweg_state::{Print, fingerprint};
    use thalweg_stream::{Column, ColumnType, StreamSchema};

    use super::{Arranged, ROWS_MIN};
    use crate::epoch::{EpochBatch, RowAt};
    use crate::slice::Slices;

    fn batch(times: Vec<i64>) -> (StreamSchema, EpochBatch) {
        let schema = StreamSchema::append(vec![Column::new("n", ColumnType::Int64)], true);
        let rows = times.len();
        let print = |row: usize| Print::new(0, fingerprint(&(row % 300).to_le_bytes()));
        let batch = EpochBatch {
            prints: (0..rows).map(print).collect(),
            passes: (times.iter().enumerate())
                .map(|(row, &time)| !row.is_multiple_of(5) && time > -100)
                .collect(),
            rows: RecordBatch::try_new(
                schema.arrow(),
                vec![
                    Arc::new(Int64Array::from_iter_values(0..rows as i64)),
                    Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC")),
                    Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
                ],
            )
            .unwrap(),
        };
        (schema, batch)
    }

    /// Few rows and many, of few slices and many: the order is the same but for the first byte.
    #[test]
    fn rows_lie_by_slice_and_else_as_they_came() {
        let slices = Slices::new(400, false);
        for (rows, apart) in [(0, 1), (1, 1), (ROWS_MIN * 2, 1), (700, 1000), (700, 3)] {
            let times = (0..rows as i64)
                .map(|row| row * 7919 % 500 * apart - 200)
                .collect();
            let (schema, batch) = batch(times);
            let times = schema.event_times(&batch.rows).unwrap();
            let mut expected: Vec<(i64, u32)> = (0..rows as u32)
                .filter(|&row| batch.passes[row as usize])
                .map(|row| (slices.of(times[row as usize]), row))
                .collect();
            expected.sort_unstable();
            let mut arranged = Arranged::new(true);
            let batches = std::slice::from_ref(&batch);
            arranged.fill(batches, 7, (&schema, slices)).unwrap();
            let mut found = Vec::new();
            let mut last = None;
            for (slice, block) in arranged.blocks(10) {
                assert!((1..=10).contains(&block.len()));
                for at in block {
                    let RowAt { batch: number, row } = arranged.rows[at];
                    assert_eq!(number, 7);
                    assert_eq!(arranged.times[at], times[row as usize]);
                    assert_eq!(arranged.prints[at], batch.prints[row as usize]);
                    let part = arranged.prints[at].spread() >> 56;
                    if last.is_some_and(|(s, p, before)| (s, p) == (slice, part) && before > row) {
                        panic!("row {row} came later");
                    }
                    last = Some((slice, part, row));
                    found.push((slice, row));
                }
            }
            assert!(found.is_sorted_by_key(|found| found.0));
            found.sort_unstable();
            assert_eq!(found, expected);
        }
    }
}
