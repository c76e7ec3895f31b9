//! The jobs of these tests: vehicles in; documents and rows out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thalweg_generate::{Event, GenerateSpec, Generator, Kind, What};
use thalweg_tests::standin::StandIn;

/// The container of results by vehicle and window.
pub(crate) const WINDOWS: &str = "roads/windows";
/// The container of the newest result of each vehicle.
pub(crate) const CURRENT: &str = "roads/current";
/// The table of observations.
pub(crate) const TABLE: &str = "roads/Observations(vehicle_id:string, seq:long, segment:string, \
                                speed_kmh:real, event_time:datetime)";
const WINDOW_MS: i64 = 10_000;

/// Both stand-ins and a folder for a job.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) cosmos: StandIn,
    pub(crate) adx: StandIn,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let create = ["roads/windows:/vehicle_id", "roads/current:/vehicle_id"];
        let ledger = |name: &str| folder.path().join(name);
        Self {
            cosmos: StandIn::start("cosmos", &create, &ledger("cosmos.jsonl"), &[]),
            adx: StandIn::start("adx", &[TABLE], &ledger("adx.jsonl"), &[]),
            folder,
        }
    }

    /// Writes a definition, in which `COSMOS` and `ADX` stand for the stand-ins.
    pub(crate) fn job(&self, text: &str) -> PathBuf {
        let text = (text.replace("COSMOS", &self.cosmos.url())).replace("ADX", &self.adx.url());
        write_job(self.folder.path(), &text)
    }

    /// What has become a dead letter, by (class, code); each letter once.
    pub(crate) fn dead_letters(&self) -> BTreeMap<(String, String), usize> {
        let path = self.folder.path().join("dead-letters.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut ids = BTreeSet::new();
        let mut letters: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in text.lines() {
            let letter: Value = serde_json::from_str(line).expect("JSON");
            let id = letter["id"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id), "stands twice: {line}");
            let name = |field: &str| letter[field].as_str().unwrap_or_default().to_owned();
            *letters.entry((name("class"), name("code"))).or_default() += 1;
        }
        letters
    }
}

pub(crate) fn write_job(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("job.yaml");
    std::fs::write(&path, text).expect("written");
    path
}

/// Vehicles of which some reports come minutes late, some twice, and some are damaged.
pub(crate) struct Vehicles {
    pub(crate) events: u64,
    pub(crate) devices: u64,
    pub(crate) late: f64,
    pub(crate) rate: u64,
}

/// A report that counts: (vehicle, seq), segment, tenths of km/h, event time in milliseconds.
pub(crate) type Report = ((String, u64), String, i64, i64);
/// What a window of a vehicle holds: reports, and the fastest and the sum in tenths of km/h.
pub(crate) type Figures = (u64, i64, i64);

impl Vehicles {
    /// The job: dedup, a filter, windows of a vehicle that late reports update, documents of every
    /// window and of the newest, rows of every report.
    pub(crate) fn text(&self) -> String {
        let Self {
            events,
            devices,
            late,
            rate,
        } = self;
        format!(
            r#"
job: vehicles
settings:
  checkpoint: {{ every: 200ms, to: ./checkpoints }}
  dead_letters: {{ file: {{ path: ./dead-letters.jsonl }} }}
sources:
  vehicles:
    generate: {{ what: vehicles, events: {events}, devices: {devices}, seed: 7, late: {late}, duplicates: 0.02, corrupt: 0.01, rate: {rate} }}
    schema: {{ vehicle_id: string, seq: int64, ts: timestamp, segment: {{ type: string, path: /position/segment, required: true }}, speed_kmh: float64, friction: float64 }}
    event_time: {{ column: ts, out_of_order: 1s }}
steps:
  unique: {{ from: vehicles, dedup: {{ by: [vehicle_id, seq], within: 3h, same_time: true }} }}
  plausible: {{ from: unique, filter: speed_kmh between 0 and 260 and friction >= 0 }}
  per_vehicle:
    from: plausible
    window: {{ tumbling: 10s, by: [vehicle_id], aggregate: {{ n: count(*), fastest: max(speed_kmh), mean: avg(speed_kmh) }}, late: {{ allowed: 3h, then: dead-letter }} }}
  observed: {{ from: plausible, select: {{ vehicle_id: vehicle_id, seq: seq, segment: segment, speed_kmh: speed_kmh }} }}
sinks:
  windows: {{ from: per_vehicle, cosmos: {{ endpoint: "COSMOS", database: roads, container: windows, id: window_start, partition_key: vehicle_id }} }}
  current: {{ from: per_vehicle, cosmos: {{ endpoint: "COSMOS", database: roads, container: current, id: vehicle_id, partition_key: vehicle_id, newest_by: window_end }} }}
  history: {{ from: observed, adx: {{ cluster: "ADX", database: roads, table: Observations, publish: {{ every: 300ms }} }} }}
"#
        )
    }

    /// What counts, by plain reading of what the generator says is true.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let generator = Generator::new(GenerateSpec {
            events: Some(self.events),
            devices: self.devices,
            seed: 7,
            late: self.late,
            duplicates: 0.02,
            corrupt: 0.01,
            ..GenerateSpec::new(What::Vehicles)
        });
        let generator = generator.expect("valid");
        let mut reports = Vec::new();
        for number in 0..self.events {
            let (split, index) = generator.place(number);
            let truth = generator.truth(split, index);
            let Event::Vehicle(event) = truth.event else {
                panic!("vehicles were asked for");
            };
            let once = matches!(truth.kind, Kind::Good | Kind::Late);
            let plausible = (0..=2600).contains(&event.speed_deci) && event.friction_centi >= 0;
            if once && plausible {
                let name = (event.vehicle_id(), event.seq);
                reports.push((name, event.segment_id(), event.speed_deci, event.ts_ms));
            }
        }
        reports
    }

    /// The windows, by vehicle and start.
    pub(crate) fn windows(&self) -> BTreeMap<(String, i64), Figures> {
        let mut windows: BTreeMap<(String, i64), Figures> = BTreeMap::new();
        for ((vehicle, _), _, speed, at) in self.reports() {
            let start = at.div_euclid(WINDOW_MS) * WINDOW_MS;
            let figures = windows.entry((vehicle, start)).or_insert((0, i64::MIN, 0));
            *figures = (figures.0 + 1, figures.1.max(speed), figures.2 + speed);
        }
        windows
    }

    /// Documents and rows are the oracle's, and dead letters what was damaged.
    pub(crate) fn check(&self, bench: &Bench) {
        let windows = self.windows();
        let written = bench.cosmos.written(WINDOWS);
        assert_eq!(written.len(), windows.len(), "one document a window");
        let mut newest = BTreeMap::new();
        for ((vehicle, start), figures) in &windows {
            let id = time(*start);
            let document = (bench.cosmos).document(WINDOWS, &json!(vehicle), &id);
            check_document(document.as_ref(), vehicle, *start, *figures);
            newest.insert(vehicle, (*start, *figures));
        }
        assert_eq!(bench.cosmos.written(CURRENT).len(), newest.len());
        for (vehicle, (start, figures)) in newest {
            let document = (bench.cosmos).document(CURRENT, &json!(vehicle), vehicle);
            check_document(document.as_ref(), vehicle, start, figures);
        }
        let mut expected: Vec<Vec<Value>> = (self.reports().into_iter())
            .map(|((vehicle, seq), segment, speed, at)| {
                let speed = speed as f64 / 10.0;
                vec![
                    json!(vehicle),
                    json!(seq),
                    json!(segment),
                    json!(speed),
                    json!(time(at)),
                ]
            })
            .collect();
        let order = |row: &Vec<Value>| (row[0].to_string(), row[1].as_u64());
        expected.sort_by_key(order);
        let kql = "Observations | project vehicle_id, seq, segment, speed_kmh, event_time";
        let mut rows = bench.adx.query("roads", kql);
        rows.sort_by_key(order);
        for row in &mut rows {
            row[4] = json!(row[4].as_str().map(milliseconds));
        }
        assert_eq!(rows.len(), expected.len(), "rows in the table");
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row, expected);
        }
    }
}

fn check_document(document: Option<&Value>, vehicle: &str, start: i64, figures: Figures) {
    let what = format!("{vehicle} at {}", time(start));
    let document = document.unwrap_or_else(|| panic!("{what} is missing"));
    let (n, fastest, sum) = figures;
    assert_eq!(document["vehicle_id"], vehicle, "{what}");
    assert_eq!(document["window_start"], time(start), "{what}");
    assert_eq!(document["window_end"], time(start + WINDOW_MS), "{what}");
    assert_eq!(document["n"], n, "{what}: {document}");
    assert_eq!(document["fastest"], fastest as f64 / 10.0, "{what}");
    let mean = document["mean"].as_f64().expect("a number");
    assert!((mean - sum as f64 / 10.0 / n as f64).abs() < 1e-9, "{what}");
}

/// A time as JSON output has it.
pub(crate) fn time(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // "chrono-Compatible Low-Level Date Algorithms", Howard Hinnant: days to civil.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// A time of Azure Data Explorer, which has ticks of 100 ns, cut to milliseconds.
fn milliseconds(text: &str) -> String {
    let text = text.trim_end_matches('Z');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}.{:0<3.3}Z", fraction)
}
