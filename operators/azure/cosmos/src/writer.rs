//! The writer: encodes the rows of a worker and folds them by document.
//!
//! Of the rows of one document in one checkpoint only the newest is staged; of two that are
//! equally new, the one that came later. When the folded rows grow too large for memory they are
//! handed out ahead of the checkpoint, and their part number orders them before what follows.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use bytes::Bytes;
use serde_json::json;
use thalweg_formats::JsonLines;
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::schema::DELETE;
use thalweg_stream::sink::{Encoded, EncodedObject};
use thalweg_stream::{DeadClass, DeadLetter, Epoch, Fault, Origin, SinkWriter, StreamSchema};

use crate::document_id::{self, BadId};
use crate::order::Ordering;
use crate::partition::PartitionValue;
use crate::row::{ENVELOPE_BYTES, FORMAT, StagedRow, hexadecimal};
use crate::spec::Limits;

/// Most bytes of a document ("Azure Cosmos DB service quotas": 2 MB, measured as UTF-8 JSON).
const DOCUMENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a folded row costs beside its columns: keys, order, map.
const HELD_BYTES: usize = 200;

/// How a stream's rows become documents.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) schema: StreamSchema,
    /// Position of the column that is the id.
    pub(crate) id_at: usize,
    /// Whether that column is itself called `id`.
    pub(crate) id_is_named_id: bool,
    /// Position of the column that is the partition key.
    pub(crate) partition_at: usize,
    pub(crate) ordering: Ordering,
    /// Writes the columns that are copied as they are.
    pub(crate) columns: JsonLines,
    /// Their positions.
    pub(crate) columns_at: Vec<usize>,
    /// Writes the id's column alone.
    pub(crate) id: JsonLines,
    /// Writes the partition key's column alone.
    pub(crate) partition: JsonLines,
    pub(crate) limits: Limits,
}

/// The writer of one worker.
#[derive(Debug)]
pub(crate) struct CosmosWriter {
    shape: Shape,
    /// By partition key (JSON), a line feed (which JSON text never has), and id: sorted as the
    /// publisher wants them.
    folded: BTreeMap<String, Held>,
    held_bytes: usize,
    scratch: Scratch,
}

#[derive(Debug, Default)]
struct Scratch {
    key: String,
    order: Vec<u8>,
    cell: Vec<u8>,
    columns: Vec<u8>,
}

#[derive(Debug)]
struct Held {
    partition: PartitionValue,
    order: Vec<u8>,
    /// Nothing deletes the document.
    columns: Option<String>,
    origin: u64,
    event_time: Option<i64>,
}

/// Why a row can be no document.
struct Unfit {
    code: &'static str,
    message: String,
}

impl Unfit {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl CosmosWriter {
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            folded: BTreeMap::new(),
            held_bytes: 0,
            scratch: Scratch::default(),
        }
    }

    /// Writes the row's fold key to the scratch and returns its partition key.
    fn place(
        &mut self,
        cells: &Cells<'_>,
        row: usize,
    ) -> Result<Result<PartitionValue, Unfit>, Fault> {
        let id = match self.document_id(cells, row)? {
            Ok(id) => id,
            Err(unfit) => return Ok(Err(unfit)),
        };
        let partition = if self.shape.id_is_named_id && self.shape.partition_at == self.shape.id_at
        {
            PartitionValue::Text(id.clone())
        } else {
            let cell = cells.partition.cell(row, &mut self.scratch.cell)?;
            match PartitionValue::from_json(cell) {
                Some(value) => value,
                None => {
                    let text = String::from_utf8_lossy(cell).into_owned();
                    return Ok(Err(Unfit::new(
                        "partition-key",
                        format!("{text} cannot be a partition key"),
                    )));
                }
            }
        };
        let json = serde_json::to_string(&partition).map_err(|e| Fault::bug(e.to_string()))?;
        self.scratch.key.clear();
        self.scratch.key.push_str(&json);
        self.scratch.key.push('\n');
        self.scratch.key.push_str(&id);
        Ok(Ok(partition))
    }

    fn document_id(
        &mut self,
        cells: &Cells<'_>,
        row: usize,
    ) -> Result<Result<String, Unfit>, Fault> {
        let cell = cells.id.cell(row, &mut self.scratch.cell)?;
        let text = match cell.first() {
            Some(b'"') => serde_json::from_slice::<String>(cell)
                .map_err(|e| Fault::bug(format!("id column is written as no string: {e}")))?,
            _ if cell == b"null" => return Ok(Err(Unfit::new("id-null", "the id is null"))),
            _ => String::from_utf8_lossy(cell).into_owned(),
        };
        let mut id = String::with_capacity(text.len());
        Ok(match document_id::append(&text, &mut id) {
            Ok(()) => Ok(id),
            Err(BadId::Empty) => Err(Unfit::new("id-empty", "the id is empty")),
            Err(BadId::TooLong) => Err(Unfit::new(
                "id-too-long",
                format!(
                    "the id has more than {} bytes once escaped",
                    document_id::ID_BYTES_MAX
                ),
            )),
        })
    }

    /// Folds one row in.
    fn fold(&mut self, cells: &Cells<'_>, row: usize) -> Result<Result<(), Unfit>, Fault> {
        let partition = match self.place(cells, row)? {
            Ok(partition) => partition,
            Err(unfit) => return Ok(Err(unfit)),
        };
        self.scratch.order.clear();
        self.shape
            .ordering
            .append(cells.batch, row, &mut self.scratch.order)?;
        let before = self.folded.get(&self.scratch.key);
        if before.is_some_and(|held| held.order > self.scratch.order) {
            return Ok(Ok(()));
        }
        let deletes = cells.changes.and_then(|changes| changes.get(row)) == Some(&DELETE);
        let columns = if deletes {
            None
        } else {
            self.scratch.columns.clear();
            cells.columns.write(row, &mut self.scratch.columns);
            let bytes = self.scratch.columns.len() + self.scratch.key.len() + ENVELOPE_BYTES;
            if bytes > DOCUMENT_BYTES_MAX {
                return Ok(Err(Unfit::new(
                    "document-too-large",
                    format!("the document has {bytes} bytes, and at most {DOCUMENT_BYTES_MAX} fit"),
                )));
            }
            let text = std::str::from_utf8(&self.scratch.columns)
                .map_err(|e| Fault::bug(format!("a row is written as no text: {e}")))?;
            Some(text.to_owned())
        };
        let held = Held {
            partition,
            order: self.scratch.order.clone(),
            columns,
            origin: cells.origins.get(row).copied().unwrap_or_default(),
            event_time: cells.times.and_then(|times| times.get(row)).copied(),
        };
        self.held_bytes += held.bytes();
        match self.folded.get_mut(&self.scratch.key) {
            Some(place) => {
                self.held_bytes -= place.bytes();
                *place = held;
            }
            None => {
                self.held_bytes += self.scratch.key.len();
                self.folded.insert(self.scratch.key.clone(), held);
            }
        }
        Ok(Ok(()))
    }

    /// Hands out all folded rows, in objects of limited size.
    fn flush(&mut self, out: &mut Encoded) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        let mut rows = 0;
        for (key, held) in std::mem::take(&mut self.folded) {
            let id = key
                .split_once('\n')
                .map_or_else(String::new, |(_, id)| id.to_owned());
            let columns = held
                .columns
                .map(serde_json::value::RawValue::from_string)
                .transpose();
            let staged = StagedRow {
                id,
                partition: held.partition,
                order: hexadecimal(&held.order),
                origin: held.origin,
                event_time: held.event_time,
                columns: columns.map_err(|e| Fault::bug(format!("a row is no JSON: {e}")))?,
            };
            serde_json::to_writer(&mut bytes, &staged).map_err(|e| Fault::bug(e.to_string()))?;
            bytes.push(b'\n');
            rows += 1;
            if bytes.len() >= self.shape.limits.object_bytes_max {
                out.objects.push(object(
                    std::mem::take(&mut bytes),
                    std::mem::take(&mut rows),
                ));
            }
        }
        if rows > 0 {
            out.objects.push(object(bytes, rows));
        }
        self.held_bytes = 0;
        Ok(())
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.columns.as_ref().map_or(0, String::len) + self.order.len() + HELD_BYTES
    }
}

fn object(bytes: Vec<u8>, rows: u64) -> EncodedObject {
    EncodedObject {
        bytes: Bytes::from(bytes),
        rows,
        note: json!({ "format": FORMAT }),
    }
}

impl SinkWriter for CosmosWriter {
    fn write(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault> {
        let shape = self.shape.clone();
        let projected = batch.project(&shape.columns_at)?;
        let ids = batch.project(&[shape.id_at])?;
        let partitions = batch.project(&[shape.partition_at])?;
        let cells = Cells {
            batch,
            columns: shape.columns.prepare(&projected)?,
            id: OneCell::new(&shape.id, &ids)?,
            partition: OneCell::new(&shape.partition, &partitions)?,
            origins: shape.schema.origins(batch)?,
            times: shape
                .schema
                .timed
                .then(|| shape.schema.event_times(batch))
                .transpose()?,
            changes: shape.schema.changes(batch),
        };
        for row in 0..batch.num_rows() {
            if let Err(unfit) = self.fold(&cells, row)? {
                out.dead.push(DeadLetter {
                    class: DeadClass::SinkReject,
                    code: unfit.code,
                    message: unfit.message,
                    origin: Origin(cells.origins.get(row).copied().unwrap_or_default()),
                    event_time: cells.times.and_then(|times| times.get(row)).copied(),
                    remains: Remains::Row {
                        batch: batch.clone(),
                        row,
                    },
                    plugin: None,
                });
            }
        }
        if self.held_bytes > self.shape.limits.buffered_bytes_max {
            self.flush(out)?;
        }
        Ok(())
    }

    fn seal(&mut self, _epoch: Epoch, out: &mut Encoded) -> Result<(), Fault> {
        self.flush(out)
    }

    fn buffered_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// A batch, looked through once.
struct Cells<'b> {
    batch: &'b RecordBatch,
    columns: thalweg_formats::PreparedRows<'b>,
    id: OneCell<'b>,
    partition: OneCell<'b>,
    origins: &'b [u64],
    times: Option<&'b [i64]>,
    changes: Option<&'b [u8]>,
}

/// A column whose values are wanted as JSON: an object of one member is written, and unwrapped.
struct OneCell<'b> {
    rows: thalweg_formats::PreparedRows<'b>,
}

impl<'b> OneCell<'b> {
    fn new(lines: &'b JsonLines, batch: &'b RecordBatch) -> Result<Self, Fault> {
        Ok(Self {
            rows: lines.prepare(batch)?,
        })
    }

    fn cell<'s>(&self, row: usize, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Fault> {
        scratch.clear();
        self.rows.write(row, scratch);
        // `{"":VALUE}`: the shape names the column so.
        scratch
            .strip_prefix(b"{\"\":")
            .and_then(|rest| rest.strip_suffix(b"}"))
            .ok_or_else(|| Fault::bug("a single column is written as something else"))
    }
}

#[cfg(test)]
mod tests;
