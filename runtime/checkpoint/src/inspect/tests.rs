//! What is told of a job, whole and damaged.

use bytes::Bytes;
use serde_json::json;
use thalweg_stream::sink::{StageStore, StagedObject};
use thalweg_stream::{Epoch, EpochKind};

use super::{Content, list, show, verify};
use crate::error::Error;
use crate::log::read_history;
use crate::log::tests::{commit, own};
use crate::name::ObjectName;
use crate::outbox::Outbox;
use crate::publish::{SinkRecord, StagePlace};
use crate::restore::{RestoreFrom, latest_restorable};
use crate::retention::InUse;
use crate::store::{Access, Store};

/// A job with three checkpoints, the second a savepoint, the last with staged output.
async fn job(name: &str) -> Store {
    let store = Store::open(&format!("memory://inspect-{name}"), Access::Create).unwrap();
    let mut owned = own(&store, "one").await.unwrap();
    commit(&mut owned, EpochKind::Checkpoint).await.unwrap();
    commit(&mut owned, EpochKind::Savepoint).await.unwrap();
    let content = Bytes::from_static(b"rows");
    let staged = StagedObject {
        name: "documents/3-0-0-g1".to_owned(),
        epoch: Epoch(3),
        worker: 0,
        sequence: 0,
        bytes: 4,
        crc32: crc32fast::hash(&content),
        rows: 1,
        note: json!(null),
    };
    Outbox::new(store.clone())
        .put(&staged.name, content)
        .await
        .unwrap();
    let current = owned.history().current().unwrap().clone();
    let before = crate::restore::read_manifest(&store, &current)
        .await
        .unwrap();
    let mut manifest = owned.manifest(Epoch(3), EpochKind::Checkpoint);
    manifest.state = before.state;
    let mut sink = SinkRecord::new(StagePlace::Outbox);
    sink.stage(Epoch(3), vec![staged], None, owned.lineage(), 0);
    manifest.sinks.insert("documents".to_owned(), sink);
    owned.commit(&manifest).await.unwrap();
    store
}

#[tokio::test]
async fn checkpoints_are_listed_and_shown() {
    let store = job("list").await;
    let found = list(&store).await.unwrap();
    assert_eq!((found.job.as_str(), found.log_end), ("job", 4));
    assert_eq!(found.heartbeat.unwrap().run, "one");
    let json = serde_json::to_value(&found.checkpoints).unwrap();
    let told = |at: usize, key: &str| json[at][key].clone();
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert_eq!(told(1, "savepoint"), json!(true));
    assert_eq!(
        (told(1, "current"), told(2, "current")),
        (json!(false), json!(true))
    );
    assert_eq!(
        (told(2, "unpublished"), told(2, "parts")),
        (json!(1), json!(2))
    );

    let newest = show(&store, None).await.unwrap();
    assert_eq!(newest.summary.epoch, Epoch(3));
    let state = &newest.states["count"];
    assert_eq!((state.base_bytes, state.delta_bytes), (100, 100));
    let chosen = show(&store, Some(Epoch(1))).await.unwrap();
    assert_eq!(chosen.manifest.epoch, Epoch(1));
    let unknown = show(&store, Some(Epoch(9))).await.unwrap_err();
    assert!(matches!(unknown, Error::NoSuchEpoch { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_that_a_running_job_removes_are_not_damaged() {
    let store = job("running").await;
    let mut running = own(&store, "two").await.unwrap();
    let job = tokio::spawn(async move {
        for _ in 0..300 {
            commit(&mut running, EpochKind::Checkpoint).await.unwrap();
            running.retain(&InUse::default()).await.unwrap();
        }
    });
    let mut removed = 0;
    while !job.is_finished() {
        let found = list(&store).await.unwrap();
        for checkpoint in &found.checkpoints {
            assert!(matches!(checkpoint.content, Content::Whole { .. }));
            match show(&store, Some(checkpoint.epoch)).await {
                Ok(detail) => assert_eq!(detail.summary.epoch, checkpoint.epoch),
                Err(Error::NoSuchEpoch { .. }) => removed += 1,
                Err(error) => panic!("{error}"),
            }
        }
        show(&store, None).await.unwrap();
        let verified = verify(&store).await.unwrap();
        assert_eq!(verified.damage, []);
    }
    job.await.unwrap();
    println!("{removed} were removed before they were shown");
}

#[tokio::test]
async fn a_store_without_a_job_says_so() {
    let store = Store::open("memory://inspect-empty", Access::Create).unwrap();
    assert!(matches!(list(&store).await, Err(Error::NoStore { .. })));
    assert!(matches!(verify(&store).await, Err(Error::NoStore { .. })));
}

#[tokio::test]
async fn verification_reads_every_byte_and_names_what_is_damaged() {
    let store = job("verify").await;
    let sound = verify(&store).await.unwrap();
    assert!(sound.sound(), "{:?}", sound.damage);
    assert_eq!((sound.checkpoints, sound.parts, sound.staged), (3, 2, 1));
    for (object, epochs) in [
        ("manifest/2-g1.json", vec![2]),
        ("state/1-g1/w0", vec![1, 2, 3]),
        ("state/2-g1/w0", vec![2, 3]),
        ("outbox/documents/3-0-0-g1", vec![3]),
    ] {
        let name = ObjectName::listed(object);
        let whole = store.get(&name).await.unwrap();
        for damaged in [None, Some(whole.slice(1..)), Some(Bytes::new())] {
            match damaged {
                Some(bytes) => store.put(&name, bytes).await.unwrap(),
                None => store.delete(&name).await.unwrap(),
            }
            let found = verify(&store).await.unwrap().damage;
            assert_eq!(found.len(), 1, "{object}: {found:?}");
            assert_eq!(found[0].object, name);
            let found: Vec<_> = found[0].epochs.iter().map(|epoch| epoch.0).collect();
            assert_eq!(found, epochs, "{object}");
        }
        store.put(&name, whole).await.unwrap();
    }
    // Listing goes on where a manifest is damaged.
    store
        .delete(&ObjectName::listed("manifest/2-g1.json"))
        .await
        .unwrap();
    let json = serde_json::to_value(list(&store).await.unwrap()).unwrap();
    assert_eq!(
        json["checkpoints"][1]["damage"],
        json!("manifest/2-g1.json is missing")
    );
}

/// Every object of a small store with every bit flipped, with every length, and in the place of
/// every other of its kind: told by the verification, and never what a start goes on from.
#[tokio::test]
async fn every_bit_every_length_and_every_swap_is_found() {
    let store = job("bits").await;
    let mut names = Vec::new();
    for prefix in ["log/", "manifest/", "state/", "outbox/"] {
        let listed = store.list(prefix).await.unwrap();
        names.extend(listed.into_iter().map(|found| found.name));
    }
    assert_eq!(names.len(), 4 + 3 + 2 + 1, "{names:?}");
    let mut whole = Vec::new();
    for name in &names {
        whole.push(store.get(name).await.unwrap());
    }
    let mut checked = 0_u32;
    for (name, bytes) in names.iter().zip(&whole) {
        let flipped = (0..bytes.len() * 8).map(|bit| {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            Bytes::from(damaged)
        });
        let cut = (0..bytes.len()).map(|length| bytes.slice(..length));
        let longer = [[&bytes[..], &[0]].concat().into()];
        let others = (whole.iter()).filter(|other| *other != bytes).cloned();
        for damaged in flipped.chain(cut).chain(longer).chain(others) {
            store.put(name, damaged).await.unwrap();
            checked += 1;
            match verify(&store).await {
                Ok(found) => {
                    assert!(!found.sound(), "{name}: damage {checked} is not found");
                    assert!(found.damage.iter().all(|damage| damage.object == *name));
                    let needed: Vec<_> = (found.damage.iter())
                        .flat_map(|damage| damage.epochs.clone())
                        .collect();
                    assert_eq!(refused(&store).await, needed, "{name}: damage {checked}");
                }
                // Of a damaged log nothing is known, and nothing is started.
                Err(error) => {
                    assert!(name.as_str().starts_with("log/"), "{name}: {error}");
                    assert!(error.to_string().contains(name.as_str()), "{error}");
                    assert_eq!(read_history(&store).await.unwrap_err(), error);
                }
            }
        }
        store.put(name, bytes.clone()).await.unwrap();
    }
    assert!(verify(&store).await.unwrap().sound());
    assert_eq!(refused(&store).await, []);
    assert!(checked > 20_000, "{checked}");
}

/// The checkpoints from which a start does not go on, or whose output it does not publish.
async fn refused(store: &Store) -> Vec<Epoch> {
    let history = read_history(store).await.unwrap();
    let outbox = Outbox::new(store.clone());
    let mut refused = Vec::new();
    for epoch in history.commits.iter().map(|commit| commit.epoch) {
        let from = RestoreFrom::Epoch(epoch);
        let sound = match latest_restorable(store, &history, from, false).await {
            Ok(start) => {
                let manifest = start.expect("an epoch that is kept").manifest;
                let staged = manifest.sinks.values().flat_map(SinkRecord::in_outbox);
                let read = staged.map(async |object| outbox.get(object).await.is_ok());
                futures::future::join_all(read)
                    .await
                    .iter()
                    .all(|read| *read)
            }
            Err(_) => false,
        };
        if !sound {
            refused.push(epoch);
        }
    }
    refused
}
