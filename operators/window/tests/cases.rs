//! Window conformance cases A1, A3, A4, A6, A7 (tumbling; Flink's figures) as tables, and the
//! corners of lateness, updates and aggregates.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod harness;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringViewArray, TimestampMillisecondArray, UInt64Array,
};
use harness::{Harness, at, render};
use thalweg_stream::{
    Column, ColumnType, DeadClass, OperatorFactory, Progress, StreamKind, StreamSchema,
};
use thalweg_window::{
    AggregateSpec, Function, LateFate, LateSpec, SpecError, TumblingFactory, TumblingSpec,
};

fn input() -> StreamSchema {
    StreamSchema::append(
        vec![
            Column::new("k", ColumnType::String),
            Column::new("v", ColumnType::Int64),
        ],
        true,
    )
}

fn rows(rows: &[(&str, i64, i64)]) -> RecordBatch {
    let keys = StringViewArray::from_iter_values(rows.iter().map(|r| r.0));
    let values = Int64Array::from_iter_values(rows.iter().map(|r| r.2));
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.1));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys),
        Arc::new(values),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(UInt64Array::from_iter_values(0..rows.len() as u64)),
    ];
    RecordBatch::try_new(input().arrow(), columns).unwrap()
}

fn aggregate(name: &str, function: Function, argument: usize) -> AggregateSpec {
    AggregateSpec {
        name: name.into(),
        function,
        argument: Some(argument),
        filter: None,
    }
}

fn sums(size_ms: i64, allowed_ms: i64, then: LateFate) -> TumblingFactory {
    let spec = TumblingSpec {
        size_ms,
        offset_ms: 0,
        by: vec![0],
        aggregates: vec![aggregate("sum", Function::Sum, 1)],
        late: LateSpec { allowed_ms, then },
    };
    TumblingFactory::new(input(), spec).unwrap()
}

/// Plays a script against a window and writes down what came out at each watermark.
///
/// `k@t` is a row of value 1, `WM n` ends the epoch with every event up to n seen (our watermark
/// n + 1), `restore` takes a checkpoint and restores it onto another number of workers.
fn play(factory: &TumblingFactory, script: &str) -> String {
    let mut harness = Harness::new(factory, 2);
    let mut log = Vec::new();
    let mut pending = Vec::new();
    for word in script.split(';').map(str::trim) {
        if let Some(watermark) = word.strip_prefix("WM ") {
            harness.send(0, &rows(&std::mem::take(&mut pending)));
            let watermark: i64 = match watermark.strip_prefix("MAX-") {
                Some(less) => i64::MAX - less.parse::<i64>().unwrap(),
                None => watermark.parse().unwrap(),
            };
            harness.close(&[at(watermark + 1)]);
            for row in harness.take() {
                log.push(format!("{word}: {row}"));
            }
        } else if word == "restore" {
            harness.send(0, &rows(&std::mem::take(&mut pending)));
            harness.freeze(false, 0);
            harness.commit();
            harness.restart(3);
        } else {
            let (key, time) = word.split_once('@').unwrap();
            let time = match time.strip_prefix("MAX-") {
                Some(less) => i64::MAX - less.parse::<i64>().unwrap(),
                None => time.parse().unwrap(),
            };
            pending.push((key, time, 1));
        }
    }
    log.join("\n")
}

const A1: &str = "k2@3999; k2@3000; k1@20; k1@0; k1@999; k2@1998; k2@1999; k2@1000; \
    WM 999; WM 1999; WM 2999; WM 3999; WM 4999; WM 5999; WM 6999; WM 7999";

#[test]
fn a1_out_of_order_rows_fire_with_their_window() {
    let expected = "WM 2999: 0: 0 3000 k1 3 2999\n\
        WM 2999: 0: 0 3000 k2 3 2999\n\
        WM 5999: 0: 3000 6000 k2 2 5999";
    let factory = sums(3000, 0, LateFate::DeadLetter);
    assert_eq!(play(&factory, A1), expected);
    let restored = A1.replace("WM 2999", "restore; WM 2999");
    assert_eq!(play(&factory, &restored), expected);
}

#[test]
fn a3_rows_within_the_allowed_lateness_update_the_result() {
    let factory = sums(2000, 500, LateFate::Output);
    let script = "k2@500; WM 1500; k2@1300; WM 2300; k2@1997; WM 6000; k2@1998; WM 7000";
    // Accumulating: the update carries 3, where a discarding engine says 1.
    let expected = "WM 2300: 0: 0 2000 k2 2 1999 insert\n\
        WM 6000: 0: 0 2000 k2 3 1999 update\n\
        WM 7000: 1: k2 1 1998";
    assert_eq!(play(&factory, script), expected);
    let restored = script
        .replace("k2@1997", "restore; k2@1997")
        .replace("k2@1998", "restore; k2@1998");
    assert_eq!(play(&factory, &restored), expected);
}

#[test]
fn a4_a_row_is_late_when_its_window_has_fired() {
    let factory = sums(2000, 0, LateFate::Output);
    let script = "k2@1000; WM 1985; k2@1980; WM 1999; k2@1998; k2@2001; WM 2999; WM 3999";
    let expected = "WM 1999: 0: 0 2000 k2 2 1999\n\
        WM 2999: 1: k2 1 1998\n\
        WM 3999: 0: 2000 4000 k2 1 3999";
    assert_eq!(play(&factory, script), expected);
}

#[test]
fn a6_the_end_of_time_saturates() {
    let factory = sums(1000, 2000, LateFate::DeadLetter);
    let end = i64::MAX / 1000 * 1000;
    assert_eq!(i64::MAX - (end - 1), 808);
    let script = "k2@MAX-1750; WM MAX-1500; WM MAX-808";
    let expected = format!(
        "WM MAX-808: 0: {} {end} k2 1 {} insert",
        end - 1000,
        end - 1
    );
    assert_eq!(play(&factory, script), expected);
}

#[test]
fn a7_state_goes_when_the_lateness_has_passed() {
    let factory = sums(2000, 1, LateFate::DeadLetter);
    let script = "k2@1000; WM 1599; WM 1999; WM 2000; WM 5000";
    assert_eq!(
        play(&factory, script),
        "WM 1999: 0: 0 2000 k2 1 1999 insert"
    );
    let mut harness = Harness::new(&factory, 1);
    harness.send(0, &rows(&[("k2", 1000, 1)]));
    harness.close(&[at(2000)]);
    assert_eq!(harness.workers[0].held().rows, 1);
    harness.close(&[at(2001)]);
    assert_eq!(harness.workers[0].held().rows, 0);
}

#[test]
fn a_key_first_seen_after_the_firing_is_inserted_and_windows_leave_in_order() {
    let factory = sums(10, 100, LateFate::Drop);
    let script = "a@1; b@11; WM 20; c@2; c@3; a@4; b@12; d@25; WM 30; a@1; WM 200; a@1; WM 201";
    let expected = "WM 20: 0: 0 10 a 1 9 insert\n\
        WM 20: 0: 10 20 b 1 19 insert\n\
        WM 30: 0: 0 10 a 2 9 update\n\
        WM 30: 0: 0 10 c 2 9 insert\n\
        WM 30: 0: 10 20 b 2 19 update\n\
        WM 30: 0: 20 30 d 1 29 insert\n\
        WM 200: 0: 0 10 a 3 9 update";
    assert_eq!(play(&factory, script), expected);
    let mut harness = Harness::new(&factory, 1);
    harness.send(0, &rows(&[("x", 35, 1), ("y", 15, 1), ("z", 1, 1)]));
    harness.close(&[at(40)]);
    let batches = harness.take_output().batches;
    let starts: Vec<String> = batches.iter().flat_map(|(_, b)| render(b)).collect();
    assert!(
        starts[0].starts_with("0 10 z") && starts[2].starts_with("30 40 x"),
        "{starts:?}"
    );
}

#[test]
fn results_of_a_window_have_one_order_however_its_keys_came() {
    let factory = sums(1000, 0, LateFate::DeadLetter);
    let keys: Vec<String> = (0..200).map(|key| format!("key-{key}")).collect();
    let told = |keys: &[&str], restart: bool| -> Vec<String> {
        let mut harness = Harness::new(&factory, 1);
        for (at_key, key) in keys.iter().enumerate() {
            harness.send(0, &rows(&[(key, 0, 1)]));
            if restart && at_key == keys.len() / 2 {
                harness.close(&[at(0)]);
                harness.freeze(true, 1);
                harness.commit();
                harness.restart(1);
            }
        }
        harness.close(&[at(1000)]);
        let output = harness.take_output();
        (output.batches.iter())
            .flat_map(|(_, batch)| render(batch))
            .collect()
    };
    let forwards: Vec<&str> = keys.iter().map(String::as_str).collect();
    let backwards: Vec<&str> = forwards.iter().copied().rev().collect();
    let results = told(&forwards, false);
    assert_eq!(results.len(), keys.len());
    assert_eq!(told(&backwards, false), results, "backwards");
    assert_eq!(told(&forwards, true), results, "through a restart");
}

#[test]
fn late_rows_become_dead_letters_and_are_counted() {
    let factory = sums(10, 0, LateFate::DeadLetter);
    let mut harness = Harness::new(&factory, 1);
    harness.close(&[at(50)]);
    harness.send(0, &rows(&[("a", 49, 1), ("a", 50, 1), ("a", -5, 1)]));
    harness.close(&[at(50)]);
    let output = harness.take_output();
    assert_eq!(output.dead.len(), 2);
    assert!(
        output
            .dead
            .iter()
            .all(|letter| letter.class == DeadClass::Late)
    );
    assert_eq!(output.dead[1].event_time, Some(-5));
    assert!(
        output.dead[0].message.contains("ends at 50"),
        "{}",
        output.dead[0].message
    );
    assert_eq!((harness.ledger().late, harness.ledger().held), (2, 1));
}

#[test]
fn the_end_of_input_fires_everything() {
    let factory = sums(10, 100, LateFate::DeadLetter);
    let mut harness = Harness::new(&factory, 2);
    harness.send(
        0,
        &rows(&[("a", 5, 1), ("b", i64::MAX, 1), ("c", i64::MIN, 1)]),
    );
    harness.close(&[Progress::END]);
    assert_eq!(harness.take().len(), 3);
    assert_eq!((harness.ledger().merged, harness.ledger().held), (3, 0));
}

/// Every function over every type it applies to, with nulls and filters.
#[test]
fn aggregates_ignore_nulls_and_keep_their_types() {
    let schema = StreamSchema::append(
        vec![
            Column::new("f", ColumnType::Float64),
            Column::new("i", ColumnType::Int32),
            Column::new(
                "d",
                ColumnType::Decimal {
                    precision: 9,
                    scale: 2,
                },
            ),
            Column::new("s", ColumnType::String),
            Column::new("b", ColumnType::Bool),
            Column::new("n", ColumnType::Float64),
        ],
        true,
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(vec![
            Some(1.5),
            None,
            Some(-0.5),
            Some(2.0),
        ])),
        Arc::new(Int32Array::from(vec![
            Some(7),
            Some(7),
            Some(i32::MIN),
            None,
        ])),
        Arc::new(
            Decimal128Array::from(vec![Some(150), Some(-25), None, Some(100)])
                .with_precision_and_scale(9, 2)
                .unwrap(),
        ),
        Arc::new(StringViewArray::from(vec![
            Some("pear"),
            Some("apple"),
            None,
            Some("a longer fruit's name"),
        ])),
        Arc::new(BooleanArray::from(vec![
            Some(true),
            Some(false),
            Some(true),
            None,
        ])),
        Arc::new(Float64Array::from(vec![None, None, None, None])),
        Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3, 4]).with_timezone("UTC")),
        Arc::new(UInt64Array::from(vec![1, 2, 3, 4])),
    ];
    let batch = RecordBatch::try_new(schema.arrow(), columns).unwrap();
    for (function, argument, filter, expected) in [
        (Function::Count, None, None, "4"),
        (Function::Count, None, Some(4), "2"),
        (Function::Count, Some(0), None, "3"),
        (Function::Count, Some(0), Some(4), "2"),
        (Function::Sum, Some(0), None, "3.0"),
        (Function::Avg, Some(0), Some(4), "0.5"),
        (Function::Min, Some(0), None, "-0.5"),
        (Function::Max, Some(0), None, "2.0"),
        (Function::Sum, Some(1), None, "-2147483634"),
        (Function::Avg, Some(1), Some(4), "-1073741820.5"),
        (Function::Min, Some(1), None, "-2147483648"),
        (Function::Max, Some(1), None, "7"),
        (Function::CountDistinct, Some(1), None, "2"),
        (Function::CountDistinct, Some(3), Some(4), "1"),
        (Function::Sum, Some(2), None, "225"),
        (Function::Avg, Some(2), None, "0.75"),
        (Function::Min, Some(2), None, "-25"),
        (Function::Max, Some(2), None, "150"),
        (Function::Min, Some(3), None, "a longer fruit's name"),
        (Function::Max, Some(3), None, "pear"),
        (Function::Max, Some(3), Some(4), "pear"),
        (Function::Min, Some(4), None, "false"),
        (Function::Max, Some(4), None, "true"),
        (Function::Sum, Some(5), None, "null"),
        (Function::Avg, Some(5), None, "null"),
        (Function::Min, Some(5), None, "null"),
        (Function::Max, Some(5), None, "null"),
        (Function::Count, Some(5), None, "0"),
        (Function::CountDistinct, Some(5), None, "0"),
    ] {
        let spec = TumblingSpec {
            size_ms: 10,
            offset_ms: 0,
            by: vec![],
            aggregates: vec![AggregateSpec {
                name: "x".into(),
                function,
                argument,
                filter,
            }],
            late: LateSpec {
                allowed_ms: 0,
                then: LateFate::Drop,
            },
        };
        let factory = TumblingFactory::new(schema.clone(), spec).unwrap();
        let mut harness = Harness::new(&factory, 4);
        harness.send(0, &batch);
        harness.freeze(true, 0);
        harness.commit();
        harness.restart(2);
        harness.send(0, &batch.slice(0, 0));
        harness.close(&[at(10)]);
        let got = harness.take();
        assert_eq!(
            got,
            [format!("0: 0 10 {expected} 9")],
            "{function:?} of {argument:?} where {filter:?}"
        );
    }
}

#[test]
fn a_sum_that_does_not_fit_is_a_dead_letter_and_the_others_go_on() {
    let factory = sums(10, 0, LateFate::Drop);
    let mut harness = Harness::new(&factory, 1);
    harness.send(
        0,
        &rows(&[
            ("a", 1, i64::MAX),
            ("a", 2, 1),
            ("b", 1, i64::MAX),
            ("b", 1, 1),
            ("b", 2, -1),
        ]),
    );
    harness.close(&[at(10)]);
    let output = harness.take_output();
    let [letter] = &output.dead[..] else {
        panic!("{:?}", output.dead)
    };
    assert_eq!(
        (letter.class, letter.code),
        (DeadClass::Operator, "overflow")
    );
    assert_eq!(letter.message, "\"sum\" does not fit int64");
    let rows: Vec<String> = output.batches.iter().flat_map(|(_, b)| render(b)).collect();
    assert_eq!(rows, [format!("0 10 b {} 9", i64::MAX)]);
}

#[test]
fn what_does_not_fit_the_input_is_refused() {
    let base = || TumblingSpec {
        size_ms: 10,
        offset_ms: 0,
        by: vec![0],
        aggregates: vec![aggregate("sum", Function::Sum, 1)],
        late: LateSpec {
            allowed_ms: 0,
            then: LateFate::Drop,
        },
    };
    let refusal = |schema: StreamSchema, change: &dyn Fn(&mut TumblingSpec)| {
        let mut spec = base();
        change(&mut spec);
        TumblingFactory::new(schema, spec).unwrap_err()
    };
    let untimed = StreamSchema {
        timed: false,
        ..input()
    };
    assert_eq!(refusal(untimed, &|_| {}), SpecError::NoTime);
    let changes = StreamSchema {
        kind: StreamKind::Changes { key: vec![0] },
        ..input()
    };
    assert_eq!(refusal(changes, &|_| {}), SpecError::Changes);
    assert_eq!(refusal(input(), &|s| s.size_ms = 0), SpecError::Size);
    assert_eq!(
        refusal(input(), &|s| s.by = vec![7]),
        SpecError::NoColumn(7)
    );
    assert_eq!(
        refusal(input(), &|s| s.aggregates[0].name = "k".into()),
        SpecError::Name("k".into())
    );
    assert_eq!(
        refusal(input(), &|s| s.aggregates[0].filter = Some(0)),
        SpecError::Filter("sum".into())
    );
    let text = refusal(input(), &|s| s.aggregates[0].argument = Some(0));
    assert_eq!(text.to_string(), "Sum does not apply to type string");
    let factory = sums(10, 0, LateFate::Output);
    assert_eq!(factory.outputs()[1], ("late", input()));
    let shapes =
        [sums(10, 0, LateFate::Drop), sums(11, 0, LateFate::Drop)].map(|f| f.state_shape());
    assert_ne!(shapes[0], shapes[1]);
}
