//! The writer of sinks that stage lines: rows to objects of a given size.

use arrow::array::RecordBatch;
use bytes::Bytes;
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::sink::{Encoded, EncodedObject};
use thalweg_stream::{DeadClass, DeadLetter, Epoch, Fault, Origin, SinkWriter, StreamSchema};

use crate::OBJECT_BYTES_MAX;
use crate::encode::RowEncoder;

/// What is kept of a line that no object can hold, bytes.
const EXCERPT_BYTES_MAX: usize = 16 << 10;

/// Encodes rows and hands out objects once they have `roll_bytes`.
pub(crate) struct LineWriter {
    encoder: Box<dyn RowEncoder>,
    schema: StreamSchema,
    roll_bytes: usize,
    object_bytes_max: usize,
    buffer: Vec<u8>,
    rows: u64,
}

impl LineWriter {
    pub(crate) fn new(
        encoder: Box<dyn RowEncoder>,
        schema: StreamSchema,
        roll_bytes: usize,
    ) -> Self {
        Self {
            encoder,
            schema,
            roll_bytes,
            object_bytes_max: OBJECT_BYTES_MAX,
            buffer: Vec::new(),
            rows: 0,
        }
    }

    /// Appends a batch; where an object would become too large, in halves, down to the row that
    /// does not fit at all.
    fn append(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault> {
        if self.buffer.is_empty() {
            self.encoder.begin(&mut self.buffer);
        }
        let (before, rows) = (self.buffer.len(), batch.num_rows());
        self.encoder.encode(batch, &mut self.buffer)?;
        if self.buffer.len() <= self.object_bytes_max {
            self.rows += rows as u64;
            return Ok(());
        }
        if self.rows > 0 {
            self.buffer.truncate(before);
            self.hand_out(out);
            return self.append(batch, out);
        }
        if rows > 1 {
            self.buffer.clear();
            self.append(&batch.slice(0, rows / 2), out)?;
            return self.append(&batch.slice(rows / 2, rows - rows / 2), out);
        }
        let bytes = self.buffer.len();
        self.buffer.truncate(EXCERPT_BYTES_MAX);
        let excerpt = Bytes::copy_from_slice(&self.buffer);
        self.buffer = Vec::new();
        out.dead.push(self.too_large(batch, bytes, excerpt)?);
        Ok(())
    }

    fn too_large(
        &self,
        row: &RecordBatch,
        bytes: usize,
        excerpt: Bytes,
    ) -> Result<DeadLetter, Fault> {
        let origin = self.schema.origins(row)?.first().copied();
        let event_time = match self.schema.timed {
            true => self.schema.event_times(row)?.first().copied(),
            false => None,
        };
        Ok(DeadLetter {
            class: DeadClass::SinkReject,
            code: "row-too-large",
            message: format!(
                "the row takes {bytes} bytes as a line, more than {} fit a file",
                self.object_bytes_max
            ),
            origin: Origin(origin.unwrap_or_default()),
            event_time,
            remains: Remains::Bytes(excerpt),
            plugin: None,
        })
    }

    fn hand_out(&mut self, out: &mut Encoded) {
        if self.rows > 0 {
            out.objects.push(EncodedObject {
                bytes: Bytes::from(std::mem::take(&mut self.buffer)),
                rows: std::mem::take(&mut self.rows),
                note: serde_json::Value::Null,
            });
        }
    }
}

impl SinkWriter for LineWriter {
    fn write(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault> {
        self.append(batch, out)?;
        if self.rows > 0 && self.buffer.len() >= self.roll_bytes {
            self.hand_out(out);
        }
        Ok(())
    }

    fn seal(&mut self, _epoch: Epoch, out: &mut Encoded) -> Result<(), Fault> {
        self.hand_out(out);
        Ok(())
    }

    fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests;
