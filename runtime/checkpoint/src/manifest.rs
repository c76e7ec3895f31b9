//! The manifest: everything a checkpoint consists of, by name, length and checksum.
//!
//! It is written last and names what is durable already; the `Commit` in the job log that names
//! *it* makes the checkpoint exist. It stands alone: a job goes on from a manifest and what it
//! names, whatever became of other checkpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thalweg_stream::source::SplitSpec;
use thalweg_stream::{Epoch, EpochKind, Fault, Generation, Ledger, Lineage, Progress, SplitId};

use crate::document::Format;
use crate::error::Error;
use crate::log::{CommitRecord, ManifestRef};
use crate::name::ObjectName;
use crate::publish::{SinkRecord, StagePlace};
use crate::state::StateChains;

const FORMAT: Format = Format {
    kind: "manifest",
    version: 1,
};

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The job.
    pub job: String,
    /// The definition it was made by.
    pub definition: DefinitionRecord,
    /// The history it belongs to.
    pub lineage: Lineage,
    /// The generation that made it.
    pub generation: Generation,
    /// The epoch at whose end it was taken.
    pub epoch: Epoch,
    /// Checkpoint, savepoint or final.
    pub kind: EpochKind,
    /// When, by the owner's clock, milliseconds; for people only.
    pub created_at_ms: i64,
    /// How many workers the job had.
    pub workers: u32,
    /// The sources, by name.
    pub sources: BTreeMap<String, SourceRecord>,
    /// The *cut list*: where each epoch since the previous commit ended, this one last. With it
    /// an independent model can cut the input as the job did.
    pub cuts: Vec<Cut>,
    /// The steps, by id.
    pub steps: BTreeMap<String, StepRecord>,
    /// Which parts make up the state of the steps.
    pub state: StateChains,
    /// The sinks, by name, dead letters included.
    pub sinks: BTreeMap<String, SinkRecord>,
    /// What became of the records of each decoder, and of the rows of each step (by id) and
    /// sink.
    pub ledgers: BTreeMap<String, Ledger>,
    /// Other counters that go on where they stood, by name.
    pub counters: BTreeMap<String, u64>,
}

/// The definition a checkpoint was made by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionRecord {
    /// A hash of what the definition says.
    pub fingerprint: String,
    /// The version of the job, as users see it.
    pub version: String,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// How far it has come: its watermark never goes back, also not by a restart.
    pub progress: Progress,
    /// Its splits in the order in which it listed them; the list itself is part of the checkpoint.
    pub splits: Vec<SplitRecord>,
}

/// A split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// Its number in the job.
    pub id: SplitId,
    /// How its source describes it.
    #[serde(flatten)]
    pub spec: SplitSpec,
    /// The offset of the first record of the next epoch; nothing if none has been read and the
    /// source decides where to begin.
    pub offset: Option<u64>,
    /// Whether all of it has been read and no more will come.
    pub finished: bool,
    /// The newest event time that was decoded from it.
    pub newest_event_time: Option<i64>,
    /// Whether it held the watermark back no longer because nothing came.
    pub idle: bool,
}

/// The end of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The epoch.
    pub epoch: Epoch,
    /// The offset of each split that has moved during it.
    pub offsets: Vec<(SplitId, u64)>,
    /// Each split that has become idle by its end, or is so no longer. Whoever goes on from a
    /// checkpoint begins with none that is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<(SplitId, bool)>,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The shape of its state; nothing if it has none.
    pub shape: Option<Arc<str>>,
    /// How far its output has come, if the engine follows it.
    pub progress: Option<Progress>,
}

impl Manifest {
    /// An empty manifest of a checkpoint that `generation` takes at the end of `epoch`.
    #[must_use]
    pub fn new(
        job: impl Into<String>,
        lineage: Lineage,
        generation: Generation,
        epoch: Epoch,
        kind: EpochKind,
    ) -> Self {
        Self {
            job: job.into(),
            definition: DefinitionRecord::default(),
            lineage,
            generation,
            epoch,
            kind,
            created_at_ms: 0,
            workers: 0,
            sources: BTreeMap::new(),
            cuts: Vec::new(),
            steps: BTreeMap::new(),
            state: StateChains::default(),
            sinks: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    /// Its object.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        ObjectName::manifest(self.epoch, self.generation)
    }

    /// Checks what must hold of every manifest: rows are conserved, cuts and publish units are in
    /// order, splits are told apart.
    ///
    /// # Errors
    /// A bug.
    pub fn check(&self) -> Result<(), Fault> {
        for (name, ledger) in &self.ledgers {
            ledger.check(name)?;
        }
        let bug = |what: String| {
            Err(Fault::bug(format!(
                "manifest of epoch {}: {what}",
                self.epoch
            )))
        };
        if !self.kind.seals() {
            return bug("an ordinary epoch has none".to_owned());
        }
        if !self.cuts.is_sorted_by(|one, two| one.epoch < two.epoch) {
            return bug("its cuts are out of order".to_owned());
        }
        if self.cuts.last().is_some_and(|cut| cut.epoch != self.epoch) {
            return bug("its last cut is of another epoch".to_owned());
        }
        let splits = self.sources.values().flat_map(|source| &source.splits);
        let mut ids: Vec<_> = splits.map(|split| split.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return bug("two splits have one number".to_owned());
        }
        for (name, sink) in &self.sinks {
            sink.check(self.epoch)
                .or_else(|what| bug(format!("sink {name:?}: {what}")))?;
        }
        Ok(())
    }

    /// The objects of the store that it names, itself included.
    #[must_use]
    pub fn reaches(&self) -> Vec<ObjectName> {
        let parts = self.state.parts.iter().map(|part| part.name.clone());
        let staged = (self.sinks.values())
            .flat_map(SinkRecord::in_outbox)
            .map(|object| ObjectName::outbox(&object.name));
        std::iter::once(self.name())
            .chain(parts)
            .chain(staged)
            .collect()
    }

    /// The staged objects that it names and that lie in places of the sinks' own.
    #[must_use]
    pub(crate) fn reaches_own_stages(&self) -> Vec<String> {
        let own = (self.sinks.values()).filter(|sink| sink.stage == StagePlace::Own);
        own.flat_map(|sink| &sink.units)
            .flat_map(|unit| &unit.unit.objects)
            .map(|object| object.name.clone())
            .collect()
    }

    /// The object's content, and how the log is to name it.
    pub(crate) fn encode(&self) -> Result<(ManifestRef, Bytes), Error> {
        let bytes = FORMAT.encode(self)?;
        let reference = ManifestRef {
            name: self.name(),
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(&bytes),
        };
        Ok((reference, bytes))
    }

    /// Checks and reads the manifest that a commit names.
    pub(crate) fn decode(commit: &CommitRecord, bytes: &[u8]) -> Result<Self, Error> {
        let reference = &commit.manifest;
        let name = &reference.name;
        let manifest: Self = FORMAT.decode(name, bytes)?;
        if bytes.len() as u64 != reference.bytes || crc32fast::hash(bytes) != reference.crc32 {
            return Err(Error::corrupt(name, "it is not the one that was committed"));
        }
        if (manifest.epoch, manifest.generation) != (commit.epoch, commit.generation) {
            return Err(Error::corrupt(name, "it is of another checkpoint"));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests;
