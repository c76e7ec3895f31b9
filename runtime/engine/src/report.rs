//! What workers report: to each other about time, and to the coordinator about checkpoints.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_checkpoint::PackedSection;
use thalweg_stream::sink::EncodedObject;
use thalweg_stream::{Epoch, EpochKind, Ledger, Progress};

/// What a source instance or a decoder tells every worker's tracker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum TimeReport {
    /// A source instance has closed an epoch. Every instance sends one for every epoch.
    Closed {
        /// Position of the source in the graph.
        source: usize,
        kind: EpochKind,
        /// Those that have changed since its last report.
        splits: Vec<SplitReport>,
    },
    /// A decoder has decoded a chunk.
    Decoded {
        source: usize,
        split: u32,
        newest: Option<i64>,
        ledger: Ledger,
    },
}

/// Where a split stands at the end of an epoch, as its reader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SplitReport {
    /// The split's number.
    pub(crate) split: u32,
    /// The offset to go on from.
    pub(crate) offset: Option<u64>,
    /// Polled, empty and at its known end for `idle_after`.
    pub(crate) idle: bool,
    /// All that there was at some time has been read.
    pub(crate) loaded: bool,
    /// No more will come.
    pub(crate) finished: bool,
    /// Records or bytes known to be unread.
    pub(crate) behind: Option<u64>,
}

/// A split as the tracker knows it at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SplitProgress {
    /// The split's number.
    pub(crate) split: u32,
    /// The offset to go on from; nothing before the first chunk of a first start.
    pub(crate) offset: Option<u64>,
    /// Newest event time decoded.
    pub(crate) newest: Option<i64>,
    /// It holds no watermark back for now.
    pub(crate) idle: bool,
    /// No more will come.
    pub(crate) finished: bool,
    /// All that there was at some time has been read.
    pub(crate) loaded: bool,
    /// Records or bytes known to be unread.
    pub(crate) behind: Option<u64>,
}

/// What every stateful operator is told about an epoch; made by the tracker of each worker from
/// the same reports, so equal on all of them.
#[derive(Clone, Debug)]
pub(crate) struct EpochInfo {
    pub(crate) epoch: Epoch,
    pub(crate) kind: EpochKind,
    /// How far the output of every node has come.
    pub(crate) nodes: Vec<Progress>,
    /// Every split.
    pub(crate) splits: Vec<SplitProgress>,
    /// What became of the records of each source, by node, since this attempt began.
    pub(crate) decoded: Vec<(usize, Ledger)>,
}

/// What workers tell the coordinator.
#[derive(Debug)]
pub(crate) enum Report {
    /// An epoch's information, from the first worker's tracker; for every epoch.
    Epoch(Arc<EpochInfo>),
    /// A piece of a node's sealed state.
    Sections {
        worker: usize,
        node: usize,
        sections: Vec<PackedSection>,
    },
    /// A node has handed out all that it seals at `epoch`, with its ledger since the attempt began.
    /// `full` says that its sections are all its state, rather than what has changed.
    Sealed {
        epoch: Epoch,
        worker: usize,
        node: usize,
        ledger: Ledger,
        full: bool,
    },
    /// A sink has handed out an object to be staged: output since it sealed the epoch `after`.
    Staged {
        worker: usize,
        node: usize,
        after: Epoch,
        object: EncodedObject,
    },
    /// Dead letters from publishing have entered the dataflow in `epoch`: so many of this attempt.
    Rejected { epoch: Epoch, entered: u64 },
    /// A worker has left its dataflow.
    Ended,
}
