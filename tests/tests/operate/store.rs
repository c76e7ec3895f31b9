//! The store of a job: what a checkpoint says, who may run, and what becomes of damage.

use std::path::PathBuf;

use serde_json::Value;

use super::{Job, json, status, until};

const JOB: &str = r"
job: kept
settings:
  checkpoint: { every: 350ms, to: ./checkpoints, keep: 4 }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  reports:
    generate: { what: fleet, devices: 50, seed: 5, rate: 5000, splits: 2, corrupt: 0.01 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int64, temperature_c: float64 }
    event_time: { column: ts, out_of_order: 1s, max_ahead: off }
steps:
  counted:
    from: reports
    window: { tumbling: 1s, by: [device_id], aggregate: { n: count(*) } }
sinks:
  windows: { from: counted, file: { path: ./windows } }
";

/// The newest checkpoint of the running job.
fn newest(address: &str) -> u64 {
    status(address)["checkpoint"]["epoch"].as_u64().unwrap_or(0)
}

#[test]
fn checkpoint_show_tells_all_that_a_running_job_needs_to_go_on() {
    let job = Job::new(JOB);
    let mut running = job.start(&["--listen", "127.0.0.1:0", "--workers", "2"]);
    let address = running.address();
    until("some checkpoints are taken", || {
        status(&address)["checkpoints"].as_u64() > Some(6)
    });
    let listed = json(&job.checkpoint(&["list"]));
    let kept = listed["checkpoints"].as_array().expect("a list").len();
    assert!((1..=4).contains(&kept), "retention keeps 4: {listed}");
    let shown = json(&job.checkpoint(&["show"]));
    let manifest = &shown["manifest"];
    assert_eq!(manifest["job"], "kept");
    assert_eq!(manifest["generation"], 1);
    assert_eq!(manifest["lineage"], status(&address)["lineage"]);
    assert!(manifest["epoch"].as_u64() > Some(0), "{manifest}");
    let source = &manifest["sources"]["reports"];
    assert!(
        source["progress"]["watermark"].as_i64().is_some(),
        "{source}"
    );
    let splits = source["splits"].as_array().expect("splits");
    assert_eq!(splits.len(), 2);
    for split in splits {
        assert!(split["offset"].as_u64() > Some(0), "{split}");
        assert!(split["newest_event_time"].as_i64().is_some(), "{split}");
    }
    // The last cut is where the checkpoint itself stands.
    let cuts = manifest["cuts"].as_array().expect("cuts");
    assert!(
        cuts.len() > 1,
        "every epoch since the commit before: {cuts:?}"
    );
    let epochs: Vec<u64> = cuts
        .iter()
        .filter_map(|cut| cut["epoch"].as_u64())
        .collect();
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    assert_eq!(epochs.last(), manifest["epoch"].as_u64().as_ref());
    let parts = manifest["state"]["parts"].as_array().expect("parts");
    assert!(
        parts
            .iter()
            .all(|part| part["crc32"].is_u64() && part["bytes"].is_u64())
    );
    assert!(
        manifest["steps"]["counted"]["shape"]
            .as_str()
            .is_some_and(|s| s.contains("tumbling"))
    );
    assert!(manifest["steps"]["counted"]["progress"]["watermark"].is_i64());
    for sink in ["windows", "dead_letters"] {
        assert!(manifest["sinks"][sink]["units"].is_array(), "{manifest}");
    }
    for name in ["reports", "counted", "windows", "dead_letters"] {
        assert!(manifest["ledgers"][name]["input"].is_u64(), "{manifest}");
    }
    // The file says its format.
    let epoch = manifest["epoch"].as_u64().expect("a number");
    let file = job.path(&format!("checkpoints/manifest/{epoch}-g1.json"));
    if let Ok(text) = std::fs::read_to_string(file) {
        assert!(text.starts_with("thalweg manifest 1 crc32:"), "{text}");
    }
    assert!(
        json(&job.checkpoint(&["verify"]))["damaged"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
}

#[test]
fn a_second_process_is_refused_unless_it_takes_over_and_then_the_first_stops() {
    let job = Job::new(JOB);
    let mut first = job.start(&["--listen", "127.0.0.1:0"]);
    let address = first.address();
    until("a checkpoint is taken", || newest(&address) > 0);
    let (code, said) = job.start(&[]).end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("job \"kept\" is already running"), "{said}");

    let mut second = job.start(&["--take-over", "--listen", "127.0.0.1:0"]);
    let second_address = second.address();
    let (code, said) = first.end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("generation 2"), "{said}");
    let restored = |status: &Value| status["restored"]["epoch"].as_u64();
    until("the second goes on", || {
        newest(&second_address) > 0 && restored(&status(&second_address)) > Some(0)
    });
    assert_eq!(status(&second_address)["generation"], 2);
    second.signal("TERM");
    let (code, said) = second.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_damaged_checkpoint_is_told_and_an_older_one_is_used_only_if_asked_for() {
    let job = Job::new(JOB);
    let mut first = job.start(&["--listen", "127.0.0.1:0"]);
    let address = first.address();
    until("some checkpoints are taken", || {
        status(&address)["checkpoints"].as_u64() > Some(4)
    });
    first.signal("TERM");
    assert_eq!(first.end().0, Some(0));

    let listed = json(&job.checkpoint(&["list"]));
    let mut epochs: Vec<u64> = (listed["checkpoints"].as_array().expect("a list"))
        .iter()
        .filter_map(|checkpoint| checkpoint["epoch"].as_u64())
        .collect();
    epochs.sort_unstable();
    let [.., older, newest] = epochs[..] else {
        panic!("two checkpoints are kept: {listed}")
    };
    let damaged: PathBuf = job.path(&format!("checkpoints/manifest/{newest}-g1.json"));
    let mut bytes = std::fs::read(&damaged).expect("its manifest");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&damaged, bytes).expect("damaged");

    let (code, said) = job.start(&[]).end();
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains(&format!("manifest/{newest}-g1.json")),
        "{said}"
    );
    assert!(
        said.contains(&format!(
            "--allow-older goes on from the one of epoch {older}"
        )),
        "{said}"
    );
    let verified = job.checkpoint(&["verify"]);
    assert_eq!(verified.status.code(), Some(2));

    let mut older_start = job.start(&["--allow-older", "--listen", "127.0.0.1:0"]);
    let address = older_start.address();
    until("it goes on from the older one", || {
        status(&address)["restored"]["epoch"].as_u64() == Some(older)
    });
    older_start.signal("TERM");
    let (code, said) = older_start.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_store_in_memory_serves_a_run() {
    let job = Job::new(JOB);
    let set = [
        "--set",
        "settings.checkpoint.to=memory://kept",
        "--set",
        "sources.reports.generate.events=3000",
    ];
    let (code, said) = job.start(&set).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("finished"), "{said}");
    assert!(
        !job.path("checkpoints").exists(),
        "nothing is written for it"
    );
    let rows: u64 = (job.lines("windows").iter())
        .filter_map(|line| line["n"].as_u64())
        .sum();
    let dead = super::read_lines(&job.path("dead.jsonl")).len() as u64;
    assert_eq!(rows + dead, 3000);
}
