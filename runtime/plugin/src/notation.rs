//! Column types in the notation of Arrow's C data interface, which the contract uses.
//!
//! <https://arrow.apache.org/docs/format/CDataInterface.html#data-type-description-format-strings>

use thalweg_stream::ColumnType;

/// The notation of a type, if the contract has one for it.
pub(crate) fn of(column_type: &ColumnType) -> Option<String> {
    Some(match column_type {
        ColumnType::Bool => "b".to_owned(),
        ColumnType::Int32 => "i".to_owned(),
        ColumnType::Int64 => "l".to_owned(),
        ColumnType::Float32 => "f".to_owned(),
        ColumnType::Float64 => "g".to_owned(),
        ColumnType::String | ColumnType::Json => "u".to_owned(),
        ColumnType::Binary => "z".to_owned(),
        ColumnType::Date => "tdD".to_owned(),
        ColumnType::Timestamp => "tsm:UTC".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("d:{precision},{scale}"),
        ColumnType::List(_) => return None,
    })
}

/// The type that a plugin means.
pub(crate) fn column_type(notation: &str) -> Option<ColumnType> {
    Some(match notation {
        "b" => ColumnType::Bool,
        "i" => ColumnType::Int32,
        "l" => ColumnType::Int64,
        "f" => ColumnType::Float32,
        "g" => ColumnType::Float64,
        "u" => ColumnType::String,
        "z" => ColumnType::Binary,
        "tdD" => ColumnType::Date,
        "tsm:UTC" => ColumnType::Timestamp,
        other => {
            let decimal = other.strip_prefix("d:")?;
            return format!("decimal({decimal})").parse().ok();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{column_type, of};

    #[test]
    fn types_read_back_and_others_are_unknown() {
        for notation in [
            "b", "i", "l", "f", "g", "u", "z", "tdD", "tsm:UTC", "d:38,10",
        ] {
            let read = column_type(notation).as_ref().and_then(of);
            assert_eq!(read.as_deref(), Some(notation));
        }
        for notation in [
            "", "c", "tsu:UTC", "tsm:", "d:39,1", "d:5,6", "d:1", "+l", "U", "gg",
        ] {
            assert_eq!(column_type(notation), None, "{notation}");
        }
    }
}
