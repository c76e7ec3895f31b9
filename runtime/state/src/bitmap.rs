//! Bitmaps over slots and over key groups.

use thalweg_stream::KeyGroup;

/// A growing set of slot numbers, one bit each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    /// Bits that are set.
    count: u32,
}

impl Bitmap {
    /// Whether `at` is in the set.
    pub(crate) fn contains(&self, at: u32) -> bool {
        (self.words.get((at >> 6) as usize)).is_some_and(|w| w >> (at & 63) & 1 == 1)
    }

    /// Whether all of these are in the set, found without a branch for each.
    #[inline]
    pub(crate) fn contains_all(&self, mut all: impl Iterator<Item = u32>) -> bool {
        let word = |at: u32| self.words.get((at >> 6) as usize).copied();
        all.try_fold(1, |bits, at| Some(bits & word(at)? >> (at & 63)))
            .is_some_and(|bits| bits & 1 == 1)
    }

    /// Adds `at`, growing as needed.
    pub(crate) fn insert(&mut self, at: u32) {
        let word = (at >> 6) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (at & 63);
        self.count += u32::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// Takes `at` out; true if it was in.
    pub(crate) fn remove(&mut self, at: u32) -> bool {
        let Some(word) = self.words.get_mut((at >> 6) as usize) else {
            return false;
        };
        let bit = 1 << (at & 63);
        let was = *word & bit != 0;
        *word &= !bit;
        self.count -= u32::from(was);
        was
    }

    /// Makes this a copy of `other`, keeping the memory.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.words.clone_from(&other.words);
        self.count = other.count;
    }

    /// Adds everything in `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        self.count = self.words.iter().map(|word| word.count_ones()).sum();
    }

    /// Empties the set, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.words.fill(0);
        self.count = 0;
    }

    /// How many numbers are in.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The least number in the set that is not below `from`.
    pub(crate) fn next_from(&self, from: u32) -> Option<u32> {
        let first = (from >> 6) as usize;
        let masked = self.words.get(first)? & (u64::MAX << (from & 63));
        if masked != 0 {
            return Some((first as u32) << 6 | masked.trailing_zeros());
        }
        let rest = &self.words[first + 1..];
        let at = rest.iter().position(|&word| word != 0)?;
        Some(((first + 1 + at) as u32) << 6 | rest[at].trailing_zeros())
    }
}

/// A set of key groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupSet([u64; 4]);

impl GroupSet {
    pub(crate) const ALL: Self = Self([u64::MAX; 4]);

    pub(crate) fn contains(self, group: KeyGroup) -> bool {
        self.0[usize::from(group >> 6)] >> (group & 63) & 1 == 1
    }

    pub(crate) fn insert(&mut self, group: KeyGroup) {
        self.0[usize::from(group >> 6)] |= 1 << (group & 63);
    }

    pub(crate) fn remove(&mut self, group: KeyGroup) {
        self.0[usize::from(group >> 6)] &= !(1 << (group & 63));
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = KeyGroup> {
        (0..=KeyGroup::MAX).filter(move |&group| self.contains(group))
    }
}

#[cfg(test)]
mod tests {
    use super::{Bitmap, GroupSet};

    fn numbers(set: &Bitmap) -> Vec<u32> {
        let after = |last: &u32| set.next_from(last + 1);
        std::iter::successors(set.next_from(0), after).collect()
    }

    #[test]
    fn bitmaps_hold_what_was_put_in() {
        let mut set = Bitmap::default();
        for at in [0, 63, 64, 200] {
            set.insert(at);
        }
        assert!(set.remove(64) && !set.remove(64) && !set.remove(9999));
        set.insert(63);
        assert_eq!((numbers(&set), set.count()), (vec![0, 63, 200], 3));
        for (all, expected) in [
            (vec![], true),
            (vec![63, 0, 200], true),
            (vec![0, 64], false),
            (vec![0, 9999, 63], false),
        ] {
            assert_eq!(set.contains_all(all.iter().copied()), expected, "{all:?}");
        }
        let mut all = Bitmap::default();
        (0..3).for_each(|at| all.insert(at));
        all.merge(&set);
        assert_eq!((numbers(&all), all.count()), (vec![0, 1, 2, 63, 200], 5));
        set.copy_from(&all);
        assert_eq!((numbers(&set), set.count()), (numbers(&all), 5));
        all.clear();
        assert_eq!((numbers(&all), all.count()), (vec![], 0));
    }

    #[test]
    fn group_sets_span_all_groups() {
        let mut set = GroupSet::default();
        for group in [0, 63, 64, 255] {
            set.insert(group);
        }
        set.remove(63);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 64, 255]);
        assert!(!set.is_empty());
    }
}
