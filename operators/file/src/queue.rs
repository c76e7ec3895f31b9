//! The queue between the thread that reads files and the worker that takes the pieces.
//!
//! The thread reads ahead by a few pieces at most and then waits for the worker to take some; the
//! worker never waits, and is woken when a poll that found nothing would find something.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thalweg_stream::Fault;
use thalweg_stream::source::{SplitStart, Waker};

use crate::split_file::SplitFile;

/// Bytes that are read ahead, unless a single record is larger…
const BYTES_MAX: usize = 4 << 20;
/// …and pieces: many small files are read ahead too.
const PIECES_MAX: usize = 64;

/// What thread and worker share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Signalled when the queue has room again, there are new splits, or the reader is gone.
    room: Condvar,
    waker: Waker,
}

impl Shared {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            state: Mutex::default(),
            room: Condvar::new(),
            waker,
        }
    }

    /// Wakes the thread.
    pub(crate) fn notify(&self) {
        self.room.notify_one();
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an item and wakes the worker if it found nothing.
    pub(crate) fn push(&self, item: Item) {
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

    /// Waits until the queue has room; nothing if the reader is gone.
    pub(crate) fn wait_for_room(&self) -> Option<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while !state.closed && !state.has_room() {
            state = (self.room.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
        (!state.closed).then_some(state)
    }

    /// Waits for so long, or until there are new splits or the reader is gone.
    pub(crate) fn wait_for_more(&self, longest: Duration) {
        let state = self.lock();
        let waits = |state: &mut State| !state.closed && state.coming.is_empty();
        let waited = self.room.wait_timeout_while(state, longest, waits);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells the worker what is known of a file that has just been opened.
    pub(crate) fn opened(&self, lane: usize, file: &mut SplitFile) {
        let mut state = self.lock();
        if let Some(length) = state.lengths.get_mut(lane) {
            *length = file.length();
        }
        if let Some(header) = file.take_header() {
            state.headers.insert(lane, header);
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) queue: VecDeque<Item>,
    pub(crate) queued_bytes: usize,
    pub(crate) seen: Vec<Seen>,
    /// Length of each file that is open or was, unless compressed.
    pub(crate) lengths: Vec<Option<u64>>,
    /// Headers of files, by lane, until the first chunk takes them.
    pub(crate) headers: BTreeMap<usize, Vec<u8>>,
    /// Splits that the thread has not taken on yet, with their lanes.
    pub(crate) coming: Vec<(usize, SplitStart)>,
    /// Whether the last poll found nothing.
    pub(crate) hungry: bool,
    /// Whether the reader is gone.
    pub(crate) closed: bool,
    /// Whether the thread is gone.
    pub(crate) ended: bool,
}

impl State {
    /// Begins to know of more lanes.
    pub(crate) fn add(&mut self, splits: Vec<(usize, SplitStart)>) {
        let lanes = self.seen.len() + splits.len();
        self.seen.resize(lanes, Seen::NOTHING);
        self.lengths.resize(lanes, None);
        self.coming.extend(splits);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.queued_bytes < BYTES_MAX && self.queue.len() < PIECES_MAX
    }
}

/// What the thread has for the worker.
pub(crate) enum Item {
    Piece {
        lane: usize,
        start: u64,
        bytes: Bytes,
    },
    /// All that there is of a file for now has been read.
    AtEnd(usize),
    /// A file has been read to its end.
    End(usize),
    /// Reading cannot go on.
    Failed(Fault),
}

/// What is known of a split's event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The newest event time decoded from it.
    pub(crate) newest: i64,
    /// Pieces read since that was last told.
    pub(crate) unobserved: u32,
}

impl Seen {
    pub(crate) const NOTHING: Self = Self {
        newest: i64::MIN,
        unobserved: 0,
    };
}

/// Of the lanes given, the one to read next: the one furthest behind in event time. Those of which
/// nothing is known yet come first and take turns, and so do all where nothing is ever told.
pub(crate) fn furthest_behind(seen: &[Seen], lanes: impl Iterator<Item = usize>) -> Option<usize> {
    lanes.min_by_key(|lane| {
        let seen = seen.get(*lane).copied().unwrap_or(Seen::NOTHING);
        let rank = match seen.newest {
            i64::MIN => seen.unobserved,
            _ => 0,
        };
        (seen.newest, rank, *lane)
    })
}

/// Tells the worker, when dropped, that the thread is gone.
pub(crate) struct Ended(pub(crate) Arc<Shared>);

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
