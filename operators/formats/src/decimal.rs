//! Decimal numbers, digit by digit: never by way of a float.

/// What to do with digits beyond the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Refuse them unless they are zeros.
    Exact,
    /// Round to the nearest, halves away from zero.
    HalfAway,
    /// Round towards negative infinity.
    Floor,
}

/// Why a number has no such decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecimalError {
    /// It has digits beyond the scale.
    Inexact,
    /// It has more than 38 digits.
    Overflow,
}

/// Most digits that an `i128` always holds.
const DIGITS_MAX: i64 = 38;

/// `text · 10^scale` as an integer; `text` is a valid JSON number.
pub(crate) fn read(text: &[u8], scale: i32, rounding: Rounding) -> Result<i128, DecimalError> {
    let negative = text.first() == Some(&b'-');
    let letter = text.iter().position(|b| b | 0x20 == b'e');
    let (digits, exponent) = text.split_at(letter.unwrap_or(text.len()));
    let point = digits.iter().position(|b| *b == b'.');
    let fraction = point.map_or(0, |at| digits.len() - at - 1);

    let significant = || {
        (digits.iter())
            .filter(|b| b.is_ascii_digit())
            .skip_while(|b| **b == b'0')
    };
    let count = significant().count() as i64;
    let shift = read_exponent(exponent) - fraction as i64 + i64::from(scale);
    // The digits that stay; the others lie behind the scale.
    let keep = count + shift.min(0);
    if count > 0 && keep + shift.max(0) > DIGITS_MAX {
        return Err(DecimalError::Overflow);
    }
    let kept = usize::try_from(keep).unwrap_or(0);
    let mut value: i128 = 0;
    for digit in significant().take(kept) {
        value = value * 10 + i128::from(digit - b'0');
    }
    if count > 0 {
        for _ in 0..shift.max(0) {
            value *= 10;
        }
    }
    let mut dropped = significant().skip(kept);
    let first_dropped = if keep >= 0 {
        dropped.clone().next()
    } else {
        None
    };
    let inexact = dropped.any(|b| *b != b'0');
    let up = match rounding {
        Rounding::Exact if inexact => return Err(DecimalError::Inexact),
        Rounding::Exact => false,
        Rounding::HalfAway => first_dropped.is_some_and(|b| *b >= b'5'),
        Rounding::Floor => inexact && negative,
    };
    value += i128::from(up);
    Ok(if negative { -value } else { value })
}

/// The value of `e…` or of nothing, cut off far beyond any number that fits.
fn read_exponent(text: &[u8]) -> i64 {
    let negative = text.get(1) == Some(&b'-');
    let digits = text.iter().filter(|b| b.is_ascii_digit());
    let value = digits.fold(0i64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
            .min(1 << 40)
    });
    if negative { -value } else { value }
}

/// Whether `value` has at most `precision` digits.
pub(crate) fn fits(value: i128, precision: u8) -> bool {
    value.unsigned_abs() < 10u128.saturating_pow(u32::from(precision))
}

/// Appends `value · 10^-scale` as a JSON number with all digits of its scale.
pub(crate) fn write(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs()).as_bytes();
    if value < 0 {
        out.push(b'-');
    }
    if scale <= 0 {
        out.extend_from_slice(digits);
        if value != 0 {
            out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
        }
        return;
    }
    let scale = usize::from(scale.unsigned_abs());
    let zeros = (scale + 1).saturating_sub(digits.len());
    let mut all = std::iter::repeat_n(b'0', zeros).chain(digits.iter().copied());
    let whole = zeros + digits.len() - scale;
    out.extend(all.by_ref().take(whole));
    out.push(b'.');
    out.extend(all);
}

#[cfg(test)]
mod tests {
    use super::{DecimalError, Rounding, fits, read, write};

    #[test]
    fn numbers_become_decimals_without_loss() {
        use Rounding::{Exact, Floor, HalfAway};
        for (text, scale, rounding, expected) in [
            ("1.25", 2, Exact, Ok(125)),
            ("-1.25", 2, Exact, Ok(-125)),
            ("1.2", 3, Exact, Ok(1_200)),
            ("1.250", 2, Exact, Ok(125)),
            ("1.251", 2, Exact, Err(DecimalError::Inexact)),
            ("1.255", 2, HalfAway, Ok(126)),
            ("-1.255", 2, HalfAway, Ok(-126)),
            ("1.2549999", 2, HalfAway, Ok(125)),
            ("0.005", 2, HalfAway, Ok(1)),
            ("0.0049", 2, HalfAway, Ok(0)),
            ("0.0009", 2, HalfAway, Ok(0)),
            ("9.999", 2, HalfAway, Ok(1_000)),
            ("1.5", 0, Floor, Ok(1)),
            ("-1.5", 0, Floor, Ok(-2)),
            ("-2.0", 0, Floor, Ok(-2)),
            ("-0.001", 0, Floor, Ok(-1)),
            ("1e3", 2, Exact, Ok(100_000)),
            ("12E-1", 1, Exact, Ok(12)),
            ("125e-2", 1, Exact, Err(DecimalError::Inexact)),
            ("0e99999999999999999999", 2, Exact, Ok(0)),
            ("1e-99999999999999999999", 2, HalfAway, Ok(0)),
            ("0.00", 1, Exact, Ok(0)),
            ("1767225600123", -3, Floor, Ok(1_767_225_600)),
            ("1e37", 0, Exact, Ok(10i128.pow(37))),
            ("1e38", 0, Exact, Err(DecimalError::Overflow)),
            (
                "99999999999999999999999999999999999999",
                0,
                Exact,
                Ok(10i128.pow(38) - 1),
            ),
        ] {
            assert_eq!(read(text.as_bytes(), scale, rounding), expected, "{text}");
        }
        assert!(fits(-999, 3) && !fits(1_000, 3));
    }

    #[test]
    fn decimals_are_written_with_their_scale() {
        for (value, scale, expected) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (12_345, 2, "123.45"),
            (-100, 2, "-1.00"),
            (7, 0, "7"),
            (7, -2, "700"),
            (
                10i128.pow(38) - 1,
                38,
                "0.99999999999999999999999999999999999999",
            ),
        ] {
            let mut out = Vec::new();
            write(value, scale, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
