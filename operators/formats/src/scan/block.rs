//! Sixteen bytes at a time: which of them need a closer look, are digits, or are as expected.

/// Bytes in a block.
pub(crate) const BLOCK: usize = 16;

/// One bit a byte of a block, the first byte lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// A quote, a backslash or a control character.
    pub(crate) special: u32,
    /// Not ASCII.
    pub(crate) non_ascii: u32,
}

impl Marks {
    /// Looks at a block.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn of(block: u128) -> Self {
        use core::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
            _mm_set1_epi8,
        };
        #[allow(unsafe_code, reason = "a third of the scanner's work is here")]
        // SAFETY: SSE2 belongs to every x86-64 processor; no memory is touched.
        unsafe {
            let bytes = _mm_set_epi64x((block >> 64) as i64, block as i64);
            let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
            let special = _mm_or_si128(_mm_or_si128(quote, backslash), control);
            Self {
                special: _mm_movemask_epi8(special) as u32,
                non_ascii: _mm_movemask_epi8(bytes) as u32,
            }
        }
    }

    /// Looks at a block.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    pub(crate) fn of(block: u128) -> Self {
        Self::portable(block)
    }

    /// The same within ordinary registers, eight bytes at a time.
    #[cfg(any(test, not(target_arch = "x86_64")))]
    pub(crate) fn portable(block: u128) -> Self {
        let (low, high) = (block as u64, (block >> 64) as u64);
        Self {
            special: gather(special_bits(low)) | gather(special_bits(high)) << 8,
            non_ascii: gather(low & HIGH) | gather(high & HIGH) << 8,
        }
    }
}

/// One bit a byte of a block that is no digit, the first byte lowest, and one bit above them.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn other_than_digits(block: u128) -> u32 {
    use core::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8,
        _mm_sub_epi8,
    };
    #[allow(unsafe_code, reason = "as in `Marks::of`")]
    // SAFETY: as in `Marks::of`.
    unsafe {
        let bytes = _mm_set_epi64x((block >> 64) as i64, block as i64);
        let values = _mm_sub_epi8(bytes, _mm_set1_epi8(b'0' as i8));
        let digits = _mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values);
        _mm_movemask_epi8(digits) as u32 ^ ((1 << (BLOCK + 1)) - 1)
    }
}

/// One bit a byte of a block that is no digit, the first byte lowest, and one bit above them.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn other_than_digits(block: u128) -> u32 {
    portable_other_than_digits(block)
}

/// One bit a byte in which two blocks are equal, the first byte lowest.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn equal(a: u128, b: u128) -> u32 {
    use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x};
    #[allow(unsafe_code, reason = "as in `Marks::of`")]
    // SAFETY: as in `Marks::of`.
    unsafe {
        let [a, b] = [a, b].map(|x| _mm_set_epi64x((x >> 64) as i64, x as i64));
        _mm_movemask_epi8(_mm_cmpeq_epi8(a, b)) as u32
    }
}

/// One bit a byte in which two blocks are equal, the first byte lowest.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn equal(a: u128, b: u128) -> u32 {
    portable_equal(a, b)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable_other_than_digits(block: u128) -> u32 {
    // A digit has 3 above it and at most 9 below; neither sum carries into the next byte.
    let other = |word: u64| {
        let word = word ^ (LOW * u64::from(b'0'));
        (((word & !HIGH) + LOW * 0x76) | word) & HIGH
    };
    gather(other(block as u64)) | gather(other((block >> 64) as u64)) << 8 | 1 << BLOCK
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn portable_equal(a: u128, b: u128) -> u32 {
    let differs = |word: u64| (((word & !HIGH) + !HIGH) | word) & HIGH;
    let (low, high) = ((a ^ b) as u64, ((a ^ b) >> 64) as u64);
    gather(!differs(low) & HIGH) | gather(!differs(high) & HIGH) << 8
}

#[cfg(any(test, not(target_arch = "x86_64")))]
const HIGH: u64 = 0x8080_8080_8080_8080;
#[cfg(any(test, not(target_arch = "x86_64")))]
const LOW: u64 = 0x0101_0101_0101_0101;

/// The high bit of every byte that is a quote, a backslash or a control character.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn special_bits(word: u64) -> u64 {
    // Without carries between bytes: the sum of two values below 0x80 stays below 0x100.
    let nonzero = |x: u64| ((x & !HIGH) + !HIGH) | x;
    let quote = !nonzero(word ^ (LOW * u64::from(b'"')));
    let backslash = !nonzero(word ^ (LOW * u64::from(b'\\')));
    let from_space = ((word & !HIGH) + LOW * 0x60) | word;
    (quote | backslash | !from_space) & HIGH
}

/// The high bits of eight bytes as the low bits of one.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn gather(bits: u64) -> u32 {
    ((bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::{
        BLOCK, Marks, equal, other_than_digits, portable_equal, portable_other_than_digits,
    };

    #[test]
    fn every_byte_at_every_place_is_marked_as_it_should_be() {
        for byte in 0..=u8::MAX {
            for place in 0..BLOCK {
                for filler in [b'a', 0x7f, 0x80, 0xff, b'!'] {
                    let mut bytes = [filler; BLOCK];
                    bytes[place] = byte;
                    let block = u128::from_le_bytes(bytes);
                    let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                    let marks = Marks::of(block);
                    assert_eq!(marks.special, u32::from(special) << place, "{bytes:?}");
                    assert_eq!(
                        marks.non_ascii & (1 << place) != 0,
                        byte >= 0x80,
                        "{bytes:?}"
                    );
                    assert_eq!(marks, Marks::portable(block), "{bytes:?}");
                    let others = other_than_digits(block);
                    let digit = others & (1 << place) == 0;
                    assert_eq!(digit, byte.is_ascii_digit(), "{bytes:?}");
                    assert_eq!(others >> BLOCK, 1, "{bytes:?}");
                    assert_eq!(others, portable_other_than_digits(block), "{bytes:?}");
                    let fillers = u128::from_le_bytes([filler; BLOCK]);
                    let same = 0xffff ^ u32::from(byte != filler) << place;
                    assert_eq!(equal(block, fillers), same, "{bytes:?}");
                    assert_eq!(portable_equal(block, fillers), same, "{bytes:?}");
                }
            }
        }
    }
}
