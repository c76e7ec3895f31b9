//! The stage store on a real file system.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use thalweg_stream::sink::{StageStore, StagedObject};
use thalweg_stream::{Class, Epoch};

use super::{FileStageStore, Found, check};

fn object(name: &str, content: &[u8]) -> StagedObject {
    StagedObject {
        name: name.to_owned(),
        epoch: Epoch(1),
        worker: 0,
        sequence: 0,
        bytes: content.len() as u64,
        crc32: crc32fast::hash(content),
        rows: 1,
        note: serde_json::Value::Null,
    }
}

#[tokio::test]
async fn what_is_put_is_listed_read_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStageStore::new(&folder.path().join("not/there/yet"));
    assert_eq!(store.list("").await.unwrap(), Vec::<String>::new());
    for (name, content) in [
        ("out/1-0-0-g1", "old"),
        ("out/1-0-0-g1", "new"),
        ("b/2-0-0-g1", "x"),
    ] {
        store
            .put(name, Bytes::from_static(content.as_bytes()))
            .await
            .unwrap();
    }
    assert_eq!(
        store.list("").await.unwrap(),
        ["b/2-0-0-g1", "out/1-0-0-g1"]
    );
    assert_eq!(store.list("out/").await.unwrap(), ["out/1-0-0-g1"]);
    let staged = object("out/1-0-0-g1", b"new");
    assert_eq!(store.get(&staged).await.unwrap(), "new");
    for _ in 0..2 {
        store.delete("out/1-0-0-g1").await.unwrap();
    }
    let fault = store.get(&staged).await.unwrap_err();
    assert_eq!((fault.class, &*fault.message), {
        (Class::Corrupt, "file: staged \"out/1-0-0-g1\" is missing")
    });
}

#[tokio::test]
async fn every_damaged_byte_and_length_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStageStore::new(folder.path());
    let content = b"some staged lines\n";
    let staged = object("out/o", content);
    store
        .put("out/o", Bytes::from_static(content))
        .await
        .unwrap();
    let path = folder.path().join(".thalweg-stage/out/o");
    for at in 0..content.len() {
        let mut damaged = content.to_vec();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert_eq!(store.get(&staged).await.unwrap_err().class, Class::Corrupt);
        fs::write(&path, &content[..at]).unwrap();
        assert_eq!(store.get(&staged).await.unwrap_err().class, Class::Corrupt);
    }
}

/// What this process has written is not read again to be published, unless somebody has written to
/// it since; another process reads all of it.
#[tokio::test]
async fn only_what_nobody_has_written_to_since_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStageStore::new(folder.path());
    let staged = object("out/o", b"some staged lines\n");
    let path = folder.path().join(".thalweg-stage/out/o");
    let put = || async {
        let content = Bytes::from_static(b"some staged lines\n");
        store.put("out/o", content).await.unwrap();
        fs::metadata(&path).unwrap().modified().unwrap()
    };
    let change = |modified| {
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"other").unwrap();
        file.set_modified(modified).unwrap();
    };
    // A change that nothing tells of shows that the file is not read.
    let modified = put().await;
    change(modified);
    assert_eq!(check(&store, &staged).unwrap(), Found::Intact);
    assert_eq!(check(&store, &staged).unwrap(), Found::Different, "twice");
    put().await;
    fs::write(&path, b"other staged line\n").unwrap();
    assert_eq!(check(&store, &staged).unwrap(), Found::Different);
    let modified = put().await;
    change(modified);
    let restarted = FileStageStore::new(folder.path());
    assert_eq!(check(&restarted, &staged).unwrap(), Found::Different);
    put().await;
    fs::remove_file(&path).unwrap();
    assert_eq!(check(&store, &staged).unwrap(), Found::Missing);
    put().await;
    store.delete("out/o").await.unwrap();
    assert!(store.written().is_empty());
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_listed_and_deleted_as_the_object() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStageStore::new(folder.path());
    store.put("out/a", Bytes::from_static(b"a")).await.unwrap();
    let partial = folder.path().join(".thalweg-stage/out/b.partial");
    fs::write(&partial, "hal").unwrap();
    assert_eq!(store.list("out/").await.unwrap(), ["out/a", "out/b"]);
    store.delete("out/b").await.unwrap();
    assert!(!partial.exists());
    // The same upload again does not trip over it either.
    fs::write(&partial, "hal").unwrap();
    store
        .put("out/b", Bytes::from_static(b"half"))
        .await
        .unwrap();
    assert_eq!(store.list("out/").await.unwrap(), ["out/a", "out/b"]);
}

#[tokio::test]
async fn no_name_leads_out_of_the_store() {
    let store = FileStageStore::new(Path::new("/nonexistent"));
    for name in ["", "../x", "/etc/x", "a/../../x", "./x", "x.partial"] {
        let fault = store.put(name, Bytes::new()).await.unwrap_err();
        assert_eq!(fault.class, Class::Bug, "{name}");
    }
}
