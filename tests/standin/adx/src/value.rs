//! Values and their types, as the service has them: times count ticks of 100 ns.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

/// Ticks of a millisecond.
pub(crate) const TICKS_MS: i64 = 10_000;
/// Ticks of a second.
pub(crate) const TICKS_S: i64 = 1000 * TICKS_MS;

/// A type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Long,
    Real,
    Decimal,
    DateTime,
    TimeSpan,
    Guid,
    String,
    Dynamic,
}

impl Kind {
    /// Its name in queries and answers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::Decimal => "decimal",
            Self::DateTime => "datetime",
            Self::TimeSpan => "timespan",
            Self::Guid => "guid",
            Self::String => "string",
            Self::Dynamic => "dynamic",
        }
    }

    /// Its name in the older form of answers.
    pub(crate) fn clr_name(self) -> &'static str {
        match self {
            Self::Bool => "SByte",
            Self::Int => "Int32",
            Self::Long => "Int64",
            Self::Real => "Double",
            Self::Decimal => "SqlDecimal",
            Self::DateTime => "DateTime",
            Self::TimeSpan => "TimeSpan",
            Self::Guid => "Guid",
            Self::String => "String",
            Self::Dynamic => "Object",
        }
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Long | Self::Real | Self::Decimal)
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "bool" | "boolean" => Self::Bool,
            "int" => Self::Int,
            "long" => Self::Long,
            "real" | "double" => Self::Real,
            "decimal" => Self::Decimal,
            "datetime" | "date" => Self::DateTime,
            "timespan" | "time" => Self::TimeSpan,
            "guid" | "uuid" => Self::Guid,
            "string" => Self::String,
            "dynamic" => Self::Dynamic,
            _ => return Err(()),
        })
    }
}

/// A value. Decimals and guids are kept as text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Datum {
    Null,
    Bool(bool),
    Long(i64),
    Real(f64),
    /// Ticks since the Unix epoch.
    Time(i64),
    /// Ticks.
    Span(i64),
    Text(String),
    Dynamic(Value),
}

impl Datum {
    /// What a missing value of `kind` is: strings are never null.
    pub(crate) fn missing(kind: Kind) -> Self {
        match kind {
            Kind::String => Self::Text(String::new()),
            Kind::Bool
            | Kind::Int
            | Kind::Long
            | Kind::Real
            | Kind::Decimal
            | Kind::DateTime
            | Kind::TimeSpan
            | Kind::Guid
            | Kind::Dynamic => Self::Null,
        }
    }

    /// The value of `kind` that `text` says, or what is missing if it says none.
    pub(crate) fn parse(kind: Kind, text: &str) -> Self {
        let parsed = match kind {
            Kind::String => Some(Self::Text(text.to_owned())),
            Kind::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Some(Self::Bool(true)),
                "false" | "0" => Some(Self::Bool(false)),
                _ => None,
            },
            Kind::Int => text
                .trim()
                .parse::<i32>()
                .ok()
                .map(|n| Self::Long(n.into())),
            Kind::Long => text.trim().parse().ok().map(Self::Long),
            Kind::Real => text.trim().parse().ok().map(Self::Real),
            Kind::Decimal => {
                let text = text.trim();
                (text.parse::<f64>().is_ok()).then(|| Self::Text(text.to_owned()))
            }
            Kind::DateTime => parse_time(text.trim()).map(Self::Time),
            Kind::TimeSpan => parse_span(text.trim()).map(Self::Span),
            Kind::Guid => uuid::Uuid::parse_str(text.trim())
                .ok()
                .map(|id| Self::Text(id.to_string())),
            Kind::Dynamic => match text {
                "" => None,
                text => Some(Self::Dynamic(
                    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
                )),
            },
        };
        parsed.unwrap_or_else(|| Self::missing(kind))
    }

    /// The value of `kind` that a JSON value says, or what is missing if it says none.
    pub(crate) fn of_json(kind: Kind, value: &Value) -> Self {
        match (kind, value) {
            (_, Value::Null) => Self::missing(kind),
            (Kind::Dynamic, value) => Self::Dynamic(value.clone()),
            (Kind::Bool, Value::Bool(value)) => Self::Bool(*value),
            (Kind::Int, Value::Number(n)) => n
                .as_i64()
                .filter(|n| i32::try_from(*n).is_ok())
                .map_or(Self::Null, Self::Long),
            (Kind::Long, Value::Number(n)) => n.as_i64().map_or(Self::Null, Self::Long),
            (Kind::Real, Value::Number(n)) => n.as_f64().map_or(Self::Null, Self::Real),
            (kind, Value::String(text)) => Self::parse(kind, text),
            (Kind::String | Kind::Decimal, other) => Self::parse(kind, &other.to_string()),
            (
                Kind::Bool
                | Kind::Int
                | Kind::Long
                | Kind::Real
                | Kind::DateTime
                | Kind::TimeSpan
                | Kind::Guid,
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_),
            ) => Self::Null,
        }
    }

    /// The value as answers write it.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::from(*value),
            Self::Long(value) => Value::from(*value),
            Self::Real(value) if value.is_nan() => Value::from("NaN"),
            Self::Real(value) if value.is_infinite() => Value::from(if *value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            }),
            Self::Real(value) => Value::from(*value),
            Self::Time(ticks) => Value::from(time_text(*ticks)),
            Self::Span(ticks) => Value::from(span_text(*ticks)),
            Self::Text(text) => Value::from(text.as_str()),
            Self::Dynamic(value) => value.clone(),
        }
    }

    /// The value as a number, whatever number it is.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Long(value) => Some(*value as f64),
            Self::Real(value) => Some(*value),
            Self::Text(text) => text.parse().ok(),
            Self::Dynamic(value) => value.as_f64(),
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            Self::Null | Self::Time(_) | Self::Span(_) => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null | Self::Dynamic(Value::Null))
    }

    /// The order of two values; nothing if one is null or they cannot be compared.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, _) | (_, Self::Null) => None,
            (Self::Long(a), Self::Long(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) | (Self::Span(a), Self::Span(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Dynamic(Value::String(a)), Self::Text(b)) => Some(a.as_str().cmp(b)),
            (Self::Text(a), Self::Dynamic(Value::String(b))) => Some(a.as_str().cmp(b)),
            (Self::Dynamic(a), Self::Dynamic(b)) if a == b => Some(Ordering::Equal),
            (a, b) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        }
    }

    /// A total order for sorting and grouping: nulls last, unlike values by their text.
    pub(crate) fn total_order(&self, other: &Self) -> Ordering {
        match (self.is_null(), other.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self
                .compare(other)
                .unwrap_or_else(|| self.to_string().cmp(&other.to_string())),
        }
    }
}

impl fmt::Display for Datum {
    /// As `tostring()` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_json();
        match (value.is_null(), value.as_str()) {
            (true, _) => Ok(()),
            (false, Some(text)) => f.write_str(text),
            (false, None) => write!(f, "{value}"),
        }
    }
}

/// Ticks since the Unix epoch of a time as text.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let spaced = text.replacen(' ', "T", 1);
    let of = |time: OffsetDateTime| i64::try_from(time.unix_timestamp_nanos() / 100).ok();
    if let Ok(time) = OffsetDateTime::parse(&spaced, &Rfc3339) {
        return of(time);
    }
    // Without a zone it is UTC; without a time of day it is midnight.
    let zoned = format!("{spaced}Z");
    if let Ok(time) = OffsetDateTime::parse(&zoned, &Rfc3339) {
        return of(time);
    }
    let minutes = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    if let Ok(time) = PrimitiveDateTime::parse(spaced.trim_end_matches('Z'), &minutes) {
        return of(time.assume_utc());
    }
    let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
    of(date.midnight().assume_utc())
}

/// A time as answers write it: seven digits of fraction, none if they are all zero.
pub(crate) fn time_text(ticks: i64) -> String {
    let nanos = i128::from(ticks) * 100;
    let Ok(time) = OffsetDateTime::from_unix_timestamp_nanos(nanos) else {
        return String::new();
    };
    let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let text = time.format(&seconds).unwrap_or_default();
    match ticks.rem_euclid(TICKS_S) {
        0 => format!("{text}Z"),
        fraction => format!("{text}.{fraction:07}Z"),
    }
}

/// Ticks of `1d`, `90s`, `01:30:00` or `1.02:03:04.5`.
pub(crate) fn parse_span(text: &str) -> Option<i64> {
    if let Some(rest) = text.strip_prefix('-') {
        return parse_span(rest).map(|ticks| -ticks);
    }
    if !text.contains(':') {
        let at = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = text.split_at(at);
        let number: f64 = number.parse().ok()?;
        let unit = match unit {
            "d" | "day" | "days" => 86_400 * TICKS_S,
            "h" | "hr" | "hour" | "hours" => 3600 * TICKS_S,
            "m" | "min" | "minute" | "minutes" => 60 * TICKS_S,
            "s" | "sec" | "second" | "seconds" => TICKS_S,
            "ms" | "milliseconds" => TICKS_MS,
            "microsecond" | "microseconds" => 10,
            "tick" | "ticks" => 1,
            _ => return None,
        };
        return Some((number * unit as f64) as i64);
    }
    let (days, clock) = match text.split_once('.') {
        Some((days, clock)) if clock.contains(':') => (days.parse::<i64>().ok()?, clock),
        _ => (0, text),
    };
    let mut parts = clock.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next().unwrap_or("0").parse().ok()?;
    let whole = ((days * 24 + hours) * 60 + minutes) * 60 * TICKS_S;
    Some(whole + (seconds * TICKS_S as f64).round() as i64)
}

/// A span as answers write it: `[-][d.]hh:mm:ss[.fffffff]`.
pub(crate) fn span_text(ticks: i64) -> String {
    let sign = if ticks < 0 { "-" } else { "" };
    let ticks = ticks.unsigned_abs();
    let second = TICKS_S.unsigned_abs();
    let (seconds, fraction) = (ticks / second, ticks % second);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let days = if days > 0 {
        format!("{days}.")
    } else {
        String::new()
    };
    let fraction = if fraction > 0 {
        format!(".{fraction:07}")
    } else {
        String::new()
    };
    format!(
        "{sign}{days}{:02}:{:02}:{:02}{fraction}",
        hours % 24,
        minutes % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Datum, Kind, parse_span, parse_time, span_text, time_text};

    #[test]
    fn times_and_spans_read_back() {
        for text in [
            "2024-01-02T03:04:05Z",
            "2024-01-02T03:04:05.1234567Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(time_text(parse_time(text).expect(text)), text);
        }
        assert_eq!(parse_time("2024-01-02"), parse_time("2024-01-02 00:00:00"));
        assert_eq!(
            parse_time("2024-01-02T01:00"),
            parse_time("2024-01-02T02:00:00+01:00")
        );
        for text in ["00:01:00", "1.02:03:04.5000000", "-00:00:10"] {
            assert_eq!(span_text(parse_span(text).expect(text)), text);
        }
        assert_eq!(parse_span("90s"), parse_span("00:01:30"));
        assert_eq!(parse_span("1.5h"), parse_span("01:30:00"));
    }

    #[test]
    fn values_of_another_type_become_null_without_a_word() {
        for (kind, value, expected) in [
            (Kind::Int, json!(1.5), Datum::Null),
            (Kind::Int, json!(3_000_000_000i64), Datum::Null),
            (Kind::Long, json!("x"), Datum::Null),
            (Kind::Long, json!("7"), Datum::Long(7)),
            (Kind::String, json!(null), Datum::Text(String::new())),
            (
                Kind::String,
                json!({"a": 1}),
                Datum::Text("{\"a\":1}".to_owned()),
            ),
            (Kind::DateTime, json!(12), Datum::Null),
        ] {
            assert_eq!(Datum::of_json(kind, &value), expected, "{kind:?} {value}");
        }
    }
}
