//! Sixteen bytes of a string at a time: which of them need a closer look.

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
    use super::{BLOCK, Marks};

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
                }
            }
        }
    }
}
