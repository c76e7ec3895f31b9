//! What processes tell each other on their control connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thalweg_checkpoint::{PackedHead, PackedSection};
use thalweg_stream::sink::{EncodedObject, SinkContext};
use thalweg_stream::source::SplitStart;
use thalweg_stream::{Clock, Epoch, EpochKind, Generation, Ledger, Lineage, Section};

use crate::failure::{Failure, Place};
use crate::flow::Told;
use crate::limits::Limits;
use crate::meter::Counted;
use crate::report::Report;
use crate::splits::Joining;
use crate::stall::Seen;
use crate::tracker::TrackedSplit;

/// What a follower must know before it can build its part of the job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Brief {
    /// Its number.
    pub(crate) process: usize,
    pub(crate) processes: usize,
    /// Workers of each.
    pub(crate) workers: usize,
    pub(crate) job: Arc<str>,
    /// The definition's fingerprint, and what the leader's build makes of it.
    pub(crate) version: String,
    pub(crate) graph: u64,
    pub(crate) limits: Limits,
    pub(crate) suspect: Option<Place>,
    pub(crate) first: Epoch,
    /// Splits to read, by source node, in order of their numbers.
    pub(crate) starts: BTreeMap<usize, Vec<SplitStart>>,
    pub(crate) tracked: Vec<TrackedSplit>,
    pub(crate) watermarks: BTreeMap<usize, i64>,
    pub(crate) sinks: BTreeMap<usize, SinkBrief>,
}

/// What a sink is told, without the clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SinkBrief {
    sink: Arc<str>,
    lineage: Lineage,
    generation: Generation,
    state: serde_json::Value,
}

impl SinkBrief {
    pub(crate) fn of(context: &SinkContext) -> Self {
        Self {
            sink: Arc::clone(&context.sink),
            lineage: context.lineage.clone(),
            generation: context.generation,
            state: context.state.clone(),
        }
    }

    pub(crate) fn context(self, job: &Arc<str>, clock: &Arc<dyn Clock>) -> SinkContext {
        SinkContext {
            job: Arc::clone(job),
            sink: self.sink,
            lineage: self.lineage,
            generation: self.generation,
            clock: Arc::clone(clock),
            state: self.state,
        }
    }
}

/// From the leader to a follower.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first one.
    Prepare(Box<Brief>),
    /// State of a step on one of the follower's workers, whose sections follow.
    Restore {
        worker: usize,
        step: Arc<str>,
        sections: Vec<Piece>,
    },
    /// All state has come: build and run.
    Begin,
    /// The open epoch is closed, and what it is.
    Close { epoch: Epoch, kind: EpochKind },
    /// New splits are read from an epoch on.
    Join { first: Epoch, splits: Vec<Joining> },
    /// What is frozen for the epoch is to be given back.
    CheckpointFailed { epoch: Epoch },
    /// Sources stop for good.
    Drain,
    /// Whether the next freeze of a node is to be full.
    Full { node: usize, full: bool },
    /// Bytes that each node holds in all other processes, and that they have on the way.
    Elsewhere { held: Vec<usize>, queued: usize },
    /// The job has come to its end.
    End,
}

/// From a follower to the leader.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// Bytes read in an epoch so far, and whether it is to be closed at once.
    Read {
        epoch: Epoch,
        bytes: u64,
        hurried: bool,
    },
    /// Bytes that each node holds back in it, and of reports not yet sent: told at once if they have
    /// changed by much.
    Held { held: Vec<usize>, queued: usize },
    /// How it is.
    Pulse(Box<Pulse>),
    /// A piece of a node's sealed state, whose sections follow.
    Sections {
        worker: usize,
        node: usize,
        sections: Vec<PackedHead>,
    },
    Sealed {
        epoch: Epoch,
        worker: usize,
        node: usize,
        ledger: Ledger,
        full: bool,
    },
    /// An object to be staged, which follows.
    Staged {
        worker: usize,
        node: usize,
        after: Epoch,
        rows: u64,
        note: serde_json::Value,
    },
    /// A worker has left its dataflow.
    Ended,
    /// The attempt is to end.
    Failed(Box<Failure>),
}

/// A section whose content follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Piece {
    group: u8,
    base: bool,
    length: usize,
}

/// How a follower is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Pulse {
    /// Each of its workers, and in which node it is.
    pub(super) workers: Vec<(Seen, Option<usize>)>,
    /// CPU time of each, microseconds.
    pub(super) busy_us: Vec<u64>,
    /// What went through each node.
    pub(super) flow: Vec<[u64; 8]>,
    pub(super) counted: Counted,
    /// Figures of nodes and workers; not with every pulse.
    pub(super) figures: Vec<((usize, usize), Vec<Figure>)>,
}

type Figure = (
    (std::borrow::Cow<'static, str>, Vec<String>),
    crate::flow::Figure,
);

impl Pulse {
    /// Figures as they travel.
    pub(super) fn pack(all: Vec<((usize, usize), Told)>) -> Vec<((usize, usize), Vec<Figure>)> {
        let told = |(at, told): (_, Told)| (at, told.into_iter().collect());
        all.into_iter().map(told).collect()
    }
}

impl Word {
    /// A report as it travels, and what follows it. Those that only the leader's workers make do
    /// not travel.
    pub(super) fn of(report: Report) -> Option<(Self, Vec<Bytes>)> {
        Some(match report {
            Report::Sections {
                worker,
                node,
                sections,
            } => {
                let packed = sections
                    .into_iter()
                    .map(|section| (section.head, section.frame));
                let (sections, body) = packed.unzip();
                let word = Self::Sections {
                    worker,
                    node,
                    sections,
                };
                (word, body)
            }
            Report::Sealed {
                epoch,
                worker,
                node,
                ledger,
                full,
            } => {
                let word = Self::Sealed {
                    epoch,
                    worker,
                    node,
                    ledger,
                    full,
                };
                (word, Vec::new())
            }
            Report::Staged {
                worker,
                node,
                after,
                object,
            } => {
                let EncodedObject { bytes, rows, note } = object;
                let word = Self::Staged {
                    worker,
                    node,
                    after,
                    rows,
                    note,
                };
                (word, vec![bytes])
            }
            Report::Ended => (Self::Ended, Vec::new()),
            Report::Epoch(_) | Report::Rejected { .. } => return None,
        })
    }
}

/// Packed sections whose frames are `body`; nothing if it has another length.
pub(super) fn packed(heads: Vec<PackedHead>, mut body: Bytes) -> Option<Vec<PackedSection>> {
    let mut sections = Vec::with_capacity(heads.len());
    for head in heads {
        let length = head.length as usize;
        let frame = (length <= body.len()).then(|| body.split_to(length))?;
        sections.push(PackedSection { head, frame });
    }
    body.is_empty().then_some(sections)
}

/// Sections, and their contents.
pub(super) fn apart(sections: Vec<Section>) -> (Vec<Piece>, Vec<Bytes>) {
    let piece = |section: Section| {
        let piece = Piece {
            group: section.group,
            base: section.base,
            length: section.bytes.len(),
        };
        (piece, section.bytes)
    };
    sections.into_iter().map(piece).unzip()
}

/// Sections whose contents are `body`; nothing if it has another length.
pub(super) fn together(pieces: Vec<Piece>, mut body: Bytes) -> Option<Vec<Section>> {
    let mut sections = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let bytes = (piece.length <= body.len()).then(|| body.split_to(piece.length))?;
        sections.push(Section {
            group: piece.group,
            base: piece.base,
            bytes,
        });
    }
    body.is_empty().then_some(sections)
}
