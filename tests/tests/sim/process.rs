//! One process that runs the job: a runtime of one thread, worker threads that take turns, a clock
//! and a way to the store of its own. It can be stopped at any turn, frozen, and killed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use thalweg_checkpoint::identity::{Identity, Process as Named};
use thalweg_checkpoint::{Faults, Store};
use thalweg_engine::{Command, Outcome, Simulation, StatusBoard, Surroundings, simulate};
use thalweg_metrics::Metrics;
use thalweg_stream::Fault;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use crate::baton::Baton;
use crate::faults::Passage;
use crate::job::{Place, Shape, job};
use crate::world::{SimClock, World, lock};

/// How a run has ended, once it has.
type Ended = Arc<Mutex<Option<Result<Outcome, Fault>>>>;

/// A process of the simulation.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) number: u64,
    pub(crate) workers: usize,
    pub(crate) board: StatusBoard,
    pub(crate) clock: Arc<SimClock>,
    /// Turns for which it is frozen.
    pub(crate) frozen: u64,
    /// A worker that has no turn while the others have theirs, and for how many turns.
    pub(crate) left_out: (usize, u64),
    /// It was asked to stop, as there is nothing more to do.
    pub(crate) leaves: bool,
    runtime: Option<Runtime>,
    baton: Arc<Baton>,
    commands: mpsc::Sender<Command>,
    doomed: Arc<AtomicBool>,
    ended: Ended,
}

impl Process {
    pub(crate) fn start(
        world: &Arc<World>,
        store: &Store,
        shape: Shape,
        number: u64,
        workers: usize,
        take_over: bool,
    ) -> Self {
        let runtime = Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime");
        let clock = Arc::new(SimClock::new(Arc::clone(world)));
        let place = Place {
            world: Arc::clone(world),
            clock: Arc::clone(&clock),
            doomed: Arc::default(),
        };
        let passage: Arc<dyn Faults> = Arc::new(Passage {
            world: Arc::clone(world),
            clock: Arc::clone(&clock),
            doomed: Arc::clone(&place.doomed),
            struck: Mutex::default(),
        });
        let (commands, receiver) = mpsc::channel(4);
        let board = StatusBoard::default();
        let surroundings = Surroundings {
            store: store.with_faults(passage),
            clock: Arc::clone(&clock) as _,
            commands: receiver,
            board: board.clone(),
            metrics: Arc::new(Metrics::new("sim").expect("the list is well formed")),
        };
        let baton = Arc::new(Baton::default());
        let named = Named {
            host: format!("host-{number}"),
            pid: u32::try_from(number).expect("few"),
            ..Named::default()
        };
        let simulation = Simulation {
            schedule: Arc::clone(&baton) as _,
            identity: Identity::new(format!("run-{number}"), named),
        };
        let ended = Ended::default();
        let tell = Arc::clone(&ended);
        let job = job(&place, shape, workers, take_over);
        runtime.spawn(async move {
            let result = simulate(job, surroundings, simulation).await;
            *lock(&tell) = Some(result);
        });
        Self {
            number,
            workers,
            board,
            clock,
            frozen: 0,
            left_out: (0, 0),
            leaves: false,
            runtime: Some(runtime),
            baton,
            commands,
            doomed: place.doomed,
            ended,
        }
    }

    /// The workers that can have a turn.
    pub(crate) fn live(&self) -> Vec<usize> {
        self.baton.live()
    }

    /// Leaves one of several workers out for so many turns, unless one is left out already.
    pub(crate) fn leave_out(&mut self, world: &World, turns: u64) {
        let live = self.live();
        if live.len() > 1 && self.left_out().is_none() {
            let worker = live[world.below(live.len() as u64) as usize];
            world.trace(|| format!("leave out {}.{worker} {turns}", self.number));
            self.left_out = (worker, turns);
        }
    }

    /// The worker that is left out now.
    pub(crate) fn left_out(&self) -> Option<usize> {
        let (worker, turns) = self.left_out;
        (turns > 0).then_some(worker)
    }

    /// Gives a worker a turn.
    pub(crate) fn step(&self, worker: usize, steps: u64) {
        self.baton.give(worker, steps);
    }

    /// Gives the coordinator, uploads, publishers, heartbeat a turn: all of them that can go on.
    pub(crate) fn turn(&self) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(tokio::task::yield_now());
        }
    }

    /// Whether it will hear of it: a process that has not yet begun to listen takes four.
    pub(crate) fn ask(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// An effect has killed it.
    pub(crate) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Relaxed)
    }

    /// How its run has ended.
    pub(crate) fn ended(&self) -> Option<Result<Outcome, Fault>> {
        lock(&self.ended).take()
    }
}

impl Drop for Process {
    /// Dies: whatever it was at is dropped where it stood. Its threads leave, as they find the run
    /// gone.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        loop {
            let live = self.baton.live();
            let Some(worker) = live.first() else { return };
            self.baton.give(*worker, 1);
        }
    }
}
