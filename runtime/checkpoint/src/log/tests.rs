//! The log on real stores: claims, commits, fencing, and an end at every durable effect.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Class, Epoch, EpochKind, Fault, Generation, Section};

use super::{Body, ClaimRequest, Claimed, Entry, JobLog, OwnedLog, Standing, read_history};
use crate::heartbeat::{self, Beat, Pulse};
use crate::identity::{Identity, Process};
use crate::name::{LOG, ObjectName, PartId};
use crate::restore::RestoreFrom;
use crate::retention::{InUse, Retention};
use crate::state::{PartWriter, StateChains, packed};
use crate::store::{Access, Store};

mod damage;
mod overtaken;
mod survival;

/// A run in a process that is alive as far as anybody can tell.
pub(crate) fn identity(run: &str) -> Identity {
    let process = Process {
        host: format!("host-of-{run}"),
        pid: 7,
        ..Process::default()
    };
    Identity::new(run, process)
}

pub(crate) fn request() -> ClaimRequest {
    ClaimRequest {
        retention: Retention {
            keep: 2,
            snapshot_every: 8,
            fenced_max: 6,
        },
        pulse: Pulse {
            every: Duration::from_millis(10),
            stale_after: Duration::from_millis(80),
        },
        ..ClaimRequest::new("job")
    }
}

pub(crate) async fn open(store: &Store, run: &str) -> Result<JobLog, Fault> {
    JobLog::open(store.clone(), identity(run), Arc::new(SystemClock::new())).await
}

async fn claim(store: &Store, run: &str, request: ClaimRequest) -> Result<Claimed, Fault> {
    open(store, run).await?.claim(request).await
}

/// Claims the job, taking it over.
pub(crate) async fn own(store: &Store, run: &str) -> Result<OwnedLog, Fault> {
    let take_over = ClaimRequest {
        take_over: true,
        ..request()
    };
    match claim(store, run, take_over).await? {
        Claimed::Owner(owned) => Ok(*owned),
        Claimed::Finished(_) => Err(Fault::bug("finished")),
    }
}

/// Writes some state and commits the next epoch.
pub(crate) async fn commit(owned: &mut OwnedLog, kind: EpochKind) -> Result<Epoch, Fault> {
    let epoch = owned.first_epoch();
    let generation = owned.generation();
    let mut writer = PartWriter::new(PartId {
        epoch,
        generation,
        worker: 0,
        sequence: 0,
    });
    let current = owned.history().current().cloned();
    let before = match &current {
        Some(commit) => {
            crate::restore::read_manifest(owned.store(), commit)
                .await?
                .state
        }
        None => StateChains::default(),
    };
    let full = before.lacks("count") || before.wants_compaction("count");
    writer.freeze("count", 0..256, full)?;
    writer.add(
        "count",
        &packed(&Section {
            group: 0,
            base: full,
            bytes: Bytes::from(format!("{:0100}", epoch.0)),
        }),
    )?;
    let finished = writer.finish()?;
    let part = (finished.report.part.name.clone(), finished.content.clone());
    super::retry(owned.store(), || owned.store().put(&part.0, part.1.clone())).await?;
    let mut manifest = owned.manifest(epoch, kind);
    manifest.state = before.advance(vec![finished.report])?;
    owned.commit(&manifest).await?;
    Ok(epoch)
}

fn memory(name: &str) -> Store {
    Store::open(&format!("memory://log-{name}"), Access::Create).unwrap()
}

fn directory() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap(), Access::Create).unwrap();
    (store, folder)
}

#[tokio::test]
async fn a_job_goes_on_from_its_newest_commit_until_it_has_finished() {
    let (store, _folder) = directory();
    let mut first = own(&store, "first").await.unwrap();
    assert_eq!(
        (first.generation(), first.first_epoch()),
        (Generation(1), Epoch(1))
    );
    assert!(first.start().is_none());
    let epoch = commit(&mut first, EpochKind::Checkpoint).await.unwrap();
    let lineage = first.lineage().clone();
    first.stop().await.unwrap();

    let mut second = own(&store, "second").await.unwrap();
    assert_eq!(second.generation(), Generation(2));
    assert_eq!(second.lineage(), &lineage);
    assert_eq!(second.start().unwrap().manifest.epoch, epoch);
    assert_eq!(
        second.start_number().unwrap().get(),
        second.start().unwrap().commit.number
    );
    assert_eq!(second.first_epoch(), Epoch(2));
    second.check_owner().await.unwrap();
    commit(&mut second, EpochKind::Final).await.unwrap();
    second.finish().await.unwrap();

    let Claimed::Finished(history) = claim(&store, "third", request()).await.unwrap() else {
        panic!("the job has finished");
    };
    assert_eq!(history.standing, Standing::Finished);
    // But a user may run it anew.
    let again = ClaimRequest {
        from: RestoreFrom::Nothing,
        ..request()
    };
    let Claimed::Owner(anew) = claim(&store, "fourth", again).await.unwrap() else {
        panic!("it was to run from the beginning");
    };
    assert_ne!(anew.lineage(), &lineage);
    assert_eq!(anew.first_epoch(), Epoch(3), "epochs never repeat");
    assert!(anew.start().is_none());
}

#[tokio::test]
async fn the_lineage_is_new_whenever_anything_but_the_newest_commit_is_the_start() {
    let store = memory("lineage");
    let mut first = own(&store, "first").await.unwrap();
    let old = commit(&mut first, EpochKind::Savepoint).await.unwrap();
    let new = commit(&mut first, EpochKind::Checkpoint).await.unwrap();
    let lineage = first.lineage().clone();
    let from = async |run: &str, from| {
        let request = ClaimRequest {
            from,
            take_over: true,
            ..request()
        };
        match claim(&store, run, request).await.unwrap() {
            Claimed::Owner(owned) => owned,
            Claimed::Finished(_) => panic!("finished"),
        }
    };
    assert_eq!(from("a", RestoreFrom::Epoch(new)).await.lineage(), &lineage);
    let chosen = from("b", RestoreFrom::Epoch(old)).await;
    assert_ne!(chosen.lineage(), &lineage);
    assert_eq!(chosen.start().unwrap().manifest.epoch, old);
    // A crash after that goes on from what was chosen, not from what was newest.
    let mut after = from("c", RestoreFrom::Latest).await;
    assert_eq!(after.lineage(), chosen.lineage());
    assert_eq!(after.start().unwrap().manifest.epoch, old);
    assert_eq!(
        commit(&mut after, EpochKind::Checkpoint).await,
        Ok(Epoch(3))
    );

    let unknown = ClaimRequest {
        from: RestoreFrom::Epoch(Epoch(77)),
        take_over: true,
        ..request()
    };
    let refused = claim(&store, "d", unknown).await.unwrap_err();
    assert_eq!(refused.class, Class::User);
    assert_eq!(
        refused.message,
        "there is no checkpoint of epoch 77; there are 1, 2, 3"
    );
}

#[tokio::test]
async fn a_new_claim_fences_the_old_owner() {
    let (store, _folder) = directory();
    let mut old = own(&store, "old").await.unwrap();
    commit(&mut old, EpochKind::Checkpoint).await.unwrap();
    assert_eq!(old.successor().await, Ok(None));
    let mut new = own(&store, "new").await.unwrap();
    assert_eq!(new.successor().await, Ok(None));
    let known = old.successor().await.unwrap().unwrap();
    assert_eq!(
        (known.class, &*known.message),
        (
            Class::Fenced,
            "run: generation 2 has taken over, on host host-of-new, process 7"
        )
    );
    for _ in 0..2 {
        let fenced = commit(&mut old, EpochKind::Checkpoint).await.unwrap_err();
        assert_eq!(fenced.class, Class::Fenced);
        assert_eq!(
            fenced.message,
            "commit: generation 2 has taken over, on host host-of-new, process 7"
        );
    }
    assert_eq!(old.check_owner().await.unwrap_err().class, Class::Fenced);
    assert_eq!(
        old.retain(&InUse::default())
            .await
            .map(|swept| swept.entries),
        Ok(0)
    );
    assert_eq!(commit(&mut new, EpochKind::Checkpoint).await, Ok(Epoch(2)));
    // An idle owner learns it from the heartbeat.
    let mut told = old.fenced();
    let told = told.wait_for(Option::is_some);
    let told = tokio::time::timeout(Duration::from_secs(10), told).await;
    let fault = told.unwrap().unwrap().clone().unwrap();
    assert_eq!(fault.class, Class::Fenced);
}

#[tokio::test]
async fn a_second_start_is_refused_while_the_first_is_alive() {
    let (store, _folder) = directory();
    let first = own(&store, "first").await.unwrap();
    let refused = claim(&store, "second", request()).await.unwrap_err();
    assert_eq!(refused.class, Class::Unavailable);
    assert_eq!(
        refused.message,
        "job \"job\" is already running on host host-of-first, process 7; \
         stop it, or take over with --take-over"
    );
    // A restart within the same run is no second start.
    let again = claim(&store, "first", request()).await.unwrap();
    drop(again);
    drop(first);
    // No heartbeat changes any more: it is found dead after a while.
    let second = claim(&store, "second", request()).await.unwrap();
    let Claimed::Owner(second) = second else {
        panic!("it has not finished");
    };
    let patient = ClaimRequest {
        pulse: Pulse {
            stale_after: Duration::from_secs(3600),
            ..request().pulse
        },
        ..request()
    };
    second.stop().await.unwrap();
    claim(&store, "third", patient.clone()).await.unwrap();
    // An attempt that failed says nothing in the log.
    own(&store, "fourth").await.unwrap().abandon().await;
    claim(&store, "fifth", patient).await.unwrap();
}

#[tokio::test]
async fn a_process_that_thaws_does_not_hide_its_successor() {
    let (store, _folder) = directory();
    drop(own(&store, "first").await.unwrap());
    let thawed = heartbeat::read(&store).await.unwrap().unwrap();
    let _second = own(&store, "second").await.unwrap();
    for gone in [true, false].repeat(10) {
        let late = Beat {
            process: match gone {
                true => gone_process(),
                false => Process::default(),
            },
            ended: !gone,
            ..thawed.clone()
        };
        heartbeat::write(&store, &late).await;
        let refused = claim(&store, "third", request()).await.unwrap_err();
        assert!(refused.message.contains("host-of-second"), "{refused}");
    }
}

/// As one that had the number of this process before.
fn gone_process() -> Process {
    Process {
        started: Some(0),
        ..Process::this()
    }
}

#[tokio::test]
async fn a_start_need_not_wait_for_a_process_that_is_gone() {
    let store = memory("gone");
    let clock = Arc::new(SystemClock::new());
    let gone = Identity::new("first", gone_process());
    let first = JobLog::open(store.clone(), gone, clock.clone());
    drop(first.await.unwrap().claim(request()).await.unwrap());
    let patient = ClaimRequest {
        pulse: Pulse {
            stale_after: Duration::from_secs(3600),
            ..request().pulse
        },
        ..request()
    };
    let second = JobLog::open(store, Identity::of_this_process(), clock)
        .await
        .unwrap();
    assert!(matches!(second.claim(patient).await, Ok(Claimed::Owner(_))));
}

#[tokio::test]
async fn a_store_belongs_to_one_job() {
    let store = memory("other");
    own(&store, "one").await.unwrap().stop().await.unwrap();
    let other = ClaimRequest::new("another");
    let refused = claim(&store, "two", other).await.unwrap_err();
    assert_eq!(refused.class, Class::User);
    assert!(
        refused
            .message
            .contains("belong to job \"job\", not to \"another\"")
    );
}

#[tokio::test]
async fn the_log_is_folded_and_far_numbers_are_deleted() {
    let (store, _folder) = directory();
    let mut owned = own(&store, "first").await.unwrap();
    for _ in 0..40 {
        commit(&mut owned, EpochKind::Checkpoint).await.unwrap();
        owned.retain(&InUse::default()).await.unwrap();
    }
    let history = owned.history().clone();
    assert!(history.snapshot > 30, "{}", history.snapshot);
    assert_eq!(read_history(&store).await, Ok(history.clone()));
    let listed = store.list(LOG).await.unwrap();
    let expected = history.snapshot - 6..=history.end;
    let names: Vec<_> = listed.iter().map(|found| found.name.clone()).collect();
    assert_eq!(names, expected.map(ObjectName::log).collect::<Vec<_>>());
    let fenced = history.snapshot - 1;
    let bytes = store.get(&ObjectName::log(fenced)).await.unwrap();
    let fence = Entry::decode(fenced, &bytes).unwrap();
    assert_eq!(
        fence.body,
        Body::Fence {
            snapshot: history.snapshot
        }
    );
    // Two checkpoints are kept, and what their chains need.
    let kept: Vec<_> = history
        .commits
        .iter()
        .map(|commit| commit.epoch.0)
        .collect();
    assert_eq!(kept, [39, 40]);
    assert_eq!(store.list("manifest/").await.unwrap().len(), 2);
    assert!(store.list("state/").await.unwrap().len() <= 10);
    drop(owned);
    let next = own(&store, "second").await.unwrap();
    assert_eq!(next.start().unwrap().manifest.epoch, Epoch(40));
}

#[tokio::test]
async fn a_process_that_slept_through_the_truncation_is_fenced() {
    let store = memory("slept");
    let mut asleep = own(&store, "asleep").await.unwrap();
    let claimant = open(&store, "claimant").await.unwrap();
    let mut owned = own(&store, "owner").await.unwrap();
    for _ in 0..40 {
        commit(&mut owned, EpochKind::Checkpoint).await.unwrap();
        owned.retain(&InUse::default()).await.unwrap();
    }
    let free = ObjectName::log(asleep.history().end + 1);
    assert_eq!(
        store.find(&free).await,
        Ok(None),
        "the number is free again"
    );
    let woken = commit(&mut asleep, EpochKind::Checkpoint)
        .await
        .unwrap_err();
    assert_eq!(woken.class, Class::Fenced);
    assert!(
        store.find(&free).await.unwrap().is_some(),
        "it has created its entry"
    );
    // Nobody takes it for part of the log, and it is swept.
    let history = read_history(&store).await.unwrap();
    assert_eq!(history, *owned.history());
    let take_over = ClaimRequest {
        take_over: true,
        ..request()
    };
    let Ok(Claimed::Owner(mut claimant)) = claimant.claim(take_over).await else {
        panic!("a claim from an old view succeeds after all");
    };
    assert_eq!(claimant.generation(), Generation(3));
    for _ in 0..10 {
        commit(&mut claimant, EpochKind::Checkpoint).await.unwrap();
        claimant.retain(&InUse::default()).await.unwrap();
    }
    assert_eq!(store.find(&free).await, Ok(None));
}

#[tokio::test]
async fn the_hint_is_never_believed() {
    let store = memory("hint");
    let mut owned = own(&store, "one").await.unwrap();
    for _ in 0..3 {
        commit(&mut owned, EpochKind::Checkpoint).await.unwrap();
    }
    let history = owned.history().clone();
    let hint = |end| super::HINT.encode(&super::Hint { end }).unwrap();
    let lies = [0, 1, 3, 4, 5, 1000, u64::MAX].map(hint);
    for lie in lies.into_iter().chain([Bytes::from_static(b"damaged")]) {
        store.advise(&ObjectName::hint(), lie).await.unwrap();
        assert_eq!(read_history(&store).await, Ok(history.clone()));
    }
}

#[tokio::test]
async fn of_starts_at_the_same_time_one_wins() {
    let (store, _folder) = directory();
    let mut starts = Vec::new();
    for run in ["a", "b", "c", "d"] {
        starts.push(open(&store, run).await.unwrap());
    }
    let claims = starts.into_iter().map(|log| log.claim(request()));
    let claims = futures::future::join_all(claims).await;
    let mut owners = 0;
    for claim in &claims {
        match claim {
            Ok(_) => owners += 1,
            Err(refused) => assert_eq!(refused.class, Class::Unavailable, "{refused}"),
        }
    }
    assert_eq!(owners, 1);
}
