//! The dead-letter file over crashes, limits, and other hands on it.

mod frozen;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use thalweg_stream::epoch::{Generation, Lineage};
use thalweg_stream::sink::{PublishUnit, Released, SinkContext, StageStore, StagedObject};
use thalweg_stream::{Class, Epoch, Fault, Figures, Publisher, Sink};

use super::{DeadLetterFile, DeadLetterFileOptions, WhenFull};
use crate::sink::tests::{context, encoders};

/// The outbox.
#[derive(Default)]
struct Outbox(Mutex<BTreeMap<String, Bytes>>);

#[async_trait]
impl StageStore for Outbox {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        self.0.lock().unwrap().insert(name.to_owned(), bytes);
        Ok(())
    }
    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault> {
        let found = self.0.lock().unwrap().get(&object.name).cloned();
        found.ok_or_else(|| Fault::transient("the outbox is not there"))
    }
    async fn delete(&self, name: &str) -> Result<(), Fault> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }
    async fn list(&self, _prefix: &str) -> Result<Vec<String>, Fault> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }
}

/// What a publisher tells metrics of letters that were dropped.
fn dropped(publisher: &dyn Publisher) -> u64 {
    struct Dropped(u64);
    impl Figures for Dropped {
        fn total(&mut self, name: &'static str, labels: &[&str], total: u64) {
            assert_eq!((name, labels), ("dead_letters_dropped_total", &[][..]));
            self.0 = total;
        }
        fn level(&mut self, _: &'static str, _: &[&str], _: f64) {}
        fn fact(&mut self, _: &'static str, _: &[&str]) {}
    }
    let mut told = Dropped(u64::MAX);
    publisher.figures(&mut told);
    told.0
}

/// A job's view of a dead-letter file.
struct Driver {
    folder: tempfile::TempDir,
    sink: DeadLetterFile,
    outbox: Outbox,
}

impl Driver {
    fn new() -> Self {
        Self::limited(1 << 20, WhenFull::Stop)
    }

    fn limited(max_bytes: u64, when_full: WhenFull) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = DeadLetterFileOptions {
            max_bytes,
            when_full,
            ..DeadLetterFileOptions::new(folder.path().join("d.jsonl"))
        };
        Self {
            sink: DeadLetterFile::new(options, encoders()).unwrap(),
            folder,
            outbox: Outbox::default(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("d.jsonl")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn write(&self, content: &str) {
        fs::write(self.file(), content).unwrap();
    }

    fn rotated(&self) -> Option<String> {
        fs::read_to_string(self.folder.path().join("d.jsonl.1")).ok()
    }

    /// A start of the job from what the manifest says.
    async fn start_as(
        &self,
        lineage: &str,
        generation: u64,
        state: &Value,
    ) -> Result<Box<dyn Publisher>, Fault> {
        let context = SinkContext {
            lineage: Lineage(lineage.to_owned()),
            generation: Generation(generation),
            state: state.clone(),
            ..context(lineage)
        };
        self.sink.publisher(context).await
    }

    async fn start(&self, generation: u64, state: &Value) -> Box<dyn Publisher> {
        self.start_as("aa", generation, state).await.unwrap()
    }

    /// Publishes letters as two objects; what the manifest will say.
    async fn publish(
        &self,
        publisher: &dyn Publisher,
        letters: Range<u32>,
    ) -> Result<Value, Fault> {
        let middle = letters.start.midpoint(letters.end);
        let mut objects = Vec::new();
        for (worker, part) in [(0, letters.start..middle), (1, middle..letters.end)] {
            let lines = Bytes::from(lines(part));
            let name = format!("dead/{}-{worker}", letters.start);
            objects.push(StagedObject {
                name: name.clone(),
                epoch: Epoch(u64::from(letters.start)),
                worker,
                sequence: 0,
                bytes: lines.len() as u64,
                crc32: crc32fast::hash(&lines),
                rows: 1,
                note: Value::Null,
            });
            self.outbox.put(&name, lines).await.unwrap();
        }
        objects.reverse();
        let unit = PublishUnit {
            lineage: Lineage("aa".to_owned()),
            epoch: Epoch(u64::from(letters.start)),
            objects,
        };
        let published = publisher
            .publish(&Released::by_commit(unit, 1), &self.outbox)
            .await?;
        Ok(published.state)
    }
}

/// Lines of ten bytes.
fn lines(letters: Range<u32>) -> String {
    letters
        .map(|letter| format!("letter{letter:03}\n"))
        .collect()
}

#[tokio::test]
async fn letters_are_appended_in_order_and_the_state_says_how_long_the_file_is() {
    let driver = Driver::new();
    let publisher = driver.start(1, &Value::Null).await;
    let state = driver.publish(&*publisher, 0..4).await.unwrap();
    assert_eq!(state["length"], 40);
    let state = driver.publish(&*publisher, 4..6).await.unwrap();
    assert_eq!((driver.text(), &state["length"]), (lines(0..6), &60.into()));
    let state = driver.publish(&*publisher, 6..6).await.unwrap();
    assert_eq!((driver.text(), &state["length"]), (lines(0..6), &60.into()));
}

#[tokio::test]
async fn a_unit_given_again_overwrites_whatever_its_first_attempts_left() {
    // For every length at which a crash may have left the file behind the recorded one.
    for left in 0..=60 {
        let driver = Driver::new();
        let publisher = driver.start(1, &Value::Null).await;
        let state = driver.publish(&*publisher, 0..2).await.unwrap();
        let longer = lines(0..2) + &"x".repeat(left);
        driver.write(&longer);
        let publisher = driver.start(2, &state).await;
        driver.publish(&*publisher, 2..5).await.unwrap();
        assert_eq!(driver.text(), lines(0..5), "{left} bytes were left");
    }
}

#[tokio::test]
async fn several_units_given_again_from_an_old_state_are_there_once() {
    let driver = Driver::new();
    for generation in 1..5 {
        // No confirmation ever stood in a manifest.
        let publisher = driver.start(generation, &Value::Null).await;
        for first in 0..3 {
            driver
                .publish(&*publisher, first * 3..first * 3 + 3)
                .await
                .unwrap();
        }
        assert_eq!(driver.text(), lines(0..9));
    }
}

#[tokio::test]
async fn a_file_that_was_there_before_is_appended_to_once() {
    for (before, kept) in [("other\n", "other\n"), ("no line feed", "no line feed\n")] {
        let driver = Driver::new();
        driver.write(before);
        for generation in 1..4 {
            let publisher = driver.start(generation, &Value::Null).await;
            driver.publish(&*publisher, 0..3).await.unwrap();
            assert_eq!(driver.text(), format!("{kept}{}", lines(0..3)));
        }
    }
}

#[tokio::test]
async fn a_file_that_lost_letters_stops_the_job() {
    let driver = Driver::new();
    let publisher = driver.start(1, &Value::Null).await;
    let state = driver.publish(&*publisher, 0..4).await.unwrap();
    driver.write(&lines(0..3));
    for fault in [
        driver.start_as("aa", 2, &state).await.err().unwrap(),
        driver.start_as("aa", 3, &state).await.err().unwrap(),
    ] {
        assert_eq!(fault.class, Class::Corrupt);
        assert!(
            fault
                .message
                .contains("d.jsonl\" has 30 bytes where 40 were written"),
            "{fault}"
        );
    }
    assert_eq!(driver.text(), lines(0..3));
}

#[tokio::test]
async fn a_file_that_was_taken_away_is_begun_anew() {
    for stopped in [false, true] {
        let driver = Driver::new();
        let mut publisher = driver.start(1, &Value::Null).await;
        let mut state = driver.publish(&*publisher, 0..4).await.unwrap();
        fs::remove_file(driver.file()).unwrap();
        if stopped {
            publisher = driver.start(2, &state).await;
        }
        let after = driver.publish(&*publisher, 4..6).await.unwrap();
        assert_eq!((driver.text(), &after["length"]), (lines(4..6), &20.into()));
        // A crash before the confirmation: the manifest still speaks of the file that is away.
        for generation in 3..5 {
            let publisher = driver.start(generation, &state).await;
            state = state.clone();
            driver.publish(&*publisher, 4..6).await.unwrap();
            assert_eq!(driver.text(), lines(4..6));
        }
        let publisher = driver.start(5, &after).await;
        driver.publish(&*publisher, 6..7).await.unwrap();
        assert_eq!(driver.text(), lines(4..7));
    }
}

#[tokio::test]
async fn a_full_file_stops_the_job_and_keeps_every_letter() {
    let driver = Driver::limited(4096, WhenFull::Stop);
    let publisher = driver.start(1, &Value::Null).await;
    driver.publish(&*publisher, 0..400).await.unwrap();
    for _ in 0..2 {
        let fault = driver.publish(&*publisher, 400..410).await.unwrap_err();
        assert_eq!(fault.class, Class::Unavailable);
        let expected = "is full: 4000 bytes and 100 more to write, the limit is 4096";
        assert!(fault.message.contains(expected), "{fault}");
        assert!(fault.message.contains("d.jsonl"), "{fault}");
    }
    assert_eq!(driver.text(), lines(0..400));
    fs::rename(driver.file(), driver.folder.path().join("moved away")).unwrap();
    driver.publish(&*publisher, 400..410).await.unwrap();
    assert_eq!(driver.text(), lines(400..410));
}

#[tokio::test]
async fn the_oldest_letters_are_dropped_and_counted_within_the_limit() {
    let driver = Driver::limited(4096, WhenFull::DropOldest);
    let publisher = driver.start(1, &Value::Null).await;
    let mut state = Value::Null;
    for first in 0..12 {
        state = driver
            .publish(&*publisher, first * 80..first * 80 + 80)
            .await
            .unwrap();
        let rotated = driver.rotated().unwrap_or_default();
        assert!(rotated.len() + driver.text().len() <= 4096);
        let kept = rotated + &driver.text();
        let oldest = first * 80 + 80 - kept.len() as u32 / 10;
        assert_eq!(kept, lines(oldest..first * 80 + 80));
        assert_eq!(dropped(&*publisher), u64::from(oldest));
        assert_eq!(state["dropped"], oldest);
    }
    assert_eq!(state["rotations"], 5);
    // The next start counts its own.
    let publisher = driver.start(2, &state).await;
    assert_eq!(dropped(&*publisher), 0);
}

#[tokio::test]
async fn of_a_unit_that_is_too_large_by_itself_the_newest_letters_are_kept() {
    let driver = Driver::limited(4096, WhenFull::DropOldest);
    let publisher = driver.start(1, &Value::Null).await;
    driver.publish(&*publisher, 0..999).await.unwrap();
    // Half of 4096 bytes hold 204 lines of ten.
    assert_eq!(driver.text(), lines(795..999));
    assert_eq!(dropped(&*publisher), 795);
}

#[tokio::test]
async fn rotation_is_undone_and_done_again_when_units_are_given_again() {
    // `confirmed` of the units stand in the manifest when the crash comes.
    for confirmed in 0..=5u32 {
        let driver = Driver::limited(4096, WhenFull::DropOldest);
        let mut states = vec![Value::Null];
        let publisher = driver.start(1, &Value::Null).await;
        for unit in 0..5 {
            let state = driver
                .publish(&*publisher, unit * 80..unit * 80 + 80)
                .await
                .unwrap();
            states.push(state);
        }
        let before = (driver.rotated(), driver.text());
        assert_eq!(before, (Some(lines(160..320)), lines(320..400)));
        for generation in 2..4 {
            let publisher = driver.start(generation, &states[confirmed as usize]).await;
            for unit in confirmed..5 {
                driver
                    .publish(&*publisher, unit * 80..unit * 80 + 80)
                    .await
                    .unwrap();
            }
            // Where two rotations passed, what was confirmed before them is dropped all the same,
            // and the files are filled from the start.
            let kept = driver.rotated().unwrap() + &driver.text();
            let oldest = 400 - kept.len() as u32 / 10;
            assert_eq!(kept, lines(oldest..400), "{confirmed} confirmed");
            assert!(confirmed == 1 || (driver.rotated(), driver.text()) == before);
        }
    }
}

#[tokio::test]
async fn rotation_goes_on_after_a_crash_at_each_of_its_steps() {
    let journal = |driver: &Driver| driver.folder.path().join(".d.jsonl.journal");
    for step in 0..4 {
        let driver = Driver::limited(4096, WhenFull::DropOldest);
        let publisher = driver.start(1, &Value::Null).await;
        let state = driver.publish(&*publisher, 0..200).await.unwrap();
        let mut half: Value = serde_json::from_slice(&fs::read(journal(&driver)).unwrap()).unwrap();
        // What the steps of the rotation leave: the journal, the rename to the folder of the start,
        // that to the name, the journal again.
        half["rotations"] = 1.into();
        half["phase"] = if step < 3 { "rotating" } else { "settled" }.into();
        fs::write(journal(&driver), half.to_string()).unwrap();
        let way = [".d.jsonl.claim-aa-1/to-rotated", "d.jsonl.1", "d.jsonl.1"];
        if let Some(to) = (step > 0).then(|| way[step - 1]) {
            fs::rename(driver.file(), driver.folder.path().join(to)).unwrap();
        }
        let publisher = driver.start(2, &state).await;
        assert_eq!(
            (driver.text(), driver.rotated()),
            (lines(0..200), None),
            "step {step}"
        );
        driver.publish(&*publisher, 200..210).await.unwrap();
        assert_eq!(
            (driver.text(), driver.rotated()),
            (lines(200..210), Some(lines(0..200)))
        );
        assert_eq!(dropped(&*publisher), 0);
    }
}

#[tokio::test]
async fn another_job_is_refused_while_the_file_is_in_use_and_appends_later() {
    let driver = Driver::new();
    let running = driver.start(7, &Value::Null).await;
    let state = driver.publish(&*running, 0..2).await.unwrap();
    let fault = driver.start_as("bb", 1, &Value::Null).await.err().unwrap();
    assert_eq!(fault.class, Class::User);
    assert!(
        fault.message.contains("is in use by another job"),
        "{fault}"
    );
    drop(running);
    let other = driver.start_as("bb", 1, &Value::Null).await.unwrap();
    driver.publish(&*other, 50..52).await.unwrap();
    drop(other);
    // Back again: what the other wrote is not cut off, though the manifest says 20 bytes.
    let publisher = driver.start(8, &state).await;
    driver.publish(&*publisher, 2..4).await.unwrap();
    assert_eq!(driver.text(), lines(0..2) + &lines(50..52) + &lines(2..4));
}

#[tokio::test]
async fn a_failed_attempt_is_repeated_whole() {
    let driver = Driver::limited(4096, WhenFull::DropOldest);
    let publisher = driver.start(1, &Value::Null).await;
    driver.publish(&*publisher, 0..200).await.unwrap();
    let object = StagedObject {
        name: "nowhere".to_owned(),
        epoch: Epoch(9),
        worker: 9,
        sequence: 0,
        bytes: 100,
        crc32: 0,
        rows: 1,
        note: Value::Null,
    };
    let unit = PublishUnit {
        lineage: Lineage("aa".to_owned()),
        epoch: Epoch(9),
        objects: vec![object],
    };
    // It has rotated by then.
    let unit = Released::by_commit(unit, 1);
    let fault = publisher.publish(&unit, &driver.outbox).await.unwrap_err();
    assert_eq!(fault.class, Class::Transient { after: None });
    driver.publish(&*publisher, 200..210).await.unwrap();
    assert_eq!(
        (driver.text(), driver.rotated()),
        (lines(200..210), Some(lines(0..200)))
    );
}

#[tokio::test]
async fn what_cannot_be_a_dead_letter_file_is_refused() {
    let driver = Driver::new();
    fs::create_dir(driver.file()).unwrap();
    let fault = driver.start_as("aa", 1, &Value::Null).await.err().unwrap();
    assert!(fault.message.contains("must be a regular file"), "{fault}");
    fs::remove_dir(driver.file()).unwrap();
    let newer = serde_json::json!({"version": 2, "owner": "aa", "begun": 1, "rotations": 0,
        "length": 0, "dropped": 0});
    let fault = driver.start_as("aa", 1, &newer).await.err().unwrap();
    assert!(fault.message.contains("newer version"), "{fault}");
    fs::write(driver.folder.path().join(".d.jsonl.journal"), "{").unwrap();
    let fault = driver.start_as("aa", 1, &Value::Null).await.err().unwrap();
    assert_eq!(fault.class, Class::Corrupt, "{fault}");
    let long = "d".repeat(201);
    for (path, max_bytes) in [("d.jsonl", 4095), ("..", 4096), (&*long, 4096)] {
        let options = DeadLetterFileOptions {
            max_bytes,
            ..DeadLetterFileOptions::new(path)
        };
        assert!(DeadLetterFile::new(options, encoders()).is_err());
    }
    assert_eq!(
        "drop-oldest".parse::<WhenFull>().unwrap(),
        WhenFull::DropOldest
    );
    assert!("drop".parse::<WhenFull>().is_err());
}
