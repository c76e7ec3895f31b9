//! Which files a source reads: those that it lists, and those that a checkpoint has.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use thalweg_stream::clock::SystemClock;
use thalweg_stream::source::SplitSpec;
use thalweg_stream::{Class, Source};

use super::{FileSource, FileSourceOptions, folder};
use crate::identity::Followed;

fn source(folder: &Path, path: &str) -> FileSource {
    let options = FileSourceOptions::new(folder, path);
    FileSource::new(options, Arc::new(SystemClock::new())).unwrap()
}

fn follows(folder: &Path, path: &str) -> FileSource {
    let mut options = FileSourceOptions::new(folder, path);
    options.follow = true;
    FileSource::new(options, Arc::new(SystemClock::new())).unwrap()
}

#[tokio::test]
async fn the_list_of_the_first_start_stands() {
    let folder = folder(&[("b.json", b"b\n"), ("a.json", b"a\n")]);
    let source = source(folder.path(), "*.json");
    let first = source.discover(&[]).await.unwrap();
    let names: Vec<&str> = first.iter().map(|split| &*split.name).collect();
    assert_eq!(names, ["a.json", "b.json"]);
    fs::write(folder.path().join("0.json"), "new\n").unwrap();
    fs::remove_file(folder.path().join("a.json")).unwrap();
    assert_eq!(source.discover(&first).await.unwrap(), first);
}

#[tokio::test]
async fn files_of_another_path_are_not_recognized_unless_they_are_followed() {
    let folder = folder(&[("a.json", b"a\n")]);
    let (list, other) = (
        source(folder.path(), "*.json"),
        source(folder.path(), "0.*"),
    );
    let listed = list.discover(&[]).await.unwrap();
    // What a source that followed them has noted: the file is known by its path, not by its name.
    let mut met = follows(folder.path(), "a.*").discover(&[]).await.unwrap();
    met[0].name = "a.json (2)".into();
    for known in [&listed[0], &met[0]] {
        assert_eq!(list.recognize(known), Ok(()));
        let fault = other
            .recognize(known)
            .expect_err("it would be read in its place");
        assert_eq!(fault.class, Class::User);
        let said = "file: the checkpoint has read \"a.json\", which is none of \"0.*\"";
        assert_eq!(fault.message, said);
        assert_eq!(follows(folder.path(), "0.*").recognize(known), Ok(()));
    }
    let partition = SplitSpec {
        name: "a.json".into(),
        detail: serde_json::json!({ "topic": "a" }),
    };
    for source in [list, follows(folder.path(), "*.json")] {
        let fault = source.recognize(&partition).expect_err("no file");
        let said = "file: the checkpoint describes \"a.json\" as no version of this source does";
        assert_eq!(fault.message, said);
    }
}

#[tokio::test]
async fn no_match_is_the_users_fault_and_names_the_pattern() {
    let folder = folder(&[]);
    let fault = source(folder.path(), "in/*.json")
        .discover(&[])
        .await
        .unwrap_err();
    assert_eq!(fault.class, Class::User);
    assert_eq!(fault.message, "file: no file matches \"in/*.json\"");
}

#[tokio::test]
async fn files_that_were_listed_without_being_followed_are_known_when_they_are() {
    let folder = folder(&[("a.log", b"a\n"), ("b.log", b"b\n")]);
    let listed = source(folder.path(), "*.log").discover(&[]).await.unwrap();
    let follows = follows(folder.path(), "*.log");
    assert!(!follows.bounded());
    let known = follows.discover(&listed).await.unwrap();
    let names = |splits: &[SplitSpec]| splits.iter().map(|at| at.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&known), names(&listed));
    fs::rename(folder.path().join("a.log"), folder.path().join("c.log")).unwrap();
    assert_eq!(follows.discover(&known).await.unwrap(), known);
    // And back: a file is found under its new name.
    let at = |split: &SplitSpec| Followed::of(split).unwrap().locate(folder.path()).unwrap();
    assert_eq!(at(&known[0]), Some(folder.path().join("c.log")));
    assert_eq!(at(&known[1]), Some(folder.path().join("b.log")));
}
