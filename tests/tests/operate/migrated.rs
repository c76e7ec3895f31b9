//! A window whose aggregates come, go and change places between runs: `plan` says that it is
//! migrated, and the run goes on with what it had. An oracle of plain maps says what must come out.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::{Map, Value, json};

use super::changes::plan;
use super::savepoints::{post, savepoints};
use super::{Job, status, until};

/// The job with the aggregates of a phase.
fn definition(phase: usize) -> String {
    let aggregates = PHASES[phase]
        .iter()
        .map(|(name, function)| format!("{name}: {function}"));
    let aggregates: Vec<String> = aggregates.collect();
    format!(
        r"
job: growing
settings:
  # Checkpoints are taken when the test asks for them.
  checkpoint: {{ every: 1h, to: ./checkpoints }}
  dead_letters: {{ file: {{ path: ./dead.jsonl }} }}
sources:
  readings:
    file: {{ path: ./in/*.jsonl, follow: true }}
    schema: {{ device: {{ type: string, required: true }}, ts: {{ type: timestamp, required: true }}, power: int64, load: int64 }}
    event_time: {{ column: ts, out_of_order: 1s, max_ahead: off }}
steps:
  summed:
    from: readings
    window: {{ tumbling: 10s, by: [device], aggregate: {{ {} }} }}
sinks:
  results: {{ from: summed, file: {{ path: ./results, timestamps: unix_ms }} }}
",
        aggregates.join(", ")
    )
}

type Aggregates = &'static [(&'static str, &'static str)];

/// The aggregates of each run: some come, some go, all but the first change places; one that has
/// gone comes again.
const PHASES: [Aggregates; 3] = [
    &[
        ("n", "count(*)"),
        ("total", "sum(power)"),
        ("least", "min(power)"),
    ],
    &[
        ("most", "max(power)"),
        ("total", "sum(power)"),
        ("mean", "avg(load)"),
        ("n", "count(*)"),
    ],
    &[
        ("least", "min(power)"),
        ("mean", "avg(load)"),
        ("n", "count(*)"),
        ("most", "max(power)"),
    ],
];
const BEGIN_MS: i64 = 1_700_000_000_000;
const WINDOW_MS: i64 = 10_000;
const OUT_OF_ORDER_MS: i64 = 1000;
/// Rows of a phase: no window ends where a phase does.
const ROWS: i64 = 310;

#[derive(Clone, Copy)]
struct Row {
    phase: usize,
    device: i64,
    ts: i64,
    power: i64,
    load: i64,
}

/// The rows of a phase, of which some are out of order. Some devices are of one phase alone.
fn rows(phase: usize) -> Vec<Row> {
    let from = phase as i64 * ROWS;
    let row = |n: i64| Row {
        phase,
        device: match n % 9 {
            8 => 100 + phase as i64,
            device => device,
        },
        ts: BEGIN_MS + n * 250 - n * 7919 % OUT_OF_ORDER_MS,
        power: n * 31 % 101 - 40,
        load: n * 17 % 89,
    };
    let mut rows: Vec<Row> = (from..from + ROWS).map(row).collect();
    if phase + 1 == PHASES.len() {
        // Far ahead: all windows before it are complete.
        let end = Row {
            ts: BEGIN_MS + 10_000_000,
            ..row(from + ROWS)
        };
        rows.push(end);
    }
    rows
}

/// Windows by start and device, and their rows.
type Windows = BTreeMap<(i64, i64), Vec<Row>>;

/// What a phase puts out of windows that are complete at its end.
fn fire(windows: &mut Windows, phase: usize) -> Vec<Value> {
    let newest = windows.values().flatten().map(|row| row.ts).max();
    let watermark = newest.expect("rows") - OUT_OF_ORDER_MS;
    let (due, open) = std::mem::take(windows)
        .into_iter()
        .partition(|((start, _), _)| start + WINDOW_MS <= watermark);
    *windows = open;
    let due: Windows = due;
    due.into_iter()
        .map(|(window, rows)| result(window, &rows, phase))
        .collect()
}

fn result((start, device): (i64, i64), rows: &[Row], phase: usize) -> Value {
    let mut result = Map::from_iter([
        ("window_start".to_owned(), json!(start)),
        ("window_end".to_owned(), json!(start + WINDOW_MS)),
        ("device".to_owned(), json!(format!("d{device}"))),
    ]);
    let oldest = rows.iter().map(|row| row.phase).min().expect("a row");
    for (name, function) in PHASES[phase] {
        let powers = rows.iter().map(|row| row.power);
        // It has been there without a break for the phases since this one.
        let missing = (0..phase).rev().find(|before| {
            let names = PHASES[*before].iter();
            !names.into_iter().any(|(other, _)| other == name)
        });
        let knows_all = missing.is_none_or(|missing| missing < oldest);
        let value = match *function {
            "count(*)" => json!(rows.len()),
            _ if !knows_all => Value::Null,
            "sum(power)" => json!(powers.sum::<i64>()),
            "min(power)" => json!(powers.min()),
            "max(power)" => json!(powers.max()),
            "avg(load)" => {
                let sum: i64 = rows.iter().map(|row| row.load).sum();
                json!(sum as f64 / rows.len() as f64)
            }
            other => panic!("{other}"),
        };
        result.insert((*name).to_owned(), value);
    }
    Value::Object(result)
}

/// Appends the rows of a phase to the file that the job reads; its length then.
fn write(job: &Job, rows: &[Row]) -> u64 {
    std::fs::create_dir_all(job.path("in")).expect("a folder");
    let path = job.path("in/readings.jsonl");
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.expect("a file");
    for row in rows {
        let line = json!({
            "device": format!("d{}", row.device), "ts": row.ts, "power": row.power, "load": row.load,
        });
        writeln!(file, "{line}").expect("written");
    }
    file.metadata().expect("a file").len()
}

#[test]
fn a_window_whose_aggregates_come_go_and_move_goes_on_with_its_state() {
    let job = Job::new(&definition(0));
    let (mut windows, mut expected) = (Windows::new(), Vec::new());
    for phase in 0..PHASES.len() {
        let definition = definition(phase);
        if phase > 0 {
            let (code, parts, said) = plan(&job, &definition);
            let fates = ["readings kept", "summed migrated", "results kept"];
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(parts[..3], fates, "{said}");
        }
        std::fs::write(job.path("job.yaml"), definition).expect("the definition");
        let rows = rows(phase);
        let end = write(&job, &rows);
        for row in rows {
            let start = row.ts.div_euclid(WINDOW_MS) * WINDOW_MS;
            windows.entry((start, row.device)).or_default().push(row);
        }
        expected.extend(fire(&mut windows, phase));

        let workers = (phase % 2 + 1).to_string();
        let mut running = job.start(&[
            "--take-over",
            "--workers",
            &workers,
            "--listen",
            "127.0.0.1:0",
        ]);
        let address = running.address();
        until("all rows are read", || {
            status(&address)["nodes"][0]["splits"][0]["offset"].as_u64() == Some(end)
        });
        // Stopped with a checkpoint; or killed after a savepoint, from which it goes on.
        if phase == 1 {
            let (code, said) = post(&address, "");
            assert_eq!(code, 201, "{said}");
            assert_eq!(savepoints(&job).len(), 1, "{said}");
            running.signal("KILL");
            assert_eq!(running.end().0, None);
        } else {
            running.signal("TERM");
            let (code, said) = running.end();
            assert_eq!(code, Some(0), "{said}");
        }
    }
    // Some of the windows had rows of two phases, with what is not known, and some of one alone.
    let nulls = |name: &str| expected.iter().filter(|row| row[name].is_null()).count();
    assert!(nulls("most") > 0 && nulls("mean") > 0, "{expected:#?}");

    let mut found = job.lines("results");
    for rows in [&mut found, &mut expected] {
        rows.sort_by_key(Value::to_string);
    }
    let differs = found.iter().zip(&expected).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(found.len(), expected.len());
    let letters = std::fs::read_to_string(job.path("dead.jsonl")).expect("text");
    assert_eq!(letters, "");
}
