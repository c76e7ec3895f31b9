//! An end, a failure or a lost reply at every durable effect in the life of a job.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thalweg_stream::{Class, Epoch, EpochKind, Fault};

use super::{commit, directory, memory, own};
use crate::log::{ATTEMPTS_MAX, OwnedLog, Step, read_history};
use crate::retention::InUse;
use crate::store::{Effect, EffectKind, Faults, Moment, Store, Verdict};

/// Ends, fails or loses the reply of one effect.
#[derive(Debug)]
struct Fault1 {
    at: u64,
    moment: Moment,
    verdict: Verdict,
    struck: AtomicU64,
}

impl Faults for Fault1 {
    fn at(&self, effect: &Effect, moment: Moment) -> Verdict {
        if (effect.number, moment) == (self.at, self.moment) {
            self.struck.fetch_add(1, Ordering::Relaxed);
            return self.verdict;
        }
        Verdict::Proceed
    }
}

/// A life of a job: claim, commits with cleaning in between, stop. Returns the epochs committed.
async fn life(store: &Store, committed: &mut Vec<Epoch>) -> Result<(), Fault> {
    let mut owned = own(store, "life").await?;
    for round in 0..5 {
        let kind = if round == 1 {
            EpochKind::Savepoint
        } else {
            EpochKind::Checkpoint
        };
        committed.push(commit(&mut owned, kind).await?);
        owned.retain(&InUse::default()).await?;
    }
    owned.stop().await
}

/// Ends a life at one moment of one effect, and goes on with another. False if the moment never
/// comes.
async fn survives(store: &Store, at: u64, moment: Moment, verdict: Verdict) -> bool {
    let what = format!("effect {at}, {moment:?}, {verdict:?}");
    // Some history first, so that the log is folded and objects are deleted within the life.
    let mut before = Vec::new();
    life(store, &mut before).await.unwrap();
    let fault = Arc::new(Fault1 {
        at,
        moment,
        verdict,
        struck: AtomicU64::new(0),
    });
    let mut committed = Vec::new();
    let faulty = store.with_faults(Arc::clone(&fault) as Arc<dyn Faults>);
    let lived = life(&faulty, &mut committed).await;
    let struck = fault.struck.load(Ordering::Relaxed) > 0;
    match verdict {
        Verdict::End | Verdict::Tear if struck => assert!(lived.is_err(), "{what}"),
        // A failure that passes, or a lost reply, is no reason to give up.
        Verdict::End | Verdict::Tear | Verdict::Fail | Verdict::Proceed => {
            assert_eq!(lived, Ok(()), "{what}")
        }
    }
    // Whatever has happened: the log reads, everything that was committed is there, nothing else
    // is, and the next start goes on from the newest.
    let history = read_history(store).await.unwrap();
    let newest = *committed.last().unwrap_or(before.last().unwrap());
    let grown = history.epoch_max.0 - newest.0;
    assert!(
        grown <= u64::from(struck && verdict == Verdict::End),
        "{what}: {grown}"
    );
    let sound = crate::inspect::verify(store).await.unwrap();
    assert!(sound.sound(), "{what}: {:?}", sound.damage);
    let mut next = own(store, "next").await.unwrap();
    assert_eq!(
        next.start().unwrap().manifest.epoch,
        history.epoch_max,
        "{what}"
    );
    let epoch = commit(&mut next, EpochKind::Checkpoint).await.unwrap();
    assert_eq!(epoch, history.epoch_max.next(), "{what}");
    next.retain(&InUse::default()).await.unwrap();
    // Nothing but what the kept checkpoints need is left.
    let history = next.history().clone();
    let mut needed = BTreeSet::new();
    for kept in &history.commits {
        let manifest = crate::restore::read_manifest(store, kept).await.unwrap();
        needed.extend(manifest.reaches());
    }
    let mut found = BTreeSet::new();
    for prefix in ["manifest/", "state/", "outbox/"] {
        found.extend(
            store
                .list(prefix)
                .await
                .unwrap()
                .into_iter()
                .map(|f| f.name),
        );
    }
    assert_eq!(found, needed, "{what}");
    struck
}

#[tokio::test]
async fn an_end_before_or_after_any_effect_loses_and_repeats_nothing() {
    let mut ends = 0;
    for moment in [Moment::Before, Moment::After] {
        for at in 1.. {
            let store = memory(&format!("end-{moment:?}-{at}"));
            if !survives(&store, at, moment, Verdict::End).await {
                break;
            }
            ends += 1;
        }
    }
    println!("{ends} ends");
    assert!(ends > 60, "{ends}");
}

#[tokio::test]
async fn an_end_within_an_effect_on_disk_loses_and_repeats_nothing() {
    for moment in [Moment::Synced, Moment::Visible] {
        for at in (1..32).step_by(3) {
            let (store, _folder) = directory();
            survives(&store, at, moment, Verdict::End).await;
        }
    }
}

#[tokio::test]
async fn a_failure_or_a_lost_reply_of_any_effect_is_survived() {
    // All at once, as each waits before it repeats its request.
    let mut lives = Vec::new();
    for moment in [Moment::Before, Moment::After] {
        for at in 1..=36 {
            lives.push(async move {
                let store = memory(&format!("fail-{moment:?}-{at}"));
                survives(&store, at, moment, Verdict::Fail).await
            });
        }
    }
    let struck = futures::future::join_all(lives).await;
    let struck = struck.into_iter().filter(|&struck| struck).count();
    assert!(struck > 50, "{struck}");
}

/// Loses the reply of every creation of a log entry from a number on.
#[derive(Debug)]
struct Mute(AtomicU64);

impl Faults for Mute {
    fn at(&self, effect: &Effect, moment: Moment) -> Verdict {
        let creating = effect.kind == EffectKind::PutIfAbsent;
        let left = self.0.load(Ordering::Relaxed);
        if creating && moment == Moment::Before && left > 0 {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return Verdict::Fail;
        }
        Verdict::Proceed
    }
}

/// The request of a commit that its owner has heard nothing of arrives behind its back; gives its
/// number.
async fn arrive(owned: &OwnedLog, store: &Store) -> u64 {
    let Step::Create(late) = owned.log.contender.step() else {
        panic!("the entry is still to be created");
    };
    let encoded = late.encode().unwrap();
    store.put_if_absent(&late.name(), encoded).await.unwrap();
    late.number
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_may_be_repeated_or_followed() {
    let store = memory("unknown");
    let mute = Arc::new(Mute(AtomicU64::new(0)));
    let faulty = store.with_faults(Arc::clone(&mute) as Arc<dyn Faults>);
    let mut owned = own(&faulty, "one").await.unwrap();
    let epoch = owned.first_epoch();
    let manifest = owned.manifest(epoch, EpochKind::Checkpoint);
    mute.0.store(u64::from(ATTEMPTS_MAX), Ordering::Relaxed);
    let unknown = owned.commit(&manifest).await.unwrap_err();
    assert_eq!(unknown.class, Class::Transient { after: None });
    assert!(
        unknown.message.contains("its outcome is unknown"),
        "{unknown}"
    );
    // The request arrives late, behind our back.
    let late = arrive(&owned, &store).await;
    // The same checkpoint again finds that it exists already.
    let number = owned.commit(&manifest).await.unwrap();
    assert_eq!(number.get(), late);

    // A later one follows an earlier one that arrives late.
    let second = owned.manifest(Epoch(5), EpochKind::Checkpoint);
    mute.0.store(u64::from(ATTEMPTS_MAX), Ordering::Relaxed);
    owned.commit(&second).await.unwrap_err();
    let late = arrive(&owned, &store).await;
    let third = owned.manifest(Epoch(6), EpochKind::Checkpoint);
    assert_eq!(owned.commit(&third).await.unwrap().get(), late + 1);
    let epochs: Vec<_> = owned.history().commits.iter().map(|c| c.epoch.0).collect();
    assert_eq!(epochs, [5, 6]);
    assert_eq!(read_history(&store).await.as_ref(), Ok(owned.history()));
    // An epoch that was committed is not committed again.
    let repeated = owned.commit(&second).await.unwrap_err();
    assert_eq!(repeated.class, Class::Bug);
}
