//! State that is compacted while the job runs, and what a killed job's successor makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use thalweg_generate::{Event, GenerateSpec, Generator, Kind, What};
use thalweg_tests::process::{Run, until};

/// What `once` holds grows by a few hundred rows with each checkpoint, and soon there is so much that a
/// chain becomes long before it becomes heavy. All checkpoints are kept, so that each can be read.
const JOB: &str = r"
job: compacted
settings:
  checkpoint: { every: 200ms, to: ./checkpoints, keep: 1000 }
sources:
  reports:
    generate: { what: fleet, devices: 40, seed: 5, rate: 1000, splits: 2, duplicates: 0.05 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int64 }
    event_time: { column: ts, out_of_order: 10s, max_ahead: off }
steps:
  once: { from: reports, dedup: { by: [device_id, seq], within: 1d, same_time: true } }
  counted: { from: once, window: { tumbling: 10s, by: [device_id], aggregate: { n: count(*) } } }
sinks:
  windows: { from: counted, file: { path: ./windows, timestamps: unix_ms } }
";
const WINDOW_MS: i64 = 10_000;
/// Compactions that must be done before it is killed. The next one begins only when a manifest names
/// the one before.
const DONE: f64 = 2.0;
/// Deltas behind a base beyond which it is to be compacted: docs/checkpoints.md.
const DELTAS_MAX: usize = 8;

fn generator(events: u64) -> Generator {
    let spec = GenerateSpec {
        devices: 40,
        seed: 5,
        splits: 2,
        duplicates: 0.05,
        events: Some(events),
        ..GenerateSpec::new(What::Fleet)
    };
    Generator::new(spec).expect("valid options")
}

/// Windows by start and device, and what they count.
type Windows = BTreeMap<(i64, String), u64>;

/// What a plain map makes of the input.
fn expected(generator: &Generator) -> Windows {
    let mut windows = Windows::new();
    for split in 0..generator.spec().splits {
        for index in 0..generator.split_events(split).expect("an end") {
            let truth = generator.truth(split, index);
            if let (Event::Fleet(event), Kind::Good) = (truth.event, truth.kind) {
                let start = event.ts_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
                *windows.entry((start, event.device_id())).or_default() += 1;
            }
        }
    }
    windows
}

fn found(folder: &Path) -> Windows {
    let mut windows = Windows::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if !path.is_file() {
            continue;
        }
        for line in std::fs::read_to_string(path).expect("text").lines() {
            let window: Value = serde_json::from_str(line).expect("JSON");
            let device = window["device_id"].as_str().expect("text").to_owned();
            let start = window["window_start"].as_i64().expect("a time");
            let n = window["n"].as_u64().expect("a number");
            let twice = windows.insert((start, device), n);
            assert_eq!(twice, None, "{window} stands twice");
        }
    }
    windows
}

/// The manifests of a store, by epoch.
fn manifests(store: &Path) -> BTreeMap<u64, Value> {
    let folder = std::fs::read_dir(store.join("manifest")).expect("manifests");
    let read = folder.map(|entry| {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("text");
        let (_, body) = text.split_once('\n').expect("a head and a body");
        let manifest: Value = serde_json::from_str(body).expect("JSON");
        (manifest["epoch"].as_u64().expect("an epoch"), manifest)
    });
    read.collect()
}

/// Of the parts that have state of `once`: how many checkpoints have written them, and which were
/// written by a compaction.
type Chain = (usize, Vec<String>);

fn chain(manifest: &Value) -> Chain {
    let links = manifest["state"]["steps"]["once"].as_array();
    let parts = links.into_iter().flatten().map(|link| &link["part"]);
    let names = parts.map(|name| name.as_str().expect("a name").to_owned());
    let (compacted, written): (Vec<String>, Vec<String>) = names.partition(|name| {
        let (_, writer) = name.rsplit_once('/').expect("a folder");
        !writer.starts_with('w')
    });
    let epoch = |name: &String| name.rsplit_once('/').map(|(epoch, _)| epoch.to_owned());
    let epochs: BTreeSet<_> = written.iter().filter_map(epoch).collect();
    (epochs.len(), compacted)
}

/// The chains of all manifests.
fn chains(store: &Path) -> Vec<Chain> {
    manifests(store).values().map(chain).collect()
}

/// Whether a chain was too long and went on from what was compacted, as the newest does.
fn is_compacted(chains: &[Chain]) -> bool {
    let merged = chains.windows(2).any(|pair| {
        let ((length, before), (_, after)) = (&pair[0], &pair[1]);
        *length > DELTAS_MAX && !after.is_empty() && after != before
    });
    merged && chains.last().is_some_and(|(_, newest)| !newest.is_empty())
}

/// The value of a counter.
fn counted(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

#[test]
fn a_killed_job_goes_on_from_what_was_compacted_while_it_ran() {
    let _alone = crate::alone();
    let mut folder = tempfile::tempdir().expect("a folder");
    folder.disable_cleanup(std::env::var_os("THALWEG_KEEP").is_some());
    let folder = folder.path();
    let job = folder.join("job.yaml");
    std::fs::write(&job, JOB).expect("the definition");
    let store = folder.join("checkpoints");
    let run = Run::of(&job).workers(2).listen().start();
    let name = "thalweg_compactions_total{job=\"compacted\",result=";
    until("chains are compacted", || {
        let metrics = run.get("/metrics");
        let failed = counted(&metrics, &format!("{name}\"failed\"}}"));
        assert!(failed == 0.0, "{failed} failed: {}", run.said());
        let done = counted(&metrics, &format!("{name}\"done\"}}"));
        done >= DONE && is_compacted(&chains(&store))
    });
    run.kill();

    let chains = chains(&store);
    assert!(is_compacted(&chains), "{chains:?}");
    let (_, newest) = manifests(&store).pop_last().expect("a manifest");

    // Its successor has other workers, and takes all of it back.
    let splits = newest["sources"]["reports"]["splits"].as_array();
    let offsets = splits.expect("splits").iter().map(|split| &split["offset"]);
    let read = offsets.map(|at| at.as_u64().expect("an offset")).max();
    let events = (read.expect("a split") + 1_000) * 2;
    let run = Run::of(&job).workers(3);
    let run = run.set("sources.reports.generate.events", events);
    let run = run.set("sources.reports.generate.rate", 1_000_000);
    run.end().well();
    let found = found(&folder.join("windows"));
    assert!(found == expected(&generator(events)), "other windows");
    let (longest, (_, compacted)) = (chains.iter().max(), chain(&newest));
    let longest = longest.map_or(0, |(length, _)| *length);
    println!(
        "{} checkpoints, chains of up to {longest}; {} windows from {compacted:?} on",
        chains.len(),
        found.len()
    );
}
