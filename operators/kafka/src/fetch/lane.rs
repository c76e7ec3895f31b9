//! A split as the thread reads it, and the chunk that is being filled of it.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use bytes::Bytes;
use thalweg_stream::{Chunk, Framing, SplitId};

use crate::column::Column;
use crate::native::Record;
use crate::queue::{Item, Queue};

/// A split, as it is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) id: SplitId,
    pub(crate) partition: i32,
    /// The offset of the next record.
    pub(crate) next: i64,
    /// The offset at which a bounded split ends.
    pub(crate) end: Option<i64>,
    /// The offset after the newest record; -1 if that is not known.
    pub(crate) newest: Arc<AtomicI64>,
}

/// A lane and the chunk that is being filled.
pub(super) struct Reading {
    pub(super) lane: Lane,
    pub(super) open: Option<Open>,
    /// Whether the end of what there is was reached, and has not been told.
    pub(super) at_end: bool,
    pub(super) finished: bool,
}

impl Reading {
    /// Nothing is left before `offset`: what lies there are control records, aborted transactions
    /// and holes that compaction has left.
    pub(super) fn reach(&mut self, offset: i64) {
        if offset <= self.lane.next {
            return;
        }
        let start = self.lane.next;
        self.lane.next = self.lane.end.map_or(offset, |end| offset.min(end));
        // A chunk, be it without records, takes the checkpoint's offset along.
        self.open.get_or_insert_with(|| Open {
            start,
            bytes: Vec::new(),
            ranges: Vec::new(),
            offsets: Vec::new(),
            columns: Vec::new(),
            since: Duration::ZERO,
        });
    }

    /// Hands over the open chunk.
    pub(super) fn give(&mut self, at: usize, queue: &Queue) {
        let Some(open) = self.open.take() else {
            return;
        };
        let chunk = Chunk {
            split: self.lane.id,
            start: open.start.unsigned_abs(),
            end: self.lane.next.unsigned_abs(),
            bytes: Bytes::from(open.bytes),
            framing: Framing::Records {
                ranges: open.ranges,
                offsets: open.offsets,
            },
            metadata: (open.columns.into_iter())
                .map(|column| Some(column.finish()))
                .collect(),
            read_at_ms: 0,
        };
        queue.push(Item::Chunk(at, chunk));
    }
}

/// A chunk that is being filled.
pub(super) struct Open {
    pub(super) start: i64,
    pub(super) bytes: Vec<u8>,
    pub(super) ranges: Vec<(u32, u32)>,
    pub(super) offsets: Vec<u64>,
    pub(super) columns: Vec<Column>,
    pub(super) since: Duration,
}

impl Open {
    pub(super) fn add(&mut self, record: &Record<'_>, value: &[u8]) {
        // Positions are 32 bits wide; a record has less than that by Kafka's own format, and a
        // chunk beyond 512 KiB has one record.
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        self.ranges.push((start, self.bytes.len() as u32));
        self.offsets.push(record.offset().unsigned_abs());
        for column in &mut self.columns {
            column.add(record);
        }
    }
}
