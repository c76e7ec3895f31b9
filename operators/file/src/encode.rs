//! Rows as lines: what sinks ask of a format.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use thalweg_stream::Fault;

/// Turns rows into lines.
///
/// Any closure of this shape is one.
pub trait RowEncoder: Send {
    /// Appends what stands at the beginning of every file: nothing, or a header.
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    /// Appends one line for each row of the batch, each ended by a line feed and with none inside.
    ///
    /// # Errors
    /// What ends the attempt; `out` is then of no use.
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Fault>;
}

impl<F> RowEncoder for F
where
    F: FnMut(&RecordBatch, &mut Vec<u8>) -> Result<(), Fault> + Send,
{
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Fault> {
        self(batch, out)
    }
}

/// Makes an encoder for each worker's writer.
pub type EncoderFactory = Arc<dyn Fn() -> Result<Box<dyn RowEncoder>, Fault> + Send + Sync>;
