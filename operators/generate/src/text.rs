//! Numbers and times as text, appended to a buffer.

/// Appends a whole number.
pub(crate) fn whole(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a whole number with at least `width` digits (at most 20).
pub(crate) fn padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value).as_bytes();
    let zeros = width.saturating_sub(digits.len());
    out.extend_from_slice(b"00000000000000000000".get(..zeros).unwrap_or_default());
    out.extend_from_slice(digits);
}

/// Appends `value` / 10^`digits` with exactly `digits` digits behind the point.
pub(crate) fn decimal(out: &mut Vec<u8>, value: i64, digits: u32) {
    if value < 0 {
        out.push(b'-');
    }
    let (value, scale) = (value.unsigned_abs(), 10u64.pow(digits));
    whole(out, value / scale);
    out.push(b'.');
    padded(out, value % scale, digits as usize);
}

/// Appends a time as RFC 3339 in UTC with milliseconds. Years beyond 0 to 9999 are written as they
/// are, which RFC 3339 does not know.
pub(crate) fn rfc3339(out: &mut Vec<u8>, time_ms: i64) {
    let (days, of_day) = (
        time_ms.div_euclid(86_400_000),
        time_ms.rem_euclid(86_400_000).unsigned_abs(),
    );
    let (year, month, day) = date(days);
    if year < 0 {
        out.push(b'-');
    }
    padded(out, year.unsigned_abs(), 4);
    for (separator, part) in [
        (b'-', month),
        (b'-', day),
        (b'T', of_day / 3_600_000),
        (b':', of_day / 60_000 % 60),
        (b':', of_day / 1_000 % 60),
    ] {
        out.push(separator);
        padded(out, part, 2);
    }
    out.push(b'.');
    padded(out, of_day % 1_000, 3);
    out.push(b'Z');
}

/// Year, month and day of a number of days since the Unix epoch.
///
/// After H. Hinnant, "chrono-compatible low-level date algorithms": years begin in March, so that
/// the leap day is the last.
fn date(days: i64) -> (i64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_based = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_based + 2) / 5 + 1;
    let month = (march_based + 2) % 12 + 1;
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month.unsigned_abs(), day.unsigned_abs())
}

#[cfg(test)]
mod tests {
    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_with_their_digits() {
        assert_eq!(text(|out| super::padded(out, 4217, 6)), "004217");
        assert_eq!(text(|out| super::padded(out, 1_234_567, 6)), "1234567");
        assert_eq!(text(|out| super::decimal(out, 2137, 2)), "21.37");
        assert_eq!(text(|out| super::decimal(out, -5, 2)), "-0.05");
        assert_eq!(text(|out| super::decimal(out, 0, 1)), "0.0");
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (time_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (crate::GenerateSpec::START_MS, "2026-01-01T00:00:00.000Z"),
            (1_772_323_199_007, "2026-02-28T23:59:59.007Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(text(|out| super::rfc3339(out, time_ms)), expected);
        }
    }
}
