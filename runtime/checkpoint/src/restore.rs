//! Which checkpoint a job starts from: one whose manifest and state verify, or none.

use thalweg_stream::Epoch;

use crate::error::Error;
use crate::log::{CommitRecord, History, retry};
use crate::manifest::Manifest;
use crate::state::part;
use crate::store::Store;

/// Where a user wants a job to start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestoreFrom {
    /// Where it stands.
    #[default]
    Latest,
    /// The checkpoint of this epoch.
    Epoch(Epoch),
    /// Nothing: from the beginning.
    Nothing,
}

/// A checkpoint that verifies.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What the log says of it.
    pub commit: CommitRecord,
    /// What it consists of.
    pub manifest: Manifest,
}

/// The checkpoint to start from; nothing if there is none yet, or none is wanted.
///
/// Manifest and state objects are read whole and verified. If the wanted checkpoint is damaged,
/// `allow_older` takes the newest one before it that is not; without it the damage is an error that
/// names the object. A damaged checkpoint never turns into a start from nothing.
///
/// # Errors
/// [`Error::Damaged`], which says how to go on, [`Error::NoSuchEpoch`], or the store's.
pub async fn latest_restorable(
    store: &Store,
    history: &History,
    from: RestoreFrom,
    allow_older: bool,
) -> Result<Option<Checkpoint>, Error> {
    let wanted = match from {
        RestoreFrom::Nothing => return Ok(None),
        RestoreFrom::Latest => match history.current() {
            Some(commit) => commit,
            None => return Ok(None),
        },
        RestoreFrom::Epoch(epoch) => {
            let found = history.commits.iter().find(|commit| commit.epoch == epoch);
            found.ok_or_else(|| no_such(history, epoch))?
        }
    };
    let damage = match verified(store, wanted).await {
        Ok(checkpoint) => return Ok(Some(checkpoint)),
        Err(damage @ (Error::Corrupt { .. } | Error::Missing { .. })) => damage,
        Err(error) => return Err(error),
    };
    for commit in older(history, wanted) {
        match verified(store, commit).await {
            Ok(checkpoint) if allow_older => {
                tracing::warn!(epoch = wanted.epoch.0, %damage, older = commit.epoch.0, "a checkpoint is damaged, an older one is used");
                return Ok(Some(checkpoint));
            }
            Ok(_) => {
                let way_out = format!(
                    "--allow-older goes on from the one of epoch {}: what came after it is \
                     processed again, as another history",
                    commit.epoch
                );
                return Err(damaged(wanted, damage, way_out));
            }
            Err(Error::Corrupt { .. } | Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let way_out = "there is no older one that is whole, --from none starts anew".to_owned();
    Err(damaged(wanted, damage, way_out))
}

/// The checkpoints before `wanted`, the newest first.
fn older<'a>(
    history: &'a History,
    wanted: &CommitRecord,
) -> impl Iterator<Item = &'a CommitRecord> + use<'a> {
    let number = wanted.number;
    (history.commits.iter().rev()).filter(move |commit| commit.number < number)
}

fn damaged(wanted: &CommitRecord, damage: Error, way_out: String) -> Error {
    Error::Damaged {
        epoch: wanted.epoch,
        damage: Box::new(damage),
        way_out,
    }
}

/// Reads and verifies a checkpoint: manifest, and every byte of its state.
async fn verified(store: &Store, commit: &CommitRecord) -> Result<Checkpoint, Error> {
    let manifest = read_manifest(store, commit).await?;
    for record in &manifest.state.parts {
        let content = retry(store, || store.get(&record.name)).await?;
        part::check_whole(record, &content)?;
    }
    Ok(Checkpoint {
        commit: commit.clone(),
        manifest,
    })
}

/// Reads and checks the manifest that a commit names.
///
/// # Errors
/// Corrupt, or the store's.
pub(crate) async fn read_manifest(store: &Store, commit: &CommitRecord) -> Result<Manifest, Error> {
    let bytes = retry(store, || store.get(&commit.manifest.name)).await?;
    Manifest::decode(commit, &bytes)
}

pub(crate) fn no_such(history: &History, epoch: Epoch) -> Error {
    let kept: Vec<_> = (history.commits.iter())
        .map(|commit| commit.epoch.to_string())
        .collect();
    Error::NoSuchEpoch {
        epoch,
        kept: match kept.is_empty() {
            true => "none".to_owned(),
            false => kept.join(", "),
        },
    }
}
