//! Column types of a job definition and the Arrow types that carry them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};

/// A column's type, as a definition writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
    /// `bool`
    Bool,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `float32`
    Float32,
    /// `float64`
    Float64,
    /// `decimal(precision,scale)`, up to 38 digits.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits behind the point, 0 to `precision`.
        scale: i8,
    },
    /// `string`, UTF-8.
    String,
    /// `binary`
    Binary,
    /// `date`, days since the Unix epoch.
    Date,
    /// `timestamp`, milliseconds since the Unix epoch, UTC.
    Timestamp,
    /// `json`, any JSON value kept as text.
    Json,
    /// `list<T>`
    List(Box<ColumnType>),
}

impl ColumnType {
    /// The Arrow type that carries this type on every edge.
    #[must_use]
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::String | Self::Json => DataType::Utf8View,
            Self::Binary => DataType::BinaryView,
            Self::Date => DataType::Date32,
            Self::Timestamp => timestamp_type(),
            Self::List(item) => DataType::List(Arc::new(Field::new_list_field(item.arrow(), true))),
        }
    }
}

/// The Arrow type of every timestamp: milliseconds, UTC.
#[must_use]
pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some(Arc::from("UTC")))
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::String => f.write_str("string"),
            Self::Binary => f.write_str("binary"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Json => f.write_str("json"),
            Self::List(item) => write!(f, "list<{item}>"),
        }
    }
}

/// A type name that is none of ours.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown type {0:?}")]
pub struct UnknownType(pub String);

impl FromStr for ColumnType {
    type Err = UnknownType;

    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let unknown = || UnknownType(text.to_owned());
        Ok(match text.trim() {
            "bool" => Self::Bool,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "string" => Self::String,
            "binary" => Self::Binary,
            "date" => Self::Date,
            "timestamp" => Self::Timestamp,
            "json" => Self::Json,
            other => {
                if let Some(inner) = other
                    .strip_prefix("list<")
                    .and_then(|t| t.strip_suffix('>'))
                {
                    return Ok(Self::List(Box::new(inner.parse().map_err(|_| unknown())?)));
                }
                let inner = other
                    .strip_prefix("decimal(")
                    .and_then(|t| t.strip_suffix(')'));
                let (precision, scale) =
                    inner.and_then(|t| t.split_once(',')).ok_or_else(unknown)?;
                let precision: u8 = precision.trim().parse().map_err(|_| unknown())?;
                let scale: i8 = scale.trim().parse().map_err(|_| unknown())?;
                let scale_max = i8::try_from(precision).map_err(|_| unknown())?;
                if !(1..=38).contains(&precision) || scale < 0 || scale > scale_max {
                    return Err(unknown());
                }
                Self::Decimal { precision, scale }
            }
        })
    }
}

impl TryFrom<String> for ColumnType {
    type Error = UnknownType;
    fn try_from(text: String) -> Result<Self, UnknownType> {
        text.parse()
    }
}

impl From<ColumnType> for String {
    fn from(column_type: ColumnType) -> Self {
        column_type.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::ColumnType;

    #[test]
    fn names_read_back() {
        for name in [
            "bool",
            "int64",
            "decimal(10,2)",
            "list<list<string>>",
            "json",
            "timestamp",
        ] {
            assert_eq!(
                name.parse::<ColumnType>().map(|t| t.to_string()),
                Ok(name.to_owned())
            );
        }
        for wrong in [
            "int",
            "decimal(0,0)",
            "decimal(39,1)",
            "decimal(3,4)",
            "list<x>",
            "list<",
        ] {
            assert!(wrong.parse::<ColumnType>().is_err(), "{wrong}");
        }
    }
}
