//! Random histories of a job on a real log: whatever is kept can be restored, and a compaction at
//! any time changes nothing of it.
//!
//! The state is a text for each key group that only grows, so that a section applied twice, in the
//! wrong order, or not at all, shows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use thalweg_stream::{Epoch, EpochKind, Fault, KeyGroup, Section};
use tokio::sync::Semaphore;
use tokio::task::unconstrained;

use super::{Compacted, Compaction, Merge, PartReport, Restorer, StateChains};
use crate::log::tests::{open, own, request};
use crate::log::{ClaimRequest, Claimed, Cleaning, OwnedLog};
use crate::name::{ObjectName, PartId, STATE};
use crate::restore::{RestoreFrom, read_manifest};
use crate::retention::InUse;
use crate::state::restore::tests::Random;
use crate::state::{PartWriter, packed};
use crate::store::{Access, Store};

const STEP: &str = "count";
/// Key groups that histories use: some on each side of where workers' ranges meet.
const GROUPS: [KeyGroup; 6] = [0, 63, 64, 127, 128, 255];

type Texts = BTreeMap<KeyGroup, String>;

/// Joins texts, group by group as it is allowed to.
struct Join(Arc<Semaphore>);

#[async_trait]
impl Merge for Join {
    async fn merge(
        &self,
        step: &str,
        group: KeyGroup,
        sections: Vec<Section>,
    ) -> Result<Vec<Section>, Fault> {
        assert_eq!(step, STEP);
        let closed = |_| Fault::bug("the pace is gone");
        let allowed = self.0.acquire().await.map_err(closed)?;
        allowed.forget();
        let bytes: Vec<u8> = sections.iter().flat_map(|s| s.bytes.to_vec()).collect();
        Ok(vec![Section {
            group,
            base: true,
            bytes: bytes.into(),
        }])
    }
}

/// A compaction that is under way.
struct Running {
    pace: Arc<Semaphore>,
    run: BoxFuture<'static, Result<Compacted, Fault>>,
}

/// A job, and what must be true of it.
struct History {
    random: Random,
    store: Store,
    log: OwnedLog,
    runs: u64,
    workers: usize,
    epoch: Epoch,
    chains: StateChains,
    in_use: InUse,
    running: Option<Running>,
    done: Option<Compacted>,
    /// Decided, not yet carried out.
    cleaning: Option<Cleaning>,
    /// What the state is, and what of it no checkpoint has.
    texts: Texts,
    fresh: Texts,
    /// What it was at each commit, by the number of its entry.
    then: BTreeMap<u64, Texts>,
    compacted: usize,
    restored: usize,
}

fn owned(worker: usize, workers: usize) -> Range<usize> {
    worker * 256 / workers..(worker + 1) * 256 / workers
}

async fn read(store: &Store, chains: &StateChains, workers: usize) -> Result<Texts, Fault> {
    let restorer = Restorer::open(store, chains).await?;
    let mut texts = Texts::new();
    for worker in 0..workers {
        let mut sections = restorer.sections(STEP, owned(worker, workers))?;
        while let Some(batch) = sections.next().await? {
            for section in batch {
                let text = texts.entry(section.group).or_default();
                if section.base {
                    text.clear();
                }
                text.push_str(&String::from_utf8_lossy(&section.bytes));
            }
        }
    }
    Ok(texts)
}

impl History {
    async fn begin(seed: u64) -> Result<Self, Fault> {
        let store = Store::open(&format!("memory://compaction-{seed}"), Access::Create)?;
        let log = own(&store, "run-0").await?;
        Ok(Self {
            random: Random(seed),
            epoch: log.first_epoch(),
            store,
            log,
            runs: 0,
            workers: 2,
            chains: StateChains::default(),
            in_use: InUse::default(),
            running: None,
            done: None,
            cleaning: None,
            texts: Texts::new(),
            fresh: Texts::new(),
            then: BTreeMap::new(),
            compacted: 0,
            restored: 0,
        })
    }

    fn write(&mut self) {
        for _ in 0..=self.random.below(3) {
            let group = GROUPS[self.random.below(GROUPS.len() as u64) as usize];
            let word = format!("{},", self.random.below(1 << 20));
            self.texts.entry(group).or_default().push_str(&word);
            self.fresh.entry(group).or_default().push_str(&word);
        }
    }

    /// Makes the state durable: what is new of it, or all.
    async fn parts(&mut self, full: bool) -> Result<Vec<PartReport>, Fault> {
        let mut reports = Vec::new();
        for worker in 0..self.workers {
            let groups = owned(worker, self.workers);
            let mut writer = PartWriter::new(PartId {
                epoch: self.epoch,
                generation: self.log.generation(),
                worker: worker as u32,
                sequence: 0,
            });
            writer.freeze(STEP, groups.clone(), full)?;
            let texts = if full { &self.texts } else { &self.fresh };
            for (&group, text) in texts {
                if groups.contains(&usize::from(group)) {
                    let bytes = Bytes::from(text.clone());
                    let base = full;
                    writer.add(STEP, &packed(&Section { group, base, bytes }))?;
                }
            }
            let finished = writer.finish()?;
            let name = &finished.report.part.name;
            self.store.put(name, finished.content).await?;
            reports.push(finished.report);
        }
        Ok(reports)
    }

    async fn checkpoint(&mut self, kind: EpochKind) -> Result<(), Fault> {
        let full = kind == EpochKind::Savepoint || self.chains.lacks(STEP);
        let reports = self.parts(full).await?;
        let mut chains = self.chains.clone();
        if let Some(compacted) = &self.done {
            chains = chains.compacted(&compacted.reports);
            self.compacted += 1;
        }
        let mut manifest = self.log.manifest(self.epoch, kind);
        manifest.state = chains.advance(reports)?;
        let number = self.log.commit(&manifest).await?.get();
        self.chains = manifest.state;
        self.done = None;
        self.fresh.clear();
        self.then.insert(number, self.texts.clone());
        if self.running.is_none() {
            self.compact();
        }
        self.epoch = self.epoch.next();
        Ok(())
    }

    /// Parts are written, and no commit follows: the next checkpoint has all of it.
    async fn fail(&mut self) -> Result<(), Fault> {
        let full = self.chains.lacks(STEP);
        self.parts(full).await?;
        self.epoch = self.epoch.next();
        Ok(())
    }

    /// Begins a compaction of what has just been committed, now and then before it is due.
    fn compact(&mut self) {
        if self.chains.wants_compaction(STEP) || self.random.below(3) == 0 {
            let at = (self.epoch, self.log.generation());
            let steps = vec![STEP.to_owned()];
            let compaction =
                Compaction::new(self.store.clone(), &self.in_use, &self.chains, steps, at);
            let pace = Arc::new(Semaphore::new(0));
            let join = Join(Arc::clone(&pace));
            // Nothing of a history in memory ever waits, so that tokio would soon consider its budget
            // used up and leave a compaction waiting that may go on.
            let run = unconstrained(async move { compaction.run(&join).await }).boxed();
            self.running = Some(Running { pace, run });
        }
    }

    /// Lets a compaction go on for a few key groups.
    fn go_on(&mut self, groups: usize) -> Result<(), Fault> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        running.pace.add_permits(groups);
        if let Some(compacted) = (&mut running.run).now_or_never() {
            self.done = Some(compacted?);
            self.running = None;
        }
        Ok(())
    }

    /// The process dies, and another goes on from the newest checkpoint or an older one.
    async fn restart(&mut self) -> Result<(), Fault> {
        self.runs += 1;
        (self.running, self.done, self.cleaning) = (None, None, None);
        let kept = &self.log.history().commits;
        let from = match self.random.below(3) {
            0 if !kept.is_empty() => {
                let at = self.random.below(kept.len() as u64) as usize;
                RestoreFrom::Epoch(kept[at].epoch)
            }
            _ => RestoreFrom::Latest,
        };
        let request = ClaimRequest {
            take_over: true,
            from,
            ..request()
        };
        let log = open(&self.store, &format!("run-{}", self.runs)).await?;
        let Claimed::Owner(log) = log.claim(request).await? else {
            return Err(Fault::bug("finished"));
        };
        self.log = *log;
        self.in_use = InUse::default();
        self.epoch = self.log.first_epoch();
        self.workers = 1 + self.random.below(4) as usize;
        let (chains, texts) = match self.log.start() {
            Some(start) => {
                let then = self.then.get(&start.commit.number).cloned();
                (start.manifest.state.clone(), then.unwrap_or_default())
            }
            None => (StateChains::default(), Texts::new()),
        };
        let found = read(&self.store, &chains, self.workers).await?;
        assert_eq!(found, texts, "restored from {from:?}");
        (self.chains, self.texts) = (chains, texts);
        self.fresh.clear();
        self.restored += 1;
        Ok(())
    }

    async fn clean(&mut self) -> Result<(), Fault> {
        match self.cleaning.take() {
            Some(cleaning) => cleaning.perform().await.map(drop),
            None => {
                self.cleaning = Some(self.log.plan_cleaning(&self.in_use).await?);
                Ok(())
            }
        }
    }

    async fn step(&mut self) -> Result<String, Fault> {
        let action = self.random.below(20);
        match action {
            0..=5 => {
                self.write();
                self.checkpoint(EpochKind::Checkpoint).await?;
            }
            6 => self.checkpoint(EpochKind::Savepoint).await?,
            7 | 8 => {
                self.write();
                self.fail().await?;
            }
            9..=14 => {
                let groups = self.random.below(12) as usize;
                self.go_on(groups)?;
            }
            15..=18 => self.clean().await?,
            _ => self.restart().await?,
        }
        Ok(format!("action {action}"))
    }

    /// Every checkpoint that is kept can be restored.
    async fn check(&self, what: &str) {
        for commit in &self.log.history().commits {
            let manifest = read_manifest(&self.store, commit).await;
            let state = manifest.expect("a kept manifest is there").state;
            let found = read(&self.store, &state, 3).await.expect(what);
            assert_eq!(Some(&found), self.then.get(&commit.number), "after {what}");
        }
    }
}

#[tokio::test]
async fn whatever_is_kept_is_restored_in_any_history() {
    let (mut compacted, mut restored) = (0, 0);
    for seed in 0..40 {
        let mut history = History::begin(seed).await.unwrap();
        for at in 0..60 {
            let what = history.step().await;
            let what = what.unwrap_or_else(|fault| panic!("seed {seed}, step {at}: {fault:?}"));
            history
                .check(&format!("seed {seed}, step {at}, {what}"))
                .await;
        }
        compacted += history.compacted;
        restored += history.restored;
    }
    assert!(compacted > 100 && restored > 100, "{compacted} {restored}");
}

#[tokio::test]
async fn what_no_manifest_names_is_swept_once_nobody_uses_it() {
    let mut history = History::begin(1 << 32).await.unwrap();
    for _ in 0..3 {
        history.write();
        history.checkpoint(EpochKind::Checkpoint).await.unwrap();
    }
    while history.running.is_none() {
        history.checkpoint(EpochKind::Checkpoint).await.unwrap();
    }
    history.go_on(256).unwrap();
    let done = history.done.take().unwrap();
    let name = done.reports[0].part.name.clone();
    let there = async |history: &History, name: &ObjectName| {
        let listed = history.store.list(STATE).await.unwrap();
        listed.iter().any(|found| found.name == *name)
    };
    // Neither the next checkpoint nor a cleaning after it takes away what waits to be named.
    history.checkpoint(EpochKind::Checkpoint).await.unwrap();
    history.running = None;
    history.log.retain(&history.in_use).await.unwrap();
    assert!(there(&history, &name).await);
    drop(done);
    history.log.retain(&history.in_use).await.unwrap();
    assert!(!there(&history, &name).await);
}
