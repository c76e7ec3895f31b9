//! What the sink has done, for metrics: counted by the publisher, read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one sink, over all its publishers since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) throttled: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) request_units_milli: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) unchanged: AtomicU64,
    pub(crate) superseded: AtomicU64,
    pub(crate) rejected: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CountersNow {
    /// Requests sent (the driver's own retries not counted).
    pub requests: u64,
    /// Requests answered with 429.
    pub throttled: u64,
    /// Writes tried again after a conflict, an error, or an answer that never came.
    pub retries: u64,
    /// Request units charged.
    pub request_units: f64,
    /// Documents written.
    pub written: u64,
    /// Documents that were already as they should be: our own lost replies, and replays.
    pub unchanged: u64,
    /// Rows dropped because their document holds a newer one.
    pub superseded: u64,
    /// Rows the service refused for good.
    pub rejected: u64,
}

impl Counters {
    /// The counters as they are now.
    #[must_use]
    pub fn now(&self) -> CountersNow {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CountersNow {
            requests: read(&self.requests),
            throttled: read(&self.throttled),
            retries: read(&self.retries),
            request_units: read(&self.request_units_milli) as f64 / 1000.0,
            written: read(&self.written),
            unchanged: read(&self.unchanged),
            superseded: read(&self.superseded),
            rejected: read(&self.rejected),
        }
    }

    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn charge(&self, request_units: f64) {
        // Charges are small, positive and given to two decimals.
        Self::add(
            &self.request_units_milli,
            (request_units.max(0.0) * 1000.0) as u64,
        );
    }
}
