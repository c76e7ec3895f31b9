//! A damaged log, and damaged checkpoints: detected, and never used.

use bytes::Bytes;
use thalweg_stream::{Class, EpochKind};

use super::{claim, commit, directory, memory, own, request};
use crate::error::Error;
use crate::log::{ClaimRequest, Claimed, Entry, read_history};
use crate::name::ObjectName;

#[tokio::test]
async fn a_gap_in_the_log_is_damage() {
    let store = memory("gap");
    let mut owned = own(&store, "one").await.unwrap();
    for _ in 0..3 {
        commit(&mut owned, EpochKind::Checkpoint).await.unwrap();
    }
    store.delete(&ObjectName::log(3)).await.unwrap();
    let missing = read_history(&store).await;
    assert_eq!(
        missing,
        Err(Error::Missing {
            name: ObjectName::log(3).to_string()
        })
    );
}

#[tokio::test]
async fn another_folder_in_the_place_of_the_store_is_noticed_by_the_next_commit() {
    let (store, folder) = directory();
    let mut owned = own(&store, "one").await.unwrap();
    for _ in 0..2 {
        commit(&mut owned, EpochKind::Checkpoint).await.unwrap();
    }
    std::fs::rename(folder.path().join("log"), folder.path().join("away")).unwrap();
    let lost = commit(&mut owned, EpochKind::Checkpoint).await.unwrap_err();
    let expected = format!("{} is missing", ObjectName::log(3));
    assert_eq!((lost.class, &*lost.message), (Class::Corrupt, &*expected));
}

#[tokio::test]
async fn every_flipped_bit_of_an_entry_is_detected() {
    let store = memory("bits");
    let mut owned = own(&store, "one").await.unwrap();
    commit(&mut owned, EpochKind::Checkpoint).await.unwrap();
    for number in [1, 2] {
        let name = ObjectName::log(number);
        let whole = store.get(&name).await.unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = Entry::decode(number, &damaged);
            assert!(
                matches!(read, Err(Error::Corrupt { .. })),
                "entry {number}, bit {bit}"
            );
        }
        for length in 0..whole.len() {
            assert!(
                Entry::decode(number, &whole[..length]).is_err(),
                "length {length}"
            );
        }
        assert!(Entry::decode(number + 1, &whole).is_err(), "swapped");
        let mut damaged = whole.to_vec();
        damaged[whole.len() / 2] ^= 1;
        store.put(&name, Bytes::from(damaged)).await.unwrap();
        let read = read_history(&store).await.unwrap_err();
        assert!(read.to_string().starts_with(name.as_str()), "{read}");
        store.put(&name, whole).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_is_used_by_nobody_and_passed_over_only_if_allowed() {
    let store = memory("damaged");
    let mut owned = own(&store, "one").await.unwrap();
    let older = commit(&mut owned, EpochKind::Savepoint).await.unwrap();
    let newest = commit(&mut owned, EpochKind::Checkpoint).await.unwrap();
    let lineage = owned.lineage().clone();
    drop(owned);
    let current = read_history(&store)
        .await
        .unwrap()
        .current()
        .unwrap()
        .clone();
    let manifest = crate::restore::read_manifest(&store, &current)
        .await
        .unwrap();
    let part = &manifest.state.parts.last().unwrap().name;
    assert_eq!(part.as_str(), format!("state/{newest}-g1/w0"));
    for object in [&current.manifest.name, part] {
        let whole = store.get(object).await.unwrap();
        store
            .put(object, whole.slice(..whole.len() - 1))
            .await
            .unwrap();
        let take_over = ClaimRequest {
            take_over: true,
            ..request()
        };
        let refused = claim(&store, "two", take_over.clone()).await.unwrap_err();
        assert_eq!(refused.class, Class::Corrupt);
        let named = format!("the checkpoint of epoch {newest} cannot be used: {object} ");
        assert!(refused.message.starts_with(&named), "{refused}");
        let way_out = format!("--allow-older goes on from the one of epoch {older}");
        assert!(refused.message.contains(&way_out), "{refused}");
        store.put(object, whole).await.unwrap();
    }
    store.delete(part).await.unwrap();
    let allowed = ClaimRequest {
        take_over: true,
        allow_older: true,
        ..request()
    };
    let Ok(Claimed::Owner(owned)) = claim(&store, "two", allowed).await else {
        panic!("the older checkpoint is whole");
    };
    assert_eq!(owned.start().unwrap().manifest.epoch, older);
    assert_ne!(owned.lineage(), &lineage);
}
