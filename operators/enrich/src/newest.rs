//! The newest versions of a table's rows as columns, so that most rows are answered without
//! reading a payload.
//!
//! The columns lie in order of slots. They are derived from the table, never part of a checkpoint,
//! and not kept up to date: a slot that changes is struck out and answered from its payload until
//! the columns are made again. That happens once as many rows have been answered from payloads as
//! there are slots, so that it costs a row no more than that did. Texts that do not fit their views
//! are left out, as each batch would hold on to all of them.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{interleave, take};
use thalweg_state::{ColumnBuilder, PaneRef, Reader, Slot};
use thalweg_stream::Fault;

use crate::plan::Plan;
use crate::version::newest;

/// Slots beyond which no columns are made: making them would hold up the stream.
const SLOTS_MAX: usize = 1 << 20;
/// Longest text that lies within its view (bytes).
const VIEW_BYTES_MAX: u32 = 12;
/// The time of a slot that the columns have nothing of.
const NEVER: i64 = i64::MAX;

/// The newest version of every slot, if it is a row.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    columns: Vec<ArrayRef>,
    /// From which time on the columns answer for a slot.
    since: Vec<i64>,
    /// Rows answered from payloads since the columns were made.
    missed: usize,
}

impl Newest {
    /// Whether the columns answer for a row of `slot` at `time`.
    #[inline]
    pub(crate) fn answers(&self, slot: Slot, time: i64) -> bool {
        (self.since.get(slot.number())).is_some_and(|&since| since <= time && since != NEVER)
    }

    /// Says that the columns do not answer for `slot` any more.
    pub(crate) fn strike_out(&mut self, slot: Slot) {
        if let Some(since) = self.since.get_mut(slot.number()) {
            *since = NEVER;
        }
    }

    /// Counts rows that were answered otherwise, and makes the columns again if that pays.
    pub(crate) fn missed(
        &mut self,
        rows: usize,
        table: Option<PaneRef<'_>>,
        plan: &Plan,
    ) -> Result<(), Fault> {
        self.missed += rows;
        let Some(table) = table else { return Ok(()) };
        let slots = table.slots();
        if rows == 0 || self.missed < slots || slots > SLOTS_MAX {
            return Ok(());
        }
        self.missed = 0;
        self.since = vec![NEVER; slots];
        for entry in table.entries() {
            if let Some(version) = newest(entry.payload)?
                && !version.deleted
                && let Some(since) = self.since.get_mut(entry.slot.number())
            {
                *since = version.time;
            }
        }
        self.columns = self.build(table, plan)?;
        let mut long = false;
        for column in &self.columns {
            for (since, view) in self.since.iter_mut().zip(views(column)) {
                if VIEW_BYTES_MAX < *view as u32 {
                    (*since, long) = (NEVER, true);
                }
            }
        }
        if long {
            self.columns = self.build(table, plan)?;
        }
        Ok(())
    }

    /// Bytes of memory in use.
    pub(crate) fn memory_bytes(&self) -> usize {
        let columns = self.columns.iter();
        let columns: usize = columns.map(|column| column.get_array_memory_size()).sum();
        columns + self.since.capacity() * size_of::<i64>()
    }

    fn build(&self, table: PaneRef<'_>, plan: &Plan) -> Result<Vec<ArrayRef>, Fault> {
        let mut columns = plan.taken()?;
        for (number, &since) in self.since.iter().enumerate() {
            let version = match since {
                NEVER => None,
                _ => newest(table.payload(Slot::of_number(number)))?,
            };
            match version {
                Some(version) => {
                    let mut values = Reader::new(version.values);
                    for column in &mut columns {
                        column.push(&mut values)?;
                    }
                }
                None => columns.iter_mut().for_each(ColumnBuilder::push_null),
            }
        }
        columns.iter_mut().map(ColumnBuilder::finish).collect()
    }

    /// The taken columns of a batch: per row the slot whose newest version it sees, or nothing
    /// where the next of `others` is its own.
    pub(crate) fn gather(
        &self,
        slots: &[Option<Slot>],
        others: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, Fault> {
        let own = slots.iter().filter(|slot| slot.is_none()).count();
        if own == slots.len() {
            return Ok(others.to_vec());
        }
        if own == 0 {
            let slots = slots.iter().flatten().map(|slot| slot.number() as u32);
            let slots = UInt32Array::from_iter_values(slots);
            let columns = self.columns.iter();
            return Ok(columns
                .map(|column| take(column, &slots, None))
                .collect::<Result<_, _>>()?);
        }
        let mut next = 0;
        let places: Vec<(usize, usize)> = (slots.iter())
            .map(|slot| match slot {
                Some(slot) => (1, slot.number()),
                None => {
                    next += 1;
                    (0, next - 1)
                }
            })
            .collect();
        let pairs = others.iter().zip(&self.columns);
        Ok(pairs
            .map(|(other, column)| interleave(&[other, column], &places))
            .collect::<Result<_, _>>()?)
    }
}

/// The views of a column of texts or bytes.
fn views(column: &ArrayRef) -> &[u128] {
    let texts = column.as_string_view_opt().map(|texts| texts.views());
    let views = texts.or_else(|| column.as_binary_view_opt().map(|bytes| bytes.views()));
    views.map_or(&[], |views| views)
}
