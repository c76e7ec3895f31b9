//! Patterns for timestamps in the notation of `strftime` (POSIX), as far as it names digits, zones
//! and English month names.
//!
//! | directive | what it reads |
//! |---|---|
//! | `%Y` `%y` | year of four digits; of two, 69 to 99 in the last century (POSIX) |
//! | `%m` `%d` `%e` `%j` | month, day of the month (one or two digits), day of the year |
//! | `%b` `%B` | English month name, short or long, in any case |
//! | `%H` `%I` `%p` | hour, hour of twelve, AM or PM |
//! | `%M` `%S` `%f` | minute, second, fraction of a second (any number of digits) |
//! | `%z` | `Z`, `+hh:mm` or `+hhmm`; without it the time is UTC |
//! | `%s` | seconds since the Unix epoch |
//! | `%F` `%T` `%D` `%R` | `%Y-%m-%d`, `%H:%M:%S`, `%m/%d/%y`, `%H:%M` |
//! | `%%` | a percent sign |
//!
//! White space in a pattern matches any amount of it; everything else matches itself.

use super::{DAY_MS, Reader, checked_days, days_from_civil, is_leap};

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Literal(u8),
    Space,
    Year,
    ShortYear,
    Month,
    MonthName,
    Day,
    DayOfYear,
    Hour,
    Hour12,
    Half,
    Minute,
    Second,
    Fraction,
    Zone,
    UnixSeconds,
}

/// What a text says, as far as it has been read.
#[derive(Debug)]
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    day_of_year: Option<i64>,
    hour: i64,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    fraction_ms: i64,
    zone_ms: i64,
    unix_seconds: Option<i64>,
}

impl Pattern {
    /// Compiles `pattern`, or says which part of it is not understood.
    pub(crate) fn compile(pattern: &str) -> Result<Self, String> {
        let mut items = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            if character.is_ascii_whitespace() {
                items.push(Item::Space);
                continue;
            }
            if character != '%' {
                let mut bytes = [0; 4];
                let bytes = character.encode_utf8(&mut bytes).bytes();
                items.extend(bytes.map(Item::Literal));
                continue;
            }
            let directive = characters.next();
            items.extend_from_slice(match directive {
                Some('Y') => &[Item::Year],
                Some('y') => &[Item::ShortYear],
                Some('m') => &[Item::Month],
                Some('b' | 'B' | 'h') => &[Item::MonthName],
                Some('d' | 'e') => &[Item::Day],
                Some('j') => &[Item::DayOfYear],
                Some('H' | 'k') => &[Item::Hour],
                Some('I' | 'l') => &[Item::Hour12],
                Some('p' | 'P') => &[Item::Half],
                Some('M') => &[Item::Minute],
                Some('S') => &[Item::Second],
                Some('f') => &[Item::Fraction],
                Some('z') => &[Item::Zone],
                Some('s') => &[Item::UnixSeconds],
                Some('F') => &[
                    Item::Year,
                    Item::Literal(b'-'),
                    Item::Month,
                    Item::Literal(b'-'),
                    Item::Day,
                ],
                Some('T') => &[
                    Item::Hour,
                    Item::Literal(b':'),
                    Item::Minute,
                    Item::Literal(b':'),
                    Item::Second,
                ],
                Some('D') => &[
                    Item::Month,
                    Item::Literal(b'/'),
                    Item::Day,
                    Item::Literal(b'/'),
                    Item::ShortYear,
                ],
                Some('R') => &[Item::Hour, Item::Literal(b':'), Item::Minute],
                Some('%') => &[Item::Literal(b'%')],
                Some(other) => return Err(format!("unknown directive %{other}")),
                None => return Err("it ends with a lone %".to_owned()),
            });
        }
        let has = |item: &[Item]| items.iter().any(|i| item.contains(i));
        let dated = has(&[Item::Year, Item::ShortYear])
            && (has(&[Item::DayOfYear])
                || has(&[Item::Month, Item::MonthName]) && has(&[Item::Day]));
        if !dated && !has(&[Item::UnixSeconds]) {
            return Err("it does not name year, month and day".to_owned());
        }
        if has(&[Item::Hour12]) != has(&[Item::Half]) {
            return Err("an hour of twelve (%I) goes with AM or PM (%p)".to_owned());
        }
        Ok(Self { items })
    }

    /// The time that `text` says, in milliseconds, if it matches as a whole.
    pub(crate) fn parse(&self, text: &[u8]) -> Option<i64> {
        let mut reader = Reader { rest: text };
        let mut parts = Parts {
            year: 0,
            month: 1,
            day: 1,
            day_of_year: None,
            hour: 0,
            afternoon: None,
            minute: 0,
            second: 0,
            fraction_ms: 0,
            zone_ms: 0,
            unix_seconds: None,
        };
        for item in &self.items {
            parts.read(*item, &mut reader)?;
        }
        if !reader.rest.is_empty() {
            return None;
        }
        parts.ms()
    }
}

impl Parts {
    fn read(&mut self, item: Item, reader: &mut Reader<'_>) -> Option<()> {
        match item {
            Item::Literal(byte) => reader.expect(byte)?,
            Item::Space => {
                while reader.peek().is_some_and(|b| b.is_ascii_whitespace()) {
                    reader.skip(1);
                }
            }
            Item::Year => self.year = reader.digits(4, 4)?,
            Item::ShortYear => {
                let year = reader.digits(2, 2)?;
                self.year = if year < 69 {
                    2_000 + year
                } else {
                    1_900 + year
                };
            }
            Item::Month => self.month = reader.digits(1, 2)?,
            Item::MonthName => self.month = month_name(reader)?,
            Item::Day => self.day = reader.digits(1, 2)?,
            Item::DayOfYear => self.day_of_year = Some(reader.digits(1, 3)?),
            Item::Hour => self.hour = reader.digits(1, 2)?,
            Item::Hour12 => {
                let hour = reader.digits(1, 2)?;
                if !(1..=12).contains(&hour) {
                    return None;
                }
                self.hour = hour % 12;
            }
            Item::Half => {
                self.afternoon = match reader.peek()? {
                    b'A' | b'a' => Some(false),
                    b'P' | b'p' => Some(true),
                    _ => return None,
                };
                reader.skip(1);
                let rest_of_word = reader.peek()?.to_ascii_lowercase();
                reader.skip(1);
                if rest_of_word != b'm' {
                    return None;
                }
            }
            Item::Minute => self.minute = reader.digits(1, 2)?,
            Item::Second => self.second = reader.digits(1, 2)?,
            Item::Fraction => self.fraction_ms = reader.fraction_ms()?,
            Item::Zone => self.zone_ms = reader.zone_ms(true)?,
            Item::UnixSeconds => {
                let sign = if reader.peek()? == b'-' { -1 } else { 1 };
                reader.skip(usize::from(sign < 0));
                self.unix_seconds = Some(sign * reader.digits(1, 15)?);
            }
        }
        Some(())
    }

    fn ms(&self) -> Option<i64> {
        if let Some(seconds) = self.unix_seconds {
            return Some(seconds * 1_000 + self.fraction_ms);
        }
        if self.hour > 23 || self.minute > 59 || self.second > 60 {
            return None;
        }
        let days = match self.day_of_year {
            Some(day) => {
                let last = 365 + i64::from(is_leap(self.year));
                let valid = (1..=last).contains(&day);
                valid.then(|| days_from_civil(self.year, 1, 1) + day - 1)?
            }
            None => checked_days(self.year, self.month, self.day)?,
        };
        let hour = self.hour + if self.afternoon == Some(true) { 12 } else { 0 };
        let time_ms = ((hour * 60 + self.minute) * 60 + self.second) * 1_000 + self.fraction_ms;
        Some(days * DAY_MS + time_ms - self.zone_ms)
    }
}

/// The month whose name, long or short, comes next.
fn month_name(reader: &mut Reader<'_>) -> Option<i64> {
    let letters = reader
        .rest
        .iter()
        .take_while(|b| b.is_ascii_alphabetic())
        .count();
    let word = reader.rest.get(..letters)?.to_ascii_lowercase();
    let at = (MONTHS.iter()).position(|name| {
        name.as_bytes() == word || name.as_bytes().get(..3) == Some(word.as_slice())
    })?;
    reader.skip(letters);
    i64::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn patterns_read_what_they_say() {
        for (pattern, text, ms) in [
            (
                "%d/%m/%Y %H:%M",
                "01/01/2026 00:01",
                Some(1_767_225_660_000),
            ),
            ("%d/%m/%Y %H:%M", "1/1/2026   0:1", Some(1_767_225_660_000)),
            ("%d/%m/%Y %H:%M", "01/13/2026 00:01", None),
            ("%d/%m/%Y %H:%M", "01/01/2026 00:01:00", None),
            ("%d/%m/%Y %H:%M", "30/02/2026 00:01", None),
            ("%Y%m%d%H%M%S", "20260101000100", Some(1_767_225_660_000)),
            ("%d.%m.%y", "01.01.26", Some(1_767_225_600_000)),
            ("%d.%m.%y", "01.01.70", Some(0)),
            (
                "%b %e, %Y %I:%M %p",
                "Jan  1, 2026 12:05 AM",
                Some(1_767_225_900_000),
            ),
            (
                "%B %d %Y %I%p",
                "january 1 2026 1pm",
                Some(1_767_272_400_000),
            ),
            (
                "%Y-%jT%T.%f%z",
                "2026-001T00:00:00.25+0100",
                Some(1_767_222_000_250),
            ),
            ("%F %T", "2026-01-01 00:00:60", Some(1_767_225_660_000)),
            ("%F %T", "2026-01-01 00:00:61", None),
            ("%s", "-1", Some(-1_000)),
            ("%D %R %%", "01/01/26 00:00 %", Some(1_767_225_600_000)),
            ("%j/%Y", "366/2026", None),
            ("Tag %d ä %m %Y", "Tag 1 ä 1 2026", Some(1_767_225_600_000)),
        ] {
            let compiled = Pattern::compile(pattern).expect(pattern);
            assert_eq!(compiled.parse(text.as_bytes()), ms, "{pattern}: {text}");
        }
    }

    #[test]
    fn patterns_that_name_no_time_are_refused() {
        for pattern in ["", "%Y-%m", "%H:%M", "%Q %F", "%F %", "%F %I:%M", "%F %p"] {
            assert!(Pattern::compile(pattern).is_err(), "{pattern}");
        }
    }
}
