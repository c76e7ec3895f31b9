//! What becomes of records that cannot be processed, and of results that change.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Job, read_lines};

const EVENTS: u64 = 40_000;

fn job() -> Job {
    Job::new(&format!(
        r"
job: letters
settings:
  checkpoint: {{ every: 100ms, to: ./checkpoints }}
  dead_letters: {{ file: {{ path: ./dead.jsonl }} }}
sources:
  reports:
    generate: {{ what: fleet, events: {EVENTS}, devices: 60, seed: 9, rate: 30000, splits: 2, corrupt: 0.01, late: 0.01 }}
    schema: {{ device_id: {{ type: string, required: true }}, ts: timestamp, seq: int64, temperature_c: float64 }}
    event_time: {{ column: ts, out_of_order: 1s }}
steps:
  divided: {{ from: reports, set: {{ odd: 1000 / (seq % 50) }} }}
  strict:
    from: divided
    window: {{ tumbling: 1s, by: [device_id], aggregate: {{ n: count(*) }} }}
  patient:
    from: divided
    window: {{ tumbling: 1s, by: [device_id], aggregate: {{ n: count(*) }}, late: {{ allowed: 1d, then: drop }} }}
sinks:
  strict_files: {{ from: strict, file: {{ path: ./strict }} }}
  patient_files: {{ from: patient, file: {{ path: ./patient }} }}
"
    ))
}

#[test]
fn every_class_of_failure_becomes_a_dead_letter_and_nothing_is_lost() {
    let job = job();
    let (code, said) = job.start(&["--workers", "2", "--json"]).end();
    assert_eq!(code, Some(0), "{said}");
    let status: Value = (said.lines().rev())
        .find_map(|line| serde_json::from_str(line).ok())
        .expect("the result as JSON");
    let ledger = |node: &str, what: &str| -> u64 {
        let nodes = status["status"]["nodes"].as_array().expect("nodes");
        let node = nodes.iter().find(|of| of["name"] == node).expect("a node");
        node["ledger"][what].as_u64().expect("a number")
    };
    let letters = read_lines(&job.path("dead.jsonl"));
    let of = |class: &str| -> Vec<&Value> {
        (letters.iter().filter(|letter| letter["class"] == class)).collect()
    };
    let count = |class: &str| of(class).len() as u64;
    for class in ["decode", "schema", "time", "late", "operator"] {
        assert!(count(class) > 0, "no dead letter of class {class}");
    }
    // Nothing is lost at the decoder, at the step that fails, and at the window.
    let decoding = count("decode") + count("schema") + count("time");
    assert_eq!(ledger("reports", "input"), EVENTS);
    assert_eq!(ledger("reports", "dead"), decoding);
    assert_eq!(ledger("divided", "dead"), count("operator"));
    assert_eq!(ledger("strict", "late"), count("late"));
    assert_eq!(
        ledger("divided", "input"),
        EVENTS - decoding,
        "what was decoded goes on"
    );

    // Each says where it came from and why; raw bytes before decoding, the row after.
    for letter in of("decode")
        .into_iter()
        .chain(of("schema"))
        .chain(of("time"))
    {
        assert_eq!(
            (&letter["source"], &letter["step"]),
            (&"reports".into(), &"reports".into())
        );
        assert!(
            letter["offset"].is_u64() && letter["raw"].is_string(),
            "{letter}"
        );
    }
    for letter in of("operator") {
        assert_eq!(letter["step"], "divided");
        assert_eq!(
            letter["row"]["seq"].as_u64().map(|seq| seq % 50),
            Some(0),
            "{letter}"
        );
        assert!(
            letter["message"]
                .as_str()
                .is_some_and(|m| m.contains("ivide")),
            "{letter}"
        );
    }
    for letter in of("late") {
        assert_eq!(
            (&letter["step"], &letter["code"]),
            (&"strict".into(), &"window-fired".into())
        );
        assert!(
            letter["at"].is_string() && letter["row"].is_object(),
            "{letter}"
        );
    }
    let mut ids: Vec<&str> = letters
        .iter()
        .filter_map(|letter| letter["id"].as_str())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        ids.len(),
        letters.len(),
        "every letter has an id of its own"
    );

    let total: u64 = job
        .lines("strict")
        .iter()
        .filter_map(|line| line["n"].as_u64())
        .sum();
    assert_eq!(
        total + count("late") + count("operator") + decoding,
        EVENTS,
        "every record is in a window or a dead letter"
    );
    check_changes(&job, EVENTS - decoding - count("operator"));
}

/// The window that takes late rows puts out updates: each line says so, and the last one of every
/// key holds.
fn check_changes(job: &Job, rows: u64) {
    let mut changes: BTreeMap<(String, String), Vec<(String, u64)>> = BTreeMap::new();
    for line in job.lines("patient") {
        let text = |name: &str| line[name].as_str().expect("a string").to_owned();
        let key = (text("window_start"), text("device_id"));
        let n = line["n"].as_u64().expect("a number");
        changes.entry(key).or_default().push((text("_change"), n));
    }
    let mut updates = 0;
    let mut total = 0;
    for (key, mut changes) in changes {
        // Files are read in any order; an update of a count is always greater.
        changes.sort_by_key(|(_, n)| *n);
        let kinds: Vec<&str> = changes.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds[0], "insert", "{key:?}: {changes:?}");
        assert!(
            kinds[1..].iter().all(|kind| *kind == "update"),
            "{key:?}: {changes:?}"
        );
        updates += kinds.len() - 1;
        total += changes.last().map_or(0, |(_, n)| *n);
    }
    assert!(updates > 0, "late rows update results");
    assert_eq!(total, rows);
}
