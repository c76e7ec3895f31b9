//! A growing array of words that begins on a cache line, so that a slot of eight words is on one
//! line instead of two.

use std::ops::{Deref, DerefMut};

/// Words of a cache line.
const LINE_WORDS: usize = 8;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u64; LINE_WORDS]);

/// Words, the first of them at the start of a cache line.
#[derive(Debug, Default)]
pub(crate) struct Words {
    lines: Vec<Line>,
    /// Words in use; never more than the lines have.
    len: usize,
}

impl Words {
    /// Appends `more`.
    #[inline]
    pub(crate) fn extend_from_slice(&mut self, more: &[u64]) {
        let from = self.len;
        let lines = (from + more.len()).div_ceil(LINE_WORDS);
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; LINE_WORDS]));
        }
        self.len += more.len();
        self[from..].copy_from_slice(more);
    }

    /// Asks for the memory of a word that is needed soon.
    #[inline]
    pub(crate) fn prefetch(&self, at: usize) {
        prefetch(self.lines.as_ptr().cast::<u64>().wrapping_add(at));
    }

    /// Empties it, keeping memory.
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
        self.len = 0;
    }

    /// Bytes of memory in use.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }
}

/// Asks for the cache line at this address, where the processor can be asked, without waiting for it.
#[inline]
#[allow(
    unsafe_code,
    reason = "there is no safe call for it, as it takes an address"
)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it reads nothing that the program sees and cannot fail, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _no_such_call = at;
}

impl Deref for Words {
    type Target = [u64];

    #[inline]
    #[allow(
        unsafe_code,
        reason = "there is no safe view of aligned lines as the words they are made of"
    )]
    fn deref(&self) -> &[u64] {
        // SAFETY: a line is its eight words and nothing else (its size is its alignment), and `len`
        // is at most the number of words in `lines`, all of which are initialised.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Words {
    #[inline]
    #[allow(
        unsafe_code,
        reason = "there is no safe view of aligned lines as the words they are made of"
    )]
    fn deref_mut(&mut self) -> &mut [u64] {
        // SAFETY: as in `deref`; the lines are borrowed mutably for as long as the words are.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn words_stay_as_they_are_while_the_array_grows() {
        let mut words = Words::default();
        assert!(words.is_empty());
        for round in 0..100_u64 {
            words.extend_from_slice(&[round, round + 1, round + 2]);
            assert_eq!(words.len() as u64, round * 3 + 3);
            assert_eq!(words.as_ptr() as usize % 64, 0);
        }
        words[4] = 77;
        assert_eq!(words[3..6], [1, 77, 3]);
        words.clear();
        words.extend_from_slice(&[9]);
        assert_eq!(*words, [9]);
    }
}
