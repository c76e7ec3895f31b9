//! Metrics, health and status of a running job.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{Job, get, status, until};

const JOB: &str = r"
job: watched
settings:
  checkpoint: { every: 200ms, to: ./checkpoints }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  reports:
    generate: { what: fleet, devices: 50, seed: 3, rate: 20000, splits: 2, duplicates: 0.02, corrupt: 0.01, late: 0.005 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int64, temperature_c: float64, speed_kmh: float64, status: string }
    event_time: { column: ts, out_of_order: 1s, max_ahead: off }
tables:
  limits:
    file: { path: limits.jsonl }
    schema: { device_id: string, most: float64 }
    key: [device_id]
steps:
  once: { from: reports, dedup: { by: [device_id, seq], within: 1h, same_time: true } }
  limited: { from: once, enrich: { with: limits, on: device_id, take: [most], missing: keep } }
  counted:
    from: limited
    window: { tumbling: 1s, by: [device_id], aggregate: { n: count(*) } }
sinks:
  windows: { from: counted, file: { path: ./windows } }
";

/// Families that this job must have; the rest of the list speaks of parts it does not have.
const FAMILIES: [&str; 36] = [
    "records_in_total",
    "records_out_total",
    "bytes_in_total",
    "bytes_out_total",
    "batches_total",
    "watermark_seconds",
    "watermark_lag_seconds",
    "event_time_lag_seconds",
    "idle_splits",
    "late_records_total",
    "windows_open",
    "windows_fired_total",
    "busy_ratio",
    "backpressured_ratio",
    "epochs_in_flight",
    "queue_bytes",
    "source_lag_records",
    "source_lag_seconds",
    "source_connected",
    "decode_errors_total",
    "sink_published_total",
    "sink_rejected_total",
    "sink_latency_seconds",
    "sink_unpublished_epochs",
    "state_keys",
    "state_bytes",
    "state_rows",
    "dedup_hits_total",
    "checkpoint_duration_seconds",
    "checkpoint_pause_seconds",
    "checkpoint_bytes",
    "checkpoint_age_seconds",
    "checkpoints_total",
    "restarts_total",
    "restore_seconds",
    "dead_letters_total",
];

fn job() -> Job {
    let job = Job::new(JOB);
    let limits = "{\"device_id\":\"device-1\",\"most\":30.5}\n";
    std::fs::write(job.path("limits.jsonl"), limits).expect("written");
    job
}

#[test]
fn a_running_job_tells_how_it_is_and_prometheus_takes_its_metrics() {
    let job = job();
    // The second start has something to restore.
    for start in 1..=2 {
        let mut running = job.start(&["--workers", "2", "--listen", "127.0.0.1:0"]);
        let address = running.address();
        until("it is ready", || get(&address, "/readyz").0 == 200);
        assert_eq!(get(&address, "/healthz"), (200, "ok\n".to_owned()));
        until("late rows have come and windows are published", || {
            let status = status(&address);
            let node = |name| node(&status, name);
            node("windows")["published_rows"].as_u64() > Some(0)
                && node("counted")["ledger"]["late"].as_u64() > Some(0)
                && node("once")["rows_in_per_second"].as_f64() > Some(0.0)
        });
        check_status(&status(&address), start);
        until("all figures have been told", || {
            let (_, text) = get(&address, "/metrics");
            let missing = |name: &&&str| !text.contains(&format!("# TYPE thalweg_{name} "));
            let first = ["restarts_total", "restore_seconds"];
            (FAMILIES.iter().filter(missing)).all(|name| start == 1 && first.contains(name))
        });
        let (code, text) = get(&address, "/metrics");
        assert_eq!(code, 200);
        promtool(&["check", "metrics"], &text);
        let (code, _) = get(&address, "/nothing");
        assert_eq!(code, 404);
        running.signal("TERM");
        let (code, said) = running.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("stopped; run it again to resume"), "{said}");
    }
}

fn node(status: &serde_json::Value, name: &str) -> serde_json::Value {
    let nodes = status["nodes"].as_array().expect("nodes");
    let found = nodes.iter().find(|node| node["name"] == name);
    found.expect("a node of this name").clone()
}

fn check_status(status: &serde_json::Value, generation: u64) {
    assert_eq!(status["phase"], "running");
    assert_eq!(status["generation"], generation);
    assert_eq!(status["last_error"], serde_json::Value::Null);
    assert!(status["checkpoint"]["epoch"].as_u64() > Some(0), "{status}");
    assert_eq!(status["restored"].is_object(), generation > 1, "{status}");
    let reports = node(status, "reports");
    let nodes = status["nodes"].as_array().expect("nodes");
    let sources = nodes.iter().filter(|node| node["kind"] == "source");
    let of_this_start: u64 = sources.filter_map(|node| node["rows_in"].as_u64()).sum();
    let since_the_lineage_began = status["records_in"].as_u64().expect("a number");
    assert_eq!(
        since_the_lineage_began > of_this_start,
        generation > 1,
        "{status}"
    );
    let splits = reports["splits"].as_array().expect("splits");
    assert_eq!(splits.len(), 2, "{reports}");
    for split in splits {
        assert!(split["offset"].as_u64() > Some(0), "{split}");
        assert!(split["newest_ms"].as_i64().is_some(), "{split}");
        assert_eq!(
            (split["idle"].as_bool(), split["finished"].as_bool()),
            (Some(false), Some(false))
        );
    }
    for name in ["reports", "once", "limited", "counted", "windows"] {
        let node = node(status, name);
        assert!(node["watermark_ms"].as_i64().is_some(), "{node}");
        assert!(node["rows_in"].as_u64() > Some(0), "{node}");
        let ledger = |what: &str| node["ledger"][what].as_u64().expect("a number");
        let out = [
            "passed",
            "filtered",
            "merged",
            "duplicate",
            "late",
            "dead",
            "held",
        ];
        let accounted: u64 = out.iter().map(|what| ledger(what)).sum();
        assert_eq!(ledger("input"), accounted, "{node}");
    }
}

/// Runs `promtool` of Prometheus on a text.
pub(super) fn promtool(arguments: &[&str], text: &str) {
    let started = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match started {
        Ok(promtool) => promtool,
        Err(error) if std::env::var_os("THALWEG_NO_SKIPS").is_none() => {
            println!("skipped: promtool (scripts/setup test installs it): {error}");
            return;
        }
        Err(error) => panic!("promtool (scripts/setup test installs it): {error}"),
    };
    let mut stdin = promtool.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_job_that_waits_for_a_service_is_alive_and_not_ready() {
    // Takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = silent.local_addr().expect("an address");
    let job = Job::new(&format!(
        r#"
job: waiting
settings: {{ checkpoint: {{ every: 1s, to: ./checkpoints }} }}
sources:
  reports:
    generate: {{ what: fleet, events: 10 }}
    schema: {{ device_id: string }}
sinks:
  documents: {{ from: reports, cosmos: {{ endpoint: "http://{endpoint}", database: d, container: c, id: device_id, partition_key: device_id, newest_by: device_id }} }}
"#
    ));
    let mut running = job.start(&["--listen", "127.0.0.1:0"]);
    let address = running.address();
    let (connection, _) = silent.accept().expect("the sink connects");
    assert_eq!(get(&address, "/healthz").0, 200);
    assert_eq!(get(&address, "/readyz"), (503, "not ready\n".to_owned()));
    assert_eq!(status(&address)["phase"], "starting");
    drop(connection);
}
