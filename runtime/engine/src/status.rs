//! What a job tells about itself while it runs: for `/status`, metrics and the progress line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use thalweg_stream::Ledger;

use crate::shared::lock;

/// How a job is doing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// The job's name.
    pub job: String,
    /// What it is at: `starting`, `running`, `restarting`, `stopping`, `finished`, `stopped` or `failed`.
    pub phase: Phase,
    /// Its lineage.
    pub lineage: String,
    /// Its generation.
    pub generation: u64,
    /// Workers at work.
    pub workers: usize,
    /// Highest epoch that every operator has finished.
    pub epoch: u64,
    /// Epochs closed and not finished.
    pub epochs_in_flight: u64,
    /// Bytes staged or sealed and not yet uploaded.
    pub queue_bytes: usize,
    /// Sources, steps and sinks, in the order of the graph.
    pub nodes: Vec<NodeStatus>,
    /// The last commit.
    pub checkpoint: Option<CheckpointStatus>,
    /// Restarts after failures since this run began.
    pub restarts: u64,
    /// The last of them.
    pub restarted: Option<RestartStatus>,
    /// Checkpoints committed by this run.
    pub checkpoints: u64,
    /// Checkpoints that failed.
    pub checkpoints_failed: u64,
    /// Records that the sources have read since the lineage began.
    pub records_in: u64,
    /// Dead letters since the lineage began.
    pub dead_letters: u64,
    /// What went wrong last, even if it has passed.
    pub last_error: Option<String>,
    /// The restore of this start, if it was one.
    pub restored: Option<RestoreStatus>,
}

/// What a job is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Claiming, connecting, restoring.
    #[default]
    Starting,
    /// Processing.
    Running,
    /// Failed; waiting for the next attempt.
    Restarting,
    /// Committing and publishing for the last time.
    Stopping,
    /// The input has ended and all output is visible.
    Finished,
    /// Stopped on request; running it again resumes.
    Stopped,
    /// Ended by a fault.
    Failed,
}

/// How one source, step or sink is doing.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `source`, `step` or `sink`.
    pub kind: &'static str,
    /// Event time up to which its output is complete, milliseconds; nothing before the first row.
    pub watermark_ms: Option<i64>,
    /// Whether its input is idle.
    pub idle: bool,
    /// Whether no more will come.
    pub finished: bool,
    /// What became of its rows, since the lineage began, as of the last checkpoint.
    pub ledger: Ledger,
    /// Rows that came in (records read, for a source) since this attempt began.
    pub rows_in: u64,
    /// Rows that went out: decoded, put out, or, of a sink, staged.
    pub rows_out: u64,
    /// Rows that came in, per second of late.
    pub rows_in_per_second: f64,
    /// Rows that went out, per second of late.
    pub rows_out_per_second: f64,
    /// Splits of a source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<SplitStatus>,
    /// Checkpoints whose output is not yet visible, of a sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpublished: Option<usize>,
    /// Rows made visible since the lineage began, of a sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_rows: Option<u64>,
}

/// How one split is doing.
#[derive(Clone, Debug, Serialize)]
pub struct SplitStatus {
    /// Its name.
    pub name: String,
    /// The offset to go on from.
    pub offset: Option<u64>,
    /// Newest event time read, milliseconds.
    pub newest_ms: Option<i64>,
    /// Whether it holds no watermark back for now.
    pub idle: bool,
    /// Whether no more will come.
    pub finished: bool,
    /// Records or bytes known to be unread.
    pub behind: Option<u64>,
}

/// A commit.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointStatus {
    /// Its epoch.
    pub epoch: u64,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Time from the end of its epoch to the commit, milliseconds.
    pub duration_ms: u64,
    /// Bytes of state written.
    pub bytes: u64,
}

/// A restart after a failure.
#[derive(Clone, Debug, Serialize)]
pub struct RestartStatus {
    /// When the attempt before failed, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What kind of failure it was: `fault`, `panic`, `stall` or `process`.
    pub cause: &'static str,
    /// What has failed.
    pub error: String,
    /// The delay before the next attempt, milliseconds.
    pub after_ms: u64,
}

/// A restore.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreStatus {
    /// The epoch it went back to.
    pub epoch: u64,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
}

/// A job's status, shared with whoever wants to know.
#[derive(Clone, Debug, Default)]
pub struct StatusBoard(Arc<Mutex<Status>>);

impl StatusBoard {
    /// The status now.
    #[must_use]
    pub fn read(&self) -> Status {
        lock(&self.0).clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.0));
    }
}

impl Status {
    /// The ledgers by step name.
    #[must_use]
    pub fn ledgers(&self) -> BTreeMap<&str, Ledger> {
        self.nodes
            .iter()
            .map(|node| (node.name.as_str(), node.ledger))
            .collect()
    }
}
