//! Slices of event time: which one a row belongs to, which ones it can meet, when one expires.

use std::ops::Range;

/// The slices of a deduplication.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slices {
    within_ms: i64,
    length_ms: i64,
    /// Whether rows of equal key have equal event times.
    same_time: bool,
}

/// A slice is this part of `within` where only the own slice is looked at: expiry is finer.
const OWN_PARTS: i64 = 60;
/// And this part where all slices in reach are looked at: at most nine.
const ALL_PARTS: i64 = 4;

impl Slices {
    pub(crate) fn new(within_ms: i64, same_time: bool) -> Self {
        let parts = if same_time { OWN_PARTS } else { ALL_PARTS };
        Self {
            within_ms,
            // Never longer than `within`, so that a slice has at most one passed row per key.
            length_ms: (within_ms / parts).max(1),
            same_time,
        }
    }

    /// The slice that contains `time`.
    pub(crate) fn of(self, time: i64) -> i64 {
        time.div_euclid(self.length_ms)
    }

    /// The times of a slice, as far as they can be told.
    pub(crate) fn times(self, slice: i64) -> Range<i64> {
        self.start(slice)..self.start(slice.saturating_add(1))
    }

    /// The first time in a slice.
    pub(crate) fn start(self, slice: i64) -> i64 {
        slice.saturating_mul(self.length_ms)
    }

    /// The first and last slice that hold times less than `within` away from `time`.
    pub(crate) fn in_reach(self, time: i64) -> (i64, i64) {
        let reach = self.within_ms - 1;
        (
            self.of(time.saturating_sub(reach)),
            self.of(time.saturating_add(reach)),
        )
    }

    /// Whether two times are near enough for rows of equal key to be duplicates.
    pub(crate) fn near(self, a: i64, b: i64) -> bool {
        a.abs_diff(b) < self.within_ms.unsigned_abs()
    }

    /// The earliest time that is not late at `watermark`.
    pub(crate) fn earliest(self, watermark: i64) -> i64 {
        watermark.saturating_sub(self.within_ms)
    }

    /// Whether no row that is not late at `watermark` can meet a row of `slice` any more.
    pub(crate) fn expired(self, slice: i64, watermark: i64) -> bool {
        let end = i128::from(slice + 1) * i128::from(self.length_ms);
        let reach = if self.same_time { 1 } else { 2 };
        end <= i128::from(watermark) - reach * i128::from(self.within_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::Slices;

    #[test]
    fn every_near_time_is_in_reach_and_nothing_expires_too_soon() {
        for within in [1, 2, 7, 100, 1000] {
            let slices = Slices::new(within, false);
            for time in [-1003, -1, 0, 5, 999] {
                let (first, last) = slices.in_reach(time);
                for other in time - within..=time + within {
                    let reached = (first..=last).contains(&slices.of(other));
                    assert!(
                        reached || !slices.near(time, other),
                        "{within} {time} {other}"
                    );
                }
                // The oldest row that is not late, and the oldest it can meet.
                let watermark = time;
                let oldest = slices.earliest(watermark) - within + 1;
                assert!(!slices.expired(slices.of(oldest), watermark));
                assert!(slices.expired(slices.of(oldest - within - 1), watermark));
                let own = Slices::new(within, true);
                assert!(!own.expired(own.of(own.earliest(watermark)), watermark));
            }
        }
        let slices = Slices::new(i64::MAX, false);
        for time in [i64::MIN, 0, i64::MAX] {
            assert!(slices.in_reach(time).0 <= slices.of(time));
            assert!(!slices.expired(slices.of(time), time));
        }
    }
}
