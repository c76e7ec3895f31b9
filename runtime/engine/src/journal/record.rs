//! What a manifest says of an epoch: from what the engine knows to its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_checkpoint::manifest::{Cut, SourceRecord, SplitRecord, StepRecord};
use thalweg_stream::source::SplitSpec;
use thalweg_stream::{Progress, SplitId};

use crate::assembly;
use crate::graph::{Graph, StepNode};
use crate::report::EpochInfo;

/// How far each split had come at the end of an epoch.
pub(super) fn cut(cut: assembly::Cut) -> Cut {
    let offsets = cut.offsets.into_iter();
    let idle = cut.idle.into_iter();
    Cut {
        epoch: cut.epoch,
        offsets: offsets
            .map(|(split, offset)| (SplitId(split), offset))
            .collect(),
        idle: idle.map(|(split, idle)| (SplitId(split), idle)).collect(),
    }
}

/// How far sources and their splits have come at the end of the checkpoint's epoch.
pub(super) fn sources(
    graph: &Graph,
    splits: &BTreeMap<u32, (String, SplitSpec)>,
    info: &EpochInfo,
) -> BTreeMap<String, SourceRecord> {
    let mut sources: BTreeMap<String, SourceRecord> = (graph.sources())
        .map(|(at, source)| {
            let progress = info.nodes.get(at).copied().unwrap_or(Progress::START);
            (
                source.name.to_string(),
                SourceRecord {
                    progress,
                    splits: Vec::new(),
                },
            )
        })
        .collect();
    for split in &info.splits {
        let Some((source, spec)) = splits.get(&split.split) else {
            continue;
        };
        if let Some(record) = sources.get_mut(source) {
            record.splits.push(SplitRecord {
                id: SplitId(split.split),
                spec: spec.clone(),
                offset: split.offset,
                finished: split.finished,
                newest_event_time: split.newest,
                idle: split.idle,
            });
        }
    }
    sources
}

/// The shape of each step's state, and how far the step has come.
pub(super) fn steps(graph: &Graph, info: &EpochInfo) -> BTreeMap<String, StepRecord> {
    let record = |(at, step): (usize, &StepNode)| {
        let shape = step.factory.state_shape().map(Arc::from);
        (
            step.id.to_string(),
            StepRecord {
                shape,
                progress: info.nodes.get(at).copied(),
            },
        )
    };
    graph.steps().map(record).collect()
}
