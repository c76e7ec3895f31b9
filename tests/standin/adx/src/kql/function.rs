//! Scalar functions.

use std::borrow::Cow;

use crate::kql::QueryError;
use crate::value::{Datum, Kind};

/// A scalar function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Bin,
    Not,
    IsNull,
    IsNotNull,
    IsEmpty,
    IsNotEmpty,
    Convert,
    StrCat,
    ToLower,
    ToUpper,
    StrLen,
    Abs,
    Round,
    Iff,
    Coalesce,
    ArrayLength,
    StartOfDay,
    StartOfHour,
    MinOf,
    MaxOf,
}

impl Function {
    /// The function of this name for arguments of these types, and the type it gives.
    pub(crate) fn find(name: &str, kinds: &[Kind]) -> Result<(Self, Kind), QueryError> {
        let convert = |kind| (Self::Convert, kind, 1..=1);
        let first = kinds.first().copied().unwrap_or(Kind::Dynamic);
        let second = kinds.get(1).copied().unwrap_or(first);
        let (function, kind, arity) = match name {
            "bin" | "floor" if first == Kind::Int && second == Kind::Real => {
                (Self::Bin, Kind::Real, 2..=2)
            }
            "bin" | "floor" => (Self::Bin, first, 2..=2),
            "not" => (Self::Not, Kind::Bool, 1..=1),
            "isnull" => (Self::IsNull, Kind::Bool, 1..=1),
            "isnotnull" | "notnull" => (Self::IsNotNull, Kind::Bool, 1..=1),
            "isempty" => (Self::IsEmpty, Kind::Bool, 1..=1),
            "isnotempty" | "notempty" => (Self::IsNotEmpty, Kind::Bool, 1..=1),
            "tostring" => convert(Kind::String),
            "toint" => convert(Kind::Int),
            "tolong" => convert(Kind::Long),
            "toreal" | "todouble" => convert(Kind::Real),
            "todecimal" => convert(Kind::Decimal),
            "tobool" => convert(Kind::Bool),
            "todatetime" => convert(Kind::DateTime),
            "totimespan" => convert(Kind::TimeSpan),
            "todynamic" | "parse_json" => convert(Kind::Dynamic),
            "strcat" => (Self::StrCat, Kind::String, 1..=64),
            "tolower" => (Self::ToLower, Kind::String, 1..=1),
            "toupper" => (Self::ToUpper, Kind::String, 1..=1),
            "strlen" => (Self::StrLen, Kind::Long, 1..=1),
            "abs" => (Self::Abs, first, 1..=1),
            "round" => (Self::Round, Kind::Real, 1..=2),
            "iff" | "iif" => (Self::Iff, second, 3..=3),
            "coalesce" => (Self::Coalesce, first, 2..=64),
            "array_length" => (Self::ArrayLength, Kind::Long, 1..=1),
            "startofday" => (Self::StartOfDay, Kind::DateTime, 1..=1),
            "startofhour" => (Self::StartOfHour, Kind::DateTime, 1..=1),
            "min_of" => (Self::MinOf, first, 2..=64),
            "max_of" => (Self::MaxOf, first, 2..=64),
            other => {
                return Err(QueryError::semantic(format!(
                    "Unknown function: '{other}' (or it is not known to this stand-in)"
                )));
            }
        };
        if !arity.contains(&kinds.len()) {
            return Err(QueryError::semantic(format!(
                "{name}(): function expects {} to {} argument(s), {} given",
                arity.start(),
                arity.end(),
                kinds.len()
            )));
        }
        Ok((function, kind))
    }

    /// The result, of type `kind`.
    pub(crate) fn apply(self, arguments: &[Cow<'_, Datum>], kind: Kind) -> Datum {
        let argument = |at: usize| arguments.get(at).map_or(&Datum::Null, |a| a.as_ref());
        let first = argument(0);
        match self {
            Self::Bin => bin(first, argument(1)),
            Self::Not => match first {
                Datum::Bool(value) => Datum::Bool(!value),
                _ => Datum::Null,
            },
            Self::IsNull => Datum::Bool(first.is_null()),
            Self::IsNotNull => Datum::Bool(!first.is_null()),
            Self::IsEmpty => Datum::Bool(is_empty(first)),
            Self::IsNotEmpty => Datum::Bool(!is_empty(first)),
            Self::Convert => convert(first, kind),
            Self::StrCat => Datum::Text(arguments.iter().map(ToString::to_string).collect()),
            Self::ToLower => Datum::Text(first.to_string().to_lowercase()),
            Self::ToUpper => Datum::Text(first.to_string().to_uppercase()),
            Self::StrLen => {
                Datum::Long(i64::try_from(first.to_string().chars().count()).unwrap_or(i64::MAX))
            }
            Self::Abs => match first {
                Datum::Long(value) => Datum::Long(value.wrapping_abs()),
                Datum::Real(value) => Datum::Real(value.abs()),
                Datum::Span(value) => Datum::Span(value.wrapping_abs()),
                _ => Datum::Null,
            },
            Self::Round => {
                let digits = argument(1).as_f64().unwrap_or(0.0) as i32;
                let scale = 10f64.powi(digits);
                let rounded = first.as_f64().map(|value| (value * scale).round() / scale);
                rounded.map_or(Datum::Null, Datum::Real)
            }
            Self::Iff => match first {
                Datum::Bool(true) => argument(1).clone(),
                _ => argument(2).clone(),
            },
            Self::Coalesce => {
                let found = arguments.iter().find(|argument| !is_empty(argument));
                found.map_or(Datum::Null, |found| found.as_ref().clone())
            }
            Self::ArrayLength => match first {
                Datum::Dynamic(serde_json::Value::Array(items)) => {
                    Datum::Long(i64::try_from(items.len()).unwrap_or(i64::MAX))
                }
                _ => Datum::Null,
            },
            Self::StartOfDay => bin(first, &Datum::Span(86_400 * crate::value::TICKS_S)),
            Self::StartOfHour => bin(first, &Datum::Span(3600 * crate::value::TICKS_S)),
            Self::MinOf | Self::MaxOf => {
                let values = arguments.iter().filter(|value| !value.is_null());
                let found = match self {
                    Self::MinOf => values.min_by(|a, b| a.total_order(b)),
                    _ => values.max_by(|a, b| a.total_order(b)),
                };
                found.map_or(Datum::Null, |found| found.as_ref().clone())
            }
        }
    }
}

fn is_empty(value: &Datum) -> bool {
    value.is_null() || *value == Datum::Text(String::new())
}

fn bin(value: &Datum, size: &Datum) -> Datum {
    // Times are counted from 0001-01-01, so that weeks begin as the service's do.
    const YEAR_1: i64 = -62_135_596_800 * crate::value::TICKS_S;
    match (value, size) {
        (Datum::Long(value), Datum::Long(size)) if *size > 0 => {
            Datum::Long(value - value.rem_euclid(*size))
        }
        (Datum::Time(value), Datum::Span(size)) if *size > 0 => {
            Datum::Time(value - (value - YEAR_1).rem_euclid(*size))
        }
        (Datum::Span(value), Datum::Span(size)) if *size > 0 => {
            Datum::Span(value - value.rem_euclid(*size))
        }
        (value, size) => match (value.as_f64(), size.as_f64()) {
            (Some(value), Some(size)) if size > 0.0 => Datum::Real((value / size).floor() * size),
            _ => Datum::Null,
        },
    }
}

fn convert(value: &Datum, kind: Kind) -> Datum {
    match (kind, value) {
        (Kind::String, value) => Datum::Text(value.to_string()),
        (_, Datum::Null) => Datum::Null,
        (Kind::Int | Kind::Long, Datum::Real(value)) => Datum::Long(*value as i64),
        (Kind::Int | Kind::Long, Datum::Bool(value)) => Datum::Long(i64::from(*value)),
        (Kind::Long, Datum::Time(ticks) | Datum::Span(ticks)) => Datum::Long(*ticks),
        (Kind::Real, value) if value.as_f64().is_some() => {
            value.as_f64().map_or(Datum::Null, Datum::Real)
        }
        (Kind::Bool, Datum::Long(value)) => Datum::Bool(*value != 0),
        (Kind::Dynamic, Datum::Dynamic(value)) => Datum::Dynamic(value.clone()),
        (Kind::Dynamic, value @ (Datum::Long(_) | Datum::Real(_) | Datum::Bool(_))) => {
            Datum::Dynamic(value.to_json())
        }
        (kind, value) => Datum::parse(kind, &value.to_string()),
    }
}

/// Whether `wanted` stands in `text` as whole words; both in lower case.
pub(crate) fn contains_word(text: &str, wanted: &str) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let bounds = |c: Option<char>, neighbour: Option<char>| !(word(c) && word(neighbour));
    text.match_indices(wanted).any(|(at, found)| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        let after = text
            .get(at + found.len()..)
            .and_then(|tail| tail.chars().next());
        bounds(found.chars().next(), before) && bounds(found.chars().next_back(), after)
    })
}
