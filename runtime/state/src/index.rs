//! An open-addressed index from hashes to slot numbers.
//!
//! What is called a hash here is any evenly spread 64 bits of a key.
//!
//! Entries are a tag, the upper half of the hash, and a slot number. They lie in buckets of four on one
//! cache line, tags beside tags, so that a lookup compares all of its home bucket at once, and goes to
//! the next one only if that is full. So the first candidates of many keys can be found without a
//! branch for each, and fetched before any is needed. A large index is split by the top byte of the
//! hash, so that each part grows alone and no update waits for the whole index to be rebuilt.

use crate::words::prefetch;

/// Number of slots at which the index is split.
const SPLIT_AT: usize = 1 << 16;
/// Parts of a split index.
const PARTS: usize = 256;
/// Buckets of the smallest part.
const BUCKETS_MIN: usize = 4;
/// Entries of a bucket.
const BUCKET_ENTRIES: usize = 4;
/// Entries of a bucket, on average, at which the whole index grows: one key in a hundred finds no room
/// in its home bucket.
const WHOLE_FILLED: usize = 2;
/// And of a part, where memory counts: one in ten finds none.
const PART_FILLED: usize = 3;
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

/// Entries of some keys. One is in its home bucket, or behind it and buckets that are all full.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
struct Bucket {
    tags: [u32; BUCKET_ENTRIES],
    /// Slot + 1; zero where there is nothing.
    slots: [u32; BUCKET_ENTRIES],
}

/// A power of two of buckets, or none.
#[derive(Debug, Default)]
struct Part {
    buckets: Vec<Bucket>,
    len: usize,
}

/// Where an entry is: its bucket, and its place there.
type Place = (usize, usize);

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
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Bucket {
    fn is_full(&self) -> bool {
        self.slots.iter().all(|&slot| slot != 0)
    }

    /// The slot at a place; nothing where there is none.
    #[inline]
    fn slot(&self, place: usize) -> Option<u32> {
        self.slots.get(place)?.checked_sub(1)
    }

    fn set(&mut self, place: usize, (tag, slot): (u32, Option<u32>)) {
        self.tags[place] = tag;
        self.slots[place] = slot.map_or(0, |slot| slot + 1);
    }

    /// All slots in it.
    fn iter(self) -> impl Iterator<Item = u32> {
        self.slots
            .into_iter()
            .filter_map(|slot| slot.checked_sub(1))
    }
}

impl Part {
    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.buckets.len().wrapping_sub(1)
    }

    fn next(&self, bucket: usize) -> usize {
        self.home(bucket as u64 + 1)
    }

    /// The one in its home bucket that has this hash, found without a branch per entry. Several that
    /// have it are mingled, and say nothing.
    #[inline]
    fn candidate(&self, hash: u64) -> u32 {
        let Some(Bucket { tags, slots }) = self.buckets.get(self.home(hash)) else {
            return NO_SLOT;
        };
        let tag = tag(hash);
        // Without an order among the four they are compared at once.
        let mut alike = [0; BUCKET_ENTRIES];
        for (alike, (&other, &slot)) in alike.iter_mut().zip(tags.iter().zip(slots)) {
            *alike = if other == tag { slot } else { 0 };
        }
        // Of none, one less than zero is no slot.
        (alike.iter().fold(0, |all, slot| all | slot)).wrapping_sub(1)
    }

    /// Where the entry of this hash is for which `is_it` holds, and its slot.
    #[inline]
    fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<(Place, u32)> {
        let mut at = self.home(hash);
        loop {
            let bucket = self.buckets.get(at)?;
            for (place, &other) in bucket.tags.iter().enumerate() {
                if other == tag(hash)
                    && let Some(slot) = bucket.slot(place).filter(|&slot| is_it(slot))
                {
                    return Some(((at, place), slot));
                }
            }
            if !bucket.is_full() {
                return None;
            }
            at = self.next(at);
        }
    }

    /// Adds an entry; of `filled` entries a bucket, it grows before.
    fn insert(&mut self, hash: u64, slot: u32, filled: usize, hash_of: &impl Fn(u32) -> u64) {
        if self.len + 1 > self.buckets.len() * filled {
            let length = (self.buckets.len() * 2).max(BUCKETS_MIN);
            let old = std::mem::replace(&mut self.buckets, vec![Bucket::default(); length]);
            for slot in old.into_iter().flat_map(Bucket::iter) {
                self.place(hash_of(slot), slot);
            }
        }
        self.place(hash, slot);
        self.len += 1;
    }

    fn place(&mut self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(free) = bucket.slots.iter().position(|&slot| slot == 0) {
                bucket.set(free, (tag(hash), Some(slot)));
                return;
            }
            at = self.next(at);
        }
    }

    fn remove(&mut self, hash: u64, slot: u32, hash_of: &impl Fn(u32) -> u64) -> bool {
        let Some((mut hole, _)) = self.find(hash, |at| at == slot) else {
            return false;
        };
        // Behind a full bucket are entries that found no room in it: one of them gets the room.
        let mut at = hole.0;
        while self.buckets[at].is_full() {
            at = self.next(at);
            let distance = |from: usize| self.home((at as u64).wrapping_sub(from as u64));
            let bucket = self.buckets[at];
            let moves = (0..BUCKET_ENTRIES).find(|&place| {
                (bucket.slot(place))
                    .is_some_and(|slot| distance(self.home(hash_of(slot))) >= distance(hole.0))
            });
            if let Some(place) = moves {
                let entry = (bucket.tags[place], bucket.slot(place));
                self.buckets[hole.0].set(hole.1, entry);
                hole = (at, place);
            }
        }
        self.buckets[hole.0].set(hole.1, (0, None));
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

    /// Of each hash, a slot that may be the one, as there is one in its home bucket whose hash is
    /// alike, or [`NO_SLOT`]; not every slot that is in the index is found so, and not all that are
    /// found are in it.
    #[inline]
    pub(crate) fn candidates<S>(
        &self,
        hashes: &[u64],
        slots: &mut Vec<S>,
        slot: impl Fn(u32) -> S,
    ) {
        match self.parts.as_slice() {
            [part] => slots.extend(hashes.iter().map(|&hash| slot(part.candidate(hash)))),
            parts => {
                let part = |hash| parts.get(self.part(hash));
                for &hash in hashes {
                    if let Some(part) = part(hash) {
                        prefetch(part.buckets.as_ptr().wrapping_add(part.home(hash)));
                    }
                }
                slots.extend(
                    hashes
                        .iter()
                        .map(|&hash| slot(part(hash).map_or(NO_SLOT, |part| part.candidate(hash)))),
                );
            }
        }
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
        let filled = match self.parts.len() {
            1 => WHOLE_FILLED,
            _ => PART_FILLED,
        };
        let part = self.part(hash);
        self.parts[part].insert(hash, slot, filled, &hash_of);
    }

    fn split(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let whole = std::mem::take(&mut self.parts);
        self.parts = (0..PARTS).map(|_| Part::default()).collect();
        self.shift = u64::BITS - PARTS.ilog2();
        let buckets = whole.into_iter().flat_map(|part| part.buckets);
        for slot in buckets.flat_map(Bucket::iter) {
            let hash = hash_of(slot);
            let part = self.part(hash);
            self.parts[part].insert(hash, slot, PART_FILLED, hash_of);
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
            part.buckets.fill(Bucket::default());
            part.len = 0;
        }
        self.len = 0;
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.parts
            .iter()
            .map(|part| part.buckets.capacity() * size_of::<Bucket>())
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
        let candidate = |index: &Index, hash: u64| {
            let mut slots = Vec::new();
            index.candidates(&[hash], &mut slots, |slot| slot);
            slots[0]
        };
        assert_eq!(candidate(&index, 7), NO_SLOT);
        assert_eq!(index.find(7, |_| true), None);
        let count = SPLIT_AT as u32 + 1000;
        for slot in 0..count {
            index.insert(hash(slot), slot, hash);
        }
        assert_eq!((index.len(), index.parts.len()), (count as usize, 256));
        for slot in (0..count).step_by(7) {
            index.remove(hash(slot), slot, hash);
        }
        let mut known = 0;
        for slot in 0..count {
            let found = index.find(hash(slot), |at| at == slot);
            assert_eq!(found.is_none(), slot % 7 == 0);
            let candidate = candidate(&index, hash(slot));
            assert!(candidate == slot || candidate == NO_SLOT || slot % 7 == 0);
            known += u32::from(candidate == slot);
        }
        assert!(known > count / 2, "{known} of {count}");
        index.clear();
        assert_eq!(index.find(hash(1), |_| true), None);
    }

    /// Crowded homes that wrap around the end, with removals in every order.
    #[test]
    fn removals_keep_every_other_entry_within_reach() {
        for seed in 0..200_u64 {
            let hash = |slot: u32| {
                let mixed = (u64::from(slot) + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (6 + (mixed >> 62)) | (mixed << 32)
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
