//! The sink of whole files: exactly once, or at once and at least once.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use thalweg_stream::sink::{SinkContext, StageStore};
use thalweg_stream::{Fault, Publisher, Route, Sink, SinkCapabilities, SinkWriter, StreamSchema};

use crate::OBJECT_BYTES_MAX;
use crate::encode::EncoderFactory;
use crate::error::Error;
use crate::line_writer::LineWriter;
use crate::publish::{AtOncePublisher, FilePublisher};
use crate::stage::FileStageStore;

/// The options of a [`FileSink`].
#[derive(Clone, Debug)]
pub struct FileSinkOptions {
    /// The folder of the published files; created if it is missing.
    pub path: PathBuf,
    /// Size from which on a file is complete, bytes; a checkpoint completes files of any size.
    pub roll_bytes: u64,
    /// What the names of published files end in, behind a dot.
    pub extension: &'static str,
    /// Whether files are there at the end of their epoch, at least once, rather than after their
    /// checkpoint, exactly once.
    pub at_once: bool,
}

impl FileSinkOptions {
    /// Where nothing is said, files are complete from 8 MiB on: each worker fills one while another is
    /// on its way to the disk, all in memory.
    pub const ROLL_BYTES: u64 = 8 << 20;

    /// The options as they are where nothing but the folder is said.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            roll_bytes: Self::ROLL_BYTES,
            extension: "jsonl",
            at_once: false,
        }
    }
}

/// Writes lines into files that become visible whole, each exactly once, as
/// `PATH/part-<lineage>-<epoch>-<n>.jsonl`: `epoch` is that of the checkpoint, with at least ten
/// digits, and `n` numbers its files from 0 in the order of worker and sequence.
///
/// Until its checkpoint is committed, output is staged in `PATH/.thalweg-stage`, a
/// [`FileStageStore`]. A published file is never written again; a row of a stream of changes is a
/// line like any other.
///
/// At once nothing is staged: every epoch's lines are written to files of their own,
/// `PATH/part-<lineage>-<epoch>-<worker>-<n>-g<generation>.jsonl`, and come again after a crash, in
/// files of the next generation.
///
/// # Crash safety
/// Staged files are fsynced, file and folder, before the checkpoint names them. Publishing is a
/// rename, repeated after a crash: a staged file that is gone while the published one has its
/// length and checksum is published; if both are gone, or another file has the name, the job stops
/// with a fault of class corrupt.
pub struct FileSink {
    options: FileSinkOptions,
    schema: StreamSchema,
    encoders: EncoderFactory,
    /// Nothing if files are written at once.
    stage: Option<FileStageStore>,
    roll_bytes: usize,
}

impl FileSink {
    /// A sink for a stream of `schema`, whose rows the encoders turn into lines.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn new(
        options: FileSinkOptions,
        schema: StreamSchema,
        encoders: EncoderFactory,
    ) -> Result<Self, Error> {
        let roll_bytes = usize::try_from(options.roll_bytes).unwrap_or(usize::MAX);
        if !(1..=OBJECT_BYTES_MAX).contains(&roll_bytes) {
            return Err(Error::Option {
                option: "roll.size",
                value: options.roll_bytes.to_string(),
                must: "1 byte to 64MiB",
            });
        }
        Ok(Self {
            stage: (!options.at_once).then(|| FileStageStore::new(&options.path)),
            options,
            schema,
            encoders,
            roll_bytes,
        })
    }
}

impl std::fmt::Debug for FileSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSink")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for FileSink {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            exactly_once: self.stage.is_some(),
            ordered: true,
            changes: true,
            route: Route::Local,
            grouping: None,
        }
    }

    fn writer(&self, _worker: usize, _context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        let encoder = (self.encoders)()?;
        let writer = LineWriter::new(encoder, self.schema.clone(), self.roll_bytes);
        Ok(Box::new(writer))
    }

    async fn publisher(&self, context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        let (folder, extension) = (self.options.path.clone(), self.options.extension);
        Ok(match self.stage.clone() {
            Some(stage) => Box::new(FilePublisher::connect(folder, stage, extension).await?),
            None => {
                Box::new(AtOncePublisher::connect(folder, context.generation, extension).await?)
            }
        })
    }

    fn stage_store(&self) -> Option<Arc<dyn StageStore>> {
        Some(Arc::new(self.stage.clone()?))
    }
}

#[cfg(test)]
pub(crate) mod tests;
