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
}

impl Progress {
    /// Nothing known yet.
    pub const START: Self = Self {
        watermark: START_OF_TIME,
        idle: false,
        finished: false,
    };
    /// The input has ended.
    pub const END: Self = Self {
        watermark: END_OF_TIME,
        idle: false,
        finished: true,
    };

    /// The progress of a union: the least over the inputs that are neither idle nor finished.
    ///
    /// If all are idle or finished, the greatest of them holds (nothing holds the time back), and
    /// the union is idle, or finished if all are.
    #[must_use]
    pub fn union(inputs: &[Self]) -> Self {
        let live = inputs
            .iter()
            .filter(|p| !p.idle && !p.finished)
            .map(|p| p.watermark)
            .min();
        let finished = inputs.iter().all(|p| p.finished);
        match live {
            Some(watermark) => Self {
                watermark,
                idle: false,
                finished: false,
            },
            None if finished => Self::END,
            None => {
                // Finished inputs stand at the end of time; the idle ones say where we are.
                let idle = inputs
                    .iter()
                    .filter(|p| !p.finished)
                    .map(|p| p.watermark)
                    .max();
                Self {
                    watermark: idle.unwrap_or(START_OF_TIME),
                    idle: true,
                    finished: false,
                }
            }
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
        Progress {
            watermark,
            idle: false,
            finished: false,
        }
    }
    const fn idle(watermark: i64) -> Progress {
        Progress {
            watermark,
            idle: true,
            finished: false,
        }
    }

    #[test]
    fn union_takes_the_least_of_what_is_live() {
        assert_eq!(Progress::union(&[at(25), at(10), at(17)]), at(10));
        assert_eq!(Progress::union(&[at(15), at(10), idle(3)]), at(10));
        assert_eq!(Progress::union(&[at(15), Progress::END]), at(15));
        assert_eq!(Progress::union(&[idle(10), idle(5), idle(3)]), idle(10));
        assert_eq!(Progress::union(&[idle(10), Progress::END]), idle(10));
        assert_eq!(
            Progress::union(&[Progress::END, Progress::END]),
            Progress::END
        );
    }
}
