//! Compaction: the state of a checkpoint, its bases and deltas, merged into new bases while the job
//! goes on.
//!
//! What it has read and written is [in use](InUse) until a manifest names the result, so that no
//! retention deletes it. A process that dies leaves objects that no manifest names: litter. What
//! merges the sections of a key group is the step itself ([`Merge`]): a section is understood only
//! by who knows its shape.

use async_trait::async_trait;
use thalweg_stream::key::KEY_GROUPS;
use thalweg_stream::{Epoch, Fault, Generation, KeyGroup, Section};

use super::chain::{PartReport, StateChains};
use super::packed::Packer;
use super::part::{PART_BYTES_TARGET, PartWriter};
use super::restore::Restorer;
use crate::log::retry;
use crate::name::{COMPACTION, PartId};
use crate::retention::{Hold, InUse};
use crate::store::Store;

/// What knows how to merge sections.
#[async_trait]
pub trait Merge: Send + Sync {
    /// All that `sections` say of a key group of `step`, as sections that need none before them.
    ///
    /// # Errors
    /// Corrupt, if they are none of the step's.
    async fn merge(
        &self,
        step: &str,
        group: KeyGroup,
        sections: Vec<Section>,
    ) -> Result<Vec<Section>, Fault>;
}

/// A compaction to be done.
#[derive(Debug)]
pub struct Compaction {
    store: Store,
    chains: StateChains,
    steps: Vec<String>,
    next: PartId,
    hold: Hold,
    reports: Vec<PartReport>,
}

/// A compaction that is done.
#[derive(Debug)]
pub struct Compacted {
    /// The parts it has written.
    pub reports: Vec<PartReport>,
    /// Keeps them until a manifest that names them is committed.
    pub hold: Hold,
}

impl Compacted {
    /// Bytes of the parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.reports.iter().map(|report| report.part.bytes).sum()
    }
}

impl Compaction {
    /// The compaction of `steps` in the state of the checkpoint of `epoch`, the newest that
    /// `generation` has committed. There is at most one for each checkpoint.
    #[must_use]
    pub fn new(
        store: Store,
        in_use: &InUse,
        chains: &StateChains,
        steps: Vec<String>,
        (epoch, generation): (Epoch, Generation),
    ) -> Self {
        let chains = chains.only(|step| steps.iter().any(|one| one == step));
        let mut hold = in_use.hold();
        for part in &chains.parts {
            hold.add(part.name.clone());
        }
        let next = PartId {
            epoch,
            generation,
            worker: COMPACTION,
            sequence: 0,
        };
        Self {
            store,
            chains,
            steps,
            next,
            hold,
            reports: Vec::new(),
        }
    }

    /// Does it. At most the sections of one key group, as many as a restore reads at once, and one
    /// part are in memory.
    ///
    /// # Cancel safety
    /// A call that is dropped leaves parts that no manifest names.
    ///
    /// # Errors
    /// Corrupt; what `merge` says; the store's.
    pub async fn run(mut self, merge: &dyn Merge) -> Result<Compacted, Fault> {
        let restorer = Restorer::open(&self.store, &self.chains).await?;
        let mut writer = PartWriter::new(self.next);
        let mut packer = Packer::new()?;
        for step in std::mem::take(&mut self.steps) {
            let mut reading = restorer.sections(&step, 0..KEY_GROUPS)?;
            let mut group: Vec<Section> = Vec::new();
            while let Some(more) = reading.next().await? {
                for section in more {
                    if group.first().is_some_and(|one| one.group != section.group) {
                        let sections = std::mem::take(&mut group);
                        writer = (self.write(writer, &step, sections, merge, &mut packer)).await?;
                    }
                    group.push(section);
                }
            }
            writer = (self.write(writer, &step, group, merge, &mut packer)).await?;
        }
        self.finish(writer).await?;
        Ok(Compacted {
            reports: self.reports,
            hold: self.hold,
        })
    }

    /// Writes one key group; the part to go on with.
    async fn write(
        &mut self,
        mut writer: PartWriter,
        step: &str,
        sections: Vec<Section>,
        merge: &dyn Merge,
        packer: &mut Packer,
    ) -> Result<PartWriter, Fault> {
        let Some(group) = sections.first().map(|section| section.group) else {
            return Ok(writer);
        };
        let merged = match sections.as_slice() {
            // Nothing has changed since it was written whole.
            [only] if only.base => sections,
            _ => merge.merge(step, group, sections).await?,
        };
        let groups = usize::from(group)..usize::from(group) + 1;
        writer.freeze(step, groups, true)?;
        for section in &merged {
            if section.group != group {
                let message = format!("compaction of step {step:?} has strayed from its key group");
                return Err(Fault::bug(message));
            }
            writer.add(step, &packer.pack(section)?)?;
        }
        if writer.bytes() < PART_BYTES_TARGET {
            return Ok(writer);
        }
        self.finish(writer).await?;
        Ok(PartWriter::new(self.next))
    }

    /// Stores a part.
    async fn finish(&mut self, writer: PartWriter) -> Result<(), Fault> {
        let finished = writer.finish()?;
        let name = finished.report.part.name.clone();
        self.hold.add(name.clone());
        let put = || self.store.put(&name, finished.content.clone());
        retry(&self.store, put).await?;
        self.reports.push(finished.report);
        self.next.sequence += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
