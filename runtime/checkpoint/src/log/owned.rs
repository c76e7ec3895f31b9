//! The right to commit in a job's name, for as long as nobody claims it anew.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_stream::planted::planted;
use thalweg_stream::sink::Released;
use thalweg_stream::{Epoch, EpochKind, Fault, Generation, Lineage};
use tokio::sync::watch;

use super::contender::{Rest, Step};
use super::entry::{Body, Commit, Entry};
use super::history::{History, Owner};
use super::{JobLog, numbers, read_history, retry};
use crate::error::Error;
use crate::heartbeat::Heartbeat;
use crate::manifest::Manifest;
use crate::name::{MANIFESTS, OUTBOX, ObjectName, STATE};
use crate::restore::{Checkpoint, read_manifest};
use crate::retention::{self, Facts, InUse, Retention};
use crate::store::Store;

/// The log of a job that this process owns.
#[derive(Debug)]
pub struct OwnedLog {
    pub(super) log: JobLog,
    heartbeat: Heartbeat,
    retention: Retention,
    owner: Owner,
    start: Option<Checkpoint>,
    /// The newest epoch that this generation has committed.
    committed: Option<Epoch>,
    /// What the kept checkpoints consist of, by the number of their entry.
    reached: BTreeMap<u64, Reached>,
}

/// What a checkpoint consists of.
#[derive(Debug)]
struct Reached {
    /// Objects of the store.
    objects: Vec<ObjectName>,
    /// Objects that sinks have staged in places of their own.
    staged: Vec<String>,
}

impl From<&Manifest> for Reached {
    fn from(manifest: &Manifest) -> Self {
        Self {
            objects: manifest.reaches(),
            staged: manifest.reaches_own_stages(),
        }
    }
}

/// The number of a commit in the log: proof that what its manifest lists may become visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitNumber(u64);

impl CommitNumber {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// Releases something that the commit's manifest lists.
    pub fn release<T>(self, value: T) -> Released<T> {
        Released::by_commit(value, self.0)
    }
}

/// What a round of cleaning has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Manifests, state objects and staged objects deleted.
    pub objects: usize,
    /// Log entries that became fences, or were deleted.
    pub entries: usize,
}

impl OwnedLog {
    pub(super) fn new(
        log: JobLog,
        heartbeat: Heartbeat,
        retention: Retention,
        start: Option<Checkpoint>,
    ) -> Result<Self, Error> {
        let owner = (log.history().owner.clone())
            .ok_or_else(|| Error::Bug("a claimed job has no owner".into()))?;
        Ok(Self {
            log,
            heartbeat,
            retention,
            owner,
            start,
            committed: None,
            reached: BTreeMap::new(),
        })
    }

    /// The generation of this start.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.owner.generation
    }

    /// The history it continues or begins.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.owner.lineage
    }

    /// The checkpoint to restore; nothing for a start from the beginning.
    #[must_use]
    pub fn start(&self) -> Option<&Checkpoint> {
        self.start.as_ref()
    }

    /// The proof that what [`start`](Self::start) lists may become visible.
    #[must_use]
    pub fn start_number(&self) -> Option<CommitNumber> {
        (self.start.as_ref()).map(|checkpoint| CommitNumber(checkpoint.commit.number))
    }

    /// The first epoch of this start: beyond all that were ever committed.
    #[must_use]
    pub fn first_epoch(&self) -> Epoch {
        if planted("reuse-epochs") {
            let from = self.start.as_ref().map(|start| start.manifest.epoch);
            return from.unwrap_or(Epoch(0)).next();
        }
        self.log.history().epoch_max.next()
    }

    /// What the log says.
    #[must_use]
    pub fn history(&self) -> &History {
        self.log.history()
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.log.store
    }

    /// An empty manifest of a checkpoint of this start.
    #[must_use]
    pub fn manifest(&self, epoch: Epoch, kind: EpochKind) -> Manifest {
        let job = self.log.history().job.clone();
        let lineage = self.owner.lineage.clone();
        let mut manifest = Manifest::new(job, lineage, self.owner.generation, epoch, kind);
        manifest.created_at_ms = self.log.clock.now_ms();
        manifest
    }

    /// Tells when a successor's heartbeat has been seen. Whoever commits learns it from the log.
    #[must_use]
    pub fn fenced(&self) -> watch::Receiver<Option<Fault>> {
        self.heartbeat.fenced()
    }

    /// Looks whether the job is still ours, at the price of one listing.
    ///
    /// # Errors
    /// Fenced; the store's.
    pub async fn check_owner(&self) -> Result<(), Fault> {
        let listed = retry(self.store(), || self.store().list_log(self.history().end)).await?;
        match numbers(&listed).last() {
            None => Ok(()),
            Some(_) => Err(self.fence("check").await.into()),
        }
    }

    /// Fenced, if a later generation has claimed the job: what to say after a failure that may be
    /// the work of a successor.
    ///
    /// # Errors
    /// The store's: whether there is one is not known.
    pub async fn successor(&self) -> Result<Option<Fault>, Fault> {
        let newest = read_history(self.store()).await?;
        let later = (newest.owner).filter(|owner| owner.generation > self.generation());
        Ok(later.map(|owner| fenced_by("run", owner).into()))
    }

    /// Commits a checkpoint. Everything that its manifest names must be durable.
    ///
    /// # Crash safety
    /// The checkpoint exists from the moment its entry does. If the outcome is unknown (transient)
    /// the same manifest may be committed again, or a later one: if the earlier one turns out to
    /// exist after all, it counts, and the later one follows it.
    ///
    /// # Cancel safety
    /// A call that is dropped has an unknown outcome; the next call finds it out first.
    ///
    /// # Errors
    /// Fenced if the job has been claimed anew: nothing that the manifest lists may become visible
    /// through this process. A bug if the manifest is not one of this start. The store's.
    pub async fn commit(&mut self, manifest: &Manifest) -> Result<CommitNumber, Fault> {
        manifest.check()?;
        let ours = (&manifest.job, manifest.generation, &manifest.lineage)
            == (
                &self.history().job,
                self.owner.generation,
                &self.owner.lineage,
            );
        if !ours {
            return Err(Fault::bug(format!(
                "manifest of epoch {} is not of generation {}",
                manifest.epoch, self.owner.generation
            )));
        }
        let (reference, bytes) = manifest.encode()?;
        let name = reference.name.clone();
        retry(self.store(), || self.store().put(&name, bytes.clone())).await?;
        let commit = Commit {
            epoch: manifest.epoch,
            manifest: reference,
            keep: self.retention.keep,
            at_ms: manifest.created_at_ms,
        };
        let body = match manifest.kind {
            EpochKind::Savepoint => Body::Savepoint(commit),
            EpochKind::Ordinary | EpochKind::Checkpoint | EpochKind::Final => Body::Commit(commit),
        };
        let number = self.append(body).await?;
        self.committed = Some(manifest.epoch);
        self.reached.insert(number, manifest.into());
        Ok(CommitNumber(number))
    }

    /// Says that the job has finished: all input read, all output published and confirmed.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn finish(mut self) -> Result<(), Fault> {
        self.append(Body::Finished).await?;
        self.heartbeat.stop().await;
        Ok(())
    }

    /// Says that this start has ended cleanly; the job goes on with the next one.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn stop(mut self) -> Result<(), Fault> {
        self.append(Body::Stop).await?;
        self.heartbeat.stop().await;
        Ok(())
    }

    /// Gives the job up without saying so in the log: the attempt has failed, and another may
    /// begin at once.
    pub async fn abandon(self) {
        self.heartbeat.stop().await;
    }

    /// Appends an entry and makes sure that it may be acted on.
    async fn append(&mut self, body: Body) -> Result<u64, Error> {
        // What a failed or dropped call has left half known is found out first.
        let known = match self.log.contender.step() {
            Step::Rest(rest) => Some(rest),
            Step::Create(_) => None,
            Step::List { .. } | Step::Read { .. } => Some(self.log.drive().await?),
        };
        if known == Some(Rest::Overtaken) {
            return Err(self.fence("commit").await);
        }
        let what = match body {
            Body::Commit(_) | Body::Savepoint(_) => "commit",
            Body::Claim(_)
            | Body::Stop
            | Body::Finished
            | Body::Snapshot(_)
            | Body::Fence { .. } => "append",
        };
        (self.log.contender.propose(body))
            .map_err(|violation| Error::Bug(violation.to_string()))?;
        match self.log.drive().await? {
            Rest::Appended { number } => {
                self.check_predecessor(number, what).await?;
                Ok(number)
            }
            Rest::Overtaken | Rest::Ready => Err(self.fence(what).await),
        }
    }

    /// Makes sure that the entry before `number`, an own one, is where this one went: nobody but
    /// an owner removes it. It is not if another folder has taken the store's place, as where a
    /// disk is not mounted any more; what is committed there leads to nothing.
    async fn check_predecessor(&self, number: u64, what: &str) -> Result<(), Error> {
        let before = ObjectName::log(number.saturating_sub(1));
        match retry(self.store(), || self.store().find(&before)).await {
            Ok(Some(_)) => Ok(()),
            // It was removed by a successor if this process slept since its own entry was written.
            Ok(None) => Err(match read_history(self.store()).await {
                Ok(History {
                    owner: Some(owner), ..
                }) if owner.generation > self.owner.generation => fenced_by(what, owner),
                Ok(_) | Err(_) => Error::Missing {
                    name: before.to_string(),
                },
            }),
            // The entry stands; the next append looks again.
            Err(error) if error.passing() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The error of a fenced owner, naming the successor if it can be found out.
    async fn fence(&self, what: &str) -> Error {
        let problem = match read_history(self.store()).await {
            Ok(History {
                owner: Some(owner), ..
            }) => return fenced_by(what, owner),
            Ok(_) => "the log names no owner".to_owned(),
            Err(error) => error.to_string(),
        };
        Error::FencedBySomebody {
            what: what.to_owned(),
            problem,
        }
    }

    /// Deletes what no kept checkpoint reaches and nobody has `in_use`, and truncates the log:
    /// [`plan_cleaning`](Self::plan_cleaning) and [`Cleaning::perform`] in one.
    ///
    /// # Errors
    /// As those two.
    pub async fn retain(&mut self, in_use: &InUse) -> Result<Swept, Fault> {
        self.plan_cleaning(in_use).await?.perform().await
    }

    /// Truncates the log if it has grown, and decides what may be deleted. Call it after a commit.
    ///
    /// # Errors
    /// Corrupt if a kept manifest cannot be read: nothing may be deleted then. Fenced; the store's.
    pub async fn plan_cleaning(&mut self, in_use: &InUse) -> Result<Cleaning, Fault> {
        let mut cleaning = self.truncate().await?;
        self.load_reached().await?;
        let reached = (self.reached.values())
            .flat_map(|reached| reached.objects.iter().cloned())
            .collect();
        let mut listed = Vec::new();
        for prefix in [MANIFESTS, STATE, OUTBOX] {
            let found = retry(self.store(), || self.store().list(prefix)).await?;
            listed.extend(found.into_iter().map(|found| found.name));
        }
        let facts = Facts {
            reached: &reached,
            in_use: &in_use.names(),
            generation: self.owner.generation,
            committed: self.committed,
        };
        cleaning.objects = retention::plan(&facts, &listed);
        Ok(cleaning)
    }

    /// Which of the objects that a sink has `listed` in a stage of its own are litter: left behind
    /// by attempts that crashed, or published and no longer named by a kept checkpoint.
    ///
    /// # Errors
    /// Corrupt if a kept manifest cannot be read: nothing may be deleted then. The store's.
    pub async fn stage_litter(&mut self, listed: &[String]) -> Result<Vec<String>, Fault> {
        self.load_reached().await?;
        let reached = (self.reached.values())
            .flat_map(|reached| reached.staged.iter().cloned())
            .collect();
        let generation = self.owner.generation;
        Ok(retention::plan_stage(
            &reached,
            generation,
            self.committed,
            listed,
        ))
    }

    /// The lineages of this start and of the checkpoints that are kept.
    #[must_use]
    pub fn lineages(&self) -> BTreeSet<Lineage> {
        let kept = self.history().commits.iter();
        kept.map(|commit| commit.lineage.clone())
            .chain([self.owner.lineage.clone()])
            .collect()
    }

    /// Learns what the kept checkpoints consist of that others have made.
    async fn load_reached(&mut self) -> Result<(), Error> {
        let kept = self.log.history().commits.clone();
        (self.reached).retain(|number, _| kept.iter().any(|commit| commit.number == *number));
        for commit in &kept {
            if !self.reached.contains_key(&commit.number) {
                let manifest = read_manifest(self.store(), commit).await?;
                self.reached.insert(commit.number, (&manifest).into());
            }
        }
        Ok(())
    }

    /// Folds the log into a snapshot if it has grown.
    async fn truncate(&mut self) -> Result<Cleaning, Error> {
        let mut cleaning = Cleaning {
            store: self.store().clone(),
            fences: Vec::new(),
            entries: Vec::new(),
            objects: Vec::new(),
        };
        let history = self.log.history();
        let before = history.snapshot;
        if history.end - before < self.retention.snapshot_every {
            return Ok(cleaning);
        }
        let snapshot = Body::Snapshot(Box::new(history.clone()));
        let number = self.append(snapshot).await?;
        self.log.leave_hint().await;
        let listed = retry(self.store(), || self.store().list_log(0)).await?;
        let listed: Vec<_> = numbers(&listed).collect();
        let plan = retention::truncate(&listed, before..number, self.retention.fenced_max);
        cleaning.entries = plan.delete.into_iter().map(ObjectName::log).collect();
        let fences = plan
            .fence
            .into_iter()
            .map(|below| self.marker(below, number));
        cleaning.fences = fences.collect();
        Ok(cleaning)
    }

    /// What occupies a number below a snapshot.
    fn marker(&self, number: u64, snapshot: u64) -> Entry {
        Entry {
            number,
            writer: self.owner.writer.clone(),
            nonce: 0,
            generation: self.owner.generation,
            body: Body::Fence { snapshot },
        }
    }
}

/// A later generation's owner has been met.
fn fenced_by(what: &str, owner: Owner) -> Error {
    Error::Fenced {
        what: what.to_owned(),
        by: owner.generation.0,
        host: owner.host,
        pid: owner.pid,
    }
}

/// What may be deleted, decided.
///
/// It may be carried out apart from the stream and the commits that follow, however late, and by
/// halves: see [`retention`]. Whatever is left is removed by a later round.
#[must_use]
#[derive(Debug)]
pub struct Cleaning {
    store: Store,
    fences: Vec<Entry>,
    entries: Vec<ObjectName>,
    objects: Vec<ObjectName>,
}

impl Cleaning {
    /// Carries it out.
    ///
    /// # Errors
    /// The store's.
    pub async fn perform(self) -> Result<Swept, Fault> {
        for name in self.entries.iter().chain(&self.objects) {
            retry(&self.store, || self.store.delete(name)).await?;
        }
        for fence in &self.fences {
            let (name, content) = (fence.name(), fence.encode()?);
            retry(&self.store, || self.store.put(&name, content.clone())).await?;
        }
        Ok(Swept {
            objects: self.objects.len(),
            entries: self.entries.len() + self.fences.len(),
        })
    }
}
