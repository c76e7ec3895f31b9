//! Encodes rows as JSON lines, compressed in pieces that the publisher only has to string together.

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use serde_json::Value;
use thalweg_formats::{JsonLines, Nulls, SystemColumn, WriteOptions};
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::sink::{Encoded, EncodedObject};
use thalweg_stream::{
    DeadClass, DeadLetter, Epoch, Fault, Origin, SinkWriter, StreamKind, StreamSchema,
};

use crate::gzip::PieceWriter;

/// The service cuts longer text and drops longer dynamic values without a word (bytes).
const VALUE_BYTES_MAX: usize = 1 << 20;
/// The service fails a blob with a longer record (bytes).
const RECORD_BYTES_MAX: usize = 64 << 20;
/// An object is handed out at this size…
const OBJECT_BYTES_MAX: usize = 8 << 20;
/// …or when it has this many bytes before compression, so that a blob can hold a whole number of
/// objects.
const OBJECT_RAW_MAX: u64 = 64 << 20;
/// Text that is encoded before it is compressed (bytes).
const TEXT_BYTES: usize = 256 << 10;
/// What a compressor holds on to, roughly (bytes).
const COMPRESSOR_BYTES: usize = 300 << 10;

/// The writer of one worker.
#[derive(Debug)]
pub(crate) struct AdxWriter {
    schema: StreamSchema,
    lines: JsonLines,
    piece: PieceWriter,
    rows: u64,
    /// Encoded, and not yet compressed.
    text: Vec<u8>,
}

impl AdxWriter {
    pub(crate) fn new(schema: StreamSchema) -> Result<Self, Fault> {
        // Whether the table has a place for the event time is for the mapping to say.
        let mut include = Vec::new();
        if schema.timed {
            include.push(SystemColumn::EventTime);
        }
        if matches!(schema.kind, StreamKind::Changes { .. }) {
            include.push(SystemColumn::Change);
        }
        let options = WriteOptions {
            // What is missing is null.
            nulls: Nulls::Omit,
            include,
            ..WriteOptions::default()
        };
        let lines = JsonLines::new(&schema, options).map_err(|e| Fault::bug(e.to_string()))?;
        Ok(Self {
            schema,
            lines,
            piece: PieceWriter::new(),
            rows: 0,
            text: Vec::new(),
        })
    }

    fn compress(&mut self, out: &mut Encoded) -> Result<(), Fault> {
        self.piece.write(&self.text).map_err(cannot_happen)?;
        self.text.clear();
        if self.piece.compressed() >= OBJECT_BYTES_MAX || self.piece.raw() >= OBJECT_RAW_MAX {
            self.hand_out(out)?;
        }
        Ok(())
    }

    fn hand_out(&mut self, out: &mut Encoded) -> Result<(), Fault> {
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return Ok(());
        }
        let (bytes, piece) = self.piece.take().map_err(cannot_happen)?;
        let note = serde_json::to_value(piece).map_err(|e| Fault::bug(e.to_string()))?;
        out.objects.push(EncodedObject {
            bytes: Bytes::from(bytes),
            rows,
            note,
        });
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn cannot_happen(error: std::io::Error) -> Fault {
    Fault::bug(format!("compression in memory failed: {error}"))
}

impl SinkWriter for AdxWriter {
    fn write(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault> {
        let lines = self.lines.clone();
        let prepared = lines.prepare(batch)?;
        for row in 0..batch.num_rows() {
            let begin = self.text.len();
            prepared.write(row, &mut self.text);
            let record = self.text.get(begin..).unwrap_or_default();
            // No value is longer than its record.
            if record.len() > VALUE_BYTES_MAX
                && let Some(why) = too_long(record)
            {
                self.text.truncate(begin);
                out.dead.push(reject(&self.schema, batch, row, why)?);
                continue;
            }
            self.text.push(b'\n');
            self.rows += 1;
            if self.text.len() >= TEXT_BYTES {
                self.compress(out)?;
            }
        }
        Ok(())
    }

    fn seal(&mut self, _epoch: Epoch, out: &mut Encoded) -> Result<(), Fault> {
        self.compress(out)?;
        self.hand_out(out)
    }

    fn buffered_bytes(&self) -> usize {
        let compressor = if self.rows == 0 { 0 } else { COMPRESSOR_BYTES };
        self.piece.compressed() + self.text.len() + compressor
    }
}

/// Why the service would not keep the whole of `record`, if it would not.
fn too_long(record: &[u8]) -> Option<String> {
    if record.len() > RECORD_BYTES_MAX {
        return Some(format!("the row is longer than {RECORD_BYTES_MAX} bytes"));
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(record) else {
        return Some("the row is no json object".to_owned());
    };
    (members.iter())
        .find(|(_, value)| {
            let length = value
                .as_str()
                .map_or_else(|| value.to_string().len(), str::len);
            length > VALUE_BYTES_MAX
        })
        .map(|(name, _)| {
            format!("column {name:?} is longer than {VALUE_BYTES_MAX} bytes, which would be cut")
        })
}

fn reject(
    schema: &StreamSchema,
    batch: &RecordBatch,
    row: usize,
    message: String,
) -> Result<DeadLetter, Fault> {
    let event_time = match schema.timed {
        true => schema.event_times(batch)?.get(row).copied(),
        false => None,
    };
    let origin = schema.origins(batch)?.get(row).copied().map(Origin);
    Ok(DeadLetter {
        class: DeadClass::SinkReject,
        code: "too-long",
        message,
        origin: origin.ok_or_else(|| Fault::bug("a row has no origin"))?,
        event_time,
        remains: Remains::Row {
            batch: batch.clone(),
            row,
        },
        plugin: None,
    })
}

#[cfg(test)]
mod tests;
