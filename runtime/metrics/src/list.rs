//! The list itself.

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets (upper bounds, seconds).
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name without the prefix `thalweg_`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Labels besides `job`.
    more: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

impl Metric {
    /// All its labels, `job` first.
    #[must_use]
    pub fn labels(&self) -> Vec<&'static str> {
        let mut labels = vec!["job"];
        labels.extend_from_slice(self.more);
        labels
    }
}

const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

const fn counter(name: &'static str, more: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        more,
        help,
    }
}
const fn gauge(name: &'static str, more: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        more,
        help,
    }
}
const fn seconds(name: &'static str, more: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram(SECONDS),
        more,
        help,
    }
}

const STEP: &[&str] = &["step"];

/// Every metric there is.
pub const ALL: &[Metric] = &[
    counter(
        "records_in_total",
        STEP,
        "Rows that came into a step or sink; records read by a source",
    ),
    counter(
        "records_out_total",
        STEP,
        "Rows that a source decoded, a step put out or a sink staged",
    ),
    counter("bytes_in_total", STEP, "Bytes read by a source"),
    counter("bytes_out_total", STEP, "Bytes staged by a sink"),
    counter(
        "batches_total",
        STEP,
        "Batches that a source or step put out",
    ),
    counter(
        "late_records_total",
        &["step", "fate"],
        "Rows that came too late: dropped, output or dead-letter",
    ),
    gauge(
        "watermark_seconds",
        STEP,
        "Event time up to which a step's output is complete, Unix seconds",
    ),
    gauge(
        "watermark_lag_seconds",
        STEP,
        "Wall-clock time minus watermark",
    ),
    gauge(
        "event_time_lag_seconds",
        STEP,
        "Wall-clock time minus the newest event time that a source has decoded",
    ),
    gauge("idle_splits", STEP, "Splits of a source that are idle"),
    gauge(
        "windows_open",
        STEP,
        "Windows that have not fired yet, on every worker that holds keys of them",
    ),
    counter(
        "windows_fired_total",
        STEP,
        "Windows that have fired, on every worker that holds keys of them",
    ),
    gauge(
        "busy_ratio",
        &["worker"],
        "Share of the last second that a worker spent computing",
    ),
    gauge(
        "backpressured_ratio",
        STEP,
        "Share of the last second that flow control kept a source from reading",
    ),
    gauge(
        "epochs_in_flight",
        &[],
        "Epochs closed and not yet finished by every operator",
    ),
    gauge(
        "queue_bytes",
        &[],
        "Bytes of rows held back, and of output not yet uploaded, or not yet taken by a sink that is at-least-once",
    ),
    gauge(
        "source_lag_records",
        STEP,
        "Records (bytes, for a file) known to be unread",
    ),
    gauge(
        "source_lag_seconds",
        STEP,
        "Time since a source was last read to its end",
    ),
    gauge(
        "source_connected",
        STEP,
        "Whether a source is in touch with where it reads from",
    ),
    counter(
        "files_truncated_total",
        STEP,
        "Files that were truncated while they were followed; what they have now is read anew",
    ),
    counter(
        "files_lost_total",
        STEP,
        "Followed files that were removed and may have had more than was read",
    ),
    counter(
        "records_lost_total",
        STEP,
        "Offsets of a topic that had expired before they were read, passed over by `on_data_loss: continue`",
    ),
    counter(
        "decode_errors_total",
        &["step", "reason"],
        "Records that could not be decoded, by code",
    ),
    counter("sink_published_total", STEP, "Rows made visible by a sink"),
    counter(
        "sink_retries_total",
        &["step", "of"],
        "Attempts that failed and were repeated: of a whole unit, or of one request",
    ),
    counter(
        "sink_rejected_total",
        STEP,
        "Rows that a sink's service refused for good",
    ),
    counter(
        "sink_throttled_total",
        STEP,
        "Requests that a sink's service answered with 429",
    ),
    seconds(
        "sink_latency_seconds",
        STEP,
        "Time from a commit to its output being visible",
    ),
    gauge(
        "sink_unpublished_epochs",
        STEP,
        "Checkpoints whose output is not yet visible",
    ),
    counter(
        "cosmos_request_units_total",
        STEP,
        "Request units that Cosmos DB charged",
    ),
    counter(
        "adx_ingestions_total",
        &["step", "status"],
        "Blobs ingested by Azure Data Explorer",
    ),
    gauge("state_keys", STEP, "Keys in a step's state"),
    gauge("state_bytes", STEP, "Memory that a step's state takes"),
    gauge("state_rows", STEP, "Input rows that a step holds in state"),
    counter("dedup_hits_total", STEP, "Rows dropped as duplicates"),
    seconds(
        "checkpoint_duration_seconds",
        &[],
        "Time from the end of an epoch to its commit",
    ),
    seconds(
        "checkpoint_pause_seconds",
        &[],
        "Time that an operator stopped for a freeze",
    ),
    gauge(
        "checkpoint_bytes",
        &[],
        "Bytes of state written by the last checkpoint",
    ),
    gauge("checkpoint_age_seconds", &[], "Time since the last commit"),
    counter(
        "checkpoints_total",
        &["result"],
        "Checkpoints: committed or failed",
    ),
    counter(
        "compactions_total",
        &["result"],
        "Compactions of state in the background: done or failed",
    ),
    counter(
        "compaction_bytes_total",
        &[],
        "Bytes that compactions have written",
    ),
    counter(
        "restarts_total",
        &["cause"],
        "Starts by what came before: a crash, a stop, a choice (--from), or, within this run, a fault, panic, stall or lost process",
    ),
    gauge("restore_seconds", &[], "Time the last restore took"),
    counter("plugin_calls_total", STEP, "Calls into a plugin"),
    counter(
        "plugin_traps_total",
        &["step", "kind"],
        "Calls into a plugin, or rows of one, that failed, by kind",
    ),
    gauge(
        "plugin_seconds",
        STEP,
        "CPU seconds spent in calls of a plugin so far",
    ),
    gauge(
        "plugin_memory_bytes",
        STEP,
        "Memory of a plugin's instances",
    ),
    gauge(
        "plugin_info",
        &["step", "sha256"],
        "1 for each plugin that a step calls; tells which one is loaded",
    ),
    counter(
        "dead_letters_total",
        &["class"],
        "Records that could not be processed",
    ),
    counter(
        "dead_letters_dropped_total",
        STEP,
        "Dead letters dropped for want of room, by `when_full: drop-oldest`",
    ),
];
