//! The real binary under SIGKILL, at random and at named failpoints: results equal the oracle's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use thalweg_generate::{GenerateSpec, Generator, Kind, What};
use thalweg_tests::fleet_windows;

const EVENTS: u64 = 300_000;
const WINDOW_MS: i64 = 10_000;

fn binary() -> PathBuf {
    let name = "thalweg";
    let mut path = std::env::current_exe().expect("this test's path");
    path.pop();
    path.pop();
    path.push(name);
    assert!(
        path.exists(),
        "build the binaries first: cargo build --workspace --bins"
    );
    path
}

fn definition(folder: &Path) -> PathBuf {
    let path = folder.join("job.yaml");
    let text = format!(
        r"
job: killed
settings:
  checkpoint: {{ every: 150ms, to: ./checkpoints }}
  dead_letters: {{ file: {{ path: ./dead.jsonl }} }}
sources:
  reports:
    generate: {{ what: fleet, events: {EVENTS}, devices: 300, seed: 11, late: 0.001, corrupt: 0.002, splits: 3, rate: 150000 }}
    schema: {{ device_id: {{ type: string, required: true }}, ts: {{ type: timestamp, required: true }}, seq: {{ type: int64, required: true }}, temperature_c: {{ type: float64, required: true }}, speed_kmh: {{ type: float64, required: true }}, status: {{ type: string, required: true }} }}
    event_time: {{ column: ts, out_of_order: 1s }}
steps:
  counted:
    from: reports
    window: {{ tumbling: 10s, by: [device_id], aggregate: {{ n: count(*) }} }}
sinks:
  out: {{ from: counted, file: {{ path: ./out, timestamps: unix_ms }} }}
"
    );
    std::fs::write(&path, text).expect("the definition");
    path
}

fn generator() -> Generator {
    let base = GenerateSpec::new(What::Fleet);
    Generator::new(GenerateSpec {
        events: Some(EVENTS),
        devices: 300,
        seed: 11,
        late: 0.001,
        corrupt: 0.002,
        splits: 3,
        ..base
    })
    .expect("valid")
}

fn start(job: &Path, workers: u32, failpoint: Option<&str>) -> Child {
    let mut command = Command::new(binary());
    command
        .arg("run")
        .arg(job)
        .arg("--take-over")
        .arg("--workers")
        .arg(workers.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(failpoint) = failpoint {
        command.env("THALWEG_FAILPOINT", failpoint);
    }
    command.spawn().expect("the binary starts")
}

/// Waits for the end, at most a minute; whether it ended by itself with success.
fn finished(mut child: Child, limit: Duration) -> Option<bool> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            if !status.success() {
                let mut said = String::new();
                std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut said)
                    .expect("text");
                assert_eq!(status.code(), None, "only a signal ends it early: {said}");
            }
            return Some(status.success());
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    None
}

fn read_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).expect("readable");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn results_survive_kills_at_failpoints_and_at_random() {
    let folder = tempfile::tempdir().expect("a folder");
    let job = definition(folder.path());
    let points = [
        "freeze.before",
        "freeze.after",
        "upload.before",
        "upload.after",
        "commit.before",
        "commit.after",
        "publish.out.before",
        "publish.out.after",
        "publish.dead_letters.before",
        "publish.dead_letters.after",
        "confirm.after",
    ];
    let mut hits: BTreeMap<&str, u32> = BTreeMap::new();
    for (at, point) in points.iter().enumerate() {
        let workers = [1, 2, 4][at % 3];
        let ended = finished(
            start(&job, workers, Some(&format!("{point}:1"))),
            Duration::from_secs(30),
        );
        assert_eq!(ended, Some(false), "{point} is hit");
        *hits.entry(point).or_default() += 1;
    }
    let seed = 0x9e37_79b9_u64;
    let mut random = seed;
    let mut kills = 0;
    while kills < 9 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let limit = Duration::from_millis(100 + (random >> 33) % 400);
        match finished(start(&job, [2, 1, 4][kills % 3], None), limit) {
            None => kills += 1,
            Some(success) => {
                assert!(success);
                break;
            }
        }
    }
    let ended = finished(start(&job, 2, None), Duration::from_secs(60));
    assert_eq!(ended, Some(true), "the last start finishes");
    println!("seed {seed}: failpoints {hits:?}, {kills} kills at random");

    let generator = generator();
    let mut found: BTreeMap<(i64, String), u64> = BTreeMap::new();
    for entry in std::fs::read_dir(folder.path().join("out")).expect("output") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            for line in read_lines(&path) {
                let key = (
                    line["window_start"].as_i64().expect("a number"),
                    line["device_id"].as_str().expect("a string").to_owned(),
                );
                let twice = found.insert(key.clone(), line["n"].as_u64().expect("a number"));
                assert_eq!(twice, None, "{key:?} stands twice");
            }
        }
    }
    let mut expected: BTreeMap<(i64, String), u64> = fleet_windows(&generator, EVENTS, WINDOW_MS)
        .into_iter()
        .map(|(key, reports)| (key, reports.count))
        .collect();
    // The first reports have nothing before them to be late for: what is called late may be in time.
    let lates = (0..EVENTS).filter(|&number| {
        let (split, index) = generator.place(number);
        generator.truth(split, index).kind == Kind::Late
    });
    let late_count = lates.count() as u64;
    let letters = read_lines(&folder.path().join("dead.jsonl"));
    let of = |class: &str| {
        letters
            .iter()
            .filter(|letter| letter["class"] == class)
            .count() as u64
    };
    let in_time = late_count - of("late");
    found.retain(|key, n| match expected.get(key) {
        Some(_) => true,
        None => {
            // A window of late rows that came in time.
            assert!(*n <= in_time, "{key:?} holds {n}");
            false
        }
    });
    for (key, n) in &found {
        let least = expected.remove(key).expect("kept above");
        assert!(
            (least..=least + in_time).contains(n),
            "{key:?}: {n}, not {least}"
        );
    }
    assert!(
        expected.is_empty(),
        "{} windows are missing",
        expected.len()
    );

    let corrupt = (0..EVENTS).filter(|&number| {
        let (split, index) = generator.place(number);
        matches!(generator.truth(split, index).kind, Kind::Corrupt(_))
    });
    assert_eq!(
        of("decode") + of("schema") + of("time"),
        corrupt.count() as u64
    );
    let mut ids: Vec<&str> = letters
        .iter()
        .map(|letter| letter["id"].as_str().expect("an id"))
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "a dead letter stands twice");
}
