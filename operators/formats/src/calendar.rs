//! Dates and times as text: RFC 3339, patterns of a definition, and back.
//!
//! Everything is proleptic Gregorian and UTC, in days or milliseconds since the Unix epoch.

mod pattern;

pub(crate) use pattern::Pattern;

const DAY_MS: i64 = 86_400_000;

/// Days since the Unix epoch of a date, whose month and day must be valid.
///
/// After H. Hinnant, "chrono-compatible low-level date algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since the Unix epoch; the inverse of the above.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the Unix epoch, if there is such a date.
fn checked_days(year: i64, month: i64, day: i64) -> Option<i64> {
    let valid = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    valid.then(|| days_from_civil(year, month, day))
}

/// Reads text from its beginning.
#[derive(Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        let found = self.peek()? == byte;
        self.skip(1);
        found.then_some(())
    }

    /// A number of `least` to `most` digits.
    fn digits(&mut self, least: usize, most: usize) -> Option<i64> {
        let mut value = 0;
        let mut count = 0;
        while count < most {
            let Some(digit) = self.peek().filter(u8::is_ascii_digit) else {
                break;
            };
            value = value * 10 + i64::from(digit - b'0');
            self.skip(1);
            count += 1;
        }
        (count >= least).then_some(value)
    }

    /// One or more digits behind a decimal point, as milliseconds, the rest cut off.
    fn fraction_ms(&mut self) -> Option<i64> {
        let mut value = 0;
        let mut scale = 100;
        let mut any = false;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            value += scale * i64::from(digit - b'0');
            scale /= 10;
            any = true;
            self.skip(1);
        }
        any.then_some(value)
    }

    /// `Z` or `±hh:mm` (the colon may be missing if `loose`), as milliseconds east of UTC.
    fn zone_ms(&mut self, loose: bool) -> Option<i64> {
        let sign = match self.peek()? {
            b'Z' | b'z' => {
                self.skip(1);
                return Some(0);
            }
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.skip(1);
        let hours = self.digits(2, 2)?;
        if !loose || self.peek() == Some(b':') {
            self.expect(b':')?;
        }
        let minutes = self.digits(2, 2)?;
        (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
    }

    /// `YYYY-MM-DD` as days.
    fn date(&mut self) -> Option<i64> {
        let year = self.digits(4, 4)?;
        self.expect(b'-')?;
        let month = self.digits(2, 2)?;
        self.expect(b'-')?;
        checked_days(year, month, self.digits(2, 2)?)
    }
}

/// Milliseconds of an RFC 3339 time; digits beyond the millisecond are cut off, a leap second
/// (`23:59:60` UTC at the end of a month) is the second after it. Without an offset it is refused, or taken for UTC if `offset_optional`.
pub(crate) fn parse_rfc3339(text: &[u8], offset_optional: bool) -> Option<i64> {
    let mut reader = Reader { rest: text };
    let days = reader.date()?;
    if !matches!(reader.peek()?, b'T' | b't' | b' ') {
        return None;
    }
    reader.skip(1);
    let hour = reader.digits(2, 2)?;
    reader.expect(b':')?;
    let minute = reader.digits(2, 2)?;
    reader.expect(b':')?;
    let second = reader.digits(2, 2)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut fraction_ms = 0;
    if reader.peek() == Some(b'.') {
        reader.skip(1);
        fraction_ms = reader.fraction_ms()?;
    }
    let zone_ms = match reader.peek() {
        None if offset_optional => 0,
        _ => reader.zone_ms(false)?,
    };
    let time_ms = ((hour * 60 + minute) * 60 + second) * 1_000 + fraction_ms;
    let utc_ms = days * DAY_MS + time_ms - zone_ms;
    // Leap seconds end a month of UTC: counted as the second after it, they begin the next.
    let leaps = second < 60 || begins_month(utc_ms - fraction_ms);
    (leaps && reader.rest.is_empty()).then_some(utc_ms)
}

/// Whether a time is the first instant of a month.
fn begins_month(time_ms: i64) -> bool {
    time_ms.rem_euclid(DAY_MS) == 0 && civil_from_days(time_ms.div_euclid(DAY_MS)).2 == 1
}

/// Days since the Unix epoch of `YYYY-MM-DD`.
pub(crate) fn parse_date(text: &[u8]) -> Option<i32> {
    let mut reader = Reader { rest: text };
    let days = reader.date()?;
    if !reader.rest.is_empty() {
        return None;
    }
    i32::try_from(days).ok()
}

/// The date a time falls on in UTC, as days since the Unix epoch.
pub(crate) fn date_of(ms: i64) -> Option<i32> {
    i32::try_from(ms.div_euclid(DAY_MS)).ok()
}

/// Appends `YYYY-MM-DD`; a year beyond four digits gets its sign (ISO 8601).
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    let tens = |value: i64| b'0' + (value / 10 % 10) as u8;
    let ones = |value: i64| b'0' + (value % 10) as u8;
    if (0..=9_999).contains(&year) {
        let century = year / 100;
        out.extend_from_slice(&[
            tens(century),
            ones(century),
            tens(year),
            ones(year),
            b'-',
            tens(month),
            ones(month),
            b'-',
            tens(day),
            ones(day),
        ]);
    } else {
        out.extend_from_slice(format!("{year:+07}-{month:02}-{day:02}").as_bytes());
    }
}

/// Appends a time as RFC 3339 with milliseconds and `Z`.
pub(crate) fn write_timestamp(ms: i64, out: &mut Vec<u8>) {
    write_date(ms.div_euclid(DAY_MS), out);
    let time = ms.rem_euclid(DAY_MS);
    let pair = |value: i64| [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
    let ([h, i], [m, n], [s, t]) = (
        pair(time / 3_600_000),
        pair(time / 60_000 % 60),
        pair(time / 1_000 % 60),
    );
    let milli = time % 1_000;
    let ([u, v], w) = (pair(milli / 10), b'0' + (milli % 10) as u8);
    out.extend_from_slice(&[b'T', h, i, b':', m, n, b':', s, t, b'.', u, v, w, b'Z']);
}

#[cfg(test)]
mod tests {
    use super::{
        civil_from_days, date_of, days_from_civil, parse_date, parse_rfc3339, write_date,
        write_timestamp,
    };

    fn written(ms: i64) -> String {
        let mut out = Vec::new();
        write_timestamp(ms, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn dates_count_up_by_one() {
        let mut expected = days_from_civil(-401, 1, 1);
        for year in -401..=2_801 {
            for month in 1..=12 {
                for day in 1..=super::days_in_month(year, month) {
                    assert_eq!(days_from_civil(year, month, day), expected);
                    assert_eq!(civil_from_days(expected), (year, month, day));
                    expected += 1;
                }
            }
        }
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 3, 1), 11_017);
    }

    #[test]
    fn rfc_3339_is_read() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-01T00:00:00.123Z", 1_767_225_600_123),
            ("2026-01-01t00:00:00.1z", 1_767_225_600_100),
            ("2026-01-01 00:00:00.1239999Z", 1_767_225_600_123),
            ("2026-01-01T01:30:00+01:30", 1_767_225_600_000),
            ("2025-12-31T19:00:00-05:00", 1_767_225_600_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("2017-01-01T00:59:60.5+01:00", 1_483_228_800_500),
            ("0000-02-29T00:00:00Z", -62_162_121_600_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes(), false), Some(ms), "{text}");
        }
        for text in [
            "",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T01:00:60.123+01:00",
            "2016-12-30T23:59:60Z",
            "2016-12-31T23:59:60+01:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00Zx",
            "26-01-01T00:00:00Z",
            "2026-01-01X00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes(), false), None, "{text}");
        }
        let local = b"2026-01-01T00:00:00";
        assert_eq!(parse_rfc3339(local, true), Some(1_767_225_600_000));
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(written(1_767_225_600_123), "2026-01-01T00:00:00.123Z");
        assert_eq!(written(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(written(i64::MAX), "+292278994-08-17T07:12:55.807Z");
        assert_eq!(written(i64::MIN), "-292275055-05-16T16:47:04.192Z");
        for ms in (-62_167_219_200_000..253_402_300_800_000_i64).step_by(98_765_432_101) {
            assert_eq!(parse_rfc3339(written(ms).as_bytes(), false), Some(ms));
            let days = date_of(ms).expect("in range");
            let mut date = Vec::new();
            write_date(days.into(), &mut date);
            assert_eq!(parse_date(&date), Some(days));
        }
        assert_eq!(parse_date(b"2026-01-01x"), None);
        assert_eq!(parse_date(b"2026-1-1"), None);
    }
}
