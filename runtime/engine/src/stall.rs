//! The stall alarm: an attempt in which nothing moves, although there is something to do, is ended.
//! Pure.
//!
//! Timely waits for ever on a thread that is blocked or gone. What is *not* a stall: a worker that
//! builds its part (restores state, compiles plugins), one that computes, sources that are stopped
//! because output cannot be written, as epochs pass all the same.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a worker may be in one call, or the frontier stand still, without using the CPU.
const BLOCKED_MAX: Duration = Duration::from_secs(4);
/// How long a worker may be in one call at all: firing ten million windows takes seconds.
const CALL_MAX: Duration = Duration::from_secs(60);
/// CPU time in [`BLOCKED_MAX`] that does not count.
const CPU_NOISE: Duration = Duration::from_millis(40);
/// Time between two looks.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// If so much passes between two looks, it is the watcher that was not running: a frozen process
/// that has been thawed, a clock that jumps.
const LOOK_LATE: Duration = Duration::from_secs(1);

/// What is seen of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// It has built its part and has not left.
    pub(crate) at_work: bool,
    /// Calls and turns so far.
    pub(crate) turns: u64,
    /// CPU time so far.
    pub(crate) cpu: Duration,
}

/// What does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// A worker is in one call for so long.
    Worker { worker: usize, since: Duration },
    /// Epochs are closed, and nobody works on them.
    Frontier { since: Duration },
}

/// Looks at workers and at the frontier.
#[derive(Debug, Default)]
pub(crate) struct StallAlarm {
    looked: Duration,
    /// When each worker was last seen to turn, and what was seen then.
    workers: Vec<(Duration, Seen)>,
    /// When the frontier was last seen to move, and the CPU time of all workers by then.
    frontier: (Duration, u64, Duration),
}

impl StallAlarm {
    /// Whether it is time to look.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.looked) >= LOOK_EVERY
    }

    /// Looks: epochs up to `closed` are closed, those up to `completed` are finished everywhere.
    pub(crate) fn look(
        &mut self,
        now: Duration,
        [closed, completed]: [u64; 2],
        workers: &[Seen],
    ) -> Option<Stall> {
        let late = now.saturating_sub(self.looked) >= LOOK_LATE;
        self.looked = now;
        let cpu: Duration = workers.iter().map(|seen| seen.cpu).sum();
        if late || self.workers.len() != workers.len() {
            self.workers = workers.iter().map(|&seen| (now, seen)).collect();
            self.frontier = (now, completed, cpu);
            return None;
        }
        for ((moved, before), seen) in self.workers.iter_mut().zip(workers) {
            if !seen.at_work || seen.turns != before.turns {
                (*moved, *before) = (now, *seen);
            }
        }
        let at_work = workers.iter().all(|seen| seen.at_work);
        if !at_work || closed <= completed || completed != self.frontier.1 {
            self.frontier = (now, completed, cpu);
        }
        let workers = self.workers.iter().zip(workers).enumerate();
        for (worker, ((moved, before), seen)) in workers {
            let since = now.saturating_sub(*moved);
            let idle = seen.cpu.saturating_sub(before.cpu) <= CPU_NOISE;
            if since >= CALL_MAX || (since >= BLOCKED_MAX && idle) {
                return Some(Stall::Worker { worker, since });
            }
        }
        let since = now.saturating_sub(self.frontier.0);
        let idle = cpu.saturating_sub(self.frontier.2) <= CPU_NOISE;
        match since >= CALL_MAX || (since >= BLOCKED_MAX && idle) {
            true => Some(Stall::Frontier { since }),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 250 ms for so many seconds; `at` says what is seen.
    fn watch(
        seconds: u64,
        mut at: impl FnMut(u64) -> ([u64; 2], Vec<Seen>),
    ) -> Option<(u64, Stall)> {
        let mut alarm = StallAlarm::default();
        (0..seconds * 4).find_map(|look| {
            let now = Duration::from_secs(100) + LOOK_EVERY * u32::try_from(look).expect("small");
            let (epochs, workers) = at(look);
            alarm
                .look(now, epochs, &workers)
                .map(|stall| (look / 4, stall))
        })
    }

    fn seen(turns: u64, cpu_ms: u64) -> Seen {
        Seen {
            at_work: true,
            turns,
            cpu: Duration::from_millis(cpu_ms),
        }
    }

    #[test]
    fn a_blocked_worker_is_found_within_five_seconds() {
        let found = watch(9, |look| {
            let stuck = seen(look.min(8), look.min(8));
            ([look + 1, look.min(8)], vec![seen(look, look), stuck])
        });
        let Some((second, Stall::Worker { worker: 1, .. })) = found else {
            panic!("{found:?}")
        };
        assert!(second <= 6, "two seconds of work, four of waiting");
    }

    #[test]
    fn a_worker_that_computes_has_a_minute() {
        let busy = |look: u64| ([5, 4], vec![seen(1, look * 200)]);
        assert_eq!(watch(55, busy), None);
        assert!(watch(70, busy).is_some());
    }

    #[test]
    fn a_frontier_that_nobody_works_on_is_a_stall() {
        let found = watch(9, |look| ([7, 4], vec![seen(look, look), seen(look, 0)]));
        assert!(
            matches!(found, Some((4, Stall::Frontier { .. }))),
            "{found:?}"
        );
    }

    #[test]
    fn building_idling_and_having_been_frozen_are_no_stalls() {
        let building = |look| {
            let builds = Seen {
                at_work: false,
                ..seen(0, 0)
            };
            ([3, 0], vec![seen(look, look), builds])
        };
        assert_eq!(watch(100, building), None);
        assert_eq!(watch(100, |look| ([4, 4], vec![seen(look, 0)])), None);
        let mut alarm = StallAlarm::default();
        let workers = [seen(1, 0)];
        alarm.look(Duration::from_secs(100), [5, 4], &workers);
        let thawed = alarm.look(Duration::from_secs(200), [5, 4], &workers);
        assert_eq!(thawed, None);
    }
}
