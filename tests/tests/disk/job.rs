//! The job whose disks fail, and what its input says that must come out.
//!
//! It has every operator there is (`kill/covered.rs` holds that). Every sink there is writes: files in
//! a folder of their own, documents and rows of the services by way of the outbox in the checkpoint
//! store, dead letters and standard output in folders of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thalweg_generate::{Event, FleetEvent, GenerateSpec, Generator, Kind, What};
use thalweg_oracle::risk;
use thalweg_tests::kafka::Broker;
use thalweg_tests::process::build_road_risk;
use thalweg_tests::standin::StandIn;

/// Length of the windows, milliseconds.
const WINDOW_MS: i64 = 10_000;

/// How many devices there are.
const DEVICES: u64 = 20;

/// How long a version of the grip of a device's road lasts, milliseconds, and how many there are.
const GRIP_MS: i64 = 60_000;
const GRIPS: i64 = 200;

/// The friction of a device's road in version `version`.
fn friction(device: u64, version: i64) -> f64 {
    (1 + (device.cast_signed() + version) % 9) as f64 / 10.0
}

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
    /// Lives as long as the job.
    _broker: Option<Broker>,
}

impl Job {
    /// With a broker one of the tables is a topic, without one a file.
    pub(crate) fn new(mut broker: Option<Broker>) -> Self {
        let mut folder = tempfile::tempdir().expect("a folder");
        folder.disable_cleanup(std::env::var_os("THALWEG_KEEP").is_some());
        let start = |service: &str, create: &str| {
            let ledger = folder.path().join(format!("{service}.ledger.jsonl"));
            StandIn::start(service, &[create], &ledger, &[])
        };
        let cosmos = start("cosmos", "fleet/newest:/device_id");
        let adx = start(
            "adx",
            "fleet/History(device_id:string, seq:long, temperature_c:real, ts:datetime, site:string, risk:real)",
        );
        let device = |number| {
            let (device, site) = (format!("dev-{number:06}"), site(number));
            format!("{}\n", json!({ "device_id": device, "site": site }))
        };
        let sites: String = (0..DEVICES).map(device).collect();
        let file = folder.path().join("sites.jsonl");
        std::fs::write(&file, sites).expect("the table");
        let table = match &mut broker {
            Some(broker) => {
                broker.create("sites", 2);
                assert_eq!(broker.produce_lines("sites", 2, &file), DEVICES);
                let address = broker.address();
                format!(
                    "kafka: {{ brokers: \"{address}\", topic: sites, start: earliest, until: latest }}"
                )
            }
            None => "file: { path: sites.jsonl }".to_owned(),
        };
        let mut grip = "device_id,at,friction\n".to_owned();
        for version in 0..GRIPS {
            let at = GenerateSpec::START_MS + version * GRIP_MS;
            for device in 0..DEVICES {
                let friction = friction(device, version);
                writeln!(grip, "dev-{device:06},{at},{friction}").expect("text");
            }
        }
        std::fs::write(folder.path().join("grip.csv"), grip).expect("the table");
        build_road_risk(&folder.path().join("road_risk.wasm"));
        std::fs::create_dir(folder.path().join("shown")).expect("a folder");
        let definition = include_str!("job.yaml")
            .replace("SITES", &table)
            .replace("COSMOS", &cosmos.url())
            .replace("ADX", &adx.url());
        std::fs::write(folder.path().join("job.yaml"), definition).expect("the definition");
        Self {
            folder,
            cosmos,
            adx,
            _broker: broker,
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

    /// Compares all output with the input; that of files, the letters and standard output are below
    /// `found`.
    pub(crate) fn judge(&self, events: u64, found: &Path) -> String {
        let expected = Expected::of(&generator(events));
        let mut windows = BTreeMap::new();
        for path in files(&found.join("windows")) {
            for window in lines(&path) {
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
        let asked = "History | project device_id, seq, site, risk";
        let rows = self.adx.query("fleet", asked);
        let keys: BTreeSet<_> = rows
            .iter()
            .map(|row| {
                let risk = row[3].as_f64().expect("a number").to_bits();
                (text(&row[0]), row[1].as_u64(), text(&row[2]), risk)
            })
            .collect();
        assert_eq!(rows.len(), keys.len(), "each row once");
        assert_eq!(keys, expected.rows, "rows");
        for folder in ["windows/early", "shown"] {
            let lines = files(&found.join(folder))
                .into_iter()
                .flat_map(|file| lines(&file));
            let seen: BTreeSet<_> = lines
                .map(|row| (text(&row["device"]), row["seq"].as_u64()))
                .collect();
            assert!(seen == expected.all, "{folder}: at least once");
        }
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
            "{} windows, {} rows at least once, {} dead letters, {} rows, {} documents",
            windows.len(),
            expected.all.len(),
            letters.len(),
            rows.len(),
            expected.newest().len()
        )
    }
}

/// The files in a folder, not those in what it contains.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.is_file()).collect()
}

/// Whole lines: a kill or a full disk may have cut the last one of standard output.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("text");
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let json = |line| serde_json::from_str(line).expect("JSON");
    whole.lines().map(json).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// What must come out, by plain maps.
#[derive(Default)]
struct Expected {
    /// By device and number, with the site that was added and the bits of the risk.
    rows: BTreeSet<(String, Option<u64>, String, u64)>,
    /// Those and the others, by device and number.
    all: BTreeSet<(String, Option<u64>)>,
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
                    Kind::Good | Kind::Late => expected.add(&event),
                    Kind::DuplicateOf(_) => {}
                    Kind::Corrupt(_) => {
                        expected.letters.insert((format!("part {split}"), index));
                    }
                }
            }
        }
        expected
    }

    /// Takes in a report that is neither repeated nor filtered.
    fn add(&mut self, event: &FleetEvent) {
        let (device, site) = (event.device_id(), site(event.device));
        let new = self.all.insert((device.clone(), Some(event.seq)));
        assert!(new, "a record is named once");
        if site == "north" {
            let start = event.ts_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
            *self.windows.entry((start, device)).or_default() += 1;
        } else {
            let version = (event.ts_ms - GenerateSpec::START_MS) / GRIP_MS;
            let friction = friction(event.device, version.min(GRIPS - 1));
            let risk = risk(event.speed_kmh(), friction, None).to_bits();
            let row = (device, Some(event.seq), site.to_owned(), risk);
            self.rows.insert(row);
        }
    }

    /// The newest window of each device: its start, and what it counts.
    fn newest(&self) -> BTreeMap<String, (i64, u64)> {
        let newest = self.windows.iter();
        newest
            .map(|((start, device), n)| (device.clone(), (*start, *n)))
            .collect()
    }
}
