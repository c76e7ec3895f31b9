//! Random draws that are a function of where they are made: SplitMix64.
//!
//! After G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA
//! 2014, with the constants of its reference implementation.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: a bijection that spreads every bit over all.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of a few numbers.
pub(crate) fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(GOLDEN, |state, part| {
        mix(state ^ part.wrapping_mul(GOLDEN).wrapping_add(GOLDEN))
    })
}

/// A sequence of draws.
#[derive(Clone, Debug)]
pub(crate) struct Draw {
    state: u64,
}

impl Draw {
    /// The draws of the place that `key` and `index` name.
    pub(crate) fn at(key: u64, index: u64) -> Self {
        Self {
            state: mix(key ^ index.wrapping_mul(GOLDEN)),
        }
    }

    /// 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number from 0 to `below` - 1 (0 if `below` is 0), by multiplication rather than division.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(below)) >> 64) as u64
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }
}

/// A probability as the threshold below which 64 random bits fall with that probability.
pub(crate) fn threshold(probability: f64) -> u64 {
    // The cast saturates: 1.0 becomes the greatest number.
    (probability * 2f64.powi(64)) as u64
}

#[cfg(test)]
mod tests {
    use super::{Draw, hash, threshold};

    #[test]
    fn draws_follow_the_reference_sequence() {
        // First outputs of the reference implementation for the seed 1234567.
        let mut draw = Draw { state: 1_234_567 };
        assert_eq!(draw.next(), 6_457_827_717_110_365_317);
        assert_eq!(draw.next(), 3_203_168_211_198_807_973);
        assert_eq!(draw.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_both_ends() {
        let mut draw = Draw::at(hash(&[1, 2]), 3);
        let drawn: Vec<u64> = (0..1000).map(|_| draw.between(5, 9)).collect();
        assert_eq!(drawn.iter().min(), Some(&5));
        assert_eq!(drawn.iter().max(), Some(&9));
        assert_eq!(draw.below(0), 0);
        assert_eq!((threshold(0.0), threshold(1.0)), (0, u64::MAX));
    }
}
