//! The traits of sinks: output is staged with a checkpoint and published after its commit.
//!
//! A [`SinkWriter`] on every worker encodes rows into objects. The engine makes the objects
//! durable in a [`StageStore`] (the outbox in the checkpoint store unless the sink has one of its
//! own) and names them in the manifest. After the commit the sink's one [`Publisher`] makes them
//! visible, idempotently; after a crash it is handed what the manifest lists again.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::dead_letter::DeadLetter;
use crate::epoch::{Epoch, Generation, Lineage};
use crate::fault::Fault;
use crate::figure::Figures;
use crate::operator::Route;

/// What a sink can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkCapabilities {
    /// Whether publishing twice has the effect of publishing once.
    pub exactly_once: bool,
    /// Whether units must be published one after the other, in epoch order.
    pub ordered: bool,
    /// Whether it takes a stream of changes.
    pub changes: bool,
    /// How rows reach its writers.
    pub route: Route,
    /// How staged epochs are grouped before they are published.
    pub grouping: Option<Grouping>,
}

/// Groups the output of several checkpoints into one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouping {
    /// A unit is closed when its first epoch is this old, milliseconds…
    pub every_ms: u64,
    /// …or when it has this many bytes.
    pub bytes_max: u64,
}

/// What a sink is told about the job it works for.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// The job's name.
    pub job: Arc<str>,
    /// The sink's name.
    pub sink: Arc<str>,
    /// The lineage of this start. Visible names and tags carry that of their
    /// [`PublishUnit`], which may be an older one.
    pub lineage: Lineage,
    /// The generation: part of staged names and of stamps.
    pub generation: Generation,
    /// The job's clock.
    pub clock: Arc<dyn Clock>,
    /// What the publisher last reported as its [`Published::state`]; null at first.
    pub state: serde_json::Value,
}

/// Where results go.
#[async_trait]
pub trait Sink: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> SinkCapabilities;

    /// A writer for one worker.
    ///
    /// # Errors
    /// User, if the stream's schema does not fit.
    fn writer(&self, worker: usize, context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault>;

    /// The publisher, connected: the check that the sink can be reached.
    ///
    /// # Errors
    /// User, unavailable or unreachable, naming what could not be reached.
    async fn publisher(&self, context: SinkContext) -> Result<Box<dyn Publisher>, Fault>;

    /// A place of its own to stage in, instead of the outbox.
    fn stage_store(&self) -> Option<Arc<dyn StageStore>> {
        None
    }
}

/// Encodes rows on one worker.
pub trait SinkWriter: Send {
    /// Takes a batch; may hand finished objects to `out` before the seal, so that memory stays
    /// bounded.
    ///
    /// # Errors
    /// What ends the attempt. A row that cannot be encoded is handed to `out` as a dead letter.
    fn write(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault>;

    /// The epoch is to be staged: hands out the rest, and starts afresh.
    ///
    /// # Errors
    /// What ends the attempt.
    fn seal(&mut self, epoch: Epoch, out: &mut Encoded) -> Result<(), Fault>;

    /// Bytes buffered now; flow control counts them.
    fn buffered_bytes(&self) -> usize;
}

/// What a writer hands out.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Objects to make durable, in order.
    pub objects: Vec<EncodedObject>,
    /// Rows the sink cannot take, of class sink-reject.
    pub dead: Vec<DeadLetter>,
}

/// An object to be staged. Not above 64 MiB.
#[derive(Clone, Debug)]
pub struct EncodedObject {
    /// Its content.
    pub bytes: Bytes,
    /// Rows of the stream that are in it (folded rows count as the one they became).
    pub rows: u64,
    /// What the publisher wants to know about it; stands in the manifest. No secret.
    pub note: serde_json::Value,
}

/// An object that is durable and named in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedObject {
    /// Its name in the stage store:
    /// `<sink>/<lineage>/<epoch>-<worker>-<sequence>-g<generation>`, with the first epoch that may
    /// have sealed it.
    pub name: String,
    /// The epoch it was sealed in.
    pub epoch: Epoch,
    /// The worker that wrote it.
    pub worker: u32,
    /// Its number among this worker's objects of this epoch, from 0.
    pub sequence: u32,
    /// Its length.
    pub bytes: u64,
    /// CRC-32 of its content.
    pub crc32: u32,
    /// Rows in it.
    pub rows: u64,
    /// What the writer noted.
    pub note: serde_json::Value,
}

/// What is published in one go: the output of one or, with [`Grouping`], several checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishUnit {
    /// The lineage under whose names it is published: the one that was current when its first
    /// object was staged. A start from an older checkpoint has a lineage of its own, and hands the
    /// publisher the units of the one before under their old names.
    pub lineage: Lineage,
    /// The epoch of its last checkpoint; with the lineage a stable, unique name.
    pub epoch: Epoch,
    /// Its objects by (epoch, worker, sequence).
    pub objects: Vec<StagedObject>,
}

/// Something that may become visible outside, as the type shows.
#[derive(Clone, Debug)]
pub struct Released<T>(T);

impl<T> Released<T> {
    /// Released because a `Commit` in the job log (its number given) names it.
    pub fn by_commit(value: T, _log_number: u64) -> Self {
        Self(value)
    }
    /// Released without a commit, because the sink delivers at least once.
    pub fn at_least_once(value: T) -> Self {
        Self(value)
    }
    /// What was released.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// Makes staged output visible. One per sink and job.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes a unit: after `Ok` every row of it is visible, or rejected for good.
    ///
    /// Ordered sinks are given one unit at a time; others may be given several at once.
    ///
    /// # Crash safety
    /// Idempotent: a unit is given again after a crash, by this generation or a later one, until
    /// its confirmation stands in a manifest.
    ///
    /// # Errors
    /// Transient: the same unit is given again after a while. Anything else ends the attempt.
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        stage: &dyn StageStore,
    ) -> Result<Published, Fault>;

    /// Tells what metrics show of the service it speaks to. Asked about once a second.
    fn figures(&self, _figures: &mut dyn Figures) {}
}

/// What publishing a unit gave.
#[derive(Debug, Default)]
pub struct Published {
    /// Rows the service refused for good, with ids stable over repetitions.
    pub rejected: Vec<RejectedRow>,
    /// What the publisher wants to know at the next start; stands in the next manifest.
    pub state: serde_json::Value,
}

/// A row that a service refused for good.
#[derive(Debug)]
pub struct RejectedRow {
    /// Its place in the unit, stable over repetitions: `<epoch>-<worker>-<sequence>-<row>`.
    pub id: String,
    /// The dead letter, of class sink-reject.
    pub letter: DeadLetter,
}

/// A durable place for staged objects.
#[async_trait]
pub trait StageStore: Send + Sync {
    /// Writes an object; durable when it returns. Writing the same name again replaces it.
    ///
    /// # Errors
    /// Transient or unavailable.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault>;
    /// Reads an object and checks its length and checksum.
    ///
    /// # Errors
    /// Corrupt if it is missing or not what was staged.
    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault>;
    /// Deletes an object; fine if it is gone.
    ///
    /// # Errors
    /// Transient or unavailable.
    async fn delete(&self, name: &str) -> Result<(), Fault>;
    /// The names of all objects there whose names start with `prefix`.
    ///
    /// # Errors
    /// Transient or unavailable.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault>;
}
