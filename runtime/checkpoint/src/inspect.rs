//! What `thalweg checkpoint list | show | verify` tell, as plain data.

use std::collections::BTreeMap;

use serde::Serialize;
use thalweg_stream::{Epoch, Fault, Generation, Lineage};

use crate::error::Error;
use crate::heartbeat::{self, Beat};
use crate::log::{CommitRecord, History, Owner, Standing, read_history};
use crate::manifest::Manifest;
use crate::name::ObjectName;
use crate::outbox::Outbox;
use crate::restore::{no_such, read_manifest};
use crate::state::part;
use crate::store::Store;

/// A job and its checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobSummary {
    /// Where they are.
    pub location: String,
    /// The job.
    pub job: String,
    /// Whether it runs, as far as the log knows.
    pub standing: Standing,
    /// Who has claimed it last.
    pub owner: Option<Owner>,
    /// The last heartbeat. It may be old, or of a start before.
    pub heartbeat: Option<Beat>,
    /// Number of the last entry of the log.
    pub log_end: u64,
    /// The checkpoints that are kept, the newest last.
    pub checkpoints: Vec<CheckpointSummary>,
}

/// A checkpoint in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointSummary {
    /// Its epoch.
    pub epoch: Epoch,
    /// Number of its entry in the log.
    pub number: u64,
    /// Who made it.
    pub generation: Generation,
    /// The history it belongs to.
    pub lineage: Lineage,
    /// Whether a user asked for it.
    pub savepoint: bool,
    /// Whether the job goes on from it.
    pub current: bool,
    /// When, by the owner's clock, milliseconds.
    pub at_ms: i64,
    /// What it consists of, or what is wrong with its manifest.
    #[serde(flatten)]
    pub content: Content,
}

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// Its manifest reads.
    Whole {
        /// State objects.
        parts: usize,
        /// Bytes of them.
        state_bytes: u64,
        /// Publish units not confirmed as published.
        unpublished: usize,
    },
    /// Its manifest does not.
    Damaged {
        /// Why.
        damage: String,
    },
}

/// Lists the checkpoints of the job in `store`.
///
/// # Errors
/// Corrupt if the log is damaged; user if there is nothing; the store's.
pub async fn list(store: &Store) -> Result<JobSummary, Error> {
    let history = existing(store).await?;
    let mut checkpoints = Vec::with_capacity(history.commits.len());
    for commit in &history.commits {
        let content = match read_manifest(store, commit).await {
            Ok(manifest) => content(&manifest),
            Err(error @ (Error::Corrupt { .. } | Error::Missing { .. } | Error::Newer { .. })) => {
                Content::Damaged {
                    damage: error.to_string(),
                }
            }
            Err(error) => return Err(error),
        };
        checkpoints.push(summary(&history, commit, content));
    }
    let damaged =
        |checkpoint: &CheckpointSummary| matches!(checkpoint.content, Content::Damaged { .. });
    if checkpoints.iter().any(damaged) {
        let now = existing(store).await?;
        checkpoints.retain(|found| !damaged(found) || now.commit(found.number).is_some());
    }
    Ok(JobSummary {
        location: store.location().to_owned(),
        job: history.job,
        standing: history.standing,
        owner: history.owner,
        heartbeat: heartbeat::read(store).await?,
        log_end: history.end,
        checkpoints,
    })
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckpointDetail {
    /// As in the list.
    #[serde(flatten)]
    pub summary: CheckpointSummary,
    /// The state of each step.
    pub states: BTreeMap<String, StateDetail>,
    /// Its manifest.
    pub manifest: Manifest,
}

/// The state of a step in a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StateDetail {
    /// Parts that have some of it.
    pub parts: usize,
    /// Bytes (unpacked) of bases.
    pub base_bytes: u64,
    /// Bytes (unpacked) of deltas.
    pub delta_bytes: u64,
}

/// Shows the checkpoint of `epoch`, or the one from which the job goes on.
///
/// # Errors
/// [`Error::NoSuchEpoch`]; corrupt; the store's.
pub async fn show(store: &Store, epoch: Option<Epoch>) -> Result<CheckpointDetail, Error> {
    let mut history = existing(store).await?;
    let (commit, manifest) = loop {
        let commit = match epoch {
            Some(epoch) => history.commits.iter().find(|commit| commit.epoch == epoch),
            None => history.current(),
        };
        let commit = commit.ok_or_else(|| no_such(&history, epoch.unwrap_or_default()))?;
        match read_manifest(store, commit).await {
            Ok(manifest) => break (commit, manifest),
            Err(damage @ Error::Missing { .. }) => {
                let now = existing(store).await?;
                if now.commit(commit.number).is_some() {
                    return Err(damage);
                }
                history = now;
            }
            Err(error) => return Err(error),
        }
    };
    let states = (manifest.state.steps.iter())
        .map(|(step, links)| {
            let detail = StateDetail {
                parts: links.len(),
                base_bytes: links.iter().map(|link| link.base_bytes).sum(),
                delta_bytes: links.iter().map(|link| link.delta_bytes).sum(),
            };
            (step.clone(), detail)
        })
        .collect();
    Ok(CheckpointDetail {
        summary: summary(&history, commit, content(&manifest)),
        states,
        manifest,
    })
}

/// Makes of the damage that was met while `checkpoint` was read that its job has removed it meanwhile,
/// if it has.
pub async fn explain(store: &Store, checkpoint: &CheckpointSummary, damage: Fault) -> Fault {
    let epoch = checkpoint.epoch;
    match existing(store).await {
        Ok(now) if now.commit(checkpoint.number).is_none() => Error::Removed { epoch }.into(),
        Ok(_) | Err(_) => damage,
    }
}

/// What a verification has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Checkpoints looked at.
    pub checkpoints: usize,
    /// State objects read, each once.
    pub parts: usize,
    /// Staged objects read, each once.
    pub staged: usize,
    /// Bytes of both.
    pub bytes: u64,
    /// What is wrong.
    pub damage: Vec<Damage>,
}

/// Something wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The checkpoints that need it.
    pub epochs: Vec<Epoch>,
    /// The object.
    pub object: ObjectName,
    /// What is wrong.
    pub problem: String,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.damage.is_empty()
    }

    /// Takes back what was said of checkpoints that a running job has removed meanwhile.
    fn forget(&mut self, removed: &[Epoch]) {
        for damage in &mut self.damage {
            damage.epochs.retain(|epoch| !removed.contains(epoch));
        }
        self.damage.retain(|damage| !damage.epochs.is_empty());
    }

    fn found(&mut self, epoch: Epoch, object: &ObjectName, problem: String) {
        match self
            .damage
            .iter_mut()
            .find(|damage| damage.object == *object)
        {
            Some(damage) if damage.epochs.contains(&epoch) => {}
            Some(damage) => damage.epochs.push(epoch),
            None => self.damage.push(Damage {
                epochs: vec![epoch],
                object: object.clone(),
                problem,
            }),
        }
    }
}

/// Reads every byte of every kept checkpoint: manifest, state, staged output.
///
/// # Errors
/// Corrupt if the log is damaged, as it then cannot be known what is kept; the store's. Damage of
/// checkpoints is no error but what this is there to find.
pub async fn verify(store: &Store) -> Result<Verification, Error> {
    let history = existing(store).await?;
    let outbox = Outbox::new(store.clone());
    let mut seen: BTreeMap<ObjectName, Option<String>> = BTreeMap::new();
    let mut verification = Verification::default();
    for commit in &history.commits {
        verification.checkpoints += 1;
        let manifest = match damage(read_manifest(store, commit).await)? {
            Ok(manifest) => manifest,
            Err(problem) => {
                verification.found(commit.epoch, &commit.manifest.name, problem);
                continue;
            }
        };
        for record in &manifest.state.parts {
            if !seen.contains_key(&record.name) {
                let content = damage(store.get(&record.name).await)?;
                let checked = content.and_then(|content| {
                    let checked = part::check_whole(record, &content);
                    checked.map_err(|error| error.to_string())
                });
                seen.insert(record.name.clone(), checked.err());
                verification.parts += 1;
                verification.bytes += record.bytes;
            }
            if let Some(Some(problem)) = seen.get(&record.name) {
                verification.found(commit.epoch, &record.name, problem.clone());
            }
        }
        let staged = manifest.sinks.values().flat_map(|sink| sink.in_outbox());
        for object in staged {
            let name = ObjectName::outbox(&object.name);
            if !seen.contains_key(&name) {
                let checked = damage(outbox.read(object).await)?;
                seen.insert(name.clone(), checked.err());
                verification.staged += 1;
                verification.bytes += object.bytes;
            }
            if let Some(Some(problem)) = seen.get(&name) {
                verification.found(commit.epoch, &name, problem.clone());
            }
        }
    }
    if !verification.sound() {
        let now = existing(store).await?;
        let removed = |commit: &&CommitRecord| now.commit(commit.number).is_none();
        let removed = history.commits.iter().filter(removed);
        verification.forget(&removed.map(|commit| commit.epoch).collect::<Vec<_>>());
    }
    Ok(verification)
}

/// Tells damage, which is noted, from a store that does not answer.
fn damage<T>(read: Result<T, Error>) -> Result<Result<T, String>, Error> {
    match read {
        Ok(found) => Ok(Ok(found)),
        Err(error @ (Error::Corrupt { .. } | Error::Missing { .. } | Error::Newer { .. })) => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

async fn existing(store: &Store) -> Result<History, Error> {
    let history = read_history(store).await?;
    if history.standing == Standing::New {
        return Err(Error::NoStore {
            location: store.location().to_owned(),
        });
    }
    Ok(history)
}

fn content(manifest: &Manifest) -> Content {
    Content::Whole {
        parts: manifest.state.parts.len(),
        state_bytes: manifest.state.bytes(),
        unpublished: manifest.sinks.values().map(|sink| sink.units.len()).sum(),
    }
}

fn summary(history: &History, commit: &CommitRecord, content: Content) -> CheckpointSummary {
    CheckpointSummary {
        epoch: commit.epoch,
        number: commit.number,
        generation: commit.generation,
        lineage: commit.lineage.clone(),
        savepoint: commit.savepoint,
        current: history.position == Some(commit.number),
        at_ms: commit.at_ms,
        content,
    }
}

#[cfg(test)]
mod tests;
