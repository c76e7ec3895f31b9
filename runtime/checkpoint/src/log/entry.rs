//! The entries of the job log.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thalweg_stream::{Epoch, Generation, Lineage};

use super::history::History;
use crate::document::Format;
use crate::error::Error;
use crate::name::ObjectName;

const FORMAT: Format = Format {
    kind: "log-entry",
    version: 1,
};

/// Who writes to the log: unique to one attempt to run the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WriterId(pub String);

/// One entry of the job log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, which its object's name repeats.
    pub number: u64,
    /// Who wrote it…
    pub writer: WriterId,
    /// …and which of the writer's proposals it is: together they tell a writer whose reply was
    /// lost that the entry is its own.
    pub nonce: u64,
    /// The generation that wrote it, or, of a claim, that begins with it.
    pub generation: Generation,
    /// What it says.
    pub body: Body,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Body {
    /// A new generation owns the job; all older ones are fenced.
    Claim(Claim),
    /// A checkpoint exists.
    Commit(Commit),
    /// A checkpoint exists that a user asked for and retention never deletes.
    Savepoint(Commit),
    /// The owner has stopped cleanly.
    Stop,
    /// The job has come to the end of its input and all its output is published.
    Finished,
    /// All that the entries below say, so that they are not needed any more.
    Snapshot(Box<History>),
    /// The number is taken: what stood here is part of the snapshot at the number given.
    Fence {
        /// The number of the snapshot.
        snapshot: u64,
    },
}

/// The beginning of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The job, so that two jobs never share a store.
    pub job: String,
    /// The history that it continues or begins.
    pub lineage: Lineage,
    /// The log number of the commit it starts from; nothing for a start from nothing.
    pub base: Option<u64>,
    /// The host of the process.
    pub host: String,
    /// Its number there.
    pub pid: u32,
    /// When, by that host's clock, milliseconds; for people only.
    pub at_ms: i64,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Commit {
    /// The epoch at whose end it was taken.
    pub epoch: Epoch,
    /// Its manifest.
    pub manifest: ManifestRef,
    /// How many checkpoints are kept from now on, this one included, savepoints apart. It stands
    /// here so that which ones are kept follows from the log alone: nobody deletes, or starts
    /// from, anything that another reader of the log would judge differently.
    pub keep: u32,
    /// When, by the owner's clock, milliseconds; for people only.
    pub at_ms: i64,
}

/// A manifest and how to recognise it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ManifestRef {
    /// Its object.
    pub name: ObjectName,
    /// The object's length.
    pub bytes: u64,
    /// CRC-32 of the object.
    pub crc32: u32,
}

impl Body {
    /// The checkpoint that the entry makes exist, if it does.
    #[must_use]
    pub fn commit(&self) -> Option<&Commit> {
        match self {
            Self::Commit(commit) | Self::Savepoint(commit) => Some(commit),
            Self::Claim(_)
            | Self::Stop
            | Self::Finished
            | Self::Snapshot(_)
            | Self::Fence { .. } => None,
        }
    }
}

impl Entry {
    /// The object's name.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        ObjectName::log(self.number)
    }

    /// The object's content.
    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        FORMAT.encode(self)
    }

    /// Checks and reads the object at `number`.
    pub(crate) fn decode(number: u64, bytes: &[u8]) -> Result<Self, Error> {
        let name = ObjectName::log(number);
        let entry: Self = FORMAT.decode(&name, bytes)?;
        if entry.number != number {
            let problem = format!("it is entry {}", entry.number);
            return Err(Error::corrupt(&name, problem));
        }
        Ok(entry)
    }
}
