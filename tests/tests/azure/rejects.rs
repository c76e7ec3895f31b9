//! Rows a service cannot take become dead letters, once each, also over restarts.

use serde_json::{Value, json};
use thalweg_tests::process::Run;

use crate::bench::Bench;

/// How many good rows there are.
const GOOD: usize = 40;

/// Rows of which some can be no document, and one no value of Azure Data Explorer.
fn lines() -> String {
    let mut lines = String::new();
    let mut line = |id: Value, note: String| {
        let row = json!({ "id": id, "vehicle_id": "a", "ts": "2026-01-01T00:00:01Z",
                          "note": note, "speed_kmh": 1.5 });
        lines.push_str(&format!("{row}\n"));
    };
    for number in 0..GOOD {
        line(json!(format!("good-{number}")), "fine".to_owned());
    }
    line(json!(""), "the id is empty".to_owned());
    line(Value::Null, "the id is null".to_owned());
    line(json!("x".repeat(1024)), "the id is too long".to_owned());
    line(json!("large"), "l".repeat(2_200_000));
    line(json!("refused"), "the service will not have it".to_owned());
    lines
}

const TEXT: &str = r#"
job: rejects
settings:
  checkpoint: { every: 100ms, to: ./checkpoints }
  dead_letters: { file: { path: ./dead-letters.jsonl } }
sources:
  vehicles:
    file: { path: "data.jsonl" }
    schema: { id: string, vehicle_id: string, ts: timestamp, note: string, speed_kmh: float64 }
    event_time: { column: ts, out_of_order: 5s }
sinks:
  current: { from: vehicles, cosmos: { endpoint: "COSMOS", database: roads, container: current, id: id, partition_key: vehicle_id } }
  history: { from: vehicles, adx: { cluster: "ADX", database: roads, table: Notes, publish: { every: 1h } } }
"#;

#[test]
fn rows_a_service_cannot_take_become_dead_letters_once_each() {
    let bench = Bench::new();
    std::fs::write(bench.folder.path().join("data.jsonl"), lines()).expect("written");
    bench.adx.command(
        "roads",
        ".create table Notes (id:string, vehicle_id:string, ts:datetime, note:string, \
         speed_kmh:real)",
    );
    // The service's own refusal of one document, known only when it is written.
    bench.cosmos.plan(&json!([
        { "match": { "operation": "read", "path": "/dbs/roads/colls/current/docs/refused" },
          "action": { "status": 400 } },
    ]));
    let job = bench.job(TEXT);
    for point in [
        "publish.current.after",
        "publish.dead_letters.after",
        "confirm.after",
    ] {
        let ended = Run::of(&job).workers(2).kill_at(point).end();
        ended.killed();
    }
    Run::of(&job).end().well();

    let letters: Vec<((String, String), usize)> = bench.dead_letters().into_iter().collect();
    let reject = |code: &str| (("sink-reject".to_owned(), code.to_owned()), 1);
    assert_eq!(
        letters,
        [
            reject("bad-request"),
            reject("document-too-large"),
            reject("id-empty"),
            reject("id-null"),
            reject("id-too-long"),
            reject("too-long"),
        ]
    );
    assert_eq!(bench.cosmos.written("roads/current").len(), GOOD);
    let rows = bench.adx.query("roads", "Notes | count");
    assert_eq!(
        rows[0][0],
        GOOD as u64 + 4,
        "all but the one that would be cut"
    );
}
