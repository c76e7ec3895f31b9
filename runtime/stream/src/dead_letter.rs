//! Dead letters: records that could not be processed, with where they came from and why.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::column::ColumnType;
use crate::origin::Origin;
use crate::schema::{Column, StreamSchema};

/// The six classes of failure of a single record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadClass {
    /// The bytes are not of the source's format.
    Decode,
    /// A value is missing or of the wrong type.
    Schema,
    /// The event time is null or too far ahead.
    Time,
    /// The row's window has fired.
    Late,
    /// An expression or a plugin failed on the row.
    Operator,
    /// The sink's service refuses the row for good.
    SinkReject,
}

impl DeadClass {
    /// All classes, in order.
    pub const ALL: [Self; 6] = [
        Self::Decode,
        Self::Schema,
        Self::Time,
        Self::Late,
        Self::Operator,
        Self::SinkReject,
    ];

    /// The word that stands in dead letters and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Schema => "schema",
            Self::Time => "time",
            Self::Late => "late",
            Self::Operator => "operator",
            Self::SinkReject => "sink-reject",
        }
    }
}

/// What is kept of a record that could not be processed.
#[derive(Clone, Debug)]
pub enum Remains {
    /// The bytes as they were read.
    Bytes(Bytes),
    /// A row of a batch; rendered as JSON before it leaves the operator.
    Row {
        /// The batch, shared.
        batch: RecordBatch,
        /// The row's position in it.
        row: usize,
    },
    /// The row as JSON text.
    Json(String),
}

/// One record that could not be processed.
///
/// The engine adds the step, the names of source and split, and the job.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Which kind of failure.
    pub class: DeadClass,
    /// A stable word for the failure within its class, such as `wrong-type`.
    pub code: &'static str,
    /// What went wrong, naming the column or function.
    pub message: String,
    /// Where the record came from.
    pub origin: Origin,
    /// Its event time in milliseconds, if it has one.
    pub event_time: Option<i64>,
    /// What is left of it.
    pub remains: Remains,
    /// SHA-256 of the plugin that failed, in hexadecimal.
    pub plugin: Option<Arc<str>>,
}

/// Renders a row of a batch as a JSON object; injected by the planner.
pub trait RowRenderer: Send + Sync {
    /// The user's columns of `row` as one JSON object.
    fn render(&self, batch: &RecordBatch, row: usize) -> String;
}

/// The schema of a stream of dead letters.
///
/// | column | type | |
/// |---|---|---|
/// | `id` | string | unique: derived from where and why, so that a replay gives the same |
/// | `class` `code` `message` | string | why |
/// | `step` | string | the source, step or sink that gave up |
/// | `source` `split` `offset` | string, string, int64 | where it came from; null for derived rows |
/// | `at` | timestamp | its event time, if known |
/// | `raw` | string | the bytes as text, if they are UTF-8 |
/// | `raw_base64` | string | the bytes, if they are not |
/// | `row` | json | the row, if it had been decoded |
/// | `plugin` | string | SHA-256 of the plugin |
/// | `job` | string | the job's name |
#[must_use]
pub fn schema() -> StreamSchema {
    let required = |name: &str| Column {
        name: name.into(),
        column_type: ColumnType::String,
        required: true,
    };
    let text = |name: &str| Column::new(name, ColumnType::String);
    StreamSchema::append(
        vec![
            required("id"),
            required("class"),
            required("code"),
            required("message"),
            required("step"),
            text("source"),
            text("split"),
            Column::new("offset", ColumnType::Int64),
            Column::new("at", ColumnType::Timestamp),
            text("raw"),
            text("raw_base64"),
            Column::new("row", ColumnType::Json),
            text("plugin"),
            required("job"),
        ],
        false,
    )
}
