//! The traits of sources: reading and decoding are two stages.
//!
//! A [`SplitReader`] cuts what it reads into [`Chunk`]s at record boundaries, in the order of each
//! split; any worker's [`Decoder`] turns chunks into batches. So one file or one partition keeps
//! all workers busy, and its order does not depend on who decoded what.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;

use crate::dead_letter::DeadLetter;
use crate::fault::Fault;
use crate::figure::Figures;
use crate::origin::SplitId;
use crate::schema::StreamSchema;

/// A split as its source describes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SplitSpec {
    /// A name that is stable over restarts: a path, `partition 3`.
    pub name: Arc<str>,
    /// What the source wants to find again after a restart (an end offset, say); it stands in
    /// every manifest. No secret.
    pub detail: serde_json::Value,
}

/// A split and where to begin.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SplitStart {
    /// Its number in the job.
    pub id: SplitId,
    /// Its description.
    pub spec: SplitSpec,
    /// The offset of the first record to read; nothing on the very first start.
    pub offset: Option<u64>,
    /// Whether the checkpoint has all of it, and it was known that no more would come.
    pub finished: bool,
}

/// Which workers read a source's splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One worker reads all (decoding is spread over all workers all the same).
    Single,
    /// Split `i` is read by worker `i` modulo their number.
    Spread,
}

/// Wakes the worker that owns a reader; cheap, may be called from any thread. A reader calls it
/// when a poll that found nothing would now find something, also when it has ended or failed.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Where records come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// Whether the input ends.
    fn bounded(&self) -> bool;

    /// Which workers read.
    fn placement(&self) -> Placement;

    /// Whether a split that the checkpoint has under this source's name is one that it reads: by
    /// what the checkpoint says of it alone, without asking anybody. What this refuses is never read
    /// in place of what the definition means. `thalweg plan` asks, and every start before it claims
    /// the job, so that no other method is called with such a split.
    ///
    /// # Errors
    /// Why it is not, naming what the checkpoint has and what the definition says.
    fn recognize(&self, _known: &SplitSpec) -> Result<(), Fault> {
        Ok(())
    }

    /// Finds the splits. `known` are those of the checkpoint (empty at the first start), which it
    /// [recognizes](Self::recognize); the answer has them first, in the same order, and may add new
    /// ones. Also the check that the source can be reached.
    ///
    /// # Errors
    /// User, unavailable or unreachable, naming what could not be found or reached.
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault>;

    /// Waits until there are splits besides `known`, which are all that the job has, and gives
    /// those alone; a source whose splits never become more waits for ever. Asked while the job
    /// runs, in one place of it, and again after each answer; how often it looks is its own affair.
    /// What it gives, [`discover`](Self::discover) would find at the next start.
    ///
    /// # Errors
    /// What ends the attempt; a source waits out what is transient by itself.
    ///
    /// # Cancel safety
    /// Dropped when the attempt ends; whatever it had found is found again.
    async fn grown(&self, _known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        std::future::pending().await
    }

    /// Asked before a checkpoint is committed, after all that it holds was read: whether that came
    /// from what this source was at the start. A topic that was deleted and made anew meanwhile has
    /// other records under the same offsets, and none of them may become visible.
    ///
    /// # Errors
    /// What ends the attempt before anything is committed. Not being able to tell is none.
    async fn confirm(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Told after a commit how far each split has come, for whoever watches the source from outside.
    /// Progress is what the checkpoint says and nothing else, so nothing may depend on this; what
    /// goes wrong is the source's to tell. If it takes its time, commits in between are left out.
    async fn committed(&self, _offsets: &[(SplitSpec, u64)]) {}

    /// Opens splits for reading on one worker. Returns at once; I/O happens on threads or tasks
    /// of the reader's own, behind bounded queues.
    ///
    /// # Errors
    /// User or unavailable.
    fn open(&self, splits: Vec<SplitStart>, waker: Waker) -> Result<Box<dyn SplitReader>, Fault>;
}

/// Reads some splits of a source on one worker. Never blocks.
pub trait SplitReader: Send {
    /// The next chunk of about `bytes_max` bytes, if there is one now.
    ///
    /// # Errors
    /// What ends the attempt; a source waits out what is transient by itself.
    fn poll(&mut self, bytes_max: usize) -> Result<Option<Chunk>, Fault>;

    /// Where a split stands, as of the chunks that [`poll`](Self::poll) has handed out.
    fn status(&self, split: SplitId) -> SplitStatus;

    /// Takes on splits that have come since it was opened. Returns at once.
    ///
    /// # Errors
    /// User or unavailable; a bug, unless its source [grows](Source::grown).
    fn add(&mut self, splits: Vec<SplitStart>) -> Result<(), Fault> {
        Err(Fault::bug(format!(
            "{} new splits for a reader that takes on none",
            splits.len()
        )))
    }

    /// Told the newest event time decoded from a split, so that a bounded source can read the
    /// split furthest behind first.
    fn observe(&mut self, _split: SplitId, _newest_event_time: i64) {}

    /// Whether the source is in touch with where it reads from; a metric.
    fn connected(&self) -> bool {
        true
    }

    /// What it counts, for metrics. Asked about once a second, between chunks.
    fn figures(&self, _figures: &mut dyn Figures) {}
}

/// Where a split stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitStatus {
    /// What is known of its end.
    pub state: SplitState,
    /// Records (or bytes, for a file) known to be unread, for the lag metrics.
    pub behind: Option<u64>,
}

/// What is known of a split's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitState {
    /// There is more, or it is not known.
    Reading,
    /// All that there is now has been handed out; more may come.
    AtEnd,
    /// All has been handed out and no more will come.
    Finished,
}

/// How records lie in a chunk's bytes.
#[derive(Clone, Debug)]
pub enum Framing {
    /// Separated by line feeds (an optional carriage return before each); a record's offset is the
    /// chunk's `start` plus the position of its first byte. Empty lines are no records. A format
    /// with [quotes](crate::Quoting) may have line feeds within records; the chunk begins and ends
    /// between records all the same.
    Lines,
    /// Record `i` is `bytes[ranges[i].0 as usize..ranges[i].1 as usize]` and has `offsets[i]`.
    Records {
        /// Start and end of each record.
        ranges: Vec<(u32, u32)>,
        /// Offset of each record, ascending.
        offsets: Vec<u64>,
    },
}

/// Consecutive records of one split, not yet decoded. About 1 MiB at most, unless one record is
/// larger.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The split it is from.
    pub split: SplitId,
    /// Offset of its first byte (lines) or record.
    pub start: u64,
    /// Offset from which to go on after it.
    pub end: u64,
    /// The records.
    pub bytes: Bytes,
    /// How they lie in the bytes.
    pub framing: Framing,
    /// The metadata columns that the definition asked for, in the order in which it named them:
    /// one value a record, or one value for the whole chunk (length 1) where it is constant. For
    /// framing by lines an entry may be `None`: the record's offset, which the decoder knows.
    pub metadata: Vec<Option<ArrayRef>>,
    /// When it was read, milliseconds of the job's clock.
    pub read_at_ms: i64,
}

/// Turns chunks into batches on one worker.
pub trait Decoder: Send {
    /// Decodes `chunk`; appends to `out`.
    ///
    /// # Errors
    /// A bug; a bad record is a dead letter.
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault>;
}

/// Makes one [`Decoder`] per worker.
pub trait DecoderFactory: Send + Sync {
    /// The schema of the batches it makes: the source's columns, metadata columns included.
    fn schema(&self) -> StreamSchema;
    /// An instance of its own.
    ///
    /// # Errors
    /// User, if the schema cannot be decoded so.
    fn build(&self) -> Result<Box<dyn Decoder>, Fault>;
}

/// What decoding a chunk gave.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Batches of at most [`BATCH_ROWS_MAX`](crate::BATCH_ROWS_MAX) rows, in order.
    pub batches: Vec<RecordBatch>,
    /// Records that could not be decoded, of class decode, schema or time.
    pub dead: Vec<DeadLetter>,
    /// Records seen: rows of `batches` and `dead` together.
    pub records: u64,
    /// Newest event time among the rows of `batches`.
    pub newest_event_time: Option<i64>,
}
