//! What a job may hold, read at once and wait for.

use serde::{Deserialize, Serialize};
use thalweg_checkpoint::Retention;

/// Limits of a job, each beside its reason.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Longest time an epoch stays open (milliseconds): what a result waits for at least.
    pub epoch_ms: u64,
    /// Bytes read in one epoch before it is closed: bounds what is in flight.
    pub epoch_bytes: u64,
    /// Epochs that may be unfinished before sources stop: timely's queues have no bound.
    pub epochs_in_flight: u64,
    /// Bytes held, buffered or waiting for an upload before sources stop.
    pub bytes_max: usize,
    /// Bytes of one chunk.
    pub chunk_bytes: usize,
    /// Rows of one batch, at most [`BATCH_ROWS_MAX`](thalweg_stream::BATCH_ROWS_MAX): results do not
    /// depend on it, which is what tests make it small for.
    pub batch_rows: usize,
    /// Checkpoints whose output may be unpublished before no further one is begun.
    pub unpublished_max: usize,
    /// Attempts at writing an object before its checkpoint fails; they take some 15 s together,
    /// longer than a store fails over.
    pub upload_attempts: u32,
    /// Entries by which the job log grows before it is folded into a snapshot: about as many are what
    /// a start reads.
    pub log_entries_max: u64,
    /// Numbers below a snapshot of the log that stay occupied by fences; those further down are
    /// deleted.
    pub log_fences_max: u64,
    /// How long a stop waits for output to become visible (milliseconds). What is not visible by
    /// then stays listed in the last checkpoint, and the next run publishes it. Less than what
    /// schedulers leave a process (30 s is common), as the last checkpoint comes after it.
    pub stop_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let retention = Retention::default();
        Self {
            epoch_ms: 100,
            epoch_bytes: 16 << 20,
            epochs_in_flight: 3,
            bytes_max: 256 << 20,
            chunk_bytes: 512 << 10,
            batch_rows: thalweg_stream::BATCH_ROWS_MAX,
            unpublished_max: 8,
            upload_attempts: 10,
            log_entries_max: retention.snapshot_every,
            log_fences_max: retention.fenced_max,
            stop_ms: 10_000,
        }
    }
}
