//! Lines on standard output, epoch by epoch.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use thalweg_stream::sink::{PublishUnit, Published, Released, SinkContext, StageStore};
use thalweg_stream::{Fault, Publisher, Route, Sink, SinkCapabilities, SinkWriter, StreamSchema};

use crate::encode::EncoderFactory;
use crate::error::{Error, blocking};
use crate::line_writer::LineWriter;

/// Size from which on lines go out before the epoch ends, bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Standard output, or what stands for it, shared with whoever else writes to it.
pub type SharedOutput = Arc<Mutex<dyn Write + Send>>;

/// Writes lines at the end of every epoch, at least once: after a crash lines come again.
///
/// Lines of different workers never mix. A reader that is slow slows the job down, as unpublished
/// output is capped; one that goes away ends it.
pub struct StdoutSink {
    output: SharedOutput,
    schema: StreamSchema,
    encoders: EncoderFactory,
}

impl StdoutSink {
    /// A sink that writes to `output` the rows of a stream of `schema`.
    #[must_use]
    pub fn new(output: SharedOutput, schema: StreamSchema, encoders: EncoderFactory) -> Self {
        Self {
            output,
            schema,
            encoders,
        }
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
            ordered: true,
            changes: true,
            route: Route::Local,
            grouping: None,
        }
    }

    fn writer(&self, _worker: usize, _context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        let encoder = (self.encoders)()?;
        let writer = LineWriter::new(encoder, self.schema.clone(), PIECE_BYTES);
        Ok(Box::new(writer))
    }

    async fn publisher(&self, _context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        Ok(Box::new(StdoutPublisher(Arc::clone(&self.output))))
    }
}

struct StdoutPublisher(SharedOutput);

#[async_trait]
impl Publisher for StdoutPublisher {
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        for object in &unit.get().objects {
            let (lines, output) = (stage.get(object).await?, Arc::clone(&self.0));
            // A pipe may be full: nobody else waits for its reader.
            blocking(move || {
                let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
                (output.write_all(&lines))
                    .and_then(|()| output.flush())
                    .map_err(Error::Output)
            })
            .await?;
        }
        Ok(Published::default())
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

    use thalweg_stream::sink::{Encoded, PublishUnit, Published, Released, StageStore};
    use thalweg_stream::{Class, Epoch, Fault, Sink};

    use super::{SharedOutput, StdoutSink};
    use crate::sink::tests::{batch, context, encoders, schema, stage};
    use crate::stage::FileStageStore;

    /// Writes three rows as the engine drives the sink.
    async fn write(output: SharedOutput) -> Result<Published, Fault> {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStageStore::new(folder.path());
        let sink = StdoutSink::new(output, schema(), encoders());
        let mut out = Encoded::default();
        let mut writer = sink.writer(0, &context("aa")).unwrap();
        writer.write(&batch(1..4), &mut out).unwrap();
        writer.seal(Epoch(1), &mut out).unwrap();
        let unit = PublishUnit {
            lineage: context("aa").lineage,
            epoch: Epoch(1),
            objects: vec![stage(&store, &out.objects[0], 1, 0).await],
        };
        let publisher = sink.publisher(context("aa")).await.unwrap();
        let published = publisher
            .publish(&Released::at_least_once(unit), &store)
            .await;
        assert_eq!(store.list("").await.unwrap().len(), 1);
        published
    }

    #[tokio::test]
    async fn lines_are_written_and_flushed() {
        let output = Arc::new(Mutex::new(io::BufWriter::new(Vec::new())));
        write(Arc::clone(&output) as _).await.unwrap();
        assert_eq!(output.lock().unwrap().get_ref(), b"row 1\nrow 2\nrow 3\n");
        let sink = StdoutSink::new(output, schema(), encoders());
        assert!(!sink.capabilities().exactly_once);
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_away_ends_the_job() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let fault = write(Arc::new(Mutex::new(Closed))).await.unwrap_err();
        assert_eq!(fault.class, Class::Unavailable);
        assert_eq!(fault.message, "standard output: broken pipe");
    }
}
