//! What can be wrong with a description of columns.

use std::sync::Arc;

use thalweg_stream::{ColumnType, Fault};

/// Why a stream cannot be decoded or written as asked; always the definition's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Two columns have one name.
    #[error("column {0:?} is declared twice")]
    DuplicateColumn(Arc<str>),
    /// A column has a name that belongs to the system.
    #[error("column name {0:?} is reserved")]
    ReservedColumn(Arc<str>),
    /// A name that no column has.
    #[error("{what} names column {name:?}, which does not exist")]
    UnknownColumn {
        /// Where the name stands.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The event time is no timestamp.
    #[error("event time column {name:?} is of type {column_type}, not timestamp")]
    EventTimeType {
        /// The column.
        name: Arc<str>,
        /// Its type.
        column_type: ColumnType,
    },
    /// The column for unknown fields is declared with another type.
    #[error("column {name:?} collects unknown fields and must be of type json, not {column_type}")]
    ExtraType {
        /// The column.
        name: Arc<str>,
        /// Its type.
        column_type: ColumnType,
    },
    /// A unit or format is given for something else than a timestamp.
    #[error("column {0:?} is no timestamp but has a unit or format of one")]
    NoTimestamp(Arc<str>),
    /// A timestamp format that is not understood.
    #[error("column {column:?}: timestamp format {format:?} is not understood: {problem}")]
    TimestampFormat {
        /// The column.
        column: Arc<str>,
        /// The format.
        format: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A path that is deeper than any record may be.
    #[error("column {0:?}: path has more than {max} segments", max = crate::path::SEGMENTS_MAX)]
    PathTooLong(Arc<str>),
    /// A batch of no rows, or of too many.
    #[error("a batch cannot have {0} rows: 1 to 8192 are possible")]
    BatchRows(usize),
    /// A path into a field of comma-separated values.
    #[error("column {0:?}: a field of comma-separated values has no parts; its path is one name")]
    CsvPath(Arc<str>),
    /// A column whose field is not among those named.
    #[error("column {column:?} is the field {field:?}, which is not among the columns named")]
    NoField {
        /// The column.
        column: Arc<str>,
        /// The field it is read from.
        field: String,
    },
    /// The fields named are not unique.
    #[error("{0}")]
    Fields(String),
    /// Characters that cannot structure records.
    #[error(
        "delimiter and quote are different ASCII characters that are no letter, digit, line end, \
         `.`, `+` or `-`"
    )]
    Quoting,
    /// A system column that the stream does not have.
    #[error("the stream has no system column {0:?}")]
    NoSystemColumn(&'static str),
}

impl From<FormatError> for Fault {
    fn from(error: FormatError) -> Self {
        Self::user(error.to_string())
    }
}
