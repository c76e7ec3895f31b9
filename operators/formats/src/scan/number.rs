//! Numbers: eight digits at a time, exact where that is enough, and by the book where it is not.

use super::{Cursor, Stop};

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
    /// The value if it is an integer that `i64` holds.
    ///
    /// `-0` is none: it is a float in `serde_json`, and so here.
    #[inline(always)]
    pub(crate) fn int64(&self) -> Option<i64> {
        if !self.integer || !self.exact {
            return None;
        }
        if self.negative {
            let value = 0i64.checked_sub_unsigned(self.mantissa)?;
            (value != 0).then_some(value)
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

impl Cursor<'_> {
    /// Passes a number.
    #[inline(always)]
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
    #[inline(always)]
    fn digits(&mut self, mut value: u64) -> Result<u64, Stop> {
        const ZEROS: u64 = 0x3030_3030_3030_3030;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        const SEVENS: u64 = 0x7676_7676_7676_7676;
        let first = self.pos;
        loop {
            // A digit becomes its value; the high bit of `over` is set in all other bytes.
            let word = self.word(self.pos) ^ ZEROS;
            let over = (((word & !HIGH) + SEVENS) | word) & HIGH;
            if over == 0 {
                value = value
                    .wrapping_mul(RUN_SHIFT[8])
                    .wrapping_add(eight_digits(word));
                self.pos += 8;
                if self.beyond() {
                    return Err(Stop::Syntax);
                }
                continue;
            }
            let run = over.trailing_zeros() / 8;
            self.pos += run as usize;
            if run > 0 {
                // Zeros move in where the leading digits are read from.
                let word = word << (64 - 8 * run);
                value = value
                    .wrapping_mul(RUN_SHIFT[run as usize & 7])
                    .wrapping_add(eight_digits(word));
            } else if self.pos == first {
                return Err(Stop::Syntax);
            }
            return Ok(value);
        }
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
        while self.byte().is_ascii_digit() {
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
