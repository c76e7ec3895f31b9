//! The supervisor: attempts of a job, one after the other, until it ends. It acts on what
//! [`restart`](crate::restart) decides.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use thalweg_checkpoint::{Identity, RestoreFrom, Store};
use thalweg_metrics::Metrics;
use thalweg_stream::{Clock, Fault, Generation};
use tokio::sync::mpsc;

use crate::coordinator::{Command, Outcome};
use crate::failure::{Cause, Failure, Place};
use crate::graph::Graph;
use crate::job::{Job, Surroundings, attempt};
use crate::journal::Allow;
use crate::limits::Limits;
use crate::mesh::Launch;
use crate::restart::{Failed, RestartPolicy, Restarts, Verdict};
use crate::schedule::{Schedule, Simulation};
use crate::status::{Phase, RestartStatus, StatusBoard};

/// A run of a job: what stays the same over its attempts, and what the last one has left.
pub(crate) struct Run {
    pub(crate) name: Arc<str>,
    pub(crate) graph: Arc<Graph>,
    /// Workers of all processes.
    pub(crate) workers: usize,
    /// Starts the other processes.
    pub(crate) launch: Option<Arc<dyn Launch>>,
    pub(crate) checkpoint_every: Duration,
    pub(crate) keep: u32,
    pub(crate) limits: Limits,
    pub(crate) version: String,
    pub(crate) from: RestoreFrom,
    pub(crate) take_over: bool,
    pub(crate) allow: Allow,
    pub(crate) identity: Identity,
    /// In which order workers take turns, in a simulation.
    pub(crate) schedule: Option<Arc<dyn Schedule>>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) board: StatusBoard,
    pub(crate) metrics: Arc<Metrics>,
    /// The generation that the last attempt has claimed.
    pub(crate) claimed: Option<Generation>,
    /// Why the last attempt has failed.
    pub(crate) cause: Option<Cause>,
    /// Records whose rows come singly in the next attempt.
    pub(crate) suspect: Option<Place>,
}

/// Runs a job to its end, or until somebody stops it. One attempt: [`supervise`] makes several.
///
/// # Errors
/// What ended the attempt. Nothing is lost: the next one starts from the last checkpoint.
///
/// # Crash safety
/// May end at any point; the job log decides what has happened.
pub async fn run(job: Job, surroundings: Surroundings) -> Result<Outcome, Fault> {
    supervise(job, surroundings, RestartPolicy::NEVER).await
}

/// One attempt in a [`Simulation`], on a runtime of one thread.
///
/// # Errors
/// As [`run`].
pub async fn simulate(
    job: Job,
    surroundings: Surroundings,
    simulation: Simulation,
) -> Result<Outcome, Fault> {
    let Simulation { schedule, identity } = simulation;
    let mut run = Run::new(job, surroundings, identity);
    run.schedule = Some(schedule);
    run.attempts(RestartPolicy::NEVER).await
}

/// Runs a job to its end, or until somebody stops it; after a failure from the last checkpoint
/// again, as `policy` says.
///
/// # Errors
/// What ended the last attempt, if there is to be no other: what the user has to mend, a successor
/// that owns the job, damage, and what has come too often. Nothing is lost.
///
/// # Crash safety
/// May end at any point; the job log decides what has happened.
pub async fn supervise(
    job: Job,
    surroundings: Surroundings,
    policy: RestartPolicy,
) -> Result<Outcome, Fault> {
    let identity = Identity::of_this_process();
    let mut run = Run::new(job, surroundings, identity);
    run.attempts(policy).await
}

/// The same over several processes, of which this is the leader: `job.workers` are those of each.
///
/// # Errors
/// As [`supervise`].
pub async fn supervise_mesh(
    job: Job,
    surroundings: Surroundings,
    policy: RestartPolicy,
    launch: Arc<dyn Launch>,
) -> Result<Outcome, Fault> {
    let identity = Identity::of_this_process();
    let mut run = Run::new(job, surroundings, identity);
    run.workers *= launch.processes();
    run.launch = Some(launch);
    run.attempts(policy).await
}

impl Run {
    async fn attempts(&mut self, policy: RestartPolicy) -> Result<Outcome, Fault> {
        let run = self;
        let mut restarts = Restarts::new(policy);
        loop {
            let (began, before) = (run.clock.elapsed(), run.board.read().checkpoints);
            // On the heap: it is large, and callers hold it.
            let ended = AssertUnwindSafe(Box::pin(attempt(run)))
                .catch_unwind()
                .await;
            if let Some(launch) = &run.launch {
                launch.end().await;
            }
            let failure = match ended {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(failure)) => failure,
                Err(panic) => Failure::panicked("the coordinator", panic),
            };
            let status = run.board.read();
            let ran = matches!(status.phase, Phase::Running | Phase::Stopping);
            let failed = Failed {
                failure: failure.clone(),
                ran: ran.then(|| run.clock.elapsed().saturating_sub(began)),
                committed: status.checkpoints > before,
                stopping: status.phase == Phase::Stopping,
            };
            match restarts.on_failure(failed) {
                Verdict::End(fault) => {
                    run.board.update(|status| {
                        status.phase = Phase::Failed;
                        status.last_error = Some(fault.to_string());
                    });
                    return Err(fault);
                }
                Verdict::Again { after, suspect } => {
                    run.suspect = suspect;
                    if !run.rest(&failure, after).await {
                        run.board.update(|status| status.phase = Phase::Stopped);
                        return Ok(Outcome::Stopped);
                    }
                }
            }
        }
    }

    fn new(job: Job, surroundings: Surroundings, identity: Identity) -> Self {
        Self {
            name: job.name,
            graph: Arc::new(job.graph),
            workers: job.workers,
            launch: None,
            checkpoint_every: job.checkpoint_every,
            keep: job.keep,
            limits: job.limits,
            version: job.version,
            from: job.from,
            take_over: job.take_over,
            allow: job.allow,
            identity,
            schedule: None,
            store: surroundings.store,
            clock: surroundings.clock,
            commands: surroundings.commands,
            board: surroundings.board,
            metrics: surroundings.metrics,
            claimed: None,
            cause: None,
            suspect: None,
        }
    }

    /// Waits before the next attempt; false if somebody asks for a stop meanwhile, for which
    /// nothing is left to be done: the last checkpoint is where the job goes on.
    async fn rest(&mut self, failure: &Failure, after: Duration) -> bool {
        let Failure { fault, cause, .. } = failure;
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        tracing::error!(error = %fault, cause = cause.word(), after_ms, "the job is restarted from its last checkpoint");
        let restart = RestartStatus {
            at_ms: self.clock.now_ms(),
            cause: cause.word(),
            error: fault.to_string(),
            after_ms,
        };
        self.board.update(|status| {
            status.phase = Phase::Restarting;
            status.last_error = Some(fault.to_string());
            status.restarts += 1;
            status.restarted = Some(restart);
        });
        self.metrics.rebase();
        self.cause = Some(*cause);
        if self.claimed.is_some() {
            // The choice of where to start has been made, and what it fenced is fenced.
            self.from = RestoreFrom::Latest;
            self.take_over = false;
        }
        let clock = Arc::clone(&self.clock);
        let mut waiting = clock.sleep(after);
        let mut open = true;
        loop {
            tokio::select! {
                () = &mut waiting => return true,
                command = self.commands.recv(), if open => match command {
                    Some(Command::Stop) => return false,
                    // There is nothing to save that is not saved.
                    Some(Command::Savepoint(_)) => {}
                    None => open = false,
                },
            }
        }
    }
}
