//! The reading stage: a source instance on one worker, which stamps chunks with epochs.
//!
//! Every instance follows the epoch clock, also when it has no splits, is idle or has finished: it
//! reports every epoch exactly once, so that trackers know when an epoch's reports are complete.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thalweg_stream::source::{Placement, SplitStart, SplitState};
use thalweg_stream::{Chunk, Epoch, EpochKind, SplitId, SplitReader};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::flow::{Collected, FIGURES_EVERY, add, micros};
use crate::parcel::{Cargo, Notice, Parcel};
use crate::report::{SplitReport, TimeReport};
use crate::shared::Shared;
use crate::splits::Joining;
use crate::worker::reads;

/// A source instance on one worker.
pub(crate) struct Reading {
    pub(crate) name: Arc<str>,
    pub(crate) reader: Box<dyn SplitReader>,
    /// Its position in the graph.
    pub(crate) node: usize,
    /// The splits it reads, with the offsets they start from.
    pub(crate) splits: Vec<(SplitId, Option<u64>)>,
    /// What the decoders of all workers have found in them.
    pub(crate) observed: Observed,
    pub(crate) placement: Placement,
    pub(crate) idle_after: Option<Duration>,
    /// Sources that must be loaded first.
    pub(crate) after: Vec<usize>,
    /// Nodes whose held rows count against this source.
    pub(crate) charged: Vec<usize>,
}

/// Newest event times decoded, by source and split, on their way from the tracker to the readers of
/// the same worker: a bounded source reads the split furthest behind first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed(Rc<RefCell<BTreeMap<usize, BTreeMap<u32, i64>>>>);

impl Observed {
    /// A decoder has found `newest` in a split of `source`.
    pub(crate) fn note(&self, source: usize, split: u32, newest: i64) {
        let mut all = self.0.borrow_mut();
        let known = all
            .entry(source)
            .or_default()
            .entry(split)
            .or_insert(newest);
        *known = newest.max(*known);
    }

    /// What has been found since the last call.
    fn take(&self, source: usize) -> BTreeMap<u32, i64> {
        (self.0.borrow_mut().get_mut(&source)).map_or_else(BTreeMap::new, std::mem::take)
    }
}

struct SplitAt {
    offset: Option<u64>,
    /// What was last reported: of a hundred thousand splits few change within an epoch.
    reported: Option<SplitReport>,
    loaded: bool,
    /// Since when it has been empty at its end, on the monotonic clock.
    empty_since: Option<Duration>,
}

/// Streams of parcels.
pub(crate) type Parcels<'scope, T> = Stream<'scope, u64, Vec<Parcel<T>>>;

/// Builds the operator; returns the chunks and the time reports, each addressed to a worker.
pub(crate) fn read<'scope>(
    scope: &Scope<'scope, u64>,
    reading: Reading,
    shared: Arc<Shared>,
    first: Epoch,
) -> (Parcels<'scope, Cargo>, Parcels<'scope, TimeReport>) {
    let mut builder = OperatorBuilder::new(format!("read {}", reading.name), *scope);
    let (chunks, chunk_stream) = builder.new_output();
    let (notices, notice_stream) = builder.new_output();
    let mut chunks = OutputBuilder::<_, CapacityContainerBuilder<Vec<Parcel<Cargo>>>>::from(chunks);
    let mut notices = OutputBuilder::<_, CapacityContainerBuilder<Vec<Notice>>>::from(notices);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    shared.register(scope.worker().sync_activator_for(address.to_vec()));
    let (worker, peers) = (scope.index(), scope.peers() as u64);
    let decoders = shared.team().here.len();
    builder.build(move |capabilities| {
        let mut at = SourceInstance::new(reading, shared, first, (worker, peers as usize));
        let mut capabilities: Option<Vec<Capability<u64>>> = Some(capabilities);
        move |_| {
            let Some(held) = &mut capabilities else {
                return;
            };
            for capability in held.iter_mut() {
                capability.downgrade(&at.epoch.0.max(*capability.time()));
            }
            let (mut chunks, mut notices) = (chunks.activate(), notices.activate());
            while let Some((kind, report)) = at.close_epoch() {
                let mut session = notices.session(&held[1]);
                for to in 0..peers {
                    session.give(Parcel {
                        to,
                        body: report.clone(),
                    });
                }
                drop(session);
                if kind == EpochKind::Final {
                    capabilities = None;
                    return;
                }
                held.iter_mut()
                    .for_each(|capability| capability.downgrade(&at.epoch.0));
            }
            at.observe();
            // Some chunks for every worker here, then the decoders have their turn.
            for _ in 0..2 * decoders {
                let Some(parcel) = at.poll() else { return };
                chunks.session(&held[0]).give(parcel);
            }
            activator.activate();
        }
    });
    (chunk_stream, notice_stream)
}

struct SourceInstance {
    reading: Reading,
    shared: Arc<Shared>,
    epoch: Epoch,
    /// Those that have not been reported to be finished.
    splits: BTreeMap<SplitId, SplitAt>,
    /// Whether it has, or had, any.
    reads: bool,
    /// Since when flow control has stopped it, on the monotonic clock.
    paused_since: Option<Duration>,
    connected: bool,
    /// When figures were last told, on the monotonic clock.
    told: Duration,
    worker: usize,
    workers: usize,
    /// Where to begin to look for the worker that is to have the next chunk.
    next: usize,
    /// Whether the last poll was allowed, for idleness.
    polled: bool,
    /// Whether all splits have been seen to be finished.
    finished: bool,
}

impl SourceInstance {
    fn new(
        mut reading: Reading,
        shared: Arc<Shared>,
        first: Epoch,
        (worker, workers): (usize, usize),
    ) -> Self {
        let splits = std::mem::take(&mut reading.splits);
        let mut instance = Self {
            reading,
            shared,
            epoch: first,
            splits: BTreeMap::new(),
            reads: false,
            worker,
            workers,
            next: worker,
            polled: false,
            finished: false,
            paused_since: None,
            connected: true,
            told: Duration::ZERO,
        };
        instance.take_on(splits);
        instance
    }

    /// Keeps count of splits that its reader has from now on.
    fn take_on(&mut self, splits: Vec<(SplitId, Option<u64>)>) {
        let first = !self.reads && !splits.is_empty();
        self.reads |= first;
        if let (true, Some(flow)) = (first, self.shared.flow.get(self.reading.node)) {
            flow.readers.fetch_add(1, Ordering::Relaxed);
        }
        let unread = |offset| SplitAt {
            offset,
            reported: None,
            loaded: false,
            empty_since: None,
        };
        (self.splits).extend(splits.into_iter().map(|(id, offset)| (id, unread(offset))));
    }

    /// Begins to read the new splits that are this instance's, at the beginning of the open epoch.
    fn join(&mut self) {
        let mine = |joining: &Joining| {
            let place = (joining.node, joining.position);
            joining.node == self.reading.node
                && reads(self.reading.placement, place, self.workers) == self.worker
        };
        let joining = self.shared.joining(self.epoch).into_iter().filter(mine);
        let starts: Vec<SplitStart> = joining.map(|joining| joining.start).collect();
        if starts.is_empty() {
            return;
        }
        let splits = starts.iter().map(|start| (start.id, start.offset));
        let splits = splits.collect();
        match self.reading.reader.add(starts) {
            Ok(()) => self.take_on(splits),
            Err(fault) => {
                let source = format_args!("source \"{}\"", self.reading.name).to_string();
                self.shared.fail(fault.within(source));
            }
        }
    }

    /// Tells the reader how far in event time its splits have come.
    fn observe(&mut self) {
        for (split, newest) in self.reading.observed.take(self.reading.node) {
            let split = SplitId(split);
            if self.splits.contains_key(&split) {
                self.reading.reader.observe(split, newest);
            }
        }
    }

    /// If the open epoch has been closed: its report, addressed to nobody yet.
    fn close_epoch(&mut self) -> Option<(EpochKind, TimeReport)> {
        if self.epoch > self.shared.closed() || self.shared.failed() {
            return None;
        }
        let kind = self.shared.kind(self.epoch);
        let now = self.shared.clock.elapsed();
        let (reading, polled) = (&self.reading, self.polled);
        let splits: Vec<SplitReport> = (self.splits.iter_mut())
            .filter_map(|(&id, at)| {
                let status = reading.reader.status(id);
                let at_end = polled && status.state == SplitState::AtEnd;
                at.loaded |= at_end;
                // Idle only if it was polled, empty and at its end all the time; never while it is
                // paused.
                let since = if at_end {
                    Some(*at.empty_since.get_or_insert(now))
                } else {
                    None
                };
                at.empty_since = since;
                let idle = match (since, reading.idle_after) {
                    (Some(since), Some(after)) => now.saturating_sub(since) >= after,
                    _ => false,
                };
                let report = SplitReport {
                    split: id.0,
                    offset: at.offset,
                    idle,
                    loaded: at.loaded,
                    finished: status.state == SplitState::Finished,
                    behind: status.behind,
                };
                let before = at.reported.replace(report);
                (before != Some(report)).then_some(report)
            })
            .collect();
        for split in splits.iter().filter(|split| split.finished) {
            self.splits.remove(&SplitId(split.split));
        }
        self.epoch = self.epoch.next();
        self.measure(now);
        self.tell(now, kind);
        self.join();
        let source = self.reading.node;
        Some((
            kind,
            TimeReport::Closed {
                source,
                kind,
                splits,
            },
        ))
    }

    /// Counts, for metrics, how long flow control has stopped it, and whether it is in touch.
    fn measure(&mut self, now: Duration) {
        let Some(flow) = self.shared.flow.get(self.reading.node) else {
            return;
        };
        if let Some(since) = &mut self.paused_since {
            add(&flow.paused_us, micros(now.saturating_sub(*since)));
            *since = now;
        }
        let connected = !self.reads || self.reading.reader.connected();
        match (self.connected, connected) {
            (true, false) => flow.disconnected.fetch_add(1, Ordering::Relaxed),
            (false, true) => flow.disconnected.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => 0,
        };
        self.connected = connected;
    }

    /// Tells metrics what its reader counts, now and then and at the end.
    fn tell(&mut self, now: Duration, kind: EpochKind) {
        if now.saturating_sub(self.told) < FIGURES_EVERY && kind != EpochKind::Final {
            return;
        }
        self.told = now;
        let mut told = Collected::default();
        self.reading.reader.figures(&mut told);
        if !told.0.is_empty() {
            (self.shared.figures).tell(self.reading.node, self.worker, told.0);
        }
    }

    /// Whether flow control lets it read; counts the time it does not.
    fn may_read(&mut self) -> bool {
        let may = self.shared.may_read(self.epoch, &self.reading.charged);
        if may == self.paused_since.is_some() && self.reads {
            let now = self.shared.clock.elapsed();
            self.measure(now);
            self.paused_since = (!may).then_some(now);
        }
        may
    }

    fn poll(&mut self) -> Option<Parcel<Cargo>> {
        let gated = self
            .reading
            .after
            .iter()
            .any(|&source| !self.shared.is_loaded(source));
        self.polled = !gated && !self.shared.failed() && self.may_read();
        if !self.polled {
            return None;
        }
        let Some(to) = self.shared.least_busy(self.reading.node, self.next) else {
            self.polled = false;
            return None;
        };
        match self.reading.reader.poll(self.shared.limits.chunk_bytes) {
            Ok(Some(chunk)) => Some(self.address(chunk, to)),
            Ok(None) => {
                self.finish();
                None
            }
            Err(fault) => {
                self.shared
                    .fail(fault.within(format_args!("source \"{}\"", self.reading.name)));
                None
            }
        }
    }

    /// If there is nothing more to read from any split, says so soon.
    fn finish(&mut self) {
        let reader = &self.reading.reader;
        let finished = |&split: &SplitId| reader.status(split).state == SplitState::Finished;
        if !self.finished && self.reads && self.splits.keys().all(finished) {
            self.finished = true;
            self.shared.hurry();
        }
    }

    fn address(&mut self, chunk: Chunk, to: usize) -> Parcel<Cargo> {
        self.shared.count_read(chunk.bytes.len());
        if let Some(flow) = self.shared.flow.get(self.reading.node) {
            add(&flow.bytes_in, chunk.bytes.len() as u64);
        }
        self.shared.sent(self.reading.node, to);
        if let Some(at) = self.splits.get_mut(&chunk.split) {
            at.offset = Some(chunk.end);
            at.empty_since = None;
        }
        self.next = to + 1;
        Parcel {
            to: to as u64,
            body: Cargo(chunk),
        }
    }
}
