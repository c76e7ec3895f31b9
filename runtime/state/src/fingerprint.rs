//! A set of 128-bit fingerprints that only grows, until a whole pane of it is dropped.
//!
//! Within a shard fingerprints lie in order of insertion, so what is new since the last snapshot
//! is a suffix: no bitmaps, and nothing ever has to be copied before it changes.
//!
//! Content of a section: `count u32`, each fingerprint (16 bytes) and, if the set has times, its
//! time (8 bytes).

use hashbrown::HashTable;
use thalweg_stream::KeyGroup;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use thalweg_stream::key::HASH_SEED;

use crate::error::StateError;
use crate::pane::{Pane, Panes, Shard};
use crate::section::Part;
use crate::wire::{Reader, put_i64, put_u32};

/// The fingerprint of encoded bytes: XXH3-128 with the seed of the key hash. Part of the
/// checkpoint format.
///
/// Of n fingerprints two are equal by chance with probability n² / 2¹²⁹: 10¹⁰ live ones and 10¹⁰
/// a day give 10⁻¹⁹ a day.
#[inline]
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, HASH_SEED)
}

/// Fingerprints by pane and key group, each with a time if the set is made so.
#[derive(Debug)]
pub struct FingerprintSet {
    panes: Panes<LogShard>,
}

impl FingerprintSet {
    /// An empty set.
    #[must_use]
    pub fn new(timed: bool) -> Self {
        Self {
            panes: Panes::new(timed),
        }
    }

    /// Adds `print` to a pane with `time`; false if it is there already, with whatever time.
    pub fn insert(&mut self, pane: i64, group: KeyGroup, print: u128, time: i64) -> bool {
        let at = self.panes.open(pane);
        let shape = self.panes.shape;
        (self.panes.panes[at].shard_mut(group, shape, &mut self.panes.spare)).insert(print, time)
    }

    /// The panes from `first` to `last`, ascending.
    pub fn panes_between(&self, first: i64, last: i64) -> impl Iterator<Item = SetPane<'_>> {
        let from = self.panes.panes.partition_point(|pane| pane.id < first);
        (self.panes.panes[from..].iter())
            .take_while(move |pane| pane.id <= last)
            .map(|pane| SetPane { pane })
    }

    /// The pane `id`, if there is one.
    #[must_use]
    pub fn pane(&self, id: i64) -> Option<SetPane<'_>> {
        self.panes.get(id).map(|pane| SetPane { pane })
    }

    /// The numbers of all panes, ascending.
    pub fn pane_ids(&self) -> impl DoubleEndedIterator<Item = i64> + '_ {
        self.panes.panes.iter().map(|pane| pane.id)
    }

    /// Drops a pane with all in it.
    pub fn drop_pane(&mut self, id: i64) {
        self.panes.drop_pane(id);
    }

    /// How many fingerprints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let shards = self.panes.panes.iter().flat_map(Pane::shards);
        shards.map(|(_, shard)| shard.prints.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.panes.memory_bytes()
    }
}

/// A pane of fingerprints to read.
#[derive(Clone, Copy, Debug)]
pub struct SetPane<'a> {
    pane: &'a Pane<LogShard>,
}

impl SetPane<'_> {
    /// The time `print` was added with (0 in a set without times), if it is in the pane.
    #[inline]
    #[must_use]
    pub fn time(&self, group: KeyGroup, print: u128) -> Option<i64> {
        let shard = self.pane.shard(group)?;
        let at = shard.find(print)?;
        Some(shard.times.get(at as usize).copied().unwrap_or_default())
    }
}

#[derive(Debug)]
struct LogShard {
    timed: bool,
    index: HashTable<u32>,
    prints: Vec<u128>,
    times: Vec<i64>,
    /// How many the snapshots up to and including the last freeze have.
    saved: usize,
    /// Those before this one were in the snapshots before the last freeze.
    before: usize,
    /// Whether the last freeze wants them all.
    full: bool,
}

impl LogShard {
    #[inline]
    fn find(&self, print: u128) -> Option<u32> {
        (self.index)
            .find(print as u64, |&at| {
                self.prints.get(at as usize) == Some(&print)
            })
            .copied()
    }

    fn insert(&mut self, print: u128, time: i64) -> bool {
        if self.find(print).is_some() {
            return false;
        }
        let at = self.prints.len() as u32;
        self.prints.push(print);
        if self.timed {
            self.times.push(time);
        }
        let prints = &self.prints;
        (self.index).insert_unique(print as u64, at, |&at| prints[at as usize] as u64);
        true
    }
}

impl Shard for LogShard {
    type Shape = bool;

    fn new(timed: bool) -> Self {
        Self {
            timed,
            index: HashTable::new(),
            prints: Vec::new(),
            times: Vec::new(),
            saved: 0,
            before: 0,
            full: false,
        }
    }

    fn freeze(&mut self, full: bool) {
        self.before = self.saved;
        self.saved = self.prints.len();
        self.full = full;
    }

    fn drain(&mut self, _full: bool, out: &mut Vec<u8>) {
        let from = if self.full { 0 } else { self.before };
        put_u32(out, (self.saved - from) as u32);
        for at in from..self.saved {
            out.extend_from_slice(&self.prints[at].to_le_bytes());
            if self.timed {
                put_i64(out, self.times[at]);
            }
        }
    }

    fn thaw(&mut self) {
        self.saved = self.before;
    }

    fn restore(&mut self, content: &mut Reader<'_>) -> Result<(), StateError> {
        for _ in 0..content.u32()? {
            let print = u128::from_le_bytes(content.array()?);
            let time = if self.timed { content.i64()? } else { 0 };
            self.insert(print, time);
        }
        self.saved = self.prints.len();
        self.before = self.saved;
        Ok(())
    }

    fn clear(&mut self) {
        self.index.clear();
        self.prints.clear();
        self.times.clear();
        self.saved = 0;
        self.before = 0;
    }

    fn memory_bytes(&self) -> usize {
        self.index.allocation_size() + self.prints.capacity() * 16 + self.times.capacity() * 8
    }
}

impl Part for FingerprintSet {
    fn freeze(&mut self, full: bool) {
        self.panes.freeze(full);
    }

    fn drain_group(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool {
        self.panes.drain_group(group, out)
    }

    fn thaw(&mut self) {
        self.panes.thaw();
    }

    fn restore_group(
        &mut self,
        group: KeyGroup,
        content: &mut Reader<'_>,
    ) -> Result<(), StateError> {
        self.panes.restore_group(group, content)
    }

    fn forget_group(&mut self, group: KeyGroup) {
        self.panes.forget_group(group);
    }
}
