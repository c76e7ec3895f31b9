//! Arguments that are known to take a function beyond its deadline.
//!
//! A function is pure, so a row with the same arguments as one that was blamed for a deadline is
//! blamed without a call. That matters where rows are evaluated again: an expression that calls a
//! function for some rows only (under a `case`, behind an `and`) is evaluated in halves to find out
//! which row failed, and a device that repeats itself sends the same values.

use std::collections::VecDeque;

use crate::trap::Failed;

/// Most rows that are remembered; the oldest go.
const ROWS_MAX: usize = 64;
/// Most bytes of arguments that are remembered of a row.
const KEY_BYTES_MAX: usize = 4_096;
/// Batches for which a row is remembered: whatever made it slow may have been something else.
const BATCHES: u64 = 256;

/// Rows that were blamed for a deadline.
#[derive(Debug, Default)]
pub(crate) struct Known {
    rows: VecDeque<Row>,
    batches: u64,
}

#[derive(Debug)]
struct Row {
    key: Vec<u8>,
    failed: Failed,
    until: u64,
}

impl Known {
    /// Another batch begins.
    pub(crate) fn begin(&mut self) {
        self.batches += 1;
        self.rows.retain(|row| row.until > self.batches);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What became of a row with these arguments, if that is known.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Failed> {
        let row = self.rows.iter().find(|row| row.key == key)?;
        Some(&row.failed)
    }

    pub(crate) fn learn(&mut self, key: Vec<u8>, failed: &Failed) {
        if key.len() > KEY_BYTES_MAX {
            return;
        }
        if self.rows.len() >= ROWS_MAX {
            self.rows.pop_front();
        }
        self.rows.push_back(Row {
            key,
            failed: failed.clone(),
            until: self.batches + BATCHES,
        });
    }
}
