//! What metrics say of the services that sinks speak to.

use serde_json::json;
use thalweg_tests::process::until;
use thalweg_tests::standin::StandIn;

use super::{Job, get};

const JOB: &str = r#"
job: told
settings:
  checkpoint: { every: 100ms, to: ./checkpoints }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  vehicles:
    generate: { what: vehicles, devices: 20, seed: 3, rate: 2000 }
    schema: { vehicle_id: string, seq: int64, ts: timestamp, speed_kmh: float64 }
    event_time: { column: ts, out_of_order: 1s, max_ahead: off }
sinks:
  current: { from: vehicles, cosmos: { endpoint: "COSMOS", database: roads, container: current, id: vehicle_id, partition_key: vehicle_id } }
  history: { from: vehicles, adx: { cluster: "ADX", database: roads, table: Observations, publish: { every: 200ms } } }
"#;

/// The value of a series.
fn figure(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn request_units_ingestions_and_refusals_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = |name: &str| folder.path().join(name);
    let create = ["roads/current:/vehicle_id"];
    let cosmos = StandIn::start("cosmos", &create, &ledger("cosmos"), &[]);
    let table = ["roads/Observations(vehicle_id:string, seq:long, speed_kmh:real, ts:datetime)"];
    let adx = StandIn::start("adx", &table, &ledger("adx"), &[]);
    let refused = json!({ "status": 429, "retry_after_ms": 20 });
    cosmos.plan(&json!([
        { "match": { "operation": "batch" }, "action": refused, "skip": 3, "count": 2 },
        { "match": { "operation": "create" }, "action": refused, "count": 2 },
        { "match": { "operation": "read" }, "action": refused, "count": 2 },
    ]));
    let text = JOB
        .replace("COSMOS", &cosmos.url())
        .replace("ADX", &adx.url());
    let job = Job::new(&text);
    let mut running = job.start(&["--listen", "127.0.0.1:0"]);
    let address = running.address();
    let wanted = [
        "thalweg_cosmos_request_units_total{job=\"told\",step=\"current\"}",
        "thalweg_sink_throttled_total{job=\"told\",step=\"current\"}",
        "thalweg_sink_latency_seconds_count{job=\"told\",step=\"current\"}",
        "thalweg_sink_published_total{job=\"told\",step=\"history\"}",
        "thalweg_adx_ingestions_total{job=\"told\",status=\"succeeded\",step=\"history\"}",
    ];
    until("all of it is counted", || {
        let (_, text) = get(&address, "/metrics");
        wanted
            .iter()
            .all(|series| figure(&text, series) > Some(0.0))
    });
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
}
