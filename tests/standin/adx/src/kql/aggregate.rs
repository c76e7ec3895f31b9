//! Aggregate functions.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kql::QueryError;
use crate::kql::bind::Bound;
use crate::value::{Datum, Kind};

/// What an aggregate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Count,
    CountIf,
    Distinct,
    DistinctIf,
    Sum,
    SumIf,
    Average,
    AverageIf,
    Min,
    Max,
    Any,
    List,
    Set,
    Percentile,
    Deviation,
    /// The row of the least or greatest value.
    ArgMin,
    ArgMax,
}

impl Aggregation {
    /// The aggregate of this name, how many arguments it has, and how its column is called.
    pub(crate) fn find(name: &str) -> Option<(Self, usize, &'static str)> {
        Some(match name {
            "count" => (Self::Count, 0, "count_"),
            "countif" => (Self::CountIf, 1, "countif_"),
            "dcount" | "count_distinct" => (Self::Distinct, 1, "dcount_"),
            "dcountif" => (Self::DistinctIf, 2, "dcountif_"),
            "sum" => (Self::Sum, 1, "sum_"),
            "sumif" => (Self::SumIf, 2, "sumif_"),
            "avg" => (Self::Average, 1, "avg_"),
            "avgif" => (Self::AverageIf, 2, "avgif_"),
            "min" => (Self::Min, 1, "min_"),
            "max" => (Self::Max, 1, "max_"),
            "take_any" | "any" => (Self::Any, 1, ""),
            "make_list" => (Self::List, 1, "list_"),
            "make_set" => (Self::Set, 1, "set_"),
            "percentile" => (Self::Percentile, 2, "percentile_"),
            "stdev" => (Self::Deviation, 1, "stdev_"),
            "arg_min" => (Self::ArgMin, 2, "arg_min_"),
            "arg_max" => (Self::ArgMax, 2, "arg_max_"),
            _ => return None,
        })
    }

    /// The type of its result.
    pub(crate) fn kind(self, argument: Option<Kind>) -> Result<Kind, QueryError> {
        let argument = argument.unwrap_or(Kind::Long);
        Ok(match self {
            Self::Count | Self::CountIf | Self::Distinct | Self::DistinctIf => Kind::Long,
            Self::Sum | Self::SumIf => match argument {
                Kind::Int | Kind::Long => Kind::Long,
                Kind::Real | Kind::Decimal | Kind::Dynamic => Kind::Real,
                Kind::TimeSpan => Kind::TimeSpan,
                Kind::Bool | Kind::DateTime | Kind::Guid | Kind::String => {
                    return Err(QueryError::semantic(format!(
                        "sum(): argument is of type {}",
                        argument.name()
                    )));
                }
            },
            Self::Average | Self::AverageIf => match argument {
                Kind::TimeSpan => Kind::TimeSpan,
                kind if kind.is_number() || kind == Kind::Dynamic => Kind::Real,
                kind => {
                    return Err(QueryError::semantic(format!(
                        "avg(): argument is of type {}",
                        kind.name()
                    )));
                }
            },
            Self::Deviation => Kind::Real,
            Self::List | Self::Set => Kind::Dynamic,
            Self::Min | Self::Max | Self::Any | Self::Percentile => argument,
            Self::ArgMin | Self::ArgMax => argument,
        })
    }

    /// The result over `rows`. `arguments` are what the call holds.
    pub(crate) fn apply(self, arguments: &[Bound], kind: Kind, rows: &[&[Datum]]) -> Datum {
        let Some(first) = arguments.first() else {
            return Datum::Long(i64::try_from(rows.len()).unwrap_or(i64::MAX));
        };
        let accepted = |row: &&&[Datum]| match self {
            Self::SumIf | Self::AverageIf | Self::DistinctIf => {
                arguments.get(1).is_some_and(|test| test.holds(row))
            }
            _ => true,
        };
        let values = || {
            rows.iter()
                .filter(accepted)
                .map(|row| first.value(row))
                .filter(|value| !value.is_null())
        };
        match self {
            Self::Count => Datum::Long(i64::try_from(rows.len()).unwrap_or(i64::MAX)),
            Self::CountIf => {
                let count = rows.iter().filter(|row| first.holds(row)).count();
                Datum::Long(i64::try_from(count).unwrap_or(i64::MAX))
            }
            Self::Distinct | Self::DistinctIf => {
                let distinct: BTreeSet<String> = values().map(|value| value.to_string()).collect();
                Datum::Long(i64::try_from(distinct.len()).unwrap_or(i64::MAX))
            }
            Self::Sum | Self::SumIf => sum(values().map(|value| value.into_owned()), kind),
            Self::Average | Self::AverageIf => {
                let count = values().count();
                match (count, sum(values().map(|value| value.into_owned()), kind)) {
                    (0, _) => Datum::Null,
                    (count, Datum::Span(sum)) => {
                        Datum::Span(sum / i64::try_from(count).unwrap_or(i64::MAX))
                    }
                    (count, sum) => {
                        (sum.as_f64()).map_or(Datum::Null, |sum| Datum::Real(sum / count as f64))
                    }
                }
            }
            Self::Min => (values().min_by(|a, b| a.total_order(b)))
                .map_or(Datum::Null, |value| value.into_owned()),
            Self::Max => (values().max_by(|a, b| a.total_order(b)))
                .map_or(Datum::Null, |value| value.into_owned()),
            Self::Any => {
                let found = rows.first().map(|row| first.value(row).into_owned());
                found.unwrap_or(Datum::Null)
            }
            Self::List => Datum::Dynamic(values().map(|value| value.to_json()).collect()),
            Self::Set => {
                let mut set: Vec<Value> = Vec::new();
                for value in values().map(|value| value.to_json()) {
                    if !set.contains(&value) {
                        set.push(value);
                    }
                }
                Datum::Dynamic(Value::from(set))
            }
            Self::Percentile => {
                let share = arguments.get(1).and_then(|p| p.value(&[]).as_f64());
                percentile(
                    values().map(|value| value.into_owned()),
                    share.unwrap_or(50.0),
                )
            }
            Self::Deviation => deviation(values().filter_map(|value| value.as_f64())),
            Self::ArgMin | Self::ArgMax => {
                let row = row_at_extreme(self == Self::ArgMax, first, rows);
                let wanted = arguments.get(1).unwrap_or(first);
                row.map_or(Datum::Null, |row| wanted.value(row).into_owned())
            }
        }
    }
}

/// The row of the greatest or least value of `by`.
fn row_at_extreme<'r>(greatest: bool, by: &Bound, rows: &[&'r [Datum]]) -> Option<&'r [Datum]> {
    let known = rows.iter().filter(|row| !by.value(row).is_null()).copied();
    let order = |a: &&[Datum], b: &&[Datum]| by.value(a).total_order(&by.value(b));
    match greatest {
        true => known.max_by(order),
        false => known.min_by(order),
    }
}

/// By nearest rank.
fn percentile(values: impl Iterator<Item = Datum>, share: f64) -> Datum {
    let mut sorted: Vec<Datum> = values.collect();
    sorted.sort_by(Datum::total_order);
    let rank = (share / 100.0 * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).cloned().unwrap_or(Datum::Null)
}

fn sum(values: impl Iterator<Item = Datum>, kind: Kind) -> Datum {
    let (mut whole, mut ticks, mut real) = (0i64, 0i64, 0f64);
    for value in values {
        match value {
            Datum::Long(value) => {
                whole = whole.wrapping_add(value);
                real += value as f64;
            }
            Datum::Span(value) => ticks = ticks.wrapping_add(value),
            other => real += other.as_f64().unwrap_or(0.0),
        }
    }
    match kind {
        Kind::Long => Datum::Long(whole),
        Kind::TimeSpan => Datum::Span(ticks),
        Kind::Bool
        | Kind::Int
        | Kind::Real
        | Kind::Decimal
        | Kind::DateTime
        | Kind::Guid
        | Kind::String
        | Kind::Dynamic => Datum::Real(real),
    }
}

/// The deviation of a sample.
fn deviation(values: impl Iterator<Item = f64>) -> Datum {
    let values: Vec<f64> = values.collect();
    if values.len() < 2 {
        return Datum::Real(0.0);
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Datum::Real((squares / (values.len() - 1) as f64).sqrt())
}
