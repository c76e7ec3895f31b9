//! The state of steps: read at a restore, written for a checkpoint.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use thalweg_checkpoint::name::PartId;
use thalweg_checkpoint::state::PartReport;
use thalweg_checkpoint::{PartWriter, Restorer};
use thalweg_stream::{Fault, Migration, Section};

use super::Journal;
use crate::assembly::Whole;
use crate::failpoint;
use crate::fit;
use crate::worker::groups;

/// State that is durable.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(super) reports: Vec<PartReport>,
    pub(super) bytes: u64,
}

impl Journal {
    /// Reads the state of steps: for each of `ids` the sections of a worker's `groups`.
    pub(crate) async fn read_state(
        &self,
        ids: &[Arc<str>],
        groups: Range<usize>,
    ) -> Result<BTreeMap<Arc<str>, Vec<Section>>, Fault> {
        let restorer = Restorer::open(&self.store, &self.chains).await?;
        let mut all = BTreeMap::new();
        for id in ids {
            let mut sections = Vec::new();
            let mut reading = restorer.sections(id, groups.clone())?;
            while let Some(more) = reading.next().await? {
                sections.extend(more);
            }
            if let Some(migration) = self.migration(id) {
                let mut migrated = Vec::new();
                for all in sections.chunk_by(|a, b| a.group == b.group) {
                    migrated.extend(migration.migrate(all)?);
                }
                sections = migrated;
            }
            all.insert(Arc::clone(id), sections);
        }
        Ok(all)
    }

    /// How the state of a step is taken over, if the checkpoint has it in another shape.
    fn migration(&self, id: &str) -> Option<Box<dyn Migration>> {
        let restored = self.restored.as_ref()?;
        let (_, step) = self.graph.steps().find(|(_, step)| *step.id == *id)?;
        fit::migration(restored, step)
    }

    /// Makes the state of a checkpoint durable, one part for each worker.
    pub(crate) fn write_parts(
        &self,
        whole: &mut Whole,
        attempts: u32,
    ) -> BoxFuture<'static, Result<Parts, Fault>> {
        let epoch = whole.info.epoch;
        let ids: Vec<(usize, Arc<str>)> = self
            .graph
            .steps()
            .map(|(at, step)| (at, Arc::clone(&step.id)))
            .collect();
        let (store, generation, workers) = (self.store.clone(), self.generation, self.open.workers);
        let mut sections = std::mem::take(&mut whole.sections);
        let full = std::mem::take(&mut whole.full);
        async move {
            let mut parts = Parts::default();
            for worker in 0..workers {
                let mut mine = sections.remove(&worker).unwrap_or_default();
                // Steps hand groups out by turns: what is read together is to lie together.
                mine.sort_by_key(|(node, section)| (*node, section.head.group));
                let id = PartId {
                    epoch,
                    worker: u32::try_from(worker).unwrap_or(u32::MAX),
                    sequence: 0,
                    generation,
                };
                let mut writer = PartWriter::new(id);
                for (node, step) in &ids {
                    let full = full.contains(&(worker, *node));
                    writer.freeze(step, groups(worker, workers), full)?;
                }
                let names: BTreeMap<usize, &Arc<str>> =
                    ids.iter().map(|(n, id)| (*n, id)).collect();
                // Each goes as it is added, so that the state is not there twice.
                for (node, section) in mine {
                    if let Some(step) = names.get(&node) {
                        writer.add(step, &section)?;
                    }
                }
                let finished = writer.finish()?;
                failpoint::hit(&["upload", "state", "before"]);
                let name = finished.report.part.name.clone();
                let put = || store.put(&name, finished.content.clone());
                crate::stage::persist(&name, &**store.clock(), attempts, put).await?;
                failpoint::hit(&["upload", "state", "after"]);
                parts.bytes += finished.report.part.bytes;
                parts.reports.push(finished.report);
            }
            Ok(parts)
        }
        .boxed()
    }
}
