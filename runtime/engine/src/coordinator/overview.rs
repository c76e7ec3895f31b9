//! What a coordinator tells about a job: ledgers, status and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use thalweg_stream::{Fault, Ledger};

use super::Coordinator;
use crate::assembly::Whole;
use crate::status::CheckpointStatus;

impl Coordinator {
    /// The conservation ledger: checked at every checkpoint.
    pub(super) fn check_ledgers(&self, whole: &Whole) -> Result<(), Fault> {
        self.ledgers(whole)
            .iter()
            .try_for_each(|(name, ledger)| ledger.check(name))
    }

    /// Ledgers since the lineage began, by node name.
    pub(super) fn ledgers(&self, whole: &Whole) -> BTreeMap<String, Ledger> {
        let mut all = self.base.clone();
        for (&node, &ledger) in &whole.ledgers {
            if let Some(node) = self.graph.nodes.get(node) {
                let total = all.entry(node.name().to_string()).or_default();
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
        let queue = self.shared.queued_bytes.load(Ordering::Relaxed);
        self.metrics.set("epochs_in_flight", &[], in_flight as f64);
        self.metrics.set("queue_bytes", &[], queue as f64);
        self.board.update(|status| {
            status.epoch = epoch;
            status.epochs_in_flight = in_flight;
            status.queue_bytes = queue;
            for (at, node) in status.nodes.iter_mut().enumerate() {
                if let Some(progress) = info.nodes.get(at) {
                    let known = (i64::MIN + 1..i64::MAX).contains(&progress.watermark);
                    node.watermark_ms = known.then_some(progress.watermark);
                    node.idle = progress.idle;
                    node.finished = progress.finished;
                    if known {
                        let seconds = progress.watermark as f64 / 1000.0;
                        self.metrics
                            .set("watermark_seconds", &[&node.name], seconds);
                    }
                }
                if let Some((_, ledger)) = info.decoded.iter().find(|(source, _)| *source == at) {
                    self.metrics
                        .count_to("records_in_total", &[&node.name], ledger.input);
                    self.metrics
                        .count_to("records_out_total", &[&node.name], ledger.passed);
                }
                if let Some(lane) = self.lanes.get(&at) {
                    let backlog = lane.unpublished.backlog();
                    node.unpublished = Some(backlog);
                    node.published_rows = Some(lane.published_rows);
                    self.metrics
                        .set("sink_unpublished_epochs", &[&node.name], backlog as f64);
                }
            }
        });
    }

    pub(super) fn tell(&self, whole: &Whole, bytes: u64) {
        let now = self.shared.clock.elapsed();
        let duration = now.saturating_sub(self.sealed_at);
        self.metrics
            .observe("checkpoint_duration_seconds", &[], duration.as_secs_f64());
        self.metrics.count("checkpoints_total", &["committed"], 1);
        self.metrics.count("checkpoint_bytes", &[], bytes);
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
            for node in &mut status.nodes {
                if let Some(ledger) = ledgers.get(&node.name) {
                    node.ledger = *ledger;
                }
            }
        });
    }
}
