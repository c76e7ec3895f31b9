//! Input beyond `out_of_order`, in several processes: what is late depends on how epochs were cut, and
//! is what plain maps say for the cuts that the manifests record.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use thalweg_generate::{Event, GenerateSpec, Generator, Kind, What};

use super::processes::ways;
use super::{Job, json, read_lines};

/// All of its checkpoints are kept, so that every cut can be read. Records are out of order by up to
/// 200 ms, so that at every cut some are late that would not be at another.
const JOB: &str = r"
job: late
settings:
  checkpoint: { every: 200ms, to: ./checkpoints, keep: 1000 }
sources:
  reports:
    generate: { what: fleet, devices: 40, seed: 5, events: 3000, rate: 3000, splits: 2, late: 0.05 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int64 }
    event_time: { column: ts, out_of_order: 20ms }
steps:
  once: { from: reports, dedup: { by: [device_id, seq], within: 30m, same_time: true } }
  counted: { from: once, window: { tumbling: 100ms, by: [device_id], aggregate: { n: count(*) } } }
sinks:
  windows: { from: counted, file: { path: ./windows, timestamps: unix_ms } }
";
const EVENTS: u64 = 3000;
const OUT_OF_ORDER_MS: i64 = 20;
const WITHIN_MS: i64 = 30 * 60_000;
const WINDOW_MS: i64 = 100;

fn generator() -> Generator {
    let spec = GenerateSpec {
        devices: 40,
        seed: 5,
        events: Some(EVENTS),
        late: 0.05,
        splits: 2,
        ..GenerateSpec::new(What::Fleet)
    };
    Generator::new(spec).expect("valid options")
}

/// What a job makes of its input.
#[derive(Debug, Default, PartialEq, Eq)]
struct Made {
    /// Rows on time, by the start of their window and their device.
    windows: BTreeMap<(i64, String), u64>,
    /// Late rows: split, offset, and why.
    late: BTreeSet<(String, u64, String)>,
}

impl Made {
    fn rows(&self) -> u64 {
        self.windows.values().sum::<u64>() + self.late.len() as u64
    }
}

/// The cuts of a job that has finished: of each epoch the splits that moved, and how far.
fn cuts(job: &Job) -> Vec<Vec<(u32, u64)>> {
    let listed = json(&job.checkpoint(&["list"]));
    let mut cuts = Vec::new();
    for checkpoint in listed["checkpoints"].as_array().expect("a list") {
        let epoch = checkpoint["epoch"].to_string();
        let shown = json(&job.checkpoint(&["show", "--epoch", &epoch]));
        let manifest = &shown["manifest"];
        let splits = manifest["sources"]["reports"]["splits"].as_array();
        let part = |id: &Value| {
            let split = splits.expect("splits").iter().find(|one| one["id"] == *id);
            let name = split.and_then(|one| one["name"].as_str()).expect("a name");
            let number = name
                .strip_prefix("part ")
                .expect("a split of the generator");
            number.parse::<u32>().expect("a number")
        };
        for cut in manifest["cuts"].as_array().expect("cuts") {
            let moved = cut["offsets"].as_array().expect("offsets").iter();
            let moved = moved.map(|to| (part(&to[0]), to[1].as_u64().expect("an offset")));
            let mut moved: Vec<(u32, u64)> = moved.collect();
            moved.sort_unstable();
            cuts.push(moved);
        }
    }
    cuts
}

/// The answer for these cuts: one epoch after the other, its rows against the watermark that the
/// epochs before have come to.
fn answer(generator: &Generator, cuts: &[Vec<(u32, u64)>]) -> Made {
    let mut made = Made::default();
    let splits = generator.spec().splits;
    let end = |split| generator.split_events(split).expect("an end");
    let mut at: BTreeMap<u32, (u64, i64)> =
        (0..splits).map(|split| (split, (0, i64::MIN))).collect();
    let mut watermark = i64::MIN;
    for cut in cuts {
        for &(split, to) in cut {
            let (from, newest) = at.get_mut(&split).expect("a split");
            for index in std::mem::replace(from, to)..to {
                let truth = generator.truth(split, index);
                assert!(matches!(truth.kind, Kind::Good | Kind::Late));
                let Event::Fleet(event) = truth.event else {
                    panic!("no report: {truth:?}");
                };
                *newest = event.ts_ms.max(*newest);
                let start = event.ts_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
                let why = match () {
                    () if event.ts_ms < watermark.saturating_sub(WITHIN_MS) => "too-old",
                    () if start + WINDOW_MS <= watermark => "window-fired",
                    () => {
                        let window = (start, event.device_id());
                        *made.windows.entry(window).or_default() += 1;
                        continue;
                    }
                };
                let place = (format!("part {split}"), index, why.to_owned());
                made.late.insert(place);
            }
        }
        let open = at.iter().filter(|(split, (to, _))| *to < end(**split));
        let least = open.map(|(_, (_, newest))| newest.saturating_sub(OUT_OF_ORDER_MS));
        watermark = watermark.max(least.min().unwrap_or(i64::MAX));
    }
    assert!(at.iter().all(|(split, (to, _))| *to == end(*split)));
    made
}

/// What became visible of a job; nothing of it twice.
fn found(job: &Job) -> Made {
    let mut made = Made::default();
    for line in job.lines("windows") {
        let device = line["device_id"].as_str().expect("a device").to_owned();
        let start = line["window_start"].as_i64().expect("a time");
        let n = line["n"].as_u64().expect("a count");
        let before = made.windows.insert((start, device), n);
        assert_eq!(before, None, "a window has two results: {line}");
    }
    for letter in read_lines(&job.path("dead-letters.jsonl")) {
        assert_eq!(letter["class"], "late", "{letter}");
        let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
        let offset = letter["offset"].as_u64().expect("an offset");
        let new = made.late.insert((text("split"), offset, text("code")));
        assert!(new, "a row is late twice: {letter}");
    }
    made
}

#[test]
fn what_is_late_is_what_the_recorded_cuts_say_and_nothing_is_missing() {
    let generator = generator();
    for way in ways() {
        let job = Job::new(JOB);
        let (code, said) = job.start(&way).end();
        assert_eq!(code, Some(0), "{way:?}: {said}");
        let (found, cuts) = (found(&job), cuts(&job));
        assert_eq!(found, answer(&generator, &cuts), "{way:?}");
        assert_eq!(found.rows(), EVENTS, "{way:?}");
        // Some rows are beyond what waits for them, in several epochs.
        assert!(found.late.len() > 10, "{way:?}: {}", found.late.len());
        let moving = cuts.iter().filter(|cut| !cut.is_empty());
        assert!(moving.count() > 2, "{way:?}: {cuts:?}");
    }
}
