//! Splits that come while the job runs: one task a source waits for them, beside the coordinator.
//!
//! The coordinator gives them numbers and announces them; from an epoch on they are read, reported
//! and part of the checkpoint like all others (`shared.rs`, `read.rs`, `tracker.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_stream::source::SplitSpec;
use thalweg_stream::{Fault, Source};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::graph::Graph;
use crate::splits::Register;

/// What was found of one source.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its position in the graph.
    pub(crate) node: usize,
    /// New splits, or why the attempt ends.
    pub(crate) splits: Result<Vec<SplitSpec>, Fault>,
}

/// Begins to wait for more splits than `register` has; ends when the set is dropped.
pub(crate) fn watch(graph: &Graph, register: &Register) -> (JoinSet<()>, mpsc::Receiver<Found>) {
    // One at a time: whoever has found something waits until it is taken.
    let (sender, found) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    for (node, source) in graph.sources() {
        let known = (register.specs().values())
            .filter(|(name, _)| **name == *source.name)
            .map(|(_, spec)| spec.clone());
        let watch = Watch {
            node,
            name: Arc::clone(&source.name),
            source: Arc::clone(&source.source),
            known: known.collect(),
            found: sender.clone(),
        };
        tasks.spawn(watch.run());
    }
    (tasks, found)
}

/// Waits for the splits of one source.
struct Watch {
    node: usize,
    name: Arc<str>,
    source: Arc<dyn Source>,
    known: Vec<SplitSpec>,
    found: mpsc::Sender<Found>,
}

impl Watch {
    async fn run(mut self) {
        loop {
            let splits = self.source.grown(&self.known).await;
            let splits = splits
                .and_then(|splits| self.check(splits))
                .map_err(|fault| fault.within(format_args!("source \"{}\"", self.name)));
            let failed = splits.is_err();
            let node = self.node;
            let told = self.found.send(Found { node, splits }).await;
            if failed || told.is_err() {
                return;
            }
        }
    }

    /// Takes note of new splits, which must be that.
    fn check(&mut self, splits: Vec<SplitSpec>) -> Result<Vec<SplitSpec>, Fault> {
        let names: BTreeSet<&str> = self.known.iter().map(|known| &*known.name).collect();
        if let Some(split) = splits.iter().find(|split| names.contains(&*split.name)) {
            let what = format!("split \"{}\" is there already", split.name);
            return Err(Fault::bug(what));
        }
        self.known.extend(splits.iter().cloned());
        Ok(splits)
    }
}
