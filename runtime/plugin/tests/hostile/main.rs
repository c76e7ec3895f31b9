//! Guests that mean no good: whatever they do, their rows fail and the others go on.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a test finds wrong it says by panicking"
)]

mod guest;
mod load;
mod output;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use thalweg_plugin::{Caller, Compile, Host, Limits, Plugin, PluginSet};
use thalweg_stream::Evaluated;

static HOST: LazyLock<Host> =
    LazyLock::new(|| Host::new(Compile::Here, None).expect("this machine runs guests"));

fn limits() -> Limits {
    Limits {
        deadline: Duration::from_millis(50),
        ..Limits::default()
    }
}

fn caller(component: &[u8]) -> Caller {
    let plugin = Plugin::load(&HOST, component, limits()).expect("loads");
    let mut set = PluginSet::default();
    set.insert("p", plugin);
    set.caller("p.f").expect("there is a function")
}

fn call(caller: &mut Caller, values: &[Option<f64>]) -> Evaluated {
    let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
    let evaluated = caller.call(&[column], values.len()).expect("no fault");
    assert_eq!(evaluated.values.len(), values.len(), "one value per row");
    let rows: Vec<usize> = evaluated.failed.iter().map(|failed| failed.row).collect();
    assert!(rows.is_sorted_by(|one, two| one < two), "{rows:?}");
    evaluated
}

fn codes(evaluated: &Evaluated) -> Vec<(usize, &'static str)> {
    (evaluated.failed.iter())
        .map(|failed| (failed.row, failed.code))
        .collect()
}

/// Rows 0, 1, 2 …, with some of them replaced.
fn rows(count: usize, poison: &[(usize, f64)]) -> Vec<Option<f64>> {
    let mut rows: Vec<Option<f64>> = (0..count).map(|row| Some(row as f64 + 1_000.0)).collect();
    for (row, value) in poison {
        rows[*row] = Some(*value);
    }
    rows
}

/// All rows but the failed ones have come back as they were.
fn others_went_on(evaluated: &Evaluated, rows: &[Option<f64>]) {
    let values = evaluated.values.as_primitive::<Float64Type>();
    for (row, value) in rows.iter().enumerate() {
        if !evaluated.failed.iter().any(|failed| failed.row == row) {
            assert_eq!(
                values.is_valid(row).then(|| values.value(row)),
                *value,
                "row {row}"
            );
        }
    }
}

#[test]
fn values_and_nulls_come_through() {
    let mut caller = caller(&guest::moody());
    let mut rows = rows(100, &[]);
    rows[7] = None;
    rows[99] = None;
    let evaluated = call(&mut caller, &rows);
    assert!(evaluated.failed.is_empty());
    others_went_on(&evaluated, &rows);
    assert!(call(&mut caller, &[]).failed.is_empty());
    assert_eq!(caller.tally().calls, 1, "no rows are no call");
}

#[test]
fn row_that_fails_in_any_way_fails_alone() {
    let component = guest::moody();
    let cases = [
        (
            13.0,
            "plugin-trap",
            "f: wasm `unreachable` instruction executed",
        ),
        (14.0, "plugin-deadline", "f: took longer than its deadline"),
        (15.0, "plugin-trap", "f: memory limit of 64 MiB exceeded"),
        (16.0, "plugin-failure", "f: says no"),
        (17.0, "plugin-failure", "f: says no"),
        (18.0, "plugin-failure", "f: says no"),
        (19.0, "plugin-trap", "f: panicked at  [31mrow 19"),
        (20.0, "plugin-trap", "f: call stack exhausted"),
        (21.0, "plugin-deadline", "f: took longer than its deadline"),
    ];
    for (poison, code, message) in cases {
        for (count, at) in [(1, 0), (2, 1), (100, 0), (100, 99), (8192, 5000)] {
            let mut caller = caller(&component);
            let mut rows = rows(count, &[(at, poison)]);
            if count > 2 {
                rows[50] = None;
            }
            let evaluated = call(&mut caller, &rows);
            assert_eq!(
                codes(&evaluated),
                [(at, code)],
                "{poison} at {at} of {count}"
            );
            assert_eq!(evaluated.failed[0].message, message);
            let sha256 = evaluated.failed[0]
                .plugin
                .as_deref()
                .expect("the plugin's hash");
            assert_eq!(sha256, thalweg_plugin::sha256(&component));
            others_went_on(&evaluated, &rows);
            let failed: u64 = caller.tally().failed().map(|(_, count)| count).sum();
            assert!(failed >= 1);
        }
    }
}

#[test]
fn many_rows_fail_for_different_reasons() {
    let mut caller = caller(&guest::moody());
    let rows = rows(
        5_000,
        &[
            (0, 13.0),
            (1, 16.0),
            (700, 14.0),
            (701, 17.0),
            (2_600, 15.0),
            (4_999, 19.0),
        ],
    );
    let evaluated = call(&mut caller, &rows);
    let expected = [
        (0, "plugin-trap"),
        (1, "plugin-failure"),
        (700, "plugin-deadline"),
        (701, "plugin-failure"),
        (2_600, "plugin-trap"),
        (4_999, "plugin-trap"),
    ];
    assert_eq!(codes(&evaluated), expected);
    others_went_on(&evaluated, &rows);
    // The next batch is none the worse for it.
    let rows = self::rows(5_000, &[]);
    assert!(call(&mut caller, &rows).failed.is_empty());
}

#[test]
fn every_row_traps() {
    let mut caller = caller(&guest::moody());
    let evaluated = call(&mut caller, &vec![Some(13.0); 8192]);
    assert_eq!(evaluated.failed.len(), 8192);
    // However slow this machine is, a batch is done within its time and what is left is given up.
    let kinds = ["plugin-trap", "plugin-given-up"];
    assert!(
        evaluated
            .failed
            .iter()
            .all(|failed| kinds.contains(&failed.code))
    );
    assert_eq!(evaluated.failed[0].code, "plugin-trap");
}

#[test]
fn time_for_a_batch_is_bounded_and_the_circuit_opens_and_closes() {
    let mut caller = caller(&guest::moody());
    for batch in 0..3 {
        // No two alike: a row that is known would not be called.
        let looping = |row: u32| Some(14.0 + f64::from(batch * 8192 + row) / 100_000.0);
        let looping: Vec<_> = (0..8192).map(looping).collect();
        let before = caller.tally().cpu;
        let evaluated = call(&mut caller, &looping);
        assert_eq!(evaluated.failed.len(), 8192);
        assert_eq!(evaluated.failed[0].code, "plugin-deadline");
        assert_eq!(evaluated.failed[8191].code, "plugin-given-up");
        // 50 ms and four times that, and generously what the host does besides.
        let took = caller.tally().cpu - before;
        assert!(
            took < Duration::from_millis(1_500),
            "batch {batch} took {took:?}"
        );
    }
    let calls = caller.tally().calls;
    let fine = rows(100, &[]);
    for _ in 0..7 {
        let evaluated = call(&mut caller, &fine);
        assert!(
            evaluated
                .failed
                .iter()
                .all(|failed| failed.code == "plugin-circuit-open")
        );
        assert_eq!(evaluated.failed.len(), 100);
    }
    assert_eq!(caller.tally().calls, calls, "an open circuit calls nothing");
    // The eighth is tried, and closes it.
    assert!(call(&mut caller, &fine).failed.is_empty());
    assert!(call(&mut caller, &fine).failed.is_empty());
    let open = caller
        .tally()
        .failed()
        .find(|(kind, _)| *kind == "circuit-open");
    assert_eq!(open, Some(("circuit-open", 700)));
}

#[test]
fn row_that_loops_costs_little_by_default() {
    let plugin = Plugin::load(&HOST, &guest::moody(), Limits::default()).expect("loads");
    let mut set = PluginSet::default();
    set.insert("p", plugin);
    let mut caller = set.caller("p.f").expect("there is a function");
    let evaluated = call(&mut caller, &rows(8192, &[(4_321, 14.0)]));
    assert_eq!(codes(&evaluated), [(4_321, "plugin-deadline")]);
    // CPU time: 250 ms, then its part of 62, then 31, 16, 8 and 5 ms to find it.
    let took = caller.tally().cpu;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn row_that_loops_is_known_when_it_comes_again() {
    let mut caller = caller(&guest::moody());
    let timeouts = |caller: &Caller| {
        let mut failed = caller.tally().failed();
        failed
            .find(|(kind, _)| *kind == "deadline")
            .map_or(0, |(_, count)| count)
    };
    let mut rows = rows(1_000, &[(3, 14.0), (500, 14.0)]);
    rows[4] = None;
    let first = call(&mut caller, &rows);
    let spent = timeouts(&caller);
    assert!(spent > 0);
    // As an expression is evaluated in halves to find out which row failed.
    for half in [
        &rows[..],
        &rows[..500],
        &rows[..250],
        &rows[..4],
        &rows[3..4],
    ] {
        let again = call(&mut caller, half);
        let expected: Vec<_> = (first.failed.iter())
            .map(|failed| failed.row)
            .filter(|row| half.len() != 1 && *row < half.len())
            .collect();
        let found: Vec<_> = again.failed.iter().map(|failed| failed.row).collect();
        match half.len() {
            1 => assert_eq!(found, [0]),
            _ => assert_eq!(found, expected),
        }
        others_went_on(&again, half);
    }
    assert_eq!(timeouts(&caller), spent, "no deadline is spent on it again");
    // It is forgotten in the end: what made it slow may have been something else.
    for _ in 0..256 {
        call(&mut caller, &[Some(1.0)]);
    }
    call(&mut caller, &[Some(14.0)]);
    assert!(timeouts(&caller) > spent);
}

#[test]
fn memory_is_given_back_and_instances_are_reused() {
    let mut caller = caller(&guest::moody());
    let rows = rows(8192, &[]);
    call(&mut caller, &rows);
    let memory = caller.tally().memory_bytes;
    for _ in 0..50 {
        call(&mut caller, &rows);
    }
    assert_eq!(caller.tally().memory_bytes, memory);
    assert_eq!(caller.tally().calls, 51);
}
