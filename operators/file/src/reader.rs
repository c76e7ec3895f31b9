//! The worker's side of reading: takes pieces from the queue, and knows where each split stands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, BinaryViewArray, StringViewArray};
use bytes::Bytes;
use memchr::{memchr, memrchr};
use thalweg_stream::source::{SplitStart, SplitState, SplitStatus, Waker};
use thalweg_stream::{Chunk, Clock, Fault, Figures, Framing, Quoting, SplitId, SplitReader};

use crate::bounded::Thread;
use crate::compression::Compression;
use crate::error::Error;
use crate::follow::{Counts, Follower, Following};
use crate::identity::Followed;
use crate::queue::{Item, Shared, State};
use crate::source::{MetadataField, Order, Records};
use crate::split_file;

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

/// Opens splits for reading, on a thread that ends with the reader. Without `following` they are read
/// to their ends.
pub(crate) fn open(
    plan: Plan,
    following: Option<Following>,
    metadata: Arc<[MetadataField]>,
    clock: Arc<dyn Clock>,
    splits: Vec<SplitStart>,
    waker: Waker,
) -> Result<FileReader, Error> {
    let shared = Arc::new(Shared::new(waker));
    let mut reader = FileReader {
        shared: Arc::clone(&shared),
        quoting: plan.records.quoting,
        lanes: Vec::new(),
        places: BTreeMap::new(),
        metadata,
        clock: Arc::clone(&clock),
        counts: (following.as_ref()).map(|following| Arc::clone(&following.counts)),
    };
    reader.enter(splits);
    let thread = std::thread::Builder::new().name("file-reader".to_owned());
    let started = match following {
        None => {
            let reads = Thread::new(plan, shared);
            thread.spawn(move || reads.run())
        }
        Some(following) => {
            let follows = Follower::new(plan, following, clock, shared);
            thread.spawn(move || follows.run())
        }
    };
    started.map_err(Error::io("start a thread for", "files".as_ref()))?;
    Ok(reader)
}

/// The worker's side.
pub(crate) struct FileReader {
    shared: Arc<Shared>,
    quoting: Option<Quoting>,
    lanes: Vec<Lane>,
    places: BTreeMap<SplitId, usize>,
    metadata: Arc<[MetadataField]>,
    clock: Arc<dyn Clock>,
    /// What went wrong with files that are followed.
    counts: Option<Arc<Counts>>,
}

/// A split, as far as the worker has it.
struct Lane {
    id: SplitId,
    /// Where its file was met.
    file: Arc<str>,
    /// The value of the metadata column `path`, made when it is first wanted.
    path: Option<ArrayRef>,
    /// The value of the metadata column for its header.
    header: Option<ArrayRef>,
    handed_out: u64,
    state: SplitState,
}

impl Lane {
    /// What only chunks need: of a hundred thousand files that are read it would add up.
    fn forget(&mut self) {
        (self.path, self.header) = (None, None);
    }
}

impl FileReader {
    /// Gives lanes to splits, and the splits to the thread.
    fn enter(&mut self, splits: Vec<SplitStart>) {
        let mut coming = Vec::with_capacity(splits.len());
        for split in splits {
            let file = match Followed::of(&split.spec) {
                Some(followed) => followed.path.into(),
                None => Arc::clone(&split.spec.name),
            };
            let lane = self.lanes.len();
            self.places.insert(split.id, lane);
            self.lanes.push(Lane {
                id: split.id,
                file,
                path: None,
                header: None,
                handed_out: split.offset.unwrap_or(0),
                state: SplitState::Reading,
            });
            coming.push((lane, split));
        }
        self.shared.lock().add(coming);
        self.shared.notify();
    }

    /// Notes the ends of files that the queue has reached.
    fn pass_ends(lanes: &mut [Lane], state: &mut State) {
        while let Some((lane, at)) = match state.queue.front() {
            Some(Item::End(lane)) => Some((*lane, SplitState::Finished)),
            Some(Item::AtEnd(lane)) => Some((*lane, SplitState::AtEnd)),
            Some(Item::Piece { .. } | Item::Failed(_)) | None => None,
        } {
            if let Some(lane) = lanes.get_mut(lane) {
                lane.state = at;
            }
            state.queue.pop_front();
        }
    }

    fn chunk(&mut self, lane: usize, start: u64, bytes: Bytes) -> Result<Chunk, Fault> {
        let Some(lane) = self.lanes.get_mut(lane) else {
            return Err(Error::Died("the order of files").into());
        };
        let file = &lane.file;
        let metadata: Vec<Option<ArrayRef>> =
            (self.metadata.iter())
                .map(|field| match field {
                    MetadataField::Offset => None,
                    MetadataField::Header => lane.header.clone(),
                    MetadataField::Path => Some(Arc::clone(lane.path.get_or_insert_with(|| {
                        Arc::new(StringViewArray::from_iter_values([file]))
                    }))),
                })
                .collect();
        lane.handed_out = start + bytes.len() as u64;
        if lane.state == SplitState::Finished {
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
        if let Some(Item::End(lane)) = state.queue.front()
            && let Some(lane) = self.lanes.get_mut(*lane)
        {
            // Its last chunk was handed out by an earlier poll.
            lane.forget();
        }
        Self::pass_ends(&mut self.lanes, &mut state);
        let (lane, start, bytes) = match state.queue.pop_front() {
            Some(Item::Piece { lane, start, bytes }) => (lane, start, bytes),
            Some(Item::Failed(fault)) => {
                // Whoever asks again is told again.
                state.queue.push_front(Item::Failed(fault.clone()));
                return Err(fault);
            }
            Some(Item::End(_) | Item::AtEnd(_)) | None => {
                let finished = |lane: &Lane| lane.state == SplitState::Finished;
                if state.ended && !self.lanes.iter().all(finished) {
                    return Err(Error::Died("the thread that reads files").into());
                }
                state.hungry = !state.ended;
                drop(state);
                // Ends of files take room in the queue as well.
                shared.notify();
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
        if let Some(at) = self.lanes.get_mut(lane) {
            at.state = SplitState::Reading;
        }
        Self::pass_ends(&mut self.lanes, &mut state);
        if let Some(header) = state.headers.remove(&lane)
            && let Some(lane) = self.lanes.get_mut(lane)
        {
            lane.header = Some(Arc::new(BinaryViewArray::from_iter_values([header])));
        }
        let room = state.has_room();
        drop(state);
        if room {
            shared.notify();
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
            state: lane.state,
            behind: length.map(|length| length.saturating_sub(lane.handed_out)),
        }
    }

    fn add(&mut self, splits: Vec<SplitStart>) -> Result<(), Fault> {
        if self.counts.is_none() {
            return Err(Error::Died("the list of files").into());
        }
        self.enter(splits);
        Ok(())
    }

    fn observe(&mut self, split: SplitId, newest_event_time: i64) {
        if let Some(lane) = self.places.get(&split)
            && let Some(seen) = self.shared.lock().seen.get_mut(*lane)
        {
            seen.newest = seen.newest.max(newest_event_time);
            seen.unobserved = 0;
        }
    }

    fn figures(&self, figures: &mut dyn Figures) {
        if let Some(counts) = &self.counts {
            for (name, count) in [
                ("files_truncated_total", &counts.truncated),
                ("files_lost_total", &counts.lost),
            ] {
                figures.total(name, &[], count.load(Ordering::Relaxed));
            }
        }
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.notify();
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

#[cfg(test)]
mod tests;
