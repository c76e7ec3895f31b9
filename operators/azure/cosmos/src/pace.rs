//! When the service may be asked: concurrency that adapts, pauses it asked for, and a budget.
//!
//! Concurrency grows by one per window of successes and is halved by a 429 (additive increase,
//! multiplicative decrease); a 429 also stops every request of this sink for as long as it says,
//! since all of them draw on the container's throughput.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thalweg_stream::Clock;
use tokio::sync::Notify;

/// Concurrency at first: enough to fill a small container's throughput.
const WINDOW_START: f64 = 8.0;
/// The pause when the service says none.
const PAUSE_DEFAULT: Duration = Duration::from_millis(500);
/// Seconds of budget that may be saved up.
const BUDGET_BURST_SECONDS: f64 = 1.0;

/// The pace of one publisher.
#[derive(Debug)]
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    window_max: f64,
    /// Request units a second.
    budget: Option<f64>,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    window: f64,
    in_flight: usize,
    paused_until: Duration,
    /// Request units saved up, or owed if negative.
    balance: f64,
    balance_at: Duration,
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct Permit<'p> {
    pace: &'p Pace,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        drop(state);
        self.pace.freed.notify_one();
    }
}

/// What stands in the way of a request.
enum Obstacle {
    Until(Duration),
    InFlight,
}

impl Pace {
    pub(crate) fn new(clock: Arc<dyn Clock>, concurrency_max: usize, budget: Option<f64>) -> Self {
        let window_max = concurrency_max.max(1) as f64;
        let now = clock.elapsed();
        Self {
            clock,
            window_max,
            budget,
            state: Mutex::new(State {
                window: WINDOW_START.min(window_max),
                in_flight: 0,
                paused_until: Duration::ZERO,
                balance: 0.0,
                balance_at: now,
            }),
            freed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole, so a panic elsewhere leaves nothing torn.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request may be sent.
    ///
    /// # Cancel safety
    /// Nothing is taken before the permit is returned.
    pub(crate) async fn enter(&self) -> Permit<'_> {
        loop {
            let freed = self.freed.notified();
            match self.try_enter() {
                Ok(permit) => return permit,
                Err(Obstacle::Until(wait)) => tokio::time::sleep(wait).await,
                Err(Obstacle::InFlight) => freed.await,
            }
        }
    }

    fn try_enter(&self) -> Result<Permit<'_>, Obstacle> {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        if now < state.paused_until {
            return Err(Obstacle::Until(state.paused_until - now));
        }
        if let Some(budget) = self.budget {
            let earned = (now.saturating_sub(state.balance_at)).as_secs_f64() * budget;
            state.balance = (state.balance + earned).min(budget * BUDGET_BURST_SECONDS);
            state.balance_at = now;
            if state.balance < 0.0 {
                return Err(Obstacle::Until(Duration::from_secs_f64(
                    -state.balance / budget,
                )));
            }
        }
        if state.in_flight >= state.window as usize {
            return Err(Obstacle::InFlight);
        }
        state.in_flight += 1;
        Ok(Permit { pace: self })
    }

    /// A request was answered, and cost something.
    pub(crate) fn answered(&self, request_units: f64) {
        let mut state = self.lock();
        if state.in_flight + 1 >= state.window as usize {
            state.window = (state.window + 1.0 / state.window).min(self.window_max);
        }
        state.balance -= request_units;
        drop(state);
        // A wider window may let somebody in.
        self.freed.notify_one();
    }

    /// A request was answered with 429.
    pub(crate) fn throttled(&self, after: Option<Duration>) {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        // Requests that were in flight together are one sign, not many.
        if now >= state.paused_until {
            state.window = (state.window / 2.0).max(1.0);
        }
        let until = now + after.unwrap_or(PAUSE_DEFAULT);
        state.paused_until = state.paused_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::time::Duration;

    use thalweg_stream::Clock;

    use super::{Obstacle, Pace};

    #[derive(Debug, Default)]
    struct Hand(Mutex<Duration>);

    impl Hand {
        fn advance(&self, by: u64) {
            *self.0.lock().expect("no panic") += Duration::from_millis(by);
        }
    }

    impl Clock for Hand {
        fn now_ms(&self) -> i64 {
            0
        }
        fn elapsed(&self) -> Duration {
            *self.0.lock().expect("no panic")
        }
    }

    fn wait(pace: &Pace) -> Option<Duration> {
        match pace.try_enter() {
            Ok(permit) => {
                drop(permit);
                None
            }
            Err(Obstacle::Until(wait)) => Some(wait),
            Err(Obstacle::InFlight) => Some(Duration::MAX),
        }
    }

    #[test]
    fn a_pause_holds_everything_and_is_never_shortened() {
        let clock = Arc::new(Hand::default());
        let pace = Pace::new(clock.clone(), 64, None);
        pace.throttled(Some(Duration::from_millis(300)));
        pace.throttled(Some(Duration::from_millis(100)));
        assert_eq!(wait(&pace), Some(Duration::from_millis(300)));
        clock.advance(299);
        assert_eq!(wait(&pace), Some(Duration::from_millis(1)));
        clock.advance(1);
        assert_eq!(wait(&pace), None);
    }

    #[test]
    fn one_storm_halves_the_window_once_and_success_widens_it() {
        let clock = Arc::new(Hand::default());
        let pace = Pace::new(clock.clone(), 16, None);
        let width = |pace: &Pace| {
            let permits: Vec<_> = std::iter::from_fn(|| pace.try_enter().ok()).collect();
            permits.len()
        };
        assert_eq!(width(&pace), 8);
        for _ in 0..8 {
            pace.throttled(Some(Duration::from_millis(10)));
        }
        clock.advance(10);
        assert_eq!(width(&pace), 4);
        for _ in 0..1000 {
            let held: Vec<_> = std::iter::from_fn(|| pace.try_enter().ok()).collect();
            pace.answered(1.0);
            drop(held);
        }
        assert_eq!(width(&pace), 16);
    }

    #[test]
    fn the_budget_is_kept_on_average() {
        let clock = Arc::new(Hand::default());
        let pace = Pace::new(clock.clone(), 64, Some(100.0));
        assert_eq!(wait(&pace), None);
        pace.answered(50.0);
        assert_eq!(wait(&pace), Some(Duration::from_millis(500)));
        clock.advance(500);
        assert_eq!(wait(&pace), None);
        clock.advance(60_000);
        assert_eq!(wait(&pace), None);
        pace.answered(300.0);
        assert_eq!(
            wait(&pace),
            Some(Duration::from_secs(2)),
            "one second is saved up, no more"
        );
    }
}
