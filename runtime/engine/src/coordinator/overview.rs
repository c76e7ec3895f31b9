//! What a coordinator tells about a job: ledgers, status and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thalweg_metrics::Metrics;
use thalweg_stream::{Fault, Ledger};

use super::Coordinator;
use crate::assembly::Whole;
use crate::flow::{self, Collected, Figure, Flow, Told};
use crate::graph::Node;
use crate::report::{EpochInfo, SplitProgress};
use crate::status::{CheckpointStatus, NodeStatus, Phase, SplitStatus};

/// How often rates are taken.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What was counted when rates were last taken.
#[derive(Debug, Default)]
pub(super) struct Sample {
    at: Duration,
    /// Rows in, rows out and microseconds paused, by node.
    nodes: Vec<(u64, u64, u64)>,
    /// Microseconds of CPU, by worker.
    busy: Vec<u64>,
    /// When all splits of a source were last seen read to their ends, by node.
    caught_up: BTreeMap<usize, Duration>,
}

impl Coordinator {
    /// The conservation ledger: checked at every checkpoint.
    pub(super) fn check_ledgers(&self, whole: &Whole) -> Result<(), Fault> {
        self.ledgers(whole)
            .iter()
            .try_for_each(|(name, ledger)| ledger.check(name))
    }

    /// Ledgers since the lineage began, by the identity of the node.
    pub(super) fn ledgers(&self, whole: &Whole) -> BTreeMap<String, Ledger> {
        let mut all = self.base.clone();
        for (&node, &ledger) in &whole.ledgers {
            if let Some(node) = self.graph.nodes.get(node) {
                let total = all.entry(node.identity().to_string()).or_default();
                total.held = 0;
                *total += ledger;
            }
        }
        all
    }

    /// Tells how far sources, steps and sinks have come.
    pub(super) fn refresh(&self) {
        let Some(info) = &self.latest else { return };
        let (in_flight, epoch) = (
            self.shared.closed().0 - self.shared.completed().0,
            info.epoch.0,
        );
        let held: usize = (0..self.graph.nodes.len())
            .map(|node| self.shared.held_bytes(node))
            .sum();
        let queue = held + self.shared.queued();
        self.metrics.set("epochs_in_flight", &[], in_flight as f64);
        self.metrics.set("queue_bytes", &[], queue as f64);
        self.board.update(|status| {
            if status.phase == Phase::Starting {
                // Every worker has built its part and passed an epoch.
                status.phase = Phase::Running;
            }
            status.epoch = epoch;
            status.epochs_in_flight = in_flight;
            status.queue_bytes = queue;
            for (at, node) in status.nodes.iter_mut().enumerate() {
                self.refresh_node(at, node, info);
            }
            // Since the lineage began: up to this attempt's start, and since.
            let all_in = |at: usize| {
                let before = (self.graph.nodes.get(at))
                    .and_then(|node| self.base.get(&**node.identity()))
                    .map_or(0, |ledger| ledger.input);
                before + status.nodes.get(at).map_or(0, |node| node.rows_in)
            };
            let records_in = self.graph.sources().map(|(at, _)| all_in(at)).sum();
            let dead_letters = all_in(self.graph.dead_letters);
            (status.records_in, status.dead_letters) = (records_in, dead_letters);
        });
    }

    fn refresh_node(&self, at: usize, node: &mut NodeStatus, info: &EpochInfo) {
        let (metrics, name) = (&self.metrics, node.name.clone());
        if let Some(progress) = info.nodes.get(at) {
            let known = (i64::MIN + 1..i64::MAX).contains(&progress.watermark);
            node.watermark_ms = known.then_some(progress.watermark);
            node.idle = progress.idle;
            node.finished = progress.finished;
            if known {
                let seconds = progress.watermark as f64 / 1000.0;
                metrics.set("watermark_seconds", &[&name], seconds);
            }
        }
        if let Some(lane) = self.lanes.get(&at) {
            let backlog = lane.unpublished.backlog();
            node.unpublished = Some(backlog);
            node.published_rows = Some(lane.published_rows);
            metrics.set("sink_unpublished_epochs", &[&name], backlog as f64);
        }
        if let Some(flow) = self.shared.flow.get(at) {
            node.rows_in = flow::read(&flow.rows_in);
            node.rows_out = flow::read(&flow.rows_out);
        }
    }

    /// How the splits are doing, by the position of their source. There may be many.
    fn splits(&self) -> BTreeMap<usize, Vec<SplitStatus>> {
        let mut all: BTreeMap<usize, Vec<SplitStatus>> = BTreeMap::new();
        let sources: BTreeMap<&str, usize> = (self.graph.sources())
            .map(|(at, source)| (&*source.name, at))
            .collect();
        for split in self.latest.iter().flat_map(|info| &info.splits) {
            let Some((source, spec)) = self.journal.split(split.split) else {
                continue;
            };
            if let Some(&at) = sources.get(source) {
                all.entry(at).or_default().push(SplitStatus {
                    name: spec.name.to_string(),
                    offset: split.offset,
                    newest_ms: split.newest,
                    idle: split.idle,
                    finished: split.finished,
                    behind: split.behind,
                });
            }
        }
        all
    }

    /// Takes rates and tells metrics, about once a second, whether epochs pass or not.
    pub(super) fn measure_in_time(&mut self) {
        if self.shared.clock.elapsed().saturating_sub(self.sample.at) >= SAMPLE_EVERY {
            self.measure();
        }
    }

    /// Takes rates and tells metrics.
    pub(super) fn measure(&mut self) {
        let now = self.shared.clock.elapsed();
        let since = now.saturating_sub(self.sample.at);
        let since = since.max(Duration::from_millis(1));
        let mut sample = Sample {
            at: now,
            caught_up: std::mem::take(&mut self.sample.caught_up),
            ..Sample::default()
        };
        let age = now.saturating_sub(self.committed_at).as_secs_f64();
        self.metrics.set("checkpoint_age_seconds", &[], age);
        for (worker, busy) in self.shared.busy_us.iter().enumerate() {
            let busy = flow::read(busy);
            let before = self.sample.busy.get(worker).copied().unwrap_or_default();
            let ratio = share(busy.saturating_sub(before), since);
            self.metrics
                .set("busy_ratio", &[&worker.to_string()], ratio);
            sample.busy.push(busy);
        }
        let mut rates = Vec::with_capacity(self.graph.nodes.len());
        for (at, (flow, node)) in (self.shared.flow.iter()).zip(&self.graph.nodes).enumerate() {
            let totals = (
                flow::read(&flow.rows_in),
                flow::read(&flow.rows_out),
                flow::read(&flow.paused_us),
            );
            let before = self.sample.nodes.get(at).copied().unwrap_or_default();
            let rate = |now: u64, before: u64| (now - before) as f64 / since.as_secs_f64();
            rates.push((rate(totals.0, before.0), rate(totals.1, before.1)));
            tell_flow(&self.metrics, node, flow);
            if matches!(node, Node::Source(_)) {
                let readers = flow.readers.load(Ordering::Relaxed).max(1) as f64;
                let ratio = share(totals.2 - before.2, since) / readers;
                self.metrics
                    .set("backpressured_ratio", &[node.name()], ratio);
                self.measure_source(at, node.name(), &mut sample);
            }
            sample.nodes.push(totals);
        }
        self.sample = sample;
        let splits = self.splits();
        self.board.update(|status| {
            for (node, (rows_in, rows_out)) in status.nodes.iter_mut().zip(rates) {
                node.rows_in_per_second = rows_in;
                node.rows_out_per_second = rows_out;
            }
            for (at, splits) in splits {
                if let Some(node) = status.nodes.get_mut(at) {
                    node.splits = splits;
                }
            }
        });
        self.measure_lag();
        for (node, told) in self.shared.figures.by_node() {
            if let Some(node) = self.graph.nodes.get(node) {
                tell(&self.metrics, node.name(), &told);
            }
        }
        for lane in self.lanes.values() {
            let mut told = Collected::default();
            lane.publisher.figures(&mut told);
            tell(&self.metrics, &lane.name, &told.0);
        }
    }

    fn measure_source(&self, at: usize, name: &str, sample: &mut Sample) {
        let Some(info) = &self.latest else { return };
        let mine: Vec<&SplitProgress> = (info.splits.iter())
            .filter(|split| {
                let of = self.journal.split(split.split);
                of.is_some_and(|(source, _)| source == name)
            })
            .collect();
        let behind: u64 = mine.iter().filter_map(|split| split.behind).sum();
        let idle = mine.iter().filter(|split| split.idle).count();
        let at_end = |split: &&&SplitProgress| split.finished || split.behind == Some(0);
        // Out of touch, it does not know where the end is.
        let connected = (self.shared.flow.get(at))
            .is_none_or(|flow| flow.disconnected.load(Ordering::Relaxed) == 0);
        if connected && mine.iter().filter(at_end).count() == mine.len() {
            sample.caught_up.insert(at, sample.at);
        }
        let caught_up = *sample.caught_up.entry(at).or_insert(sample.at);
        let lag = sample.at.saturating_sub(caught_up).as_secs_f64();
        self.metrics
            .set("source_lag_records", &[name], behind as f64);
        self.metrics.set("source_lag_seconds", &[name], lag);
        self.metrics.set("idle_splits", &[name], idle as f64);
        if let Some(newest) = mine.iter().filter_map(|split| split.newest).max() {
            let lag = self.shared.clock.now_ms().saturating_sub(newest) as f64 / 1000.0;
            self.metrics.set("event_time_lag_seconds", &[name], lag);
        }
    }

    fn measure_lag(&self) {
        let Some(info) = &self.latest else { return };
        let now_ms = self.shared.clock.now_ms();
        for (node, progress) in self.graph.nodes.iter().zip(&info.nodes) {
            if (i64::MIN + 1..i64::MAX).contains(&progress.watermark) {
                let lag = now_ms.saturating_sub(progress.watermark) as f64 / 1000.0;
                self.metrics
                    .set("watermark_lag_seconds", &[node.name()], lag);
            }
        }
    }

    pub(super) fn tell(&mut self, whole: &Whole, bytes: u64) {
        let now = self.shared.clock.elapsed();
        let duration = now.saturating_sub(self.sealed_at);
        self.committed_at = now;
        self.metrics
            .observe("checkpoint_duration_seconds", &[], duration.as_secs_f64());
        self.metrics.count("checkpoints_total", &["committed"], 1);
        self.metrics.set("checkpoint_bytes", &[], bytes as f64);
        self.metrics.set("checkpoint_age_seconds", &[], 0.0);
        let ledgers = self.ledgers(whole);
        let checkpoint = CheckpointStatus {
            epoch: whole.info.epoch.0,
            at_ms: self.shared.clock.now_ms(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            bytes,
        };
        self.board.update(|status| {
            status.checkpoint = Some(checkpoint);
            status.checkpoints += 1;
            for (node, known) in self.graph.nodes.iter().zip(&mut status.nodes) {
                if let Some(ledger) = ledgers.get(&**node.identity()) {
                    known.ledger = *ledger;
                }
            }
        });
    }
}

/// The share of a time that so many microseconds are.
fn share(micros: u64, of: Duration) -> f64 {
    Duration::from_micros(micros).as_secs_f64() / of.as_secs_f64()
}

/// Tells what has gone through a node.
fn tell_flow(metrics: &Metrics, node: &Node, flow: &Flow) {
    let count = |name, total| metrics.count_to(name, &[node.name()], flow::read(total));
    count("records_in_total", &flow.rows_in);
    count("records_out_total", &flow.rows_out);
    match node {
        Node::Source(_) => {
            count("batches_total", &flow.batches);
            count("bytes_in_total", &flow.bytes_in);
            let connected = flow.disconnected.load(Ordering::Relaxed) == 0;
            let connected = f64::from(u8::from(connected));
            metrics.set("source_connected", &[node.name()], connected);
        }
        Node::Step(_) => count("batches_total", &flow.batches),
        Node::Sink(_) => count("bytes_out_total", &flow.bytes_out),
    }
}

/// Tells what a part has said of itself.
fn tell(metrics: &Metrics, step: &str, told: &Told) {
    for ((name, more), figure) in told {
        let labels: Vec<&str> = std::iter::once(step)
            .chain(more.iter().map(String::as_str))
            .collect();
        match figure {
            Figure::Total(total) => metrics.count_to(name, &labels, *total),
            Figure::Level(value) => metrics.set(name, &labels, *value),
            Figure::Fact => metrics.set(name, &labels, 1.0),
        }
    }
}
