//! Sinks as stages of the dataflow: rows into a writer, encoded objects to the coordinator.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use thalweg_stream::operator::Held;
use thalweg_stream::sink::Encoded;
use thalweg_stream::{Epoch, EpochClose, Fault, Operator, Output, RecordBatch, SinkWriter};

use crate::flow::add;
use crate::graph::Delivery;
use crate::report::Report;
use crate::shared::Shared;

/// A sink's writer on one worker, driven as an operator.
pub(crate) struct SinkStage {
    node: usize,
    worker: usize,
    writer: Box<dyn SinkWriter>,
    delivery: Delivery,
    shared: Arc<Shared>,
    encoded: Encoded,
    /// The last epoch whose output has been sealed.
    sealed: Epoch,
    /// Rows the writer has taken since.
    taken: u64,
}

impl SinkStage {
    /// A stage whose first rows are of the epoch after `before`. That is not the epoch which is open
    /// when the stage is made: epochs may have been closed since the run began.
    pub(crate) fn new(
        node: usize,
        worker: usize,
        writer: Box<dyn SinkWriter>,
        delivery: Delivery,
        shared: Arc<Shared>,
        before: Epoch,
    ) -> Self {
        let encoded = Encoded::default();
        Self {
            node,
            worker,
            writer,
            delivery,
            shared,
            encoded,
            sealed: before,
            taken: 0,
        }
    }

    /// Hands objects to the coordinator, which uploads them at once, so that memory stays bounded
    /// between checkpoints too.
    fn hand_out(&mut self, out: &mut Output) {
        for object in self.encoded.objects.drain(..) {
            self.shared
                .queued_bytes
                .fetch_add(object.bytes.len(), Ordering::Relaxed);
            if let Some(flow) = self.shared.flow.get(self.node) {
                add(&flow.bytes_out, object.bytes.len() as u64);
                add(&flow.rows_out, object.rows);
            }
            let (worker, node, after) = (self.worker, self.node, self.sealed);
            self.shared.report(Report::Staged {
                worker,
                node,
                after,
                object,
            });
        }
        let dead = self.encoded.dead.len() as u64;
        out.ledger.dead += dead;
        self.taken = self.taken.saturating_sub(dead);
        out.dead.append(&mut self.encoded.dead);
    }
}

impl Operator for SinkStage {
    fn on_batch(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<(), Fault> {
        self.taken += batch.num_rows() as u64;
        self.writer.write(batch, &mut self.encoded)?;
        self.hand_out(out);
        Ok(())
    }

    fn on_epoch(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        if close.kind.seals() || self.delivery == Delivery::AtLeastOnce {
            self.writer.seal(close.epoch, &mut self.encoded)?;
            self.hand_out(out);
            out.ledger.passed += std::mem::take(&mut self.taken);
            self.sealed = close.epoch;
        }
        Ok(())
    }

    fn held(&self) -> Held {
        Held {
            rows: self.taken,
            bytes: self.writer.buffered_bytes(),
        }
    }
}
