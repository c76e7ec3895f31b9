//! The simulation: one thing happens at a time, and the seed says which.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thalweg_checkpoint::{Access, Store};
use thalweg_engine::{Command, Outcome};
use thalweg_stream::{Class, Fault};

use crate::judge;
use crate::plan::Plan;
use crate::process::Process;
use crate::shrink::Less;
use crate::world::{Strike, Weather, World, lock};

/// Turns after which a job that has had fair weather must have come to its end.
const TURNS_MAX: u64 = 60_000;

/// What to simulate.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) calm: Option<Calm>,
    pub(crate) strikes: Vec<Strike>,
    pub(crate) less: Less,
}

/// Fair weather and little input: nothing happens but the strikes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calm {
    /// How often there is a checkpoint.
    pub(crate) every: Duration,
    /// After how many entries the job log is folded, if it is, and how many fences it keeps.
    pub(crate) folds: Option<(u64, u64)>,
    /// The turn at which somebody asks for a savepoint.
    pub(crate) savepoint: Option<u64>,
}

impl Scenario {
    /// That of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            seed,
            calm: None,
            strikes: Vec::new(),
            less: Less::default(),
        }
    }
}

/// What a simulation was like.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) hash: u64,
    pub(crate) trace: Vec<String>,
    pub(crate) seen: std::collections::BTreeMap<&'static str, u64>,
    pub(crate) effects: Vec<String>,
    pub(crate) plan: Plan,
    /// What is wrong, if anything is.
    pub(crate) wrong: Vec<String>,
}

/// Runs a scenario to its end.
pub(crate) fn run(scenario: &Scenario) -> Ran {
    static STORES: AtomicU64 = AtomicU64::new(0);
    let world = World::new(scenario.seed, scenario.strikes.clone());
    let name = format!("memory://sim-{}", STORES.fetch_add(1, Ordering::Relaxed));
    let store = Store::open(&name, Access::Create).expect("a store");
    lock(&world.outside).store = Some(store.clone());
    let mut kernel = Kernel::new(scenario, Arc::clone(&world), store.clone());
    let mut wrong = Vec::new();
    if let Err(what) = kernel.run() {
        wrong.push(what);
    }
    kernel.processes.clear();
    let plan = kernel.plan;
    let mut outside = lock(&world.outside);
    outside.learn();
    wrong.append(&mut outside.violations);
    if wrong.is_empty() {
        wrong = judge::judge(&plan.shape, &outside, &world);
    }
    drop(outside);
    sweep(&store);
    let (hash, trace) = world.traced();
    Ran {
        hash,
        trace,
        seen: world.seen(),
        effects: world.effects(),
        plan,
        wrong,
    }
}

/// A store in memory stays as long as the process: empties it.
fn sweep(store: &Store) {
    futures::executor::block_on(async {
        for found in store.list("").await.expect("lists") {
            store.delete(&found.name).await.expect("deletes");
        }
    });
}

struct Kernel {
    world: Arc<World>,
    store: Store,
    plan: Plan,
    calm: Option<Calm>,
    processes: Vec<Process>,
    starts: u64,
    turns: u64,
    /// Turns in a row in which only coordinators ran.
    idle: u64,
}

impl Kernel {
    fn new(scenario: &Scenario, world: Arc<World>, store: Store) -> Self {
        let plan = Plan::draw(scenario);
        Self {
            world,
            store,
            plan,
            calm: scenario.calm,
            processes: Vec::new(),
            starts: 0,
            turns: 0,
            idle: 0,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        *lock(&self.world.weather) = self.plan.weather;
        self.start(None);
        loop {
            self.turns += 1;
            if self.turns == self.plan.foul {
                *lock(&self.world.weather) = Weather::default();
            }
            if self.turns > self.plan.foul + TURNS_MAX {
                return Err(format!("no end in sight: {:?}", self.processes));
            }
            lock(&self.world.outside).learn();
            lock(&self.world.outside).deliver(&self.world);
            self.leave();
            self.strike();
            self.turn();
            if self.reap()? {
                return Ok(());
            }
            self.pass();
        }
    }

    /// Whether a job without an end has nothing more to do: in fair weather it has committed all
    /// there is, and all splits are idle if they ever are.
    fn is_done(&self) -> bool {
        let shape = &self.plan.shape;
        if !shape.input.is_endless() || self.turns < self.plan.foul {
            return false;
        }
        let outside = lock(&self.world.outside);
        let newest = outside.commits.values().next_back();
        let sources = newest
            .into_iter()
            .flat_map(|manifest| manifest.sources.values());
        let mut splits = sources.flat_map(|source| &source.splits);
        judge::has_read_all(&shape.input, &outside)
            && splits.all(|split| split.finished || split.idle == shape.idle_after_ms.is_some())
    }

    /// Asks a job without an end to stop once it has nothing more to do.
    fn leave(&mut self) {
        if self.is_done()
            && let Some(newest) = self.processes.last_mut().filter(|newest| !newest.leaves)
        {
            newest.leaves = newest.ask(Command::Stop);
        }
    }

    /// Starts a process, as a successor if another one is (thought to be) dead.
    fn start(&mut self, last: Option<&Process>) {
        let workers = match self.calm {
            Some(_) => 1 + (self.starts % 2) as usize,
            None => 1 + self.world.below(4) as usize,
        };
        // Who does not take over waits until the heartbeat is stale.
        let take_over =
            self.calm.is_some() || !self.processes.is_empty() || !self.world.chance(100);
        self.starts += 1;
        self.world.trace(|| format!("start {workers} {take_over}"));
        if last.is_some_and(|last| last.workers != workers) {
            self.world
                .sometimes("restarted with another number of workers");
        }
        self.processes.push(Process::start(
            &self.world,
            &self.store,
            self.plan.shape,
            self.starts,
            workers,
            take_over,
        ));
    }

    /// Lets the weather do its worst.
    fn strike(&mut self) {
        let weather = self.world.weather();
        if let Some(newest) = self.processes.last() {
            if self.world.chance(weather.stop) {
                newest.ask(Command::Stop);
            }
            let planned = self.calm.and_then(|calm| calm.savepoint);
            if planned == Some(self.turns) || self.world.chance(weather.savepoint) {
                // Nobody waits to hear of it.
                newest.ask(Command::Savepoint(tokio::sync::oneshot::channel().0));
            }
            if self.world.chance(weather.clock_jumps) {
                self.world.sometimes("a clock jumped");
                newest.clock.jump();
            }
        }
        if self.world.chance(weather.crash)
            && let Some(dead) = self.processes.pop()
        {
            self.world.sometimes(match dead.live().is_empty() {
                true => "killed while it started or ended",
                false => "killed while it ran",
            });
            self.bury(&dead);
        }
        if self.world.chance(weather.left_out)
            && let Some(newest) = self.processes.last_mut()
        {
            let turns = 1 + self.world.below(600);
            newest.leave_out(&self.world, turns);
        }
        // One zombie at a time is enough.
        if self.processes.len() == 1 && self.world.chance(weather.freeze) {
            let turns = 1 + self.world.below(600);
            self.processes[0].frozen = turns;
            self.world.trace(|| format!("freeze {turns}"));
            match self.world.chance(500) {
                true => {
                    self.world.sometimes("frozen, with a successor");
                    self.succeed();
                }
                false => self.world.sometimes("frozen for a while"),
            }
        }
    }

    fn succeed(&mut self) {
        let last = self.processes.pop();
        let zombie = last.expect("there is one");
        let workers = zombie.workers;
        self.processes.push(zombie);
        self.start(None);
        if self.processes.last().is_some_and(|p| p.workers != workers) {
            self.world
                .sometimes("restarted with another number of workers");
        }
    }

    /// A process is gone; another one takes its place unless there is one already.
    fn bury(&mut self, dead: &Process) {
        self.world.trace(|| format!("dead {}", dead.number));
        let status = dead.board.read();
        for _ in 0..status.checkpoints_failed {
            self.world.sometimes("a checkpoint failed");
        }
        if status.checkpoints_failed > 0 && status.checkpoints > 0 {
            self.world
                .sometimes("a job had both failed and good checkpoints");
        }
        if self.processes.is_empty() {
            self.start(Some(dead));
        }
    }

    /// One process does one thing.
    fn turn(&mut self) {
        let awake: Vec<usize> = (0..self.processes.len())
            .filter(|&at| self.processes[at].frozen == 0)
            .collect();
        for process in &mut self.processes {
            process.frozen = process.frozen.saturating_sub(1);
            process.left_out.1 = process.left_out.1.saturating_sub(1);
        }
        if awake.is_empty() {
            return;
        }
        let at = awake[self.world.below(awake.len() as u64) as usize];
        let process = &self.processes[at];
        let live = process.live();
        let ready: Vec<usize> = (live.iter().copied())
            .filter(|worker| process.left_out() != Some(*worker))
            .collect();
        let actor = self.world.below(ready.len() as u64 + 1) as usize;
        match ready.get(actor) {
            Some(&worker) => {
                let steps = match self.world.chance(150) {
                    true => 1 + self.world.below(12),
                    false => 1,
                };
                self.world
                    .trace(|| format!("{}.{worker} {steps}", process.number));
                process.step(worker, steps);
                if ready.len() < live.len() {
                    self.world
                        .sometimes("a worker stood still, and another went on");
                }
                self.idle = 0;
            }
            None => {
                self.world.trace(|| format!("{}", process.number));
                process.turn();
                self.idle += u64::from(live.is_empty());
            }
        }
    }

    /// Time passes.
    fn pass(&mut self) {
        // Nothing can happen before somebody has waited long enough.
        if self.idle > 3 && self.world.until_next().is_some() {
            self.idle = 0;
            let next = self.world.until_next().unwrap_or_default();
            return self.world.pass(next);
        }
        let us = match self.world.chance(500) {
            true => self.world.below(self.plan.tempo_us),
            false => 0,
        };
        self.world.pass(Duration::from_micros(us));
    }

    /// Buries the dead. True if the job is done and nobody is left.
    fn reap(&mut self) -> Result<bool, String> {
        let mut at = 0;
        while at < self.processes.len() {
            if self.processes[at].is_doomed() {
                let dead = self.processes.remove(at);
                self.bury(&dead);
                continue;
            }
            let Some(ended) = self.processes[at].ended() else {
                at += 1;
                continue;
            };
            let process = self.processes.remove(at);
            self.world.trace(|| format!("ended {ended:?}"));
            match ended {
                Ok(Outcome::Finished | Outcome::AlreadyFinished) => {}
                Ok(Outcome::Stopped) if process.leaves => {
                    self.world.sometimes("a job without an end")
                }
                Ok(Outcome::Stopped) => {
                    self.world.sometimes("stopped on request");
                    self.bury(&process);
                    continue;
                }
                Err(fault) => {
                    self.check(&fault)?;
                    self.bury(&process);
                    continue;
                }
            }
            // A zombie may still be about to wake up: it must do no harm.
            self.note(&process);
            if self.processes.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn note(&self, process: &Process) {
        let status = process.board.read();
        if status.checkpoints_failed > 0 {
            self.world
                .sometimes("a job had both failed and good checkpoints");
        }
    }

    /// What an attempt may end with.
    fn check(&self, fault: &Fault) -> Result<(), String> {
        match fault.class {
            Class::Fenced => self.world.sometimes("a zombie was fenced"),
            Class::Transient { .. } => self
                .world
                .sometimes("an attempt ended, and the next went on"),
            Class::Unavailable if fault.message.contains("already running") => {
                self.world.sometimes("a start was refused, as the job ran");
            }
            Class::User | Class::Unavailable | Class::Unreachable | Class::Corrupt | Class::Bug => {
                return Err(format!("an attempt ended with {:?}: {fault}", fault.class));
            }
        }
        Ok(())
    }
}
