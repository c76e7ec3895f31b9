//! Encodes rows as JSON lines, compressed in pieces that the publisher only has to string together.

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::schema::{DELETE, INSERT};
use thalweg_stream::sink::{Encoded, EncodedObject};
use thalweg_stream::{DeadClass, DeadLetter, Epoch, Fault, Origin, SinkWriter, StreamSchema};

use crate::gzip::PieceWriter;
use crate::rows::Rows;

/// The service cuts longer values without a word (bytes).
const VALUE_BYTES_MAX: usize = 1 << 20;
/// An object is handed out at this size…
const OBJECT_BYTES_MAX: usize = 8 << 20;
/// …or when it has this many bytes before compression, so that a blob can hold a whole number of
/// objects.
const OBJECT_RAW_MAX: u64 = 64 << 20;
/// What a compressor holds on to, roughly (bytes).
const COMPRESSOR_BYTES: usize = 300 << 10;

/// The writer of one worker.
pub(crate) struct AdxWriter {
    schema: StreamSchema,
    rows: Rows,
    piece: PieceWriter,
    count: u64,
    text: Vec<u8>,
}

impl AdxWriter {
    pub(crate) fn new(schema: StreamSchema, rows: Rows) -> Self {
        Self {
            schema,
            rows,
            piece: PieceWriter::new(),
            count: 0,
            text: Vec::new(),
        }
    }

    fn encode(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault> {
        self.text.clear();
        self.rows.encode(batch, &mut self.text)?;
        self.piece.write(&self.text).map_err(cannot_happen)?;
        self.count += batch.num_rows() as u64;
        if self.piece.compressed() >= OBJECT_BYTES_MAX || self.piece.raw() >= OBJECT_RAW_MAX {
            self.hand_out(out)?;
        }
        Ok(())
    }

    fn hand_out(&mut self, out: &mut Encoded) -> Result<(), Fault> {
        let rows = std::mem::take(&mut self.count);
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

fn cannot_happen(error: std::io::Error) -> Fault {
    Fault::bug(format!("compression in memory failed: {error}"))
}

impl SinkWriter for AdxWriter {
    fn write(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault> {
        let Some(too_long) = too_long(&self.schema, batch) else {
            return self.encode(batch, out);
        };
        for (row, column) in too_long.iter().enumerate() {
            if let Some(column) = column {
                out.dead.push(reject(&self.schema, batch, row, column)?);
            }
        }
        let kept: BooleanArray = too_long.iter().map(|c| Some(c.is_none())).collect();
        let rest = filter_record_batch(batch, &kept)?;
        self.encode(&rest, out)
    }

    fn seal(&mut self, _epoch: Epoch, out: &mut Encoded) -> Result<(), Fault> {
        self.hand_out(out)
    }

    fn buffered_bytes(&self) -> usize {
        let empty = self.count == 0;
        let compressor = if empty { 0 } else { COMPRESSOR_BYTES };
        self.piece.compressed() + self.text.capacity() + compressor
    }
}

/// For each row the name of a column whose value is too long; nothing if all rows fit.
fn too_long<'s>(schema: &'s StreamSchema, batch: &RecordBatch) -> Option<Vec<Option<&'s str>>> {
    let mut found: Option<Vec<Option<&'s str>>> = None;
    for (column, values) in schema.columns.iter().zip(batch.columns()) {
        // Values cannot be longer than what holds them all.
        if values.get_buffer_memory_size() <= VALUE_BYTES_MAX {
            continue;
        }
        let longer: Vec<usize> = match values.data_type() {
            DataType::Utf8View => rows_longer(values.as_string_view().iter().map(|v| v.map(str::len)), VALUE_BYTES_MAX),
            // Base64 takes four characters for three bytes.
            DataType::BinaryView => rows_longer(
                values.as_binary_view().iter().map(|v| v.map(<[u8]>::len)),
                VALUE_BYTES_MAX / 4 * 3,
            ),
            _ => continue,
        };
        for row in longer {
            let found = found.get_or_insert_with(|| vec![None; batch.num_rows()]);
            if let Some(entry) = found.get_mut(row) {
                *entry = Some(&column.name);
            }
        }
    }
    found
}

fn rows_longer(lengths: impl Iterator<Item = Option<usize>>, max: usize) -> Vec<usize> {
    (lengths.enumerate())
        .filter(|(_, length)| length.is_some_and(|length| length > max))
        .map(|(row, _)| row)
        .collect()
}

fn reject(
    schema: &StreamSchema,
    batch: &RecordBatch,
    row: usize,
    column: &str,
) -> Result<DeadLetter, Fault> {
    let event_time = match schema.timed {
        true => schema.event_times(batch)?.get(row).copied(),
        false => None,
    };
    let origin = schema.origins(batch)?.get(row).copied().map(Origin);
    Ok(DeadLetter {
        class: DeadClass::SinkReject,
        code: "too-long",
        message: format!("column {column:?} is longer than {VALUE_BYTES_MAX} bytes, which the service would cut"),
        origin: origin.ok_or_else(|| Fault::bug("a row has no origin"))?,
        event_time,
        remains: Remains::Row {
            batch: batch.clone(),
            row,
        },
        plugin: None,
    })
}

/// The word for a change.
pub(crate) fn change_word(change: u8) -> &'static str {
    match change {
        INSERT => "insert",
        DELETE => "delete",
        _ => "update",
    }
}
