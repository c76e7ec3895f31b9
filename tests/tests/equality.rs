//! One job, planned from its definition: for input within `out_of_order` its output is the same,
//! byte by byte once sorted, whatever the number of processes and workers and the size of batches.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation ends a test"
)]

#[path = "../../runtime/engine/tests/engine/threads.rs"]
#[allow(dead_code, reason = "here nobody is lost")]
mod threads;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_checkpoint::{Access, RestoreFrom, Store};
use thalweg_definition::{Environment, LoadOptions, load};
use thalweg_engine::{
    Allow, Graph, Job, Limits, Outcome, RestartPolicy, StatusBoard, Surroundings, supervise_mesh,
};
use thalweg_metrics::Metrics;
use thalweg_stream::Clock;
use thalweg_stream::clock::SystemClock;

use threads::Threads;

/// Reports in each of the three files.
const REPORTS: u64 = 900;
const SEED: u64 = 0x2545_f491_4f6c_dd1d;

const JOB: &str = r"
job: equal
settings:
  checkpoint: { every: 1s, to: ./unused }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  reports:
    file: { path: reports-*.jsonl }
    schema: { device: { type: string, required: true }, ts: timestamp, seq: int64, celsius: float64, status: string }
    event_time: { column: ts, out_of_order: 5s }
tables:
  firmware:
    file: { path: firmware.jsonl }
    schema: { device: string, since: timestamp, version: int64 }
    event_time: { column: since, out_of_order: 1s }
    key: [device]
steps:
  once: { from: reports, dedup: { by: [device, seq], within: 10m } }
  versioned:
    from: once
    enrich: { with: firmware, on: device, as_of: event_time, take: [version], missing: keep }
  plausible: { from: versioned, filter: celsius > -20.0 }
  sorted: { from: plausible, route: { alarms: status = 'alarm', rest: otherwise } }
  per_device:
    from: sorted.rest
    window:
      tumbling: 10s
      by: [device]
      aggregate:
        n: count(*)
        mean: avg(celsius)
        total: sum(celsius)
        coldest: min(celsius)
        versions: count(distinct version)
        warm: count(*) filter (where celsius > 20.0)
sinks:
  windows: { from: per_device, file: { path: ./windows } }
  alarms: { from: sorted.alarms, file: { path: ./alarms } }
";

/// A sequence of numbers that looks random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// Three files of reports up to 4 s out of order, one in twenty twice, one in a hundred damaged;
/// and versions of firmware that change while the reports come.
fn input(folder: &Path) {
    let mut numbers = Numbers(SEED);
    for file in 0..3_u64 {
        let mut text = String::new();
        for report in 0..REPORTS {
            let at = 1_700_000_000_000 + report * 200 + numbers.below(4000);
            let device = numbers.below(40);
            let tenths = i64::try_from(numbers.below(600)).expect("small") - 250;
            let status = ["ok", "ok", "ok", "alarm"][numbers.below(4) as usize];
            let line = format!(
                "{{\"device\":\"d{device}\",\"ts\":{at},\"seq\":{},\"celsius\":{}.{},\"status\":\"{status}\"}}\n",
                file * REPORTS + report,
                tenths / 10,
                tenths.abs() % 10,
            );
            text += &line;
            match numbers.below(100) {
                0..5 => text += &line,
                5 => text += "{\"device\":\"d1\",\"ts\":\n",
                6 => text += "{\"ts\":1700000000000}\n",
                _ => {}
            }
        }
        std::fs::write(folder.join(format!("reports-{file}.jsonl")), text).expect("written");
    }
    let mut text = String::new();
    for change in 0..200_u64 {
        let device = numbers.below(35);
        let at = 1_700_000_000_000 + change * 900 + numbers.below(900);
        writeln!(
            text,
            "{{\"device\":\"d{device}\",\"since\":{at},\"version\":{change}}}"
        )
        .expect("in memory");
    }
    std::fs::write(folder.join("firmware.jsonl"), text).expect("written");
}

/// All lines of the files in `folder`, sorted.
fn lines(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let text = std::fs::read_to_string(&path).expect("text");
            all.extend(text.lines().map(str::to_owned));
        }
    }
    all.sort();
    all
}

/// The graph of the job over the files in a folder; every process makes its own.
fn graph(folder: &Path, clock: &Arc<dyn Clock>) -> Graph {
    let options = LoadOptions {
        set: Vec::new(),
        resolver: &Environment,
    };
    let definition = load(JOB, "job.yaml", folder, &options).expect("a definition");
    let around = thalweg_planner::Surroundings {
        compile: thalweg_planner::Compile::Here,
        clock: Arc::clone(clock),
        output: Arc::new(Mutex::new(std::io::sink())),
    };
    thalweg_planner::plan(&definition, &around).expect("a plan")
}

/// What a run has put out: windows, alarms and dead letters. `workers` are those of each process.
async fn run(
    input: &Path,
    processes: usize,
    workers: usize,
    batch_rows: usize,
) -> [Vec<String>; 3] {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(input).expect("the input") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (place, others) = (folder.path().to_owned(), Arc::clone(&clock));
    let name = format!("memory://equal-{processes}-{workers}-{batch_rows}");
    let (_commands, receiver) = tokio::sync::mpsc::channel(1);
    let board = StatusBoard::default();
    let surroundings = Surroundings {
        store: Store::open(&name, Access::Create).expect("a store"),
        clock,
        commands: receiver,
        board: board.clone(),
        metrics: Arc::new(Metrics::new("equal").expect("the list is well formed")),
    };
    let job = Job {
        name: Arc::from("equal"),
        graph: graph(folder.path(), &others),
        workers,
        checkpoint_every: Duration::from_millis(40),
        keep: 3,
        // Many chunks, epochs and checkpoints.
        limits: Limits {
            epoch_ms: 10,
            epoch_bytes: 32 << 10,
            chunk_bytes: 3000,
            batch_rows,
            ..Limits::default()
        },
        version: "1".to_owned(),
        from: RestoreFrom::Latest,
        take_over: false,
        allow: Allow::default(),
    };
    let outcome = match processes {
        1 => thalweg_engine::run(job, surroundings).await,
        _ => {
            let launch = Arc::new(Threads::new(processes, move || graph(&place, &others)));
            supervise_mesh(job, surroundings, RestartPolicy::NEVER, launch).await
        }
    };
    assert_eq!(outcome, Ok(Outcome::Finished), "{processes} × {workers}");
    let status = board.read();
    let ledgers = status.ledgers();
    for (name, ledger) in &ledgers {
        assert_eq!(ledger.late, 0, "{name}: the input is within out_of_order");
        ledger.check(name).expect("conserved");
    }
    assert!(ledgers["once"].duplicate > 0 && ledgers["plausible"].filtered > 0);
    let dead = std::fs::read_to_string(folder.path().join("dead.jsonl")).expect("dead letters");
    let mut dead: Vec<String> = dead.lines().map(str::to_owned).collect();
    dead.sort();
    [
        lines(&folder.path().join("windows")),
        lines(&folder.path().join("alarms")),
        dead,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_the_same_for_all_processes_workers_and_sizes_of_batches() {
    let input_folder = tempfile::tempdir().expect("a folder");
    input(input_folder.path());
    println!("seed {SEED:#x}");
    let expected = run(input_folder.path(), 1, 1, 8192).await;
    let [windows, alarms, dead] = &expected;
    assert!(windows.len() > 500 && alarms.len() > 300 && dead.len() > 20);
    assert!(alarms.iter().any(|line| line.contains("\"version\":1")));
    for processes in [1, 2] {
        for workers in [1, 2, 4] {
            for batch_rows in [1, 7, 8192] {
                if (processes, workers, batch_rows) != (1, 1, 8192) {
                    let found = run(input_folder.path(), processes, workers, batch_rows).await;
                    assert!(
                        found == expected,
                        "{processes} × {workers} workers, batches of {batch_rows} rows: {:?}",
                        difference(&found, &expected)
                    );
                }
            }
        }
    }
}

/// The first lines that only one of two runs has.
fn difference(found: &[Vec<String>; 3], expected: &[Vec<String>; 3]) -> Vec<String> {
    let only = |mark: char, a: &[Vec<String>; 3], b: &[Vec<String>; 3]| -> Vec<String> {
        let lines = a
            .iter()
            .zip(b)
            .flat_map(|(a, b)| a.iter().filter(|l| !b.contains(l)));
        lines.take(5).map(|line| format!("{mark} {line}")).collect()
    };
    [only('+', found, expected), only('-', expected, found)].concat()
}
