//! Deterministic simulation of the real dataflow: many seeds, each with its own interleaving and
//! its own faults, and each repeatable; and a crash at every durable effect.
//!
//! A seed is repeated by `THALWEG_SEED=N cargo test -p thalweg-tests --test sim seeds`; with
//! `THALWEG_TRACE=1` a failure tells every decision and effect. A seed that fails is tried with fewer
//! faults, shorter foul weather and fewer records, and the least that still fails is told, with the
//! `THALWEG_LESS` that repeats it. `THALWEG_SOAK=SECONDS` runs new seeds for so long.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed expectation ends a test, and a test tells what it has seen"
)]

mod baton;
mod crash;
mod faults;
#[path = "../../../runtime/plugin/tests/hostile/guest.rs"]
mod guest;
mod job;
mod judge;
mod kernel;
mod model;
mod outside;
mod plan;
mod process;
mod record;
mod shrink;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kernel::{Ran, Scenario, run};
use thalweg_stream::Clock;
use thalweg_stream::clock::SystemClock;
use world::lock;

/// Seeds of a run in CI.
const SEEDS: u64 = 500;
/// Seeds that have found something: a sink that was made after epochs had been closed put its first
/// output into the checkpoint after its own.
const FOUND: [u64; 2] = [17, 339];
/// Each hundredth seed is run twice: its decisions and effects must be the same.
const TWICE: u64 = 100;
/// Threads that run seeds: as many as CI has cores.
const THREADS: usize = 2;

/// What must have happened over all seeds, or they have not tried what they should.
const SOMETIMES: [&str; 41] = [
    "a checkpoint failed",
    "a checkpoint held rows that waited for the table",
    "a checkpoint without new input",
    "a clock jumped",
    "a guest trapped",
    "a job without an end",
    "a job had both failed and good checkpoints",
    "a read from the store failed",
    "a reply of the store was lost",
    "a savepoint",
    "a service refused rows",
    "a sink that may repeat rows did",
    "a split became idle",
    "a split that was idle woke",
    "a start was refused, as the job ran",
    "a unit held output of several checkpoints",
    "a unit was published again",
    "a write to the store failed",
    "a worker stood still, and another went on",
    "a zombie was fenced",
    "an attempt ended, and the next went on",
    "died after an effect",
    "died before an effect",
    "died in the middle of a write",
    "entries of the log were deleted",
    "frozen for a while",
    "frozen, with a successor",
    "killed while it ran",
    "killed while it started or ended",
    "publishing was resumed from the manifest",
    "restarted with another number of workers",
    "rows came too late",
    "rows were dropped as duplicates",
    "state was compacted",
    "stopped on request",
    "the reply of a service was lost",
    "the reply to an entry of the log was lost",
    "the log was folded",
    "the store was slow",
    "replies of a service came out of order",
    "a zombie published what its commit had released",
];

type Seen = BTreeMap<&'static str, u64>;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// The scenario of a seed, or what `THALWEG_LESS` leaves of it.
fn scenario(seed: u64) -> Scenario {
    let less = std::env::var("THALWEG_LESS").unwrap_or_default();
    Scenario {
        less: less.parse().expect("faults, turns=N, records=N"),
        ..Scenario::of(seed)
    }
}

/// Runs a seed, and again if it is asked for; what it has seen.
fn check(seed: u64, twice: bool) -> Seen {
    let ran = run(&scenario(seed));
    let repeat =
        format!("repeat it: THALWEG_SEED={seed} cargo test -p thalweg-tests --test sim seeds");
    if !ran.wrong.is_empty() {
        ran.trace.iter().for_each(|line| println!("{line}"));
        let least = match std::env::var_os("THALWEG_LESS") {
            Some(_) => ran.plan.to_string(),
            None => shrink::told(seed),
        };
        panic!("{:#?}\n{least}\n{repeat}", ran.wrong);
    }
    if twice {
        let Ran { hash, trace, .. } = run(&scenario(seed));
        let differs = trace.iter().zip(&ran.trace).position(|(a, b)| a != b);
        let from = differs.map(|at| trace[at.saturating_sub(5)..=at].join("\n"));
        assert_eq!(
            hash, ran.hash,
            "seed {seed} has two traces: {from:?}\n{repeat}"
        );
    }
    ran.seen
}

/// Says so when a seed fails: the other threads need not run theirs.
struct Failing<'a>(&'a AtomicBool);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs seeds on two threads until `next` has no more; what all have seen, and how many there were.
fn check_all(next: impl Fn() -> Option<u64> + Sync) -> (Seen, u64) {
    let all = Mutex::new((Seen::new(), 0));
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let _failing = Failing(&failed);
                while let Some(seed) = next().filter(|_| !failed.load(Ordering::Relaxed)) {
                    let seen = check(seed, seed % TWICE == 0);
                    let mut all = lock(&all);
                    all.1 += 1;
                    for (what, times) in seen {
                        *all.0.entry(what).or_default() += times;
                    }
                }
            });
        }
    });
    all.into_inner().expect("no seed has failed")
}

/// Tells what was tried, and leaves it in a file under the target folder.
fn report(file: &str, text: &str) {
    print!("{text}");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    std::fs::write(path, text).expect("writable");
}

fn told((seen, seeds): &(Seen, u64)) -> String {
    let lines = seen
        .iter()
        .map(|(what, times)| format!("{times:7} {what}\n"));
    format!("{seeds} seeds\n{}", lines.collect::<String>())
}

#[test]
fn seeds_end_as_the_model_says() {
    if let Some(seed) = number("THALWEG_SEED") {
        return print!("{}", told(&(check(seed, true), 1)));
    }
    let at = AtomicU64::new(0);
    let ran = check_all(|| {
        let at = at.fetch_add(1, Ordering::Relaxed);
        let known = FOUND.get(at as usize).copied();
        known.or_else(|| {
            let new = at - FOUND.len() as u64;
            (new < SEEDS).then_some(new + 1)
        })
    });
    report("simulation.txt", &told(&ran));
    for what in SOMETIMES {
        assert!(ran.0.contains_key(what), "never over all seeds: {what}");
    }
}

#[test]
#[ignore = "takes as long as it is told to: make soak"]
fn soak() {
    let clock = SystemClock::new();
    let limit = Duration::from_secs(number("THALWEG_SOAK").unwrap_or(60));
    // Other seeds every time; the one that fails is told.
    let first = u64::try_from(clock.now_ms()).expect("after 1970") << 20;
    let at = AtomicU64::new(first);
    let ran = check_all(|| {
        let next = at.fetch_add(1, Ordering::Relaxed);
        (clock.elapsed() < limit).then_some(next)
    });
    print!("{}", told(&ran));
}
