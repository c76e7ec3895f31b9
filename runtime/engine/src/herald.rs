//! Telling sources what was committed: one task a source, which tells the newest and leaves out what
//! came in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_stream::source::SplitSpec;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::graph::Graph;
use crate::report::EpochInfo;

/// How far the splits of a source have come.
type Offsets = Vec<(SplitSpec, u64)>;

/// Where what is to be told is left, by the name of the source. The tasks end after the last of it
/// when this is dropped.
#[derive(Debug)]
pub(crate) struct Heralds(BTreeMap<Arc<str>, watch::Sender<Offsets>>);

/// Starts the tasks.
pub(crate) fn start(graph: &Graph) -> (Heralds, JoinSet<()>) {
    let mut tasks = JoinSet::new();
    let heralds = graph.sources().map(|(_, node)| {
        let (sender, mut offsets) = watch::channel(Offsets::new());
        let source = Arc::clone(&node.source);
        tasks.spawn(async move {
            while offsets.changed().await.is_ok() {
                let newest = offsets.borrow_and_update().clone();
                source.committed(&newest).await;
            }
        });
        (Arc::clone(&node.name), sender)
    });
    let heralds = Heralds(heralds.collect());
    (heralds, tasks)
}

impl Heralds {
    /// The checkpoint of an epoch stands; `split` knows the splits by their numbers.
    pub(crate) fn tell<'a>(
        &self,
        info: &EpochInfo,
        split: impl Fn(u32) -> Option<(&'a str, &'a SplitSpec)>,
    ) {
        let mut all: BTreeMap<&str, Offsets> = BTreeMap::new();
        for progress in &info.splits {
            if let (Some((source, spec)), Some(offset)) = (split(progress.split), progress.offset) {
                let of = all.entry(source).or_default();
                of.push((spec.clone(), offset));
            }
        }
        for (source, offsets) in all {
            if let Some(herald) = self.0.get(source) {
                herald.send_replace(offsets);
            }
        }
    }
}
