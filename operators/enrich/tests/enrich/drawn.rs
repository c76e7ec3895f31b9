//! Epochs drawn at random, against a list of everything the table ever said.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_enrich::Missing;
use thalweg_stream::Progress;

use super::harness::{EpochInput, Variant, at, run};
use super::{Change, Fact, changes, factory, facts};

/// One epoch drawn at random, and the watermarks at its end.
struct Drawn {
    facts: Vec<Fact>,
    changes: Vec<Change>,
    progress: [Progress; 2],
}

const KEYS: [Option<&str>; 6] = [
    Some("a"),
    Some("b"),
    Some("c"),
    Some("a key longer than a view"),
    Some("never in the table"),
    None,
];

fn draw(seed: u64) -> Vec<Drawn> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut rows_wm, mut table_wm, mut origin) = (0, 0, 0);
    let mut drawn: Vec<Drawn> = (0..40)
        .map(|_| {
            let mut fact = |rng: &mut SmallRng| {
                origin += 1;
                let key = KEYS[rng.random_range(0..KEYS.len())];
                (
                    key,
                    origin as i64,
                    rows_wm + rng.random_range(0..60),
                    origin,
                )
            };
            let facts = (0..rng.random_range(0..12))
                .map(|_| fact(&mut rng))
                .collect();
            let changes = (0..rng.random_range(0..6))
                .map(|_| {
                    origin += 1;
                    let key = rng.random_range(0..4);
                    // A version behind the watermark may revive a key that was deleted after
                    // it; so keys are either deleted or late.
                    let late = if key % 2 == 0 { -30 } else { 0 };
                    let text = (late < 0 || rng.random_bool(0.6)).then(|| format!("v{origin}"));
                    (
                        KEYS[key],
                        text,
                        table_wm + rng.random_range(late..50),
                        origin,
                    )
                })
                .collect();
            rows_wm += rng.random_range(0..25);
            table_wm += rng.random_range(0..25);
            let table = Progress {
                idle: rng.random_bool(0.1),
                ..at(table_wm)
            };
            Drawn {
                facts,
                changes,
                progress: [at(rows_wm), table],
            }
        })
        .collect();
    drawn.push(Drawn {
        facts: Vec::new(),
        changes: Vec::new(),
        progress: [Progress::END, Progress::END],
    });
    drawn
}

fn expected(drawn: &[Drawn], wait: Option<i64>) -> Vec<Vec<String>> {
    let mut table: Vec<Change> = Vec::new();
    let mut held: Vec<Fact> = Vec::new();
    (drawn.iter())
        .map(|epoch| {
            table.extend(epoch.changes.iter().cloned());
            held.extend(&epoch.facts);
            let [rows, of_table] = epoch.progress;
            let mut out = Vec::new();
            held.retain(|&(key, number, time, _)| {
                let due = wait.is_none_or(|wait| {
                    of_table.idle
                        || of_table.watermark >= time
                        || rows.watermark >= time.saturating_add(wait)
                });
                if due {
                    let newest = (table.iter())
                        .filter(|change| key.is_some() && change.0 == key)
                        .filter(|change| wait.is_none() || change.2 <= time)
                        .max_by_key(|change| (change.2, change.3));
                    let taken = match newest {
                        Some((_, Some(text), at, _)) => format!("{text} {:?}", *at as f64),
                        _ => "null null".to_owned(),
                    };
                    out.push(format!(
                        "0: {} {number} {taken} {time}",
                        key.unwrap_or("null")
                    ));
                }
                !due
            });
            out.sort();
            out
        })
        .collect()
}

fn check_all_variants(seed: u64, drawn: &[Drawn]) {
    let inputs: Vec<EpochInput> = (drawn.iter())
        .map(|epoch| EpochInput {
            batches: vec![(0, facts(&epoch.facts)), (1, changes(&epoch.changes))],
            progress: epoch.progress.to_vec(),
        })
        .collect();
    for wait in [Some(40), Some(0), None] {
        let factory = factory(Missing::Keep, wait);
        let expected = expected(drawn, wait);
        for variant in Variant::all(seed) {
            assert_eq!(
                run(&factory, &inputs, &variant),
                expected,
                "{wait:?} {variant:?}"
            );
        }
    }
}

#[test]
fn results_depend_on_nothing_but_the_epochs() {
    for seed in 1..=5 {
        check_all_variants(seed, &draw(seed));
    }
}

/// Long texts are answered in another way than short ones, within one batch.
#[test]
fn long_and_short_texts_of_a_table_stay_what_they_are() {
    for seed in 6..=8 {
        let mut drawn = draw(seed);
        for (_, text, _, origin) in drawn.iter_mut().flat_map(|epoch| &mut epoch.changes) {
            if *origin % 3 == 0
                && let Some(text) = text
            {
                text.push_str(", which does not fit into a view");
            }
        }
        check_all_variants(seed, &drawn);
    }
}
