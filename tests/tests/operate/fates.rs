//! What `plan` says of steps with state whose keys, spans, tables and types change; and that a run
//! makes it true.

use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::{Value, json};

use super::changes::plan;
use super::{Job, status, until};

const JOB: &str = r"
job: fates
settings: { checkpoint: { every: 1h, to: ./checkpoints } }
sources:
  readings:
    file: { path: ./in/*.jsonl, follow: true }
    schema: { device: { type: string, required: true }, twin: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int32, power: int32 }
    event_time: { column: ts, out_of_order: 0ms, max_ahead: off }
tables:
  limits:
    file: { path: ./limits.jsonl }
    schema: { device: string, since: timestamp, least: int64, most: int64 }
    event_time: { column: since, max_ahead: off }
    key: [device]
  goals:
    file: { path: ./limits.jsonl }
    schema: { device: string, since: timestamp, least: int64, most: int64 }
    event_time: { column: since, max_ahead: off }
    key: [device]
steps:
  once: { from: readings, dedup: { by: [device, seq], within: 1h, same_time: true } }
  limited: { from: once, enrich: { with: limits, on: device, as_of: event_time, take: [most], missing: keep } }
  aimed: { from: limited, enrich: { with: goals, on: device, take: { goal: most }, missing: keep } }
  summed: { from: once, window: { tumbling: 10s, by: [device], aggregate: { n: count(*), total: sum(power) } } }
sinks:
  results: { from: summed, file: { path: ./results, timestamps: unix_ms } }
  rows: { from: aimed, file: { path: ./rows, timestamps: unix_ms } }
";

/// A change, and the steps that it makes other than kept.
const CHANGES: &[(&str, &str, &[&str])] = &[
    ("missing: keep", "missing: drop", &[]),
    (
        "tumbling: 10s,",
        "tumbling: 10s, late: { then: drop },",
        &[],
    ),
    // The keys of a deduplication are known by their hash alone, and forgotten by its span.
    (
        "by: [device, seq]",
        "by: [seq, device]",
        &["once incompatible"],
    ),
    ("by: [device, seq]", "by: [device]", &["once incompatible"]),
    ("within: 1h", "within: 2h", &["once incompatible"]),
    (
        "same_time: true",
        "same_time: false",
        &["once incompatible"],
    ),
    (
        "seq: int32",
        "seq: int64",
        &["once incompatible", "limited incompatible"],
    ),
    // What is kept is of that table, its key and those columns; rows wait with all that they have.
    ("with: limits", "with: goals", &["limited incompatible"]),
    ("with: goals", "with: limits", &["aimed incompatible"]),
    ("take: [most]", "take: [least]", &["limited incompatible"]),
    (
        "with: limits, on: device",
        "with: limits, on: { twin: device }",
        &["limited incompatible"],
    ),
    (
        "with: goals, on: device",
        "with: goals, on: { twin: device }",
        &[],
    ),
    (
        "power: int32",
        "power: int64",
        &["limited incompatible", "summed migrated"],
    ),
    ("total: sum(power)", "total: avg(power)", &[]),
    // Which rows have a value was counted for the sum; for another column it was not.
    (
        "total: sum(power)",
        "total: count(power)",
        &["summed migrated"],
    ),
    (
        "total: sum(power)",
        "total: count(seq)",
        &["summed incompatible"],
    ),
    ("tumbling: 10s", "tumbling: 20s", &["summed incompatible"]),
];

fn changed(from: &str, to: &str) -> String {
    assert!(JOB.contains(from), "{from}");
    JOB.replace(from, to)
}

/// Device, time, number and power.
type Row = (&'static str, i64, i64, i64);

/// Runs a definition until it has read what `rows` add to its input, and stops it.
fn run(job: &Job, definition: &str, rows: &[Row], arguments: &[&str]) {
    std::fs::write(job.path("job.yaml"), definition).expect("the definition");
    let path = job.path("in/readings.jsonl");
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.expect("a file");
    for (device, ts, seq, power) in rows {
        let row = json!({ "device": device, "twin": device, "ts": ts, "seq": seq, "power": power });
        writeln!(file, "{row}").expect("written");
    }
    let end = file.metadata().expect("a file").len();
    let mut running = job.start(&[&["--listen", "127.0.0.1:0"], arguments].concat());
    let address = running.address();
    until("all rows are read", || {
        let status = status(&address);
        let nodes = status["nodes"].as_array().into_iter().flatten();
        let mut readings = nodes.filter(|node| node["name"] == "readings");
        let offset = readings
            .next()
            .map(|node| node["splits"][0]["offset"].clone());
        offset.and_then(|offset| offset.as_u64()) == Some(end)
    });
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
}

/// A job that has read a little.
fn begun() -> Job {
    let job = Job::new(JOB);
    std::fs::create_dir_all(job.path("in")).expect("a folder");
    let limit = json!({ "device": "a", "since": 0, "least": 1, "most": 7 });
    std::fs::write(job.path("limits.jsonl"), format!("{limit}\n")).expect("a file");
    run(&job, JOB, &[("a", 1000, 1, 5), ("b", 1500, 1, 3)], &[]);
    job
}

#[test]
fn every_change_of_state_is_kept_migrated_or_refused_as_it_should_be() {
    let job = begun();
    for (from, to, others) in CHANGES {
        let definition = changed(from, to);
        let (code, parts, said) = plan(&job, &definition);
        let steps = ["once", "limited", "summed", "aimed"];
        let expected: Vec<String> = (steps.iter())
            .map(|step| {
                let other = others.iter().find(|other| other.starts_with(step));
                other.map_or_else(|| format!("{step} kept"), |&other| other.to_owned())
            })
            .collect();
        let of_step = |part: &&String| steps.iter().any(|step| part.starts_with(step));
        let found: Vec<String> = parts.iter().filter(of_step).cloned().collect();
        assert_eq!(found, expected, "{from} -> {to}: {said}");
        let refused = others.iter().any(|other| other.ends_with("incompatible"));
        assert_eq!(code, Some(i32::from(refused)), "{from} -> {to}: {said}");
    }
}

#[test]
fn a_sum_of_a_wider_type_is_null_where_it_does_not_know_all_and_repeats_stay_known() {
    let job = begun();
    // Without the enrichments: their rows wait with all that they have.
    let wider = changed("power: int32", "power: int64");
    let gone = |line: &&str| {
        let mut gone = ["  limited", "  aimed", "  rows"].iter();
        !gone.any(|name| line.starts_with(name))
    };
    let wider: Vec<&str> = wider.lines().filter(gone).collect();
    let wide = 1_i64 << 40;
    let rows = [
        ("a", 1000, 1, 5),
        ("a", 2000, 2, wide),
        ("c", 3000, 1, wide),
        ("a", 12_000, 3, wide),
        ("z", 1_000_000, 1, 0),
    ];
    run(&job, &wider.join("\n"), &rows, &["--allow-drop"]);
    let mut found: Vec<Value> = job.lines("results");
    found.sort_by_key(|row| (row["window_start"].as_i64(), row["device"].to_string()));
    let result = |start: i64, device, n, total: Value| {
        json!({
            "window_start": start, "window_end": start + 10_000, "device": device, "n": n,
            "total": total,
        })
    };
    let expected = [
        result(0, "a", 2, Value::Null),
        result(0, "b", 1, Value::Null),
        result(0, "c", 1, json!(wide)),
        result(10_000, "a", 1, json!(wide)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_window_that_is_forgotten_takes_no_rows_when_they_may_be_later_than_before() {
    let job = begun();
    run(&job, JOB, &[("z", 30_000, 1, 0)], &[]);
    let later = changed(
        "tumbling: 10s,",
        "tumbling: 10s, late: { allowed: 1h, then: drop },",
    );
    let (code, parts, said) = plan(&job, &later);
    assert_eq!(code, Some(0), "{said}");
    assert!(parts.contains(&"summed kept".to_owned()), "{said}");
    // Two rows of windows that are over, and one of a window that is open; when it has fired it takes
    // another, which is late, but not too late.
    let rows = [("a", 2000, 7, 1), ("a", 15_000, 8, 1), ("a", 31_000, 9, 1)];
    run(&job, &later, &rows, &[]);
    run(&job, &later, &[("z", 50_000, 2, 0)], &[]);
    let rows = [("a", 32_000, 10, 1), ("z", 51_000, 3, 0)];
    run(&job, &later, &rows, &[]);
    let result = |row: &Value| {
        let number = |name: &str| row[name].as_i64().expect("a number");
        (
            number("window_start"),
            row["device"].to_string(),
            number("n"),
        )
    };
    let mut found: Vec<_> = job.lines("results").iter().map(result).collect();
    found.sort();
    let expected = [
        (0, "a", 1),
        (0, "b", 1),
        (30_000, "a", 1),
        (30_000, "a", 2),
        (30_000, "z", 1),
    ];
    let expected = expected.map(|(start, device, n)| (start, format!("{device:?}"), n));
    assert_eq!(found, expected);
}
