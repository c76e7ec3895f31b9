//! Deduplication: of rows of equal key that are near in event time, the first goes on.
//!
//! # What is a duplicate
//! A row is a duplicate if a row of equal key *that was passed on* has an event time that differs
//! from its own by less than `within`. Within an epoch the earliest row by (event time, origin)
//! is passed on; a row of an earlier epoch has been passed on already and stays, even if an
//! earlier event time comes later. Rows older than the watermark − `within` are late: whether
//! they are duplicates can no longer be known, so they are never passed on.
//!
//! # State
//! Fingerprints of 96 bits (8 of them the key group) in slices of event time; a slice that no row
//! can meet any more is dropped whole. Where equal keys carry equal event times (the event time is
//! part of the key, or `same_time` promises it) a row is looked for in its own slice only; else in
//! every slice less than `within` away.
//!
//! Deliberately absent: deduplication by sequence numbers, and keeping the last of several.

mod arrange;
mod epoch;
mod operator;
mod rows;
mod sieve;
mod slice;

use serde::{Deserialize, Serialize};
use thalweg_stream::Fault;

pub use operator::DedupFactory;
pub use rows::state_rows;

/// What a deduplication step is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupSpec {
    /// Positions of the columns that form the key; may include the `event_time` column.
    pub by: Vec<usize>,
    /// How far apart in event time rows of equal key must be to be different, milliseconds.
    pub within_ms: i64,
    /// Promises that a repeat carries the same event time: faster. The planner sets it too where
    /// the source's event-time column is part of the key, unchanged.
    pub same_time: bool,
}

/// Why a deduplication cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The input carries no event time.
    #[error("deduplication needs event time, and its input carries none")]
    NoTime,
    /// The input is a stream of changes.
    #[error("deduplication cannot take a stream of changes: equal rows of it mean something")]
    Changes,
    /// The distance is not positive.
    #[error("deduplication must span more than no time")]
    Within,
    /// There is no key.
    #[error("deduplication needs at least one column to go by")]
    NoKey,
    /// A position that the input does not have.
    #[error("there is no column at position {0}")]
    NoColumn(usize),
}

impl From<SpecError> for Fault {
    fn from(error: SpecError) -> Self {
        Self::user(error.to_string())
    }
}
