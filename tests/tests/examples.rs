//! The examples that ship with Thalweg, by the real binary, beside what others make of the same
//! input.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a test finds wrong it says by panicking"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use thalweg_tests::process::Run;
use thalweg_tests::python::python;

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace").to_owned()
}

/// A run of an example that writes into `folder` instead of its own.
fn example(name: &str, sink: &str, folder: &Path) -> Run {
    let job = folder.join("job.yaml");
    let text = std::fs::read_to_string(root().join("examples").join(name).join("job.yaml"));
    std::fs::write(&job, text.expect("the example")).expect("written");
    Run::of(&job).set(&format!("sinks.{sink}.file.path"), "./out")
}

/// The lines of all published files in `folder`.
fn published(folder: &Path) -> Vec<Value> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).expect("output") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            let text = std::fs::read_to_string(path).expect("readable");
            lines.extend(
                text.lines()
                    .map(|line| serde_json::from_str(line).expect("JSON")),
            );
        }
    }
    lines
}

/// Dead letters by class.
fn dead_letters(path: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut classes = BTreeMap::new();
    for line in text.lines() {
        let letter: Value = serde_json::from_str(line).expect("JSON");
        let class = letter["class"].as_str().expect("a class").to_owned();
        *classes.entry(class).or_default() += 1;
    }
    classes
}

#[test]
fn fleet_health_accounts_for_every_report() {
    const EVENTS: u64 = 150_000;
    let folder = tempfile::tempdir().expect("a folder");
    let run = example("fleet-health", "files", folder.path());
    let run = run.set("sources.reports.generate.events", EVENTS);
    run.workers(2).end().well();
    let rows = published(&folder.path().join("out"));
    let reports: u64 = rows.iter().filter_map(|row| row["reports"].as_u64()).sum();
    let dead = dead_letters(&folder.path().join("run/dead-letters.jsonl"));
    assert_eq!(reports + dead.values().sum::<u64>(), EVENTS, "{dead:?}");
    assert!(dead.keys().any(|class| class == "decode"), "{dead:?}");
    for row in &rows {
        let figure = |name: &str| row[name].as_f64().expect("a number");
        assert!(figure("coldest") <= figure("mean") && figure("mean") <= figure("warmest"));
        assert!(row["moving"].as_u64() <= row["reports"].as_u64(), "{row}");
    }
}

/// (site, param, hour): readings, mean, least, greatest.
type Hours = BTreeMap<(String, String, i64), (u64, f64, f64, f64)>;

fn hours(rows: &[Value], hour: &str) -> Hours {
    let mut hours = Hours::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().expect("a text").to_owned();
        let figure = |name: &str| row[name].as_f64().expect("a number");
        let key = (
            text("site"),
            text("param"),
            row[hour].as_i64().expect("a time"),
        );
        let readings = row["readings"].as_u64().expect("a count");
        let figures = (
            readings,
            figure("mean"),
            figure("least"),
            figure("greatest"),
        );
        assert_eq!(
            hours.insert(key.clone(), figures),
            None,
            "{key:?} stands twice"
        );
    }
    hours
}

/// What DuckDB makes of the readings; nothing if it is not installed.
fn of_duckdb(readings: &Path) -> Option<Hours> {
    let script = root().join("tests/clients/duckdb-python/hourly.py");
    let output = Command::new(python("duckdb")?)
        .arg(script)
        .arg(readings)
        .output();
    let output = output.expect("Python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let rows: Vec<Value> = (text.lines())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    Some(hours(&rows, "hour"))
}

fn equal(found: &Hours, expected: &Hours) {
    let keys = |hours: &Hours| hours.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(found), keys(expected));
    for (key, (readings, mean, least, greatest)) in found {
        let (n, expected_mean, low, high) = expected[key];
        assert_eq!((*readings, *least, *greatest), (n, low, high), "{key:?}");
        let off = (mean - expected_mean).abs();
        assert!(
            off <= 1e-12 * expected_mean.abs(),
            "{key:?}: {mean}, not {expected_mean}"
        );
    }
}

fn river_gauges(readings: &Path, workers: u32) -> Hours {
    let folder = tempfile::tempdir().expect("a folder");
    let run = example("river-gauges", "hours", folder.path());
    let run = run.set("sources.readings.file.path", readings.display());
    let run = run.set("sinks.hours.file.timestamps", "unix_ms");
    run.workers(workers).end().well();
    let dead = dead_letters(&folder.path().join("run/dead-letters.jsonl"));
    assert!(dead.is_empty(), "{dead:?}");
    hours(&published(&folder.path().join("out")), "window_start")
}

#[test]
fn river_gauges_of_the_example_are_duckdbs() {
    let readings = root().join("examples/river-gauges/data/made-up.jsonl");
    let found = river_gauges(&readings, 1);
    assert_eq!(
        found.values().map(|figures| figures.0).sum::<u64>(),
        41,
        "ice is left out"
    );
    if let Some(expected) = of_duckdb(&readings) {
        equal(&found, &expected);
    }
}

#[test]
fn real_river_gauges_are_duckdbs() {
    let readings = root().join("../shared/data/usgs/usgs-iv.ndjson");
    if !readings.exists() {
        println!("skipped: needs ../shared/data/usgs");
        return;
    }
    let found = river_gauges(&readings, 2);
    let valid: u64 = found.values().map(|figures| figures.0).sum();
    assert_eq!(valid, 4361 - 39, "all but the ice");
    if let Some(expected) = of_duckdb(&readings) {
        equal(&found, &expected);
    }
}
