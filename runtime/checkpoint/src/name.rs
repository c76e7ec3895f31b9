//! The names of a job's durable objects, in one place.
//!
//! ```text
//! log/<20 digits>                          entry of the job log
//! manifest/<epoch>-g<generation>.json      what a checkpoint consists of
//! state/<epoch>-g<generation>/w<worker>    one worker's state; `.1`, `.2` follow where it is cut
//! state/<epoch>-g<generation>/c<number>    the state of that epoch, compacted afterwards
//! outbox/<sink>/<lineage>/<epoch>-<worker>-<sequence>-g<generation>   staged output
//! heartbeat                                who runs the job now (advisory)
//! hint                                     where the log ends, about (advisory)
//! ```
//!
//! Every object that a checkpoint consists of names its generation, so that two generations never
//! write the same object.

use std::fmt;

use serde::{Deserialize, Serialize};
use thalweg_stream::{Epoch, Generation};

/// Prefix of the entries of the job log.
pub(crate) const LOG: &str = "log/";
/// Prefix of manifests.
pub(crate) const MANIFESTS: &str = "manifest/";
/// Prefix of state objects.
pub const STATE: &str = "state/";
/// Prefix of staged output.
pub(crate) const OUTBOX: &str = "outbox/";

/// What stands for a worker where the state was compacted: it follows all that workers have
/// written for the same epoch.
pub const COMPACTION: u32 = u32::MAX;

/// The name of an object in a job's store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectName(String);

impl ObjectName {
    /// Entry `number` of the job log.
    #[must_use]
    pub fn log(number: u64) -> Self {
        Self(format!("{LOG}{number:020}"))
    }
    /// The manifest of a checkpoint.
    #[must_use]
    pub fn manifest(epoch: Epoch, generation: Generation) -> Self {
        Self(format!("{MANIFESTS}{epoch}-g{generation}.json"))
    }
    /// A state object.
    #[must_use]
    pub fn part(part: PartId) -> Self {
        let PartId {
            epoch,
            generation,
            worker,
            sequence,
        } = part;
        if worker == COMPACTION {
            return Self(format!("{STATE}{epoch}-g{generation}/c{sequence}"));
        }
        match sequence {
            0 => Self(format!("{STATE}{epoch}-g{generation}/w{worker}")),
            _ => Self(format!("{STATE}{epoch}-g{generation}/w{worker}.{sequence}")),
        }
    }
    /// A staged object, by the name its sink knows it by.
    #[must_use]
    pub fn outbox(staged: &str) -> Self {
        Self(format!("{OUTBOX}{staged}"))
    }
    /// Who runs the job now.
    #[must_use]
    pub fn heartbeat() -> Self {
        Self("heartbeat".to_owned())
    }
    /// Where the log ends, about.
    #[must_use]
    pub fn hint() -> Self {
        Self("hint".to_owned())
    }
    /// A name that a listing gave.
    pub(crate) fn listed(name: impl Into<String>) -> Self {
        Self(name.into())
    }
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the name says the object is; nothing if it is none of ours.
    #[must_use]
    pub fn kind(&self) -> Option<ObjectKind> {
        let name = self.as_str();
        let kind = if let Some(number) = name.strip_prefix(LOG) {
            ObjectKind::Log(number.parse().ok()?)
        } else if let Some(rest) = name.strip_prefix(MANIFESTS) {
            let (epoch, generation) = stamp(rest.strip_suffix(".json")?)?;
            ObjectKind::Manifest { epoch, generation }
        } else if let Some(rest) = name.strip_prefix(STATE) {
            let (folder, worker) = rest.split_once('/')?;
            let (epoch, generation) = stamp(folder)?;
            let (worker, sequence) = match worker.strip_prefix('c') {
                Some(sequence) => (COMPACTION, sequence),
                None => {
                    let worker = worker.strip_prefix('w')?;
                    let (worker, sequence) = worker.split_once('.').unwrap_or((worker, "0"));
                    (worker.parse().ok()?, sequence)
                }
            };
            ObjectKind::Part(PartId {
                epoch,
                generation,
                worker,
                sequence: sequence.parse().ok()?,
            })
        } else if let Some(rest) = name.strip_prefix(OUTBOX) {
            let (_sink, staged) = rest.rsplit_once('/')?;
            let (epoch, generation) = staged_stamp(staged)?;
            ObjectKind::Staged { epoch, generation }
        } else {
            return None;
        };
        // A name that does not read back as written is not ours.
        let canonical = match kind {
            ObjectKind::Log(number) => Self::log(number),
            ObjectKind::Manifest { epoch, generation } => Self::manifest(epoch, generation),
            ObjectKind::Part(part) => Self::part(part),
            ObjectKind::Staged { .. } => return Some(kind),
        };
        (canonical == *self).then_some(kind)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a name says of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// An entry of the log.
    Log(u64),
    /// A manifest.
    Manifest {
        /// Of the checkpoint of this epoch…
        epoch: Epoch,
        /// …made by this generation.
        generation: Generation,
    },
    /// A state object.
    Part(PartId),
    /// Staged output.
    Staged {
        /// Sealed in this epoch…
        epoch: Epoch,
        /// …by this generation.
        generation: Generation,
    },
}

/// What tells one state object from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartId {
    /// The epoch whose state it holds.
    pub epoch: Epoch,
    /// The worker that wrote it, or [`COMPACTION`].
    pub worker: u32,
    /// Its number among this writer's objects of this epoch, from 0.
    pub sequence: u32,
    /// The generation that wrote it.
    pub generation: Generation,
}

/// Reads `<epoch>-g<generation>`.
fn stamp(text: &str) -> Option<(Epoch, Generation)> {
    let (epoch, generation) = text.split_once("-g")?;
    Some((
        Epoch(epoch.parse().ok()?),
        Generation(generation.parse().ok()?),
    ))
}

/// Reads the epoch and generation of `<epoch>-<worker>-<sequence>-g<generation>`, the last part of
/// a staged object's name.
pub(crate) fn staged_stamp(text: &str) -> Option<(Epoch, Generation)> {
    let (rest, generation) = text.split_once("-g")?;
    let mut numbers = rest.split('-');
    let epoch = numbers.next()?.parse().ok()?;
    let _worker: u32 = numbers.next()?.parse().ok()?;
    let _sequence: u32 = numbers.next()?.parse().ok()?;
    numbers.next().is_none().then_some(())?;
    Some((Epoch(epoch), Generation(generation.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::{COMPACTION, ObjectKind, ObjectName, PartId};
    use thalweg_stream::{Epoch, Generation};

    #[test]
    fn names_read_back_and_strangers_are_left_alone() {
        let part = PartId {
            epoch: Epoch(7),
            generation: Generation(2),
            worker: 3,
            sequence: 0,
        };
        let cut = PartId {
            sequence: 1,
            ..part
        };
        let compacted = PartId {
            worker: COMPACTION,
            ..cut
        };
        assert_eq!(ObjectName::part(compacted).as_str(), "state/7-g2/c1");
        assert_eq!(ObjectName::part(part).as_str(), "state/7-g2/w3");
        assert_eq!(ObjectName::part(cut).as_str(), "state/7-g2/w3.1");
        assert_eq!(ObjectName::log(12).as_str(), "log/00000000000000000012");
        for (name, kind) in [
            (ObjectName::part(part), ObjectKind::Part(part)),
            (ObjectName::part(cut), ObjectKind::Part(cut)),
            (ObjectName::part(compacted), ObjectKind::Part(compacted)),
            (ObjectName::log(9), ObjectKind::Log(9)),
            (
                ObjectName::manifest(Epoch(4), Generation(1)),
                ObjectKind::Manifest {
                    epoch: Epoch(4),
                    generation: Generation(1),
                },
            ),
            (
                ObjectName::outbox("documents/4-0-2-g1"),
                ObjectKind::Staged {
                    epoch: Epoch(4),
                    generation: Generation(1),
                },
            ),
        ] {
            assert_eq!(name.kind(), Some(kind), "{name}");
        }
        for stranger in [
            "log/7",
            "log/x",
            "manifest/4.json",
            "manifest/04-g1.json",
            "state/4-g1/x",
            "state/4-g1/c01",
            "state/4-g1/w4294967295",
            "outbox/a/b",
            "heartbeat",
            "notes.txt",
        ] {
            assert_eq!(ObjectName::listed(stranger).kind(), None, "{stranger}");
        }
    }
}
