//! A set of 128-bit fingerprints that only grows, until a whole pane of it is dropped.
//!
//! Fingerprints lie in order of insertion, so what is new since the last snapshot is a suffix: no
//! bitmaps, and nothing ever has to be written before it changes. The top eight bits of what is
//! kept are the key group, the others the fingerprint's.

use thalweg_stream::KeyGroup;
use thalweg_stream::key::HASH_SEED;
use thalweg_stream::planted::planted;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::bitmap::GroupSet;
use crate::error::StateError;
use crate::index::Index;
use crate::log::{Logs, PRINT};
use crate::pane::{Pane, Panes, Store};
use crate::section::Part;
use crate::wire::{Reader, put_i64};

/// The fingerprint of encoded bytes: XXH3-128 with the seed of the key hash. Part of the
/// checkpoint format.
///
/// A set keeps 120 bits of it and the key group: of n of them two are equal by chance with
/// probability below n² / 2¹²¹; 10¹⁰ live ones and 10¹⁰ new ones a day make 10⁻¹⁶ a day.
#[inline]
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u128 {
    let print = xxh3_128_with_seed(bytes, HASH_SEED);
    match planted("collide-prints") {
        true => print & 0xFFF,
        false => print,
    }
}

/// Fingerprints by pane and key group, each with a time if the set is made so.
#[derive(Debug)]
pub struct FingerprintSet {
    panes: Panes<PrintStore>,
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
        let pane = &mut self.panes.panes[at];
        pane.groups.insert(group);
        pane.store.insert(of_group(group, print), time)
    }

    /// Adds many to one pane, in order; `added` gets whether each was new. Faster than one by one.
    pub fn insert_all(&mut self, pane: i64, prints: &[Print], added: &mut Vec<bool>) {
        let at = self.panes.open(pane);
        let pane = &mut self.panes.panes[at];
        pane.store.warm(prints);
        for print in prints {
            pane.groups.insert(group_of(print.bits));
            added.push(pane.store.insert(print.bits, print.time));
        }
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
        let panes = self.panes.panes.iter();
        panes
            .map(|pane| {
                let gone = pane.forgotten;
                let prints = pane.store.prints.iter();
                prints
                    .filter(|&&print| !gone.contains(group_of(print)))
                    .count()
            })
            .sum()
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

/// A fingerprint to be added or looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    bits: u128,
    /// The time it is added with.
    pub time: i64,
}

impl Print {
    /// The fingerprint of a key of `group`.
    #[inline]
    #[must_use]
    pub fn new(group: KeyGroup, print: u128, time: i64) -> Self {
        Self {
            bits: of_group(group, print),
            time,
        }
    }
}

/// A pane of fingerprints to read.
#[derive(Clone, Copy, Debug)]
pub struct SetPane<'a> {
    pane: &'a Pane<PrintStore>,
}

impl SetPane<'_> {
    /// The number of the pane.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.pane.id
    }

    /// Calls `known` with the position and the time in the pane of each of `prints` that is there.
    pub fn find_all(&self, prints: &[Print], mut known: impl FnMut(usize, i64)) {
        let store = &self.pane.store;
        store.warm(prints);
        for (at, print) in prints.iter().enumerate() {
            if let Some(found) = store.find(print.bits)
                && !self.pane.forgotten.contains(group_of(print.bits))
            {
                known(
                    at,
                    store.times.get(found as usize).copied().unwrap_or_default(),
                );
            }
        }
    }

    /// The time `print` was added with (0 in a set without times), if it is in the pane.
    #[inline]
    #[must_use]
    pub fn time(&self, group: KeyGroup, print: u128) -> Option<i64> {
        let store = &self.pane.store;
        let at = store.find(of_group(group, print))?;
        if self.pane.forgotten.contains(group) {
            return None;
        }
        Some(store.times.get(at as usize).copied().unwrap_or_default())
    }
}

#[inline]
fn of_group(group: KeyGroup, print: u128) -> u128 {
    u128::from(group) << 120 | print & (u128::MAX >> 8)
}

#[inline]
fn group_of(print: u128) -> KeyGroup {
    (print >> 120) as KeyGroup
}

/// The hash the index sees: its top byte is even over groups as over prints.
#[inline]
fn hash(print: u128) -> u64 {
    print as u64
}

#[derive(Debug)]
struct PrintStore {
    timed: bool,
    index: Index,
    prints: Vec<u128>,
    times: Vec<i64>,
    /// How many the snapshots up to and including the last freeze have.
    saved: usize,
    /// How many those before the last freeze have.
    before: usize,
    /// How many are written, of those saved.
    drained: usize,
}

impl PrintStore {
    /// Asks the memory for the places of many at once.
    fn warm(&self, prints: &[Print]) {
        let firsts = prints
            .iter()
            .map(|print| self.index.first(hash(print.bits)));
        let found = firsts.filter_map(|at| self.prints.get(at as usize));
        std::hint::black_box(found.fold(0, |all, print| all ^ print));
    }

    #[inline]
    fn find(&self, print: u128) -> Option<u32> {
        (self.index).find(hash(print), |at| {
            self.prints.get(at as usize) == Some(&print)
        })
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
        (self.index).insert(hash(print), at, |at| hash(prints[at as usize]));
        true
    }
}

impl Store for PrintStore {
    type Shape = bool;

    fn new(timed: bool) -> Self {
        Self {
            timed,
            index: Index::default(),
            prints: Vec::new(),
            times: Vec::new(),
            saved: 0,
            before: 0,
            drained: 0,
        }
    }

    fn freeze(&mut self, full: bool) {
        self.before = self.saved;
        self.drained = if full { 0 } else { self.saved };
        self.saved = self.prints.len();
        if planted("forget-dedup-slice") && self.before == 0 {
            self.drained = self.saved;
        }
    }

    fn is_pending(&self) -> bool {
        self.drained < self.saved
    }

    fn drain(&mut self, pane: i64, budget: usize, logs: &mut Logs) -> usize {
        let each = if self.timed { 24 } else { 16 };
        let to = (self.drained + budget.div_ceil(each)).min(self.saved);
        let bytes = (to - self.drained) * each;
        for at in self.drained..to {
            let print = self.prints[at];
            let out = logs.about(group_of(print), pane, PRINT);
            out.extend_from_slice(&print.to_le_bytes());
            if self.timed {
                put_i64(out, self.times[at]);
            }
        }
        self.drained = to;
        bytes
    }

    fn thaw(&mut self) {
        self.saved = self.before;
        self.drained = self.saved;
    }

    fn restore(&mut self, operation: u8, content: &mut Reader<'_>) -> Result<(), StateError> {
        if operation != PRINT {
            return Err(StateError::Shape("no operation of a set"));
        }
        let print = u128::from_le_bytes(content.array()?);
        let time = if self.timed { content.i64()? } else { 0 };
        self.insert(print, time);
        self.saved = self.prints.len();
        self.before = self.saved;
        self.drained = self.saved;
        Ok(())
    }

    fn forget(&mut self, groups: GroupSet) {
        let prints = std::mem::take(&mut self.prints);
        let times = std::mem::take(&mut self.times);
        self.clear();
        for (at, print) in prints.into_iter().enumerate() {
            if !groups.contains(group_of(print)) {
                self.insert(print, times.get(at).copied().unwrap_or_default());
            }
        }
        self.saved = self.prints.len();
        self.before = self.saved;
        self.drained = self.saved;
    }

    fn clear(&mut self) {
        self.index.clear();
        self.prints.clear();
        self.times.clear();
        self.saved = 0;
        self.before = 0;
        self.drained = 0;
    }

    fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.prints.capacity() * 16 + self.times.capacity() * 8
    }
}

impl Part for FingerprintSet {
    fn freeze(&mut self, full: bool) {
        self.panes.freeze(full);
    }

    fn drain(&mut self, budget_bytes: usize) -> (usize, bool) {
        self.panes.drain(budget_bytes)
    }

    fn take_group(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool {
        self.panes.take(group, out)
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
