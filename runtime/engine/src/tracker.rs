//! Watermarks of splits and sources: from what readers and decoders report to how far every node
//! has come. Pure; every worker computes the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{Epoch, EpochKind, Ledger, Progress, SplitId};

use crate::graph::Graph;
use crate::report::{EpochInfo, SplitProgress, SplitReport, TimeReport};

/// A split of a source, as it was restored or found.
#[derive(Clone, Debug)]
pub(crate) struct TrackedSplit {
    /// Its number.
    pub(crate) id: SplitId,
    /// Position of its source in the graph.
    pub(crate) source: usize,
    /// Newest event time of the checkpoint.
    pub(crate) newest: Option<i64>,
}

/// Folds reports into the progress of splits, sources and nodes.
pub(crate) struct Tracker {
    graph: Arc<Graph>,
    splits: BTreeMap<u32, (usize, SplitProgress)>,
    sources: BTreeMap<usize, Progress>,
    nodes: Vec<Progress>,
    decoded: BTreeMap<usize, Ledger>,
}

impl Tracker {
    /// `watermarks` are the sources' watermarks of the checkpoint, by node.
    pub(crate) fn new(
        graph: Arc<Graph>,
        splits: &[TrackedSplit],
        watermarks: &BTreeMap<usize, i64>,
    ) -> Self {
        let splits = (splits.iter())
            .map(|s| {
                let progress = SplitProgress {
                    split: s.id.0,
                    offset: None,
                    newest: s.newest,
                    idle: false,
                    finished: false,
                    loaded: false,
                    behind: None,
                };
                (s.id.0, (s.source, progress))
            })
            .collect();
        let sources = (graph.sources())
            .map(|(at, _)| {
                let watermark = watermarks.get(&at).copied().unwrap_or(START_OF_TIME);
                (
                    at,
                    Progress {
                        watermark,
                        ..Progress::START
                    },
                )
            })
            .collect();
        let nodes = vec![Progress::START; graph.nodes.len()];
        Self {
            graph,
            splits,
            sources,
            nodes,
            decoded: BTreeMap::new(),
        }
    }

    /// All reports of `epoch` are in: what operators are to be told.
    pub(crate) fn close(&mut self, epoch: Epoch, reports: Vec<TimeReport>) -> EpochInfo {
        let mut kind = EpochKind::Ordinary;
        for report in reports {
            match report {
                TimeReport::Closed {
                    kind: announced,
                    splits,
                } => {
                    kind = announced;
                    splits.into_iter().for_each(|split| self.closed(split));
                }
                TimeReport::Decoded {
                    source,
                    split,
                    newest,
                    ledger,
                } => {
                    *self.decoded.entry(source).or_default() += ledger;
                    if let Some((_, known)) = self.splits.get_mut(&split) {
                        known.newest = known.newest.max(newest);
                    }
                }
            }
        }
        for (&at, progress) in &mut self.sources {
            let out_of_order_ms = self
                .graph
                .sources()
                .find(|&(n, _)| n == at)
                .map_or(0, |(_, s)| s.out_of_order_ms);
            let splits: Vec<Progress> = (self.splits.values())
                .filter(|(source, _)| *source == at)
                .map(|(_, split)| split_progress(split, out_of_order_ms))
                .collect();
            *progress = Progress::union(&splits).not_before(*progress);
        }
        let sources: Vec<Progress> = self.sources.values().copied().collect();
        for (known, now) in self.nodes.iter_mut().zip(self.graph.progress(&sources)) {
            *known = now.not_before(*known);
        }
        EpochInfo {
            epoch,
            kind,
            nodes: self.nodes.clone(),
            splits: self.splits.values().map(|(_, split)| *split).collect(),
            decoded: self
                .decoded
                .iter()
                .map(|(&at, &ledger)| (at, ledger))
                .collect(),
        }
    }

    /// The source whose splits have all been loaded once, or are finished.
    pub(crate) fn loaded(&self, source: usize) -> bool {
        let mut splits = self.splits.values().filter(|(at, _)| *at == source);
        splits.all(|(_, split)| split.loaded || split.finished)
    }

    fn closed(&mut self, report: SplitReport) {
        if let Some((_, known)) = self.splits.get_mut(&report.split) {
            known.offset = report.offset.or(known.offset);
            known.idle = report.idle;
            known.finished = report.finished;
            known.loaded |= report.loaded;
            known.behind = report.behind;
        }
    }
}

fn split_progress(split: &SplitProgress, out_of_order_ms: i64) -> Progress {
    if split.finished {
        return Progress::END;
    }
    let watermark = split
        .newest
        .map_or(START_OF_TIME, |t| t.saturating_sub(out_of_order_ms));
    Progress {
        watermark,
        idle: split.idle,
        finished: false,
    }
}

#[cfg(test)]
mod tests;
