//! One shard of a table: fixed-width slots behind an open-addressed index.
//!
//! A slot is a run of 64-bit words: hash, key cell (3 words), the user's words, and, where the
//! layout has a payload, its place in the arena (2 words). Numbers of slots are given again after
//! a removal; they are never seen outside a shard's lifetime.
//!
//! Three bitmaps make snapshots: `dirty` (changed since the last freeze), `frozen` (what the last
//! freeze marked, kept until the next one in case it fails) and `pending` (of those, not yet
//! written). A slot that is pending is written out before it changes.
//!
//! Content of a section: `deleted u32`, keys; `upserts u32`, each key, words, payload.

use hashbrown::HashTable;

use crate::arena::{Arena, Span};
use crate::bitmap::Bitmap;
use crate::error::StateError;
use crate::key::{FREE, Key, KeyBytes, long_length};
use crate::pane::Shard;
use crate::wire::{Reader, put_bytes, put_u32, put_u64};

/// Words before the user's: the hash and the key.
const HEADER_WORDS: usize = 4;

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

#[derive(Debug)]
pub(crate) struct SlotShard {
    layout: Layout,
    index: HashTable<u32>,
    slots: Vec<u64>,
    arena: Arena,
    free: Vec<u32>,
    dirty: Bitmap,
    frozen: Bitmap,
    pending: Bitmap,
    /// Encoded keys removed since the last freeze, each with its length before it.
    deleted: Vec<u8>,
    deleted_count: u32,
    frozen_deleted: Vec<u8>,
    frozen_deleted_count: u32,
    /// Slots of the snapshot that were written out because they changed.
    early: Vec<u8>,
    early_count: u32,
}

/// The hash the index sees. Within a shard the top eight bits of a key's hash are all the same,
/// and the top seven are what the index tells slots apart by.
#[inline]
fn index_hash(hash: u64) -> u64 {
    hash ^ (hash << 8)
}

impl SlotShard {
    /// The keys it holds.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    #[inline]
    fn base(&self, slot: u32) -> usize {
        slot as usize * self.layout.stride()
    }

    /// The words of `slot`, header included; nothing for a number that is no slot.
    #[inline]
    fn row(&self, slot: u32) -> &[u64] {
        let base = self.base(slot);
        (self.slots.get(base..base + self.layout.stride())).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn find(&self, key: &Key<'_>) -> Option<u32> {
        let stride = self.layout.stride();
        (self.index)
            .find(index_hash(key.hash()), |&slot| {
                let base = slot as usize * stride;
                let Some(&[hash, a, b, c]) = self.slots.get(base..base + HEADER_WORDS) else {
                    return false;
                };
                if key.is_long() {
                    return hash == key.hash()
                        && a == key.cell[0]
                        && self.arena.get(long_span(a, b)) == key.long;
                }
                // The hash is a function of the key.
                [a, b, c] == key.cell
            })
            .copied()
    }

    /// The slot of `key`, made with zero words if it is new (then true), ready to be changed.
    #[inline]
    pub(crate) fn touch(&mut self, key: &Key<'_>) -> (u32, bool) {
        if let Some(slot) = self.find(key) {
            self.mark(slot);
            return (slot, false);
        }
        (self.insert(key), true)
    }

    fn insert(&mut self, key: &Key<'_>) -> u32 {
        let stride = self.layout.stride();
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = (self.slots.len() / stride) as u32;
            self.slots.resize(self.slots.len() + stride, 0);
            slot
        });
        let mut cell = key.cell;
        if key.is_long() {
            cell[1] = self.arena.push(key.long).start;
        }
        let base = self.base(slot);
        let row = &mut self.slots[base..base + stride];
        row.fill(0);
        row[0] = key.hash();
        row[1..HEADER_WORDS].copy_from_slice(&cell);
        let slots = &self.slots;
        let rehash = |&slot: &u32| index_hash(slots[slot as usize * stride]);
        self.index
            .insert_unique(index_hash(key.hash()), slot, rehash);
        self.dirty.insert(slot);
        slot
    }

    /// Says that `slot` is about to change.
    #[inline]
    pub(crate) fn mark(&mut self, slot: u32) {
        if !self.dirty.contains(slot) {
            self.mark_first(slot);
        }
    }

    #[cold]
    fn mark_first(&mut self, slot: u32) {
        if self.pending.remove(slot) {
            self.write_early(slot);
        }
        self.dirty.insert(slot);
    }

    fn write_early(&mut self, slot: u32) {
        let mut early = std::mem::take(&mut self.early);
        self.write(slot, &mut early);
        self.early = early;
        self.early_count += 1;
    }

    pub(crate) fn hash(&self, slot: u32) -> u64 {
        self.row(slot).first().copied().unwrap_or_default()
    }

    pub(crate) fn key(&self, slot: u32) -> KeyBytes<'_> {
        let Some(&[_, a, b, c]) = self.row(slot).get(..HEADER_WORDS) else {
            return KeyBytes::inline([0; 3]);
        };
        match long_length(a) {
            Some(_) => KeyBytes::long(self.arena.get(long_span(a, b))),
            None => KeyBytes::inline([a, b, c]),
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

    pub(crate) fn payload(&self, slot: u32) -> &[u8] {
        if !self.layout.payload {
            return &[];
        }
        self.arena.get(self.payload_span(slot))
    }

    fn payload_span(&self, slot: u32) -> Span {
        match self.row(slot).get(HEADER_WORDS + self.layout.words..) {
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
        let live: Vec<u32> = self.index.iter().copied().collect();
        for slot in live {
            let base = self.base(slot);
            let (a, b) = (self.slots[base + 1], self.slots[base + 2]);
            if long_length(a).is_some() {
                self.slots[base + 2] = arena.push(self.arena.get(long_span(a, b))).start;
            }
            if self.layout.payload {
                let span = arena.push(self.arena.get(self.payload_span(slot)));
                self.set_payload_span(slot, span);
            }
        }
        self.arena = arena;
    }

    /// Removes `key`; true if it was there.
    pub(crate) fn remove(&mut self, key: &Key<'_>) -> bool {
        let Some(slot) = self.find(key) else {
            return false;
        };
        if self.pending.remove(slot) {
            self.write_early(slot);
        }
        self.frozen.remove(slot);
        self.dirty.remove(slot);
        let mut deleted = std::mem::take(&mut self.deleted);
        put_bytes(&mut deleted, self.key(slot).as_slice());
        self.deleted = deleted;
        self.deleted_count += 1;
        let base = self.base(slot);
        let (a, b) = (self.slots[base + 1], self.slots[base + 2]);
        if long_length(a).is_some() {
            self.arena.release(long_span(a, b));
        }
        if self.layout.payload {
            self.arena.release(self.payload_span(slot));
        }
        if let Ok(entry) = (self.index).find_entry(index_hash(key.hash()), |&at| at == slot) {
            entry.remove();
        }
        self.slots[base + 1] = FREE;
        self.free.push(slot);
        true
    }

    /// The numbers of all slots in use, in no particular order of keys.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        let stride = self.layout.stride();
        (self.slots.chunks_exact(stride).enumerate())
            .filter(|(_, row)| row[1] != FREE)
            .map(|(at, _)| at as u32)
    }

    /// All slots in use, by hash and key.
    pub(crate) fn sorted(&self, into: &mut Vec<u32>) {
        into.clear();
        into.extend(self.slots());
        into.sort_unstable_by(|&a, &b| {
            (self.hash(a).cmp(&self.hash(b)))
                .then_with(|| self.key(a).as_slice().cmp(self.key(b).as_slice()))
        });
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        put_bytes(out, self.key(slot).as_slice());
        for &word in self.words(slot) {
            put_u64(out, word);
        }
        if self.layout.payload {
            put_bytes(out, self.payload(slot));
        }
    }
}

fn long_span(cell: u64, start: u64) -> Span {
    Span {
        start,
        length: long_length(cell).unwrap_or_default(),
    }
}

impl Shard for SlotShard {
    type Shape = Layout;

    fn new(layout: Layout) -> Self {
        Self {
            layout,
            index: HashTable::new(),
            slots: Vec::new(),
            arena: Arena::default(),
            free: Vec::new(),
            dirty: Bitmap::default(),
            frozen: Bitmap::default(),
            pending: Bitmap::default(),
            deleted: Vec::new(),
            deleted_count: 0,
            frozen_deleted: Vec::new(),
            frozen_deleted_count: 0,
            early: Vec::new(),
            early_count: 0,
        }
    }

    fn freeze(&mut self, full: bool) {
        if full {
            self.dirty
                .fill((self.slots.len() / self.layout.stride()) as u32);
            for at in 0..self.free.len() {
                self.dirty.remove(self.free[at]);
            }
        }
        self.frozen.copy_from(&self.dirty);
        self.pending.copy_from(&self.dirty);
        self.dirty.clear();
        self.frozen_deleted = std::mem::take(&mut self.deleted);
        self.frozen_deleted_count = std::mem::take(&mut self.deleted_count);
        self.early.clear();
        self.early_count = 0;
    }

    fn drain(&mut self, full: bool, out: &mut Vec<u8>) {
        if full {
            put_u32(out, 0);
        } else {
            put_u32(out, self.frozen_deleted_count);
            out.extend_from_slice(&self.frozen_deleted);
        }
        put_u32(out, self.early_count + self.pending.count());
        out.extend_from_slice(&self.early);
        for slot in self.pending.iter() {
            self.write(slot, out);
        }
        self.pending.clear();
        self.early = Vec::new();
        self.early_count = 0;
    }

    fn thaw(&mut self) {
        self.dirty.merge(&self.frozen);
        self.frozen.clear();
        self.pending.clear();
        self.early = Vec::new();
        self.early_count = 0;
        let later = std::mem::take(&mut self.deleted);
        self.deleted = std::mem::take(&mut self.frozen_deleted);
        self.deleted.extend_from_slice(&later);
        self.deleted_count += std::mem::take(&mut self.frozen_deleted_count);
    }

    fn restore(&mut self, content: &mut Reader<'_>) -> Result<(), StateError> {
        for _ in 0..content.u32()? {
            self.remove(&Key::of(content.bytes()?));
        }
        for _ in 0..content.u32()? {
            let key = content.bytes()?;
            let (slot, _) = self.touch(&Key::of(key));
            for at in 0..self.layout.words {
                let word = content.u64()?;
                if let Some(place) = self.touched_mut(slot).get_mut(at) {
                    *place = word;
                }
            }
            if self.layout.payload {
                let payload = content.bytes()?;
                self.set_payload(slot, payload);
            }
        }
        // What was read is known to the checkpoint already.
        self.dirty.clear();
        self.deleted.clear();
        self.deleted_count = 0;
        Ok(())
    }

    fn clear(&mut self) {
        self.index.clear();
        self.slots.clear();
        self.arena.clear();
        self.free.clear();
        self.dirty.clear();
        self.frozen.clear();
        self.pending.clear();
        self.deleted.clear();
        self.deleted_count = 0;
        self.frozen_deleted.clear();
        self.frozen_deleted_count = 0;
        self.early.clear();
        self.early_count = 0;
    }

    fn memory_bytes(&self) -> usize {
        self.slots.capacity() * 8
            + self.index.allocation_size()
            + self.arena.memory_bytes()
            + self.deleted.capacity()
            + self.early.capacity()
    }
}
