//! What an epoch costs: ten steps on two workers with hardly a row to work on (`job.yaml`), for
//! epochs of several lengths. Of no length at all, the next one begins as soon as flow control lets
//! it: with a job's usual few in flight that is how often workers can agree on an epoch, with many
//! what the work of an epoch is.
//!
//! ```sh
//! cargo run --release -p thalweg-benches --bin epochs
//! ```
#![allow(clippy::print_stdout, reason = "a benchmark reports")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use thalweg_checkpoint::{Access, RestoreFrom, Store};
use thalweg_definition::{Environment, LoadOptions, check};
use thalweg_engine::{Allow, Command, Graph, Job, Limits, StatusBoard, Surroundings};
use thalweg_metrics::Metrics;
use thalweg_planner::{Compile, plan};
use thalweg_stream::Clock;
use thalweg_stream::clock::SystemClock;
use tokio::sync::mpsc;

const JOB: &str = include_str!("job.yaml");
const WORKERS: usize = 2;
/// Epochs in flight that keep the workers at work, whatever the others do.
const MANY: u64 = 32;
/// How long a job runs before it is looked at, and then between two looks.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(3);
/// How often the two threads of the peer wake each other.
const ROUNDS: u32 = 100_000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    println!(
        "| epochs of | in flight | epochs/s | wall us an epoch | CPU us an epoch, all threads |"
    );
    println!("|---|---|---|---|---|");
    let usual = Limits::default().epochs_in_flight;
    for (epoch_ms, in_flight) in [(0, usual), (0, MANY), (1, usual), (10, usual), (100, usual)] {
        let (per_second, cpu_us) = runtime.block_on(measure(epoch_ms, in_flight))?;
        let length = match epoch_ms {
            0 => "no length".to_owned(),
            ms => format!("{ms} ms"),
        };
        println!(
            "| {length} | {in_flight} | {per_second:.0} | {:.1} | {cpu_us:.1} |",
            1e6 / per_second
        );
    }
    let round_us = hand_over().as_secs_f64() * 1e6 / f64::from(ROUNDS);
    println!(
        "\nTwo threads that wake each other, and do nothing else: {round_us:.1} us there and back"
    );
    Ok(())
}

/// How long two threads take to wake each other so many times: what agreeing costs, without anything
/// to agree on.
fn hand_over() -> Duration {
    let turn = Arc::new(AtomicU32::new(0));
    let clock = SystemClock::new();
    let begin = clock.elapsed();
    let (theirs, first) = (Arc::clone(&turn), thread::current());
    let other = thread::spawn(move || {
        for round in 0..ROUNDS {
            wait(&theirs, 2 * round + 1);
            theirs.store(2 * round + 2, Ordering::Release);
            first.unpark();
        }
    });
    for round in 0..ROUNDS {
        turn.store(2 * round + 1, Ordering::Release);
        other.thread().unpark();
        wait(&turn, 2 * round + 2);
    }
    clock.elapsed() - begin
}

fn wait(turn: &AtomicU32, number: u32) {
    while turn.load(Ordering::Acquire) != number {
        thread::park();
    }
}

/// Epochs a second, and microseconds of CPU time of the whole process for each.
async fn measure(epoch_ms: u64, epochs_in_flight: u64) -> anyhow::Result<(f64, f64)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (commands, receiver) = mpsc::channel(1);
    let board = StatusBoard::default();
    let job = Job {
        name: Arc::from("epochs"),
        graph: graph(&clock)?,
        workers: WORKERS,
        checkpoint_every: Duration::from_secs(3600),
        keep: 1,
        limits: Limits {
            epoch_ms,
            epochs_in_flight,
            ..Limits::default()
        },
        version: String::new(),
        from: RestoreFrom::Latest,
        take_over: false,
        allow: Allow::default(),
    };
    let surroundings = Surroundings {
        store: Store::open(
            &format!("memory://epochs-{epoch_ms}-{epochs_in_flight}"),
            Access::Create,
        )?,
        clock: Arc::clone(&clock),
        commands: receiver,
        board: board.clone(),
        metrics: Arc::new(Metrics::new("epochs")?),
    };
    let running = tokio::spawn(thalweg_engine::run(job, surroundings));
    tokio::time::sleep(WARM_UP).await;
    let look = || (board.read().epoch, clock.elapsed(), cpu());
    let before = look();
    tokio::time::sleep(MEASURED).await;
    let after = look();
    commands.send(Command::Stop).await?;
    running.await??;
    let epochs = (after.0 - before.0) as f64;
    anyhow::ensure!(epochs > 0.0, "no epoch was finished");
    let per_second = epochs / (after.1 - before.1).as_secs_f64();
    let cpu_us = (after.2 - before.2).as_secs_f64() * 1e6 / epochs;
    Ok((per_second, cpu_us))
}

fn graph(clock: &Arc<dyn Clock>) -> anyhow::Result<Graph> {
    let options = LoadOptions {
        set: Vec::new(),
        resolver: &Environment,
    };
    // Nothing is refused, so no dead letters are ever written there.
    let folder = std::env::temp_dir();
    let checked = check(JOB, "job.yaml", &folder, &options);
    let definition = checked.definition.context("the definition is wrong")?;
    let around = thalweg_planner::Surroundings {
        clock: Arc::clone(clock),
        output: Arc::new(Mutex::new(std::io::sink())),
        compile: Compile::Here,
    };
    plan(&definition, &around)
        .map_err(|found| anyhow::anyhow!("the job cannot be planned: {found:?}"))
}

/// CPU time that this process has used.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}
