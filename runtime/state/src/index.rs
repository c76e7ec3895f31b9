//! An open-addressed index from hashes to slot numbers.
//!
//! It starts as one table; a large one is split by the top byte of the hash, so that each part
//! grows alone and no update waits for the whole index to be rebuilt.

use hashbrown::HashTable;

/// Number of entries at which the index is split.
const SPLIT_AT: usize = 1 << 16;
/// Parts of a split index.
const PARTS: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Index {
    whole: HashTable<u32>,
    /// None until the index is split.
    parts: Vec<HashTable<u32>>,
    len: usize,
}

/// The hash a table sees: within a part the top eight bits of all hashes are the same, and the
/// top seven are what the table tells slots apart by.
#[inline]
fn mixed(hash: u64) -> u64 {
    hash ^ (hash << 8)
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn table(&self, hash: u64) -> &HashTable<u32> {
        match self.parts.get((hash >> 56) as usize) {
            Some(part) => part,
            None => &self.whole,
        }
    }

    /// The slot of this hash for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        (self.table(hash).find(mixed(hash), |&slot| is_it(slot))).copied()
    }

    /// Adds a slot that is not in it; `hash_of` gives the hash of any slot in it.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        self.len += 1;
        if self.parts.is_empty() && self.len > SPLIT_AT {
            self.split(&hash_of);
        }
        let table = match self.parts.get_mut((hash >> 56) as usize) {
            Some(part) => part,
            None => &mut self.whole,
        };
        table.insert_unique(mixed(hash), slot, |&slot| mixed(hash_of(slot)));
    }

    fn split(&mut self, hash_of: &impl Fn(u32) -> u64) {
        let capacity = 2 * SPLIT_AT / PARTS;
        self.parts = (0..PARTS)
            .map(|_| HashTable::with_capacity(capacity))
            .collect();
        for slot in std::mem::take(&mut self.whole) {
            let hash = hash_of(slot);
            self.parts[(hash >> 56) as usize]
                .insert_unique(mixed(hash), slot, |&slot| mixed(hash_of(slot)));
        }
    }

    /// Takes out `slot`, whose hash is `hash`.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) {
        let table = match self.parts.get_mut((hash >> 56) as usize) {
            Some(part) => part,
            None => &mut self.whole,
        };
        if let Ok(entry) = table.find_entry(mixed(hash), |&at| at == slot) {
            entry.remove();
            self.len -= 1;
        }
    }

    /// Empties it, keeping memory.
    pub(crate) fn clear(&mut self) {
        self.whole.clear();
        self.parts.iter_mut().for_each(HashTable::clear);
        self.len = 0;
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let parts = self.parts.iter().map(HashTable::allocation_size);
        self.whole.allocation_size() + parts.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::{Index, SPLIT_AT};

    #[test]
    fn what_is_put_in_is_found_before_and_after_the_split() {
        let hash = |slot: u32| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut index = Index::default();
        let count = SPLIT_AT as u32 + 1000;
        for slot in 0..count {
            index.insert(hash(slot), slot, hash);
        }
        assert_eq!((index.len(), index.parts.len()), (count as usize, 256));
        for slot in (0..count).step_by(7) {
            index.remove(hash(slot), slot);
        }
        for slot in 0..count {
            let found = index.find(hash(slot), |at| at == slot);
            assert_eq!(found.is_none(), slot % 7 == 0);
        }
        index.clear();
        assert_eq!(index.find(hash(1), |_| true), None);
    }
}
