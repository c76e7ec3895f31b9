//! Lines on standard output, as they come.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use thalweg_stream::sink::{Encoded, PublishUnit, Published, Released, SinkContext, StageStore};
use thalweg_stream::{Epoch, Fault, Publisher, Route, Sink, SinkCapabilities, SinkWriter};

use crate::encode::{EncoderFactory, RowEncoder};
use crate::error::Error;

/// Standard output, or what stands for it, shared by all workers and whoever else writes to it.
pub type SharedOutput = Arc<Mutex<dyn Write + Send>>;

/// Writes every batch at once, at least once: after a crash lines come again. Lines of different
/// workers never mix, as a batch is written in one go.
///
/// A reader that is slow holds the job up; one that goes away ends it.
pub struct StdoutSink {
    output: SharedOutput,
    encoders: EncoderFactory,
}

impl StdoutSink {
    /// A sink that writes to `output`.
    #[must_use]
    pub fn new(output: SharedOutput, encoders: EncoderFactory) -> Self {
        Self { output, encoders }
    }
}

impl std::fmt::Debug for StdoutSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StdoutSink").finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for StdoutSink {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            exactly_once: false,
            ordered: false,
            changes: true,
            route: Route::Local,
            grouping: None,
        }
    }

    fn writer(&self, _worker: usize, _context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        Ok(Box::new(StdoutWriter {
            output: Arc::clone(&self.output),
            encoder: (self.encoders)()?,
            lines: Vec::new(),
        }))
    }

    async fn publisher(&self, _context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        Ok(Box::new(NothingToPublish))
    }
}

struct StdoutWriter {
    output: SharedOutput,
    encoder: Box<dyn RowEncoder>,
    /// Kept for its memory.
    lines: Vec<u8>,
}

impl SinkWriter for StdoutWriter {
    fn write(&mut self, batch: &RecordBatch, _out: &mut Encoded) -> Result<(), Fault> {
        self.lines.clear();
        self.encoder.encode(batch, &mut self.lines)?;
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let written = output.write_all(&self.lines);
        Ok(written.map_err(Error::Output)?)
    }

    fn seal(&mut self, _epoch: Epoch, _out: &mut Encoded) -> Result<(), Fault> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(output.flush().map_err(Error::Output)?)
    }

    fn buffered_bytes(&self) -> usize {
        0
    }
}

/// The publisher of sinks that stage nothing.
#[derive(Debug)]
pub(crate) struct NothingToPublish;

#[async_trait]
impl Publisher for NothingToPublish {
    async fn publish(
        &self,
        _unit: &Released<PublishUnit>,
        _stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        Ok(Published::default())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use thalweg_stream::sink::Encoded;
    use thalweg_stream::{Class, Epoch, Sink};

    use super::StdoutSink;
    use crate::sink::tests::{batch, context, encoders};

    #[test]
    fn lines_come_at_once_and_are_flushed_at_the_seal() {
        let output = Arc::new(Mutex::new(io::BufWriter::new(Vec::new())));
        let sink = StdoutSink::new(Arc::clone(&output) as _, encoders());
        let mut writer = sink.writer(0, &context("aa")).unwrap();
        let mut out = Encoded::default();
        writer.write(&batch(1..4), &mut out).unwrap();
        assert_eq!(output.lock().unwrap().buffer(), b"row 1\nrow 2\nrow 3\n");
        writer.seal(Epoch(1), &mut out).unwrap();
        assert_eq!(output.lock().unwrap().get_ref(), b"row 1\nrow 2\nrow 3\n");
        assert!(out.objects.is_empty());
        assert!(!sink.capabilities().exactly_once);
    }

    #[test]
    fn a_reader_that_has_gone_away_ends_the_job() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = StdoutSink::new(Arc::new(Mutex::new(Closed)), encoders());
        let mut writer = sink.writer(0, &context("aa")).unwrap();
        let fault = writer
            .write(&batch(0..1), &mut Encoded::default())
            .unwrap_err();
        assert_eq!(fault.class, Class::Unavailable);
        assert_eq!(fault.message, "standard output: broken pipe");
    }
}
