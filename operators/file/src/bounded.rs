//! The thread that reads files to their ends: which file is next, and how many are open.

use std::collections::VecDeque;
use std::sync::Arc;

use thalweg_stream::source::SplitStart;

use crate::buffer::BufferPool;
use crate::error::Error;
use crate::identity::Followed;
use crate::queue::{Ended, Item, Shared, furthest_behind};
use crate::reader::Plan;
use crate::source::Order;
use crate::split_file::{Piece, SplitFile};

/// Most that may be open at once, where a plain file weighs 1.
pub(crate) const OPEN_WEIGHT_MAX: usize = 256;
/// A decompressor holds a window of up to some MiB, so there are at most 32 of them.
const COMPRESSED_WEIGHT: usize = 8;

/// The thread's side.
pub(crate) struct Thread {
    plan: Plan,
    pool: Arc<BufferPool>,
    shared: Arc<Shared>,
    /// Not opened yet, in the order of the splits.
    waiting: VecDeque<(usize, SplitStart)>,
    /// Being read, by lane.
    open: Vec<(usize, SplitFile)>,
}

impl Thread {
    /// A thread that reads the splits that `shared` has.
    pub(crate) fn new(plan: Plan, shared: Arc<Shared>) -> Self {
        let coming = std::mem::take(&mut shared.lock().coming);
        Self {
            pool: BufferPool::new(plan.chunk_bytes),
            plan,
            shared,
            waiting: coming.into(),
            open: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) {
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
            let followed = Followed::of(&start.spec);
            if followed.is_some() && start.finished {
                self.shared.push(Item::End(lane));
                continue;
            }
            // One that a run before this has followed may have been renamed.
            let path = match followed {
                Some(followed) => (followed.locate(&self.plan.folder))
                    .map_err(Error::io("look for", followed.path.as_ref()))?,
                None => None,
            };
            let mut file = SplitFile::open(
                &path.unwrap_or_else(|| self.plan.folder.join(&*start.spec.name)),
                Arc::clone(&start.spec.name),
                self.plan.compression,
                start.offset.unwrap_or(0),
                self.plan.record_bytes_max,
                self.plan.records,
            )?;
            weight += self::weight(&file);
            self.shared.opened(lane, &mut file);
            self.open.push((lane, file));
        }
        Ok(())
    }

    /// Waits until the queue has room; then the position of the file to read next. Nothing if the
    /// reader is gone or all is read.
    fn choose(&self) -> Option<usize> {
        let state = self.shared.wait_for_room()?;
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
