//! The state of a checkpoint as rows, compared with what the input says it must be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Job, json, status, until};

const JOB: &str = r"
job: shown
settings:
  checkpoint: { every: 150ms, to: ./checkpoints }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  reports:
    generate: { what: fleet, devices: 20, seed: 5, rate: 4000, splits: 2, duplicates: 0.05 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int64, temperature_c: float64, status: string }
    event_time: { column: ts, out_of_order: 1s, max_ahead: off }
tables:
  limits:
    file: { path: limits.jsonl }
    schema: { device_id: string, most: float64 }
    key: [device_id]
steps:
  once: { from: reports, dedup: { by: [device_id, seq], within: 24h, same_time: true } }
  limited: { from: once, enrich: { with: limits, on: device_id, take: [most], missing: keep } }
  counted:
    from: limited
    window: { tumbling: 10s, by: [device_id], aggregate: { n: count(*), coldest: min(temperature_c), worst: max(status), numbers: sum(seq) } }
sinks:
  windows: { from: counted, file: { path: ./windows } }
  raw: { from: limited, file: { path: ./raw } }
";

const LIMITS: [(&str, f64); 3] = [("dev-000001", 30.5), ("dev-000002", 2.0), ("dev-9", -1.0)];

fn export(job: &Job, step: &str) -> Vec<Value> {
    let mut command = super::thalweg();
    command
        .arg("checkpoint")
        .arg("export")
        .arg(job.path("checkpoints"));
    let output = command
        .args(["--step", step])
        .output()
        .expect("the binary starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(rows.iter().all(|row| row["step"] == step));
    rows
}

fn text(row: &Value, column: &str) -> String {
    row[column].as_str().expect("text").to_owned()
}

/// What a window has seen: rows, least temperature, greatest status, sum of numbers.
#[derive(Debug, PartialEq)]
struct Seen(u64, f64, String, i64);

#[test]
fn exported_state_is_what_the_input_says() {
    let job = Job::new(JOB);
    let limits: String = (LIMITS.iter())
        .map(|(device, most)| format!("{{\"device_id\":\"{device}\",\"most\":{most}}}\n"))
        .collect();
    std::fs::write(job.path("limits.jsonl"), limits).expect("written");
    let mut running = job.start(&["--listen", "127.0.0.1:0", "--workers", "2"]);
    let address = running.address();
    until("windows are published", || {
        let status = status(&address);
        // It has none before it has started.
        let nodes = status["nodes"].as_array().expect("nodes");
        (nodes.iter().find(|node| node["name"] == "windows"))
            .is_some_and(|windows| windows["published_rows"].as_u64() > Some(50))
    });
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");

    // Everything that came in, folded by the test; what has been published is no longer in state.
    let raw = job.lines("raw");
    let mut open: BTreeMap<(String, String), Seen> = BTreeMap::new();
    for row in &raw {
        let time = text(row, "ts");
        // Ten seconds begin where the last digit of the seconds is cut off.
        let start = format!("{}0.000Z", &time[..time.len() - 6]);
        let seen = open.entry((start, text(row, "device_id")));
        let seen = seen.or_insert(Seen(0, f64::INFINITY, String::new(), 0));
        seen.0 += 1;
        seen.1 = seen.1.min(row["temperature_c"].as_f64().expect("a number"));
        seen.2 = seen.2.clone().max(text(row, "status"));
        seen.3 += row["seq"].as_i64().expect("a number");
    }
    let fired = job.lines("windows");
    for row in &fired {
        let gone = open.remove(&(text(row, "window_start"), text(row, "device_id")));
        assert_eq!(gone.map(|seen| seen.0), row["n"].as_u64(), "{row}");
    }
    let windows: BTreeMap<(String, String), Seen> = (export(&job, "counted").iter())
        .map(|row| {
            assert_eq!(row["part"], "windows");
            let seen = Seen(
                row["rows"].as_u64().expect("a count"),
                row["min(temperature_c)"].as_f64().expect("a number"),
                text(row, "max(status)"),
                row["sum(seq)"].as_i64().expect("a number"),
            );
            ((text(row, "window_start"), text(row, "device_id")), seen)
        })
        .collect();
    assert!(!windows.is_empty() && !fired.is_empty());
    assert_eq!(windows, open);

    let prints = export(&job, "once");
    let different: BTreeSet<String> = prints.iter().map(|row| text(row, "fingerprint")).collect();
    assert_eq!(
        (prints.len(), different.len()),
        (raw.len(), raw.len()),
        "one for each row passed on"
    );
    let mut versions: Vec<(String, f64)> = (export(&job, "limited").iter())
        .map(|row| {
            (
                text(row, "device_id"),
                row["most"].as_f64().expect("a number"),
            )
        })
        .collect();
    versions.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        versions,
        LIMITS.map(|(device, most)| (device.to_owned(), most))
    );

    // As Arrow files, the same number of rows; and names that are not there.
    let mut command = super::thalweg();
    command
        .arg("checkpoint")
        .arg("export")
        .arg(job.path("checkpoints"));
    command
        .args(["--format", "arrow", "--out"])
        .arg(job.path("exported"));
    assert!(
        command
            .output()
            .expect("the binary starts")
            .status
            .success()
    );
    for (file, rows) in [
        ("counted.windows", windows.len()),
        ("once.fingerprints", raw.len()),
        ("limited.versions", LIMITS.len()),
    ] {
        let path = job.path(&format!("exported/{file}.arrow"));
        let file = std::fs::File::open(path).expect("the file");
        let reader = arrow::ipc::reader::FileReader::try_new(file, None).expect("Arrow");
        let batches: Vec<_> = reader.collect::<Result<_, _>>().expect("batches");
        assert_eq!(
            batches.iter().map(|batch| batch.num_rows()).sum::<usize>(),
            rows
        );
    }
    let mut command = super::thalweg();
    command
        .arg("checkpoint")
        .arg("export")
        .arg(job.path("checkpoints"));
    let output = command
        .args(["--step", "other"])
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("there are counted, limited, once"), "{said}");
    assert_eq!(
        json(&job.checkpoint(&["verify"]))["damage"],
        Value::Array(vec![])
    );
}
