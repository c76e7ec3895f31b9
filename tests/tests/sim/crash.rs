//! Crash points, enumerated: every durable effect of a job is numbered where all of them pass (the
//! object store, the job log in it, and what sinks publish), and each goes wrong in every way.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::kernel::{Calm, Ran, Scenario, run};
use crate::world::{Kind, Strike, lock};
use crate::{Failing, THREADS, report};

/// Every way in which an effect can go wrong.
const KINDS: [Kind; 5] = [
    Kind::Before,
    Kind::After,
    Kind::Error,
    Kind::Lost,
    Kind::Torn,
];
/// How many effects the job of the pairs has: enough for output of several checkpoints, and no more
/// than its pairs can be tried.
const EFFECTS: RangeInclusive<usize> = 14..=20;

/// Few checkpoints.
const SELDOM: Calm = Calm {
    every: Duration::from_millis(60),
    folds: None,
    savepoint: None,
};
/// The same, with a log that is folded at each chance, and of which one fence is kept.
const FOLDING_SOON: Calm = Calm {
    folds: Some((2, 1)),
    ..SELDOM
};
/// One at the end of every epoch: chains become long enough to be compacted, more than once.
const ALWAYS: Calm = Calm {
    every: Duration::ZERO,
    folds: None,
    savepoint: None,
};
/// A savepoint after the first checkpoints, and the log is folded after it.
const FOLDING: Calm = Calm {
    folds: Some((4, 2)),
    savepoint: Some(40),
    ..SELDOM
};

fn calm(calm: Calm, seed: u64, strikes: &[Strike]) -> Ran {
    let ran = run(&Scenario {
        calm: Some(calm),
        strikes: strikes.to_vec(),
        ..Scenario::of(seed)
    });
    assert!(ran.wrong.is_empty(), "{strikes:?}: {:#?}", ran.wrong);
    ran
}

/// How often each point was hit, by name and kind.
#[derive(Default)]
struct Points(BTreeMap<(String, Kind), u64>);

impl Points {
    fn hit(&mut self, ran: &Ran, strike: Strike) {
        let name = &ran.effects[strike.effect as usize - 1];
        *self.0.entry((name.clone(), strike.kind)).or_default() += 1;
    }

    /// Leaves them in a file, as what a test that passes has printed is lost.
    fn tell(&self, file: &str, title: &str) {
        let points = self.0.iter();
        let lines = points.map(|((name, kind), times)| format!("{times:7} {name}, {kind:?}\n"));
        report(file, &format!("{title}\n{}", lines.collect::<String>()));
    }
}

#[test]
fn every_effect_goes_wrong_in_every_way() {
    let mut points = Points::default();
    let (mut effects, mut runs) = (0, 0);
    let mut strike = |every, seed, effect| {
        effects += 1;
        for kind in KINDS {
            let strike = Strike { effect, kind };
            points.hit(&calm(every, seed, &[strike]), strike);
            runs += 1;
        }
    };
    let dry = calm(SELDOM, SEED_SMALL, &[]);
    (1..=dry.effects.len() as u64).for_each(|effect| strike(SELDOM, SEED_SMALL, effect));
    let dry = calm(FOLDING, SEED_LONG, &[]);
    assert!(dry.seen.contains_key("a savepoint"), "{:?}", dry.seen);
    (1..=dry.effects.len() as u64).for_each(|effect| strike(FOLDING, SEED_LONG, effect));
    let (seed, dry) = compacting();
    for (effect, around) in (1..).zip(dry.windows(3)) {
        if around.iter().any(|name| name.ends_with(" compacted")) {
            strike(ALWAYS, seed, effect + 1);
        }
    }
    let title = format!("{effects} effects, {runs} runs");
    points.tell("crash-points.txt", &title);
    for name in [
        "put state",
        "put compacted",
        "delete state",
        "delete compacted",
        "put outbox",
        "put manifest",
        "create log",
        "put log",
        "delete log",
        "delete manifest",
    ] {
        assert!(points.0.keys().any(|(at, _)| at == name), "no {name}");
    }
    for sink in ["history", "results", "dead_letters"] {
        let name = format!("publish {sink}");
        assert!(points.0.keys().any(|(at, _)| *at == name), "no {name}");
    }
}

/// The first job in which what was compacted is deleted later on, and its effects.
fn compacting() -> (u64, Vec<String>) {
    let effects = |seed| calm(ALWAYS, seed, &[]).effects;
    let mut jobs = (1..100).map(|seed| (seed, effects(seed)));
    let job = jobs.find(|(_, effects)| effects.iter().any(|name| name == "delete compacted"));
    job.expect("a job that compacts twice")
}

/// A seed with few effects, and one with several checkpoints.
const SEED_SMALL: u64 = 1;
const SEED_LONG: u64 = 2;

#[test]
fn every_two_crashes() {
    pairs(SELDOM, &["publish history"], "crash-pairs.txt");
}

#[test]
fn every_two_crashes_of_a_job_that_folds_its_log() {
    let folding = ["put log", "delete log"];
    pairs(FOLDING_SOON, &folding, "crash-pairs-folding.txt");
}

/// Tries every two crashes of the first job of so many effects, which must have the `wanted` ones.
fn pairs(calm_as: Calm, wanted: &[&str], file: &str) {
    let effects = |seed: u64| calm(calm_as, seed, &[]).effects;
    let mut jobs = (SEED_SMALL..SEED_SMALL + 100).map(|seed| (seed, effects(seed)));
    let job = jobs.find(|(_, effects)| EFFECTS.contains(&effects.len()));
    let (seed, effects) = job.expect("a job of so many effects");
    for name in wanted {
        assert!(effects.iter().any(|at| at == name), "{name}: {effects:?}");
    }
    let firsts = Mutex::new(crashes(1, effects.len() as u64));
    let all = Mutex::new((Points::default(), 0));
    let failed = AtomicBool::new(false);
    let try_all = || {
        let _failing = Failing(&failed);
        while let Some(first) = next(&firsts) {
            let ran = calm(calm_as, seed, &[first]);
            for second in crashes(first.effect + 1, ran.effects.len() as u64) {
                if failed.load(Ordering::Relaxed) {
                    return;
                }
                let ran = calm(calm_as, seed, &[first, second]);
                let mut all = lock(&all);
                for strike in [first, second] {
                    all.0.hit(&ran, strike);
                }
                all.1 += 1;
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(try_all))));
    let (points, runs) = all.into_inner().expect("none has failed");
    let title = format!("seed {seed}: {} effects, {runs} pairs", effects.len());
    points.tell(file, &title);
    for name in wanted {
        for kind in [Kind::Before, Kind::After] {
            let point = ((*name).to_owned(), kind);
            assert!(points.0.contains_key(&point), "{point:?}");
        }
    }
}

/// The next one, of several threads'.
fn next<T>(all: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    lock(all).next()
}

/// A crash before and after each of these effects.
fn crashes(from: u64, to: u64) -> impl Iterator<Item = Strike> {
    let strike = |effect, kind| Strike { effect, kind };
    (from..=to).flat_map(move |effect| [Kind::Before, Kind::After].map(|kind| strike(effect, kind)))
}
