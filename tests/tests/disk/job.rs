//! The job whose disks fail, and what its input says that must come out.
//!
//! Its steps are dedup, filter, enrich, route and window. Every sink there is writes: files in a folder
//! of their own, documents and rows of the services by way of the outbox in the checkpoint store, dead
//! letters in another folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thalweg_generate::{Event, GenerateSpec, Generator, Kind, What};
use thalweg_tests::standin::StandIn;

const JOB: &str = r#"
job: disks
settings:
  checkpoint: { every: 100ms, to: ./checkpoints }
  dead_letters: { file: { path: ./letters/dead.jsonl } }
sources:
  reports:
    generate: { what: fleet, devices: 20, seed: 5, rate: 2000, splits: 2, duplicates: 0.05, corrupt: 0.05 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int64, temperature_c: float64 }
    event_time: { column: ts, out_of_order: 2s, max_ahead: off }
tables:
  sites:
    file: { path: sites.jsonl }
    schema: { device_id: string, site: string }
    key: [device_id]
steps:
  once: { from: reports, dedup: { by: [device_id, seq], within: 1h } }
  kept: { from: once, filter: seq % 5 <> 3 }
  placed: { from: kept, enrich: { with: sites, on: device_id, take: [site], missing: dead-letter } }
  sorted: { from: placed, route: { north: "site = 'north'", rest: otherwise } }
  counted: { from: sorted.north, window: { tumbling: 10s, by: [device_id], aggregate: { n: count(*) } } }
sinks:
  windows: { from: counted, file: { path: ./windows, timestamps: unix_ms } }
  newest: { from: counted, cosmos: { endpoint: "COSMOS", database: fleet, container: newest, id: device_id, partition_key: device_id, newest_by: window_end, timestamps: unix_ms } }
  history: { from: sorted.rest, adx: { cluster: "ADX", database: fleet, table: History, publish: { every: 200ms }, repost_after: 1s } }
"#;
/// Length of the windows, milliseconds.
const WINDOW_MS: i64 = 10_000;

/// How many devices there are.
const DEVICES: u64 = 20;

/// Where a device is.
fn site(device: u64) -> &'static str {
    ["north", "south", "west"][(device % 3) as usize]
}

fn generator(events: u64) -> Generator {
    let spec = GenerateSpec {
        devices: DEVICES,
        seed: 5,
        splits: 2,
        duplicates: 0.05,
        corrupt: 0.05,
        events: Some(events),
        ..GenerateSpec::new(What::Fleet)
    };
    Generator::new(spec).expect("valid options")
}

/// A definition in a folder of its own, with the services that it writes to.
pub(crate) struct Job {
    folder: tempfile::TempDir,
    cosmos: StandIn,
    adx: StandIn,
}

impl Job {
    pub(crate) fn new() -> Self {
        let mut folder = tempfile::tempdir().expect("a folder");
        folder.disable_cleanup(std::env::var_os("THALWEG_KEEP").is_some());
        let start = |service: &str, create: &str| {
            let ledger = folder.path().join(format!("{service}.ledger.jsonl"));
            StandIn::start(service, &[create], &ledger, &[])
        };
        let cosmos = start("cosmos", "fleet/newest:/device_id");
        let adx = start(
            "adx",
            "fleet/History(device_id:string, seq:long, temperature_c:real, ts:datetime, site:string)",
        );
        let device = |number| {
            let (device, site) = (format!("dev-{number:06}"), site(number));
            format!("{}\n", json!({ "device_id": device, "site": site }))
        };
        let sites: String = (0..DEVICES).map(device).collect();
        std::fs::write(folder.path().join("sites.jsonl"), sites).expect("the table");
        let definition = JOB.replace("COSMOS", &cosmos.url());
        let definition = definition.replace("ADX", &adx.url());
        std::fs::write(folder.path().join("job.yaml"), definition).expect("the definition");
        Self {
            folder,
            cosmos,
            adx,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a file of the job's folder says; nothing if it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// How many events the input is to have, so that it ends a little behind what a checkpoint (as
    /// `thalweg checkpoint show --json` tells it) has read; and the fields that make it end there,
    /// soon.
    pub(crate) fn end(checkpoint: &Value) -> (u64, [String; 2]) {
        let splits = &checkpoint["manifest"]["sources"]["reports"]["splits"];
        let splits = splits.as_array().expect("splits").iter();
        let read = splits.map(|split| split["offset"].as_u64().expect("an offset"));
        let events = (read.max().expect("a split") + 1_000) * 2;
        let set = [("events", events), ("rate", 1_000_000)];
        let set = set.map(|(field, to)| format!("sources.reports.generate.{field}={to}"));
        (events, set)
    }

    /// Compares all output with the input; windows and letters are below `found`.
    pub(crate) fn judge(&self, events: u64, found: &Path) -> String {
        let expected = Expected::of(&generator(events));
        let mut windows = BTreeMap::new();
        for entry in std::fs::read_dir(found.join("windows")).expect("a folder") {
            let path = entry.expect("an entry").path();
            for window in path.is_file().then(|| lines(&path)).into_iter().flatten() {
                let start = window["window_start"].as_i64().expect("a time");
                let key = (start, text(&window["device_id"]));
                let n = window["n"].as_u64().expect("a number");
                assert_eq!(windows.insert(key, n), None, "{window} stands twice");
            }
        }
        assert_eq!(windows, expected.windows, "files");
        let mut letters = BTreeSet::new();
        for letter in lines(&found.join("letters/dead.jsonl")) {
            let offset = letter["offset"].as_u64().expect("a number");
            let place = (text(&letter["split"]), offset);
            assert!(letters.insert(place), "{letter} stands twice");
        }
        assert_eq!(letters, expected.letters, "dead letters");
        let asked = "History | project device_id, seq, site";
        let rows = self.adx.query("fleet", asked);
        let keys: BTreeSet<_> = rows
            .iter()
            .map(|row| (text(&row[0]), row[1].as_u64(), text(&row[2])))
            .collect();
        assert_eq!(rows.len(), keys.len(), "each row once");
        assert_eq!(keys, expected.rows, "rows");
        for (device, (start, n)) in &expected.newest() {
            let document = (self.cosmos).document("fleet/newest", &Value::from(&**device), device);
            let document = document.unwrap_or_else(|| panic!("no document of {device}"));
            assert_eq!(document["window_end"], start + WINDOW_MS, "{document}");
            assert_eq!(document["n"], *n, "{document}");
        }
        // No document went back.
        let written = self.cosmos.written("fleet/newest");
        assert_eq!(
            written.len(),
            expected.newest().len(),
            "documents of other devices"
        );
        format!(
            "{} windows, {} dead letters, {} rows, {} documents",
            windows.len(),
            letters.len(),
            rows.len(),
            expected.newest().len()
        )
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("text");
    let json = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(json).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// What must come out, by plain maps.
#[derive(Default)]
struct Expected {
    /// By device and number, with the site that was added.
    rows: BTreeSet<(String, Option<u64>, String)>,
    windows: BTreeMap<(i64, String), u64>,
    /// By split and offset.
    letters: BTreeSet<(String, u64)>,
}

impl Expected {
    fn of(generator: &Generator) -> Self {
        let mut expected = Self::default();
        for split in 0..generator.spec().splits {
            for index in 0..generator.split_events(split).expect("an end") {
                let truth = generator.truth(split, index);
                let Event::Fleet(event) = truth.event else {
                    continue;
                };
                match truth.kind {
                    Kind::Good | Kind::Late if event.seq % 5 == 3 => {}
                    Kind::Good | Kind::Late if site(event.device) != "north" => {
                        let site = site(event.device).to_owned();
                        let row = (event.device_id(), Some(event.seq), site);
                        assert!(expected.rows.insert(row), "a record is named once");
                    }
                    Kind::Good | Kind::Late => {
                        let start = event.ts_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
                        let window = (start, event.device_id());
                        *expected.windows.entry(window).or_default() += 1;
                    }
                    Kind::DuplicateOf(_) => {}
                    Kind::Corrupt(_) => {
                        expected.letters.insert((format!("part {split}"), index));
                    }
                }
            }
        }
        expected
    }

    /// The newest window of each device: its start, and what it counts.
    fn newest(&self) -> BTreeMap<String, (i64, u64)> {
        let newest = self.windows.iter();
        newest
            .map(|((start, device), n)| (device.clone(), (*start, *n)))
            .collect()
    }
}
