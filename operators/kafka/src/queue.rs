//! The bounded queue between the thread that fetches and the worker that reads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::Array as _;
use thalweg_stream::Chunk;
use thalweg_stream::source::Waker;

use crate::error::Error;

/// Bytes that wait for the worker, unless a single chunk is larger…
const BYTES_MAX: usize = 4 << 20;
/// …and items.
const ITEMS_MAX: usize = 256;

/// What the thread has for the worker; a lane is the place of a split in the reader.
#[derive(Debug)]
pub(crate) enum Item {
    /// Records of a split.
    Chunk(usize, Chunk),
    /// All that the partition holds has been handed out.
    AtEnd(usize),
    /// The end of a bounded split.
    Finished(usize),
    /// The end of the attempt.
    Failed(Error),
}

/// The queue. One thread pushes, one worker pops.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Signalled when there is room again, or the reader is gone.
    room: Condvar,
    waker: Waker,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// Whether the last pop found nothing.
    hungry: bool,
    /// Whether the reader is gone.
    closed: bool,
    /// Whether the thread is gone.
    ended: bool,
}

impl Queue {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            state: Mutex::default(),
            room: Condvar::new(),
            waker,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item and wakes the worker if it found nothing.
    pub(crate) fn push(&self, item: Item) {
        let mut state = self.lock();
        state.bytes += size(&item);
        state.items.push_back(item);
        self.wake(state);
    }

    /// Waits until there is room, at most for a while. Whether there is.
    pub(crate) fn wait_for_room(&self, at_most: Duration) -> bool {
        let state = self.lock();
        let full = |state: &mut State| {
            !state.closed && (state.bytes >= BYTES_MAX || state.items.len() >= ITEMS_MAX)
        };
        match self.room.wait_timeout_while(state, at_most, full) {
            Ok((_, waited)) => !waited.timed_out(),
            Err(_) => false,
        }
    }

    /// The next item, for the worker.
    ///
    /// # Errors
    /// If the thread has died.
    pub(crate) fn pop(&self) -> Result<Option<Item>, Error> {
        let mut state = self.lock();
        let Some(item) = state.items.pop_front() else {
            if state.ended {
                return Err(Error::Thread("the thread that reads has died".to_owned()));
            }
            state.hungry = true;
            return Ok(None);
        };
        if let Item::Failed(error) = &item {
            // Whoever asks again is told again.
            let again = Item::Failed(error.clone());
            state.items.push_front(again);
        }
        state.bytes = state.bytes.saturating_sub(size(&item));
        drop(state);
        self.room.notify_one();
        Ok(Some(item))
    }

    /// The reader is gone.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.room.notify_one();
    }

    pub(crate) fn closed(&self) -> bool {
        self.lock().closed
    }

    /// The thread is gone.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wake = std::mem::take(&mut state.hungry);
        drop(state);
        if wake {
            (self.waker)();
        }
    }
}

fn size(item: &Item) -> usize {
    match item {
        // Keys and headers may be larger than what they come with.
        Item::Chunk(_, chunk) => {
            let columns = chunk.metadata.iter().flatten();
            let columns = columns.map(|column| column.get_array_memory_size());
            chunk.bytes.len() + columns.sum::<usize>()
        }
        Item::AtEnd(_) | Item::Finished(_) | Item::Failed(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use arrow::array::{ArrayRef, StringViewArray};
    use bytes::Bytes;
    use thalweg_stream::{Chunk, Framing, SplitId};

    use super::{BYTES_MAX, ITEMS_MAX, Item, Queue};
    use crate::error::Error;

    fn queue() -> (Queue, Arc<AtomicUsize>) {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let waker = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (Queue::new(waker), woken)
    }

    #[test]
    fn a_worker_that_found_nothing_is_woken_once() {
        let (queue, woken) = queue();
        queue.push(Item::AtEnd(0));
        assert_eq!(woken.load(Ordering::Relaxed), 0, "nobody has asked yet");
        assert!(matches!(queue.pop(), Ok(Some(Item::AtEnd(0)))));
        assert!(matches!(queue.pop(), Ok(None)));
        queue.push(Item::AtEnd(0));
        queue.push(Item::AtEnd(1));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_queue_has_no_room_until_something_is_taken_or_the_reader_goes() {
        let (queue, _) = queue();
        let soon = Duration::from_millis(1);
        for _ in 0..ITEMS_MAX {
            assert!(queue.wait_for_room(soon));
            queue.push(Item::AtEnd(0));
        }
        assert!(!queue.wait_for_room(soon));
        assert!(queue.pop().is_ok());
        assert!(queue.wait_for_room(soon));
        queue.push(Item::AtEnd(0));
        queue.close();
        assert!(queue.wait_for_room(soon) && queue.closed());
    }

    #[test]
    fn keys_and_headers_take_room_as_values_do() {
        let (queue, _) = queue();
        let soon = Duration::from_millis(1);
        let headers: ArrayRef = Arc::new(StringViewArray::from(vec!["x".repeat(BYTES_MAX)]));
        let tombstone = Chunk {
            split: SplitId(0),
            start: 0,
            end: 1,
            bytes: Bytes::new(),
            framing: Framing::Records {
                ranges: vec![(0, 0)],
                offsets: vec![0],
            },
            metadata: vec![None, Some(headers)],
            read_at_ms: 0,
        };
        queue.push(Item::Chunk(0, tombstone));
        assert!(!queue.wait_for_room(soon));
        assert!(queue.pop().is_ok());
        assert!(queue.wait_for_room(soon));
    }

    #[test]
    fn failures_and_the_death_of_the_thread_are_told_again_and_again() {
        let (queue, _) = queue();
        queue.push(Item::Failed(Error::Thread("x".to_owned())));
        queue.end();
        for _ in 0..2 {
            assert!(matches!(queue.pop(), Ok(Some(Item::Failed(_)))));
        }
        let (queue, _) = self::queue();
        queue.end();
        assert!(queue.pop().is_err());
    }
}
