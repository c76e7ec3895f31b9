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
use thalweg_generate::{GenerateSpec, Generator, What};
use thalweg_tests::kafka::Broker;
use thalweg_tests::process::{Run, build_road_risk};
use thalweg_tests::python::{python, skip};
use thalweg_tests::standin::StandIn;

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

/// Semicolons, quoted names and notes over lines come in and go out as comma-separated values.
#[test]
fn air_quality_is_a_spreadsheet_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = root().join("examples/air-quality/data/*.csv");
    let run = example("air-quality", "hours", folder.path());
    let run = run.set("sources.readings.file.path", data.display());
    run.workers(2).end().well();
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder.path().join("out")).expect("output") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            assert!(path.extension().is_some_and(|extension| extension == "csv"));
            let text = std::fs::read_to_string(path).expect("readable");
            let (header, body) = text.split_once('\n').expect("a header");
            let expected = "window_start;window_end;station;readings;mean;greatest";
            assert_eq!(header, expected);
            rows.extend(body.lines().map(str::to_owned));
        }
    }
    rows.sort();
    let hour = |hour: u32| format!("2026-03-01T{hour:02}:00:00.000Z");
    let row = |from: u32, rest: &str| format!("{};{};{rest}", hour(from), hour(from + 1));
    let expected = [
        row(0, "\"Quay; north\";2;13.0;13.5"),
        row(0, "Hill;1;4.25;4.25"),
        row(1, "\"Quay; north\";1;20.0;20.0"),
        row(1, "Hill;2;6.0;6.25"),
    ];
    assert_eq!(rows, expected);
    assert!(dead_letters(&folder.path().join("run/dead-letters.jsonl")).is_empty());
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
    hours_of(run, workers, &folder)
}

fn hours_of(run: Run, workers: u32, folder: &tempfile::TempDir) -> Hours {
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
        skip(&format!("no {}", readings.display()));
        return;
    }
    let found = river_gauges(&readings, 2);
    let valid: u64 = found.values().map(|figures| figures.0).sum();
    assert_eq!(valid, 4361 - 39, "all but the ice");
    if let Some(expected) = of_duckdb(&readings) {
        equal(&found, &expected);
    }
}

#[test]
fn examples_read_kafka_as_well() {
    let Some(mut broker) = Broker::start_if_installed() else {
        return;
    };
    river_gauges_through(&mut broker);
    road_risk_through(&mut broker);
}

/// The figures are the same whether readings come from the file or through the broker.
fn river_gauges_through(broker: &mut Broker) {
    let real = root().join("../shared/data/usgs/usgs-iv.ndjson");
    let made_up = root().join("examples/river-gauges/data/made-up.jsonl");
    let readings = if real.exists() { real } else { made_up };
    broker.create("readings", 3);
    let produced = broker.produce_lines("readings", 3, &readings);
    let folder = tempfile::tempdir().expect("a folder");
    let run = example("river-gauges", "hours", folder.path());
    let job = folder.path().join("job.yaml");
    let text = std::fs::read_to_string(&job).expect("the example");
    let kafka = format!(
        "kafka: {{ brokers: \"{}\", topic: readings, until: latest }}",
        broker.address()
    );
    let file = "file: { path: \"./data/*.jsonl\" }";
    assert!(text.contains(file), "the example reads files");
    std::fs::write(&job, text.replace(file, &kafka)).expect("written");
    let found = hours_of(run, 2, &folder);
    let valid: u64 = found.values().map(|figures| figures.0).sum();
    assert!(valid > 0 && valid < produced, "{valid} of {produced}");
    equal(&found, &river_gauges(&readings, 1));
    if let Some(expected) = of_duckdb(&readings) {
        equal(&found, &expected);
    }
}

/// The road-risk job as it reads Kafka: every plausible report is a row, every segment a document.
fn road_risk_through(broker: &mut Broker) {
    const EVENTS: u64 = 20_000;
    build_road_risk(&root().join("examples/road-risk/plugins/road_risk.wasm"));
    let folder = tempfile::tempdir().expect("a folder");
    for (topic, what, events) in [
        ("vehicle-telemetry", What::Vehicles, EVENTS),
        ("weather", What::Weather, 4_000),
    ] {
        let spec = GenerateSpec {
            events: Some(events),
            devices: 200,
            seed: 7,
            ..GenerateSpec::new(what)
        };
        let generator = Generator::new(spec).expect("valid");
        let mut lines = Vec::new();
        generator.write_lines(0..events, &mut lines);
        let file = folder.path().join(topic);
        std::fs::write(&file, lines).expect("written");
        broker.create(topic, 2);
        assert_eq!(broker.produce_lines(topic, 2, &file), events);
    }
    let ledger = |name: &str| folder.path().join(name);
    let cosmos = StandIn::start(
        "cosmos",
        &["roads/current:/segment"],
        &ledger("cosmos"),
        &[],
    );
    let table = "roads/Observations(vehicle_id:string, seq:long, ts:datetime, segment:string, \
                 speed_kmh:real, friction:real, extra:dynamic, partition:int, offset:long, \
                 received_at:datetime, temperature_c:real, rain_mm_h:real, risk:real)";
    let adx = StandIn::start("adx", &[table], &ledger("adx"), &[]);
    let run = || {
        Run::of(&root().join("examples/road-risk/kafka.yaml"))
            .said_in(folder.path())
            .env("KAFKA_BROKERS", &broker.address())
            .env("COSMOS_ENDPOINT", &cosmos.url())
            .env("ADX_CLUSTER", &adx.url())
            .set("settings.checkpoint.to", ledger("checkpoints").display())
            .set("settings.checkpoint.every", "1s")
            .set("settings.dead_letters.file.path", ledger("dead").display())
            .set("tables.weather.kafka.until", "latest")
            .set("sources.vehicles.kafka.until", "latest")
            .workers(2)
    };
    run().end().well();
    let implausible = "speed_kmh > 260 or friction < 0";
    let rows = |kql: &str| adx.query("roads", kql)[0][0].as_u64().expect("a count");
    let all = rows("Observations | count");
    // One report in a hundred has a speed or a friction that cannot be.
    assert!((EVENTS * 97 / 100..EVENTS).contains(&all), "{all} rows");
    assert_eq!(
        rows(&format!("Observations | where {implausible} | count")),
        0
    );
    assert_eq!(
        rows("Observations | summarize dcount(strcat(vehicle_id, '-', seq))"),
        all
    );
    let risky = rows("Observations | where risk between (0.0 .. 100.0) | count");
    assert_eq!(risky, all, "the plugin scores every row");
    let segments = rows("Observations | summarize dcount(segment)");
    assert_eq!(cosmos.written("roads/current").len() as u64, segments);
    let weather = rows("Observations | where isnotnull(temperature_c) | count");
    assert!(weather > all / 2, "{weather} of {all} rows have weather");
}

#[test]
fn both_definitions_of_road_risk_are_the_same_job() {
    let steps = |name: &str| {
        let text = std::fs::read_to_string(root().join("examples/road-risk").join(name));
        let text = text.expect("the example");
        let (_, steps) = text.split_once("\nsteps:").expect("steps");
        let (steps, _) = steps.split_once("\nsinks:").expect("sinks");
        steps.to_owned()
    };
    assert_eq!(steps("job.yaml"), steps("kafka.yaml"));
}
