//! The slots of many keys at once.
//!
//! Each step is a loop of its own, so that the processor waits for the memory of many keys at the
//! same time.

use super::{SlotStore, cell};
use crate::bitmap::GroupSet;
use crate::index::NO_SLOT;
use crate::key::KeyBlock;
use crate::log::Logs;
use crate::table::Slot;

impl SlotStore {
    /// The slots of many short-lived lookups at once, ready to be changed; appended to `slots`.
    /// Groups of new keys are added to `groups`.
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
}
