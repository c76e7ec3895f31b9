//! A sink that counts rows and drops them: for measuring, and for trying out a definition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use thalweg_stream::sink::{Encoded, SinkContext};
use thalweg_stream::{Epoch, Fault, Publisher, Route, Sink, SinkCapabilities, SinkWriter};

use crate::stdout::NothingToPublish;

/// Counts rows and drops them; nothing twice is nothing, so it is exactly once.
#[derive(Clone, Debug, Default)]
pub struct DiscardSink {
    rows: Arc<AtomicU64>,
}

impl DiscardSink {
    /// A sink that has counted nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows that this process has dropped, those that came again after a crash included.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Sink for DiscardSink {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            exactly_once: true,
            ordered: false,
            changes: true,
            route: Route::Local,
            grouping: None,
        }
    }

    fn writer(&self, _worker: usize, _context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        Ok(Box::new(self.clone()))
    }

    async fn publisher(&self, _context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        Ok(Box::new(NothingToPublish))
    }
}

impl SinkWriter for DiscardSink {
    fn write(&mut self, batch: &RecordBatch, _out: &mut Encoded) -> Result<(), Fault> {
        self.rows
            .fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn seal(&mut self, _epoch: Epoch, _out: &mut Encoded) -> Result<(), Fault> {
        Ok(())
    }

    fn buffered_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use thalweg_stream::Sink;
    use thalweg_stream::sink::Encoded;

    use super::DiscardSink;
    use crate::sink::tests::{batch, context};

    #[test]
    fn rows_of_all_workers_are_counted_and_nothing_is_staged() {
        let sink = DiscardSink::new();
        let mut out = Encoded::default();
        for worker in 0..3 {
            let mut writer = sink.writer(worker, &context("aa")).unwrap();
            writer.write(&batch(0..5), &mut out).unwrap();
        }
        assert_eq!((sink.rows(), out.objects.len()), (15, 0));
    }
}
