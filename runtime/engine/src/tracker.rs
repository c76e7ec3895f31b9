//! Watermarks of splits and sources: from what readers and decoders report to how far every node
//! has come. Pure; every worker computes the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_stream::planted::planted;
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{Epoch, EpochKind, Ledger, Progress, SplitId};

use crate::graph::{Graph, SourceNode};
use crate::report::{EpochInfo, SplitProgress, SplitReport, TimeReport};

/// A split of a source, as it was restored or found.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
                let newest = s.newest.filter(|_| !planted("forget-watermarks"));
                (s.id.0, (s.source, unread(s.id.0, newest)))
            })
            .collect();
        let sources = (graph.sources())
            .map(|(at, _)| {
                let watermark = (watermarks.get(&at).copied())
                    .filter(|_| !planted("forget-watermarks"))
                    .unwrap_or(START_OF_TIME);
                (at, Progress::at(watermark))
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
        let (closed, decoded): (Vec<TimeReport>, Vec<TimeReport>) =
            (reports.into_iter()).partition(|report| matches!(report, TimeReport::Closed { .. }));
        // Those of readers come first: they may have splits that are new.
        for report in closed.into_iter().chain(decoded) {
            match report {
                TimeReport::Closed {
                    source,
                    kind: announced,
                    splits,
                } => {
                    kind = announced;
                    (splits.into_iter()).for_each(|split| self.closed(source, split));
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
        for (at, source) in self.graph.sources() {
            let splits = (self.splits.values())
                .filter(|(of, _)| *of == at)
                .map(|(_, split)| split);
            if let Some(progress) = self.sources.get_mut(&at) {
                *progress = source_progress(splits, source).not_before(*progress);
            }
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

    fn closed(&mut self, source: usize, report: SplitReport) {
        // The first report of a split that has come while the job runs is how it is made known.
        let (_, known) = (self.splits.entry(report.split))
            .or_insert_with(|| (source, unread(report.split, None)));
        known.offset = report.offset.or(known.offset);
        known.idle = report.idle;
        known.finished = report.finished;
        known.loaded |= report.loaded;
        known.behind = report.behind;
    }
}

/// A split of which nothing has been read in this attempt.
fn unread(split: u32, newest: Option<i64>) -> SplitProgress {
    SplitProgress {
        split,
        offset: None,
        newest,
        idle: false,
        finished: false,
        loaded: false,
        behind: None,
    }
}

/// The union of the splits.
///
/// A source without an end that has no split, or none that is not finished, is not at its end:
/// others may come. It is idle if it may ever be, and stays where it is if not.
fn source_progress<'a>(
    splits: impl Iterator<Item = &'a SplitProgress>,
    source: &SourceNode,
) -> Progress {
    let splits = splits.map(|split| {
        let newest = split.newest.unwrap_or(START_OF_TIME);
        let watermark = newest.saturating_sub(source.out_of_order_ms);
        match split.finished || split.idle && planted("idle-is-the-end") {
            true => Progress::ended(watermark),
            false => Progress {
                idle: split.idle,
                ..Progress::at(watermark)
            },
        }
    });
    let union = Progress::union(&splits.collect::<Vec<_>>());
    match (
        union.finished && !source.source.bounded(),
        source.idle_after_ms,
    ) {
        (false, _) => union,
        (true, None) => Progress::START,
        (true, Some(_)) => Progress {
            idle: true,
            ..Progress::at(union.before_end)
        },
    }
}

#[cfg(test)]
mod tests;
