//! Every type and conversion: what a column makes of a value.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail and say why"
)]

mod harness;

use harness::{Harness, column, kind};
use thalweg_formats::{DecodeSpec, FieldSpec, TimestampInput, TimestampUnit};
use thalweg_stream::ColumnType;

/// Decodes `value` as column `v` of a type, and shows what the column has.
fn read(field: FieldSpec, value: &str) -> String {
    let mut harness = Harness::new(&DecodeSpec::new(vec![field]));
    let row = harness.record(format!("{{\"v\":{value}}}").as_bytes());
    match row {
        Ok(row) => row[5..row.len() - 1].to_owned(),
        Err(error) => error.replace("schema ", "!"),
    }
}

/// Checks lines of `value => what the column has`.
fn check(name: &str, coerce: bool, cases: &str) {
    let mut checked = 0;
    for case in cases.lines().map(str::trim).filter(|c| !c.is_empty()) {
        let (value, expected) = case.split_once(" => ").expect(case);
        let mut field = column("v", kind(name));
        field.coerce = coerce;
        assert_eq!(
            read(field, value),
            expected,
            "{name}, coerce {coerce}: {value}"
        );
        checked += 1;
    }
    assert!(checked > 0);
}

#[test]
fn bool_and_integers_take_their_own_values_only() {
    check(
        "bool",
        false,
        r#"
        true => true
        false => false
        null => null
        1 => !wrong-type
        "true" => !wrong-type
    "#,
    );
    check(
        "int32",
        false,
        r#"
        0 => 0
        -7 => -7
        2147483647 => 2147483647
        2147483648 => !out-of-range
        -2147483648 => -2147483648
        1.0 => !wrong-type
        1e3 => !wrong-type
        -0 => 0
        -0.0 => !wrong-type
        true => !wrong-type
        [1] => !wrong-type
    "#,
    );
    check(
        "int64",
        false,
        r#"
        0 => 0
        9223372036854775807 => 9223372036854775807
        9223372036854775808 => !out-of-range
        -9223372036854775808 => -9223372036854775808
        -9223372036854775809 => !out-of-range
        99999999999999999999999 => !out-of-range
        1.0 => !wrong-type
        1e3 => !wrong-type
        -0 => 0
        -0.0 => !wrong-type
        "1" => !wrong-type
        {} => !wrong-type
        01 => decode not-json
        1e999 => decode number-range
    "#,
    );
}

#[test]
fn floats_and_decimals_take_numbers_only() {
    check(
        "float32",
        false,
        r#"
        1 => 1.0
        0.1 => 0.1
        16777217 => 16777216.0
        3.5e38 => !out-of-range
        1e-60 => 0.0
        "1" => !wrong-type
    "#,
    );
    check(
        "float64",
        false,
        r#"
        1 => 1.0
        -0 => -0.0
        21.37 => 21.37
        1e22 => 1e+22
        1.7976931348623157e308 => 1.7976931348623157e+308
        9007199254740993 => 9007199254740992.0
        true => !wrong-type
        1e309 => decode number-range
    "#,
    );
    check(
        "decimal(5,2)",
        false,
        r#"
        1 => 1.00
        -12.3 => -12.30
        999.99 => 999.99
        1000 => !out-of-range
        1.001 => !inexact
        1.10000 => 1.10
        1e2 => 100.00
        1e60 => !out-of-range
        "1" => !wrong-type
    "#,
    );
}

#[test]
fn strings_take_strings_only() {
    check(
        "string",
        false,
        r#"
        "" => ""
        "abc" => "abc"
        "twelve bytes" => "twelve bytes"
        "thirteen byte" => "thirteen byte"
        "a\"b\\c\u00e9\ud834\udd1e" => "a\"b\\cé𝄞"
        "a longer string with an \n escape" => "a longer string with an \n escape"
        "\ud834" => decode not-json
        1 => !wrong-type
    "#,
    );
    check(
        "binary",
        false,
        r#"
        "AAEC/w==" => "AAEC/w=="
        "a longer one" => !bad-format
        "YSBsb25nZXIgb25l" => "YSBsb25nZXIgb25l"
        "" => ""
        "AAEC_w==" => !bad-format
        "AAEC/w" => !bad-format
        7 => !wrong-type
    "#,
    );
    check(
        "date",
        false,
        r#"
        "2024-02-29" => "2024-02-29"
        "2023-02-29" => !bad-format
        "2024-02-29T00:00:00Z" => !bad-format
        19000 => !wrong-type
    "#,
    );
    check(
        "timestamp",
        false,
        r#"
        1767225600123 => "2026-01-01T00:00:00.123Z"
        -1 => "1969-12-31T23:59:59.999Z"
        "2026-01-01T01:00:00.5+01:00" => "2026-01-01T00:00:00.500Z"
        1767225600123.0 => !wrong-type
        "1767225600123" => !bad-format
        "2026-01-01" => !bad-format
        true => !wrong-type
    "#,
    );
}

#[test]
fn json_takes_anything_and_lists_take_lists() {
    check(
        "json",
        false,
        r#"
        {"a" : [1, 2.50]} => {"a" : [1, 2.50]}
        "{\"a\":1}" => "{\"a\":1}"
        1e3 => 1e3
        null => null
    "#,
    );
    assert_eq!(read(column("v", ColumnType::Json), "[\n1\r\n]"), "[ 1  ]");
    check(
        "list<int64>",
        false,
        r#"
        [] => []
        [ 1 , null , 3 ] => [1,null,3]
        [-0] => [0]
        [1.5] => !wrong-type
        1 => !wrong-type
        {} => !wrong-type
    "#,
    );
    check(
        "list<list<string>>",
        false,
        r#"
        [["a"],[],null,["a string beyond twelve bytes",null]] => [["a"],[],null,["a string beyond twelve bytes",null]]
        ["a"] => !wrong-type
    "#,
    );
}

#[test]
fn coercion_to_numbers_takes_what_loses_nothing() {
    check(
        "bool",
        true,
        r#"
        "true" => true
        "false" => false
        "TRUE" => !bad-format
        1 => !wrong-type
    "#,
    );
    check(
        "int32",
        true,
        r#"
        "12" => 12
        1e3 => 1000
        "1e10" => !out-of-range
    "#,
    );
    check(
        "int64",
        true,
        r#"
        1.0 => 1
        1e3 => 1000
        -0 => 0
        1.5 => !inexact
        "42" => 42
        " 42" => !bad-format
        "42x" => !bad-format
        "" => !bad-format
        9.2e18 => 9200000000000000000
        9.3e18 => !out-of-range
        9007199254740993.0 => 9007199254740993
        "\u0037" => 7
        true => !wrong-type
    "#,
    );
    check(
        "float64",
        true,
        r#"
        "21.5" => 21.5
        "NaN" => !bad-format
        "1e999" => !bad-format
    "#,
    );
    check("float32", true, r#""0.1" => 0.1"#);
    check(
        "decimal(5,2)",
        true,
        r#"
        "1.5" => 1.50
        1.005 => 1.01
        -1.005 => -1.01
        999.999 => !out-of-range
    "#,
    );
    check(
        "list<int64>",
        true,
        r#"
        ["1",2.0] => [1,2]
        [true] => !wrong-type
    "#,
    );
}

#[test]
fn coercion_to_text_and_times_takes_what_loses_nothing() {
    check(
        "string",
        true,
        r#"
        1.50 => "1.50"
        true => "true"
        "x" => "x"
        [1] => !wrong-type
        {} => !wrong-type
    "#,
    );
    check(
        "binary",
        true,
        r#"
        "AAEC_w" => "AAEC/w=="
        "AAEC/w" => "AAEC/w=="
        "*" => !bad-format
    "#,
    );
    check(
        "date",
        true,
        r#""2026-01-01T00:30:00+01:00" => "2025-12-31""#,
    );
    check(
        "timestamp",
        true,
        r#"
        "1767225600123" => "2026-01-01T00:00:00.123Z"
        1.767225600123e12 => "2026-01-01T00:00:00.123Z"
        "2026-01-01T00:00:00" => "2026-01-01T00:00:00.000Z"
        1.5 => !inexact
    "#,
    );
}

#[test]
fn timestamps_come_in_units_and_formats() {
    let read_as = |timestamp: TimestampInput, coerce: bool, value: &str| {
        let mut field = column("v", ColumnType::Timestamp);
        field.timestamp = timestamp;
        field.coerce = coerce;
        read(field, value)
    };
    use TimestampUnit::{Microseconds, Milliseconds, Nanoseconds, Seconds};
    let time = "\"2026-01-01T00:00:00.123Z\"";
    for (unit, value, expected) in [
        (Seconds, "1767225600", "\"2026-01-01T00:00:00.000Z\""),
        (Seconds, "1767225600.1239", time),
        (Seconds, "1.767225600123e9", time),
        (Milliseconds, "1767225600123.9", time),
        (Microseconds, "1767225600123999", time),
        (Nanoseconds, "1767225600123999999", time),
        (Nanoseconds, "-1", "\"1969-12-31T23:59:59.999Z\""),
        (Seconds, "9223372036854775807", "!out-of-range"),
        (Seconds, "\"1767225600\"", "!wrong-type"),
        (Seconds, "\"2026-01-01T00:00:00Z\"", "!wrong-type"),
    ] {
        assert_eq!(
            read_as(TimestampInput::Unit(unit), false, value),
            expected,
            "{unit:?} {value}"
        );
    }
    let seconds = TimestampInput::Unit(Seconds);
    assert_eq!(read_as(seconds, true, "\"1767225600.123\""), time);
    let format = TimestampInput::Format("%d/%m/%Y %H:%M".to_owned());
    assert_eq!(
        read_as(format.clone(), false, "\"01/01/2026 00:00\""),
        "\"2026-01-01T00:00:00.000Z\""
    );
    assert_eq!(
        read_as(format.clone(), false, "\"2026-01-01\""),
        "!bad-format"
    );
    assert_eq!(read_as(format, false, "1767225600123"), "!wrong-type");
    let digits = TimestampInput::Format("%Y%m%d".to_owned());
    assert_eq!(
        read_as(digits, true, "20260101"),
        "\"2026-01-01T00:00:00.000Z\""
    );
}
