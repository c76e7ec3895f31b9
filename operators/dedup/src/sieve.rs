//! Which keys have come, at times falsely: a Bloom filter of one word a key.

use thalweg_state::Print;

/// Bits for each key: of others, one in two hundred is taken for one that came.
const KEY_BITS: usize = 16;

/// Keys that have come.
#[derive(Debug)]
pub(crate) struct Sieve {
    words: Vec<u64>,
    keys: usize,
}

impl Sieve {
    /// An empty one with room for `keys`.
    pub(crate) fn new(keys: usize) -> Self {
        Self {
            words: vec![0; Self::words(keys)],
            keys: 0,
        }
    }

    /// Whether there is room for so many more.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        (self.keys + more) * KEY_BITS <= self.words.len() * 64
    }

    /// Forgets all keys; the next ones will be about `keys`.
    pub(crate) fn renew(&mut self, keys: usize) {
        if Self::words(keys) == self.words.len() {
            self.words.fill(0);
            self.keys = 0;
        } else {
            *self = Self::new(keys);
        }
    }

    fn words(keys: usize) -> usize {
        (keys * KEY_BITS).div_ceil(64).next_power_of_two()
    }

    #[inline]
    fn place(&self, print: Print) -> (usize, u64) {
        let spread = print.spread();
        let word = (spread >> 24) as usize & (self.words.len() - 1);
        (
            word,
            [0, 6, 12, 18]
                .iter()
                .fold(0, |bits, shift| bits | 1 << (spread >> shift & 63)),
        )
    }

    /// Whether the key may have come.
    #[inline]
    pub(crate) fn has(&self, print: Print) -> bool {
        let (word, bits) = self.place(print);
        self.words[word] & bits == bits
    }

    /// Adds a key; whether it may have come before.
    #[inline]
    pub(crate) fn add(&mut self, print: Print) -> bool {
        let (word, bits) = self.place(print);
        let came = self.words[word] & bits == bits;
        self.words[word] |= bits;
        self.keys += usize::from(!came);
        came
    }
}

#[cfg(test)]
mod tests {
    use thalweg_state::{Print, fingerprint};

    use super::Sieve;

    #[test]
    fn keys_that_came_are_known_and_few_others() {
        let print = |number: u64| Print::new(0, fingerprint(&number.to_le_bytes()));
        let count = 10_000;
        let mut sieve = Sieve::new(count as usize);
        let came = (0..count).filter(|&number| sieve.add(print(number)));
        assert!(came.count() < count as usize / 200);
        assert!(sieve.has_room(0) && !sieve.has_room(count as usize));
        assert!((0..count).all(|number| sieve.has(print(number)) && sieve.add(print(number))));
        let others = (count..count * 2).filter(|&number| sieve.has(print(number)));
        assert!(others.count() < count as usize / 100);
        sieve.renew(count as usize);
        assert!((0..count).all(|number| !sieve.has(print(number))));
        sieve.renew(1);
        assert!((0..count).any(|number| !sieve.add(print(number)) && !sieve.has_room(1)));
    }
}
