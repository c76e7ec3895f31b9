//! The store of a pane of a table: fixed-width slots behind an index.
//!
//! A slot is a run of 64-bit words: the key's cell (2 words), the user's words, and, where the
//! layout has a payload, its place in the arena (2 words). With six words of accumulators it fills
//! a cache line. Hashes lie apart, as a lookup does not need them: the index has bits of the cell. Numbers of slots are given
//! again after a removal.
//!
//! Four bitmaps make snapshots: `used` (what a full one has), `dirty` (changed since the last freeze),
//! `frozen` (what the last freeze marked, kept until the next one in case it fails) and `pending` (of
//! those, not yet written). A slot that is pending is written out before it changes.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use thalweg_stream::key::key_group;
use thalweg_stream::planted::planted;

use crate::arena::{Arena, Span};
use crate::bitmap::{Bitmap, GroupSet};
use crate::error::StateError;
use crate::index::{Index, NO_SLOT};
use crate::key::{FREE_CELL, Key, KeyBlock, KeyBytes, Sought, is_free, is_long, place};
use crate::log::{DELETE, Logs, PUT};
use crate::pane::Store;
use crate::table::Slot;
use crate::wire::{Reader, put_bytes, put_u64};
use crate::words::Words;

/// Words before the user's: the key's cell.
const HEADER_WORDS: usize = 2;

/// What the slots of a table hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// 64-bit words per key, zero at first.
    pub words: usize,
    /// Whether each key has a variable payload too, empty at first.
    pub payload: bool,
}

impl Layout {
    fn stride(self) -> usize {
        HEADER_WORDS + self.words + if self.payload { 2 } else { 0 }
    }
}

/// A layout and the words of a new slot.
pub(crate) type Template = (Layout, Arc<[u64]>);

#[derive(Debug)]
pub(crate) struct SlotStore {
    layout: Layout,
    stride: usize,
    /// The words of a slot that is made: no key, the initial words, no payload.
    new_slot: Vec<u64>,
    index: Index,
    slots: Words,
    hashes: Vec<u64>,
    arena: Arena,
    free: Vec<u32>,
    used: Bitmap,
    dirty: Bitmap,
    frozen: Bitmap,
    pending: Bitmap,
    /// Pending slots below this one are all written.
    drained_to: u32,
}

impl SlotStore {
    /// The keys it holds.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Slots in use or free.
    pub(crate) fn slots(&self) -> usize {
        self.hashes.len()
    }

    #[inline]
    fn base(&self, slot: u32) -> usize {
        slot as usize * self.stride
    }

    #[inline]
    fn cell(&self, slot: u32) -> [u64; 2] {
        cell(&self.slots, self.stride, slot)
    }

    #[inline]
    pub(crate) fn find(&self, key: Sought<'_>) -> Option<u32> {
        let [a, b] = key.cell;
        if !key.long.is_empty() {
            return (self.index).find(key.place, |slot| {
                let [mark, at] = self.cell(slot);
                mark == a && self.arena.framed(at) == key.long
            });
        }
        (self.index).find(key.place, |slot| {
            // Word by word: comparing both at once waits for stores of other sizes.
            let [x, y] = self.cell(slot);
            (x ^ a) | (y ^ b) == 0
        })
    }

    /// The slots of many short-lived lookups at once, ready to be changed; appended to `slots`.
    ///
    /// Each step is a loop of its own, so that the processor waits for the memory of many keys at
    /// the same time. Groups of new keys are added to `groups`.
    pub(crate) fn touch_all(
        &mut self,
        keys: &KeyBlock<'_>,
        slots: &mut Vec<Slot>,
        groups: &mut GroupSet,
        (pane, logs): (i64, &mut Logs),
    ) {
        let from = slots.len();
        self.candidates(keys, slots, Slot);
        let slots = &mut slots[from..];
        if !self.confirm(keys, slots.iter_mut().map(|slot| &mut slot.0)) {
            for (at, slot) in slots.iter_mut().enumerate() {
                if slot.0 != NO_SLOT {
                    continue;
                }
                if let Some(found) = keys.sought(at).and_then(|key| self.find(key)) {
                    slot.0 = found;
                } else if let Some(key) = keys.get(at) {
                    groups.insert(key.group());
                    slot.0 = self.insert(&key);
                }
            }
        }
        let all_dirty = self.dirty.count() as usize == self.index.len();
        if !all_dirty && !self.dirty.contains_all(slots.iter().map(|slot| slot.0)) {
            for slot in slots {
                self.mark(slot.0, (pane, &mut *logs));
            }
        }
    }

    /// The slots of many keys at once, [`NO_SLOT`] where there is none; appended to `slots`.
    pub(crate) fn find_all(&self, keys: &KeyBlock<'_>, slots: &mut Vec<u32>) {
        let from = slots.len();
        self.candidates(keys, slots, |slot| slot);
        let slots = &mut slots[from..];
        if !self.confirm(keys, slots.iter_mut()) {
            for (at, slot) in slots.iter_mut().enumerate() {
                if *slot == NO_SLOT {
                    let found = keys.sought(at).and_then(|key| self.find(key));
                    *slot = found.unwrap_or(NO_SLOT);
                }
            }
        }
    }

    /// A slot for each key that may be its own; appended to `slots`. Their memory is asked for.
    #[inline]
    fn candidates<S>(&self, keys: &KeyBlock<'_>, slots: &mut Vec<S>, slot: impl Fn(u32) -> S) {
        let (words, stride) = (&self.slots, self.stride);
        (self.index).candidates(keys.places(), slots, |candidate| {
            words.prefetch(candidate as usize * stride);
            slot(candidate)
        });
    }

    /// Makes those of `slots` [`NO_SLOT`] that are not seen at a glance to be their keys'; whether
    /// there are none.
    #[inline]
    fn confirm<'s>(&self, keys: &KeyBlock<'_>, slots: impl Iterator<Item = &'s mut u32>) -> bool {
        let (words, stride) = (&self.slots[..], self.stride);
        slots.zip(keys.cells()).fold(true, |all, (slot, &[a, b])| {
            let [x, y] = cell(words, stride, *slot);
            // The cell of a long key that is looked up is none that is stored.
            let same = (x ^ a) | (y ^ b) == 0;
            *slot = if same { *slot } else { NO_SLOT };
            all & same
        })
    }

    /// The slot of `key`, ready to be changed; made if it is new (then true).
    #[inline]
    pub(crate) fn touch(&mut self, key: &Key<'_>, logs: (i64, &mut Logs)) -> (u32, bool) {
        match self.find(key.sought()) {
            Some(slot) => {
                self.mark(slot, logs);
                (slot, false)
            }
            None => (self.insert(key), true),
        }
    }

    #[inline(never)]
    fn insert(&mut self, key: &Key<'_>) -> u32 {
        let mut header = key.cell;
        if key.is_long() {
            header[1] = self.arena.push_framed(key.long);
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                let base = self.base(slot);
                self.slots[base..base + self.stride].copy_from_slice(&self.new_slot);
                slot
            }
            None => {
                self.slots.extend_from_slice(&self.new_slot);
                self.hashes.push(0);
                (self.hashes.len() - 1) as u32
            }
        };
        let base = self.base(slot);
        self.slots[base..base + HEADER_WORDS].copy_from_slice(&header);
        self.hashes[slot as usize] = key.hash();
        let (slots, stride) = (&self.slots, self.stride);
        (self.index).insert(place(key.cell), slot, |slot| {
            place(cell(slots, stride, slot))
        });
        self.used.insert(slot);
        self.dirty.insert(slot);
        slot
    }

    /// Says that `slot` is about to change.
    #[inline]
    pub(crate) fn mark(&mut self, slot: u32, logs: (i64, &mut Logs)) {
        if !self.dirty.contains(slot) {
            self.mark_first(slot, logs);
        }
    }

    #[cold]
    fn mark_first(&mut self, slot: u32, logs: (i64, &mut Logs)) {
        self.write_pending(slot, logs);
        self.dirty.insert(slot);
    }

    /// Writes a slot of the snapshot that is about to change, unless that was done.
    fn write_pending(&mut self, slot: u32, (pane, logs): (i64, &mut Logs)) {
        if self.pending.remove(slot) {
            self.write(slot, pane, logs);
        }
    }

    pub(crate) fn hash(&self, slot: u32) -> u64 {
        self.hashes.get(slot as usize).copied().unwrap_or_default()
    }

    pub(crate) fn key(&self, slot: u32) -> KeyBytes<'_> {
        let cell = self.cell(slot);
        if is_long(cell[0]) {
            KeyBytes::long(self.arena.framed(cell[1]))
        } else {
            KeyBytes::inline(cell)
        }
    }

    #[inline]
    pub(crate) fn words(&self, slot: u32) -> &[u64] {
        let base = self.base(slot) + HEADER_WORDS;
        (self.slots.get(base..base + self.layout.words)).unwrap_or_default()
    }

    /// The user's words of a slot that was [touched](Self::touch) since the last freeze.
    #[inline]
    pub(crate) fn touched_mut(&mut self, slot: u32) -> &mut [u64] {
        debug_assert!(self.dirty.contains(slot), "slot was not touched");
        let base = self.base(slot) + HEADER_WORDS;
        (self.slots.get_mut(base..base + self.layout.words)).unwrap_or_default()
    }

    /// Calls `change` with the user's words of each of these slots, all of them touched since the
    /// last freeze, and what comes with it.
    #[inline]
    pub(crate) fn each_touched<T>(
        &mut self,
        slots: impl Iterator<Item = (u32, T)>,
        mut change: impl FnMut(T, &mut [u64]),
    ) {
        let (stride, length) = (self.stride, self.layout.words);
        let words = &mut self.slots[..];
        for (slot, with) in slots {
            debug_assert!(self.dirty.contains(slot), "slot was not touched");
            let base = slot as usize * stride + HEADER_WORDS;
            if let Some(words) = words.get_mut(base..base + length) {
                change(with, words);
            }
        }
    }

    pub(crate) fn payload(&self, slot: u32) -> &[u8] {
        self.arena.get(self.payload_span(slot))
    }

    fn payload_span(&self, slot: u32) -> Span {
        let from = self.base(slot) + HEADER_WORDS + self.layout.words;
        match self.slots.get(from..self.base(slot) + self.stride) {
            Some(&[start, length]) => Span {
                start,
                length: length as u32,
            },
            _ => Span::default(),
        }
    }

    fn set_payload_span(&mut self, slot: u32, span: Span) {
        let at = self.base(slot) + HEADER_WORDS + self.layout.words;
        if let Some([start, length]) = self.slots.get_mut(at..at + 2) {
            *start = span.start;
            *length = u64::from(span.length);
        }
    }

    /// Replaces the payload of a slot that was touched. A layout without payloads ignores it.
    pub(crate) fn set_payload(&mut self, slot: u32, payload: &[u8]) {
        if !self.layout.payload {
            return;
        }
        let span = self.arena.replace(self.payload_span(slot), payload);
        self.set_payload_span(slot, span);
        if self.arena.wants_compaction() {
            self.compact();
        }
    }

    /// Moves what is alive in the arena together.
    fn compact(&mut self) {
        let mut arena = Arena::default();
        for slot in 0..self.hashes.len() as u32 {
            let [mark, at] = self.cell(slot);
            if is_free(mark) {
                continue;
            }
            if is_long(mark) {
                let base = self.base(slot);
                self.slots[base + 1] = arena.push_framed(self.arena.framed(at));
            }
            if self.layout.payload {
                let span = arena.push(self.arena.get(self.payload_span(slot)));
                self.set_payload_span(slot, span);
            }
        }
        self.arena = arena;
    }

    /// Removes `key` and logs that; true if it was there.
    pub(crate) fn remove(
        &mut self,
        key: &Key<'_>,
        pane: i64,
        written: &mut Logs,
        removals: &mut Logs,
    ) -> bool {
        let Some(slot) = self.find(key.sought()) else {
            return false;
        };
        self.write_pending(slot, (pane, written));
        let log = removals.about(key.group(), pane, DELETE);
        put_bytes(log, self.key(slot).as_slice());
        self.unlink(slot);
        true
    }

    fn unlink(&mut self, slot: u32) {
        let [mark, at] = self.cell(slot);
        if is_long(mark) {
            self.arena.release_framed(at);
        }
        self.arena.release(self.payload_span(slot));
        self.pending.remove(slot);
        self.frozen.remove(slot);
        self.dirty.remove(slot);
        let (slots, stride) = (&self.slots, self.stride);
        let place_of = |slot| place(cell(slots, stride, slot));
        (self.index).remove(place_of(slot), slot, place_of);
        let base = self.base(slot);
        self.slots[base..base + HEADER_WORDS].copy_from_slice(&FREE_CELL);
        self.used.remove(slot);
        self.free.push(slot);
    }

    /// The numbers of all slots in use.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = u32> + '_ {
        (self.slots.chunks_exact(self.stride).enumerate())
            .filter(|(_, row)| !is_free(row[0]))
            .map(|(slot, _)| slot as u32)
    }

    /// All slots in use, by hash and key.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut slots: Vec<(u64, u32)> = (self.in_use())
            .map(|slot| (self.hash(slot), slot))
            .collect();
        slots.sort_unstable_by(|a, b| {
            (a.0.cmp(&b.0)).then_with(|| self.key(a.1).as_slice().cmp(self.key(b.1).as_slice()))
        });
        if planted("map-order") {
            let order = std::hash::RandomState::new();
            slots.sort_unstable_by_key(|&(hash, _)| order.hash_one(hash));
        }
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    fn write(&self, slot: u32, pane: i64, logs: &mut Logs) -> usize {
        let out = logs.about(key_group(self.hash(slot)), pane, PUT);
        let start = out.len();
        put_bytes(out, self.key(slot).as_slice());
        for &word in self.words(slot) {
            put_u64(out, word);
        }
        if self.layout.payload {
            put_bytes(out, self.payload(slot));
        }
        out.len() - start
    }

    fn put(&mut self, content: &mut Reader<'_>) -> Result<(), StateError> {
        let key = Key::of(content.bytes()?);
        let slot = match self.find(key.sought()) {
            Some(slot) => slot,
            None => self.insert(&key),
        };
        let base = self.base(slot) + HEADER_WORDS;
        for word in base..base + self.layout.words {
            self.slots[word] = content.u64()?;
        }
        if self.layout.payload {
            self.set_payload(slot, content.bytes()?);
        }
        // What was read is known to the checkpoint already.
        self.dirty.remove(slot);
        Ok(())
    }
}

/// The cell of a slot; that of no key beyond the end.
#[inline]
fn cell(words: &[u64], stride: usize, slot: u32) -> [u64; 2] {
    let base = slot as usize * stride;
    match words.get(base..base + HEADER_WORDS) {
        Some(&[a, b]) => [a, b],
        _ => FREE_CELL,
    }
}

impl Store for SlotStore {
    type Shape = Template;

    fn new((layout, initial): Template) -> Self {
        let mut new_slot = vec![0; layout.stride()];
        for (word, &initial) in new_slot[HEADER_WORDS..].iter_mut().zip(&*initial) {
            *word = initial;
        }
        Self {
            layout,
            new_slot,
            stride: layout.stride(),
            index: Index::default(),
            slots: Words::default(),
            hashes: Vec::new(),
            arena: Arena::default(),
            free: Vec::new(),
            used: Bitmap::default(),
            dirty: Bitmap::default(),
            frozen: Bitmap::default(),
            pending: Bitmap::default(),
            drained_to: 0,
        }
    }

    fn freeze(&mut self, full: bool) {
        if full {
            self.dirty.copy_from(&self.used);
        }
        std::mem::swap(&mut self.frozen, &mut self.dirty);
        self.dirty.clear();
        self.pending.copy_from(&self.frozen);
        self.drained_to = 0;
    }

    fn is_pending(&self) -> bool {
        self.pending.count() > 0
    }

    fn drain(&mut self, pane: i64, budget: usize, logs: &mut Logs) -> usize {
        let mut bytes = 0;
        while self.is_pending() && bytes < budget {
            let Some(slot) = self.pending.next_from(self.drained_to) else {
                break;
            };
            bytes += self.write(slot, pane, logs);
            self.pending.remove(slot);
            self.drained_to = slot;
        }
        bytes
    }

    fn thaw(&mut self) {
        self.dirty.merge(&self.frozen);
        self.frozen.clear();
        self.pending.clear();
    }

    fn restore(&mut self, operation: u8, content: &mut Reader<'_>) -> Result<(), StateError> {
        match operation {
            PUT => self.put(content),
            DELETE => {
                if let Some(slot) = self.find(Key::of(content.bytes()?).sought()) {
                    self.unlink(slot);
                }
                Ok(())
            }
            _ => Err(StateError::Shape("no operation of a table")),
        }
    }

    fn forget(&mut self, groups: GroupSet) {
        let gone = |slot: &u32| groups.contains(key_group(self.hash(*slot)));
        let gone: Vec<u32> = self.in_use().filter(gone).collect();
        for slot in gone {
            self.unlink(slot);
        }
    }

    fn clear(&mut self) {
        self.index.clear();
        self.slots.clear();
        self.hashes.clear();
        self.arena.clear();
        self.free.clear();
        self.used.clear();
        self.dirty.clear();
        self.frozen.clear();
        self.pending.clear();
    }

    fn memory_bytes(&self) -> usize {
        self.slots.memory_bytes()
            + self.hashes.capacity() * 8
            + self.index.memory_bytes()
            + self.arena.memory_bytes()
    }
}
