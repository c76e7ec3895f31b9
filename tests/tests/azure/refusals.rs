//! What a sink cannot keep it refuses before the first row, and says what is wrong with what.

use std::path::Path;

use thalweg_tests::process::{Ended, Run};
use thalweg_tests::standin::StandIn;

use crate::bench::{TABLE, write_job};

fn job(folder: &Path, sink: &str) -> std::path::PathBuf {
    let text = format!(
        r#"
job: refused
settings: {{ checkpoint: {{ every: 100ms, to: ./checkpoints }} }}
sources:
  vehicles:
    generate: {{ what: vehicles, events: 100, devices: 10 }}
    schema: {{ vehicle_id: string, seq: int64, ts: timestamp, segment: {{ type: string, path: /position/segment }}, speed_kmh: float64 }}
    event_time: {{ column: ts }}
steps:
  observed: {{ from: vehicles, select: {{ vehicle_id: vehicle_id, seq: seq, segment: segment, speed_kmh: speed_kmh }} }}
sinks:
  out: {{ from: observed, {sink} }}
"#
    );
    write_job(folder, &text)
}

fn refused(ended: &Ended, code: i32, names: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.said);
    for name in names {
        assert!(ended.said.contains(name), "{name} in: {}", ended.said);
    }
}

#[test]
fn cosmos_refuses_what_it_cannot_keep() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = |name: &str| folder.path().join(name);
    let create = ["roads/current:/vehicle_id"];
    let cosmos = StandIn::start("cosmos", &create, &ledger("one.jsonl"), &[]);
    let two = ["--write-regions", "2"];
    let several = StandIn::start("cosmos", &create, &ledger("two.jsonl"), &two);
    let sink = |endpoint: &str, database: &str, container: &str, key: &str, more: &str| {
        format!(
            "cosmos: {{ endpoint: \"{endpoint}\", database: {database}, container: {container}, \
             id: vehicle_id, partition_key: {key}{more} }}"
        )
    };
    let url = cosmos.url();
    let wrong_key = ", key: \"bm90IHRoZSBrZXk=\"";
    let absent = "http://127.0.0.1:1";
    for (sink, code, names) in [
        (
            sink(&url, "roads", "nowhere", "vehicle_id", ""),
            1,
            [
                "sink \"out\"",
                "container \"nowhere\"",
                "database \"roads\"",
            ],
        ),
        (
            sink(&url, "rails", "current", "vehicle_id", ""),
            1,
            ["sink \"out\"", &url, "database \"rails\""],
        ),
        (
            sink(&url, "roads", "current", "segment", ""),
            1,
            ["sink \"out\"", "container \"current\"", "/vehicle_id"],
        ),
        (
            sink(&url, "roads", "current", "vehicle_id", wrong_key),
            1,
            ["sink \"out\"", &url, "refuses the key"],
        ),
        (
            sink(&several.url(), "roads", "current", "vehicle_id", ""),
            1,
            ["sink \"out\"", "several regions", "exactly once"],
        ),
        (
            sink(absent, "roads", "current", "vehicle_id", ""),
            2,
            ["sink \"out\"", absent, "cannot be reached"],
        ),
    ] {
        let ended = Run::of(&job(folder.path(), &sink)).end();
        refused(&ended, code, &names);
        assert!(!ended.said.contains("bm90IHRoZSBrZXk="), "{}", ended.said);
    }
    assert!(cosmos.ledger().iter().all(|entry| !entry.applied));
}

#[test]
fn azure_data_explorer_refuses_what_does_not_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    let adx = StandIn::start("adx", &[TABLE], &folder.path().join("adx.jsonl"), &[]);
    adx.command(
        "roads",
        ".create table Narrow (vehicle_id:string, seq:int, segment:string)",
    );
    let sink = |cluster: &str, database: &str, table: &str, more: &str| {
        format!("adx: {{ cluster: \"{cluster}\", database: {database}, table: {table}{more} }}")
    };
    let url = adx.url();
    let absent = "http://127.0.0.1:1";
    for (sink, code, names) in [
        (
            sink(&url, "roads", "Nowhere", ""),
            1,
            ["sink \"out\"", "table \"Nowhere\"", "Observations"],
        ),
        (
            sink(&url, "rails", "Observations", ""),
            1,
            ["sink \"out\"", "database \"rails\"", "roads"],
        ),
        (
            sink(&url, "roads", "Narrow", ""),
            1,
            [
                "sink \"out\"",
                "['speed_kmh']: real",
                "column \"seq\" is int",
            ],
        ),
        (
            sink(&url, "roads", "Observations", ", mapping: none"),
            1,
            ["sink \"out\"", "mapping \"none\"", "Observations"],
        ),
        (
            sink(absent, "roads", "Observations", ""),
            2,
            ["sink \"out\"", "127.0.0.1", "cannot connect"],
        ),
    ] {
        let ended = Run::of(&job(folder.path(), &sink)).end();
        refused(&ended, code, &names);
    }
    assert!(adx.applied("ingest", "").is_empty());
}

#[test]
fn a_named_mapping_says_where_columns_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let adx = StandIn::start("adx", &[TABLE], &folder.path().join("adx.jsonl"), &[]);
    adx.command(
        "roads",
        ".create table Observations ingestion json mapping \"mine\" \
         '[{\"column\":\"segment\",\"Properties\":{\"Path\":\"$.vehicle_id\"}}]'",
    );
    let sink = format!(
        "adx: {{ cluster: \"{}\", database: roads, table: Observations, mapping: mine }}",
        adx.url()
    );
    Run::of(&job(folder.path(), &sink)).end().well();
    let rows = adx.query(
        "roads",
        "Observations | where segment startswith 'veh-' | count",
    );
    assert_eq!(rows[0][0], 100);
}
