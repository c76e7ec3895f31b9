//! Processes that were frozen and thaw beside their successors.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use thalweg_stream::epoch::Generation;
use thalweg_stream::{Class, Fault};

use super::super::place::Place;
use super::super::{DeadLetterFileOptions, WhenFull};
use super::{Driver, lines};
use crate::error::Error;
use crate::sink::tests::context;

/// The place of a start; two units fill the file.
fn place(file: &Path, generation: u64) -> Place {
    let mut context = context("aa");
    context.generation = Generation(generation);
    let options = DeadLetterFileOptions {
        max_bytes: 4096,
        when_full: WhenFull::DropOldest,
        ..DeadLetterFileOptions::new(file)
    };
    Place::new(&options, &context)
}

/// A start that claims the file and publishes units of a hundred letters until it fails, or for so
/// many units.
fn publish(place: &Place, units: u32) -> Result<(), Error> {
    let mut pen = place.claim(None)?;
    for unit in 0..units {
        let text = lines(unit * 100..unit * 100 + 100);
        let append = place.prepare(pen, text.len() as u64)?;
        pen = place.finish(append.write(text.as_bytes())?)?;
    }
    Ok(())
}

/// All that is in the folder but the claims.
fn content(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let mut content: Vec<_> = files
        .map(|file| {
            let text = fs::read_to_string(file.path()).unwrap();
            (file.file_name().into_string().unwrap(), text)
        })
        .collect();
    content.sort();
    content
}

#[test]
fn wherever_a_process_thaws_nothing_of_its_successor_changes() {
    // A start takes about as long as a few fsyncs.
    for round in 0..300 {
        let driver = Driver::new();
        let file = driver.file();
        let (old, new) = (place(&file, 1), place(&file, 2));
        let (ended, after) = std::thread::scope(|scope| {
            let zombie = scope.spawn(|| publish(&old, u32::MAX));
            std::thread::park_timeout(Duration::from_micros(round * 41 % 6_000));
            publish(&new, 3).unwrap();
            let after = content(driver.folder.path());
            (zombie.join().unwrap(), after)
        });
        let fault = Fault::from(ended.unwrap_err());
        assert_eq!(fault.class, Class::Fenced, "round {round}: {fault}");
        assert_eq!(content(driver.folder.path()), after, "round {round}");
        let names: Vec<_> = after.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [".d.jsonl.journal", "d.jsonl", "d.jsonl.1"]);
        assert_eq!(
            (&after[1].1, &after[2].1),
            (&lines(200..300), &lines(0..200))
        );
        drop((old, new));
        assert_eq!(fs::read_dir(driver.folder.path()).unwrap().count(), 3);
    }
}

#[tokio::test]
async fn a_thawed_process_neither_writes_nor_cuts_what_its_successor_wrote() {
    let driver = Driver::new();
    let frozen = driver.start(1, &Value::Null).await;
    let state = driver.publish(&*frozen, 0..2).await.unwrap();
    let successor = driver.start(2, &state).await;
    let state = driver.publish(&*successor, 2..5).await.unwrap();
    for _ in 0..2 {
        let fault = driver.publish(&*frozen, 2..4).await.unwrap_err();
        assert_eq!(fault.class, Class::Fenced, "{fault}");
    }
    let fault = driver.start_as("aa", 1, &Value::Null).await.err().unwrap();
    assert_eq!(fault.class, Class::Fenced, "{fault}");
    assert_eq!(driver.text(), lines(0..5));
    driver.publish(&*successor, 5..6).await.unwrap();
    assert_eq!((driver.text(), &state["length"]), (lines(0..6), &50.into()));
}

#[tokio::test]
async fn a_start_from_an_older_commit_takes_the_file_from_one_that_is_frozen() {
    let driver = Driver::new();
    let frozen = driver.start(1, &Value::Null).await;
    let old = driver.publish(&*frozen, 0..2).await.unwrap();
    driver.publish(&*frozen, 2..5).await.unwrap();
    let successor = driver.start_as("bb", 2, &old).await.unwrap();
    driver.publish(&*successor, 2..3).await.unwrap();
    let fault = driver.publish(&*frozen, 5..9).await.unwrap_err();
    assert_eq!(fault.class, Class::Fenced, "{fault}");
    assert_eq!(driver.text(), lines(0..3));
}

#[tokio::test]
async fn a_start_frozen_before_its_sinks_is_refused_when_another_lineage_has_come_and_gone() {
    let driver = Driver::new();
    let first = driver.start(1, &Value::Null).await;
    let state = driver.publish(&*first, 0..2).await.unwrap();
    drop(first);
    let successor = driver.start_as("bb", 5, &state).await.unwrap();
    driver.publish(&*successor, 2..5).await.unwrap();
    drop(successor);
    let fault = driver.start_as("aa", 4, &state).await.err().unwrap();
    assert_eq!(fault.class, Class::Fenced, "{fault}");
    assert_eq!(driver.text(), lines(0..5));
}

#[tokio::test]
async fn a_process_that_thaws_in_the_middle_of_a_unit_writes_to_nowhere() {
    let driver = Driver::new();
    let (old, new) = (place(&driver.file(), 1), place(&driver.file(), 2));
    let begin = |place: &Place, letters: u32| {
        let append = place.prepare(place.claim(None).unwrap(), 20).unwrap();
        append.write(lines(0..letters).as_bytes()).unwrap()
    };
    let frozen = begin(&old, 1);
    new.finish(begin(&new, 2)).unwrap();
    let thawed = frozen.write(b"XXXXXXXXXXXXXXXXXXXXXXXXXXXXX").unwrap();
    assert_eq!(
        Fault::from(old.finish(thawed).unwrap_err()).class,
        Class::Fenced
    );
    assert_eq!(driver.text(), lines(0..2));
}
