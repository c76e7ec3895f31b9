//! A set of fingerprints that only grows, until a whole pane of it is dropped.
//!
//! What is new since the last snapshot lies in a log of its own, so that nothing has to be marked,
//! and nothing written before it changes. A full snapshot goes through the set in order, past what
//! has been added since.
//!
//! In a set with times a fingerprint may be in many panes; a [sieve](crate::sieve) says which of
//! them are worth a look.

mod store;

use std::cmp::Ordering;

use thalweg_stream::KeyGroup;
use thalweg_stream::key::{HASH_SEED, KEY_GROUPS};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use self::store::PrintStore;
use crate::error::StateError;
use crate::ordered::{Place, Value};
use crate::pane::{Pane, Panes};
use crate::section::Part;
use crate::sieve::{PaneBits, Sieve, pane_bit};
use crate::wire::Reader;

/// Fingerprints whose places are asked of the memory at once: what comes then stays in the first
/// cache until it is needed.
const BLOCK: usize = 64;

/// The fingerprint of encoded bytes: XXH3-128 with the seed of the key hash. Part of the
/// checkpoint format.
///
/// A set keeps 88 bits of it and the key group: of n of them two are equal by chance with
/// probability below n² / 2⁹⁷; 10¹⁰ live ones and 10¹⁰ new ones a day make 10⁻⁹ a day.
#[inline]
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, HASH_SEED)
}

/// Fingerprints by pane and key group, each with a time if the set is made so.
#[derive(Debug)]
pub struct FingerprintSet {
    panes: Panes<PrintStore>,
    /// Of a set with times; nothing until it is needed.
    sieve: Option<Sieve>,
    timed: bool,
}

impl FingerprintSet {
    /// An empty set.
    #[must_use]
    pub fn new(timed: bool) -> Self {
        Self {
            panes: Panes::new(timed),
            sieve: None,
            timed,
        }
    }

    /// Adds `print` to a pane with `time`; false if it is there already, with whatever time.
    pub fn insert(&mut self, pane: i64, group: KeyGroup, print: u128, time: i64) -> bool {
        let value = Value::new(group, print);
        let at = self.panes.open(pane);
        let open = &mut self.panes.panes[at];
        let new = open.store.insert(value, time);
        if new {
            open.groups.insert(group);
            self.note(pane, std::iter::once(value));
        }
        new
    }

    /// Adds many to one pane, in order; calls `known` with the position of each that is there already.
    /// Each has its time in `times`, which a set without times does not look at. Faster than one by
    /// one.
    pub fn insert_all(
        &mut self,
        pane: i64,
        prints: &[Print],
        times: &[i64],
        mut known: impl FnMut(usize),
    ) {
        let at = self.panes.open(pane);
        let open = &mut self.panes.panes[at];
        let before = open.store.fresh().len();
        let mut at = 0;
        let mut insert = |store: &mut PrintStore, prints: &[Print]| {
            for print in prints {
                let time = times.get(at).copied().unwrap_or_default();
                if !store.insert(print.value(), time) {
                    known(at);
                }
                at += 1;
            }
        };
        if open.store.set.is_worth_loading(prints.len()) {
            // They come part by part, or few of them in each.
            for prints in prints.chunk_by(|a, b| a.spread() >> 56 == b.spread() >> 56) {
                open.store.set.load(prints[0].value(), prints.len());
                insert(&mut open.store, prints);
            }
        } else {
            for prints in prints.chunks(BLOCK) {
                open.store.warm(prints.iter().copied());
                insert(&mut open.store, prints);
            }
        }
        let new = open.store.fresh().iter().skip(before);
        let new = new.map(|place| place.value());
        let mut came = [false; KEY_GROUPS];
        for value in new.clone() {
            came[usize::from(value.group())] = true;
        }
        let groups = (0..=KeyGroup::MAX).filter(|&group| came[usize::from(group)]);
        groups.for_each(|group| open.groups.insert(group));
        if self.sieve.is_some() {
            let new: Vec<Value> = new.collect();
            self.note(pane, new.into_iter());
        }
    }

    /// Tells the sieve, if there is one, of what has been added.
    #[inline]
    fn note(&mut self, pane: i64, values: impl Iterator<Item = Value> + Clone) {
        let Some(mut sieve) = self.sieve.take() else {
            return;
        };
        let near = values.clone().map(|value| sieve.near(value));
        std::hint::black_box(near.fold(0, |all, line| all ^ line));
        for value in values {
            if !sieve.add(pane, value) {
                self.sift(&mut sieve, (value.high() >> 56) as u8);
            }
        }
        self.sieve = Some(sieve);
    }

    /// Makes a part of the sieve anew.
    fn sift(&self, sieve: &mut Sieve, top: u8) {
        let panes = || self.panes.panes.iter();
        sieve.rebuild(top, || {
            panes().flat_map(|pane| {
                let values = pane.store.set.iter_top(top);
                values.map(|value| (pane.id, value))
            })
        });
    }

    /// Looks for `prints` in the panes from `first` to `last`; calls `known` with the position of
    /// each that is in one, and its time there.
    pub fn find_all(
        &mut self,
        (first, last): (i64, i64),
        prints: &[Print],
        mut known: impl FnMut(usize, i64),
    ) {
        if self.timed && self.sieve.is_none() {
            let mut sieve = Sieve::default();
            (0..=u8::MAX).for_each(|top| self.sift(&mut sieve, top));
            self.sieve = Some(sieve);
        }
        let mut worth: Vec<PaneBits> = Vec::with_capacity(prints.len());
        match &self.sieve {
            Some(sieve) => {
                for prints in prints.chunks(BLOCK) {
                    let near = prints.iter().map(|print| sieve.near(print.value()));
                    std::hint::black_box(near.fold(0, |all, line| all ^ line));
                    worth.extend(prints.iter().map(|print| sieve.panes(print.value())));
                }
            }
            None => worth.resize(prints.len(), PaneBits::MAX),
        }
        let (mut some, mut asked) = (Vec::new(), Vec::new());
        some.extend((0..prints.len()).filter(|&at| worth[at] != 0));
        for pane in self.panes_between(first, last) {
            let bit = pane_bit(pane.id());
            asked.clear();
            asked.extend(some.iter().copied().filter(|&at| worth[at] & bit != 0));
            for rows in asked.chunks(BLOCK) {
                (pane.pane.store).warm(rows.iter().map(|&at| prints[at]));
                for &at in rows {
                    if let Some(time) = pane.find(prints[at]) {
                        known(at, time);
                    }
                }
            }
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
        let bit = pane_bit(id);
        if let Some(sieve) = &mut self.sieve
            && !self.panes.panes.iter().any(|pane| pane_bit(pane.id) == bit)
        {
            sieve.retire(id);
            if sieve.is_roomy() {
                self.sieve = None;
            }
        }
    }

    /// How many fingerprints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let panes = self.panes.panes.iter();
        panes
            .map(|pane| {
                let gone = pane.forgotten;
                if gone.is_empty() {
                    return pane.store.set.len();
                }
                let values = pane.store.set.iter();
                values
                    .filter(|(value, _)| !gone.contains(value.group()))
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
        let sieve = self.sieve.as_ref().map_or(0, Sieve::memory_bytes);
        self.panes.memory_bytes() + sieve
    }
}

/// A fingerprint to be added or looked for, of a key of some group: twelve bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print(Place);

impl Print {
    /// The fingerprint of a key of `group`.
    #[inline]
    #[must_use]
    pub fn new(group: KeyGroup, print: u128) -> Self {
        Self(Place::of(Value::new(group, print)))
    }

    /// 64 evenly spread bits, the same for the same key.
    #[inline]
    #[must_use]
    pub fn spread(&self) -> u64 {
        self.value().high()
    }

    #[inline]
    fn value(self) -> Value {
        self.0.value()
    }
}

impl PartialOrd for Print {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Print {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.value().cmp(&other.value())
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

    /// The 88 bits that are kept of every fingerprint, with its key group and, in a set with times,
    /// its time; ascending.
    pub fn prints(&self) -> impl Iterator<Item = (KeyGroup, u128, Option<i64>)> + '_ {
        let (store, gone) = (&self.pane.store, self.pane.forgotten);
        let kept = |value: Value| (value.bits() & u128::MAX >> 8) >> 32;
        (store.set.iter())
            .map(move |(value, time)| (value.group(), kept(value), store.timed.then_some(time)))
            .filter(move |(group, ..)| !gone.contains(*group))
    }

    #[inline]
    fn find(&self, print: Print) -> Option<i64> {
        let value = print.value();
        let time = self.pane.store.set.find(value)?;
        (!self.pane.forgotten.contains(value.group())).then_some(time)
    }

    /// The time `print` was added with (0 in a set without times), if it is in the pane.
    #[inline]
    #[must_use]
    pub fn time(&self, group: KeyGroup, print: u128) -> Option<i64> {
        self.find(Print::new(group, print))
    }
}

impl Part for FingerprintSet {
    fn freeze(&mut self, full: bool) {
        self.panes.freeze(full);
    }

    fn drain(&mut self, budget_bytes: usize) -> (usize, bool) {
        self.panes.drain(budget_bytes)
    }

    fn full_group(&mut self) -> Option<KeyGroup> {
        self.panes.full_group()
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
        _version: u8,
    ) -> Result<(), StateError> {
        self.sieve = None;
        self.panes.restore_group(group, content)
    }

    fn forget_group(&mut self, group: KeyGroup) {
        self.panes.forget_group(group);
    }
}
