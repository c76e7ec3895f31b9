//! Partition key values: what a container can be partitioned by.

use azure_data_cosmos::PartitionKey;
use azure_data_cosmos::models::PartitionKeyValue;
use serde::{Deserialize, Serialize};
use thalweg_stream::ColumnType;

/// Integers beyond this lose digits as JSON numbers, and two keys could become one.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// One value of a partition key, as JSON has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum PartitionValue {
    /// The document has the field, and it is null.
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

impl PartitionValue {
    /// Whether a column of this type can be a partition key.
    pub(crate) fn fits(column_type: &ColumnType) -> bool {
        match column_type {
            ColumnType::Bool
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::Float32
            | ColumnType::Float64
            | ColumnType::String
            | ColumnType::Date
            | ColumnType::Timestamp => true,
            ColumnType::Decimal { .. }
            | ColumnType::Binary
            | ColumnType::Json
            | ColumnType::List(_) => false,
        }
    }

    /// The value that `json` denotes; nothing if it is no partition key.
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let value: Self = serde_json::from_slice(json).ok()?;
        let inexact = matches!(value, Self::Number(n) if n.abs() > INTEGER_MAX && n.fract() == 0.0);
        (!inexact).then_some(value)
    }

    /// The value as the client wants it; nothing for a number that JSON cannot write.
    pub(crate) fn key(&self) -> Option<PartitionKey> {
        Some(match self {
            Self::Null => PartitionKey::from(PartitionKeyValue::NULL),
            Self::Bool(value) => PartitionKey::from(PartitionKeyValue::from(*value)),
            Self::Number(value) => PartitionKey::from(PartitionKeyValue::try_from(*value).ok()?),
            Self::Text(value) => PartitionKey::from(PartitionKeyValue::from(value)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::PartitionValue;

    #[test]
    fn numbers_that_would_lose_digits_are_no_keys() {
        let number = |json: &str| PartitionValue::from_json(json.as_bytes());
        assert_eq!(
            number("9007199254740992"),
            Some(PartitionValue::Number(9_007_199_254_740_992.0))
        );
        assert_eq!(number("-9007199254740995"), None);
        assert_eq!(number("1e300"), None);
        assert_eq!(number("0.5"), Some(PartitionValue::Number(0.5)));
        assert_eq!(number("null"), Some(PartitionValue::Null));
        assert_eq!(number("[1]"), None);
    }
}
