//! When an epoch is closed and what it is: the epoch clock's decisions. Pure.

use thalweg_stream::EpochKind;

/// How a run is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not yet.
    No,
    /// The input has ended.
    Finished,
    /// Somebody asked for a stop.
    Stop,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Since the last epoch was closed.
    pub(crate) open_ms: u64,
    /// As much as an epoch may read has been read.
    pub(crate) full: bool,
    /// Epochs closed and not finished everywhere.
    pub(crate) in_flight: u64,
    /// Since the last checkpoint was begun.
    pub(crate) since_checkpoint_ms: u64,
    /// A checkpoint is being prepared.
    pub(crate) preparing: bool,
    /// A savepoint has been asked for.
    pub(crate) savepoint: bool,
    /// Most checkpoints any sink has not yet published.
    pub(crate) backlog: usize,
    /// How the run is to end.
    pub(crate) ending: Ending,
    /// No checkpoint has been begun since it is known to end.
    pub(crate) urgent: bool,
    /// All epochs that hold input are committed, and all output is visible and confirmed.
    pub(crate) settled: bool,
    /// Somebody asked for a stop so long ago that output which is still not visible is left to the
    /// next run.
    pub(crate) overdue: bool,
    /// The last epoch has been closed.
    pub(crate) ended: bool,
}

/// The rhythm of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    pub(crate) epoch_ms: u64,
    pub(crate) checkpoint_ms: u64,
    pub(crate) in_flight_max: u64,
    pub(crate) backlog_max: usize,
}

/// Whether to close the open epoch now, and as what.
pub(crate) fn close(facts: &Facts, rhythm: &Rhythm) -> Option<EpochKind> {
    if facts.ended || facts.in_flight > rhythm.in_flight_max {
        return None;
    }
    // At most one checkpoint is in preparation, and output that cannot be published slows the job.
    let may_seal = !facts.preparing && (facts.overdue || facts.backlog < rhythm.backlog_max);
    let ending = facts.ending != Ending::No;
    if may_seal && ending && (facts.settled || facts.overdue) {
        return Some(EpochKind::Final);
    }
    if may_seal && facts.savepoint {
        return Some(EpochKind::Savepoint);
    }
    // The input has ended: nothing is gained by waiting.
    if may_seal && facts.urgent {
        return Some(EpochKind::Checkpoint);
    }
    // While the run is ending, each checkpoint confirms what the one before it published.
    let pace_ms = if ending {
        rhythm.epoch_ms
    } else {
        rhythm.checkpoint_ms
    };
    let due = facts.full || facts.open_ms >= rhythm.epoch_ms;
    if may_seal && facts.since_checkpoint_ms >= pace_ms && due {
        return Some(EpochKind::Checkpoint);
    }
    due.then_some(EpochKind::Ordinary)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RHYTHM: Rhythm = Rhythm {
        epoch_ms: 100,
        checkpoint_ms: 10_000,
        in_flight_max: 3,
        backlog_max: 8,
    };
    const CALM: Facts = Facts {
        open_ms: 0,
        full: false,
        in_flight: 0,
        since_checkpoint_ms: 0,
        preparing: false,
        savepoint: false,
        backlog: 0,
        ending: Ending::No,
        urgent: false,
        settled: false,
        overdue: false,
        ended: false,
    };

    #[test]
    fn epochs_are_closed_by_time_and_by_bytes() {
        assert_eq!(close(&CALM, &RHYTHM), None);
        assert_eq!(
            close(
                &Facts {
                    open_ms: 100,
                    ..CALM
                },
                &RHYTHM
            ),
            Some(EpochKind::Ordinary)
        );
        assert_eq!(
            close(&Facts { full: true, ..CALM }, &RHYTHM),
            Some(EpochKind::Ordinary)
        );
        assert_eq!(
            close(
                &Facts {
                    full: true,
                    in_flight: 4,
                    ..CALM
                },
                &RHYTHM
            ),
            None
        );
    }

    #[test]
    fn one_checkpoint_at_a_time_and_none_over_the_cap() {
        let due = Facts {
            open_ms: 100,
            since_checkpoint_ms: 10_000,
            ..CALM
        };
        assert_eq!(close(&due, &RHYTHM), Some(EpochKind::Checkpoint));
        let ordinary = Some(EpochKind::Ordinary);
        assert_eq!(
            close(
                &Facts {
                    preparing: true,
                    ..due
                },
                &RHYTHM
            ),
            ordinary
        );
        assert_eq!(close(&Facts { backlog: 8, ..due }, &RHYTHM), ordinary);
        assert_eq!(
            close(
                &Facts {
                    savepoint: true,
                    ..CALM
                },
                &RHYTHM
            ),
            Some(EpochKind::Savepoint)
        );
    }

    #[test]
    fn a_stop_does_not_wait_for_ever() {
        let stopping = Facts {
            ending: Ending::Stop,
            backlog: 8,
            ..CALM
        };
        assert_eq!(close(&stopping, &RHYTHM), None);
        let overdue = Facts {
            overdue: true,
            ..stopping
        };
        assert_eq!(close(&overdue, &RHYTHM), Some(EpochKind::Final));
        let preparing = Facts {
            preparing: true,
            ..overdue
        };
        assert_eq!(close(&preparing, &RHYTHM), None);
    }

    #[test]
    fn a_run_ends_when_everything_is_settled() {
        let ending = Facts {
            ending: Ending::Finished,
            open_ms: 100,
            ..CALM
        };
        assert_eq!(close(&ending, &RHYTHM), Some(EpochKind::Ordinary));
        let urgent = Facts {
            urgent: true,
            open_ms: 0,
            ..ending
        };
        assert_eq!(close(&urgent, &RHYTHM), Some(EpochKind::Checkpoint));
        assert_eq!(
            close(
                &Facts {
                    since_checkpoint_ms: 100,
                    ..ending
                },
                &RHYTHM
            ),
            Some(EpochKind::Checkpoint)
        );
        assert_eq!(
            close(
                &Facts {
                    settled: true,
                    ..ending
                },
                &RHYTHM
            ),
            Some(EpochKind::Final)
        );
        assert_eq!(
            close(
                &Facts {
                    ended: true,
                    settled: true,
                    ..ending
                },
                &RHYTHM
            ),
            None
        );
    }
}
