//! What a sink has done so far, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one sink, shared with whoever shows them.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) succeeded: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) posted: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) throttled: AtomicU64,
    pub(crate) rows: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountersNow {
    /// Blobs that were ingested as the service reported (`adx_ingestions_total{status="succeeded"}`).
    pub succeeded: u64,
    /// Blobs whose rows turned out to be there already (`status="skipped"`).
    pub skipped: u64,
    /// Attempts that the service reported as failed (`status="failed"`).
    pub failed: u64,
    /// Messages posted that ask for an ingestion.
    pub posted: u64,
    /// Requests to storage that were repeated.
    pub retries: u64,
    /// Requests to storage that were answered with 429 or 503.
    pub throttled: u64,
    /// Rows made visible; after a crash those of unconfirmed units count again.
    pub rows: u64,
}

impl Counters {
    /// The counters as they are now.
    #[must_use]
    pub fn now(&self) -> CountersNow {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CountersNow {
            succeeded: read(&self.succeeded),
            skipped: read(&self.skipped),
            failed: read(&self.failed),
            posted: read(&self.posted),
            retries: read(&self.retries),
            throttled: read(&self.throttled),
            rows: read(&self.rows),
        }
    }
}

/// Counts.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
