//! The road-risk job under SIGKILL and SIGSTOP, with everything it writes judged afterwards.
//!
//! The job writes files, documents and tables exactly once, and dead letters besides. It is killed
//! at every named point, killed at random, and frozen until a successor has published what it was
//! about to; each start has another number of workers. Its input ends only when that is over, so
//! that no part of it depends on how fast the machine is. Then the oracle says what must be there,
//! and the ledgers of the services what must not have happened. After each kill and each freeze the
//! job processes again within seconds, counted from the kill.
//!
//! What that job does without is in a small one ([`plain`]), and state that is compacted in another
//! ([`compaction`]). That nothing is left out is held by [`covered`].
//!
//! `THALWEG_SEED` decides when it is killed; without it, it is always the same. With `THALWEG_KEEP`
//! the folder of the job stays.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a test finds wrong it says by panicking"
)]

mod compaction;
mod covered;
mod feed;
mod input;
mod judge;
mod plain;
mod torment;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use thalweg_tests::process::build_road_risk;
use thalweg_tests::standin::StandIn;

use crate::input::Input;
use crate::torment::{Least, Torment};

/// Where a process is killed: before and after each step of a checkpoint's way into the world.
const POINTS: [&str; 15] = [
    "claim",
    "restore",
    "freeze",
    "upload.state",
    "upload.windows",
    "upload.current",
    "upload.history",
    "upload.dead_letters",
    "commit",
    "publish.windows",
    "publish.current",
    "publish.history",
    "publish.dead_letters",
    "confirm",
    // In the background, as soon as a chain of deltas has become long.
    "compaction",
];
/// Where a process is frozen: as soon as the job is its own, with a committed unit in its hands, and
/// with a commit.
const FROZEN: [&str; 6] = [
    "claim.after",
    "publish.current.before",
    "publish.history.before",
    "publish.windows.before",
    "commit.before",
    "upload.current.after",
];
/// Where it is frozen besides: in the midst of a checkpoint's state, and with dead letters in its hands.
const FROZEN_ONCE: [&str; 2] = ["freeze.before", "publish.dead_letters.before"];
/// How often at each of the former, and how often at no point in particular.
const FREEZES_EACH: u32 = 3;
const RANDOM_FREEZES: u32 = 5;
/// Kills at no point in particular, one after each at a point and then some: whatever the point, it
/// must be seen that the job processes again soon.
const RANDOM_KILLS: u32 = 8;
/// What must have come of that. Builds without failpoints have what is at no point alone.
const LEAST: Least = match cfg!(debug_assertions) {
    true => Least {
        kills: 60,
        freezes: FROZEN.len() as u32 * FREEZES_EACH + FROZEN_ONCE.len() as u32 + RANDOM_FREEZES,
        recoveries: 60,
    },
    false => Least {
        kills: RANDOM_KILLS + RANDOM_FREEZES,
        freezes: RANDOM_FREEZES,
        recoveries: RANDOM_FREEZES as usize,
    },
};

/// Held by a test while it runs: how soon a job recovers is measured, and the other tests here kill and
/// start jobs without a pause.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that has failed leaves nothing to the next one.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn results_survive_kills_and_freezes_wherever_they_fall() {
    let _alone = alone();
    let seed = std::env::var("THALWEG_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("THALWEG_SEED={seed}");
    let kept = std::env::var_os("THALWEG_KEEP").is_some();
    let mut folder = tempfile::tempdir().expect("a folder");
    folder.disable_cleanup(kept);
    println!("in {}", folder.path().display());
    let start = |service: &str, create: &str| {
        let ledger = folder.path().join(format!("{service}.ledger.jsonl"));
        StandIn::start(service, &[create], &ledger, &[])
    };
    let cosmos = start("cosmos", "roads/current:/segment");
    let adx = start("adx", &judge::table());
    build_road_risk(&folder.path().join("road_risk.wasm"));
    let mut input = Input::begin(seed, folder.path());
    input.write_definition(folder.path(), &cosmos.url(), &adx.url());

    let from = input.kind();
    let mut torment = Torment::new(folder.path(), "vehicles", seed);
    let mut hits: BTreeMap<String, u32> = BTreeMap::new();
    if cfg!(debug_assertions) {
        for point in POINTS {
            for side in ["before", "after"] {
                let point = format!("{point}.{side}");
                torment.kill_at(&point);
                torment.kill_at_random();
                *hits.entry(point).or_default() += 1;
            }
        }
        let often = [FROZEN; FREEZES_EACH as usize];
        for point in often.as_flattened().iter().chain(&FROZEN_ONCE) {
            torment.freeze(Some(point), Some(&cosmos));
            *hits.entry(format!("{point} (frozen)")).or_default() += 1;
        }
    }
    for _ in 0..RANDOM_KILLS {
        torment.kill_at_random();
    }
    for _ in 0..RANDOM_FREEZES {
        torment.freeze(None, Some(&cosmos));
    }
    let end = input.end(&torment.offsets());
    torment.finish(&end.set);

    let told = torment.told(&LEAST);
    let found = judge::found(folder.path(), &cosmos, &adx);
    let compared = judge::compare(&found, &end.vehicles, &end.weather);
    let ledgers = judge::ledgers(&cosmos, &adx);
    println!("read from {from}: {told}");
    println!("hits: {hits:?}");
    println!("compared: {compared}");
    println!("ledgers: {ledgers}");
}
