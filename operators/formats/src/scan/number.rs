//! Numbers: eight digits at a time, exact where that is enough, and by the book where it is not.

use super::{BLOCK, Cursor, Stop, block};

/// Powers of ten that a 64-bit float holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Powers of ten by which a run of at most eight digits moves what stands before it.
const RUN_SHIFT: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// Eight zeros.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// Most digits that a `u64` always holds.
const EXACT_DIGITS: usize = 19;

/// A number that was passed: `mantissa · 10^exponent`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    /// Position of its first byte.
    pub(crate) start: usize,
    /// Position behind its last byte.
    pub(crate) end: usize,
    /// Its digits without the point; meaningful if `exact`.
    pub(crate) mantissa: u64,
    /// The power of ten; saturated far beyond any float.
    pub(crate) exponent: i32,
    /// Whether it has a minus sign.
    pub(crate) negative: bool,
    /// Whether it is written without point and exponent.
    pub(crate) integer: bool,
    /// Whether `mantissa` holds all of its digits.
    pub(crate) exact: bool,
}

impl Number {
    /// The value if it is an integer that `i64` holds; that of `-0` is 0.
    #[inline(always)]
    pub(crate) fn int64(&self) -> Option<i64> {
        if !self.integer || !self.exact {
            return None;
        }
        if self.negative {
            0i64.checked_sub_unsigned(self.mantissa)
        } else {
            i64::try_from(self.mantissa).ok()
        }
    }

    /// The nearest float to the number, which stands in `bytes`; finite, for it has been passed.
    #[inline(always)]
    pub(crate) fn float64(&self, bytes: &[u8]) -> f64 {
        // Both operands are exact, so that IEEE 754 rounds the one operation correctly
        // (W. D. Clinger, "How to read floating point numbers accurately", 1990).
        if self.exact && self.mantissa <= 1 << 53 {
            let power = POWERS_OF_TEN.get(self.exponent.unsigned_abs() as usize);
            if let Some(power) = power {
                let mantissa = self.mantissa as f64;
                let value = if self.exponent < 0 {
                    mantissa / power
                } else {
                    mantissa * power
                };
                return if self.negative { -value } else { value };
            }
        }
        self.float64_slow(bytes)
    }

    #[cold]
    #[inline(never)]
    fn float64_slow(&self, bytes: &[u8]) -> f64 {
        let text = bytes.get(self.start..self.end).unwrap_or_default();
        // Only an empty text or one with other characters than a number's could fail.
        fast_float2::parse(text).unwrap_or(f64::INFINITY)
    }

    /// The nearest 32-bit float, infinite if there is none.
    pub(crate) fn float32(&self, bytes: &[u8]) -> f32 {
        let text = bytes.get(self.start..self.end).unwrap_or_default();
        fast_float2::parse(text).unwrap_or(f32::INFINITY)
    }
}

/// What the block at a number's first byte looks like; positions in it, 16 for beyond.
#[derive(Clone, Copy)]
struct Shape {
    /// Bytes of its sign: 0 or 1.
    sign: u32,
    /// Where the digits from the sign on end.
    whole: u32,
    /// Whether a point is there.
    point: bool,
    /// Where the digits behind that point end.
    end: u32,
}

impl Shape {
    /// Whether there is a digit before the point, and no zero in front of others.
    #[inline(always)]
    fn whole_is_usual(self, cursor: &Cursor<'_>, at: usize) -> bool {
        let first = cursor.at(at + self.sign as usize);
        (self.whole > self.sign) & ((self.whole == self.sign + 1) | (first != b'0'))
    }
}

impl Cursor<'_> {
    /// The integer at `at`, of at most 16 digits with its sign, and where it ends; nothing if
    /// anything else is there.
    #[inline(always)]
    pub(crate) fn short_integer(&self, at: usize) -> Option<(i64, usize)> {
        let shape = self.shape(at);
        let digits = shape.whole - shape.sign;
        let end = at + shape.whole as usize;
        // No short cuts: lengths differ from record to record, and a branch on what cannot be
        // foretold costs more than all of this.
        let usual = shape.whole_is_usual(self, at) & (end >= BLOCK);
        if !usual {
            return None;
        }
        // Digits are read from their end, where they are aligned as they are needed; what stands
        // before them becomes zeros.
        let mantissa = if digits <= 8 {
            let word = self.word(end - 8) ^ ZEROS;
            eight_digits(word & (u64::MAX << (64 - 8 * digits)))
        } else {
            let high = (self.word(end - 16) ^ ZEROS) & (u64::MAX << (128 - 8 * digits));
            let low = self.word(end - 8) ^ ZEROS;
            eight_digits(high) * 100_000_000 + eight_digits(low)
        };
        let sign = i64::from(shape.sign);
        Some(((mantissa.cast_signed() ^ -sign) + sign, end))
    }

    /// The number at `at` and where it ends, if it has a point, eight digits at most and no
    /// exponent; nothing if anything else is there.
    #[inline(always)]
    pub(crate) fn short_float(&self, at: usize) -> Option<(f64, usize)> {
        let shape = self.shape(at);
        let digits = shape.end.wrapping_sub(shape.sign);
        let end = at + shape.end as usize;
        let usual = shape.point
            & shape.whole_is_usual(self, at)
            & (shape.end > shape.whole + 1)
            & (digits <= 8);
        if !usual {
            return None;
        }
        // Take the point out, so that the digits stand side by side, and read them at once.
        let word = self.word(at + shape.sign as usize) ^ ZEROS;
        let before = !(u64::MAX << (8 * (shape.whole - shape.sign)));
        let word = (word & before) | ((word >> 8) & !before);
        let mantissa = eight_digits(word << (8 * (9 - digits)));
        let power = POWERS_OF_TEN[(shape.end - shape.whole - 1) as usize & 7];
        // As in `Number::float64`.
        let value = mantissa as f64 / power;
        let sign = u64::from(shape.sign) << 63;
        Some((f64::from_bits(value.to_bits() | sign), end))
    }

    /// Where the number at `at` ends, if within a block and without exponent; nothing if anything
    /// else is there.
    #[inline(always)]
    pub(crate) fn short_number(&self, at: usize) -> Option<usize> {
        let shape = self.shape(at);
        let end = if shape.point { shape.end } else { shape.whole };
        let end_at = at + end as usize;
        let usual = shape.whole_is_usual(self, at) & (!shape.point | (shape.end > shape.whole + 1));
        usual.then_some(end_at)
    }

    /// Looks at the block at `at` as at a number.
    #[inline(always)]
    fn shape(&self, at: usize) -> Shape {
        let sign = u32::from(self.at(at) == b'-');
        // The bit above the block stands for all that is behind it.
        let others = block::other_than_digits(self.block(at)) & !sign;
        let whole = others.trailing_zeros();
        let behind = (others & others.wrapping_sub(1)) | 1 << BLOCK;
        Shape {
            sign,
            whole,
            point: self.at(at + whole as usize) == b'.',
            end: behind.trailing_zeros(),
        }
    }

    /// The same for longer ones, and without a point, if its float is exact or one division away
    /// from it.
    #[inline(always)]
    pub(crate) fn longer_float(&self, at: usize) -> Option<(f64, usize)> {
        let negative = self.at(at) == b'-';
        let first = at + usize::from(negative);
        let (mut mantissa, mut end) = self.short_digits(first, 0);
        let whole = end - first;
        let leading_zero = (whole > 1) & (self.at(first) == b'0');
        let mut fraction = 0;
        if self.at(end) == b'.' {
            let point = end;
            (mantissa, end) = self.short_digits(point + 1, mantissa);
            fraction = end - point - 1;
            if fraction == 0 {
                return None;
            }
        }
        let power = POWERS_OF_TEN.get(fraction)?;
        let unusual =
            leading_zero | (whole == 0) | (whole + fraction > EXACT_DIGITS) | (mantissa > 1 << 53);
        // As in `Number::float64`.
        let value = mantissa as f64 / power;
        (!unusual).then_some((if negative { -value } else { value }, end))
    }

    /// Appends the digits from `at` on to `value`, modulo 2^64, and says where they end; stops
    /// after 24 of them.
    #[inline(always)]
    fn short_digits(&self, mut at: usize, mut value: u64) -> (u64, usize) {
        for _ in 0..3 {
            let (digits, run) = leading_digits(self.word(at));
            value = value.wrapping_mul(RUN_SHIFT[run]).wrapping_add(digits);
            at += run;
            if run != 8 {
                break;
            }
        }
        (value, at)
    }

    /// Passes a number.
    #[inline(never)]
    pub(crate) fn number(&mut self) -> Result<Number, Stop> {
        let start = self.pos;
        let negative = self.byte() == b'-';
        self.pos += usize::from(negative);

        let first = self.pos;
        let leading_zero = self.byte() == b'0';
        let mut mantissa = self.digits(0)?;
        let whole_digits = self.pos - first;
        if leading_zero && whole_digits > 1 {
            return Err(Stop::Syntax);
        }
        let mut digits = whole_digits;
        let mut exponent = 0;
        let mut integer = true;
        if self.byte() == b'.' {
            integer = false;
            self.pos += 1;
            let first = self.pos;
            mantissa = self.digits(mantissa)?;
            let fraction = self.pos - first;
            digits += fraction;
            exponent = -i32::try_from(fraction).unwrap_or(i32::MAX);
        }
        if self.byte() | 0x20 == b'e' {
            integer = false;
            exponent = exponent.saturating_add(self.exponent()?);
        }
        let number = Number {
            start,
            end: self.pos,
            mantissa,
            exponent,
            negative,
            integer,
            exact: digits <= EXACT_DIGITS,
        };
        // Less than ten to the 308th for sure, or else looked at more closely.
        let magnitude = i32::try_from(digits).unwrap_or(i32::MAX);
        if magnitude.saturating_add(exponent) > 308
            && number.float64_slow(self.bytes()).is_infinite()
        {
            return Err(Stop::NumberRange);
        }
        Ok(number)
    }

    /// Passes one or more digits and appends them to `value`, modulo 2^64.
    #[inline]
    fn digits(&mut self, mut value: u64) -> Result<u64, Stop> {
        let first = self.pos;
        loop {
            let (digits, run) = leading_digits(self.word(self.pos));
            value = value.wrapping_mul(RUN_SHIFT[run]).wrapping_add(digits);
            self.pos += run;
            if run != 8 {
                break;
            }
            if self.beyond() {
                return Err(Stop::Syntax);
            }
        }
        if self.pos == first {
            return Err(Stop::Syntax);
        }
        Ok(value)
    }

    /// Passes the letter, the sign and the digits of an exponent.
    #[cold]
    #[inline(never)]
    fn exponent(&mut self) -> Result<i32, Stop> {
        self.pos += 1;
        let negative = self.byte() == b'-';
        self.pos += usize::from(negative || self.byte() == b'+');
        let first = self.pos;
        let mut value: i32 = 0;
        while self.byte().is_ascii_digit() && !self.beyond() {
            let digit = i32::from(self.byte() - b'0');
            value = value.saturating_mul(10).saturating_add(digit);
            self.pos += 1;
        }
        if self.pos == first {
            return Err(Stop::Syntax);
        }
        Ok(if negative { -value } else { value })
    }
}

/// The high bit of every byte that is no digit.
#[inline(always)]
fn other_than_digits(word: u64) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const UP_TO_HIGH: u64 = 0x7676_7676_7676_7676;
    let word = word ^ ZEROS;
    (((word & !HIGH) + UP_TO_HIGH) | word) & HIGH
}

/// The value of the digits that eight bytes begin with, and how many they are.
#[inline(always)]
fn leading_digits(word: u64) -> (u64, usize) {
    let bits = other_than_digits(word).trailing_zeros() & !7;
    // Digits become their values and move up, and zeros move in where the leading ones are read
    // from.
    let digits = (word ^ ZEROS).checked_shl(64 - bits).unwrap_or(0);
    (eight_digits(digits), (bits / 8) as usize)
}

/// The value of eight digits, one a byte, the first one lowest.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    // Three multiplications join pairs, then pairs of pairs (D. Lemire, "Quickly parsing eight
    // digits", 2018).
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    const HIGH_PAIRS: u64 = 100 + (1_000_000 << 32);
    const LOW_PAIRS: u64 = 1 + (10_000 << 32);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & PAIRS).wrapping_mul(HIGH_PAIRS);
    let low = ((pairs >> 16) & PAIRS).wrapping_mul(LOW_PAIRS);
    high.wrapping_add(low) >> 32
}
