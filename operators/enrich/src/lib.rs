//! Enrichment: rows take columns of the matching row of a table.
//!
//! A table is a stream folded to the newest row per key, by (event time, origin), or by epoch and
//! origin where it carries no time. Changes of a stream of changes apply likewise; a deletion
//! leaves its key without a match.
//!
//! # Without `as_of`
//! A row sees the table as it is at the end of the row's epoch, whatever came first within it.
//!
//! # With `as_of`
//! A row at time t sees the newest version of its key at or before t. It is answered at the end of
//! the first epoch in which the table's watermark has reached t, or the table is idle or finished,
//! or the rows' watermark has reached t + `wait`; until then it is held. A version of the table
//! that comes after a row it would have answered changes nothing for that row. Versions are kept
//! back to the newest that a held or future row on time can see.
//!
//! A deletion is remembered until the table's watermark has reached it; only a row of the table
//! that is behind that watermark can bring back what was deleted after it.
//!
//! A key with a null in it matches nothing.
//!
//! # The ledger
//! Rows are passed, filtered (`missing: drop`), dead (`missing: dead-letter`) or held. Rows of the
//! table are held as long as they are a version in the table, and merged afterwards.

mod held;
mod newest;
mod operator;
mod plan;
mod rows;
mod version;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_stream::{ColumnType, Fault};

pub use plan::EnrichFactory;
pub use rows::state_rows;

/// What an enrichment step is asked to do. Input 0 are the rows, input 1 is the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrichSpec {
    /// The table's name: what was kept of another one is not of use.
    pub table: Arc<str>,
    /// Pairs of positions, in the rows and in the table, that must be equal.
    pub on: Vec<(usize, usize)>,
    /// Positions of the table's key; `on` must name exactly these.
    pub table_key: Vec<usize>,
    /// Positions in the table of the columns to add, with their names in the output.
    pub take: Vec<(usize, Arc<str>)>,
    /// What becomes of a row without a match.
    pub missing: Missing,
    /// Whether a row sees the table as it was at the row's event time.
    pub as_of: Option<AsOf>,
}

/// What becomes of a row without a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// It goes on with nulls.
    Keep,
    /// It is gone, counted as filtered.
    Drop,
    /// It becomes a dead letter of class `operator`.
    DeadLetter,
}

/// How a row waits for the table to reach its event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// For how long at most, in milliseconds of the rows' event time; for as long as it takes if none,
    /// which is for a table that comes to an end.
    pub wait_ms: Option<i64>,
    /// How far behind the rows' watermark one is still worth its version, in milliseconds: for so long
    /// the versions are kept that were current then. All are of a table that comes to an end.
    pub late_ms: i64,
}

/// Why an enrichment cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// `on` is empty or does not name the table's key.
    #[error("the rows must be matched on exactly the key of the table")]
    Key,
    /// A position that the input does not have.
    #[error("there is no column at position {0}")]
    NoColumn(usize),
    /// Two columns that are to be equal have different types.
    #[error("column \"{left}\" has type {left_type}, but the table's \"{right}\" has {right_type}")]
    Types {
        /// The rows' column.
        left: Arc<str>,
        /// Its type.
        left_type: ColumnType,
        /// The table's column.
        right: Arc<str>,
        /// Its type.
        right_type: ColumnType,
    },
    /// A column of the output would stand twice or is reserved.
    #[error("column \"{0}\" exists already or is reserved; give the taken column another name")]
    Name(Arc<str>),
    /// `as_of` needs event time on both sides.
    #[error("as_of needs event time, and {0} carries none")]
    NoTime(&'static str),
    /// Changes cannot be answered later or left out.
    #[error("rows that are changes can only be enriched with `missing: keep` and without as_of")]
    Changes,
    /// The wait is negative.
    #[error("the wait must not be negative")]
    Wait,
}

impl From<SpecError> for Fault {
    fn from(error: SpecError) -> Self {
        Self::user(error.to_string())
    }
}
