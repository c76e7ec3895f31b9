//! A record that ends every attempt, in files that are followed: it is named, what was confirmed before
//! it stays, and without what ended the attempts the job goes on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::Value;

use super::{Job, Process, status, thalweg, until};

/// Records of each file before the record, and as many after it.
const RECORDS: u32 = 400;
/// What the record is known by.
const POISON: &str = "poison";
const FAILPOINT: &str = "record.once:poison:panic";

const JOB: &str = r#"
job: blamed
settings:
  checkpoint: { every: 100ms, to: ./checkpoints }
  restart: { attempts: 9, delay: 20ms }
sources:
  reports:
    file: { path: "in/*.jsonl", follow: true }
    schema:
      device_id: { type: string, required: true }
      ts: { type: timestamp, required: true }
      seq: int64
      note: string
    event_time: { column: ts, out_of_order: 1h }
steps:
  once: { from: reports, dedup: { by: [device_id, seq], within: 1d, same_time: true } }
sinks:
  rows: { from: once, file: { path: ./out } }
"#;

/// What a file has from one of its records on; every tenth record is there twice, and the first of
/// all once more in each part.
fn records(device: &str, numbers: std::ops::Range<u32>, noted: Option<u32>) -> String {
    let mut text = String::new();
    let mut add = |seq: u32| {
        let note = match noted == Some(seq) {
            true => POISON,
            false => "fine",
        };
        let second = seq % 60;
        let ts = format!("2026-03-01T00:00:{second:02}Z");
        writeln!(
            text,
            r#"{{"device_id":"{device}","ts":"{ts}","seq":{seq},"note":"{note}"}}"#
        )
        .expect("a string takes all");
    };
    add(0);
    for seq in numbers {
        add(seq);
        if seq % 10 == 0 && noted != Some(seq) {
            add(seq);
        }
    }
    text
}

fn append(job: &Job, file: &str, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = (options.create(true).append(true))
        .open(job.path("in").join(file))
        .expect("a file");
    file.write_all(text.as_bytes()).expect("written");
}

fn start(job: &Job, workers: &str, failpoint: Option<&str>) -> Process {
    let mut command = thalweg();
    command.arg("run").arg(job.path("job.yaml"));
    command.args(["--workers", workers, "--listen", "127.0.0.1:0"]);
    if let Some(failpoint) = failpoint {
        command.env("THALWEG_FAILPOINT", failpoint);
    }
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    Process(Some(command.spawn().expect("the binary starts")))
}

/// The files that are published, by name.
fn published(job: &Job) -> BTreeMap<std::path::PathBuf, String> {
    let entries = std::fs::read_dir(job.path("out")).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("an entry").path());
    (paths.filter(|path| path.is_file()))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("text");
            (path, text)
        })
        .collect()
}

/// Device and number of all rows that are published, in order.
fn rows(job: &Job) -> Vec<(String, u64)> {
    let texts = published(job).into_values();
    let lines = texts.flat_map(|text| super::parsed(&text).collect::<Vec<_>>());
    let mut rows: Vec<_> = lines
        .map(|line| {
            let device = line["device_id"].as_str().expect("a device");
            (device.to_owned(), line["seq"].as_u64().expect("a number"))
        })
        .collect();
    rows.sort();
    rows
}

fn expected(numbers: u32) -> Vec<(String, u64)> {
    let of =
        |device: &'static str| (0..numbers).map(move |seq| (device.to_owned(), u64::from(seq)));
    of("a").chain(of("b")).collect()
}

/// The name of the split of a file.
fn split_of(status: &Value, file: &str) -> Option<String> {
    let nodes = status["nodes"].as_array().expect("nodes");
    let source = nodes.iter().find(|node| node["name"] == "reports");
    let splits = source?["splits"].as_array()?.iter();
    let mut names = splits.filter_map(|split| split["name"].as_str());
    (names.find(|name| name.contains(file))).map(ToOwned::to_owned)
}

#[test]
fn a_record_that_ends_every_attempt_is_named_and_without_its_cause_the_job_goes_on() {
    for workers in ["1", "2"] {
        let job = Job::new(JOB);
        std::fs::create_dir(job.path("in")).expect("a folder");
        for device in ["a", "b"] {
            let text = records(device, 0..RECORDS, None);
            append(&job, &format!("{device}.jsonl"), &text);
        }
        let mut running = start(&job, workers, Some(FAILPOINT));
        let address = running.address();
        let all = expected(RECORDS);
        until("what is well is published", || rows(&job) == all);
        let mut split = None;
        until("it is known by its name", || {
            split = split_of(&status(&address), "b.jsonl");
            split.is_some()
        });
        let split = split.expect("a name");
        let before = published(&job);

        // The record comes in the midst of others, and others come in the other file.
        let noted = RECORDS + RECORDS / 2;
        append(&job, "a.jsonl", &records("a", RECORDS..2 * RECORDS, None));
        let text = records("b", RECORDS..2 * RECORDS, Some(noted));
        let earlier = std::fs::metadata(job.path("in/b.jsonl")).expect("a file");
        let line = text.lines().position(|line| line.contains(POISON));
        let bytes: usize = (text.lines().take(line.expect("the record")))
            .map(|line| line.len() + 1)
            .sum();
        let offset = earlier.len() + bytes as u64;
        append(&job, "b.jsonl", &text);
        let (code, said) = running.end();
        assert_eq!(code, Some(3), "{said}");
        let error = format!(
            "error: step \"once\" has panicked: failpoint record.once: it has failed 3 times in a row on source \"reports\", split \"{split}\", offset {offset}\n"
        );
        assert!(said.contains(&error), "{error}{said}");
        let restarts = said.matches("the job is restarted from its last checkpoint");
        assert_eq!(restarts.count(), 2, "{said}");

        // What was there is there, nothing of it twice, and nothing of the record.
        let after = published(&job);
        for (path, text) in &before {
            assert_eq!(after.get(path), Some(text), "{}", path.display());
        }
        let mut once = rows(&job);
        once.dedup();
        assert_eq!(once, rows(&job), "a row twice");
        assert!(!once.contains(&("b".to_owned(), u64::from(noted))));
        assert!(job.checkpoint(&["verify"]).status.success());

        let mut running = start(&job, workers, None);
        let address = running.address();
        let all = expected(2 * RECORDS);
        until("the rest is published", || rows(&job).len() >= all.len());
        assert_eq!(
            status(&address)["generation"],
            4,
            "three attempts before it"
        );
        running.signal("TERM");
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(rows(&job) == all, "{workers}: {:?}", rows(&job));
        let after = published(&job);
        for (path, text) in &before {
            assert_eq!(after.get(path), Some(text), "{}", path.display());
        }
    }
}
