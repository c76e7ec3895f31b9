//! Aggregates that come, go and move: what was kept goes on, what is new says no more than it knows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod harness;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray,
    UInt64Array,
};
use harness::{Harness, at};
use thalweg_stream::{Column, ColumnType, OperatorFactory, StreamSchema};
use thalweg_window::{AggregateSpec, Function, LateFate, LateSpec, TumblingFactory, TumblingSpec};

/// A column that was computed for the window; the hash says what it is.
const COMPUTED: &str = "_00000000000000c4";
/// A second one of the same expression.
const AGAIN: &str = "_00000000000000c4_1";

/// A key, a value, a required value, a text, and a condition, twice.
fn input() -> StreamSchema {
    let required = Column {
        required: true,
        ..Column::new("r", ColumnType::Int64)
    };
    StreamSchema::append(
        vec![
            Column::new("k", ColumnType::String),
            Column::new("v", ColumnType::Int64),
            required,
            Column::new("t", ColumnType::String),
            Column::new(COMPUTED, ColumnType::Bool),
            Column::new(AGAIN, ColumnType::Bool),
        ],
        true,
    )
}

/// Rows of key, time and value; the text is the value's.
fn rows(rows: &[(&str, i64, Option<i64>)]) -> RecordBatch {
    let values = || rows.iter().map(|row| row.2);
    let times = rows.iter().map(|row| row.1);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(values().collect::<Int64Array>()),
        Arc::new(Int64Array::from_iter_values(
            values().map(Option::unwrap_or_default),
        )),
        Arc::new(
            values()
                .map(|v| v.map(|v| format!("t{v}")))
                .collect::<StringViewArray>(),
        ),
        Arc::new(BooleanArray::from(vec![true; rows.len()])),
        Arc::new(BooleanArray::from(vec![true; rows.len()])),
        Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(UInt64Array::from_iter_values(0..rows.len() as u64)),
    ];
    RecordBatch::try_new(input().arrow(), columns).unwrap()
}

/// Windows of 10 ms with the aggregates in `text`, as `sum v, max t, count r if, sum r again`.
fn window(text: &str) -> TumblingFactory {
    let aggregates = text.split(", ").map(|aggregate| {
        let mut words = aggregate.split(' ');
        let function = match words.next().unwrap() {
            "count" => Function::Count,
            "distinct" => Function::CountDistinct,
            "sum" => Function::Sum,
            "avg" => Function::Avg,
            "min" => Function::Min,
            "max" => Function::Max,
            other => panic!("{other}"),
        };
        let argument = words.next().and_then(|name| input().column(name));
        AggregateSpec {
            name: aggregate.into(),
            function,
            argument,
            filter: words.next().map(|word| 4 + usize::from(word == "again")),
        }
    });
    let spec = TumblingSpec {
        size_ms: 10,
        offset_ms: 0,
        by: vec![0],
        aggregates: aggregates.collect(),
        late: LateSpec {
            allowed_ms: 0,
            then: LateFate::Drop,
        },
    };
    TumblingFactory::new(input(), spec).unwrap()
}

/// Rows of key a at 1, a checkpoint; rows of keys a and b after each change of the aggregates; what
/// the window from 0 and the next one then say of them.
fn through(aggregates: &[&str]) -> Vec<String> {
    let factories: Vec<_> = aggregates.iter().map(|text| window(text)).collect();
    let mut harness = Harness::new(&factories[0], 2);
    harness.send(
        0,
        &rows(&[("a", 1, Some(5)), ("a", 1, None), ("a", 1, Some(3))]),
    );
    for (number, factory) in factories.iter().enumerate().skip(1) {
        harness.freeze(number % 2 == 0, 0);
        harness.commit();
        harness.change(factory, number % 3 + 1);
        harness.send(
            0,
            &rows(&[("a", 2, Some(7)), ("b", 2, Some(8)), ("b", 2, None)]),
        );
    }
    // What is not known stays so over a restart.
    harness.freeze(false, 0);
    harness.commit();
    harness.restart(2);
    harness.send(0, &rows(&[("a", 12, Some(1)), ("b", 13, Some(2))]));
    harness.close(&[at(30)]);
    harness.take()
}

#[test]
fn an_aggregate_that_comes_is_null_where_there_are_rows_from_before() {
    let results = through(&["sum v, count v", "sum v, count v, min v, avg r, max t"]);
    assert_eq!(
        results,
        [
            "0: 0 10 a 15 3 null null null 9",
            "0: 0 10 b 8 1 8 4.0 t8 9",
            "0: 10 20 a 1 1 1 1.0 t1 19",
            "0: 10 20 b 2 1 2 2.0 t2 19",
        ]
    );
}

#[test]
fn aggregates_that_go_or_move_leave_the_others_as_they_were() {
    let results = through(&[
        "max t, avg v, min t, sum r, distinct v",
        "min t, distinct v, sum r",
    ]);
    assert_eq!(
        results,
        [
            "0: 0 10 a t3 3 15 9",
            "0: 0 10 b t8 1 8 9",
            "0: 10 20 a t1 1 1 19",
            "0: 10 20 b t2 1 2 19",
        ]
    );
}

#[test]
fn what_is_not_known_stays_so_over_the_next_change() {
    let results = through(&[
        "sum v",
        "sum v, min v",
        "max v, min v, sum v",
        "min v, max v",
    ]);
    assert_eq!(
        results,
        [
            "0: 0 10 a null null 9",
            "0: 0 10 b 8 null 9",
            "0: 10 20 a 1 1 19",
            "0: 10 20 b 2 2 19",
        ]
    );
    // Gone and come again it has forgotten what it knew.
    let results = through(&["sum v, min v", "sum v", "min v, sum v"]);
    assert_eq!(
        results,
        [
            "0: 0 10 a null 22 9",
            "0: 0 10 b null 16 9",
            "0: 10 20 a 1 1 19",
            "0: 10 20 b 2 2 19",
        ]
    );
}

/// The mean needs the count too, so that the next change finds it there.
#[test]
fn a_count_that_does_not_know_all_rows_is_a_dead_letter() {
    let mut results = through(&["sum r", "sum r, avg v", "sum r, avg v, count v"]);
    let dead = results.pop().unwrap();
    assert!(dead.starts_with("dead: operator unknown-rows "), "{dead}");
    assert_eq!(
        results,
        [
            "0: 0 10 b 16 8.0 2 9",
            "0: 10 20 a 1 1.0 1 19",
            "0: 10 20 b 2 2.0 1 19",
        ]
    );
}

#[test]
fn what_would_be_wrong_is_refused() {
    let migrates = |old: &str, new: &str| {
        let old = window(old).state_shape().unwrap();
        window(new)
            .migration(&old)
            .map(|migration| migration.outcome().to_owned())
    };
    // The number of rows is always known.
    let kept = "keeps the accumulators that it still needs";
    assert_eq!(
        migrates("sum v, max r", "count r, sum v").as_deref(),
        Some(kept)
    );
    for (old, new) in [
        // A count cannot be null.
        ("sum r", "sum r, count v"),
        ("sum r", "sum r, count r if"),
        ("sum v", "sum v, distinct v"),
        // Fingerprints bear the number of their measure.
        ("sum r, distinct v", "distinct v"),
    ] {
        assert_eq!(migrates(old, new), None, "{old} to {new}");
    }
    // Which of several columns of one expression it is says nothing.
    let both = "sum r if, sum v again";
    for moved in ["sum v if, sum r again", "sum v if", "sum r again"] {
        assert_eq!(migrates(both, moved).as_deref(), Some(kept), "{moved}");
    }
    // A computed argument is known by what it is, in state of earlier versions by its place.
    let (before, after) = (format!("sum r, max {COMPUTED}"), format!("max {COMPUTED}"));
    assert_eq!(migrates(&before, &after).as_deref(), Some(kept));
    let placed = window(&before)
        .state_shape()
        .unwrap()
        .replace(COMPUTED, "_4");
    let migration = window(&before).migration(&placed).unwrap();
    assert_eq!(migration.outcome(), kept);
    assert!(window(&after).migration(&placed).is_none());
    let old = window("sum v").state_shape().unwrap();
    for other in ["size 10 ms", "by [k:string]", "tumbling 1", "measures ["] {
        let changed = old.replace(other, "something else");
        assert_ne!(changed, old);
        assert!(
            window("sum v, min v").migration(&changed).is_none(),
            "{changed}"
        );
    }
}
