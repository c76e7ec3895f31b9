//! Deduplication against scripts and against a plain list of what was passed on.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../../window/tests/harness/mod.rs"]
mod harness;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray, UInt64Array};
use harness::{EpochInput, Harness, Variant, at, run};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_dedup::{DedupFactory, DedupSpec, SpecError};
use thalweg_stream::{Column, ColumnType, DeadClass, StreamKind, StreamSchema};

/// Rows of (id, event time, origin), and the watermark at their epoch's end.
type Drawn = (Vec<(i64, i64, u64)>, i64);

fn input() -> StreamSchema {
    StreamSchema::append(vec![Column::new("id", ColumnType::Int64)], true)
}

/// Rows of (id, event time, origin).
fn batch(rows: &[(i64, i64, u64)]) -> RecordBatch {
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.1));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.2))),
    ];
    RecordBatch::try_new(input().arrow(), columns).unwrap()
}

fn factory(by: Vec<usize>, within_ms: i64, same_time: bool) -> DedupFactory {
    let spec = DedupSpec {
        by,
        within_ms,
        same_time,
    };
    DedupFactory::new(input(), spec).unwrap()
}

/// Plays `id@time …` words, epochs divided by `| watermark;`, and writes down what came out.
fn play(factory: &DedupFactory, script: &str) -> Vec<String> {
    let mut harness = Harness::new(factory, 3);
    let mut origin = 0;
    let mut log = Vec::new();
    for epoch in script.split(';').map(str::trim) {
        let (rows, watermark) = epoch.split_once('|').unwrap();
        let rows: Vec<(i64, i64, u64)> = (rows.split_whitespace())
            .map(|word| {
                origin += 1;
                let (id, time) = word.split_once('@').unwrap();
                (id.parse().unwrap(), time.parse().unwrap(), origin)
            })
            .collect();
        harness.send(0, &batch(&rows));
        harness.close(&[at(watermark.trim().parse().unwrap())]);
        log.push(harness.take().join(", "));
    }
    log
}

#[test]
fn rows_less_than_within_apart_are_duplicates_whatever_slice_they_are_in() {
    let got = play(
        &factory(vec![0], 100, false),
        "1@1000 1@1099 1@1100 2@1000 | 900; 1@999 1@900 1@1199 1@1200 | 900; 2@901 2@900 | 900",
    );
    assert_eq!(
        got,
        [
            "0: 1 1000, 0: 1 1100, 0: 2 1000",
            "0: 1 1200, 0: 1 900",
            "0: 2 900"
        ]
    );
}

/// What is kept of a key is a fingerprint, and two keys with one would be taken for one.
#[test]
fn different_keys_are_no_duplicates_however_many_there_are() {
    const KEYS: i64 = 40_000;
    let factory = factory(vec![0], 100, false);
    let mut harness = Harness::new(&factory, 1);
    for keys in (0..KEYS).collect::<Vec<_>>().chunks(8_000) {
        let rows: Vec<_> = keys
            .iter()
            .map(|key| (*key, 1_000, key.cast_unsigned()))
            .collect();
        harness.send(0, &batch(&rows));
        harness.close(&[at(900)]);
    }
    let output = harness.take_output();
    let passed: usize = output.batches.iter().map(|(_, rows)| rows.num_rows()).sum();
    assert_eq!(passed, KEYS as usize);
}

#[test]
fn of_an_epoch_the_earliest_row_is_passed_on() {
    let script = "7@1050 7@1000 7@1099 | 0; 7@950 | 0";
    // 950 is less than 100 before 1000, which was passed on already.
    assert_eq!(
        play(&factory(vec![0], 100, false), script),
        ["0: 7 1000", ""]
    );
}

#[test]
fn rows_older_than_the_watermark_less_within_are_late() {
    for (same_time, by) in [(false, vec![0]), (true, vec![0]), (false, vec![0, 1])] {
        let factory = factory(by, 100, same_time);
        let mut harness = Harness::new(&factory, 2);
        harness.close(&[at(1000)]);
        harness.send(
            0,
            &batch(&[(1, 899, 1), (1, 900, 2), (2, 900, 3), (2, 900, 4)]),
        );
        harness.close(&[at(1000)]);
        let output = harness.take_output();
        let [letter] = &output.dead[..] else {
            panic!("{:?}", output.dead)
        };
        assert_eq!(
            (letter.class, letter.event_time),
            (DeadClass::Late, Some(899))
        );
        let ledger = harness.ledger();
        assert_eq!((ledger.late, ledger.passed, ledger.duplicate), (1, 2, 1));
        // The watermark is part of the state: what was late stays late after a restore.
        harness.freeze(false, 0);
        harness.commit();
        harness.restart(4);
        harness.send(0, &batch(&[(3, 899, 5), (2, 900, 6)]));
        harness.close(&[at(1000)]);
        assert_eq!((harness.ledger().late, harness.ledger().duplicate), (2, 2));
    }
}

#[test]
fn an_event_time_in_the_key_makes_other_times_other_keys() {
    let got = play(
        &factory(vec![0, 1], 100, false),
        "1@1000 1@1001 1@1000 | 900; 1@1001 | 900",
    );
    assert_eq!(got, ["0: 1 1000, 0: 1 1001", ""]);
}

#[test]
fn what_does_not_fit_the_input_is_refused() {
    let refusal = |schema: StreamSchema, by: Vec<usize>, within_ms| {
        let spec = DedupSpec {
            by,
            within_ms,
            same_time: false,
        };
        DedupFactory::new(schema, spec).unwrap_err()
    };
    let untimed = StreamSchema {
        timed: false,
        ..input()
    };
    assert_eq!(refusal(untimed, vec![0], 1), SpecError::NoTime);
    let changes = StreamSchema {
        kind: StreamKind::Changes { key: vec![0] },
        ..input()
    };
    assert_eq!(refusal(changes, vec![0], 1), SpecError::Changes);
    assert_eq!(refusal(input(), vec![0], 0), SpecError::Within);
    assert_eq!(refusal(input(), vec![], 1), SpecError::NoKey);
    assert_eq!(refusal(input(), vec![2], 1), SpecError::NoColumn(2));
}

/// What is passed on by a plain list of everything that was passed on so far.
fn expected(epochs: &[Drawn], within: i64, same_time: bool) -> Vec<Vec<String>> {
    let mut passed: Vec<(i64, i64)> = Vec::new();
    let mut watermark = i64::MIN;
    (epochs.iter())
        .map(|(rows, next)| {
            let mut rows = rows.clone();
            rows.sort_by_key(|&(_, time, origin)| (time, origin));
            let mut out = Vec::new();
            for (id, time, origin) in rows {
                let near = |&(i, t): &(i64, i64)| {
                    i == id
                        && if same_time {
                            t == time
                        } else {
                            (t - time).abs() < within
                        }
                };
                if time < watermark.saturating_sub(within) {
                    out.push(format!("dead: late too-old 0@{origin} Some({time})"));
                } else if !passed.iter().any(near) {
                    passed.push((id, time));
                    out.push(format!("0: {id} {time}"));
                }
            }
            watermark = *next;
            out.sort();
            out
        })
        .collect()
}

#[test]
fn results_depend_on_nothing_but_the_epochs() {
    for seed in 1..=5 {
        for (same_time, by) in [(false, vec![0]), (true, vec![0, 1])] {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut watermark, mut origin) = (0, 0);
            let within = 100;
            let epochs: Vec<Drawn> = (0..40)
                .map(|_| {
                    let rows = (0..rng.random_range(0..50))
                        .map(|_| {
                            origin += 1;
                            let time = watermark + rng.random_range(-120..80) / 10 * 10;
                            (rng.random_range(0..25), time, origin)
                        })
                        .collect();
                    watermark += rng.random_range(0..30);
                    (rows, watermark)
                })
                .collect();
            let inputs: Vec<EpochInput> = (epochs.iter())
                .map(|(rows, watermark)| EpochInput {
                    batches: vec![(0, batch(rows))],
                    progress: vec![at(*watermark)],
                })
                .collect();
            let factory = factory(by, within, same_time);
            let expected = expected(&epochs, within, same_time);
            for variant in Variant::all(seed) {
                assert_eq!(
                    run(&factory, &inputs, &variant),
                    expected,
                    "{same_time} {variant:?}"
                );
            }
        }
    }
}
