//! What the threads of one process share: the epoch clock's announcements, flow control, failure.
//!
//! With several processes each has its own. What the leader announces (an epoch's end, new splits,
//! a failed checkpoint, the end of reading) goes to the others as [`Order`]s, in this order on one
//! connection; what is true of all processes is computed by each from the dataflow itself
//! (`completed`, `loaded`) or comes by pulses (bytes held elsewhere).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_stream::{Clock, DeadLetter, Epoch, EpochKind, Fault};
use timely::scheduling::SyncActivator;
use tokio::sync::{Notify, mpsc};

use crate::failure::{Failure, Place};
use crate::flow::{FigureBoard, Flow};
use crate::limits::Limits;
use crate::mesh::Order;
use crate::meter::Meter;
use crate::report::Report;
use crate::splits::Joining;
use crate::watch::Watch;

/// Chunks of one source that wait for one worker, the one it decodes included: enough that it
/// never waits for the reader, and so few that what was read is still in the cache.
const UNDECODED_MAX: usize = 3;

/// Bytes read after which a follower tells the leader at once, rather than with its next pulse.
const TELL_READ: u64 = 256 << 10;

/// The workers of a job, and those of them that are threads of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Team {
    pub(crate) total: usize,
    pub(crate) here: Range<usize>,
}

impl Team {
    /// All are here.
    pub(crate) fn alone(workers: usize) -> Self {
        Self {
            total: workers,
            here: 0..workers,
        }
    }

    /// Those of one of several processes that have `each`.
    pub(crate) fn of(process: usize, processes: usize, each: usize) -> Self {
        Self {
            total: processes * each,
            here: process * each..(process + 1) * each,
        }
    }
}

/// One job's state that its worker threads and its coordinator share.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    /// Where attempts have failed before: these records come one by one.
    pub(crate) suspect: Option<Place>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Highest epoch that is closed.
    closed: AtomicU64,
    /// Highest epoch that all operators of all workers have finished.
    completed: AtomicU64,
    /// The newest epoch whose checkpoint has failed.
    failed_checkpoint: AtomicU64,
    /// Epochs that are not ordinary and not yet completed.
    kinds: Mutex<BTreeMap<u64, EpochKind>>,
    /// New splits by the epoch from which on they are read, until that is completed.
    joining: Mutex<BTreeMap<u64, Vec<Joining>>>,
    /// Bytes read in the open epoch.
    open_bytes: AtomicU64,
    /// Whether the open epoch is to be closed whatever has been read.
    hurried: AtomicBool,
    /// Bytes read after which the coordinator is woken.
    read_step: u64,
    /// Wakes the coordinator: bytes are read, an epoch is completed, something failed.
    pub(crate) wake_coordinator: Notify,
    /// Bytes each (worker, node) holds back.
    held: Vec<AtomicUsize>,
    /// Bytes that each node holds back in other processes, as they last told.
    held_elsewhere: Vec<AtomicUsize>,
    /// Bytes on their way to the leader in other processes, as they last told.
    queued_elsewhere: AtomicUsize,
    team: Team,
    /// Chunks on their way to each (node, worker), the one being decoded included.
    undecoded: Vec<AtomicUsize>,
    /// Whether a reader of the node waits for a decoder to be done.
    waiting: Vec<AtomicBool>,
    /// Bytes staged or sealed and not yet uploaded.
    pub(crate) queued_bytes: AtomicUsize,
    /// Whether sources have stopped for good (the job is being stopped).
    draining: AtomicBool,
    /// Sources whose first load is done, by node.
    loaded: Vec<AtomicBool>,
    /// Whether the next freeze of a node is to be full.
    full: Vec<AtomicBool>,
    activators: Mutex<Vec<SyncActivator>>,
    failure: Mutex<Option<Failure>>,
    failed: AtomicBool,
    /// What goes through every node.
    pub(crate) flow: Vec<Flow>,
    /// What operators tell about themselves.
    pub(crate) figures: FigureBoard,
    /// CPU time of every worker, microseconds.
    pub(crate) busy_us: Vec<AtomicU64>,
    /// Every worker, as seen from outside.
    pub(crate) watches: Vec<Watch>,
    pub(crate) metrics: Meter,
    /// Dead letters from publishing that wait to enter the dataflow.
    pub(crate) rejected: Mutex<Vec<(String, String, DeadLetter)>>,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    /// Where followers are told what is announced, at the leader.
    followers: Vec<mpsc::Sender<Order>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Locks even if a thread that held the lock has panicked: the attempt is ending then.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// `first` is the first epoch of this attempt. The channel of reports has no bound of its own:
    /// what goes through it is counted in `queued_bytes`, which stops the sources.
    pub(crate) fn new(
        limits: Limits,
        clock: Arc<dyn Clock>,
        team: Team,
        nodes: usize,
        first: Epoch,
        metrics: Meter,
        reports: mpsc::UnboundedSender<Report>,
    ) -> Self {
        let before = first.0.saturating_sub(1);
        let (workers, here) = (team.total, team.here.clone());
        let read_step = match here.contains(&0) {
            true => limits.epoch_bytes.max(1),
            false => limits.epoch_bytes.clamp(1, TELL_READ),
        };
        let watch = |worker| match here.contains(&worker) {
            true => Watch::default(),
            false => Watch::elsewhere(),
        };
        Self {
            limits,
            suspect: None,
            clock,
            closed: AtomicU64::new(before),
            completed: AtomicU64::new(before),
            failed_checkpoint: AtomicU64::new(0),
            kinds: Mutex::default(),
            joining: Mutex::default(),
            open_bytes: AtomicU64::new(0),
            hurried: AtomicBool::new(false),
            read_step,
            wake_coordinator: Notify::new(),
            held: (0..workers * nodes).map(|_| AtomicUsize::new(0)).collect(),
            undecoded: (0..workers * nodes).map(|_| AtomicUsize::new(0)).collect(),
            waiting: (0..nodes).map(|_| AtomicBool::new(false)).collect(),
            held_elsewhere: (0..nodes).map(|_| AtomicUsize::new(0)).collect(),
            queued_elsewhere: AtomicUsize::new(0),
            team,
            queued_bytes: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            loaded: (0..nodes).map(|_| AtomicBool::new(false)).collect(),
            full: (0..nodes).map(|_| AtomicBool::new(true)).collect(),
            activators: Mutex::default(),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
            flow: (0..nodes).map(|_| Flow::default()).collect(),
            figures: FigureBoard::default(),
            busy_us: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            watches: (0..workers).map(watch).collect(),
            metrics,
            rejected: Mutex::default(),
            reports,
            followers: Vec::new(),
        }
    }

    /// The same, with records that are to come one by one.
    pub(crate) fn suspecting(mut self, suspect: Option<Place>) -> Self {
        self.suspect = suspect;
        self
    }

    /// The same at the leader of several processes, which tells the others what it announces.
    pub(crate) fn leading(mut self, followers: Vec<mpsc::Sender<Order>>) -> Self {
        self.followers = followers;
        self
    }

    /// Has every follower do the same. What waits for one that does not listen is bounded: the
    /// epochs in flight are, and so is this.
    fn order(&self, order: &Order) {
        for (at, follower) in self.followers.iter().enumerate() {
            if let Err(mpsc::error::TrySendError::Full(_)) = follower.try_send(order.clone()) {
                self.fail_with(Failure::lost(at + 1, "it does not take orders"));
            }
        }
    }

    pub(crate) fn team(&self) -> &Team {
        &self.team
    }

    pub(crate) fn closed(&self) -> Epoch {
        Epoch(self.closed.load(Ordering::Acquire))
    }

    pub(crate) fn completed(&self) -> Epoch {
        Epoch(self.completed.load(Ordering::Acquire))
    }

    /// Closes the open epoch and announces what it is.
    pub(crate) fn close(&self, kind: EpochKind) -> Epoch {
        let epoch = self.closed().next();
        self.order(&Order::Close { epoch, kind });
        if kind != EpochKind::Ordinary {
            lock(&self.kinds).insert(epoch.0, kind);
        }
        self.open_bytes.store(0, Ordering::Relaxed);
        self.hurried.store(false, Ordering::Relaxed);
        self.closed.store(epoch.0, Ordering::Release);
        self.wake_workers();
        epoch
    }

    /// What a closed epoch is.
    pub(crate) fn kind(&self, epoch: Epoch) -> EpochKind {
        lock(&self.kinds)
            .get(&epoch.0)
            .copied()
            .unwrap_or(EpochKind::Ordinary)
    }

    /// New splits are to be read, from the first epoch on that no worker may read before all of
    /// them have finished the one that is open now. So whoever meets a record of one has been told
    /// of it, wherever it runs: the announcement comes before the end of the open epoch.
    pub(crate) fn join(&self, splits: Vec<Joining>) {
        let first = Epoch(self.closed().next().0 + self.limits.epochs_in_flight);
        if !self.followers.is_empty() {
            let splits = splits.clone();
            self.order(&Order::Join { first, splits });
        }
        self.join_from(first, splits);
    }

    /// The same, where the first epoch is known.
    pub(crate) fn join_from(&self, first: Epoch, splits: Vec<Joining>) {
        let mut joining = lock(&self.joining);
        joining.entry(first.0).or_default().extend(splits);
    }

    /// The splits that are read from `epoch` on.
    pub(crate) fn joining(&self, epoch: Epoch) -> Vec<Joining> {
        let joining = lock(&self.joining);
        joining.get(&epoch.0).cloned().unwrap_or_default()
    }

    /// All operators everywhere have finished every epoch up to `epoch`.
    pub(crate) fn complete(&self, epoch: Epoch) {
        if self.completed.fetch_max(epoch.0, Ordering::AcqRel) < epoch.0 {
            lock(&self.kinds).retain(|&e, _| e > epoch.0);
            lock(&self.joining).retain(|&e, _| e > epoch.0);
            self.wake_coordinator.notify_one();
            self.wake_workers();
        }
    }

    /// The checkpoint of `epoch` has failed: what is frozen for it is to be given back before the
    /// next freeze.
    pub(crate) fn checkpoint_failed(&self, epoch: Epoch) {
        self.order(&Order::CheckpointFailed { epoch });
        self.failed_checkpoint.store(epoch.0, Ordering::Release);
    }

    pub(crate) fn has_failed(&self, checkpoint: Epoch) -> bool {
        self.failed_checkpoint.load(Ordering::Acquire) == checkpoint.0
    }

    /// Counts bytes read in the open epoch; wakes the coordinator when it is full, or is to be told.
    pub(crate) fn count_read(&self, bytes: usize) {
        let before = self.open_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before / self.read_step != (before + bytes as u64) / self.read_step {
            self.wake_coordinator.notify_one();
        }
    }

    /// Has the open epoch closed at once: a source has nothing more to read, and what it reports
    /// may end the run.
    pub(crate) fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
        self.wake_coordinator.notify_one();
    }

    pub(crate) fn epoch_full(&self) -> bool {
        self.hurried.load(Ordering::Relaxed)
            || self.open_bytes.load(Ordering::Relaxed) >= self.limits.epoch_bytes
    }

    /// Whether the source at work in `epoch` may read on; `charged` are the nodes whose held rows
    /// count against it.
    pub(crate) fn may_read(&self, epoch: Epoch, charged: &[usize]) -> bool {
        if self.draining.load(Ordering::Relaxed) || self.epoch_full() {
            return false;
        }
        if epoch.0 > self.completed().0 + self.limits.epochs_in_flight {
            return false;
        }
        let held: usize = charged.iter().map(|&node| self.held_bytes(node)).sum();
        held + self.queued() < self.limits.bytes_max
    }

    /// Bytes that a node holds back on all workers of all processes.
    pub(crate) fn held_bytes(&self, node: usize) -> usize {
        let elsewhere = self.held_elsewhere.get(node);
        self.held_here(node) + elsewhere.map_or(0, |bytes| bytes.load(Ordering::Relaxed))
    }

    /// Bytes that a node holds back in this process.
    pub(crate) fn held_here(&self, node: usize) -> usize {
        let workers = node * self.team.total..(node + 1) * self.team.total;
        let held = self.held.get(workers).unwrap_or_default().iter();
        held.map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    /// Bytes staged or sealed and not yet uploaded, in all processes.
    pub(crate) fn queued(&self) -> usize {
        let elsewhere = self.queued_elsewhere.load(Ordering::Relaxed);
        self.queued_bytes.load(Ordering::Relaxed) + elsewhere
    }

    /// What other processes hold, by node, and have on its way.
    pub(crate) fn set_elsewhere(&self, held: &[usize], queued: usize) {
        for (known, &bytes) in self.held_elsewhere.iter().zip(held) {
            known.store(bytes, Ordering::Relaxed);
        }
        self.queued_elsewhere.store(queued, Ordering::Relaxed);
    }

    /// Bytes read in the open epoch in this process, and whether it is to be closed at once.
    pub(crate) fn read_here(&self) -> (u64, bool) {
        let bytes = self.open_bytes.load(Ordering::Relaxed);
        (bytes, self.hurried.load(Ordering::Relaxed))
    }

    /// The worker that is to have the next chunk of source `node`: the one of this process with the
    /// fewest, looked for from `first` on. Nothing if all have enough; then the reader is woken when
    /// one is done. What is read in one process is decoded there: rows travel better than chunks.
    pub(crate) fn least_busy(&self, node: usize, first: usize) -> Option<usize> {
        let least = || {
            let here = &self.team.here;
            (0..here.len())
                .map(|after| here.start + (first + after) % here.len())
                .map(|worker| (self.undecoded(node, worker).load(Ordering::Acquire), worker))
                .min_by_key(|&(chunks, _)| chunks)
                .filter(|&(chunks, _)| chunks < UNDECODED_MAX)
                .map(|(_, worker)| worker)
        };
        least().or_else(|| {
            self.waiting[node].store(true, Ordering::SeqCst);
            // One may have been done in the meantime, and not have seen that somebody waits.
            least()
        })
    }

    fn undecoded(&self, node: usize, worker: usize) -> &AtomicUsize {
        &self.undecoded[node * self.team.total + worker]
    }

    /// A chunk of source `node` is sent to `worker`.
    pub(crate) fn sent(&self, node: usize, worker: usize) {
        self.undecoded(node, worker).fetch_add(1, Ordering::AcqRel);
    }

    /// A chunk of source `node` has been decoded by `worker`.
    pub(crate) fn decoded(&self, node: usize, worker: usize) {
        self.undecoded(node, worker).fetch_sub(1, Ordering::SeqCst);
        if self.waiting[node].swap(false, Ordering::SeqCst) {
            self.wake_workers();
        }
    }

    pub(crate) fn set_held(&self, node: usize, worker: usize, bytes: usize) {
        self.held[node * self.team.total + worker].store(bytes, Ordering::Relaxed);
    }

    /// Sources stop reading for good.
    pub(crate) fn drain(&self) {
        self.order(&Order::Drain);
        self.draining.store(true, Ordering::Relaxed);
        self.wake_workers();
    }

    pub(crate) fn set_loaded(&self, node: usize) {
        if !self.loaded[node].swap(true, Ordering::AcqRel) {
            self.wake_workers();
        }
    }

    pub(crate) fn is_loaded(&self, node: usize) -> bool {
        self.loaded[node].load(Ordering::Acquire)
    }

    pub(crate) fn set_full(&self, node: usize, full: bool) {
        self.order(&Order::Full { node, full });
        self.full[node].store(full, Ordering::Release);
    }

    pub(crate) fn wants_full(&self, node: usize) -> bool {
        self.full[node].load(Ordering::Acquire)
    }

    pub(crate) fn register(&self, activator: SyncActivator) {
        lock(&self.activators).push(activator);
    }

    /// Wakes every source operator of every worker.
    pub(crate) fn wake_workers(&self) {
        for activator in lock(&self.activators).iter() {
            // A worker that is gone has either finished or failed; both are known elsewhere.
            activator.activate().ok();
        }
    }

    /// Ends the attempt; the first fault is the one that is told.
    pub(crate) fn fail(&self, fault: Fault) {
        self.fail_with(fault.into());
    }

    /// The same, with what more is known.
    pub(crate) fn fail_with(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
        self.failed.store(true, Ordering::Release);
        self.wake_coordinator.notify_one();
        self.wake_workers();
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    /// Sends a report to the coordinator.
    pub(crate) fn report(&self, report: Report) {
        // The receiver is gone only when the attempt has ended.
        drop(self.reports.send(report));
    }
}
