//! Savepoints of a running job, and starts from them: what they keep, and whose names output gets.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use serde_json::Value;

use super::{Job, json, read_lines, status, until};

/// Reports for three seconds, in order, then the end.
const JOB: &str = r"
job: saved
settings:
  checkpoint: { every: 150ms, to: ./checkpoints, keep: 2 }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  reports:
    generate: { what: fleet, devices: 50, seed: 5, rate: 10000, splits: 2, events: 30000 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int64, temperature_c: float64 }
    event_time: { column: ts, out_of_order: 1s, max_ahead: off }
steps:
  counted:
    from: reports
    window: { tumbling: 1s, by: [device_id], aggregate: { n: count(*), warmest: max(temperature_c) } }
sinks:
  windows: { from: counted, file: { path: ./windows } }
";

/// Status and body of a POST to `/savepoints`, with more headers.
pub(super) fn post(address: &str, headers: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let request = format!(
        "POST /savepoints HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n{headers}connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.expect("a status"), body.to_owned())
}

/// The savepoints that the store lists.
pub(super) fn savepoints(job: &Job) -> Vec<u64> {
    let listed = json(&job.checkpoint(&["list"]));
    (listed["checkpoints"].as_array().expect("a list").iter())
        .filter(|checkpoint| checkpoint["savepoint"] == true)
        .filter_map(|checkpoint| checkpoint["epoch"].as_u64())
        .collect()
}

/// The published windows by the lineage in their files' names, sorted.
pub(super) fn published(job: &Job) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(job.path("windows")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if let Some(lineage) = name.strip_prefix("part-").and_then(|n| n.split('-').next()) {
            let lines = read_lines(&path).into_iter().map(|line| line.to_string());
            all.entry(lineage.to_owned()).or_default().extend(lines);
        }
    }
    all.values_mut().for_each(|lines| lines.sort());
    all
}

fn run(job: &Job, from: &str) -> Value {
    let (code, said) = job
        .start(&["--from", from, "--workers", "2", "--json"])
        .end();
    assert_eq!(code, Some(0), "{said}");
    let result = said.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(result.expect("a result")).expect("JSON")
}

#[test]
fn a_savepoint_outlives_retention_and_the_job_starts_from_it_as_another_history() {
    let job = Job::new(JOB);
    let mut running = job.start(&["--listen", "127.0.0.1:0"]);
    let address = running.address();
    until("rows are read", || {
        status(&address)["nodes"][0]["rows_in"].as_u64() > Some(3000)
    });
    // A page in a browser must not be able to ask.
    assert_eq!(post(&address, "origin: http://example.org\r\n").0, 403);
    let (code, body) = post(&address, "");
    assert_eq!(code, 201, "{body}");
    let taken: Value = serde_json::from_str(&body).expect("JSON");
    let first = taken["epoch"].as_u64().expect("an epoch");
    // It is committed when the answer comes.
    assert_eq!(savepoints(&job), [first], "{taken}");
    let manifest = taken["manifest"].as_str().expect("a name");
    let store = taken["store"].as_str().expect("a place");
    let file = format!("{}/{manifest}", store.trim_start_matches("file://"));
    assert!(std::path::Path::new(&file).is_file(), "{taken}");
    running.signal("USR1");
    until("the second is taken", || savepoints(&job).len() == 2);
    let history = status(&address)["lineage"]
        .as_str()
        .expect("text")
        .to_owned();
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    let second = savepoints(&job)[1];
    assert!(
        said.contains(&format!("savepoint of epoch {second} taken")),
        "{said}"
    );

    // Many checkpoints have come and gone since.
    let listed = json(&job.checkpoint(&["list"]));
    let kept = listed["checkpoints"].as_array().expect("a list").len();
    assert_eq!(
        (kept, savepoints(&job)),
        (4, vec![first, second]),
        "{listed}"
    );
    assert_eq!(
        json(&job.checkpoint(&["verify"]))["damage"],
        Value::Array(vec![])
    );
    let shown = json(&job.checkpoint(&["show", "--epoch", &first.to_string()]));
    assert_eq!(shown["manifest"]["kind"], "savepoint");
    let staged = shown["manifest"]["ledgers"]["windows"]["input"].as_u64();
    let staged = usize::try_from(staged.expect("a count")).expect("few");

    let whole = published(&job).remove(&history).expect("the first history");
    let result = run(&job, &first.to_string());
    assert_eq!(result["status"]["restored"]["epoch"], first);
    let again = result["status"]["lineage"].as_str().expect("text");
    let all = published(&job);
    assert_eq!(all[&history], whole, "what was published stays as it is");
    assert_eq!(
        all[again].len(),
        whole.len() - staged,
        "only what came after"
    );
    assert!(
        all[again]
            .iter()
            .all(|line| whole.binary_search(line).is_ok())
    );

    let result = run(&job, "none");
    assert_eq!(result["status"]["restored"], Value::Null);
    let anew = result["status"]["lineage"].as_str().expect("text");
    assert_eq!(published(&job)[anew], whole);
    assert_eq!(published(&job).len(), 3, "three histories");
    assert_eq!(
        savepoints(&job),
        [first, second],
        "through starts from elsewhere too"
    );

    let (code, said) = job.start(&["--from", "1000000"]).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("1000000") && said.contains(&first.to_string()),
        "{said}"
    );
}
