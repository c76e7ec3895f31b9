//! What the log says: its entries folded, one after the other, into the state of the job.
//!
//! Folding is also the check that the entries are a history at all: an entry that the protocol
//! does not allow at its place is a [`Violation`], never skipped.

use serde::{Deserialize, Serialize};
use thalweg_stream::planted::planted;
use thalweg_stream::{Epoch, Generation, Lineage};

use super::entry::{Body, Claim, Commit, Entry, ManifestRef, WriterId};

/// The state of a job as the log gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct History {
    /// Number of the last entry.
    pub end: u64,
    /// Number of the newest snapshot; 0 if there is none.
    pub snapshot: u64,
    /// The job; empty before the first claim.
    pub job: String,
    /// Who owns it; nobody before the first claim.
    pub owner: Option<Owner>,
    /// The checkpoints that are kept, in the order of the log.
    pub commits: Vec<CommitRecord>,
    /// The commit from which the job goes on (its log number): the newest, unless a user has
    /// chosen another or none since.
    pub position: Option<u64>,
    /// The greatest epoch that was ever committed. The next one is greater, whatever the start.
    pub epoch_max: Epoch,
    /// Whether it runs.
    pub standing: Standing,
}

/// The newest generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Its number.
    pub generation: Generation,
    /// Who writes in its name.
    pub writer: WriterId,
    /// The history that it continues.
    pub lineage: Lineage,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
}

/// A checkpoint that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommitRecord {
    /// Number of its entry.
    pub number: u64,
    /// The epoch at whose end it was taken.
    pub epoch: Epoch,
    /// The generation that took it.
    pub generation: Generation,
    /// The history it belongs to.
    pub lineage: Lineage,
    /// Whether a user asked for it.
    pub savepoint: bool,
    /// Its manifest.
    pub manifest: ManifestRef,
    /// When, by the owner's clock, milliseconds.
    pub at_ms: i64,
}

/// Whether a job runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Nobody has ever claimed it.
    #[default]
    New,
    /// Its owner runs it, or has died.
    Claimed,
    /// Its owner has stopped.
    Stopped,
    /// It has finished.
    Finished,
}

/// An entry that the protocol does not allow at its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("log entry {number} {problem}")]
pub struct Violation {
    /// The entry.
    pub number: u64,
    /// What is wrong with it.
    pub problem: String,
}

impl History {
    /// The newest generation; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> Generation {
        (self.owner.as_ref()).map_or(Generation(0), |owner| owner.generation)
    }

    /// Who runs the job, or has died: its owner that has said nothing of an end.
    pub(crate) fn running(&self) -> Option<&Owner> {
        let claimed = self.standing == Standing::Claimed;
        self.owner.as_ref().filter(|_| claimed)
    }

    /// The kept checkpoint whose entry has this number.
    #[must_use]
    pub fn commit(&self, number: u64) -> Option<&CommitRecord> {
        self.commits.iter().find(|commit| commit.number == number)
    }

    /// The checkpoint from which the job goes on.
    #[must_use]
    pub fn current(&self) -> Option<&CommitRecord> {
        self.commit(self.position?)
    }

    /// The lineage of a start from `base`: the old one if nothing is skipped and nothing repeated
    /// that anybody may have seen, else `fresh`.
    #[must_use]
    pub(crate) fn lineage_from(&self, base: Option<u64>, fresh: &Lineage) -> Lineage {
        match &self.owner {
            Some(owner) if base == self.position || planted("keep-lineage") => {
                owner.lineage.clone()
            }
            Some(_) | None => fresh.clone(),
        }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// The entry is not allowed here; the history is as before.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Violation> {
        let refuse = |problem: String| {
            Err(Violation {
                number: entry.number,
                problem,
            })
        };
        if entry.number != self.end + 1 {
            return refuse(format!("does not follow entry {}", self.end));
        }
        if let Body::Claim(claim) = &entry.body {
            if entry.generation <= self.generation() {
                return refuse(format!(
                    "claims generation {} after generation {}",
                    entry.generation,
                    self.generation()
                ));
            }
            if !self.job.is_empty() && claim.job != self.job {
                return refuse(format!("claims job {:?}, not {:?}", claim.job, self.job));
            }
            if let Some(base) = claim.base.filter(|&base| self.commit(base).is_none()) {
                return refuse(format!("starts from entry {base}, no checkpoint kept"));
            }
            self.claim(entry, claim);
        } else {
            self.check_owner(entry)?;
            match &entry.body {
                Body::Commit(commit) | Body::Savepoint(commit) => {
                    if commit.epoch <= self.epoch_max {
                        return refuse(format!(
                            "commits epoch {} after epoch {}",
                            commit.epoch, self.epoch_max
                        ));
                    }
                    self.add(entry, commit);
                }
                Body::Stop => self.standing = Standing::Stopped,
                Body::Finished => self.standing = Standing::Finished,
                Body::Snapshot(history) if **history == *self => self.snapshot = entry.number,
                Body::Snapshot(_) => return refuse("is no snapshot of the entries below".into()),
                Body::Fence { .. } => return refuse("is a fence where the log goes on".into()),
                Body::Claim(_) => {}
            }
        }
        self.end = entry.number;
        Ok(())
    }

    /// The history of a log whose snapshot is `entry`.
    ///
    /// # Errors
    /// The snapshot contradicts itself.
    pub(crate) fn from_snapshot(history: &Self, entry: &Entry) -> Result<Self, Violation> {
        let mut from = history.clone();
        from.apply(entry)?;
        Ok(from)
    }

    fn check_owner(&self, entry: &Entry) -> Result<(), Violation> {
        let problem = match &self.owner {
            None => "comes before any claim".to_owned(),
            Some(owner) if owner.writer != entry.writer || owner.generation != entry.generation => {
                format!(
                    "is of generation {}, and generation {} owns the job",
                    entry.generation, owner.generation
                )
            }
            Some(_) if self.standing != Standing::Claimed => {
                "comes after its generation had ended".to_owned()
            }
            Some(_) => return Ok(()),
        };
        Err(Violation {
            number: entry.number,
            problem,
        })
    }

    fn claim(&mut self, entry: &Entry, claim: &Claim) {
        self.job.clone_from(&claim.job);
        self.position = claim.base;
        self.standing = Standing::Claimed;
        self.owner = Some(Owner {
            generation: entry.generation,
            writer: entry.writer.clone(),
            lineage: claim.lineage.clone(),
            host: claim.host.clone(),
            pid: claim.pid,
        });
    }

    fn add(&mut self, entry: &Entry, commit: &Commit) {
        let savepoint = matches!(entry.body, Body::Savepoint(_));
        let lineage = (self.owner.as_ref()).map(|owner| owner.lineage.clone());
        self.commits.push(CommitRecord {
            number: entry.number,
            epoch: commit.epoch,
            generation: entry.generation,
            lineage: lineage.unwrap_or_else(|| Lineage(String::new())),
            savepoint,
            manifest: commit.manifest.clone(),
            at_ms: commit.at_ms,
        });
        self.position = Some(entry.number);
        self.epoch_max = commit.epoch;
        // Savepoints stay; of the others the newest do. Never fewer than the one just made.
        let keep = commit.keep.max(1) as usize;
        let ordinary = self.commits.iter().filter(|c| !c.savepoint).count();
        let mut surplus = ordinary.saturating_sub(keep);
        self.commits.retain(|commit| {
            let kept = commit.savepoint || surplus == 0 || commit.number == entry.number;
            if !kept {
                surplus -= 1;
            }
            kept
        });
    }
}
