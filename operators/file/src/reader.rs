//! Reading splits on a thread: which file is next, and the queue between thread and worker.
//!
//! The thread reads ahead by a few chunks at most and then waits for the worker to take some; the
//! worker never waits, and is woken when a poll that found nothing would find something.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, BinaryViewArray, StringViewArray};
use bytes::Bytes;
use memchr::{memchr, memrchr};
use thalweg_stream::source::{SplitStart, SplitState, SplitStatus, Waker};
use thalweg_stream::{Chunk, Clock, Fault, Framing, Quoting, SplitId, SplitReader};

use crate::buffer::BufferPool;
use crate::compression::Compression;
use crate::error::Error;
use crate::source::{MetadataField, Order, Records};
use crate::split_file::{self, Piece, SplitFile};

/// Bytes that are read ahead, unless a single record is larger…
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// …and pieces: many small files are read ahead too.
const QUEUE_PIECES_MAX: usize = 64;
/// Most that may be open at once, where a plain file weighs 1.
const OPEN_WEIGHT_MAX: usize = 256;
/// A decompressor holds a window of up to some MiB, so there are at most 32 of them.
const COMPRESSED_WEIGHT: usize = 8;

/// How files are to be read.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where relative names start.
    pub(crate) folder: PathBuf,
    pub(crate) records: Records,
    pub(crate) compression: Compression,
    pub(crate) order: Order,
    pub(crate) chunk_bytes: usize,
    pub(crate) record_bytes_max: usize,
}

/// Opens splits for reading, on a thread that ends with the reader.
pub(crate) fn open(
    plan: Plan,
    metadata: Arc<[MetadataField]>,
    clock: Arc<dyn Clock>,
    splits: Vec<SplitStart>,
    waker: Waker,
) -> Result<FileReader, Error> {
    let lanes = (splits.iter())
        .map(|split| Lane {
            id: split.id,
            name: Arc::clone(&split.spec.name),
            path: None,
            header: None,
            handed_out: split.offset.unwrap_or(0),
            finished: false,
        })
        .collect();
    let shared = Arc::new(Shared {
        state: Mutex::new(State::new(splits.len())),
        room: Condvar::new(),
        waker,
    });
    let places = (splits.iter().enumerate())
        .map(|(lane, split)| (split.id, lane))
        .collect();
    let quoting = plan.records.quoting;
    let thread = Thread {
        pool: BufferPool::new(plan.chunk_bytes),
        plan,
        shared: Arc::clone(&shared),
        waiting: splits.into_iter().enumerate().collect(),
        open: Vec::new(),
    };
    std::thread::Builder::new()
        .name("file-reader".to_owned())
        .spawn(move || thread.run())
        .map_err(Error::io("start a thread for", "files".as_ref()))?;
    Ok(FileReader {
        shared,
        quoting,
        lanes,
        places,
        metadata,
        clock,
    })
}

/// The worker's side.
pub(crate) struct FileReader {
    shared: Arc<Shared>,
    quoting: Option<Quoting>,
    lanes: Vec<Lane>,
    places: BTreeMap<SplitId, usize>,
    metadata: Arc<[MetadataField]>,
    clock: Arc<dyn Clock>,
}

/// A split, as far as the worker has it.
struct Lane {
    id: SplitId,
    name: Arc<str>,
    /// The value of the metadata column `path`, made when it is first wanted.
    path: Option<ArrayRef>,
    /// The value of the metadata column for its header.
    header: Option<ArrayRef>,
    handed_out: u64,
    finished: bool,
}

impl Lane {
    /// What only chunks need: of a hundred thousand files that are read it would add up.
    fn forget(&mut self) {
        (self.path, self.header) = (None, None);
    }
}

impl FileReader {
    /// Notes the end of a file, if the queue has reached one.
    fn pass_end(lanes: &mut [Lane], state: &mut State) {
        if let Some(Item::End(lane)) = state.queue.front() {
            if let Some(lane) = lanes.get_mut(*lane) {
                lane.finished = true;
            }
            state.queue.pop_front();
        }
    }

    fn chunk(&mut self, lane: usize, start: u64, bytes: Bytes) -> Result<Chunk, Fault> {
        let Some(lane) = self.lanes.get_mut(lane) else {
            return Err(Error::Died("the order of files").into());
        };
        let name = &lane.name;
        let metadata: Vec<Option<ArrayRef>> =
            (self.metadata.iter())
                .map(|field| match field {
                    MetadataField::Offset => None,
                    MetadataField::Header => lane.header.clone(),
                    MetadataField::Path => Some(Arc::clone(lane.path.get_or_insert_with(|| {
                        Arc::new(StringViewArray::from_iter_values([name]))
                    }))),
                })
                .collect();
        lane.handed_out = start + bytes.len() as u64;
        if lane.finished {
            lane.forget();
        }
        Ok(Chunk {
            split: lane.id,
            start,
            end: lane.handed_out,
            bytes,
            framing: Framing::Lines,
            metadata,
            read_at_ms: self.clock.now_ms(),
        })
    }
}

impl SplitReader for FileReader {
    fn poll(&mut self, bytes_max: usize) -> Result<Option<Chunk>, Fault> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        while let Some(Item::End(lane)) = state.queue.front() {
            // Its last chunk was handed out by an earlier poll.
            if let Some(lane) = self.lanes.get_mut(*lane) {
                lane.forget();
            }
            Self::pass_end(&mut self.lanes, &mut state);
        }
        let (lane, start, bytes) = match state.queue.pop_front() {
            Some(Item::Piece { lane, start, bytes }) => (lane, start, bytes),
            Some(Item::Failed(fault)) => {
                // Whoever asks again is told again.
                state.queue.push_front(Item::Failed(fault.clone()));
                return Err(fault);
            }
            Some(Item::End(_)) | None => {
                if state.ended && self.lanes.iter().any(|lane| !lane.finished) {
                    return Err(Error::Died("the thread that reads files").into());
                }
                state.hungry = !state.ended;
                drop(state);
                // Ends of files take room in the queue as well.
                shared.room.notify_one();
                return Ok(None);
            }
        };
        let (now, rest) = cut(bytes, bytes_max, self.quoting, start);
        state.queued_bytes = state.queued_bytes.saturating_sub(now.len());
        if !rest.is_empty() {
            state.queue.push_front(Item::Piece {
                lane,
                start: start + now.len() as u64,
                bytes: rest,
            });
        }
        while let Some(Item::End(_)) = state.queue.front() {
            Self::pass_end(&mut self.lanes, &mut state);
        }
        if let Some(header) = state.headers.remove(&lane)
            && let Some(lane) = self.lanes.get_mut(lane)
        {
            lane.header = Some(Arc::new(BinaryViewArray::from_iter_values([header])));
        }
        let room = state.has_room();
        drop(state);
        if room {
            shared.room.notify_one();
        }
        self.chunk(lane, start, now).map(Some)
    }

    fn status(&self, split: SplitId) -> SplitStatus {
        let place = self.places.get(&split).copied();
        let Some((place, lane)) = place.and_then(|at| Some((at, self.lanes.get(at)?))) else {
            return SplitStatus {
                state: SplitState::Reading,
                behind: None,
            };
        };
        let length = self.shared.lock().lengths.get(place).copied().flatten();
        SplitStatus {
            state: if lane.finished {
                SplitState::Finished
            } else {
                SplitState::Reading
            },
            behind: length.map(|length| length.saturating_sub(lane.handed_out)),
        }
    }

    fn observe(&mut self, split: SplitId, newest_event_time: i64) {
        if let Some(lane) = self.places.get(&split)
            && let Some(seen) = self.shared.lock().seen.get_mut(*lane)
        {
            seen.newest = seen.newest.max(newest_event_time);
            seen.unobserved = 0;
        }
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.room.notify_one();
    }
}

/// The first records of `bytes`, of at most `bytes_max` unless the first alone is longer, and the
/// rest; `start` is the offset of the first.
fn cut(mut bytes: Bytes, bytes_max: usize, quoting: Option<Quoting>, start: u64) -> (Bytes, Bytes) {
    if bytes.len() <= bytes_max {
        return (bytes, Bytes::new());
    }
    let at = match quoting {
        Some(quoting) => {
            let mut ends = split_file::record_ends(quoting, &bytes, start);
            let mut at = None;
            while let Some(end) = ends.next(&bytes) {
                at = at.filter(|_| end > bytes_max).or(Some(end));
                if end > bytes_max {
                    break;
                }
            }
            at.unwrap_or(bytes.len())
        }
        None => {
            let within = bytes.get(..bytes_max).and_then(|head| memrchr(b'\n', head));
            match within {
                Some(at) => at + 1,
                None => memchr(b'\n', &bytes).map_or(bytes.len(), |at| at + 1),
            }
        }
    };
    let rest = bytes.split_off(at);
    (bytes, rest)
}

/// What thread and worker share.
struct Shared {
    state: Mutex<State>,
    /// Signalled when the queue has room again, or the reader is gone.
    room: Condvar,
    waker: Waker,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an item and wakes the worker if it found nothing.
    fn push(&self, item: Item) {
        let mut state = self.lock();
        if let Item::Piece { lane, bytes, .. } = &item {
            state.queued_bytes += bytes.len();
            if let Some(seen) = state.seen.get_mut(*lane) {
                seen.unobserved = seen.unobserved.saturating_add(1);
            }
        }
        state.queue.push_back(item);
        let wake = std::mem::take(&mut state.hungry);
        drop(state);
        if wake {
            (self.waker)();
        }
    }
}

struct State {
    queue: VecDeque<Item>,
    queued_bytes: usize,
    seen: Vec<Seen>,
    /// Length of each file that is open or was, unless compressed.
    lengths: Vec<Option<u64>>,
    /// Headers of files, by lane, until the first chunk takes them.
    headers: BTreeMap<usize, Vec<u8>>,
    /// Whether the last poll found nothing.
    hungry: bool,
    /// Whether the reader is gone.
    closed: bool,
    /// Whether the thread is gone.
    ended: bool,
}

impl State {
    fn new(lanes: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            queued_bytes: 0,
            seen: vec![Seen::NOTHING; lanes],
            lengths: vec![None; lanes],
            headers: BTreeMap::new(),
            hungry: false,
            closed: false,
            ended: false,
        }
    }

    fn has_room(&self) -> bool {
        self.queued_bytes < QUEUE_BYTES_MAX && self.queue.len() < QUEUE_PIECES_MAX
    }
}

enum Item {
    Piece {
        lane: usize,
        start: u64,
        bytes: Bytes,
    },
    /// A file has been read to its end.
    End(usize),
    /// Reading cannot go on.
    Failed(Fault),
}

/// What is known of a split's event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// The newest event time decoded from it.
    newest: i64,
    /// Pieces read since that was last told.
    unobserved: u32,
}

impl Seen {
    const NOTHING: Self = Self {
        newest: i64::MIN,
        unobserved: 0,
    };
}

/// Of the lanes given, the one to read next: the one furthest behind in event time. Those of which
/// nothing is known yet come first and take turns, and so do all where nothing is ever told.
fn furthest_behind(seen: &[Seen], lanes: impl Iterator<Item = usize>) -> Option<usize> {
    lanes.min_by_key(|lane| {
        let seen = seen.get(*lane).copied().unwrap_or(Seen::NOTHING);
        let rank = match seen.newest {
            i64::MIN => seen.unobserved,
            _ => 0,
        };
        (seen.newest, rank, *lane)
    })
}

/// The thread's side.
struct Thread {
    plan: Plan,
    pool: Arc<BufferPool>,
    shared: Arc<Shared>,
    /// Not opened yet, in the order of the splits.
    waiting: VecDeque<(usize, SplitStart)>,
    /// Being read, by lane.
    open: Vec<(usize, SplitFile)>,
}

impl Thread {
    fn run(mut self) {
        // Says that the thread is gone even if it panics.
        let _guard = Ended(Arc::clone(&self.shared));
        if let Err(error) = self.read() {
            self.shared.push(Item::Failed(error.into()));
        }
    }

    /// Reads until all is read or nobody wants it any more.
    fn read(&mut self) -> Result<(), Error> {
        loop {
            self.open_more()?;
            let Some(at) = self.choose() else {
                return Ok(());
            };
            let Some((lane, file)) = self.open.get_mut(at) else {
                return Ok(());
            };
            let lane = *lane;
            let piece = file.next(&self.pool)?;
            let last = piece.as_ref().is_none_or(|piece| piece.last);
            if let Some(Piece { start, bytes, .. }) = piece {
                self.shared.push(Item::Piece { lane, start, bytes });
            }
            if last {
                self.open.swap_remove(at);
                self.shared.push(Item::End(lane));
            }
        }
    }

    /// Opens as many files as may be open together.
    fn open_more(&mut self) -> Result<(), Error> {
        let most = match self.plan.order {
            Order::Time => OPEN_WEIGHT_MAX,
            Order::Name => 1,
        };
        let mut weight: usize = self.open.iter().map(|(_, file)| weight(file)).sum();
        while weight < most
            && let Some((lane, start)) = self.waiting.pop_front()
        {
            let mut file = SplitFile::open(
                &self.plan.folder.join(&*start.spec.name),
                Arc::clone(&start.spec.name),
                self.plan.compression,
                start.offset.unwrap_or(0),
                self.plan.record_bytes_max,
                self.plan.records,
            )?;
            weight += self::weight(&file);
            let mut state = self.shared.lock();
            if let Some(length) = state.lengths.get_mut(lane) {
                *length = file.length();
            }
            if let Some(header) = file.take_header() {
                state.headers.insert(lane, header);
            }
            drop(state);
            self.open.push((lane, file));
        }
        Ok(())
    }

    /// Waits until the queue has room; then the position of the file to read next. Nothing if the
    /// reader is gone or all is read.
    fn choose(&self) -> Option<usize> {
        let mut state = self.shared.lock();
        while !state.closed && !state.has_room() {
            state = (self.shared.room.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        let lane = furthest_behind(&state.seen, self.open.iter().map(|(lane, _)| *lane))?;
        self.open.iter().position(|(open, _)| *open == lane)
    }
}

fn weight(file: &SplitFile) -> usize {
    match file.length() {
        Some(_) => 1,
        None => COMPRESSED_WEIGHT,
    }
}

/// Tells the worker, when dropped, that the thread is gone.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        let wake = std::mem::take(&mut state.hungry);
        drop(state);
        if wake {
            (self.0.waker)();
        }
    }
}

#[cfg(test)]
mod tests;
