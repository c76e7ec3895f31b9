//! What must be there, and what must not have happened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};
use thalweg_generate::Generator;
use thalweg_oracle::{Observation, Place, RoadRisk, Weather, Window, apart};
use thalweg_standin_cosmos::oracle::violations;
use thalweg_tests::standin::StandIn;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The columns of the history, with the types of the table.
const HISTORY: [(&str, &str); 11] = [
    ("vehicle_id", "string"),
    ("seq", "long"),
    ("ts", "datetime"),
    ("segment", "string"),
    ("speed_kmh", "real"),
    ("friction", "real"),
    ("extra", "dynamic"),
    ("offset", "long"),
    ("temperature_c", "real"),
    ("rain_mm_h", "real"),
    ("risk", "real"),
];
/// How many segments the generators have.
const SEGMENTS: u64 = 200;
/// How far a mean may be from the exact one, in units of the last place: the engine rounds its sum
/// and its quotient, the oracle likewise.
const MEAN_APART_MAX: u64 = 1;

/// The table of the history, as the stand-in is told of it.
pub(crate) fn table() -> String {
    let columns = HISTORY.map(|(name, of)| format!("{name}:{of}"));
    format!("roads/Observations({})", columns.join(", "))
}

/// All that the job has put out.
pub(crate) struct Found {
    /// Lines of files.
    windows: Vec<Value>,
    /// Documents by segment.
    current: BTreeMap<String, Value>,
    /// Rows of the table.
    history: Vec<Map<String, Value>>,
    letters: Vec<Value>,
}

pub(crate) fn found(folder: &Path, cosmos: &StandIn, adx: &StandIn) -> Found {
    let lines = |path: &Path| -> Vec<Value> {
        let text = std::fs::read_to_string(path).expect("readable");
        let read = |line| serde_json::from_str(line).expect("JSON");
        text.lines().map(read).collect()
    };
    let mut windows = Vec::new();
    for entry in std::fs::read_dir(folder.join("windows")).expect("output") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            windows.extend(lines(&path));
        }
    }
    let segments = (0..SEGMENTS).map(|segment| format!("seg-{segment:04}"));
    let current = segments.filter_map(|segment| {
        let document = cosmos.document("roads/current", &Value::from(&*segment), &segment)?;
        Some((segment, document))
    });
    let columns = HISTORY.map(|(name, _)| name.to_owned());
    let asked = format!("Observations | project {}", columns.join(", "));
    let history = adx.query("roads", &asked);
    let named = |row: Vec<Value>| columns.iter().cloned().zip(row).collect();
    Found {
        windows,
        current: current.collect(),
        history: history.into_iter().map(named).collect(),
        letters: lines(&folder.join("dead-letters.jsonl")),
    }
}

/// Compares everything with the oracle; says how much that was.
pub(crate) fn compare(found: &Found, vehicles: &Generator, weather: &Generator) -> String {
    let mut model = RoadRisk::of(vehicles, weather);
    let rows = history(&found.history, &mut model);
    let (dead, letters) = letters(&found.letters, &model);
    let windows = model.windows(&dead);
    let lines = files(&found.windows, &windows);
    let current = RoadRisk::current(&windows);
    let documents = documents(&found.current, &current);
    let late = model.late().len();
    let (duplicates, filtered) = model.dropped();
    format!(
        "{rows} rows in Azure Data Explorer, {lines} lines in files, {documents} documents in Cosmos DB, \
         {letters} dead letters; {late} rows lay behind, {} of them too late; {duplicates} duplicates, \
         {filtered} filtered",
        dead.len()
    )
}

/// Every row of the history, once.
fn history(found: &[Map<String, Value>], model: &mut RoadRisk) -> usize {
    let mut seen = BTreeSet::new();
    for row in found {
        let key = (
            text(&row["vehicle_id"]),
            row["seq"].as_u64().expect("a number"),
        );
        assert!(seen.insert(key.clone()), "{key:?} stands twice");
        if row["rain_mm_h"].is_null() {
            let settled = model.settle_weather(&key.0, key.1);
            settled.expect("without weather");
        }
        let expected = model.observations().get(&key);
        let expected = expected.unwrap_or_else(|| panic!("{row:?} is not in the input"));
        assert_eq!(said(row, expected), *expected, "{row:?}");
    }
    let missing = model.observations().iter();
    let missing: Vec<_> = missing.filter(|(key, _)| !seen.contains(*key)).collect();
    assert!(
        missing.is_empty(),
        "{} rows are missing, from {:?} to {:?}",
        missing.len(),
        missing
            .iter()
            .map(|(_, row)| row)
            .min_by_key(|row| row.ts_ms),
        missing
            .iter()
            .map(|(_, row)| row)
            .max_by_key(|row| row.ts_ms),
    );
    seen.len()
}

/// A row as the oracle has it. Which split it is of, and whether it is late, the table does not say.
fn said(row: &Map<String, Value>, expected: &Observation) -> Observation {
    let float = |name: &str| row[name].as_f64().expect("a number");
    let ts = OffsetDateTime::parse(&text(&row["ts"]), &Rfc3339).expect("a time");
    let weather = (!row["rain_mm_h"].is_null()).then(|| Weather {
        temperature_c: float("temperature_c"),
        rain_mm_h: float("rain_mm_h"),
    });
    Observation {
        place: (expected.place.0, row["offset"].as_u64().expect("a number")),
        vehicle_id: text(&row["vehicle_id"]),
        seq: row["seq"].as_u64().expect("a number"),
        ts_ms: i64::try_from(ts.unix_timestamp_nanos() / 1_000_000).expect("a time"),
        segment: text(&row["segment"]),
        speed_kmh: float("speed_kmh"),
        friction: float("friction"),
        extra: row["extra"].clone(),
        weather,
        risk: float("risk"),
        late: expected.late,
    }
}

/// The dead letters, each once; gives the places of those that were too late.
fn letters(found: &[Value], model: &RoadRisk) -> (BTreeSet<Place>, usize) {
    let mut ids = BTreeSet::new();
    let mut dead = BTreeSet::new();
    let mut unreadable = BTreeMap::new();
    for letter in found {
        assert!(ids.insert(text(&letter["id"])), "{letter} stands twice");
        let split = text(&letter["split"]);
        let split = split
            .rsplit_once(' ')
            .and_then(|(_, split)| split.parse().ok());
        let offset = letter["offset"].as_u64().expect("a number");
        let place: Place = (split.expect("a split"), offset);
        let source = ["vehicles", "weather"]
            .into_iter()
            .find(|source| letter["source"] == *source);
        let source = source.expect("a source");
        let class = text(&letter["class"]);
        if class == "late" {
            assert_eq!(
                (source, &letter["step"]),
                ("vehicles", &Value::from("per_segment"))
            );
            assert!(dead.insert(place), "{letter} stands twice");
        } else {
            let before = unreadable.insert((source, place), class);
            assert_eq!(before, None, "{letter} stands twice");
        }
    }
    let expected: BTreeMap<_, _> = (model.letters().iter())
        .map(|(place, class)| (*place, (*class).to_owned()))
        .collect();
    assert_eq!(unreadable, expected, "dead letters");
    assert!(dead.is_subset(&model.late()), "only late rows are late");
    (dead, ids.len())
}

/// Every window, once.
fn files(found: &[Value], expected: &BTreeMap<(i64, String), Window>) -> usize {
    let mut seen = BTreeSet::new();
    for line in found {
        let key = (
            line["window_start"].as_i64().expect("a time"),
            text(&line["segment"]),
        );
        assert!(seen.insert(key.clone()), "{key:?} stands twice");
        let window = expected.get(&key);
        same(
            line,
            window.unwrap_or_else(|| panic!("{line} is of no row")),
        );
        assert_eq!(line["window_end"], key.0 + 10_000);
    }
    for key in expected.keys() {
        assert!(seen.contains(key), "{key:?} is missing");
    }
    seen.len()
}

/// The newest window of every segment.
fn documents(found: &BTreeMap<String, Value>, expected: &BTreeMap<String, (i64, Window)>) -> usize {
    assert!(
        found.keys().eq(expected.keys()),
        "documents of other segments"
    );
    for (segment, document) in found {
        let (start, window) = &expected[segment];
        assert_eq!(document["segment"], **segment);
        assert_eq!(document["window_start"], *start, "{document}");
        assert_eq!(document["window_end"], start + 10_000);
        same(document, window);
    }
    found.len()
}

fn same(found: &Value, expected: &Window) {
    let float = |name: &str| found[name].as_f64().expect("a number");
    assert_eq!(
        found["vehicles"], expected.vehicles,
        "{found} is not {expected:?}"
    );
    assert_eq!(
        float("worst"),
        expected.worst,
        "{found} is not {expected:?}"
    );
    let far = apart(float("mean_risk"), expected.mean_risk);
    assert!(far <= MEAN_APART_MAX, "{found} is not {expected:?}");
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// Checks what the services saw; says how much that was.
pub(crate) fn ledgers(cosmos: &StandIn, adx: &StandIn) -> String {
    let entries = cosmos.ledger();
    let wrong = violations(&entries);
    assert!(wrong.is_empty(), "{wrong:#?}");
    // No generation writes any more once its successor has.
    let (mut newest, mut generations, mut writes) = (0, BTreeSet::new(), 0);
    for entry in entries.iter().filter(|entry| entry.applied) {
        for write in entry.details["writes"].as_array().into_iter().flatten() {
            let Some(generation) = write["stamp"]["generation"].as_u64() else {
                continue;
            };
            assert!(generation >= newest, "fenced, and yet applied: {entry:?}");
            newest = generation;
            generations.insert(generation);
            writes += 1;
        }
    }
    // What a run that was killed had written already was met by the next: this was no calm sea.
    let met = entries.iter().filter(|entry| !entry.applied);
    let met = met.filter(|entry| matches!(entry.answered, Some(409 | 412)));
    let met = met.count();
    assert!(generations.len() >= 10, "too few generations write");
    // Every tag is taken in once, whoever asked and however often.
    let mut tags = BTreeSet::new();
    let mut skipped = 0;
    for entry in adx
        .ledger()
        .iter()
        .filter(|entry| entry.operation == "ingest")
    {
        if entry.applied {
            let tag = entry.details["tags"].to_string();
            assert!(tags.insert(tag), "ingested twice: {entry:?}");
        } else {
            skipped += 1;
        }
    }
    format!(
        "{writes} documents written by {} generations, {met} refused as known; {} tags ingested, \
         {skipped} refused as known",
        generations.len(),
        tags.len()
    )
}
