//! Rows that wait for the table.
//!
//! They lie in batches of their own (copied, so that they hold on to nothing else), sorted by
//! event time, and leave from the front. Batches never change, so a freeze only notes which there
//! are. A checkpoint says what has changed since the one before: a row leaves together with all that
//! are as old or older, so that one time tells which of those in earlier sections have left. Content
//! of a section, a log:
//!
//! | operation | content |
//! |---|---|
//! | `06` left | `time i64`: of the rows so far those at or before this time are gone |
//! | `07` row | with its length (u32): `origin u64`, then its other columns encoded |
//!
//! Up to version 2 it was `count u32`, then each row with its length, in the place of all that the
//! sections before had said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatch, UInt8Array, UInt32Array, UInt64Array,
};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::DataType;
use thalweg_state::{
    ColumnBuilder, Part, Pieces, Reader, StateError, encode_value, put_bytes, put_i64, put_u64,
};
use thalweg_stream::key::key_group;
use thalweg_stream::schema::batch_bytes;
use thalweg_stream::{Fault, KeyEncoder, KeyGroup, StreamSchema};

const LEFT: u8 = 0x06;
const ROW: u8 = 0x07;
/// The last version in which a section has all rows of its group.
const WHOLE_VERSION: u8 = 2;
/// The number of the restore, before all freezes.
const RESTORE: u64 = 0;

/// Rows held back, by time.
#[derive(Debug)]
pub(crate) struct HeldRows {
    schema: StreamSchema,
    encoder: KeyEncoder,
    batches: Vec<HeldBatch>,
    /// Number of the last freeze.
    freezes: u64,
    /// Which of the rows of earlier checkpoints have left since the last freeze…
    left: Left,
    /// …and between the freeze before and that one.
    frozen_left: Left,
    /// Frozen rows that are not yet written.
    unwritten: VecDeque<HeldBatch>,
    written: Pieces,
    /// What went wrong where nobody could be told.
    fault: Option<Fault>,
    /// Rows of a checkpoint, until all of them are here.
    restored: BTreeMap<KeyGroup, Vec<RecordBatch>>,
}

/// Rows sorted by event time, with the key group of each.
#[derive(Clone, Debug)]
struct HeldBatch {
    rows: RecordBatch,
    groups: UInt8Array,
    /// The number of the freeze that was the first to have it.
    since: Option<u64>,
}

/// Rows of these groups that are at or before a time.
#[derive(Debug, Default)]
struct Left {
    time: Option<i64>,
    groups: BTreeSet<KeyGroup>,
}

impl Left {
    fn merge(&mut self, later: Self) {
        self.time = self.time.max(later.time);
        self.groups.extend(later.groups);
    }
}

impl HeldBatch {
    fn slice(&self, from: usize) -> Self {
        let rest = self.rows.num_rows() - from;
        Self {
            rows: self.rows.slice(from, rest),
            groups: self.groups.slice(from, rest),
            since: self.since,
        }
    }
}

impl HeldRows {
    pub(crate) fn new(schema: StreamSchema, key: Vec<usize>) -> Self {
        Self {
            schema,
            encoder: KeyEncoder::new(key),
            batches: Vec::new(),
            freezes: RESTORE,
            left: Left::default(),
            frozen_left: Left::default(),
            unwritten: VecDeque::new(),
            written: Pieces::default(),
            fault: None,
            restored: BTreeMap::new(),
        }
    }

    /// Holds the given rows of `batch`.
    pub(crate) fn hold(&mut self, batch: &RecordBatch, rows: Vec<u32>) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = self.sorted(batch, rows)?;
        let hashes = self.encoder.hash_only(&rows)?;
        let groups = UInt8Array::from_iter_values(hashes.iter().map(|&hash| key_group(hash)));
        self.batches.push(HeldBatch {
            rows,
            groups,
            since: None,
        });
        Ok(())
    }

    fn sorted(&self, batch: &RecordBatch, mut rows: Vec<u32>) -> Result<RecordBatch, Fault> {
        let times = self.schema.event_times(batch)?;
        rows.sort_by_key(|&row| times[row as usize]);
        compact(&take_record_batch(batch, &UInt32Array::from(rows))?)
    }

    /// Takes out the rows at or before `time`.
    pub(crate) fn release(&mut self, time: i64) -> Result<Vec<RecordBatch>, Fault> {
        self.settle()?;
        let mut released = Vec::new();
        for held in &mut self.batches {
            let times = self.schema.event_times(&held.rows)?;
            let due = times.partition_point(|&t| t <= time);
            if due == 0 {
                continue;
            }
            released.push(held.rows.slice(0, due));
            if held.since.is_some() {
                self.left.time = self.left.time.max(Some(time));
                self.left.groups.extend(&held.groups.values()[..due]);
            }
            *held = held.slice(due);
        }
        self.batches.retain(|held| held.rows.num_rows() > 0);
        Ok(released)
    }

    /// How many rows are held.
    pub(crate) fn rows(&self) -> u64 {
        self.all().map(|rows| rows.num_rows() as u64).sum()
    }

    /// Bytes they hold on to.
    pub(crate) fn bytes(&self) -> usize {
        self.all().map(batch_bytes).sum()
    }

    fn all(&self) -> impl Iterator<Item = &RecordBatch> {
        let held = self.batches.iter().map(|held| &held.rows);
        held.chain(self.restored.values().flatten())
    }

    /// Turns what a checkpoint brought into rows that wait.
    fn settle(&mut self) -> Result<(), Fault> {
        for (group, batches) in std::mem::take(&mut self.restored) {
            let batch = concat_batches(&self.schema.arrow(), &batches)?;
            let rows = self.sorted(&batch, (0..batch.num_rows() as u32).collect())?;
            self.batches.push(HeldBatch {
                groups: UInt8Array::from_value(group, rows.num_rows()),
                rows,
                since: Some(RESTORE),
            });
        }
        Ok(())
    }

    /// What went wrong while rows were written or taken back.
    ///
    /// # Errors
    /// That.
    pub(crate) fn check(&mut self) -> Result<(), Fault> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Writes rows of `held` from the front on, about `budget` bytes of them; how many rows and how
    /// many bytes it were.
    fn write(&mut self, held: &HeldBatch, budget: usize) -> Result<(usize, usize), Fault> {
        let origins = self.schema.origins(&held.rows)?;
        let columns = &held.rows.columns()[..self.schema.origin_at()];
        let (mut row_bytes, mut bytes) = (Vec::new(), 0);
        for (row, (&origin, &group)) in origins.iter().zip(held.groups.values()).enumerate() {
            if bytes >= budget {
                return Ok((row, bytes));
            }
            row_bytes.clear();
            put_u64(&mut row_bytes, origin);
            for column in columns {
                encode_value(column, row, &mut row_bytes)?;
            }
            let out = self.written.end(group);
            out.push(ROW);
            put_bytes(out, &row_bytes);
            bytes += row_bytes.len();
        }
        Ok((origins.len(), bytes))
    }

    /// Takes the content of a section back.
    fn read(&mut self, group: KeyGroup, bytes: &[u8], version: u8) -> Result<(), Fault> {
        let mut content = Reader::new(bytes);
        let mut rows = RowReader::new(&self.schema)?;
        if version <= WHOLE_VERSION {
            self.restored.remove(&group);
            for _ in 0..content.u32()? {
                rows.push(content.bytes()?)?;
            }
            content.end()?;
        }
        while content.remaining() > 0 {
            match content.u8()? {
                ROW => rows.push(content.bytes()?)?,
                LEFT => {
                    self.keep(group, rows.finish()?);
                    self.leave(group, content.i64()?)?;
                }
                _ => return Err(StateError::Shape("no operation of rows that wait").into()),
            }
        }
        self.keep(group, rows.finish()?);
        Ok(())
    }

    fn keep(&mut self, group: KeyGroup, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.restored.entry(group).or_default().push(batch);
        }
    }

    /// Lets the rows of a checkpoint go that had left before it.
    fn leave(&mut self, group: KeyGroup, time: i64) -> Result<(), Fault> {
        for batch in self.restored.remove(&group).unwrap_or_default() {
            let times = self.schema.event_times(&batch)?;
            let stay: BooleanArray = times.iter().map(|&t| Some(t > time)).collect();
            self.keep(group, filter_record_batch(&batch, &stay)?);
        }
        Ok(())
    }
}

impl Part for HeldRows {
    fn freeze(&mut self, full: bool) {
        // What was restored and not touched since is turned into rows now.
        if let Err(fault) = self.settle() {
            self.fault = Some(fault);
        }
        self.freezes += 1;
        let frozen = self.batches.iter();
        let frozen = frozen.filter(|held| full || held.since.is_none());
        self.unwritten = frozen.cloned().collect();
        for held in &mut self.batches {
            held.since.get_or_insert(self.freezes);
        }
        self.frozen_left = std::mem::take(&mut self.left);
        self.written = Pieces::default();
        if let (Some(time), false) = (self.frozen_left.time, full) {
            for &group in &self.frozen_left.groups {
                let out = self.written.end(group);
                out.push(LEFT);
                put_i64(out, time);
            }
        }
    }

    fn drain(&mut self, budget_bytes: usize) -> (usize, bool) {
        let mut bytes = 0;
        while bytes < budget_bytes {
            let Some(held) = self.unwritten.pop_front() else {
                return (bytes, true);
            };
            match self.write(&held, budget_bytes - bytes) {
                Ok((rows, more)) => {
                    bytes += more;
                    if rows < held.rows.num_rows() {
                        self.unwritten.push_front(held.slice(rows));
                    }
                }
                Err(fault) => self.fault = Some(fault),
            }
        }
        (bytes, false)
    }

    fn full_group(&mut self) -> Option<KeyGroup> {
        self.written.full_group()
    }

    fn take_group(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.written.take(group, out);
        out.len() > start
    }

    fn thaw(&mut self) {
        self.unwritten.clear();
        self.written = Pieces::default();
        for held in &mut self.batches {
            held.since = held.since.filter(|&since| since != self.freezes);
        }
        let later = std::mem::replace(&mut self.left, std::mem::take(&mut self.frozen_left));
        self.left.merge(later);
    }

    fn restore_group(
        &mut self,
        group: KeyGroup,
        content: &mut Reader<'_>,
        version: u8,
    ) -> Result<(), StateError> {
        let bytes = content.take(content.remaining())?;
        if let Err(fault) = self.read(group, bytes, version) {
            self.fault = Some(fault);
        }
        Ok(())
    }

    fn forget_group(&mut self, group: KeyGroup) {
        self.restored.remove(&group);
    }
}

/// Collects rows that are read.
struct RowReader {
    schema: StreamSchema,
    columns: Vec<ColumnBuilder>,
    origins: Vec<u64>,
}

impl RowReader {
    fn new(schema: &StreamSchema) -> Result<Self, Fault> {
        let arrow = schema.arrow();
        let columns = (arrow.fields()[..schema.origin_at()].iter())
            .map(|field| ColumnBuilder::new(field.data_type()))
            .collect::<Result<_, Fault>>()?;
        Ok(Self {
            schema: schema.clone(),
            columns,
            origins: Vec::new(),
        })
    }

    fn push(&mut self, row: &[u8]) -> Result<(), Fault> {
        let mut row = Reader::new(row);
        self.origins.push(row.u64()?);
        for column in &mut self.columns {
            column.push(&mut row)?;
        }
        Ok(row.end()?)
    }

    /// The rows so far; the next begin anew.
    fn finish(&mut self) -> Result<RecordBatch, Fault> {
        let mut columns = (self.columns.iter_mut())
            .map(ColumnBuilder::finish)
            .collect::<Result<Vec<ArrayRef>, Fault>>()?;
        let origins = std::mem::take(&mut self.origins);
        columns.push(Arc::new(UInt64Array::from(origins)));
        Ok(RecordBatch::try_new(self.schema.arrow(), columns)?)
    }
}

/// The same rows with strings of their own: a view of a string holds on to the whole buffer that
/// the string came in.
fn compact(batch: &RecordBatch) -> Result<RecordBatch, Fault> {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "other types are copied when taken"
    )]
    let columns = (batch.columns().iter())
        .map(|column| match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        })
        .collect();
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

#[cfg(test)]
mod tests;
