//! Chunks and time reports on their way to the worker that is to have them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use thalweg_stream::{Chunk, Framing, SplitId};

use crate::report::TimeReport;

/// Something for one worker; timely's exchange routes by `to`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Parcel<T> {
    pub(crate) to: u64,
    pub(crate) body: T,
}

/// A chunk that may travel to another process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "ChunkWire", try_from = "ChunkWire")]
pub(crate) struct Cargo(pub(crate) Chunk);

/// A time report for one worker.
pub(crate) type Notice = Parcel<TimeReport>;

/// Where records begin and end, and their offsets.
type RecordsWire = (Vec<(u32, u32)>, Vec<u64>);

#[derive(Serialize, Deserialize)]
struct ChunkWire {
    split: u32,
    start: u64,
    end: u64,
    bytes: Vec<u8>,
    records: Option<RecordsWire>,
    metadata: Vec<Option<Vec<u8>>>,
    read_at_ms: i64,
}

impl From<Cargo> for ChunkWire {
    fn from(Cargo(chunk): Cargo) -> Self {
        let records = match chunk.framing {
            Framing::Lines => None,
            Framing::Records { ranges, offsets } => Some((ranges, offsets)),
        };
        Self {
            split: chunk.split.0,
            start: chunk.start,
            end: chunk.end,
            bytes: chunk.bytes.to_vec(),
            records,
            // A column that cannot be encoded arrives empty and is refused there.
            metadata: (chunk.metadata.iter())
                .map(|c| c.as_ref().map(|c| encode(c).unwrap_or_default()))
                .collect(),
            read_at_ms: chunk.read_at_ms,
        }
    }
}

impl TryFrom<ChunkWire> for Cargo {
    type Error = arrow::error::ArrowError;

    fn try_from(wire: ChunkWire) -> Result<Self, Self::Error> {
        let framing = match wire.records {
            None => Framing::Lines,
            Some((ranges, offsets)) => Framing::Records { ranges, offsets },
        };
        let metadata = (wire.metadata.iter())
            .map(|c| c.as_ref().map(|c| decode(c)).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Self(Chunk {
            split: SplitId(wire.split),
            start: wire.start,
            end: wire.end,
            bytes: wire.bytes.into(),
            framing,
            metadata,
            read_at_ms: wire.read_at_ms,
        }))
    }
}

fn encode(column: &ArrayRef) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let batch = RecordBatch::try_from_iter([("metadata", Arc::clone(column))])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(&batch)?;
    writer.into_inner()
}

fn decode(bytes: &[u8]) -> Result<ArrayRef, arrow::error::ArrowError> {
    let batch = StreamReader::try_new(bytes, None)?.next().transpose()?;
    let column = batch.and_then(|batch| batch.columns().first().cloned());
    column.ok_or_else(|| arrow::error::ArrowError::IpcError("no metadata column".to_owned()))
}
