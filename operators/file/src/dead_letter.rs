//! The dead-letter file: one file of JSON lines, appended to exactly once.

mod append;
mod claim;
mod place;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use thalweg_stream::dead_letter;
use thalweg_stream::sink::{PublishUnit, Published, Released, SinkContext, StageStore};
use thalweg_stream::{Fault, Figures, Publisher, Route, Sink, SinkCapabilities, SinkWriter};

use crate::encode::EncoderFactory;
use crate::error::{Error, blocking};
use crate::line_writer::LineWriter;
use place::{Pen, Place};

/// Objects are complete from this size on, bytes: small, as letters should be few.
const OBJECT_BYTES: usize = 4 << 20;
/// Longest name of the file, bytes.
const NAME_BYTES_MAX: usize = 200;
/// Least limit, bytes: room for a few letters.
const MAX_BYTES_LEAST: u64 = 4 << 10;

/// What happens when the file has no room left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The job stops, with a fault that names the file and the limit. Nothing is lost: the letters
    /// are staged, and are written when the job runs again and finds room.
    #[default]
    Stop,
    /// The file becomes `FILE.1`, whose letters are dropped and counted; both together keep within
    /// the limit.
    DropOldest,
}

impl FromStr for WhenFull {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "stop" => Ok(Self::Stop),
            "drop-oldest" => Ok(Self::DropOldest),
            other => Err(Error::Option {
                option: "when_full",
                value: other.to_owned(),
                must: "stop or drop-oldest",
            }),
        }
    }
}

/// The options of a [`DeadLetterFile`].
#[derive(Clone, Debug)]
pub struct DeadLetterFileOptions {
    /// The file.
    pub path: PathBuf,
    /// Most bytes it may have, with `FILE.1` where letters are dropped.
    pub max_bytes: u64,
    /// What happens then.
    pub when_full: WhenFull,
}

impl DeadLetterFileOptions {
    /// Where nothing is said, 256 MiB.
    pub const MAX_BYTES: u64 = 256 << 20;
    /// Where nothing is said, beside the definition.
    pub const PATH: &str = "dead-letters.jsonl";

    /// The options as they are where nothing but the path is said.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: Self::MAX_BYTES,
            when_full: WhenFull::default(),
        }
    }
}

/// Appends dead letters to one file, each exactly once.
///
/// # Crash safety
/// The manifest records the file's length with every confirmed unit; a unit that is given again
/// overwrites what its first attempt left there. What the manifest cannot know stands in the
/// journal `.FILE.journal` beside the file. A file that was there before is appended to; one that
/// was moved away or emptied is begun anew; one that is shorter than recorded stops the job.
///
/// Every start claims the file by replacing it with a copy of its own: what a process that was
/// thought dead still writes goes to the file that was replaced. What it would do by name fails, as
/// names are changed only by way of a folder of its own, `.FILE.claim-LINEAGE-GENERATION`, which its
/// successor has taken away. Another job's file that is in use is refused.
pub struct DeadLetterFile {
    options: DeadLetterFileOptions,
    encoders: EncoderFactory,
}

impl DeadLetterFile {
    /// A sink for streams of [`dead_letter::schema`], whose rows the encoders turn into lines.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn new(options: DeadLetterFileOptions, encoders: EncoderFactory) -> Result<Self, Error> {
        if options.max_bytes < MAX_BYTES_LEAST {
            return Err(Error::Option {
                option: "max_size",
                value: options.max_bytes.to_string(),
                must: "at least 4KiB",
            });
        }
        // Hidden names beside it are longer, by up to 40 bytes.
        let name = options.path.file_name();
        if name.is_none_or(|name| name.len() > NAME_BYTES_MAX) {
            return Err(Error::Option {
                option: "path",
                value: options.path.display().to_string(),
                must: "the path of a file, with a name of at most 200 bytes",
            });
        }
        Ok(Self { options, encoders })
    }
}

impl std::fmt::Debug for DeadLetterFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetterFile")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for DeadLetterFile {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            exactly_once: true,
            ordered: true,
            changes: false,
            route: Route::Local,
            grouping: None,
        }
    }

    fn writer(&self, _worker: usize, _context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        let encoder = (self.encoders)()?;
        let writer = LineWriter::new(encoder, dead_letter::schema(), OBJECT_BYTES);
        Ok(Box::new(writer))
    }

    async fn publisher(&self, context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        let place = Arc::new(Place::new(&self.options, &context));
        let recorded = place.recorded(context.state)?;
        let claimed = Arc::clone(&place);
        let pen = blocking(move || claimed.claim(recorded.as_ref())).await?;
        Ok(Box::new(DeadLetterPublisher {
            place,
            dropped_before: pen.position.dropped,
            dropped: AtomicU64::new(pen.position.dropped),
            pen: tokio::sync::Mutex::new(pen),
        }))
    }
}

struct DeadLetterPublisher {
    place: Arc<Place>,
    /// As it stood after the last unit that was published whole.
    pen: tokio::sync::Mutex<Pen>,
    /// Letters dropped for want of room since the job first started, and those of earlier starts. Where
    /// a crash fell between two rotations, letters that were written again may be among them.
    dropped: AtomicU64,
    dropped_before: u64,
}

#[async_trait]
impl Publisher for DeadLetterPublisher {
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        let mut objects = unit.get().objects.clone();
        objects.sort_by_key(|object| (object.epoch, object.worker, object.sequence));
        let bytes: u64 = objects.iter().map(|object| object.bytes).sum();
        let mut pen = self.pen.lock().await;
        if bytes > 0 {
            let (place, before) = (Arc::clone(&self.place), pen.lift());
            let mut append = blocking(move || place.prepare(before, bytes)).await?;
            for object in &objects {
                let lines = stage.get(object).await?;
                append = blocking(move || append.write(&lines)).await?;
            }
            let place = Arc::clone(&self.place);
            *pen = blocking(move || place.finish(append)).await?;
            self.dropped.store(pen.position.dropped, Ordering::Relaxed);
        }
        let state = serde_json::to_value(&pen.position)
            .map_err(|error| Fault::bug(format!("a position is no JSON: {error}")))?;
        Ok(Published {
            rejected: Vec::new(),
            state,
        })
    }

    fn figures(&self, figures: &mut dyn Figures) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let here = dropped.saturating_sub(self.dropped_before);
        figures.total("dead_letters_dropped_total", &[], here);
    }
}

#[cfg(test)]
mod tests;
