//! The job's store as the coordinator uses it: claim, restore, state parts, manifests, commits.

mod cleaning;
mod record;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use thalweg_checkpoint::log::{CommitNumber, Standing};
use thalweg_checkpoint::manifest::DefinitionRecord;
use thalweg_checkpoint::name::ObjectName;
use thalweg_checkpoint::publish::SinkRecord;
use thalweg_checkpoint::{
    ClaimRequest, Claimed, Identity, JobLog, Manifest, Outbox, OwnedLog, RestoreFrom, Retention,
    StateChains, Store,
};
use thalweg_stream::sink::StageStore;
use thalweg_stream::source::SplitSpec;
use thalweg_stream::{Class, Clock, Epoch, Fault, Generation, Ledger, Lineage};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use self::cleaning::clean;
use self::record::{cut, sources, steps};
pub(crate) use self::state::Parts;
use crate::assembly;
use crate::compaction::Compactor;
use crate::coordinator::Savepoint;
use crate::failpoint;
use crate::failure::Cause;
use crate::fit::{self, Fit};
use crate::graph::{Graph, Node};
use crate::report::EpochInfo;
use crate::shared::Shared;
use crate::splits::{Joining, Register};

/// What a start may do that a user has to allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Go on from an older checkpoint where the one to start from is damaged.
    pub older: bool,
    /// Lose the offsets, the state and the unpublished output of parts that are gone.
    pub dropped: bool,
}

/// What a start asks of the store.
pub(crate) struct Open {
    pub(crate) job: Arc<str>,
    pub(crate) version: String,
    pub(crate) from: RestoreFrom,
    pub(crate) take_over: bool,
    pub(crate) allow: Allow,
    /// The generation of this run's last attempt, and why that failed.
    pub(crate) again: Option<(Generation, Cause)>,
    pub(crate) retention: Retention,
    pub(crate) workers: usize,
}

/// The job's store, claimed.
pub(crate) struct Journal {
    /// `None` once the run has ended.
    log: Arc<Mutex<Option<OwnedLog>>>,
    store: Store,
    graph: Arc<Graph>,
    open: Open,
    generation: Generation,
    lineage: Lineage,
    first: Epoch,
    base: Option<CommitNumber>,
    restored: Option<Manifest>,
    chains: StateChains,
    splits: Register,
    fenced: watch::Receiver<Option<Fault>>,
    restart_cause: Option<&'static str>,
    stages: Vec<OwnStage>,
    compactor: Compactor,
    /// Deletes what is no longer needed, in the background.
    cleaning: Option<JoinHandle<()>>,
}

/// A sink that stages in a place of its own, by name.
pub(crate) type OwnStage = (Arc<str>, Arc<dyn StageStore>);

/// What a checkpoint is to say.
pub(crate) struct Draft {
    pub(crate) info: Arc<EpochInfo>,
    pub(crate) cuts: Vec<assembly::Cut>,
    pub(crate) parts: Parts,
    pub(crate) sinks: BTreeMap<String, SinkRecord>,
    pub(crate) ledgers: BTreeMap<String, Ledger>,
}

/// A checkpoint that exists.
pub(crate) struct Committed {
    pub(crate) number: CommitNumber,
    pub(crate) bytes: u64,
    chains: StateChains,
    compacted: bool,
}

impl Journal {
    /// Claims the job; nothing if it has finished.
    pub(crate) async fn open(
        store: Store,
        open: Open,
        graph: Arc<Graph>,
        clock: Arc<dyn Clock>,
        identity: Identity,
    ) -> Result<Option<Self>, Fault> {
        let store = store.with_clock(Arc::clone(&clock));
        let log = JobLog::open(store.clone(), identity, clock).await?;
        if let Some((last, _)) = open.again
            && log.history().generation() > last
        {
            return Err(Fault::fenced(format!(
                "job \"{}\" has been started by somebody else in the meantime",
                open.job
            )));
        }
        let restart_cause = match (log.history().standing, open.from) {
            _ if open.again.is_some() => open.again.map(|(_, cause)| cause.word()),
            (Standing::New, _) => None,
            (_, RestoreFrom::Epoch(_) | RestoreFrom::Nothing) => Some("chosen"),
            (Standing::Claimed, RestoreFrom::Latest) => Some("crash"),
            (Standing::Stopped | Standing::Finished, RestoreFrom::Latest) => Some("stop"),
        };
        let request = ClaimRequest {
            from: open.from,
            take_over: open.take_over,
            allow_older: open.allow.older,
            retention: open.retention,
            ..ClaimRequest::new(&*open.job)
        };
        let allow_drop = open.allow.dropped;
        let fits = |manifest: &Manifest| Fit::of(manifest, &graph).check(allow_drop);
        let owned = match log.claim_if(request, fits).await? {
            Claimed::Finished(_) => return Ok(None),
            Claimed::Owner(owned) => *owned,
        };
        let restored = owned.start().map(|checkpoint| checkpoint.manifest.clone());
        let has_step = |id: &str| graph.steps().any(|(_, step)| &*step.id == id);
        let chains = restored
            .as_ref()
            .map(|manifest| manifest.state.only(has_step))
            .unwrap_or_default();
        // The next checkpoint has these in their new shape, and all of it.
        let migrated = (restored.iter())
            .flat_map(|manifest| graph.steps().map(move |(_, step)| (manifest, step)))
            .filter(|(manifest, step)| fit::migration(manifest, step).is_some())
            .map(|(_, step)| Arc::clone(&step.id))
            .collect();
        Ok(Some(Self {
            generation: owned.generation(),
            lineage: owned.lineage().clone(),
            first: owned.first_epoch(),
            base: owned.start_number(),
            fenced: owned.fenced(),
            log: Arc::new(Mutex::new(Some(owned))),
            compactor: Compactor::new(Arc::clone(&graph), store.clone(), migrated),
            store,
            graph,
            open,
            restored,
            chains,
            splits: Register::default(),
            restart_cause,
            stages: Vec::new(),
            cleaning: None,
        }))
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    pub(crate) fn first_epoch(&self) -> Epoch {
        self.first
    }

    /// Why the job starts again: its owner crashed or stopped, or somebody has chosen where to
    /// start; nothing at the first start.
    pub(crate) fn restart_cause(&self) -> Option<&'static str> {
        self.restart_cause
    }

    /// The commit this run begins from: proof that what it lists may become visible.
    pub(crate) fn base_number(&self) -> Option<CommitNumber> {
        self.base
    }

    pub(crate) fn restored(&self) -> Option<&Manifest> {
        self.restored.as_ref()
    }

    pub(crate) fn outbox(&self) -> Arc<dyn StageStore> {
        Arc::new(Outbox::new(self.store.clone()))
    }

    /// A savepoint of this run, as whoever asked for it is told.
    pub(crate) fn savepoint(&self, epoch: Epoch) -> Savepoint {
        Savepoint {
            epoch: epoch.0,
            store: self.store.location().to_owned(),
            manifest: ObjectName::manifest(epoch, self.generation).to_string(),
        }
    }

    /// Takes note of the splits that the run reads.
    pub(crate) fn set_splits(&mut self, splits: Register) {
        self.splits = splits;
    }

    /// A split: its source's name, and how that describes it.
    pub(crate) fn split(&self, number: u32) -> Option<(&str, &SplitSpec)> {
        let (source, spec) = self.splits.specs().get(&number)?;
        Some((source, spec))
    }

    /// Takes note of splits of the source at `node` that have come while the job runs. The next
    /// manifest that knows how far they have come describes them.
    pub(crate) fn grow(
        &mut self,
        node: usize,
        more: Vec<SplitSpec>,
    ) -> Result<Vec<Joining>, Fault> {
        let Some(Node::Source(source)) = self.graph.nodes.get(node) else {
            return Err(Fault::bug("new splits of no source"));
        };
        let joining = more.into_iter().map(|spec| {
            let id = self.splits.next();
            self.splits.enter(id, node, &source.name, spec)
        });
        joining.collect()
    }

    /// Takes note of the sinks whose staged output lies in places of their own.
    pub(crate) fn set_stages(&mut self, stages: Vec<OwnStage>) {
        self.stages = stages;
    }

    /// Writes the manifest and the commit that names it.
    pub(crate) fn commit(
        &mut self,
        draft: Draft,
        shared: &Shared,
    ) -> BoxFuture<'static, Result<Committed, Fault>> {
        let log = Arc::clone(&self.log);
        let (chains, compacted) = self.compactor.apply(&self.chains, shared);
        let prepared = chains.advance(draft.parts.reports.clone());
        let bytes = draft.parts.bytes;
        let (graph, splits) = (Arc::clone(&self.graph), self.splits.specs().clone());
        let version = self.open.version.clone();
        let workers = u32::try_from(self.open.workers).unwrap_or(u32::MAX);
        async move {
            let chains = prepared?;
            let mut log = log.lock().await;
            let owned = log
                .as_mut()
                .ok_or_else(|| Fault::bug("a commit after the end"))?;
            let mut manifest = owned.manifest(draft.info.epoch, draft.info.kind);
            manifest.definition = DefinitionRecord {
                fingerprint: version.clone(),
                version,
            };
            manifest.workers = workers;
            manifest.sources = sources(&graph, &splits, &draft.info);
            manifest.cuts = draft.cuts.into_iter().map(cut).collect();
            manifest.steps = steps(&graph, &draft.info);
            manifest.state = chains.clone();
            manifest.sinks = draft.sinks;
            manifest.ledgers = draft.ledgers;
            failpoint::hit(&["commit", "before"]);
            let number = owned.commit(&manifest).await?;
            Ok(Committed {
                number,
                bytes,
                chains,
                compacted,
            })
        }
        .boxed()
    }

    /// Says which steps are to be frozen whole next.
    pub(crate) fn ask_for_whole(&mut self, shared: &Shared) {
        for (node, step) in self.graph.steps() {
            let whole = self.compactor.wants_whole(&step.id, &self.chains);
            shared.set_full(node, whole);
        }
    }

    /// The commit of an epoch stands: what is to be frozen whole next, compacted, and deleted.
    pub(crate) fn committed(&mut self, epoch: Epoch, committed: Committed, shared: &Arc<Shared>) {
        self.chains = committed.chains;
        self.compactor.committed(committed.compacted);
        self.ask_for_whole(shared);
        let at = (epoch, self.generation);
        self.compactor.begin(&self.chains, at, shared);
        if self.cleaning.as_ref().is_none_or(JoinHandle::is_finished) {
            let (log, stages) = (Arc::clone(&self.log), self.stages.clone());
            let in_use = self.compactor.in_use();
            self.cleaning = Some(tokio::spawn(async move {
                if let Err(fault) = clean(&log, &stages, &in_use).await {
                    tracing::warn!(error = %fault, "old checkpoints and staged output stay for now");
                }
            }));
        }
    }

    /// Tells when a successor has been seen.
    pub(crate) fn fenced(&self) -> watch::Receiver<Option<Fault>> {
        self.fenced.clone()
    }

    /// The run has come to its end.
    pub(crate) async fn end(mut self, finished: bool) -> Result<(), Fault> {
        // What it has not compacted stays for the next run…
        drop(self.compactor);
        if let Some(cleaning) = self.cleaning.take() {
            // …and what it could not delete, too.
            drop(cleaning.await);
        }
        let owned = self.log.lock().await.take();
        match owned {
            Some(owned) if finished => owned.finish().await,
            Some(owned) => owned.stop().await,
            None => Err(Fault::bug("the run has ended twice")),
        }
    }

    /// The attempt has failed; another may begin at once. Gives the reason of the failure: `fault`,
    /// or that the job has been claimed anew, which makes any other fault a matter of course (a
    /// successor deletes what it has published, for one).
    pub(crate) async fn abandon(log: Arc<Mutex<Option<OwnedLog>>>, fault: Fault) -> Fault {
        let Some(owned) = log.lock().await.take() else {
            return fault;
        };
        let successor = owned.successor().await;
        owned.abandon().await;
        reason(fault, successor)
    }

    /// Refuses to go on if the log says that the job is another start's by now.
    ///
    /// # Errors
    /// Fenced; the store's.
    pub(crate) async fn check_owner(&self) -> Result<(), Fault> {
        match &*self.log.lock().await {
            Some(owned) => owned.check_owner().await,
            None => Err(Fault::bug("the run has ended already")),
        }
    }

    pub(crate) fn handle(&self) -> Arc<Mutex<Option<OwnedLog>>> {
        Arc::clone(&self.log)
    }
}

/// Why an attempt has ended that failed with `fault`, by what was found out about a successor.
fn reason(fault: Fault, successor: Result<Option<Fault>, Fault>) -> Fault {
    match successor {
        Ok(fenced) => fenced.unwrap_or(fault),
        // It would end the run for good, and may be no damage at all: the next attempt finds out.
        Err(unread) if fault.class == Class::Corrupt => unread.within(format_args!(
            "{fault}; whether that is a successor's doing could not be found out"
        )),
        Err(unread) => {
            tracing::warn!(error = %unread, "whether another process has taken over could not be found out");
            fault
        }
    }
}

/// Resolves when a successor has been seen.
pub(crate) async fn lost(fenced: &mut watch::Receiver<Option<Fault>>) -> Fault {
    loop {
        if let Some(fault) = fenced.borrow().clone() {
            return fault;
        }
        if fenced.changed().await.is_err() {
            // The heartbeat has stopped because the run has ended.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use thalweg_stream::{Class, Fault};

    use super::reason;

    #[test]
    fn damage_is_called_so_only_if_no_successor_can_have_done_it() {
        let damage = || Fault::corrupt("state/4-g1/w0 is missing");
        let fenced = Fault::fenced("generation 2 has taken over");
        assert_eq!(reason(damage(), Ok(None)), damage());
        assert_eq!(reason(damage(), Ok(Some(fenced.clone()))), fenced);
        let unread = Fault::transient("get log: timed out");
        let unknown = reason(damage(), Err(unread.clone()));
        assert_eq!(unknown.class, Class::Transient { after: None });
        for part in [&damage().message, &unread.message] {
            assert!(unknown.message.contains(&**part), "{unknown}");
        }
        // What is nobody's doing but ours stays what it is.
        let bug = Fault::bug("a commit after the end");
        assert_eq!(reason(bug.clone(), Err(unread)), bug);
    }
}
