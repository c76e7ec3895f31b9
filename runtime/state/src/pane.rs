//! Panes of stores: what the table and the set have in common.
//!
//! Freezing marks what changed in each pane's store; draining walks through the stores and writes
//! what is marked into a log per key group. Removals are logged as they happen. A pane that is
//! dropped while marked content of it is not yet written is kept until it is.

use std::fmt::Debug;

use thalweg_stream::KeyGroup;
use thalweg_stream::key::KEY_GROUPS;

use crate::bitmap::GroupSet;
use crate::error::StateError;
use crate::log::{Logs, Operation};
use crate::piece::CHUNK;
use crate::wire::Reader;

/// Emptied stores kept for the next panes, so that windows do not grow from nothing each time.
const SPARE_STORES_MAX: usize = 2;

/// The content of one pane.
pub(crate) trait Store: Debug {
    /// What all stores of a structure have in common.
    type Shape: Clone + Debug;

    fn new(shape: Self::Shape) -> Self;
    /// Makes room in an empty store for as much as `like` holds: it is of the pane just before.
    fn expect(&mut self, _like: &Self) {}
    /// Marks the changes since the last freeze, or everything.
    fn freeze(&mut self, full: bool);
    /// Whether something marked is not yet written.
    fn is_pending(&self) -> bool;
    /// Writes about `budget` bytes of what is marked, as it was at the freeze; how many it was.
    fn drain(&mut self, pane: i64, budget: usize, logs: &mut Logs) -> usize;
    /// Gives what was marked at the last freeze to the next one.
    fn thaw(&mut self);
    /// Takes back an operation of a log.
    fn restore(&mut self, operation: u8, content: &mut Reader<'_>) -> Result<(), StateError>;
    /// Forgets the keys of these groups, leaving no trace.
    fn forget(&mut self, groups: GroupSet);
    /// Empties it, keeping memory.
    fn clear(&mut self);
    fn memory_bytes(&self) -> usize;
}

#[derive(Debug)]
pub(crate) struct Pane<S> {
    pub(crate) id: i64,
    pub(crate) store: S,
    /// Groups that have or had something in it.
    pub(crate) groups: GroupSet,
    /// Groups that a restored log says are gone. As a pane is dropped in all its groups, usually
    /// all of it goes; the keys are looked for only if the pane stays.
    pub(crate) forgotten: GroupSet,
    /// Whether some snapshot knows this pane.
    saved: bool,
}

impl<S: Store> Pane<S> {
    /// Makes sure that nothing forgotten is left.
    #[inline]
    fn sweep(&mut self) {
        if !self.forgotten.is_empty() {
            self.store.forget(std::mem::take(&mut self.forgotten));
        }
    }
}

/// All panes of a structure, ascending.
#[derive(Debug)]
pub(crate) struct Panes<S: Store> {
    shape: S::Shape,
    pub(crate) panes: Vec<Pane<S>>,
    spare: Vec<S>,
    /// Dropped panes that are not yet written.
    retired: Vec<Pane<S>>,
    /// What was removed since the last freeze, and what between the one before and the last.
    pub(crate) removals: Logs,
    frozen_removals: Logs,
    /// Chunks of the frozen removals that have been handed out, by group.
    told_removals: Vec<usize>,
    /// What is written of the snapshot.
    pub(crate) written: Logs,
    full: bool,
}

impl<S: Store> Panes<S> {
    pub(crate) fn new(shape: S::Shape) -> Self {
        Self {
            shape,
            panes: Vec::new(),
            spare: Vec::new(),
            retired: Vec::new(),
            removals: Logs::default(),
            frozen_removals: Logs::default(),
            told_removals: vec![0; KEY_GROUPS],
            written: Logs::default(),
            full: false,
        }
    }

    fn position(&self, id: i64) -> Result<usize, usize> {
        self.panes.binary_search_by_key(&id, |pane| pane.id)
    }

    /// Position of the pane `id`, which is made if it does not exist.
    pub(crate) fn open(&mut self, id: i64) -> usize {
        let at = self.restored(id);
        self.panes[at].sweep();
        at
    }

    fn restored(&mut self, id: i64) -> usize {
        self.position(id).unwrap_or_else(|at| {
            let mut store = self
                .spare
                .pop()
                .unwrap_or_else(|| S::new(self.shape.clone()));
            if let Some(before) = self.panes.last()
                && before.id == id.wrapping_sub(1)
            {
                store.expect(&before.store);
            }
            let pane = Pane {
                id,
                store,
                groups: GroupSet::default(),
                forgotten: GroupSet::default(),
                saved: false,
            };
            self.panes.insert(at, pane);
            at
        })
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Pane<S>> {
        self.panes.get(self.position(id).ok()?)
    }

    /// Drops the pane `id` with everything in it.
    pub(crate) fn drop_pane(&mut self, id: i64) {
        let Ok(at) = self.position(id) else { return };
        let pane = self.panes.remove(at);
        if pane.saved {
            for group in pane.groups.iter() {
                self.removals.drop_pane(group, id);
            }
        }
        if pane.store.is_pending() {
            self.retired.push(pane);
        } else {
            self.recycle(pane.store);
        }
    }

    fn recycle(&mut self, mut store: S) {
        if self.spare.len() < SPARE_STORES_MAX {
            store.clear();
            self.spare.push(store);
        }
    }

    /// The freeze before must have been drained or thawed.
    pub(crate) fn freeze(&mut self, full: bool) {
        debug_assert!(
            self.retired.is_empty(),
            "the snapshot before is not written"
        );
        self.full = full;
        self.frozen_removals = std::mem::take(&mut self.removals);
        self.told_removals.fill(0);
        for pane in &mut self.panes {
            pane.sweep();
            pane.saved = true;
            pane.store.freeze(full);
        }
    }

    /// Writes about `budget` bytes into the logs; how many, and whether all is written.
    pub(crate) fn drain(&mut self, budget: usize) -> (usize, bool) {
        let mut bytes = 0;
        for pane in self.retired.iter_mut().chain(&mut self.panes) {
            if bytes >= budget {
                break;
            }
            if pane.store.is_pending() {
                bytes += pane.store.drain(pane.id, budget - bytes, &mut self.written);
            }
        }
        self.retired.retain(|pane| pane.store.is_pending());
        let done = self.retired.is_empty() && !self.panes.iter().any(|p| p.store.is_pending());
        (bytes, done)
    }

    /// A group of which so much is written that it is to be taken.
    pub(crate) fn full_group(&mut self) -> Option<KeyGroup> {
        self.written.full_group()
    }

    /// Appends a piece of what the snapshot says of `group`, at most about two chunks; false if
    /// nothing is left to say.
    pub(crate) fn take(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        // What is removed comes first: what is written may be about the same keys.
        let told = &mut self.told_removals[usize::from(group)];
        while !self.full && out.len() - start < CHUNK {
            if !self.frozen_removals.copy(group, *told, out) {
                break;
            }
            *told += 1;
        }
        if out.len() - start < CHUNK {
            self.written.take(group, out);
        }
        out.len() > start
    }

    pub(crate) fn thaw(&mut self) {
        for pane in &mut self.panes {
            pane.store.thaw();
        }
        self.retired.clear();
        self.written = Logs::default();
        let later = std::mem::take(&mut self.removals);
        self.removals = std::mem::take(&mut self.frozen_removals);
        self.removals.append(later);
    }

    pub(crate) fn restore_group(
        &mut self,
        group: KeyGroup,
        content: &mut Reader<'_>,
    ) -> Result<(), StateError> {
        let mut at = None;
        while content.remaining() > 0 {
            match Operation::of(content.u8()?) {
                Operation::Pane => {
                    let here = self.restored(content.i64()?);
                    let pane = &mut self.panes[here];
                    pane.saved = true;
                    if pane.forgotten.contains(group) {
                        pane.sweep();
                    }
                    pane.groups.insert(group);
                    at = Some(here);
                }
                Operation::Drop => {
                    if let Ok(here) = self.position(content.i64()?) {
                        self.forget(here, group);
                    }
                    at = None;
                }
                Operation::Of(tag) => {
                    let here = at.ok_or(StateError::Shape("an operation is about no pane"))?;
                    self.panes[here].store.restore(tag, content)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn forget_group(&mut self, group: KeyGroup) {
        for at in (0..self.panes.len()).rev() {
            if self.panes[at].groups.contains(group) {
                let mut one = GroupSet::default();
                one.insert(group);
                self.panes[at].store.forget(one);
                self.forget(at, group);
            }
        }
    }

    /// Forgets one group of a pane.
    fn forget(&mut self, at: usize, group: KeyGroup) {
        let pane = &mut self.panes[at];
        if pane.groups.contains(group) {
            pane.groups.remove(group);
            pane.forgotten.insert(group);
        }
        if pane.groups.is_empty() {
            self.panes.remove(at);
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.panes
            .iter()
            .map(|pane| pane.store.memory_bytes())
            .sum()
    }
}

const _: () = assert!(KEY_GROUPS == 256, "a group set holds 256 groups");
