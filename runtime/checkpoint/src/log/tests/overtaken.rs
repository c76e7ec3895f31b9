//! Starts and owners that find the log further than they knew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thalweg_stream::{Class, Epoch, EpochKind, Generation};

use super::{commit, memory, open, own, request};
use crate::log::{ClaimRequest, Claimed, OwnedLog};
use crate::restore::RestoreFrom;
use crate::retention::InUse;
use crate::store::{Effect, Faults, Moment, Store, Verdict};

/// Commits until retention has deleted what was there before.
async fn go_on(owned: &mut OwnedLog) {
    for _ in 0..3 {
        commit(owned, EpochKind::Checkpoint).await.unwrap();
        owned.retain(&InUse::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_start_whose_checkpoint_is_deleted_before_it_claims_begins_anew() {
    let store = memory("overtaken");
    let mut first = own(&store, "first").await.unwrap();
    commit(&mut first, EpochKind::Checkpoint).await.unwrap();
    let asleep = |run| open(&store, run);
    let (one, other) = (asleep("one").await.unwrap(), asleep("other").await.unwrap());
    let (third, late) = (
        asleep("third").await.unwrap(),
        asleep("late").await.unwrap(),
    );
    // The same owner goes on: nobody else has begun.
    go_on(&mut first).await;
    let take_over = ClaimRequest {
        take_over: true,
        ..request()
    };
    let Claimed::Owner(mut second) = one.claim(take_over.clone()).await.unwrap() else {
        panic!("it has not finished");
    };
    let start = second.start().map(|start| start.manifest.epoch);
    assert_eq!(
        (second.generation(), start),
        (Generation(2), Some(Epoch(4)))
    );
    // Another one has: it is taken over, too, but only if that is what is wanted.
    go_on(&mut second).await;
    second.abandon().await;
    let refused = third.claim(request()).await.unwrap_err();
    assert_eq!(
        (refused.class, &*refused.message),
        (
            Class::Unavailable,
            "job \"job\" is already running on host host-of-one, process 7; \
             stop it, or take over with --take-over"
        )
    );
    let chosen = ClaimRequest {
        from: RestoreFrom::Epoch(Epoch(1)),
        ..take_over.clone()
    };
    let gone = open(&store, "chooser").await.unwrap().claim(chosen).await;
    assert_eq!(gone.unwrap_err().class, Class::User);
    let Claimed::Owner(last) = other.claim(take_over).await.unwrap() else {
        panic!("it has not finished");
    };
    let start = last.start().map(|start| start.manifest.epoch);
    assert_eq!((last.generation(), start), (Generation(3), Some(Epoch(7))));
    // One that has stopped meanwhile is no rival.
    last.stop().await.unwrap();
    let Claimed::Owner(calm) = late.claim(request()).await.unwrap() else {
        panic!("it has not finished");
    };
    assert_eq!(calm.generation(), Generation(4));
}

/// A store that ends once it is told to.
#[derive(Debug, Default)]
struct Outage(AtomicBool);

impl Faults for Outage {
    fn at(&self, _: &Effect, _: Moment) -> Verdict {
        Verdict::Proceed
    }

    fn read(&self, _: &str) -> Verdict {
        match self.0.load(Ordering::Relaxed) {
            true => Verdict::End,
            false => Verdict::Proceed,
        }
    }
}

#[tokio::test]
async fn that_a_successor_could_not_be_looked_for_is_told() {
    let store: Store = memory("outage");
    let outage = Arc::new(Outage::default());
    let faulty = store.with_faults(Arc::clone(&outage) as Arc<dyn Faults>);
    let mut old = own(&faulty, "old").await.unwrap();
    own(&store, "new").await.unwrap();
    assert!(old.successor().await.unwrap().is_some());
    outage.0.store(true, Ordering::Relaxed);
    let unread = old.successor().await.unwrap_err();
    assert_eq!(unread.class, Class::Unavailable);
    drop(commit(&mut old, EpochKind::Checkpoint).await.unwrap_err());
}
