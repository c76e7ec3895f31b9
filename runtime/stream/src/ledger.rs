//! The conservation ledger: at every checkpoint, what went in is accounted for.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// What became of the input rows of one step (or of the records of one decoder), since the start
/// of the lineage. `held` alone is a level, not a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Rows that came in (records read, for a decoder).
    pub input: u64,
    /// Input rows that went on, changed or not.
    pub passed: u64,
    /// Input rows that a condition dropped.
    pub filtered: u64,
    /// Input rows that went into an aggregate or a table that no longer holds them.
    pub merged: u64,
    /// Input rows dropped as duplicates.
    pub duplicate: u64,
    /// Input rows that came too late, whatever was then done with them.
    pub late: u64,
    /// Input rows that became dead letters (late ones are counted as late).
    pub dead: u64,
    /// Input rows held in state now.
    pub held: u64,
}

impl Ledger {
    /// Checks that nothing was lost and nothing made up.
    ///
    /// # Errors
    /// A bug that names `step` and gives the figures.
    pub fn check(&self, step: &str) -> Result<(), Fault> {
        let out = self.passed
            + self.filtered
            + self.merged
            + self.duplicate
            + self.late
            + self.dead
            + self.held;
        if out == self.input {
            return Ok(());
        }
        Err(Fault::bug(format!(
            "step \"{step}\" does not conserve its rows: {out} accounted for, {} came in: {self:?}",
            self.input
        )))
    }
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.passed += other.passed;
        self.filtered += other.filtered;
        self.merged += other.merged;
        self.duplicate += other.duplicate;
        self.late += other.late;
        self.dead += other.dead;
        self.held += other.held;
    }
}
