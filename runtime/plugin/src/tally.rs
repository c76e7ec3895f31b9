//! What is counted of the calls of one caller.

use std::time::Duration;

use crate::trap::Kind;

/// What one caller has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls into the guest.
    pub calls: u64,
    /// In the order of the kinds.
    failed: [u64; Kind::ALL.len()],
    /// CPU time spent, the conversion of columns included.
    pub cpu: Duration,
    /// Memory of the instance now (bytes).
    pub memory_bytes: usize,
}

impl Tally {
    /// Calls, and rows of calls, that failed, by kind.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let kinds = Kind::ALL.iter().map(|kind| kind.label());
        kinds.zip(self.failed.iter().copied())
    }

    /// How many calls have failed in this way.
    pub(crate) fn of(&self, kind: Kind) -> u64 {
        let mut counts = Kind::ALL.iter().zip(&self.failed);
        counts
            .find(|(one, _)| **one == kind)
            .map_or(0, |(_, count)| *count)
    }

    pub(crate) fn fail(&mut self, kind: Kind, by: u64) {
        for (one, count) in Kind::ALL.iter().zip(&mut self.failed) {
            if *one == kind {
                *count += by;
            }
        }
    }
}
