//! Enrichment against scripts, and against a list of everything the table ever said.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod drawn;
#[path = "../../../window/tests/harness/mod.rs"]
mod harness;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray,
    UInt8Array, UInt64Array,
};
use harness::{Harness, at};
use thalweg_enrich::{AsOf, EnrichFactory, EnrichSpec, Missing, SpecError};
use thalweg_stream::schema::{DELETE, UPDATE};
use thalweg_stream::{
    Column, ColumnType, DeadClass, OperatorFactory, Progress, StreamKind, StreamSchema,
};

/// A row of the rows (key, number), or of the table (key, text; no text is a deletion).
type Fact = (Option<&'static str>, i64, i64, u64);
type Change = (Option<&'static str>, Option<String>, i64, u64);

fn rows_schema() -> StreamSchema {
    StreamSchema::append(
        vec![
            Column::new("k", ColumnType::String),
            Column::new("n", ColumnType::Int64),
        ],
        true,
    )
}

fn table_schema() -> StreamSchema {
    StreamSchema {
        columns: vec![
            Column::new("x", ColumnType::Float64),
            Column::new("key", ColumnType::String),
            Column::new("text", ColumnType::String),
        ],
        timed: true,
        kind: StreamKind::Changes { key: vec![1] },
    }
}

fn times(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn facts(rows: &[Fact]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0).collect::<StringViewArray>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
        times(rows.iter().map(|r| r.2)),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.3))),
    ];
    RecordBatch::try_new(rows_schema().arrow(), columns).unwrap()
}

fn changes(rows: &[Change]) -> RecordBatch {
    let kinds = rows
        .iter()
        .map(|r| if r.1.is_some() { UPDATE } else { DELETE });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from_iter_values(
            rows.iter().map(|r| r.2 as f64),
        )),
        Arc::new(rows.iter().map(|r| r.0).collect::<StringViewArray>()),
        Arc::new(
            rows.iter()
                .map(|r| r.1.clone())
                .collect::<StringViewArray>(),
        ),
        times(rows.iter().map(|r| r.2)),
        Arc::new(UInt8Array::from_iter_values(kinds)),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.3))),
    ];
    RecordBatch::try_new(table_schema().arrow(), columns).unwrap()
}

fn spec(missing: Missing, as_of: Option<AsOf>) -> EnrichSpec {
    EnrichSpec {
        table: "limits".into(),
        on: vec![(0, 1)],
        table_key: vec![1],
        take: vec![(2, "text".into()), (0, "table_x".into())],
        missing,
        as_of,
    }
}

fn factory(missing: Missing, wait_ms: Option<i64>) -> EnrichFactory {
    let as_of = wait_ms.map(|wait_ms| AsOf {
        late_ms: 0,
        wait_ms: Some(wait_ms),
    });
    EnrichFactory::new(rows_schema(), table_schema(), spec(missing, as_of)).unwrap()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

const fn idle(watermark: i64) -> Progress {
    Progress {
        idle: true,
        ..Progress::at(watermark)
    }
}

#[test]
fn without_as_of_rows_see_the_table_at_the_end_of_their_epoch() {
    let factory = factory(Missing::Keep, None);
    let mut harness = Harness::new(&factory, 3);
    harness.send(
        0,
        &facts(&[
            (Some("a"), 1, 10, 1),
            (Some("b"), 2, 10, 2),
            (None, 3, 10, 3),
        ]),
    );
    harness.send(
        1,
        &changes(&[
            (Some("a"), text("new"), 50, 9),
            (Some("a"), text("old"), 40, 10),
        ]),
    );
    harness.send(1, &changes(&[(None, text("no key"), 50, 11)]));
    harness.close(&[at(0), at(0)]);
    assert_eq!(
        harness.take(),
        [
            "0: a 1 new 50.0 10",
            "0: b 2 null null 10",
            "0: null 3 null null 10"
        ]
    );
    // An older row of the table changes nothing; a deletion does.
    harness.send(
        1,
        &changes(&[
            (Some("a"), text("older"), 49, 12),
            (Some("b"), text("B"), 1, 13),
        ]),
    );
    harness.send(0, &facts(&[(Some("a"), 4, 10, 4), (Some("b"), 5, 10, 5)]));
    harness.close(&[at(0), at(0)]);
    assert_eq!(harness.take(), ["0: a 4 new 50.0 10", "0: b 5 B 1.0 10"]);
    harness.send(1, &changes(&[(Some("a"), None, 60, 14)]));
    harness.send(0, &facts(&[(Some("a"), 6, 10, 6)]));
    harness.close(&[at(0), at(0)]);
    assert_eq!(harness.take(), ["0: a 6 null null 10"]);
    // The deletion is remembered until nothing older can come.
    assert_eq!(harness.ledger().held, 2);
    harness.close(&[at(0), at(60)]);
    assert_eq!((harness.ledger().held, harness.ledger().merged), (1, 5));
}

#[test]
fn what_becomes_of_rows_without_a_match_is_as_asked() {
    let two = facts(&[(Some("a"), 1, 10, 1), (Some("b"), 2, 10, 2)]);
    for (missing, filtered, dead) in [(Missing::Drop, 1, 0), (Missing::DeadLetter, 0, 1)] {
        let factory = factory(missing, None);
        let mut harness = Harness::new(&factory, 1);
        harness.send(1, &changes(&[(Some("a"), text("A"), 1, 1)]));
        harness.send(0, &two);
        harness.close(&[at(0), at(0)]);
        let output = harness.take_output();
        assert_eq!(output.batches.len(), 1);
        assert_eq!(output.dead.len(), dead as usize);
        if let [letter] = &output.dead[..] {
            assert_eq!(
                (letter.class, letter.code),
                (DeadClass::Operator, "no-match")
            );
        }
        let ledger = harness.ledger();
        assert_eq!(
            (ledger.passed, ledger.filtered, ledger.dead),
            (1, filtered, dead)
        );
    }
}

#[test]
fn as_of_rows_wait_for_the_table_its_silence_or_their_patience() {
    let factory = factory(Missing::Keep, Some(30));
    let mut harness = Harness::new(&factory, 2);
    harness.send(1, &changes(&[(Some("a"), text("v1"), 100, 1)]));
    harness.send(
        0,
        &facts(&[
            (Some("a"), 1, 120, 1),
            (Some("a"), 2, 99, 2),
            (Some("a"), 3, 100, 3),
        ]),
    );
    harness.close(&[at(90), at(100)]);
    assert_eq!(
        harness.take(),
        ["0: a 2 null null 99", "0: a 3 v1 100.0 100"]
    );
    assert_eq!(harness.ledger().held, 2);
    // The version of 120 comes before the table's watermark says so.
    harness.send(
        1,
        &changes(&[
            (Some("a"), text("v3"), 130, 2),
            (Some("a"), text("v2"), 120, 3),
        ]),
    );
    harness.close(&[at(110), at(119)]);
    assert_eq!(harness.take(), [""; 0]);
    harness.close(&[at(110), at(120)]);
    assert_eq!(harness.take(), ["0: a 1 v2 120.0 120"]);
    // Patience: the rows' watermark is 30 beyond the row.
    harness.send(0, &facts(&[(Some("a"), 4, 140, 4), (Some("a"), 5, 141, 5)]));
    harness.close(&[at(169), at(120)]);
    assert_eq!(harness.take(), [""; 0]);
    harness.close(&[at(170), at(120)]);
    assert_eq!(harness.take(), ["0: a 4 v3 130.0 140"]);
    // A version that comes too late for row 4 serves row 5.
    harness.send(1, &changes(&[(Some("a"), text("late"), 135, 6)]));
    harness.close(&[at(170), idle(120)]);
    assert_eq!(harness.take(), ["0: a 5 late 135.0 141"]);
    harness.send(0, &facts(&[(Some("a"), 6, 500, 7), (Some("a"), 7, 160, 8)]));
    harness.close(&[at(170), at(120)]);
    harness.close(&[at(170), Progress::END]);
    assert_eq!(
        harness.take(),
        ["0: a 6 late 135.0 500", "0: a 7 late 135.0 160"]
    );
    harness.send(0, &facts(&[(Some("a"), 8, 900, 9)]));
    harness.close(&[Progress::END, at(120)]);
    assert_eq!(harness.take(), ["0: a 8 late 135.0 900"]);
    assert_eq!(harness.ledger().held, 1);
}

#[test]
fn versions_are_kept_back_to_what_a_row_on_time_can_see() {
    let factory = factory(Missing::Keep, Some(1000));
    let mut harness = Harness::new(&factory, 1);
    for version in 0..50 {
        let v = version as u64;
        harness.send(
            1,
            &changes(&[
                (Some("a"), text("x"), version * 10, v),
                (Some("b"), text("y"), 0, v),
            ]),
        );
        harness.close(&[at(version * 10), at(version * 10)]);
        // One version of each key, and none of the past.
        assert!(harness.ledger().held <= 3, "{:?}", harness.ledger());
    }
    // The rows stand still: versions pile up, and go when the rows move on.
    for version in 50..60 {
        harness.send(1, &changes(&[(Some("a"), text("x"), version * 10, 0)]));
        harness.close(&[at(490), at(version * 10)]);
    }
    assert_eq!(harness.ledger().held, 12);
    harness.freeze(true, 0);
    harness.commit();
    harness.restart(2);
    harness.close(&[at(555), at(600)]);
    assert_eq!(harness.ledger().held, 2 + 4);
    harness.close(&[at(600), at(600)]);
    assert_eq!(harness.ledger().held, 2);
}

/// A version that comes too late to be kept is not seen by late rows either, also not in the first
/// epoch after a restart; of a checkpoint that does not say how far answers have come, it is.
#[test]
fn what_is_forgotten_stays_so_over_a_restart() {
    let factory = factory(Missing::Keep, Some(1000));
    let late = |harness: &mut Harness<'_>| {
        harness.send(1, &changes(&[(Some("a"), text("late"), 20, 2)]));
        harness.send(0, &facts(&[(Some("a"), 1, 30, 3)]));
        harness.close(&[at(200), at(200)]);
        harness.take()
    };
    for checkpoint in [false, true] {
        let mut harness = Harness::new(&factory, 2);
        harness.send(1, &changes(&[(Some("a"), text("new"), 50, 1)]));
        harness.close(&[at(100), at(100)]);
        if checkpoint {
            harness.freeze(false, 1);
            harness.commit();
            harness.restart(3);
        }
        assert_eq!(late(&mut harness), ["0: a 1 null null 30"]);
    }
    let mut harness = Harness::new(&factory, 1);
    harness.send(1, &changes(&[(Some("a"), text("new"), 50, 1)]));
    harness.close(&[at(100), at(100)]);
    harness.freeze(false, 1);
    harness.commit();
    harness.rewrite(|section| {
        let mut bytes = section.bytes.to_vec();
        // Without the register and its length.
        bytes.truncate(bytes.len() - 16);
        assert_eq!(std::mem::replace(&mut bytes[0], 1), 3);
        section.bytes = bytes.into();
    });
    harness.restart(1);
    assert_eq!(late(&mut harness), ["0: a 1 late 20.0 30"]);
}

/// As far as rows may be late, and for ever where the table comes to an end.
#[test]
fn late_rows_find_what_was_current_at_their_time() {
    for (wait_ms, late_ms, older, oldest) in [
        (Some(0), 0, "0: a 1 null null 60", "0: a 2 null null 30"),
        (Some(0), 40, "0: a 1 mid 50.0 60", "0: a 2 null null 30"),
        (None, 0, "0: a 1 mid 50.0 60", "0: a 2 old 20.0 30"),
    ] {
        let spec = spec(Missing::Keep, Some(AsOf { wait_ms, late_ms }));
        let factory = EnrichFactory::new(rows_schema(), table_schema(), spec).unwrap();
        let mut harness = Harness::new(&factory, 2);
        for (at, version) in [(20, "old"), (50, "mid"), (80, "new")] {
            harness.send(1, &changes(&[(Some("a"), text(version), at, at as u64)]));
        }
        harness.close(&[at(90), at(90)]);
        harness.freeze(false, 1);
        harness.commit();
        harness.restart(3);
        harness.send(0, &facts(&[(Some("a"), 1, 60, 3), (Some("a"), 2, 30, 4)]));
        harness.close(&[at(100), at(100)]);
        assert_eq!(harness.take(), [older, oldest], "{wait_ms:?} {late_ms}");
    }
}

#[test]
fn rows_wait_for_all_of_a_table_that_comes_to_an_end() {
    let spec = spec(
        Missing::Keep,
        Some(AsOf {
            wait_ms: None,
            late_ms: 0,
        }),
    );
    let factory = EnrichFactory::new(rows_schema(), table_schema(), spec).unwrap();
    let mut harness = Harness::new(&factory, 2);
    harness.send(0, &facts(&[(Some("a"), 1, 100, 1), (Some("a"), 2, 900, 2)]));
    // However far the rows have come, and however long nothing comes of the table.
    harness.close(&[at(5_000), idle(90)]);
    harness.close(&[Progress::END, idle(90)]);
    assert_eq!(harness.take(), [""; 0]);
    harness.send(1, &changes(&[(Some("a"), text("v1"), 95, 3)]));
    harness.close(&[Progress::END, at(110)]);
    assert_eq!(harness.take(), ["0: a 1 v1 95.0 100"]);
    harness.send(1, &changes(&[(Some("a"), text("v2"), 800, 4)]));
    harness.close(&[Progress::END, Progress::END]);
    assert_eq!(harness.take(), ["0: a 2 v2 800.0 900"]);
    for (rows, table, expected) in [
        (at(100), at(90), at(90)),
        (at(100), idle(10), at(10)),
        (at(100), Progress::END, at(100)),
        (Progress::END, at(90), at(90)),
        (Progress::END, idle(90), at(90)),
        (Progress::END, Progress::END, Progress::END),
    ] {
        let progress = factory.output_progress(&[rows, table]);
        assert_eq!(progress, expected, "{rows:?} {table:?}");
    }
}

#[test]
fn progress_holds_back_for_held_rows() {
    let factory = factory(Missing::Keep, Some(30));
    for (rows, table, expected) in [
        (at(100), at(90), at(90)),
        (at(100), at(200), at(100)),
        (at(100), at(10), at(70)),
        (at(100), idle(10), at(100)),
        (at(100), Progress::END, at(100)),
        (idle(100), at(90), idle(90)),
        (Progress::END, at(90), Progress::END),
        (Progress::START, at(90), Progress::START),
    ] {
        assert_eq!(
            factory.output_progress(&[rows, table]),
            expected,
            "{rows:?} {table:?}"
        );
    }
    let newest = self::factory(Missing::Keep, None);
    assert_eq!(newest.output_progress(&[at(100), at(10)]), at(100));
}

#[test]
fn what_does_not_fit_the_inputs_is_refused() {
    let refusal = |rows: StreamSchema, change: &dyn Fn(&mut EnrichSpec)| {
        let mut spec = spec(
            Missing::Drop,
            Some(AsOf {
                wait_ms: Some(0),
                late_ms: 0,
            }),
        );
        change(&mut spec);
        EnrichFactory::new(rows, table_schema(), spec).unwrap_err()
    };
    assert_eq!(refusal(rows_schema(), &|s| s.on.clear()), SpecError::Key);
    assert_eq!(refusal(rows_schema(), &|s| s.on[0].1 = 2), SpecError::Key);
    assert_eq!(
        refusal(rows_schema(), &|s| s.take[0].0 = 9),
        SpecError::NoColumn(9)
    );
    assert_eq!(
        refusal(rows_schema(), &|s| s.take[0].1 = "n".into()),
        SpecError::Name("n".into())
    );
    assert_eq!(
        refusal(rows_schema(), &|s| s.as_of = Some(AsOf {
            wait_ms: Some(-1),
            late_ms: 0
        })),
        SpecError::Wait
    );
    let types = refusal(rows_schema(), &|s| s.on[0].0 = 1).to_string();
    assert_eq!(
        types,
        "column \"n\" has type int64, but the table's \"key\" has string"
    );
    let untimed = StreamSchema {
        timed: false,
        ..rows_schema()
    };
    assert_eq!(refusal(untimed, &|_| {}), SpecError::NoTime("its input"));
    let changes = StreamSchema {
        kind: StreamKind::Changes { key: vec![0] },
        ..rows_schema()
    };
    assert_eq!(refusal(changes, &|_| {}), SpecError::Changes);
}
