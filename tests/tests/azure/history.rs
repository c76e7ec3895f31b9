//! Which row of a document stays: the newest, by what the definition says is newer.

use serde_json::json;
use thalweg_tests::process::Run;

use crate::bench::{Bench, CURRENT};

/// Three reports of a vehicle, of which the middle one is the newest by event time, the first by
/// `version`, and the last by none.
const LINES: &str = r#"{"vehicle_id":"a","ts":"2026-01-01T00:00:01Z","version":9,"note":"first"}
{"vehicle_id":"a","ts":"2026-01-01T00:00:03Z","version":2,"note":"middle"}
{"vehicle_id":"a","ts":"2026-01-01T00:00:02Z","version":3,"note":"last"}
{"vehicle_id":"b","ts":"2026-01-01T00:00:02Z","note":"nothing is the least"}
{"vehicle_id":"b","ts":"2026-01-01T00:00:01Z","version":-5,"note":"something is more"}
"#;

fn text(more: &str) -> String {
    format!(
        r#"
job: versions
settings: {{ checkpoint: {{ every: 100ms, to: ./checkpoints }} }}
sources:
  vehicles:
    file: {{ path: "data.jsonl" }}
    schema: {{ vehicle_id: string, ts: timestamp, version: int64, note: string }}
    event_time: {{ column: ts, out_of_order: 5s }}
sinks:
  current: {{ from: vehicles, cosmos: {{ endpoint: "COSMOS", database: roads, container: current, id: vehicle_id, partition_key: vehicle_id{more} }} }}
"#
    )
}

fn notes(bench: &Bench) -> [String; 2] {
    ["a", "b"].map(|vehicle| {
        let document = bench.cosmos.document(CURRENT, &json!(vehicle), vehicle);
        let document = document.expect("it was written");
        document["note"].as_str().expect("a note").to_owned()
    })
}

#[test]
fn the_newest_row_of_a_document_stays() {
    for (more, expected) in [
        ("", ["middle", "nothing is the least"]),
        (", newest_by: version", ["first", "something is more"]),
    ] {
        let bench = Bench::new();
        std::fs::write(bench.folder.path().join("data.jsonl"), LINES).expect("written");
        let job = bench.job(&text(more));
        Run::of(&job).end().well();
        assert_eq!(notes(&bench), expected, "{more}");
        assert!(
            bench
                .cosmos
                .written(CURRENT)
                .values()
                .all(|writes| *writes == 1)
        );

        // A new history from the start of the input means to overwrite, and ends the same.
        Run::of(&job).from_none().end().well();
        assert_eq!(notes(&bench), expected, "{more}");
    }
}

#[test]
fn documents_of_others_are_replaced_and_their_times_written_as_asked() {
    let bench = Bench::new();
    std::fs::write(bench.folder.path().join("data.jsonl"), LINES).expect("written");
    let job = bench.job(&text(", newest_by: ts, timestamps: unix_ms, nulls: omit"));
    Run::of(&job).end().well();
    let document = bench
        .cosmos
        .document(CURRENT, &json!("b"), "b")
        .expect("written");
    assert_eq!(document["ts"], json!(1_767_225_602_000_i64));
    assert_eq!(document.get("version"), None, "{document}");
}
