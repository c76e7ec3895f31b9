//! What every pane's store does: its snapshots, and what is made of them at a restore.
//!
//! Of the four bitmaps `used` is what a full snapshot has, `dirty` what has changed since the last
//! freeze, `frozen` what the last freeze marked, kept until the next one in case it fails, and
//! `pending` what of that is not yet written. A slot that is pending is written out before it
//! changes.

use thalweg_stream::key::key_group;

use super::{HEADER_WORDS, SlotStore, Template};
use crate::arena::Arena;
use crate::bitmap::{Bitmap, GroupSet};
use crate::error::StateError;
use crate::index::Index;
use crate::key::Key;
use crate::log::{DELETE, Logs, PUT};
use crate::pane::Store;
use crate::wire::{Reader, put_bytes, put_u64};
use crate::words::Words;

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

impl SlotStore {
    /// Writes a slot of the snapshot that is about to change, unless that was done.
    pub(super) fn write_pending(&mut self, slot: u32, (pane, logs): (i64, &mut Logs)) {
        if self.pending.remove(slot) {
            self.write(slot, pane, logs);
        }
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
