//! Epochs, generations and lineages: the numbers that order and fence a job's work.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A slice of processing time, numbered from 1; the timely timestamp.
///
/// Epoch numbers may be skipped and never repeat within a job's store.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is to happen at the end of an epoch; announced when the epoch is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpochKind {
    /// Windows fire; nothing is sealed.
    Ordinary,
    /// State is frozen and output sealed.
    Checkpoint,
    /// A checkpoint a user asked for; retention never deletes it.
    Savepoint,
    /// The last epoch of this run: a checkpoint after which the dataflow ends.
    Final,
}

impl EpochKind {
    /// Whether operators freeze their state and sinks seal their output at this epoch's end.
    #[must_use]
    pub fn seals(self) -> bool {
        match self {
            Self::Ordinary => false,
            Self::Checkpoint | Self::Savepoint | Self::Final => true,
        }
    }
}

/// The number of a start of a job; fences everything older.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A random name (12 lowercase hexadecimal digits) of one line of history.
///
/// It stays the same across crash recovery and is new whenever a job starts from anything but its
/// newest commit, so that output of another history is never taken for this one's. Visible names
/// and tags carry it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lineage(pub String);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
