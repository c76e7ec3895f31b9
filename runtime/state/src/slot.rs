//! The store of a pane of a table: fixed-width slots behind an index.
//!
//! A slot is a run of 64-bit words: the key's cell (2 words), the user's words, and, where the
//! layout has a payload, its place in the arena (2 words). With six words of accumulators it fills
//! a cache line. Hashes lie apart, as a lookup does not need them: the index has bits of the cell. Numbers of slots are given
//! again after a removal.
//!
//! Many keys are looked up together ([`many`]); [`snapshot`] writes slots and reads them back.

mod many;
mod snapshot;

use std::hash::BuildHasher as _;
use std::sync::Arc;

use thalweg_stream::planted::planted;

use crate::arena::{Arena, Span};
use crate::bitmap::Bitmap;
use crate::index::Index;
use crate::key::{FREE_CELL, Key, KeyBytes, Sought, is_free, is_long, place};
use crate::log::{DELETE, Logs};
use crate::wire::put_bytes;
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
