//! The splits of a job: those of the checkpoint with their numbers, those that are found at a
//! start, and those that come while the job runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_checkpoint::Manifest;
use thalweg_stream::source::{SplitSpec, SplitStart};
use thalweg_stream::{Fault, Origin, SplitId};

use crate::graph::Graph;
use crate::letters::SplitNames;
use crate::tracker::TrackedSplit;

/// Every split that a run reads: its number, its name, how its source describes it.
///
/// Numbers go up in the order in which splits are met. They are part of the checkpoint together
/// with how far the split has come, so one that no manifest knows may get another after a crash:
/// nothing that was read from it counts then.
#[derive(Debug, Default)]
pub(crate) struct Register {
    specs: BTreeMap<u32, (String, SplitSpec)>,
    /// How many splits each source has, by node.
    counts: BTreeMap<usize, usize>,
    names: Arc<SplitNames>,
    next: u32,
}

/// A split that is to be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Joining {
    /// Position of its source in the graph.
    pub(crate) node: usize,
    /// Its position among its source's splits, which says which worker reads it.
    pub(crate) position: usize,
    /// The split itself.
    pub(crate) start: SplitStart,
}

impl Register {
    /// The number of the next split that nobody has met before.
    pub(crate) fn next(&self) -> SplitId {
        SplitId(self.next)
    }

    /// How their sources describe them, with the sources' names, by number.
    pub(crate) fn specs(&self) -> &BTreeMap<u32, (String, SplitSpec)> {
        &self.specs
    }

    pub(crate) fn names(&self) -> &Arc<SplitNames> {
        &self.names
    }

    /// Enters a split of the source at `node`, to be read from its beginning.
    pub(crate) fn enter(
        &mut self,
        id: SplitId,
        node: usize,
        source: &Arc<str>,
        spec: SplitSpec,
    ) -> Result<Joining, Fault> {
        if id.0 >= Origin::SPLITS_MAX {
            let most = Origin::SPLITS_MAX;
            return Err(Fault::user(format!("the job has more than {most} splits")));
        }
        self.next = self.next.max(id.0 + 1);
        let count = self.counts.entry(node).or_default();
        let position = *count;
        *count += 1;
        (self.names).name(id, Arc::clone(source), Arc::clone(&spec.name));
        let described = (source.to_string(), spec.clone());
        self.specs.insert(id.0, described);
        let (offset, finished) = (None, false);
        Ok(Joining {
            node,
            position,
            start: SplitStart {
                id,
                spec,
                offset,
                finished,
            },
        })
    }
}

/// The splits that a run begins with.
#[derive(Default)]
pub(crate) struct Splits {
    /// By source node, in order of their numbers.
    pub(crate) starts: BTreeMap<usize, Vec<SplitStart>>,
    pub(crate) tracked: Vec<TrackedSplit>,
    pub(crate) register: Register,
}

impl Splits {
    /// Those of the checkpoint, and what sources have besides.
    ///
    /// # Errors
    /// The sources', with their names.
    pub(crate) async fn discover(
        graph: &Graph,
        restored: Option<&Manifest>,
    ) -> Result<Self, Fault> {
        let mut splits = Self::default();
        let none = Vec::new();
        let known = restored.iter().flat_map(|r| r.sources.values());
        let known = known.flat_map(|source| &source.splits).map(|s| s.id.0 + 1);
        splits.register.next = known.max().unwrap_or_default();
        for (at, source) in graph.sources() {
            let known = restored.and_then(|r| r.sources.get(&*source.name));
            let known = known.map_or(&none, |source| &source.splits);
            let specs: Vec<SplitSpec> = known.iter().map(|split| split.spec.clone()).collect();
            let found = source.source.discover(&specs).await;
            let found =
                found.map_err(|fault| fault.within(format_args!("source \"{}\"", source.name)))?;
            for (position, spec) in found.into_iter().enumerate() {
                let (id, offset, newest) = match known.get(position) {
                    Some(split) => (split.id, split.offset, split.newest_event_time),
                    None => (splits.register.next(), None, None),
                };
                let finished = known.get(position).is_some_and(|split| split.finished);
                let entered = splits.register.enter(id, at, &source.name, spec)?;
                splits.tracked.push(TrackedSplit {
                    id,
                    source: at,
                    newest,
                });
                let start = SplitStart {
                    offset,
                    finished,
                    ..entered.start
                };
                splits.starts.entry(at).or_default().push(start);
            }
        }
        Ok(splits)
    }
}
