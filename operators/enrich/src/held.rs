//! Rows that wait for the table.
//!
//! They lie in batches of their own (copied, so that they hold on to nothing else), sorted by
//! event time, and leave from the front. Batches never change, so a freeze only notes which there
//! are. Content of a section: `count u32`, each row with its length: `origin u64`, then its other
//! columns encoded. It replaces the section of the group before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt8Array, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;
use thalweg_state::{
    ColumnBuilder, Part, Reader, StateError, encode_value, put_bytes, put_u32, put_u64,
};
use thalweg_stream::key::key_group;
use thalweg_stream::schema::batch_bytes;
use thalweg_stream::{Fault, KeyEncoder, KeyGroup, StreamSchema};

/// Rows held back, by time.
#[derive(Debug)]
pub(crate) struct HeldRows {
    schema: StreamSchema,
    encoder: KeyEncoder,
    batches: Vec<HeldBatch>,
    frozen: Vec<HeldBatch>,
    /// The frozen rows by group (batch, row), made when the first of them is written: of every group
    /// of which something is to be said.
    frozen_by_group: Option<BTreeMap<KeyGroup, Vec<(usize, usize)>>>,
    /// Groups whose last section has rows, so that one must follow that says which are left.
    written: BTreeSet<KeyGroup>,
    /// The same before the last freeze, in case it fails.
    written_before: BTreeSet<KeyGroup>,
    /// What went wrong while rows were written, where nobody could be told.
    fault: Option<Fault>,
    /// Rows of a checkpoint, encoded, until all of them are here.
    restored: BTreeMap<KeyGroup, Vec<u8>>,
}

/// Rows sorted by event time, with the key group of each.
#[derive(Clone, Debug)]
struct HeldBatch {
    rows: RecordBatch,
    groups: UInt8Array,
}

impl HeldRows {
    pub(crate) fn new(schema: StreamSchema, key: Vec<usize>) -> Self {
        Self {
            schema,
            encoder: KeyEncoder::new(key),
            batches: Vec::new(),
            frozen: Vec::new(),
            frozen_by_group: None,
            written: BTreeSet::new(),
            written_before: BTreeSet::new(),
            fault: None,
            restored: BTreeMap::new(),
        }
    }

    /// Holds the given rows of `batch`.
    pub(crate) fn hold(&mut self, batch: &RecordBatch, mut rows: Vec<u32>) -> Result<(), Fault> {
        if rows.is_empty() {
            return Ok(());
        }
        let times = self.schema.event_times(batch)?;
        rows.sort_by_key(|&row| times[row as usize]);
        let rows = compact(&take_record_batch(batch, &UInt32Array::from(rows))?)?;
        let hashes = self.encoder.hash_only(&rows)?;
        let groups = UInt8Array::from_iter_values(hashes.iter().map(|&hash| key_group(hash)));
        self.batches.push(HeldBatch { rows, groups });
        Ok(())
    }

    /// Takes out the rows at or before `time`.
    pub(crate) fn release(&mut self, time: i64) -> Result<Vec<RecordBatch>, Fault> {
        self.settle()?;
        let mut released = Vec::new();
        for held in &mut self.batches {
            let times = self.schema.event_times(&held.rows)?;
            let due = times.partition_point(|&t| t <= time);
            if due > 0 {
                let rest = times.len() - due;
                released.push(held.rows.slice(0, due));
                held.rows = held.rows.slice(due, rest);
                held.groups = held.groups.slice(due, rest);
            }
        }
        self.batches.retain(|held| held.rows.num_rows() > 0);
        Ok(released)
    }

    /// How many rows are held.
    pub(crate) fn rows(&self) -> u64 {
        let restored = self.restored.values().map(|bytes| {
            let count = Reader::new(bytes).u32();
            u64::from(count.unwrap_or_default())
        });
        let held = self.batches.iter().map(|held| held.rows.num_rows() as u64);
        held.chain(restored).sum()
    }

    /// Bytes they hold on to.
    pub(crate) fn bytes(&self) -> usize {
        let held = self.batches.iter().map(|held| batch_bytes(&held.rows));
        held.chain(self.restored.values().map(Vec::len)).sum()
    }

    /// Turns what a checkpoint brought into rows.
    fn settle(&mut self) -> Result<(), Fault> {
        for (_, bytes) in std::mem::take(&mut self.restored) {
            let batch = self.decode(&bytes)?;
            self.hold(&batch, (0..batch.num_rows() as u32).collect())?;
        }
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<RecordBatch, Fault> {
        let arrow = self.schema.arrow();
        let plain = &arrow.fields()[..self.schema.origin_at()];
        let mut columns = (plain.iter())
            .map(|field| ColumnBuilder::new(field.data_type()))
            .collect::<Result<Vec<_>, Fault>>()?;
        let mut origins = Vec::new();
        let mut reader = Reader::new(bytes);
        for _ in 0..reader.u32()? {
            let mut row = Reader::new(reader.bytes()?);
            origins.push(row.u64()?);
            for column in &mut columns {
                column.push(&mut row)?;
            }
            row.end()?;
        }
        reader.end()?;
        let mut columns = (columns.iter_mut())
            .map(ColumnBuilder::finish)
            .collect::<Result<Vec<ArrayRef>, Fault>>()?;
        columns.push(Arc::new(UInt64Array::from(origins)));
        Ok(RecordBatch::try_new(arrow, columns)?)
    }

    /// What went wrong while rows were written.
    ///
    /// # Errors
    /// That.
    pub(crate) fn check(&mut self) -> Result<(), Fault> {
        self.fault.take().map_or(Ok(()), Err)
    }

    fn group_frozen(&self) -> BTreeMap<KeyGroup, Vec<(usize, usize)>> {
        let mut groups: BTreeMap<KeyGroup, Vec<(usize, usize)>> = BTreeMap::new();
        for &group in &self.written {
            groups.insert(group, Vec::new());
        }
        for (batch, held) in self.frozen.iter().enumerate() {
            for (row, &group) in held.groups.values().iter().enumerate() {
                groups.entry(group).or_default().push((batch, row));
            }
        }
        groups
    }

    fn encode(&self, rows: &[(usize, usize)], out: &mut Vec<u8>) -> Result<(), Fault> {
        put_u32(out, rows.len() as u32);
        let mut bytes = Vec::new();
        for &(batch, row) in rows {
            let rows = &self.frozen[batch].rows;
            let origin_at = self.schema.origin_at();
            bytes.clear();
            put_u64(&mut bytes, self.schema.origins(rows)?[row]);
            for column in &rows.columns()[..origin_at] {
                encode_value(column, row, &mut bytes)?;
            }
            put_bytes(out, &bytes);
        }
        Ok(())
    }
}

impl Part for HeldRows {
    fn freeze(&mut self, _full: bool) {
        // What was restored and not touched since is turned into rows now.
        if let Err(fault) = self.settle() {
            self.fault = Some(fault);
        }
        self.frozen = self.batches.clone();
        self.frozen_by_group = None;
        self.written_before = self.written.clone();
    }

    fn drain(&mut self, _budget_bytes: usize) -> (usize, bool) {
        // Rows are encoded as their group is taken: nothing can change them before.
        (0, true)
    }

    fn take_group(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool {
        if self.frozen_by_group.is_none() {
            self.frozen_by_group = Some(self.group_frozen());
        }
        let due = (self.frozen_by_group.as_mut()).and_then(|groups| groups.remove(&group));
        let Some(rows) = due else {
            return false;
        };
        match rows.is_empty() {
            true => self.written.remove(&group),
            false => self.written.insert(group),
        };
        if let Err(fault) = self.encode(&rows, out) {
            self.fault = Some(fault);
        }
        true
    }

    fn thaw(&mut self) {
        self.frozen.clear();
        self.frozen_by_group = None;
        self.written.append(&mut self.written_before);
    }

    fn restore_group(
        &mut self,
        group: KeyGroup,
        content: &mut Reader<'_>,
    ) -> Result<(), StateError> {
        let bytes = content.take(content.remaining())?;
        if Reader::new(bytes).u32()? == 0 {
            self.forget_group(group);
        } else {
            self.written.insert(group);
            self.restored.insert(group, bytes.to_vec());
        }
        Ok(())
    }

    fn forget_group(&mut self, group: KeyGroup) {
        self.written.remove(&group);
        self.restored.remove(&group);
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
