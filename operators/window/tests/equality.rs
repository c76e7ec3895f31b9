//! The same input gives the same results, however it is cut into batches, ordered within an
//! epoch, spread over workers, checkpointed, and restored onto other numbers of workers; and they
//! are those of plain maps.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringViewArray, TimestampMillisecondArray, UInt64Array,
};
use harness::{EpochInput, Variant, at, run};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_stream::{Column, ColumnType, Progress, StreamSchema};
use thalweg_window::{AggregateSpec, Function, LateFate, LateSpec, TumblingFactory, TumblingSpec};

const SIZE: i64 = 100;

type Row = (Option<String>, Option<f64>, Option<String>, i64);

fn input() -> StreamSchema {
    StreamSchema::append(
        vec![
            Column::new("k", ColumnType::String),
            Column::new("x", ColumnType::Float64),
            Column::new("s", ColumnType::String),
        ],
        true,
    )
}

fn batch(rows: &[Row], first: u64) -> RecordBatch {
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.3));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            rows.iter()
                .map(|r| r.0.clone())
                .collect::<StringViewArray>(),
        ),
        Arc::new(rows.iter().map(|r| r.1).collect::<Float64Array>()),
        Arc::new(
            rows.iter()
                .map(|r| r.2.clone())
                .collect::<StringViewArray>(),
        ),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(UInt64Array::from_iter_values(
            first..first + rows.len() as u64,
        )),
    ];
    RecordBatch::try_new(input().arrow(), columns).unwrap()
}

fn factory(allowed_ms: i64) -> TumblingFactory {
    let aggregate = |name: &str, function, argument| AggregateSpec {
        name: name.into(),
        function,
        argument,
        filter: None,
    };
    let spec = TumblingSpec {
        size_ms: SIZE,
        offset_ms: 30,
        by: vec![0],
        aggregates: vec![
            aggregate("rows", Function::Count, None),
            aggregate("mean", Function::Avg, Some(1)),
            aggregate("least", Function::Min, Some(1)),
            aggregate("sum", Function::Sum, Some(1)),
            aggregate("last", Function::Max, Some(2)),
            aggregate("different", Function::CountDistinct, Some(2)),
        ],
        late: LateSpec {
            allowed_ms,
            then: LateFate::DeadLetter,
        },
    };
    TumblingFactory::new(input(), spec).unwrap()
}

/// Epochs of rows whose event times wander around an advancing watermark.
fn epochs(seed: u64) -> Vec<(Vec<Row>, i64)> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut watermark = -250;
    (0..25)
        .map(|_| {
            let rows = (0..rng.random_range(0..60))
                .map(|_| {
                    let key = rng.random_range(0..30);
                    let key = (key > 0).then(|| match key % 3 {
                        0 => format!("a key longer than a view holds {key}"),
                        _ => format!("k{key}"),
                    });
                    let x = rng
                        .random_bool(0.8)
                        .then(|| rng.random_range(-1e9..1e9) * 1e-7);
                    let s = rng
                        .random_bool(0.8)
                        .then(|| format!("s{}", rng.random_range(0..9)));
                    (key, x, s, watermark + rng.random_range(-80..200))
                })
                .collect();
            watermark += rng.random_range(0..70);
            (rows, watermark)
        })
        .collect()
}

/// The results by plain maps: per epoch, rows as the harness renders them.
fn expected(epochs: &[(Vec<Row>, i64)], allowed: i64) -> Vec<Vec<String>> {
    let mut windows: BTreeMap<i64, BTreeMap<String, Vec<Row>>> = BTreeMap::new();
    let mut fired = i64::MIN;
    let mut origin = 0;
    let mut all = Vec::new();
    let ends = epochs.iter().map(|e| e.1).chain([i64::MAX]);
    let rows = epochs.iter().map(|e| &e.0[..]).chain([&[][..]]);
    for (rows, watermark) in rows.zip(ends) {
        let mut out = Vec::new();
        let mut changed: BTreeSet<(i64, String)> = BTreeSet::new();
        let mut new: BTreeSet<(i64, String)> = BTreeSet::new();
        for row in rows {
            let start = (row.3 - 30).div_euclid(SIZE) * SIZE + 30;
            if fired >= (start + SIZE).saturating_add(allowed) {
                out.push(format!(
                    "dead: late window-fired 0@{origin} Some({})",
                    row.3
                ));
            } else {
                let key = row.0.clone().unwrap_or("null".to_owned());
                let rows = windows.entry(start).or_default();
                if !rows.contains_key(&key) {
                    new.insert((start, key.clone()));
                }
                rows.entry(key.clone()).or_default().push(row.clone());
                changed.insert((start, key));
            }
            origin += 1;
        }
        for (&start, keys) in &windows {
            let end = start + SIZE;
            if end > watermark {
                continue;
            }
            for (key, rows) in keys {
                let known = end <= fired;
                if known && !changed.contains(&(start, key.clone())) {
                    continue;
                }
                let update = known && !new.contains(&(start, key.clone()));
                out.push(result(start, key, rows, (allowed > 0).then_some(update)));
            }
        }
        windows.retain(|start, _| (start + SIZE).saturating_add(allowed) > watermark);
        fired = watermark;
        out.sort();
        all.push(out);
    }
    all
}

fn result(start: i64, key: &str, rows: &[Row], update: Option<bool>) -> String {
    let mut xs: Vec<f64> = rows.iter().filter_map(|r| r.1).collect();
    xs.sort_by(f64::total_cmp);
    // Exact sum: the values are multiples of a power of two small enough to add as integers.
    let unit = 2_f64.powi(-60);
    let exact: i128 = xs.iter().map(|x| (x / unit) as i128).sum();
    let sum = exact as f64 * unit;
    let strings: BTreeSet<&String> = rows.iter().filter_map(|r| r.2.as_ref()).collect();
    let float = |value: Option<f64>| value.map_or("null".to_owned(), |v| format!("{v:?}"));
    let some = (!xs.is_empty()).then_some(sum);
    let change = match update {
        None => "",
        Some(false) => " insert",
        Some(true) => " update",
    };
    format!(
        "0: {start} {} {key} {} {} {} {} {} {} {}{change}",
        start + SIZE,
        rows.len(),
        float(some.map(|sum| sum / xs.len() as f64)),
        float(xs.first().copied()),
        float(some),
        strings.last().map_or("null", |s| s.as_str()),
        strings.len(),
        start + SIZE - 1,
    )
}

#[test]
fn results_depend_on_nothing_but_the_epochs() {
    for seed in 1..=6 {
        for allowed in [0, 120] {
            let drawn = epochs(seed);
            let mut first = 0;
            let mut inputs: Vec<EpochInput> = (drawn.iter())
                .map(|(rows, watermark)| {
                    let batches = vec![(0, batch(rows, first))];
                    first += rows.len() as u64;
                    EpochInput {
                        batches,
                        progress: vec![at(*watermark)],
                    }
                })
                .collect();
            inputs.push(EpochInput {
                batches: Vec::new(),
                progress: vec![Progress::END],
            });
            let factory = factory(allowed);
            let expected = expected(&drawn, allowed);
            for variant in Variant::all(seed) {
                let got = run(&factory, &inputs, &variant);
                assert_eq!(got, expected, "allowed {allowed} {variant:?}");
            }
        }
    }
}
