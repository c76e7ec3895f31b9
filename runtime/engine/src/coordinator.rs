//! The coordinator of a job: the epoch clock, checkpoints, commits and publishing. It acts on what
//! [`conductor`], [`assembly`](crate::assembly) and
//! [`unpublished`](crate::unpublished) decide.

mod checkpoint;
mod overview;
mod savepoint;
mod stopping;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thalweg_metrics::Metrics;
use thalweg_stream::planted::planted;
use thalweg_stream::sink::{PublishUnit, Released, StageStore, StagedObject};
use thalweg_stream::{Epoch, EpochKind, Fault, Ledger, Publisher};
use tokio::sync::{mpsc, oneshot};

use self::checkpoint::{Preparing, Upload, prepared};
use self::overview::Sample;
use self::savepoint::Askers;
pub use self::savepoint::Savepoint;
use crate::assembly::Assembly;
use crate::conductor::{self, Ending, Facts, Rhythm};
use crate::discovery::Found;
use crate::failpoint;
use crate::failure::{Cause, Failure};
use crate::graph::{Delivery, Graph};
use crate::herald::Heralds;
use crate::journal::{Journal, lost};
use crate::publishing::News;
use crate::report::{EpochInfo, Report};
use crate::shared::{Shared, lock};
use crate::stage::MemoryStage;
use crate::stall::{Seen, Stall, StallAlarm};
use crate::status::{Phase, StatusBoard};
use crate::unpublished::Unpublished;
use crate::watch::Watch;

/// What somebody asks of a running job.
#[derive(Debug)]
pub enum Command {
    /// Checkpoint, publish, stop.
    Stop,
    /// Take a savepoint, and tell of it once it is committed. The sender is dropped if the run ends
    /// before.
    Savepoint(oneshot::Sender<Savepoint>),
}

/// One sink as the coordinator sees it.
pub(crate) struct Lane {
    pub(crate) name: Arc<str>,
    pub(crate) delivery: Delivery,
    pub(crate) unpublished: Unpublished,
    pub(crate) units: mpsc::UnboundedSender<Released<PublishUnit>>,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) outbox: Arc<dyn StageStore>,
    /// Where an at-least-once sink stages: memory.
    pub(crate) memory: Arc<MemoryStage>,
    /// Units of an at-least-once sink that are not yet visible: number, the epoch they come after,
    /// rows.
    pub(crate) flushing: BTreeMap<u64, (Epoch, u64)>,
    pub(crate) published_rows: u64,
    /// When units were handed to the publisher, on the monotonic clock, by epoch.
    pub(crate) released: BTreeMap<Epoch, Duration>,
    pub(crate) sequence: BTreeMap<(usize, Epoch), u32>,
}

/// The coordinator's state.
pub(crate) struct Coordinator {
    pub(crate) graph: Arc<Graph>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Journal,
    pub(crate) heralds: Heralds,
    pub(crate) rhythm: Rhythm,
    pub(crate) lanes: BTreeMap<usize, Lane>,
    pub(crate) board: StatusBoard,
    pub(crate) metrics: Arc<Metrics>,
    assembly: Assembly,
    preparing: Preparing,
    uploads: Vec<Upload>,
    /// Output that a failed checkpoint has staged, by sink.
    carried: Vec<(usize, StagedObject)>,
    /// The last epoch whose checkpoint was put together.
    sealed: Epoch,
    /// Ledgers of the checkpoint this attempt began from, by node name.
    base: BTreeMap<String, Ledger>,
    latest: Option<Arc<EpochInfo>>,
    ending: Ending,
    /// When somebody asked for a stop, on the monotonic clock.
    stop_asked: Option<Duration>,
    /// The stop leaves output to the next run, and has said so.
    leaving: bool,
    /// No checkpoint has been begun since the run is known to end.
    urgent: bool,
    /// A checkpoint of this epoch or a later one holds all input that was read.
    covered_by: Epoch,
    committed: Epoch,
    savepoints: Askers,
    last_closed: Duration,
    last_checkpoint: Duration,
    ended: bool,
    sealed_at: Duration,
    committed_at: Duration,
    sample: Sample,
    running: usize,
    /// Nothing in a simulation, where time and CPU time have nothing to do with one another.
    alarm: Option<StallAlarm>,
    /// Rows that services have rejected in this attempt.
    rejected: u64,
}

/// How a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The input has ended and all output is visible.
    Finished,
    /// The job had finished in an earlier run.
    AlreadyFinished,
    /// Stopped on request.
    Stopped,
}

impl Coordinator {
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a different thing, named at the one call"
    )]
    pub(crate) fn new(
        graph: Arc<Graph>,
        shared: Arc<Shared>,
        journal: Journal,
        heralds: Heralds,
        rhythm: Rhythm,
        workers: usize,
        lanes: BTreeMap<usize, Lane>,
        board: StatusBoard,
        metrics: Arc<Metrics>,
        base: BTreeMap<String, Ledger>,
    ) -> Self {
        let sealing: Vec<usize> = graph
            .steps()
            .map(|(at, _)| at)
            .chain(graph.sinks().map(|(at, _)| at))
            .collect();
        let now = shared.clock.elapsed();
        let committed = shared.closed();
        Self {
            graph,
            shared,
            journal,
            heralds,
            rhythm,
            lanes,
            board,
            metrics,
            assembly: Assembly::new(workers, &sealing),
            preparing: Preparing::No,
            uploads: Vec::new(),
            carried: Vec::new(),
            sealed: committed,
            base,
            latest: None,
            ending: Ending::No,
            stop_asked: None,
            leaving: false,
            urgent: false,
            covered_by: Epoch(u64::MAX),
            committed,
            savepoints: Askers::default(),
            last_closed: now,
            last_checkpoint: now,
            ended: false,
            sealed_at: now,
            committed_at: now,
            sample: Sample::default(),
            running: workers,
            alarm: Some(StallAlarm::default()),
            rejected: 0,
        }
    }

    /// Runs until the job ends, or a fault ends the attempt.
    pub(crate) async fn run(
        mut self,
        mut reports: mpsc::UnboundedReceiver<Report>,
        mut news: mpsc::UnboundedReceiver<News>,
        mut found: mpsc::Receiver<Found>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<Outcome, Fault> {
        let shared = Arc::clone(&self.shared);
        for (at, lane) in &mut self.lanes {
            // What came in before is visible, but for what is still to be published.
            let node = self.graph.nodes.get(*at);
            let before = node.and_then(|node| self.base.get(&**node.identity()));
            let rows = before.map_or(0, |ledger| ledger.input);
            lane.published_rows = rows.saturating_sub(lane.unpublished.all_rows());
        }
        // Units of the checkpoint this attempt began from: its commit has released them.
        if let Some(number) = self.journal.base_number()
            && !planted("skip-recovery-publish")
        {
            self.journal.check_owner().await?;
            let now = shared.clock.elapsed();
            for lane in self.lanes.values_mut() {
                for unit in lane.unpublished.release() {
                    lane.released.insert(unit.epoch, now);
                    drop(lane.units.send(number.release(unit)));
                }
            }
        }
        let mut commands_open = true;
        let mut fenced = self.journal.fenced();
        loop {
            if let Some(failure) = shared.failure() {
                return Err(failure.fault);
            }
            self.advance()?;
            self.check_stop()?;
            if self.ended && matches!(self.preparing, Preparing::No) && self.running == 0 {
                return self.end().await;
            }
            while self.tick() {}
            self.look();
            self.measure_in_time();
            let tick = shared.clock.sleep(self.until_tick());
            tokio::select! {
                biased;
                Some(report) = reports.recv() => {
                    self.on_report(report)?;
                    while let Ok(report) = reports.try_recv() {
                        self.on_report(report)?;
                    }
                }
                Some(item) = news.recv() => self.on_news(item)?,
                Some(found) = found.recv() => self.on_found(found)?,
                step = prepared(&mut self.preparing) => self.on_prepared(step?)?,
                command = commands.recv(), if commands_open => match command {
                    Some(command) => self.on_command(command),
                    None => commands_open = false,
                },
                fault = lost(&mut fenced) => return Err(fault),
                () = shared.wake_coordinator.notified() => {}
                () = tick => {}
            }
        }
    }

    async fn end(mut self) -> Result<Outcome, Fault> {
        self.refresh();
        self.measure();
        let outcome = match self.ending {
            Ending::Finished => {
                self.journal.end(true).await?;
                Outcome::Finished
            }
            Ending::Stop | Ending::No => {
                self.journal.end(false).await?;
                Outcome::Stopped
            }
        };
        let phase = if outcome == Outcome::Finished {
            Phase::Finished
        } else {
            Phase::Stopped
        };
        self.board.update(|status| status.phase = phase);
        Ok(outcome)
    }

    /// Nobody looks whether something moves.
    pub(crate) fn unwatched(&mut self) {
        self.alarm = None;
    }

    /// Ends the attempt if nothing moves.
    fn look(&mut self) {
        let now = self.shared.clock.elapsed();
        let Some(alarm) = self.alarm.as_mut().filter(|alarm| alarm.is_due(now)) else {
            return;
        };
        let seen: Vec<Seen> = self.shared.watches.iter().map(Watch::seen).collect();
        let epochs = [self.shared.closed().0, self.shared.completed().0];
        let Some(stall) = alarm.look(now, epochs, &seen) else {
            return;
        };
        let message = match stall {
            Stall::Worker { worker, since } => {
                let node = (self.shared.watches.get(worker)).and_then(Watch::node);
                let node = node.and_then(|at| self.graph.nodes.get(at));
                let place = node.map(|node| format!(" in \"{}\"", node.name()));
                format!(
                    "worker {worker} has been stuck{} for {} s",
                    place.unwrap_or_default(),
                    since.as_secs()
                )
            }
            Stall::Frontier { since } => format!(
                "epoch {} has not moved for {} s, and no worker is busy",
                epochs[1] + 1,
                since.as_secs()
            ),
        };
        self.shared.fail_with(Failure {
            fault: Fault::bug(message),
            cause: Cause::Stall,
            place: None,
        });
    }

    fn until_tick(&self) -> Duration {
        let open = self.shared.clock.elapsed().saturating_sub(self.last_closed);
        Duration::from_millis(self.rhythm.epoch_ms)
            .saturating_sub(open)
            .max(Duration::from_millis(1))
    }

    /// Closes the open epoch if it is time; whether it was. Of epochs of no length several are due
    /// at once.
    fn tick(&mut self) -> bool {
        let now = self.shared.clock.elapsed();
        let ms = |since: Duration| {
            u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX)
        };
        let overdue = self.leaves_output();
        let facts = Facts {
            open_ms: ms(self.last_closed),
            full: self.shared.epoch_full(),
            in_flight: self
                .shared
                .closed()
                .0
                .saturating_sub(self.shared.completed().0),
            since_checkpoint_ms: ms(self.last_checkpoint),
            preparing: !matches!(self.preparing, Preparing::No),
            savepoint: self.savepoints.waiting(),
            backlog: self
                .lanes
                .values()
                .map(|l| l.unpublished.backlog())
                .max()
                .unwrap_or(0),
            ending: self.ending,
            urgent: self.urgent,
            settled: self.is_settled(),
            overdue,
            ended: self.ended,
        };
        let Some(kind) = conductor::close(&facts, &self.rhythm) else {
            return false;
        };
        if kind.seals() {
            self.preparing = Preparing::Sealing;
            self.last_checkpoint = now;
            self.urgent = false;
            self.sealed_at = now;
            if kind == EpochKind::Savepoint {
                self.savepoints.begun();
            }
            self.ended |= kind == EpochKind::Final;
        }
        self.last_closed = now;
        self.shared.close(kind);
        true
    }

    fn is_settled(&self) -> bool {
        self.committed >= self.covered_by
            && lock(&self.shared.rejected).is_empty()
            && self
                .lanes
                .values()
                .all(|lane| lane.unpublished.is_settled(self.committed) && lane.flushing.is_empty())
    }

    /// A source has more splits, or has failed.
    fn on_found(&mut self, found: Found) -> Result<(), Fault> {
        let splits = found.splits?;
        if self.ending == Ending::No {
            self.shared.join(self.journal.grow(found.node, splits)?);
        }
        Ok(())
    }

    fn on_report(&mut self, report: Report) -> Result<(), Fault> {
        match report {
            Report::Epoch(info) => {
                self.assembly.epoch(&info);
                let done = (self.graph.sources())
                    .all(|(at, _)| info.nodes.get(at).is_some_and(|progress| progress.finished));
                if done && self.ending == Ending::No {
                    self.ending = Ending::Finished;
                    self.urgent = true;
                    self.covered_by = info.epoch;
                }
                self.latest = Some(info);
                self.refresh();
            }
            Report::Sections {
                worker,
                node,
                sections,
            } => {
                self.assembly.sections(worker, node, sections);
            }
            Report::Sealed {
                epoch,
                worker,
                node,
                ledger,
                full,
            } => {
                self.assembly.sealed(epoch, (worker, node), ledger, full);
            }
            Report::Staged {
                worker,
                node,
                after,
                object,
            } => {
                self.on_staged(worker, node, after, object)?;
            }
            Report::Rejected { epoch, entered } => {
                for lane in self.lanes.values_mut() {
                    lane.unpublished.rejected_entered(epoch, entered);
                }
            }
            Report::Ended => self.running = self.running.saturating_sub(1),
        }
        Ok(())
    }

    fn on_news(&mut self, item: News) -> Result<(), Fault> {
        match item {
            News::Retry { sink, fault } => {
                if let Some(lane) = self.lanes.get(&sink) {
                    self.metrics
                        .count("sink_retries_total", &[&lane.name, "unit"], 1);
                }
                self.board
                    .update(|status| status.last_error = Some(fault.to_string()));
            }
            News::Failed { fault } => return Err(fault),
            News::Published {
                sink,
                epoch,
                published,
            } => {
                let Some(lane) = self.lanes.get_mut(&sink) else {
                    return Err(Fault::bug("news of no sink"));
                };
                if let Some(released) = lane.released.remove(&epoch) {
                    let latency = self.shared.clock.elapsed().saturating_sub(released);
                    self.metrics.observe(
                        "sink_latency_seconds",
                        &[&lane.name],
                        latency.as_secs_f64(),
                    );
                }
                failpoint::hit(&["confirm", "before"]);
                let rejected = published.rejected.len() as u64;
                let freed = lane.memory.forget(epoch.0);
                (self.shared.queued_bytes).fetch_sub(freed, Ordering::Relaxed);
                let rows = match lane.flushing.remove(&epoch.0) {
                    Some((_, rows)) if lane.delivery == Delivery::AtLeastOnce => rows,
                    _ => lane.unpublished.rows(epoch),
                };
                lane.published_rows += rows.saturating_sub(rejected);
                self.metrics.count(
                    "sink_published_total",
                    &[&lane.name],
                    rows.saturating_sub(rejected),
                );
                self.metrics
                    .count("sink_rejected_total", &[&lane.name], rejected);
                self.rejected += rejected;
                let waiting = (rejected > 0).then_some(self.rejected);
                lane.unpublished.published(epoch, published.state, waiting);
                let mut waiting = lock(&self.shared.rejected);
                for row in published.rejected {
                    waiting.push((lane.name.to_string(), row.id, row.letter));
                }
                drop(waiting);
                if rejected > 0 {
                    self.shared.wake_workers();
                }
            }
        }
        Ok(())
    }
}
