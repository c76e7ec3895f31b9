//! One baton for the worker threads of a process: only who has it runs.

use std::sync::{Condvar, Mutex};

use thalweg_engine::Schedule;

use crate::world::lock;

/// The most workers a simulated process has.
pub(crate) const WORKERS_MAX: usize = 4;

/// Gives turns to worker threads as the simulation asks.
#[derive(Debug, Default)]
pub(crate) struct Baton {
    state: Mutex<State>,
    /// A worker has come, gone, or had its turn.
    told: Condvar,
    /// By worker: it has the turn.
    given: [Condvar; WORKERS_MAX],
}

#[derive(Debug, Default)]
struct State {
    expected: usize,
    arrived: usize,
    live: [bool; WORKERS_MAX],
    turn: Option<usize>,
    /// Steps that are left of the turn.
    steps: u64,
    ended: bool,
}

impl Baton {
    /// The workers that have use for a turn. Waits until all that are to come are here.
    pub(crate) fn live(&self) -> Vec<usize> {
        let mut state = lock(&self.state);
        while state.arrived < state.expected && !state.ended {
            state = self.told.wait(state).expect("no thread panics here");
        }
        let live = state.live;
        (0..WORKERS_MAX).filter(|&worker| live[worker]).collect()
    }

    /// Gives a worker so many steps, and waits until it has made them. If it is the last to leave,
    /// waits until all threads are gone.
    pub(crate) fn give(&self, worker: usize, steps: u64) {
        let mut state = lock(&self.state);
        state.turn = Some(worker);
        state.steps = steps;
        self.given[worker].notify_one();
        while state.turn.is_some() {
            state = self.told.wait(state).expect("no thread panics here");
        }
        while state.live.iter().all(|live| !live) && !state.ended {
            state = self.told.wait(state).expect("no thread panics here");
        }
    }
}

impl Schedule for Baton {
    fn begin(&self, workers: usize) {
        lock(&self.state).expected = workers;
    }

    fn turn(&self, worker: usize) {
        let mut state = lock(&self.state);
        if state.turn == Some(worker) {
            state.steps -= 1;
            if state.steps > 0 {
                return;
            }
            state.turn = None;
        } else {
            state.arrived += 1;
            state.live[worker] = true;
        }
        self.told.notify_one();
        while state.turn != Some(worker) {
            state = self.given[worker]
                .wait(state)
                .expect("no thread panics here");
        }
    }

    fn leave(&self, worker: usize) {
        let mut state = lock(&self.state);
        state.live[worker] = false;
        if state.turn == Some(worker) {
            state.turn = None;
        }
        self.told.notify_one();
    }

    fn end(&self) {
        lock(&self.state).ended = true;
        self.told.notify_one();
    }
}
