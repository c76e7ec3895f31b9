//! A checkpoint in preparation: from what workers hand out to the commit, or to its failure.
//!
//! A checkpoint that cannot be made durable fails, and the job goes on: what it had frozen is given
//! back to the state, its staged output and its cuts go into the next one, and whatever it has
//! written is deleted once a later one is committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use futures::future::BoxFuture;
use thalweg_stream::planted::planted;
use thalweg_stream::sink::{EncodedObject, PublishUnit, Released, StageStore, StagedObject};
use thalweg_stream::{Class, Epoch, EpochKind, Fault};
use tokio::task::JoinHandle;

use super::Coordinator;
use crate::assembly::Whole;
use crate::conductor::Ending;
use crate::failpoint;
use crate::graph::Delivery;
use crate::journal::{Committed, Draft, Parts};
use crate::shared::Shared;
use crate::stage::stage;

/// An object on its way into a stage store.
pub(super) struct Upload {
    node: usize,
    object: StagedObject,
    /// Gives the content back if it could not be written: what is durable needs no memory.
    task: JoinHandle<Result<(), (Fault, bytes::Bytes)>>,
}

/// The first half of a checkpoint: everything is durable but the manifest.
pub(super) struct Durable {
    whole: Whole,
    staged: Vec<(usize, StagedObject)>,
    parts: Parts,
}

/// What is left of a checkpoint that could not be made durable.
pub(super) struct Undone {
    whole: Whole,
    /// Output that is staged all the same.
    staged: Vec<(usize, StagedObject)>,
    /// Output that is not.
    missing: Vec<(usize, StagedObject, bytes::Bytes)>,
    fault: Fault,
}

/// How far the checkpoint in preparation has come.
pub(super) enum Preparing {
    No,
    /// Announced; waiting for the workers.
    Sealing,
    /// Waiting for uploads.
    Uploading(BoxFuture<'static, Result<Uploaded, Fault>>),
    /// Waiting for an at-least-once sink to flush.
    Flushing(Box<Durable>),
    /// Writing the manifest and the log.
    Committing(
        BoxFuture<'static, Result<Committed, Fault>>,
        Option<Box<Whole>>,
    ),
}

/// How the uploads of a checkpoint have ended.
pub(super) enum Uploaded {
    Durable(Box<Durable>),
    Undone(Box<Undone>),
}

/// A step that the checkpoint in preparation has taken.
pub(super) enum Prepared {
    Uploaded(Uploaded),
    Committed(Committed),
    /// The outcome of the commit is not known. A later one finds it out first.
    Uncommitted(Fault),
}

/// Resolves when the checkpoint in preparation has taken its next step.
pub(super) async fn prepared(preparing: &mut Preparing) -> Result<Prepared, Fault> {
    match preparing {
        Preparing::No | Preparing::Sealing | Preparing::Flushing(_) => std::future::pending().await,
        Preparing::Uploading(uploading) => uploading.await.map(Prepared::Uploaded),
        Preparing::Committing(committing, _) => match committing.await {
            Ok(committed) => Ok(Prepared::Committed(committed)),
            Err(fault) if is_transient(&fault) => Ok(Prepared::Uncommitted(fault)),
            Err(fault) => Err(fault),
        },
    }
}

fn is_transient(fault: &Fault) -> bool {
    matches!(fault.class, Class::Transient { .. })
}

impl Coordinator {
    pub(super) fn on_staged(
        &mut self,
        worker: usize,
        node: usize,
        after: Epoch,
        object: EncodedObject,
    ) -> Result<(), Fault> {
        let (generation, lineage) = (self.journal.generation(), self.journal.lineage().clone());
        let lane = self
            .lanes
            .get_mut(&node)
            .ok_or_else(|| Fault::bug("output of no sink"))?;
        let sequence = lane.sequence.entry((worker, after)).or_default();
        // Named by the first epoch whose checkpoint may list it: retention deletes what no manifest
        // reaches up to the newest commit, and this one's may still be on its way.
        let epoch = after.next();
        let name = format!(
            "{}/{lineage}/{:010}-{worker}-{sequence}-g{generation}",
            lane.name, epoch.0
        );
        let staged = StagedObject {
            name,
            epoch,
            worker: u32::try_from(worker).unwrap_or(u32::MAX),
            sequence: *sequence,
            bytes: object.bytes.len() as u64,
            crc32: crc32fast::hash(&object.bytes),
            rows: object.rows,
            note: object.note,
        };
        *sequence += 1;
        if lane.delivery == Delivery::AtLeastOnce {
            // It counts as queued until it is visible: nothing else would stop the sources.
            let number = lane.memory.keep(&staged.name, object.bytes);
            lane.flushing.insert(number, (after, staged.rows));
            let unit = PublishUnit {
                lineage,
                epoch: Epoch(number),
                objects: vec![staged],
            };
            lane.released
                .insert(unit.epoch, self.shared.clock.elapsed());
            drop(lane.units.send(Released::at_least_once(unit)));
            return Ok(());
        }
        self.start_upload(node, staged, object.bytes)
    }

    fn start_upload(
        &mut self,
        node: usize,
        object: StagedObject,
        bytes: bytes::Bytes,
    ) -> Result<(), Fault> {
        let lane = (self.lanes.get(&node)).ok_or_else(|| Fault::bug("output of no sink"))?;
        let (outbox, shared) = (Arc::clone(&lane.outbox), Arc::clone(&self.shared));
        let task = tokio::spawn(put(outbox, shared, object.name.clone(), bytes));
        self.uploads.push(Upload { node, object, task });
        Ok(())
    }

    /// Moves the checkpoint in preparation on, if what it waited for is there.
    pub(super) fn advance(&mut self) -> Result<(), Fault> {
        if matches!(self.preparing, Preparing::Sealing)
            && let Some(mut whole) = self.assembly.take()?
        {
            self.check_ledgers(&whole)?;
            let epoch = whole.info.epoch;
            let (mut now, later): (Vec<Upload>, Vec<Upload>) = self
                .uploads
                .drain(..)
                .partition(|upload| upload.object.epoch <= epoch);
            self.uploads = later;
            // What a failed checkpoint has left over keeps the epoch it was sealed in: order is by
            // epoch, worker and sequence.
            for upload in &mut now {
                if upload.object.epoch > self.sealed {
                    upload.object.epoch = epoch;
                }
            }
            self.sealed = epoch;
            let carried = std::mem::take(&mut self.carried);
            let attempts = self.shared.limits.upload_attempts;
            let sealed: usize = (whole.sections.values().flatten())
                .map(|(_, section)| section.frame.len())
                .sum();
            let parts = self.journal.write_parts(&mut whole, attempts);
            let shared = Arc::clone(&self.shared);
            let parts = async move {
                let parts = parts.await;
                // If they could not be written, the state hands them out again.
                shared.queued_bytes.fetch_sub(sealed, Ordering::Relaxed);
                parts
            }
            .boxed();
            self.preparing = Preparing::Uploading(upload(whole, carried, now, parts).boxed());
        }
        if let Preparing::Flushing(durable) = &self.preparing {
            let epoch = durable.whole.info.epoch;
            let flushed =
                |lane: &super::Lane| lane.flushing.values().all(|(after, _)| *after >= epoch);
            if self.lanes.values().all(flushed)
                && let Preparing::Flushing(durable) =
                    std::mem::replace(&mut self.preparing, Preparing::Sealing)
            {
                self.commit(*durable);
            }
        }
        Ok(())
    }

    pub(super) fn on_prepared(&mut self, step: Prepared) -> Result<(), Fault> {
        match step {
            Prepared::Uploaded(Uploaded::Durable(durable)) => {
                self.preparing = Preparing::Flushing(durable);
                Ok(())
            }
            Prepared::Uploaded(Uploaded::Undone(undone)) => {
                let Undone {
                    whole,
                    staged,
                    missing,
                    fault,
                } = *undone;
                self.carried = staged;
                self.failed(whole, fault)?;
                for (node, object, bytes) in missing {
                    self.start_upload(node, object, bytes)?;
                }
                Ok(())
            }
            Prepared::Committed(committed) => self.on_committed(committed),
            Prepared::Uncommitted(fault) => {
                // Its output stands in the sinks' records already, and so in the next manifest.
                let whole = self.committing()?;
                self.failed(whole, fault)
            }
        }
    }

    /// The checkpoint of which the commit has been asked for.
    fn committing(&mut self) -> Result<Whole, Fault> {
        match std::mem::replace(&mut self.preparing, Preparing::No) {
            Preparing::Committing(_, Some(whole)) => Ok(*whole),
            Preparing::Committing(_, None)
            | Preparing::No
            | Preparing::Sealing
            | Preparing::Uploading(_)
            | Preparing::Flushing(_) => Err(Fault::bug("a commit that nobody asked for")),
        }
    }

    /// A checkpoint did not come about: the next one takes over all that it was to hold.
    fn failed(&mut self, whole: Whole, fault: Fault) -> Result<(), Fault> {
        let (epoch, kind) = (whole.info.epoch, whole.info.kind);
        if kind == EpochKind::Final {
            // Nothing comes after it; the next start goes on from the checkpoint before.
            return Err(fault.within(format_args!("the last checkpoint, of epoch {epoch}")));
        }
        tracing::warn!(%epoch, error = %fault, "a checkpoint has failed; the next one takes it over");
        self.preparing = Preparing::No;
        self.savepoints.failed();
        self.assembly.put_back(whole.cuts);
        self.shared.checkpoint_failed(epoch);
        self.metrics.count("checkpoints_total", &["failed"], 1);
        self.board.update(|status| {
            status.checkpoints_failed += 1;
            status.last_error = Some(format!("checkpoint of epoch {epoch}: {fault}"));
        });
        Ok(())
    }

    /// Everything is durable but the manifest: write it, and the log.
    fn commit(&mut self, durable: Durable) {
        let Durable {
            whole,
            staged,
            parts,
        } = durable;
        let (epoch, kind) = (whole.info.epoch, whole.info.kind);
        let now_ms = self.shared.clock.now_ms();
        let last = kind == EpochKind::Final || self.ending != Ending::No;
        let mut by_sink: BTreeMap<usize, Vec<StagedObject>> = BTreeMap::new();
        for (node, object) in staged {
            by_sink.entry(node).or_default().push(object);
        }
        let mut sinks = BTreeMap::new();
        for (node, lane) in &mut self.lanes {
            let objects = by_sink.remove(node).unwrap_or_default();
            lane.unpublished.stage(epoch, now_ms, objects, last);
            let listing = lane.unpublished.listing(epoch);
            sinks.insert(lane.name.to_string(), listing);
            if planted("publish-before-commit") {
                for unit in lane.unpublished.release() {
                    drop(lane.units.send(Released::at_least_once(unit)));
                }
            }
        }
        let ledgers = self.ledgers(&whole);
        let draft = Draft {
            info: Arc::clone(&whole.info),
            cuts: whole.cuts.clone(),
            parts,
            sinks,
            ledgers,
        };
        let committing = self.journal.commit(draft, &self.shared);
        let graph = Arc::clone(&self.graph);
        let committing = async move {
            for (_, source) in graph.sources() {
                let confirmed = source.source.confirm().await;
                confirmed.map_err(|f| f.within(format_args!("source \"{}\"", source.name)))?;
            }
            committing.await
        };
        self.preparing = Preparing::Committing(committing.boxed(), Some(Box::new(whole)));
    }

    fn on_committed(&mut self, committed: Committed) -> Result<(), Fault> {
        failpoint::hit(&["commit", "after"]);
        let whole = self.committing()?;
        let epoch = whole.info.epoch;
        self.committed = epoch;
        if whole.info.kind == EpochKind::Savepoint {
            self.savepoints.committed(&self.journal.savepoint(epoch));
        }
        let now = self.shared.clock.elapsed();
        let mut confirmed = false;
        for lane in self.lanes.values_mut() {
            lane.sequence.retain(|(_, after), _| *after >= epoch);
            let listed = lane.unpublished.listed();
            for unit in lane.unpublished.committed(epoch) {
                lane.released.insert(unit.epoch, now);
                drop(lane.units.send(committed.number.release(unit)));
            }
            confirmed |= lane.unpublished.listed() < listed;
        }
        self.tell(&whole, committed.bytes);
        self.journal.committed(epoch, committed, &self.shared);
        self.heralds
            .tell(&whole.info, |split| self.journal.split(split));
        if confirmed {
            failpoint::hit(&["confirm", "after"]);
        }
        Ok(())
    }
}

/// Uploads one object; its bytes count as queued until it is durable. If that fails it gives the
/// content back.
async fn put(
    outbox: Arc<dyn StageStore>,
    shared: Arc<Shared>,
    name: String,
    bytes: bytes::Bytes,
) -> Result<(), (Fault, bytes::Bytes)> {
    let sink = name.split('/').next().unwrap_or_default();
    failpoint::hit(&["upload", sink, "before"]);
    let (length, attempts) = (bytes.len(), shared.limits.upload_attempts);
    if let Err(fault) = stage(&*outbox, &*shared.clock, &name, bytes.clone(), attempts).await {
        return Err((fault, bytes));
    }
    shared.queued_bytes.fetch_sub(length, Ordering::Relaxed);
    failpoint::hit(&["upload", sink, "after"]);
    Ok(())
}

/// Waits until everything of a checkpoint is durable, or has failed for now.
async fn upload(
    whole: Whole,
    mut staged: Vec<(usize, StagedObject)>,
    uploads: Vec<Upload>,
    parts: BoxFuture<'static, Result<Parts, Fault>>,
) -> Result<Uploaded, Fault> {
    let (mut missing, mut failed) = (Vec::new(), None);
    for upload in uploads {
        if planted("acknowledge-before-staged") {
            staged.push((upload.node, upload.object));
            continue;
        }
        let ended = upload.task.await;
        match ended.map_err(|error| Fault::bug(format!("an upload ended: {error}")))? {
            Ok(()) => staged.push((upload.node, upload.object)),
            Err((fault, bytes)) if is_transient(&fault) => {
                missing.push((upload.node, upload.object, bytes));
                failed = Some(fault);
            }
            Err((fault, _)) => return Err(fault),
        }
    }
    let parts = match parts.await {
        Err(fault) if !is_transient(&fault) => return Err(fault),
        parts => parts,
    };
    Ok(match (failed, parts) {
        (None, Ok(parts)) => Uploaded::Durable(Box::new(Durable {
            whole,
            staged,
            parts,
        })),
        (Some(fault), _) | (None, Err(fault)) => Uploaded::Undone(Box::new(Undone {
            whole,
            staged,
            missing,
            fault,
        })),
    })
}
