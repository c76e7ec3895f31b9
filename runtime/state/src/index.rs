//! An open-addressed index from hashes to slot numbers.
//!
//! Entries are one word each, upper half of the hash and slot number, probed linearly: one cache
//! line a lookup, and the first candidates of many keys can be fetched before any is needed. A
//! large index is split by the top byte of the hash, so that each part grows alone and no update
//! waits for the whole index to be rebuilt.

/// Number of slots at which the index is split.
const SPLIT_AT: usize = 1 << 16;
/// Parts of a split index.
const PARTS: usize = 256;
/// Entries of the smallest part.
const ENTRIES_MIN: usize = 16;
/// Places looked at for a first candidate: usually on one cache line.
const NEAR: usize = 4;
/// No slot.
pub(crate) const NO_SLOT: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Index {
    /// One, or [`PARTS`] once it is split.
    parts: Vec<Part>,
    /// How far the hash is shifted to give the part.
    shift: u32,
    len: usize,
}

/// Entries are zero where there is nothing, else the upper half of the hash above slot + 1.
#[derive(Debug, Default)]
struct Part {
    entries: Vec<u64>,
    len: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            parts: vec![Part::default()],
            shift: u64::BITS,
            len: 0,
        }
    }
}

#[inline]
fn slot_of(entry: u64) -> u32 {
    (entry as u32).wrapping_sub(1)
}

#[inline]
fn tag(hash: u64) -> u64 {
    hash & !0xffff_ffff
}

impl Part {
    #[inline]
    fn home(&self, hash: u64) -> usize {
        // A power of two, or zero.
        hash as usize & self.entries.len().wrapping_sub(1)
    }

    /// The first of the nearest places that has this hash, found without a branch per place.
    #[inline]
    fn first(&self, hash: u64) -> u32 {
        let home = self.home(hash);
        (0..NEAR).rev().fold(NO_SLOT, |found, near| {
            match self.entries.get(self.home((home + near) as u64)) {
                Some(&entry) if tag(entry) == tag(hash) => slot_of(entry),
                _ => found,
            }
        })
    }

    /// Where the entry of this hash is for which `is_it` holds, and its slot.
    #[inline]
    fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let mut at = self.home(hash);
        loop {
            let entry = *self.entries.get(at)?;
            if entry == 0 {
                return None;
            }
            if tag(entry) == tag(hash) && is_it(slot_of(entry)) {
                return Some((at, slot_of(entry)));
            }
            at = self.home(at as u64 + 1);
        }
    }

    fn insert(&mut self, hash: u64, slot: u32, hash_of: &impl Fn(u32) -> u64) {
        if (self.len + 1) * 4 > self.entries.len() * 3 {
            let length = (self.entries.len() * 2).max(ENTRIES_MIN);
            let old = std::mem::replace(&mut self.entries, vec![0; length]);
            for entry in old.into_iter().filter(|&entry| entry != 0) {
                self.place(hash_of(slot_of(entry)), slot_of(entry));
            }
        }
        self.place(hash, slot);
        self.len += 1;
    }

    fn place(&mut self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        while self.entries[at] != 0 {
            at = self.home(at as u64 + 1);
        }
        self.entries[at] = tag(hash) | (u64::from(slot) + 1);
    }

    fn remove(&mut self, hash: u64, slot: u32, hash_of: &impl Fn(u32) -> u64) -> bool {
        let Some((mut hole, _)) = self.find(hash, |at| at == slot) else {
            return false;
        };
        // Entries behind the hole move into it unless that is before their home.
        let mut at = self.home(hole as u64 + 1);
        while self.entries[at] != 0 {
            let home = self.home(hash_of(slot_of(self.entries[at])));
            let distance = |from: usize| self.home((at as u64).wrapping_sub(from as u64));
            if distance(home) >= distance(hole) {
                self.entries[hole] = self.entries[at];
                hole = at;
            }
            at = self.home(at as u64 + 1);
        }
        self.entries[hole] = 0;
        self.len -= 1;
        true
    }
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn part(&self, hash: u64) -> usize {
        hash.checked_shr(self.shift).unwrap_or_default() as usize
    }

    /// Something to load so that the places near the home of `hash` are near; it means nothing.
    #[inline]
    pub(crate) fn near(&self, hash: u64) -> u64 {
        (self.parts.get(self.part(hash))).map_or(0, |part| {
            // They may be on two cache lines.
            let [first, last] = [hash, hash.wrapping_add(NEAR as u64 - 1)].map(|hash| {
                part.entries
                    .get(part.home(hash))
                    .copied()
                    .unwrap_or_default()
            });
            first ^ last
        })
    }

    /// A slot near the home of `hash` that may be the one, as the hashes are alike; not every slot
    /// that is in the index is found so.
    #[inline]
    pub(crate) fn first(&self, hash: u64) -> u32 {
        (self.parts.get(self.part(hash))).map_or(NO_SLOT, |part| part.first(hash))
    }

    /// The slot of this hash for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (_, slot) = self.parts.get(self.part(hash))?.find(hash, is_it)?;
        Some(slot)
    }

    /// Adds a slot that is not in it; `hash_of` gives the hash of any slot in it.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        self.len += 1;
        if self.len > SPLIT_AT && self.parts.len() == 1 {
            self.split(&hash_of);
        }
        let part = self.part(hash);
        self.parts[part].insert(hash, slot, &hash_of);
    }

    fn split(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let whole = std::mem::take(&mut self.parts);
        self.parts = (0..PARTS).map(|_| Part::default()).collect();
        self.shift = u64::BITS - PARTS.ilog2();
        let entries = whole.into_iter().flat_map(|part| part.entries);
        for slot in entries.filter(|&entry| entry != 0).map(slot_of) {
            let hash = hash_of(slot);
            let part = self.part(hash);
            self.parts[part].insert(hash, slot, hash_of);
        }
    }

    /// Takes out `slot`, whose hash is `hash`; `hash_of` gives the hash of any slot in it.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let part = self.part(hash);
        if self.parts[part].remove(hash, slot, &hash_of) {
            self.len -= 1;
        }
    }

    /// Empties it, keeping memory.
    pub(crate) fn clear(&mut self) {
        for part in &mut self.parts {
            part.entries.fill(0);
            part.len = 0;
        }
        self.len = 0;
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.parts
            .iter()
            .map(|part| part.entries.capacity() * 8)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Index, NO_SLOT, SPLIT_AT};

    #[test]
    fn what_is_put_in_is_found_before_and_after_the_split() {
        let hash = |slot: u32| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut index = Index::default();
        assert_eq!((index.first(7), index.find(7, |_| true)), (NO_SLOT, None));
        let count = SPLIT_AT as u32 + 1000;
        for slot in 0..count {
            index.insert(hash(slot), slot, hash);
        }
        assert_eq!((index.len(), index.parts.len()), (count as usize, 256));
        for slot in (0..count).step_by(7) {
            index.remove(hash(slot), slot, hash);
        }
        for slot in 0..count {
            let found = index.find(hash(slot), |at| at == slot);
            assert_eq!(found.is_none(), slot % 7 == 0);
        }
        index.clear();
        assert_eq!(index.find(hash(1), |_| true), None);
    }

    /// Crowded homes that wrap around the end, with removals in every order.
    #[test]
    fn removals_keep_every_other_entry_within_reach() {
        for seed in 0..200_u64 {
            let hash = |slot: u32| {
                let mixed = (u64::from(slot) + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (12 + (mixed >> 61)) | (mixed << 32)
            };
            let mut index = Index::default();
            let mut model = BTreeSet::new();
            let mut state = seed;
            for _ in 0..200 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let slot = (state >> 33) as u32 % 24;
                if model.remove(&slot) {
                    index.remove(hash(slot), slot, hash);
                } else {
                    model.insert(slot);
                    index.insert(hash(slot), slot, hash);
                }
                for slot in 0..24 {
                    let found = index.find(hash(slot), |at| at == slot);
                    assert_eq!(found.is_some(), model.contains(&slot), "seed {seed}");
                }
                assert_eq!(index.len(), model.len());
            }
        }
    }
}
