//! The Kafka source against Apache's own broker, by the real binary.
//!
//! One broker serves all cases, one after the other, each with topics of its own.

#![allow(
    clippy::expect_used,
    reason = "what a test finds wrong it says by panicking"
)]

#[path = "kafka/failing.rs"]
mod failing;
#[path = "kafka/heavy.rs"]
mod heavy;
#[path = "kafka/reading.rs"]
mod reading;
#[path = "kafka/resuming.rs"]
mod resuming;
#[path = "kafka/signing.rs"]
mod signing;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use thalweg_tests::kafka::Broker;
use thalweg_tests::process::{Run, Running, until};

/// The broker, and a folder for jobs.
struct Place {
    broker: Broker,
    folder: tempfile::TempDir,
}

type Case = (&'static str, fn(&mut Place));

#[test]
#[allow(clippy::disallowed_methods, reason = "how long each case took is told")]
fn topics_are_read_exactly_once_and_what_is_wrong_is_told() {
    let Some(broker) = Broker::start_if_installed() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut place = Place { broker, folder };
    // Those that kill and freeze the broker come last.
    let cases: Vec<Case> = [
        reading::CASES,
        signing::CASES,
        heavy::CASES,
        failing::CASES,
        resuming::CASES,
    ]
    .concat();
    let only = std::env::var("KAFKA_CASE").ok();
    let mut failed = Vec::new();
    for (name, case) in cases {
        if only.as_deref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| case(&mut place)));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{name}: {word} in {:.1} s", began.elapsed().as_secs_f64());
        if result.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// A job that copies a topic into files.
struct Job {
    folder: PathBuf,
}

impl Place {
    /// A job named as its topic; `options` go on the mapping `kafka`, `metadata` is a mapping's
    /// inside.
    fn job(&self, topic: &str, options: &str, metadata: &str) -> Job {
        let brokers = self.broker.address();
        self.job_at(&brokers, topic, options, metadata)
    }

    fn job_at(&self, brokers: &str, topic: &str, options: &str, metadata: &str) -> Job {
        let folder = self.folder.path().join(format!("{topic}-{}", {
            let made = std::fs::read_dir(self.folder.path()).expect("a folder");
            made.count()
        }));
        std::fs::create_dir_all(&folder).expect("a folder");
        let job = Job { folder };
        job.define(brokers, topic, options, metadata);
        job
    }

    fn lines(&self, name: &str, numbers: std::ops::Range<u64>) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.jsonl"));
        let lines: String = numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect();
        std::fs::write(&path, lines).expect("a file");
        path
    }
}

impl Job {
    fn define(&self, brokers: &str, topic: &str, options: &str, metadata: &str) {
        let text = format!(
            r#"
job: {topic}
settings: {{ checkpoint: {{ every: 100ms, to: ./checkpoints }} }}
sources:
  records:
    kafka:
      brokers: "{brokers}"
      topic: {topic}
      {options}
    format: json
    schema: {{ n: int64 }}
    metadata: {{ partition: partition, offset: offset, {metadata} }}
sinks:
  out: {{ from: records, file: {{ path: ./out, timestamps: unix_ms }} }}
"#
        );
        std::fs::write(self.path(), text).expect("the definition");
    }

    fn path(&self) -> PathBuf {
        self.folder.join("job.yaml")
    }

    fn run(&self, workers: u32) -> Run {
        Run::of(&self.path()).workers(workers)
    }

    /// Runs it to its end, which is a good one.
    fn finish(&self, workers: u32) {
        self.run(workers).end().well();
    }

    /// Runs it; it must end with status 2. What it said.
    fn refused(&self) -> String {
        let ended = self.run(1).end();
        assert_eq!(ended.code, Some(2), "{}", ended.said);
        ended.said
    }

    /// What its last run has said so far.
    fn said(&self) -> String {
        let entries = std::fs::read_dir(&self.folder).expect("the job's folder");
        let runs = entries.filter_map(|entry| {
            let path = entry.expect("an entry").path();
            let run = path.extension()?.to_str()?.strip_prefix("said-")?;
            Some((run.parse::<u32>().ok()?, path.clone()))
        });
        let (_, last) = runs.max().expect("a run");
        std::fs::read_to_string(last).expect("readable")
    }

    /// The rows in its files.
    fn rows(&self) -> Vec<Value> {
        rows_in(&self.folder.join("out"))
    }

    /// Its dead letters.
    fn dead(&self) -> Vec<Value> {
        objects(&self.folder.join("dead-letters.jsonl"))
    }

    /// Waits until it has written so many rows.
    fn until_rows(&self, count: usize) {
        until("rows in files", || self.rows().len() >= count);
    }

    /// Stops it as Ctrl-C does; it must end well.
    fn stop(running: Running) {
        running.signal("TERM");
        running.end().well();
    }

    /// The numbers in its files, in order.
    fn numbers(&self) -> Vec<u64> {
        let rows = self.rows();
        let numbers = rows.iter().map(|row| row["n"].as_u64().expect("a number"));
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        numbers
    }

    /// Each number is there once, and no offset of a partition twice.
    fn holds(&self, numbers: std::ops::Range<u64>) {
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        let mut places: Vec<(u64, u64)> = Vec::new();
        for row in self.rows() {
            let number = |field: &str| row[field].as_u64().expect("a number");
            *seen.entry(number("n")).or_default() += 1;
            places.push((number("partition"), number("offset")));
        }
        let twice: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "more than once: {twice:?}");
        let missing: Vec<u64> = numbers.clone().filter(|n| !seen.contains_key(n)).collect();
        assert!(missing.is_empty(), "missing: {missing:?}");
        assert_eq!(seen.len() as u64, numbers.end - numbers.start);
        let all = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), all, "an offset stands twice");
    }
}

/// The rows in the files of a folder.
fn rows_in(folder: &Path) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let files = entries.map(|entry| entry.expect("an entry").path());
    files
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .flat_map(|path| objects(&path))
        .collect()
}

fn objects(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// A record of a partition.
fn record(partition: u32, value: &Value) -> Value {
    json!({ "partition": partition, "value": value.to_string() })
}
