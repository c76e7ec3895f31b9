//! Watermarks: how far in event time a stream is complete.

use serde::{Deserialize, Serialize};

use crate::planted::planted;

/// Event time before all others: nothing is known to be complete.
pub const START_OF_TIME: i64 = i64::MIN;
/// Event time after all others: the input has ended.
pub const END_OF_TIME: i64 = i64::MAX;

/// How far an input has come, as an operator sees it at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Event time up to which the input is complete, milliseconds; never goes back.
    pub watermark: i64,
    /// Whether every split is idle; a flag, so that a split which wakes contributes again.
    pub idle: bool,
    /// Whether no more rows will come.
    pub finished: bool,
    /// Of a finished input: its watermark before the end of time, which splits tell anew after a
    /// restart.
    #[serde(skip, default = "start_of_time")]
    pub before_end: i64,
}

const fn start_of_time() -> i64 {
    START_OF_TIME
}

impl Progress {
    /// Nothing known yet.
    pub const START: Self = Self {
        watermark: START_OF_TIME,
        idle: false,
        finished: false,
        before_end: START_OF_TIME,
    };
    /// The input has ended, without a row.
    pub const END: Self = Self::ended(START_OF_TIME);

    /// The input is complete so far.
    #[must_use]
    pub const fn at(watermark: i64) -> Self {
        Self {
            watermark,
            ..Self::START
        }
    }

    /// The input has ended; its watermark had come so far.
    #[must_use]
    pub const fn ended(before_end: i64) -> Self {
        Self {
            watermark: END_OF_TIME,
            idle: false,
            finished: true,
            before_end,
        }
    }

    /// The progress of a union: the least over the inputs that are neither idle nor finished.
    ///
    /// If all are idle or finished, nothing holds the time back: it is as far as any of them has
    /// come, and the union is idle, or finished if all are. A finished input among idle ones counts
    /// by where it was before its end: rows of the others are still to come, so it is not the end
    /// of time, and what it had is complete.
    #[must_use]
    pub fn union(inputs: &[Self]) -> Self {
        let live = (inputs.iter())
            .filter(|p| !p.idle && !p.finished)
            .map(|p| p.watermark);
        if let Some(watermark) = live.min() {
            return Self::at(watermark);
        }
        let reached = inputs.iter().map(Self::reached).max();
        let reached = reached.unwrap_or(START_OF_TIME);
        match inputs.iter().all(|p| p.finished) {
            true => Self::ended(reached),
            false => Self {
                idle: true,
                ..Self::at(reached)
            },
        }
    }

    /// How far it has come, or had before its end.
    const fn reached(&self) -> i64 {
        match self.finished {
            true => self.before_end,
            false => self.watermark,
        }
    }

    /// This progress, but not behind `before`: watermarks never go back.
    #[must_use]
    pub fn not_before(self, before: Self) -> Self {
        if planted("watermark-goes-back") {
            return self;
        }
        Self {
            watermark: self.watermark.max(before.watermark),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    const fn at(watermark: i64) -> Progress {
        Progress::at(watermark)
    }
    const fn idle(watermark: i64) -> Progress {
        Progress {
            idle: true,
            ..at(watermark)
        }
    }
    const fn ended(before_end: i64) -> Progress {
        Progress::ended(before_end)
    }

    #[test]
    fn union_takes_the_least_of_what_is_live() {
        assert_eq!(Progress::union(&[at(25), at(10), at(17)]), at(10));
        assert_eq!(Progress::union(&[at(15), at(10), idle(3)]), at(10));
        assert_eq!(Progress::union(&[at(15), Progress::END]), at(15));
        assert_eq!(Progress::union(&[idle(10), idle(5), idle(3)]), idle(10));
        assert_eq!(Progress::union(&[idle(10), Progress::END]), idle(10));
        assert_eq!(Progress::union(&[ended(7), ended(9)]), ended(9));
        assert_eq!(Progress::union(&[]), Progress::END);
    }

    #[test]
    fn what_a_finished_input_had_is_complete_where_the_others_are_idle() {
        assert_eq!(Progress::union(&[idle(10), ended(30)]), idle(30));
        assert_eq!(Progress::union(&[ended(5), idle(10)]), idle(10));
        assert_eq!(Progress::union(&[at(10), ended(30)]), at(10));
        let inner = Progress::union(&[ended(30), ended(20)]);
        assert_eq!(Progress::union(&[idle(10), inner]), idle(30));
    }
}
