//! What the job should make of its input, told by plain maps, for the cuts that the manifests
//! record: one epoch after the other, all rows of an epoch in one go.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use thalweg_checkpoint::Manifest;

use crate::job::{Shape, is_trap};
use crate::record::{Extent, Input, OUT_OF_ORDER_MS, Report, split_number};

const WITHIN_MS: u64 = 500;
const VERSIONS_OUT_OF_ORDER_MS: i64 = 60;
const WAIT_MS: i64 = 200;
const WINDOW_MS: i64 = 100;

/// A dead letter: class, step, split, offset.
pub(crate) type Letter = (String, String, String, u64);

/// What is put out: by the epoch of the commit that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) history: BTreeMap<u64, Vec<String>>,
    pub(crate) results: BTreeMap<u64, Vec<String>>,
    pub(crate) letters: BTreeMap<u64, Vec<Letter>>,
    /// Rows that repeat another.
    pub(crate) duplicates: u64,
    /// Rows held for the table at the end of a commit.
    pub(crate) held: u64,
}

/// The progress of a source.
#[derive(Clone, Copy, Debug)]
struct Progress {
    watermark: i64,
    idle: bool,
    finished: bool,
}

/// One source: where its splits stand.
#[derive(Debug)]
struct Track {
    extent: Extent,
    out_of_order: i64,
    offsets: BTreeMap<u32, u64>,
    idle: BTreeSet<u32>,
    newest: BTreeMap<u32, i64>,
    watermark: i64,
}

impl Track {
    fn new(extent: Extent, out_of_order: i64) -> Self {
        Self {
            extent,
            out_of_order,
            offsets: (0..extent.splits).map(|split| (split, 0)).collect(),
            idle: BTreeSet::new(),
            newest: BTreeMap::new(),
            watermark: i64::MIN,
        }
    }

    fn progress(&mut self) -> Progress {
        let ended = |at: u64| at == self.extent.count && !self.extent.endless;
        let watermark = |split: &u32| {
            let newest = self.newest.get(split);
            newest.map_or(i64::MIN, |newest| newest - self.out_of_order)
        };
        let finished = self.offsets.values().all(|at| ended(*at));
        let live = (self.offsets.iter())
            .filter(|(split, at)| !ended(**at) && !self.idle.contains(split))
            .map(|(split, _)| watermark(split))
            .min();
        let all = self.offsets.keys().map(watermark).max();
        let now = match live {
            Some(least) => least,
            None if finished => i64::MAX,
            // Nothing holds it back: all that was read is complete.
            None => all.unwrap_or(i64::MIN),
        };
        self.watermark = self.watermark.max(now);
        Progress {
            watermark: self.watermark,
            idle: live.is_none() && !finished,
            finished,
        }
    }
}

/// A row on its way, with the split and offset of its record.
type Row = (Report, (u32, u64));

/// The job, so far.
struct Model {
    input: Input,
    /// Whether the plausible are told by the guest.
    guest: bool,
    reports: Track,
    versions: Track,
    /// Event times of rows passed on, by device and seq.
    passed: BTreeMap<(u64, u64), Vec<i64>>,
    dedup_watermark: i64,
    /// All versions, by device, then by time and origin.
    table: BTreeMap<u64, BTreeMap<(i64, u32, u64), u64>>,
    held: Vec<Row>,
    horizon: i64,
    windows: BTreeMap<(i64, u64), (u64, i64, Option<u64>)>,
    fired: i64,
    output: Output,
}

/// The answer for these commits.
pub(crate) fn answer(shape: &Shape, commits: &BTreeMap<u64, Manifest>) -> Output {
    let input = shape.input;
    let mut model = Model {
        input,
        guest: shape.guest,
        reports: Track::new(input.reports, OUT_OF_ORDER_MS),
        versions: Track::new(input.versions, VERSIONS_OUT_OF_ORDER_MS),
        passed: BTreeMap::new(),
        dedup_watermark: i64::MIN,
        table: BTreeMap::new(),
        held: Vec::new(),
        horizon: i64::MIN,
        windows: BTreeMap::new(),
        fired: i64::MIN,
        output: Output::default(),
    };
    let mut generation = None;
    for (epoch, manifest) in commits {
        // Who goes on from a checkpoint finds out anew which splits are idle.
        if generation.replace(manifest.generation) != Some(manifest.generation) {
            model.reports.idle.clear();
            model.versions.idle.clear();
        }
        let mut splits = BTreeMap::new();
        for (name, source) in &manifest.sources {
            for split in &source.splits {
                splits.insert(split.id, (name.clone(), split_number(&split.spec.name)));
            }
        }
        for cut in &manifest.cuts {
            let to: BTreeMap<(String, u32), u64> = (cut.offsets.iter())
                .map(|(split, offset)| (splits[split].clone(), *offset))
                .collect();
            for (split, idle) in &cut.idle {
                let (source, split) = &splits[split];
                let track = model.track(source);
                match idle {
                    true => track.idle.insert(*split),
                    false => track.idle.remove(split),
                };
            }
            model.epoch(*epoch, &to);
        }
        model.output.held += model.held.len() as u64;
    }
    model.output
}

impl Model {
    fn track(&mut self, source: &str) -> &mut Track {
        match source {
            "versions" => &mut self.versions,
            _ => &mut self.reports,
        }
    }

    /// One epoch, at whose end these splits had come so far; what it puts out is in `commit`.
    fn epoch(&mut self, commit: u64, to: &BTreeMap<(String, u32), u64>) {
        let (mut rows, mut changes) = (Vec::new(), Vec::new());
        for ((source, split), &to) in to {
            let from = self
                .track(source)
                .offsets
                .insert(*split, to)
                .expect("a known split");
            for offset in from..to {
                let time = if source == "versions" {
                    let (device, since, version) = self.input.version(*split, offset);
                    changes.push((device, (since, *split, offset), version));
                    since
                } else if let Some(report) = self.input.report(*split, offset) {
                    rows.push((report, (*split, offset)));
                    report.ts
                } else {
                    self.bury(commit, "decode", "reports", (*split, offset));
                    continue;
                };
                let newest = self.track(source).newest.entry(*split).or_insert(time);
                *newest = time.max(*newest);
            }
        }
        let (reports, versions) = (self.reports.progress(), self.versions.progress());
        let rows = self.dedup(commit, rows, reports);
        for (device, at, version) in changes {
            self.table.entry(device).or_default().insert(at, version);
        }
        let watermark = self.enrich(commit, rows, reports, versions);
        self.fire(commit, watermark);
    }

    fn bury(&mut self, commit: u64, class: &str, step: &str, (split, offset): (u32, u64)) {
        let letters = self.output.letters.entry(commit).or_default();
        let split = format!("part {split}");
        letters.push((class.to_owned(), step.to_owned(), split, offset));
    }

    fn dedup(&mut self, commit: u64, mut rows: Vec<Row>, reports: Progress) -> Vec<Row> {
        rows.sort_by_key(|(report, place)| (report.ts, *place));
        let mut first = Vec::new();
        for (report, place) in rows {
            if report.ts < self.dedup_watermark.saturating_sub(WITHIN_MS.cast_signed()) {
                self.bury(commit, "late", "once", place);
                continue;
            }
            let known = self.passed.entry((report.device, report.seq)).or_default();
            if known.iter().any(|ts| ts.abs_diff(report.ts) < WITHIN_MS) {
                self.output.duplicates += 1;
                continue;
            }
            known.push(report.ts);
            first.push((report, place));
        }
        self.dedup_watermark = self.dedup_watermark.max(reports.watermark);
        first
    }

    /// The rows that are plausible; those on which the guest traps are dead letters.
    fn plausible(&mut self, commit: u64, mut rows: Vec<Row>) -> Vec<Row> {
        rows.retain(|(report, _)| report.value >= 0);
        if self.guest {
            for (_, place) in rows.extract_if(.., |(report, _)| is_trap(report.value)) {
                self.bury(commit, "operator", "plausible", place);
            }
        }
        rows
    }

    /// The rows that can be answered now go into the history and into windows; the watermark of
    /// what comes out.
    fn enrich(
        &mut self,
        commit: u64,
        rows: Vec<Row>,
        reports: Progress,
        versions: Progress,
    ) -> i64 {
        let waited = reports.watermark.saturating_sub(WAIT_MS);
        let answered = match versions.finished || versions.idle || reports.finished {
            true => i64::MAX,
            false => versions.watermark.max(waited),
        };
        let plausible = self.plausible(commit, rows);
        let (due, held) = (std::mem::take(&mut self.held).into_iter())
            .chain(plausible)
            .partition(|(report, _)| report.ts <= answered);
        self.held = held;
        let due: Vec<Row> = due;
        for (report, place) in due {
            let version = self.version(report);
            let row = json!({
                "device": format!("d{}", report.device), "ts": report.ts, "seq": report.seq,
                "value": report.value, "version": version,
            });
            let history = self.output.history.entry(commit).or_default();
            history.push(row.to_string());
            let start = report.ts.div_euclid(WINDOW_MS) * WINDOW_MS;
            if start + WINDOW_MS <= self.fired {
                self.bury(commit, "late", "windows", place);
                continue;
            }
            let (n, total, newest) = self.windows.entry((start, report.device)).or_default();
            (*n, *total, *newest) = (*n + 1, *total + report.value, (*newest).max(version));
        }
        let behind = reports.watermark.min(answered);
        self.horizon = self.horizon.max(behind);
        behind
    }

    /// The version a row meets: the newest up to its time that is not forgotten. What no row after
    /// the horizon can see is.
    fn version(&self, report: Report) -> Option<u64> {
        let versions = self.table.get(&report.device)?;
        let all = (i64::MAX, u32::MAX, u64::MAX);
        let upto = |time| versions.range(..=(time, all.1, all.2)).next_back();
        let oldest = upto(self.horizon).map(|(at, _)| *at);
        let (at, version) = upto(report.ts)?;
        oldest
            .is_none_or(|oldest| *at >= oldest)
            .then_some(*version)
    }

    fn fire(&mut self, commit: u64, watermark: i64) {
        self.fired = self.fired.max(watermark);
        let due: BTreeSet<(i64, u64)> = (self.windows.keys())
            .filter(|(start, _)| start + WINDOW_MS <= self.fired)
            .copied()
            .collect();
        for window in due {
            let (n, total, newest) = self.windows.remove(&window).expect("it is due");
            let (start, device) = window;
            let row = json!({
                "window_start": start, "window_end": start + WINDOW_MS,
                "device": format!("d{device}"), "n": n, "total": total, "newest": newest,
            });
            let results = self.output.results.entry(commit).or_default();
            results.push(row.to_string());
        }
    }
}

/// A line as the model writes it.
pub(crate) fn canonical(line: &str) -> String {
    let row: Value = serde_json::from_str(line).expect("a JSON row");
    row.to_string()
}
