//! The arithmetic of accumulators: numbers in 64-bit words.

use thalweg_stream::planted::planted;

/// Adds `value` to the compensated sum in `words` (Neumaier 1974; the error term by Knuth's
/// two-sum): what rounding loses is kept in the second word, so that the rounded result does not
/// depend on the order of addition in any case that data has shown.
#[inline]
pub(crate) fn add_float(words: &mut [u64; 2], value: f64) {
    let high = f64::from_bits(words[0]);
    let sum = high + value;
    let back = sum - high;
    let error = (high - (sum - back)) + (value - back);
    words[0] = sum.to_bits();
    if planted("plain-sums") {
        return;
    }
    words[1] = (f64::from_bits(words[1]) + error).to_bits();
}

/// The sum that [`add_float`] built.
pub(crate) fn float_sum(words: [u64; 2]) -> f64 {
    let high = f64::from_bits(words[0]);
    if high.is_finite() {
        high + f64::from_bits(words[1])
    } else {
        // The error term of an infinity is not a number.
        high
    }
}

/// Adds to an i128 in two words. At its limits the sum stays there, beyond any result type.
#[inline]
pub(crate) fn add_int(words: &mut [u64; 2], value: i128) {
    let sum = int(*words);
    if sum != i128::MAX && sum != i128::MIN {
        *words = split(sum.saturating_add(value));
    }
}

/// The i128 in two words.
#[inline]
pub(crate) fn int(words: [u64; 2]) -> i128 {
    (u128::from(words[0]) | u128::from(words[1]) << 64) as i128
}

/// An i128 as two words, low first.
#[inline]
pub(crate) fn split(value: i128) -> [u64; 2] {
    [value as u64, (value >> 64) as u64]
}

/// A float as an integer of the same order: total order, −0 before 0, NaN after all (one NaN).
#[inline]
pub(crate) fn rank(value: f64) -> i64 {
    let value = if value.is_nan() { f64::NAN } else { value };
    let bits = value.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The float of a [`rank`].
pub(crate) fn unrank(rank: i64) -> f64 {
    f64::from_bits((rank ^ (((rank >> 63) as u64) >> 1) as i64) as u64)
}

#[cfg(test)]
mod tests {
    use super::{add_float, add_int, float_sum, int, rank, unrank};

    #[test]
    fn ranks_order_as_floats_do() {
        let floats = [
            f64::NEG_INFINITY,
            -1.5,
            -f64::MIN_POSITIVE,
            -0.0,
            0.0,
            1e-300,
            2.0,
            f64::INFINITY,
        ];
        for pair in floats.windows(2) {
            assert!(rank(pair[0]) < rank(pair[1]), "{pair:?}");
        }
        for float in floats {
            assert_eq!(unrank(rank(float)).to_bits(), float.to_bits());
        }
        assert!(rank(-f64::NAN) > rank(f64::INFINITY) && unrank(rank(-f64::NAN)).is_nan());
    }

    #[test]
    fn compensated_sums_do_not_depend_on_order() {
        let mut values: Vec<f64> = (1..2000)
            .map(|i| f64::from(i * 7919 % 1009) * 10_f64.powi(i % 30 - 15))
            .collect();
        let sum = |values: &[f64]| {
            let mut words = [0; 2];
            values.iter().for_each(|&v| add_float(&mut words, v));
            float_sum(words)
        };
        let first = sum(&values);
        values.reverse();
        assert_eq!(sum(&values).to_bits(), first.to_bits());
        values.sort_by(f64::total_cmp);
        assert_eq!(sum(&values).to_bits(), first.to_bits());
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn integer_sums_stay_at_their_limit() {
        let mut words = [0; 2];
        add_int(&mut words, -5);
        add_int(&mut words, 3);
        assert_eq!(int(words), -2);
        for _ in 0..3 {
            add_int(&mut words, i128::MAX - 1);
        }
        add_int(&mut words, -1000);
        assert_eq!(int(words), i128::MAX);
    }
}
