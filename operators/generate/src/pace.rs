//! Pacing: how many records are due at a rate, by the job's clock.

use std::time::Duration;

/// Longest time whose records are given out at once after a pause: a reader that flow control held
/// back does not make up for hours.
const BURST_S_MAX: f64 = 1.0;
/// Shortest wait: at high rates records come in portions of this long.
const WAIT_MIN: Duration = Duration::from_millis(10);
/// Longest wait, so that a wait is never far off when the clock is not the operating system's.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// Credit for records, earned by time.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: f64,
    credit: f64,
    at: Duration,
}

impl Pace {
    /// A pace of `per_second` records that begins at `now` with one record.
    pub(crate) fn new(per_second: f64, now: Duration) -> Self {
        Self {
            per_second,
            credit: 1.0,
            at: now,
        }
    }

    /// How many records are due at `now`.
    pub(crate) fn due(&mut self, now: Duration) -> u64 {
        let earned = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.at = self.at.max(now);
        self.credit = (self.credit + earned).min((self.per_second * BURST_S_MAX).max(1.0));
        self.credit as u64
    }

    /// Uses up the credit of records that were given out.
    pub(crate) fn spend(&mut self, records: u64) {
        self.credit -= records as f64;
    }

    /// How long to wait from the last question on until something is due.
    pub(crate) fn wait(&self) -> Duration {
        let missing_s = ((1.0 - self.credit) / self.per_second).max(0.0);
        Duration::from_secs_f64(missing_s.min(WAIT_MAX.as_secs_f64())).max(WAIT_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::Duration;

    #[test]
    fn as_many_are_due_as_the_rate_says_over_any_steps() {
        let mut pace = Pace::new(300.0, Duration::ZERO);
        let mut given = 0;
        for step in 0..=1000 {
            let due = pace.due(Duration::from_millis(step * 7));
            pace.spend(due);
            given += due;
        }
        assert!(
            (2100..=2101).contains(&given),
            "{given} in 7 s at 300 a second"
        );
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut pace = Pace::new(50.0, Duration::ZERO);
        assert_eq!(pace.due(Duration::from_secs(3600)), 50);
        let mut slow = Pace::new(0.5, Duration::ZERO);
        assert_eq!(slow.due(Duration::ZERO), 1);
        slow.spend(1);
        assert_eq!(slow.due(Duration::from_millis(1990)), 0);
        assert!(slow.wait() <= Duration::from_millis(20));
        assert_eq!(slow.due(Duration::from_millis(2010)), 1);
    }
}
