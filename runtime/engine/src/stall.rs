//! The stall alarm: an attempt in which nothing moves, although there is something to do, is ended.
//! Pure.
//!
//! Timely waits for ever on a thread that is blocked or gone. What is *not* a stall: a worker that
//! builds its part (restores state, compiles plugins), one that computes, sources that are stopped
//! because output cannot be written, as epochs pass all the same.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a worker may be in one call, or the frontier stand still, without using the CPU. With a
/// look and the [second](crate::threads::LEAVE) that it has to leave, the attempt ends within five.
const BLOCKED_MAX: Duration = Duration::from_secs(3);
/// How long a worker may be in one call at all: firing ten million windows takes seconds.
const CALL_MAX: Duration = Duration::from_secs(60);
/// CPU time within [`BLOCKED_MAX`] that does not count.
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

/// Something that moves, or ought to.
#[derive(Clone, Copy, Debug, Default)]
struct Mover {
    /// When it was last seen to move.
    moved: Duration,
    /// Since when it has not used the CPU, and the CPU time by then.
    quiet: (Duration, Duration),
}

impl Mover {
    fn moves(&mut self, now: Duration, cpu: Duration) {
        *self = Self {
            moved: now,
            quiet: (now, cpu),
        };
    }

    /// It has not moved; for how long, if that is too long.
    fn stands(&mut self, now: Duration, cpu: Duration) -> Option<Duration> {
        if cpu.saturating_sub(self.quiet.1) > CPU_NOISE {
            self.quiet = (now, cpu);
        }
        let since = now.saturating_sub(self.moved);
        let blocked = now.saturating_sub(self.quiet.0) >= BLOCKED_MAX;
        (blocked || since >= CALL_MAX).then_some(since)
    }
}

/// Looks at workers and at the frontier.
#[derive(Debug, Default)]
pub(crate) struct StallAlarm {
    looked: Duration,
    /// Each worker, and its turns so far.
    workers: Vec<(Mover, u64)>,
    /// The epochs that are finished everywhere, by the CPU of all workers; and how many they were.
    frontier: (Mover, u64),
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
        let anew = late || self.workers.len() != workers.len();
        self.looked = now;
        self.workers.resize_with(workers.len(), Default::default);
        let (mut stall, mut turning) = (None, true);
        for (worker, ((mover, turns), seen)) in self.workers.iter_mut().zip(workers).enumerate() {
            if anew || !seen.at_work || seen.turns != *turns {
                *turns = seen.turns;
                mover.moves(now, seen.cpu);
                continue;
            }
            turning = false;
            if let Some(since) = mover.stands(now, seen.cpu) {
                stall = stall.or(Some(Stall::Worker { worker, since }));
            }
        }
        let cpu = workers.iter().map(|seen| seen.cpu).sum();
        let (mover, finished) = &mut self.frontier;
        let at_work = workers.iter().all(|seen| seen.at_work);
        if anew || !at_work || closed <= completed || completed != *finished {
            *finished = completed;
            mover.moves(now, cpu);
        } else if let Some(since) = mover.stands(now, cpu)
            && turning
        {
            // While a worker is in a call, that worker is what stands still.
            stall = Some(Stall::Frontier { since });
        }
        stall
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
        assert_eq!(second, 5, "two seconds of work, three of waiting");
    }

    #[test]
    fn a_worker_that_computes_has_a_minute() {
        let busy = |look: u64| ([5, 4], vec![seen(1, look * 200)]);
        assert_eq!(watch(55, busy), None);
        assert!(watch(70, busy).is_some());
    }

    #[test]
    fn a_worker_that_computed_before_it_was_blocked_is_found_as_soon() {
        // A second of work in the call, and then nothing.
        let found = watch(9, |look| ([5, 4], vec![seen(1, look.min(4) * 200)]));
        let Some((4, Stall::Worker { worker: 0, .. })) = found else {
            panic!("{found:?}")
        };
    }

    #[test]
    fn a_worker_that_is_blocked_later_than_the_frontier_is_the_one_that_is_told() {
        // The last epoch is finished a second before the worker is blocked.
        let found = watch(9, |look| {
            ([5, 4], vec![seen(look, look), seen(look.min(4), 0)])
        });
        let Some((_, Stall::Worker { worker: 1, .. })) = found else {
            panic!("{found:?}")
        };
    }

    #[test]
    fn a_frontier_that_nobody_works_on_is_a_stall() {
        let found = watch(9, |look| ([7, 4], vec![seen(look, look), seen(look, 0)]));
        assert!(
            matches!(found, Some((3, Stall::Frontier { .. }))),
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
