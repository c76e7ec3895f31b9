//! Who runs when: in production the threads of a job as they like, in a simulation one at a time.
//!
//! A simulated attempt has no other source of chance than its seed: its worker threads take turns
//! as a [`Schedule`] says, its coordinator and all that it has spawned run on a runtime of one
//! thread that the same schedule gives turns to, it waits by the injected clock alone, and the
//! names it writes under come from an injected identity.

use std::fmt::Debug;
use std::sync::Arc;

use thalweg_checkpoint::Identity;

/// Gives turns to the worker threads of one attempt.
pub trait Schedule: Send + Sync + Debug {
    /// So many worker threads are about to begin.
    fn begin(&self, workers: usize);

    /// The worker's turn, if it had one, is over; returns when it has the next. Never before each
    /// of the workers is here.
    fn turn(&self, worker: usize);

    /// The worker has no more use for turns.
    fn leave(&self, worker: usize);

    /// All threads are gone, and the coordinator has been told.
    fn end(&self);
}

/// What makes an attempt a simulated one.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Gives turns.
    pub schedule: Arc<dyn Schedule>,
    /// Who runs the job, as the job log says.
    pub identity: Identity,
}

/// Gives the turns of one worker back, also if it panics.
pub(crate) struct Turns<'a> {
    schedule: &'a dyn Schedule,
    worker: usize,
}

impl<'a> Turns<'a> {
    /// Waits for the first turn.
    pub(crate) fn begin(schedule: &'a dyn Schedule, worker: usize) -> Self {
        schedule.turn(worker);
        Self { schedule, worker }
    }

    /// Waits for the next one.
    pub(crate) fn next(&self) {
        self.schedule.turn(self.worker);
    }
}

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        self.schedule.leave(self.worker);
    }
}
