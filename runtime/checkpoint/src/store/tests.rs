//! Both stores keep the same promises.

use std::sync::Arc;

use super::{Access, Effect, EffectKind, Faults, Moment, Payload, Store, Verdict};
use crate::error::Error;
use crate::name::ObjectName;
use bytes::Bytes;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// A store of each kind; the folder lives as long as the second part.
fn stores(test: &str) -> Vec<(Store, Option<tempfile::TempDir>)> {
    let memory = Store::open(&format!("memory://store-{test}"), Access::Create).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    let directory = Store::open(path.to_str().unwrap(), Access::Create).unwrap();
    vec![(memory, None), (directory, Some(folder))]
}

#[tokio::test]
async fn objects_are_written_read_listed_and_deleted() {
    for (store, _folder) in stores("objects") {
        let name = ObjectName::listed("state/7-g1/w0");
        assert_eq!(store.find(&name).await, Ok(None));
        assert!(matches!(store.get(&name).await, Err(Error::Missing { .. })));
        let pieces = Payload::from([bytes("hello "), bytes("world")]);
        store.put(&name, pieces).await.unwrap();
        assert_eq!(store.get(&name).await, Ok(bytes("hello world")));
        assert_eq!(store.length(&name).await, Ok(11));
        let ranges = store.get_ranges(&name, &[0..5, 6..11]).await;
        assert_eq!(ranges, Ok(vec![bytes("hello"), bytes("world")]));
        assert!(store.get_ranges(&name, &[0..5, 6..12]).await.is_err());
        store.put(&name, bytes("again")).await.unwrap();
        store.put(&ObjectName::log(1), bytes("x")).await.unwrap();
        let listed = store.list("state/").await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].name.clone(), listed[0].bytes), (name.clone(), 5));
        store.delete(&name).await.unwrap();
        store.delete(&name).await.unwrap();
        assert_eq!(store.list("state/").await, Ok(vec![]));
        assert_eq!(store.effects(), 5);
    }
}

#[tokio::test]
async fn of_many_creators_exactly_one_succeeds() {
    for (store, _folder) in stores("creators") {
        let name = ObjectName::log(1);
        let creators = (0..8).map(|i| {
            let (store, name) = (store.clone(), name.clone());
            tokio::spawn(async move { store.put_if_absent(&name, Bytes::from(vec![i; 9])).await })
        });
        let mut winners = 0;
        for creator in creators.collect::<Vec<_>>() {
            match creator.await.unwrap() {
                Ok(()) => winners += 1,
                Err(error) => assert!(matches!(error, Error::AlreadyExists { .. }), "{error}"),
            }
        }
        assert_eq!(winners, 1);
        let content = store.get(&name).await.unwrap();
        assert!(content.iter().all(|&b| b == content[0]));
    }
}

#[tokio::test]
async fn the_log_is_listed_beyond_a_number() {
    for (store, _folder) in stores("log") {
        assert_eq!(store.list_log(0).await, Ok(vec![]));
        for number in [1, 2, 3, 10, 100] {
            let name = ObjectName::log(number);
            store.put_if_absent(&name, bytes("x")).await.unwrap();
        }
        let beyond = store.list_log(2).await.unwrap();
        let names: Vec<_> = beyond.into_iter().map(|l| l.name).collect();
        assert_eq!(names, [3, 10, 100].map(ObjectName::log));
    }
}

#[tokio::test]
async fn advisory_objects_are_no_effects_and_leave_no_litter() {
    for (store, folder) in stores("advisory") {
        let name = ObjectName::heartbeat();
        store.advise(&name, bytes("one")).await.unwrap();
        store.advise(&name, bytes("two")).await.unwrap();
        assert_eq!(store.get(&name).await, Ok(bytes("two")));
        assert_eq!(store.effects(), 0);
        if let Some(folder) = folder {
            let litter = std::fs::read_dir(folder.path().join("a/b/.tmp")).unwrap();
            assert_eq!(litter.count(), 0);
        }
    }
}

#[derive(Debug)]
struct At(u64, Moment, Verdict);

impl Faults for At {
    fn at(&self, effect: &Effect, moment: Moment) -> Verdict {
        if (effect.number, moment) == (self.0, self.1) {
            return self.2;
        }
        Verdict::Proceed
    }
}

#[tokio::test]
async fn effects_fail_before_lose_their_reply_after_and_end_the_handle() {
    for (store, folder) in stores("faults") {
        let name = ObjectName::log(1);
        let through = |moment, verdict| store.with_faults(Arc::new(At(1, moment, verdict)));

        let failing = through(Moment::Before, Verdict::Fail);
        assert!(failing.put(&name, bytes("a")).await.unwrap_err().passing());
        assert_eq!(store.find(&name).await, Ok(None));

        let losing = through(Moment::After, Verdict::Fail);
        assert!(losing.put(&name, bytes("b")).await.unwrap_err().passing());
        assert_eq!(store.find(&name).await, Ok(Some(bytes("b"))));

        let ended = through(Moment::After, Verdict::End);
        let end = Err(Error::Ended {
            name: name.to_string(),
        });
        assert_eq!(ended.put(&name, bytes("c")).await, end);
        assert_eq!(ended.get(&name).await.map(drop), end);
        assert_eq!(store.find(&name).await, Ok(Some(bytes("c"))));

        if folder.is_some() {
            let synced = through(Moment::Synced, Verdict::End);
            assert_eq!(synced.put(&name, bytes("d")).await, end);
            assert_eq!(store.find(&name).await, Ok(Some(bytes("c"))));
            let visible = through(Moment::Visible, Verdict::End);
            assert_eq!(visible.put(&name, bytes("e")).await, end);
            assert_eq!(store.find(&name).await, Ok(Some(bytes("e"))));
            store.sweep_temporary().await.unwrap();
        }
    }
}

#[tokio::test]
async fn effects_are_told_to_the_hook_by_number_kind_and_name() {
    #[derive(Debug, Default)]
    struct Told(std::sync::Mutex<Vec<(u64, EffectKind, String)>>);
    impl Faults for Told {
        fn at(&self, effect: &Effect, moment: Moment) -> Verdict {
            if moment == Moment::Before {
                let told = (effect.number, effect.kind, effect.name.to_string());
                self.0.lock().unwrap().push(told);
            }
            Verdict::Proceed
        }
    }
    let store = Store::open("memory://store-told", Access::Create).unwrap();
    let told = Arc::new(Told::default());
    let store = store.with_faults(Arc::clone(&told) as Arc<dyn Faults>);
    let name = ObjectName::log(1);
    store.put_if_absent(&name, bytes("a")).await.unwrap();
    store.put(&name, bytes("b")).await.unwrap();
    store.delete(&name).await.unwrap();
    let name = name.to_string();
    assert_eq!(
        *told.0.lock().unwrap(),
        [
            (1, EffectKind::PutIfAbsent, name.clone()),
            (2, EffectKind::Put, name.clone()),
            (3, EffectKind::Delete, name),
        ]
    );
}

#[test]
fn locations_are_understood_or_refused() {
    let open = |location: &str| Store::open(location, Access::Existing).map(drop);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(open(path), Ok(()));
    assert_eq!(open(&format!("file://{path}")), Ok(()));
    let nowhere = open(&format!("{path}/nowhere"));
    assert!(matches!(nowhere, Err(Error::NoStore { .. })));
    for wrong in ["", "memory://", "file://host/path"] {
        assert!(
            matches!(open(wrong), Err(Error::BadLocation { .. })),
            "{wrong}"
        );
    }
    for later in ["az://container/p?sig=SECRET", "s3://bucket/p"] {
        let refused = open(later).unwrap_err().to_string();
        assert!(refused.ends_with("not supported yet"), "{refused}");
        assert!(!refused.contains("SECRET"));
    }
}

#[tokio::test]
async fn names_cannot_leave_the_store() {
    for (store, _folder) in stores("names") {
        for wrong in ["outbox/../../x", "outbox//x", "outbox/a b", "outbox/ä"] {
            let put = store.put(&ObjectName::listed(wrong), bytes("x")).await;
            assert!(matches!(put, Err(Error::Bug(_))), "{wrong}: {put:?}");
        }
    }
}
