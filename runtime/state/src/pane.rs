//! Panes of shards: what the table and the set have in common.
//!
//! A pane holds one shard per key group that has anything in it. Freezing visits only the shards
//! that changed; dropping a pane leaves one tombstone per group that a snapshot knows of it, and
//! keeps shards that are frozen and not yet written until they are.

use std::fmt::Debug;

use thalweg_stream::KeyGroup;
use thalweg_stream::key::KEY_GROUPS;

use crate::bitmap::GroupSet;
use crate::error::StateError;
use crate::wire::{Reader, put_framed, put_i64, put_u32};

/// Emptied shards kept for the next pane, so that windows do not start with small allocations.
const SPARE_SHARDS_MAX: usize = KEY_GROUPS;

/// Emptied shards, boxed because panes hold them so.
#[allow(
    clippy::vec_box,
    reason = "a shard moves between here and a pane without being copied"
)]
pub(crate) type Spare<S> = Vec<Box<S>>;

/// The content of one pane in one key group.
pub(crate) trait Shard: Debug {
    /// What all shards of a structure have in common.
    type Shape: Copy + Debug;

    fn new(shape: Self::Shape) -> Self;
    /// Marks the changes since the last freeze, or everything.
    fn freeze(&mut self, full: bool);
    /// Writes what is marked as it was at the freeze; with `full` no deletions.
    fn drain(&mut self, full: bool, out: &mut Vec<u8>);
    /// Gives what was marked at the last freeze to the next one.
    fn thaw(&mut self);
    fn restore(&mut self, content: &mut Reader<'_>) -> Result<(), StateError>;
    /// Empties it, keeping memory.
    fn clear(&mut self);
    fn memory_bytes(&self) -> usize;
}

#[derive(Debug)]
pub(crate) struct Pane<S> {
    pub(crate) id: i64,
    shards: Vec<Option<Box<S>>>,
    /// Groups changed since the last freeze.
    dirty: GroupSet,
    /// Groups that the last freeze marked.
    frozen: GroupSet,
    /// Those of them not yet written.
    pending: GroupSet,
    /// Groups of which some snapshot knows this pane.
    saved: GroupSet,
}

impl<S: Shard> Pane<S> {
    fn new(id: i64) -> Self {
        Self {
            id,
            shards: (0..KEY_GROUPS).map(|_| None).collect(),
            dirty: GroupSet::default(),
            frozen: GroupSet::default(),
            pending: GroupSet::default(),
            saved: GroupSet::default(),
        }
    }

    #[inline]
    pub(crate) fn shard(&self, group: KeyGroup) -> Option<&S> {
        self.shards[usize::from(group)].as_deref()
    }

    /// The shard of `group`, about to be changed.
    #[inline]
    pub(crate) fn shard_mut(
        &mut self,
        group: KeyGroup,
        shape: S::Shape,
        spare: &mut Spare<S>,
    ) -> &mut S {
        self.dirty.insert(group);
        self.shards[usize::from(group)]
            .get_or_insert_with(|| spare.pop().unwrap_or_else(|| Box::new(S::new(shape))))
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = (KeyGroup, &S)> {
        (self.shards.iter().enumerate())
            .filter_map(|(group, shard)| Some((group as KeyGroup, shard.as_deref()?)))
    }

    fn freeze(&mut self, full: bool) {
        if full {
            for (group, shard) in self.shards.iter().enumerate() {
                if shard.is_some() {
                    self.dirty.insert(group as KeyGroup);
                }
            }
        }
        self.frozen = std::mem::take(&mut self.dirty);
        self.pending = self.frozen;
        self.saved.merge(self.frozen);
        for group in self.frozen.iter() {
            if let Some(shard) = &mut self.shards[usize::from(group)] {
                shard.freeze(full);
            }
        }
    }

    fn thaw(&mut self) {
        for group in self.frozen.iter() {
            if let Some(shard) = &mut self.shards[usize::from(group)] {
                shard.thaw();
            }
        }
        self.dirty.merge(std::mem::take(&mut self.frozen));
        self.pending = GroupSet::default();
    }

    fn drain(&mut self, group: KeyGroup, full: bool, out: &mut Vec<u8>) -> bool {
        if !self.pending.contains(group) {
            return false;
        }
        self.pending.remove(group);
        put_i64(out, self.id);
        put_framed(out, |out| {
            if let Some(shard) = &mut self.shards[usize::from(group)] {
                shard.drain(full, out);
            }
        });
        true
    }
}

/// All panes of a structure, ascending.
#[derive(Debug)]
pub(crate) struct Panes<S: Shard> {
    pub(crate) shape: S::Shape,
    pub(crate) panes: Vec<Pane<S>>,
    pub(crate) spare: Spare<S>,
    /// Panes dropped since the last freeze, with the groups in which a snapshot knows them.
    drops: Vec<(i64, GroupSet)>,
    frozen_drops: Vec<(i64, GroupSet)>,
    /// Dropped panes of which frozen shards are not yet written.
    retired: Vec<Pane<S>>,
    full: bool,
}

impl<S: Shard> Panes<S> {
    pub(crate) fn new(shape: S::Shape) -> Self {
        Self {
            shape,
            panes: Vec::new(),
            spare: Vec::new(),
            drops: Vec::new(),
            frozen_drops: Vec::new(),
            retired: Vec::new(),
            full: false,
        }
    }

    /// Position of the pane `id`, which is made if it does not exist.
    pub(crate) fn open(&mut self, id: i64) -> usize {
        match self.panes.binary_search_by_key(&id, |pane| pane.id) {
            Ok(at) => at,
            Err(at) => {
                self.panes.insert(at, Pane::new(id));
                at
            }
        }
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Pane<S>> {
        let at = (self.panes.binary_search_by_key(&id, |pane| pane.id)).ok()?;
        self.panes.get(at)
    }

    /// Drops the pane `id` with everything in it.
    pub(crate) fn drop_pane(&mut self, id: i64) {
        let Ok(at) = self.panes.binary_search_by_key(&id, |pane| pane.id) else {
            return;
        };
        let mut pane = self.panes.remove(at);
        if !pane.saved.is_empty() {
            self.drops.push((id, pane.saved));
        }
        if pane.pending.is_empty() {
            for mut shard in pane.shards.drain(..).flatten() {
                if self.spare.len() < SPARE_SHARDS_MAX {
                    shard.clear();
                    self.spare.push(shard);
                }
            }
        } else {
            self.retired.push(pane);
        }
    }

    /// The freeze before must have been drained or thawed.
    pub(crate) fn freeze(&mut self, full: bool) {
        debug_assert!(
            self.retired.is_empty(),
            "the snapshot before is not written"
        );
        self.full = full;
        self.frozen_drops = std::mem::take(&mut self.drops);
        for pane in &mut self.panes {
            pane.freeze(full);
        }
    }

    pub(crate) fn drain_group(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let drops = (self.frozen_drops.iter()).filter(|(_, groups)| groups.contains(group));
        let drops: Vec<i64> = if self.full {
            Vec::new()
        } else {
            drops.map(|&(id, _)| id).collect()
        };
        put_u32(out, drops.len() as u32);
        for &id in &drops {
            put_i64(out, id);
        }
        let mut said = !drops.is_empty();
        for pane in self.retired.iter_mut().chain(&mut self.panes) {
            said |= pane.drain(group, self.full, out);
        }
        self.retired.retain(|pane| !pane.pending.is_empty());
        if !said {
            out.truncate(start);
        }
        said
    }

    pub(crate) fn thaw(&mut self) {
        for pane in &mut self.panes {
            pane.thaw();
        }
        self.retired.clear();
        let later = std::mem::take(&mut self.drops);
        self.drops = std::mem::take(&mut self.frozen_drops);
        self.drops.extend(later);
    }

    pub(crate) fn restore_group(
        &mut self,
        group: KeyGroup,
        content: &mut Reader<'_>,
    ) -> Result<(), StateError> {
        for _ in 0..content.u32()? {
            let id = content.i64()?;
            self.forget(id, group);
        }
        while content.remaining() > 0 {
            let id = content.i64()?;
            let mut shard = content.framed()?;
            let at = self.open(id);
            let pane = &mut self.panes[at];
            pane.saved.insert(group);
            (pane.shards[usize::from(group)].get_or_insert_with(|| Box::new(S::new(self.shape))))
                .restore(&mut shard)?;
            shard.end()?;
        }
        Ok(())
    }

    pub(crate) fn forget_group(&mut self, group: KeyGroup) {
        for pane in &mut self.panes {
            pane.shards[usize::from(group)] = None;
            pane.saved.remove(group);
        }
        self.panes
            .retain(|pane| pane.shards.iter().any(Option::is_some));
    }

    /// Forgets one group of a pane, as a tombstone asks.
    fn forget(&mut self, id: i64, group: KeyGroup) {
        let Ok(at) = self.panes.binary_search_by_key(&id, |pane| pane.id) else {
            return;
        };
        let pane = &mut self.panes[at];
        pane.shards[usize::from(group)] = None;
        pane.saved.remove(group);
        if pane.shards.iter().all(Option::is_none) {
            self.panes.remove(at);
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let shards = self.panes.iter().flat_map(|pane| pane.shards());
        shards.map(|(_, shard)| shard.memory_bytes()).sum()
    }
}
