//! The thread that follows files: what is added to them is read, whatever they are called
//! meanwhile, until they are rotated away, removed or truncated.
//!
//! The beginning of a record waits for the rest. A file that has been renamed or removed and does not
//! grow any more is at its end: then what is left is read even if it does not end with a line feed.
//! Only so many files are open: those that may have more to read, and those without a name, which
//! would be lost if they were closed.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thalweg_stream::Clock;
use thalweg_stream::source::SplitStart;

use crate::bounded::OPEN_WEIGHT_MAX;
use crate::buffer::BufferPool;
use crate::error::Error;
use crate::find::Truncated;
use crate::identity::{Followed, Identity};
use crate::queue::{Ended, Item, Shared, furthest_behind};
use crate::reader::Plan;
use crate::split_file::{Piece, SplitFile};

/// Looking may take this share of the time.
const LOOK_SHARE: u32 = 20;

/// How often a file may be renamed between being found and being opened.
const RENAMES_MAX: usize = 8;

/// How files are followed.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    /// How often is looked what has become of them.
    pub(crate) look_every: Duration,
    /// For how long a file that was rotated away must not grow until it is at its end.
    pub(crate) retire_after: Duration,
    pub(crate) truncated: Truncated,
    pub(crate) counts: Arc<Counts>,
}

/// What went wrong with files, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Files that were truncated.
    pub(crate) truncated: AtomicU64,
    /// Files that were gone and may not have been read to their ends.
    pub(crate) lost: AtomicU64,
}

/// The thread's side.
pub(crate) struct Follower {
    plan: Plan,
    following: Following,
    clock: Arc<dyn Clock>,
    pool: Arc<BufferPool>,
    shared: Arc<Shared>,
    /// All that are not at their ends.
    lanes: BTreeMap<usize, Lane>,
    /// The newest lane of each file.
    newest: BTreeMap<Identity, usize>,
    /// Open lanes.
    open: Vec<usize>,
    /// Lanes that have something to read and are not open.
    waiting: VecDeque<usize>,
    next_look: Duration,
}

/// A file that is followed.
struct Lane {
    name: Arc<str>,
    /// Where it was met.
    met: PathBuf,
    /// Where it is now, as far as is known.
    at: PathBuf,
    /// Nothing if it was listed by a run that did not follow it, and has not been opened yet.
    identity: Option<Identity>,
    offset: u64,
    file: Option<SplitFile>,
    /// Whether there may be something to read.
    readable: bool,
    /// Length and time of the last change, as of the last look.
    seen: Option<(u64, i64, i64)>,
    /// Since when it has been found rotated away and unchanged.
    quiet_since: Option<Duration>,
    /// Whether it is read to its very end now.
    retired: bool,
    /// When it was last read.
    read_at: Duration,
}

/// What has become of a file.
enum Sight {
    /// It is as it was.
    Same,
    /// It has changed, and may have more to read.
    Changed,
    /// It was rotated away some time ago, and is complete.
    Retired,
    /// What was read of it is no longer there.
    Truncated,
    /// It is not there, and is not open.
    Gone,
}

impl Follower {
    pub(crate) fn new(
        plan: Plan,
        following: Following,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            pool: BufferPool::new(plan.chunk_bytes),
            plan,
            following,
            clock,
            shared,
            lanes: BTreeMap::new(),
            newest: BTreeMap::new(),
            open: Vec::new(),
            waiting: VecDeque::new(),
            next_look: Duration::ZERO,
        }
    }

    pub(crate) fn run(mut self) {
        // Says that the thread is gone even if it panics.
        let _guard = Ended(Arc::clone(&self.shared));
        if let Err(error) = self.follow() {
            self.shared.push(Item::Failed(error.into()));
        }
    }

    /// Reads until nobody wants it any more.
    fn follow(&mut self) -> Result<(), Error> {
        loop {
            self.take_on();
            let now = self.clock.elapsed();
            if now >= self.next_look {
                self.look(now)?;
                let took = self.clock.elapsed().saturating_sub(now);
                let pause = self.following.look_every.max(took * LOOK_SHARE);
                self.next_look = self.clock.elapsed() + pause;
            }
            self.open_more()?;
            let Some(state) = self.shared.wait_for_room() else {
                return Ok(());
            };
            let readable = |lane: &&usize| self.lanes.get(lane).is_some_and(|lane| lane.readable);
            let readable = self.open.iter().filter(readable).copied();
            let next = furthest_behind(&state.seen, readable);
            drop(state);
            match next {
                Some(lane) => self.read(lane)?,
                None => {
                    let now = self.clock.elapsed();
                    (self.shared).wait_for_more(self.next_look.saturating_sub(now));
                }
            }
        }
    }

    /// Takes on new splits. Of several of the same file, it was truncated in between: what it has now
    /// is of the last.
    fn take_on(&mut self) {
        let coming = std::mem::take(&mut self.shared.lock().coming);
        let mut finished = Vec::new();
        for (lane, start) in coming {
            let followed = Followed::of(&start.spec);
            let identity = followed.as_ref().map(|followed| followed.identity);
            let older = identity.and_then(|identity| self.newest.insert(identity, lane));
            if start.finished {
                self.shared.push(Item::End(lane));
                finished.extend(followed.map(|followed| (lane, start, followed)));
                continue;
            }
            if let Some(older) = older.filter(|older| self.lanes.contains_key(older)) {
                self.truncated(older);
            }
            let path = followed.map_or_else(|| start.spec.name.to_string(), |known| known.path);
            let met = self.plan.folder.join(path);
            let new = Lane {
                name: start.spec.name,
                at: met.clone(),
                met,
                identity,
                offset: start.offset.unwrap_or(0),
                file: None,
                readable: true,
                seen: None,
                quiet_since: None,
                retired: false,
                read_at: Duration::ZERO,
            };
            self.lanes.insert(lane, new);
            // Also one that has nothing new: whether it was truncated is seen when it is opened.
            self.waiting.push_back(lane);
        }
        for (lane, start, followed) in finished {
            if self.newest.get(&followed.identity) == Some(&lane) {
                self.check_finished(&start, &followed);
            }
        }
    }

    /// Notes a file that was truncated, and its split finished with it, where the run before has ended
    /// too soon to find what it has now.
    fn check_finished(&self, start: &SplitStart, followed: &Followed) {
        let there = fs::metadata(self.plan.folder.join(&followed.path));
        let truncated = there.is_ok_and(|metadata| {
            let shorter = start.offset.is_some_and(|offset| metadata.len() < offset);
            shorter && followed.identity.has_number(&metadata, true)
        });
        if truncated {
            self.following.truncated.note(&start.spec.name);
        }
    }

    /// Looks what has become of all files.
    fn look(&mut self, now: Duration) -> Result<(), Error> {
        let mut ends = Vec::new();
        for (&id, lane) in &mut self.lanes {
            if lane.file.is_none() && lane.readable {
                // It waits to be opened.
                continue;
            }
            match lane.look(now, self.following.retire_after)? {
                Sight::Same => continue,
                Sight::Changed => {}
                Sight::Retired => lane.retired = true,
                end @ (Sight::Truncated | Sight::Gone) => {
                    ends.push((id, end));
                    continue;
                }
            }
            lane.readable = true;
            match &mut lane.file {
                None => self.waiting.push_back(id),
                Some(file) => {
                    let length = lane.seen.map_or(0, |(length, ..)| length);
                    file.grown(length, !lane.retired);
                    if let Some(length) = self.shared.lock().lengths.get_mut(id) {
                        *length = file.length();
                    }
                }
            }
        }
        for (lane, end) in ends {
            match end {
                Sight::Truncated => self.truncated(lane),
                Sight::Gone | Sight::Same | Sight::Changed | Sight::Retired => self.gone(lane),
            }
        }
        Ok(())
    }

    /// Opens as many files as may be open together.
    fn open_more(&mut self) -> Result<(), Error> {
        while let Some(&id) = self.waiting.front() {
            if self.open.len() >= OPEN_WEIGHT_MAX && !self.close_one() {
                return Ok(());
            }
            self.waiting.pop_front();
            let Some(lane) = self.lanes.get_mut(&id) else {
                continue;
            };
            match lane.open(&self.plan)? {
                Sight::Same => {
                    // Its header is not complete.
                    lane.readable = false;
                    self.shared.push(Item::AtEnd(id));
                }
                Sight::Changed | Sight::Retired => {
                    if let Some(file) = &mut lane.file {
                        self.shared.opened(id, file);
                    }
                    self.open.push(id);
                }
                Sight::Truncated => self.truncated(id),
                Sight::Gone => self.gone(id),
            }
        }
        Ok(())
    }

    /// Closes the file that has had nothing to read for longest and can be found again.
    fn close_one(&mut self) -> bool {
        let closable = |id: &&usize| {
            (self.lanes.get(id)).is_some_and(|lane| !lane.readable && lane.quiet_since.is_none())
        };
        let read_at = |id: &&usize| self.lanes.get(id).map(|lane| lane.read_at);
        let Some(&id) = self.open.iter().filter(closable).min_by_key(read_at) else {
            return false;
        };
        self.open.retain(|open| *open != id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.file = None;
        }
        true
    }

    /// Reads a piece.
    fn read(&mut self, id: usize) -> Result<(), Error> {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Ok(());
        };
        let Some(file) = &mut lane.file else {
            return Ok(());
        };
        let piece = file.next(&self.pool)?;
        lane.read_at = self.clock.elapsed();
        let last = piece.as_ref().is_none_or(|piece| piece.last);
        if let Some(Piece { start, bytes, .. }) = piece {
            lane.offset = start + bytes.len() as u64;
            let lane = id;
            self.shared.push(Item::Piece { lane, start, bytes });
        }
        if !last {
            return Ok(());
        }
        lane.readable = false;
        if lane.retired {
            self.end(id);
        } else {
            self.shared.push(Item::AtEnd(id));
        }
        Ok(())
    }

    fn truncated(&mut self, id: usize) {
        if let Some(lane) = self.lanes.get(&id) {
            let (file, read) = (&*lane.name, lane.offset);
            tracing::warn!(file, read, "file: truncated; what it has now is read anew");
            self.following
                .counts
                .truncated
                .fetch_add(1, Ordering::Relaxed);
            self.following.truncated.note(&lane.name);
        }
        self.end(id);
    }

    fn gone(&mut self, id: usize) {
        let Some(lane) = self.lanes.get(&id) else {
            return;
        };
        // One that had been read to where it ended when it was last looked at is not missed.
        if lane.seen.is_none_or(|(length, ..)| length > lane.offset) {
            let (file, read) = (&*lane.name, lane.offset);
            tracing::warn!(file, read, "file: gone; it may have had more than was read");
            self.following.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.end(id);
    }

    fn end(&mut self, id: usize) {
        self.lanes.remove(&id);
        self.open.retain(|open| *open != id);
        self.shared.push(Item::End(id));
    }
}

impl Lane {
    /// Looks what has become of it.
    fn look(&mut self, now: Duration, retire_after: Duration) -> Result<Sight, Error> {
        let place = self.is_at(&self.met)?;
        let in_place = place.is_some();
        let metadata = match (self.file.as_ref().and_then(SplitFile::plain), place) {
            (Some(file), _) => file.metadata().map_err(Error::io("look at", &self.at))?,
            (None, Some(metadata)) => metadata,
            (None, None) => match self.locate()? {
                Some(metadata) => metadata,
                None => return Ok(Sight::Gone),
            },
        };
        if metadata.len() < self.offset {
            return Ok(Sight::Truncated);
        }
        let seen = Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        if self.seen != seen {
            (self.seen, self.quiet_since) = (seen, None);
            return match (
                &self.identity,
                self.file.as_ref().and_then(SplitFile::plain),
            ) {
                (Some(identity), Some(file)) if !self.has_head(identity, file)? => {
                    Ok(Sight::Truncated)
                }
                _ => Ok(Sight::Changed),
            };
        }
        if self.readable || in_place {
            self.quiet_since = None;
            return Ok(Sight::Same);
        }
        let since = *self.quiet_since.get_or_insert(now);
        match now.saturating_sub(since) >= retire_after {
            true => Ok(Sight::Retired),
            false => Ok(Sight::Same),
        }
    }

    fn has_head(&self, identity: &Identity, file: &File) -> Result<bool, Error> {
        (identity.has_head(file)).map_err(Error::io("read", &self.at))
    }

    /// Its metadata, if it is at `path`.
    fn is_at(&self, path: &Path) -> Result<Option<Metadata>, Error> {
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(Error::io("look at", path))?,
        };
        let is = (self.identity).is_none_or(|known| known.has_number(&metadata, path == self.met));
        Ok(is.then_some(metadata))
    }

    /// Finds it where it was last, where it was met, or beside that.
    fn locate(&mut self) -> Result<Option<Metadata>, Error> {
        for path in [self.at.clone(), self.met.clone()] {
            if let Some(metadata) = self.is_at(&path)? {
                self.at = path;
                return Ok(Some(metadata));
            }
        }
        let Some(identity) = self.identity else {
            return Ok(None);
        };
        let beside =
            (identity.beside(&self.met)).map_err(Error::io("list the folder of", &self.met))?;
        match beside {
            Some(path) => {
                let metadata = self.is_at(&path)?;
                self.at = path;
                Ok(metadata)
            }
            None => Ok(None),
        }
    }

    /// Finds and opens it, though it may be renamed in between.
    fn find(&mut self) -> Result<Option<(File, Metadata)>, Error> {
        for _ in 0..RENAMES_MAX {
            if self.locate()?.is_none() {
                return Ok(None);
            }
            let file = match File::open(&self.at) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file.map_err(Error::io("open", &self.at))?,
            };
            let metadata = file.metadata().map_err(Error::io("look at", &self.at))?;
            let same_path = self.at == self.met;
            if (self.identity).is_none_or(|known| known.has_number(&metadata, same_path)) {
                return Ok(Some((file, metadata)));
            }
        }
        Ok(None)
    }

    /// Opens it, to be read from where it was read to.
    fn open(&mut self, plan: &Plan) -> Result<Sight, Error> {
        let Some((file, metadata)) = self.find()? else {
            return Ok(Sight::Gone);
        };
        let is = match &self.identity {
            Some(identity) => self.has_head(identity, &file)?,
            None => true,
        };
        if !is || metadata.len() < self.offset {
            return Ok(Sight::Truncated);
        }
        self.seen = Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        let (records, most) = (plan.records, plan.record_bytes_max);
        let (name, growing) = (Arc::clone(&self.name), !self.retired);
        self.file = SplitFile::follow(file, name, self.offset, most, records, growing)?;
        Ok(match self.file {
            Some(_) => Sight::Changed,
            None => Sight::Same,
        })
    }
}

#[cfg(test)]
mod tests;
