//! Disks that are broken: single calls of the operating system fail with EIO under the running
//! binary (`tests/faulty-disk`), and an fsync that fails takes the file's content with it.

use std::cell::Cell;
use std::process::Command;

use thalweg_tests::process::{Run, Running, binary, until};

use crate::job::Job;

/// Input/output error, of errno(3).
const EIO: u32 = 5;
/// More often than any run calls anything.
const EVER: u32 = u32::MAX;
/// Which calls fail on which paths: the call, the first that fails, and how many.
const FAULTS: [(&str, u32, u32, &str); 18] = [
    // What is written to the checkpoint store: objects by way of temporary files.
    ("sync", 2, 1, "/checkpoints/.tmp/"),
    ("sync", 9, 2, "/checkpoints/.tmp/"),
    ("write", 5, 1, "/checkpoints/.tmp/"),
    ("rename", 4, 1, "/checkpoints/state/"),
    ("rename", 2, 1, "/checkpoints/manifest/"),
    ("rename", 3, 2, "/checkpoints/outbox/"),
    ("link", 2, 1, "/checkpoints/log/"),
    ("sync-folder", 4, 1, "/checkpoints/"),
    ("sync-folder", 2, 1, "/checkpoints/log"),
    ("sync", 1, EVER, "/checkpoints/.tmp/"),
    // Files, staged and published.
    ("sync", 3, 2, "/windows/.thalweg-stage/"),
    ("write", 3, 1, "/windows/.thalweg-stage/"),
    ("rename", 2, 1, "/windows/part-"),
    ("sync-folder", 5, 1, "/windows"),
    // Dead letters, appended to one file.
    ("sync", 2, 1, "/letters/dead.jsonl"),
    ("write", 2, 1, "/letters/dead.jsonl"),
    // What a start reads.
    ("read", 1, 1, "/checkpoints/state/"),
    ("open", 1, 1, "/checkpoints/manifest/"),
];
/// A fault that lasts has been met often enough.
const MET: usize = 20;

/// The newest epoch of which there is a manifest.
fn newest(job: &Job) -> u64 {
    let manifests = std::fs::read_dir(job.path("checkpoints/manifest"));
    let names = manifests.into_iter().flatten().flatten();
    let epochs = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.split('-').next()?.parse().ok()
    });
    epochs.max().unwrap_or(0)
}

/// Waits until a run has taken more checkpoints, or has ended by itself with the reason; whether it
/// goes on.
fn goes_on(job: &Job, running: &mut Running, met: impl Fn() -> bool) -> bool {
    until("the fault is met", || met() || running.is_over());
    let before = newest(job);
    let mut ended = None;
    until("it goes on or ends", || {
        ended = running.ended();
        ended.is_some() || newest(job) > before + 2
    });
    let Some(ended) = ended else { return true };
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let says = ended.said.to_lowercase().contains("input/output error");
    assert!(says, "it says why: {ended:?}");
    false
}

#[test]
fn a_disk_that_fails_loses_nothing() {
    let job = Job::new(None);
    let library = binary("libthalweg_faulty_disk.so");
    let definition = job.path("job.yaml");
    let runs = Cell::new(0);
    let start = || {
        runs.set(runs.get() + 1);
        let shown = job.path(&format!("shown/{}", runs.get()));
        Run::of(&definition).workers(2).stdout(&shown)
    };
    // There is something to restore.
    let running = start().start();
    until("checkpoints are taken", || newest(&job) > 5);
    running.kill();
    for (number, (call, first, times, path)) in FAULTS.into_iter().enumerate() {
        let hits = format!("hits-{number}");
        let rule = format!("{call}:{EIO}:{first}:{times}:{path}");
        let run = start().env("LD_PRELOAD", &library.display().to_string());
        let run = run.env("THALWEG_DISK", &rule);
        let run = run.env("THALWEG_DISK_HITS", &job.path(&hits).display().to_string());
        let mut running = run.start();
        let count = || job.read(&hits).lines().count();
        if times == EVER {
            until("it is met often", || count() >= MET || running.is_over());
            println!("{rule}: met {} times, ended {}", count(), running.is_over());
        } else {
            let goes_on = goes_on(&job, &mut running, || count() > 0);
            assert!(count() > 0, "{rule} is never met");
            println!("{rule}: {}", if goes_on { "goes on" } else { "ends" });
        }
        if !running.is_over() {
            running.kill();
        }
    }
    // A healthy disk again.
    let mut show = Command::new(binary("thalweg"));
    show.args(["checkpoint", "show", "--json"])
        .arg(job.path("checkpoints"));
    let shown = show.output().expect("the binary starts").stdout;
    let (events, set) = Job::end(&serde_json::from_slice(&shown).expect("JSON"));
    let finish = set.iter().fold(start(), |run, set| {
        let (field, value) = set.split_once('=').expect("a field and its value");
        run.set(field, value)
    });
    finish.end().well();
    println!("{}", job.judge(events, job.folder()));
}
