//! Every type, conversion, path and framing: what goes in, what comes out.

mod harness;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::UInt64Type;
use harness::{Harness, column, int64s, lines, records};
use thalweg_formats::{
    DecodeSpec, EventTimeSpec, FieldSpec, FormatError, JsonDecoderFactory, TimestampInput,
    TimestampUnit,
};
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::{Chunk, Column, ColumnType, DecoderFactory, Framing, Origin, SplitId};

fn kind(name: &str) -> ColumnType {
    name.parse().expect(name)
}

/// Decodes `value` as column `v` of a type, and shows what the column has.
fn read(field: FieldSpec, value: &str) -> String {
    let mut harness = Harness::new(&DecodeSpec::new(vec![field]));
    let row = harness.record(format!("{{\"v\":{value}}}").as_bytes());
    match row {
        Ok(row) => row[5..row.len() - 1].to_owned(),
        Err(error) => error.replace("schema ", "!"),
    }
}

fn check(name: &str, cases: &[(&str, &str)]) {
    for (value, expected) in cases {
        assert_eq!(
            read(column("v", kind(name)), value),
            *expected,
            "{name}: {value}"
        );
    }
}

fn check_coerced(name: &str, cases: &[(&str, &str)]) {
    for (value, expected) in cases {
        let mut field = column("v", kind(name));
        field.coerce = true;
        assert_eq!(read(field, value), *expected, "{name}, coerced: {value}");
    }
}

#[test]
fn types_take_their_own_values_only() {
    check(
        "bool",
        &[
            ("true", "true"),
            ("false", "false"),
            ("null", "null"),
            ("1", "!wrong-type"),
            ("\"true\"", "!wrong-type"),
        ],
    );
    check(
        "int32",
        &[
            ("0", "0"),
            ("-7", "-7"),
            ("2147483647", "2147483647"),
            ("2147483648", "!out-of-range"),
            ("-2147483648", "-2147483648"),
            ("1.0", "!wrong-type"),
            ("1e3", "!wrong-type"),
            ("-0", "!wrong-type"),
            ("true", "!wrong-type"),
            ("[1]", "!wrong-type"),
        ],
    );
    check(
        "int64",
        &[
            ("0", "0"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "!out-of-range"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-9223372036854775809", "!out-of-range"),
            ("99999999999999999999999", "!out-of-range"),
            ("1.0", "!wrong-type"),
            ("1e3", "!wrong-type"),
            ("-0", "!wrong-type"),
            ("\"1\"", "!wrong-type"),
            ("01", "decode not-json"),
            ("1e999", "decode number-range"),
            ("{}", "!wrong-type"),
        ],
    );
    check(
        "float32",
        &[
            ("1", "1.0"),
            ("0.1", "0.1"),
            ("16777217", "16777216.0"),
            ("3.5e38", "!out-of-range"),
            ("1e-60", "0.0"),
            ("\"1\"", "!wrong-type"),
        ],
    );
    check(
        "float64",
        &[
            ("1", "1.0"),
            ("-0", "-0.0"),
            ("21.37", "21.37"),
            ("1e22", "1e22"),
            ("1.7976931348623157e308", "1.7976931348623157e308"),
            ("9007199254740993", "9007199254740992.0"),
            ("true", "!wrong-type"),
            ("1e309", "decode number-range"),
        ],
    );
    check(
        "decimal(5,2)",
        &[
            ("1", "1.00"),
            ("-12.3", "-12.30"),
            ("999.99", "999.99"),
            ("1000", "!out-of-range"),
            ("1.001", "!inexact"),
            ("1.10000", "1.10"),
            ("1e2", "100.00"),
            ("1e60", "!out-of-range"),
            ("\"1\"", "!wrong-type"),
        ],
    );
    check(
        "string",
        &[
            ("\"\"", "\"\""),
            ("\"abc\"", "\"abc\""),
            ("\"twelve bytes\"", "\"twelve bytes\""),
            ("\"thirteen byte\"", "\"thirteen byte\""),
            (r#""a\"b\\c\u00e9\ud834\udd1e""#, "\"a\\\"b\\\\cé𝄞\""),
            (
                "\"a longer string with an \\n escape\"",
                "\"a longer string with an \\n escape\"",
            ),
            ("1", "!wrong-type"),
            ("\"\\ud834\"", "decode not-json"),
        ],
    );
    check(
        "binary",
        &[
            ("\"AAEC/w==\"", "\"AAEC/w==\""),
            ("\"\"", "\"\""),
            ("\"AAEC_w==\"", "!bad-format"),
            ("\"AAEC/w\"", "!bad-format"),
            ("7", "!wrong-type"),
        ],
    );
    check(
        "date",
        &[
            ("\"2024-02-29\"", "\"2024-02-29\""),
            ("\"2023-02-29\"", "!bad-format"),
            ("19000", "!wrong-type"),
            ("\"2024-02-29T00:00:00Z\"", "!bad-format"),
        ],
    );
    check(
        "timestamp",
        &[
            ("1767225600123", "\"2026-01-01T00:00:00.123Z\""),
            ("-1", "\"1969-12-31T23:59:59.999Z\""),
            (
                "\"2026-01-01T01:00:00.5+01:00\"",
                "\"2026-01-01T00:00:00.500Z\"",
            ),
            ("1767225600123.0", "!wrong-type"),
            ("\"1767225600123\"", "!bad-format"),
            ("\"2026-01-01\"", "!bad-format"),
            ("true", "!wrong-type"),
        ],
    );
    check(
        "json",
        &[
            ("{\"a\" : [1, 2.50]}", "{\"a\" : [1, 2.50]}"),
            ("\"{\\\"a\\\":1}\"", "\"{\\\"a\\\":1}\""),
            ("1e3", "1e3"),
            ("null", "null"),
            ("[\n1\r\n]", "[ 1  ]"),
        ],
    );
    check(
        "list<int64>",
        &[
            ("[]", "[]"),
            ("[ 1 , null , 3 ]", "[1,null,3]"),
            ("[1.5]", "!wrong-type"),
            ("1", "!wrong-type"),
            ("{}", "!wrong-type"),
        ],
    );
    check(
        "list<list<string>>",
        &[
            (
                "[[\"a\"],[],null,[\"a string beyond twelve bytes\",null]]",
                "[[\"a\"],[],null,[\"a string beyond twelve bytes\",null]]",
            ),
            ("[\"a\"]", "!wrong-type"),
        ],
    );
}

#[test]
fn coercion_takes_what_loses_nothing() {
    check_coerced(
        "bool",
        &[
            ("\"true\"", "true"),
            ("\"false\"", "false"),
            ("\"TRUE\"", "!bad-format"),
            ("1", "!wrong-type"),
        ],
    );
    check_coerced(
        "int32",
        &[
            ("\"12\"", "12"),
            ("1e3", "1000"),
            ("\"1e10\"", "!out-of-range"),
        ],
    );
    check_coerced(
        "int64",
        &[
            ("1.0", "1"),
            ("1e3", "1000"),
            ("-0", "0"),
            ("1.5", "!inexact"),
            ("\"42\"", "42"),
            ("\" 42\"", "!bad-format"),
            ("\"42x\"", "!bad-format"),
            ("\"\"", "!bad-format"),
            ("9.2e18", "9200000000000000000"),
            ("9.3e18", "!out-of-range"),
            ("9007199254740993.0", "9007199254740993"),
            ("true", "!wrong-type"),
            ("\"\\u0037\"", "7"),
        ],
    );
    check_coerced(
        "float64",
        &[
            ("\"21.5\"", "21.5"),
            ("\"NaN\"", "!bad-format"),
            ("\"1e999\"", "!bad-format"),
        ],
    );
    check_coerced("float32", &[("\"0.1\"", "0.1")]);
    check_coerced(
        "decimal(5,2)",
        &[
            ("\"1.5\"", "1.50"),
            ("1.005", "1.01"),
            ("-1.005", "-1.01"),
            ("999.999", "!out-of-range"),
        ],
    );
    check_coerced(
        "string",
        &[
            ("1.50", "\"1.50\""),
            ("true", "\"true\""),
            ("\"x\"", "\"x\""),
            ("[1]", "!wrong-type"),
            ("{}", "!wrong-type"),
        ],
    );
    check_coerced(
        "binary",
        &[
            ("\"AAEC_w\"", "\"AAEC/w==\""),
            ("\"AAEC/w\"", "\"AAEC/w==\""),
            ("\"*\"", "!bad-format"),
        ],
    );
    check_coerced(
        "date",
        &[("\"2026-01-01T00:30:00+01:00\"", "\"2025-12-31\"")],
    );
    check_coerced(
        "timestamp",
        &[
            ("\"1767225600123\"", "\"2026-01-01T00:00:00.123Z\""),
            ("1.767225600123e12", "\"2026-01-01T00:00:00.123Z\""),
            ("\"2026-01-01T00:00:00\"", "\"2026-01-01T00:00:00.000Z\""),
            ("1.5", "!inexact"),
        ],
    );
    check_coerced(
        "list<int64>",
        &[("[\"1\",2.0]", "[1,2]"), ("[true]", "!wrong-type")],
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

fn at(name: &str, column_type: &str, path: &[&str]) -> FieldSpec {
    FieldSpec {
        path: path.iter().map(|s| (*s).to_owned()).collect(),
        ..column(name, kind(column_type))
    }
}

#[test]
fn paths_lead_into_objects_and_arrays() {
    let mut harness = Harness::new(&DecodeSpec::new(vec![
        at("segment", "string", &["position", "segment"]),
        at("position", "json", &["position"]),
        at("first", "int64", &["readings", "0", "value"]),
        at("second", "int64", &["readings", "1"]),
        at("slashed", "int64", &["a/b"]),
        at("again", "string", &["position", "segment"]),
        at("deep", "bool", &["x", "y", "z"]),
    ]));
    for (record, expected) in [
        (
            r#"{"readings":[{"value":1},2,3],"a/b":4,"position":{"lane":[],"segment":"A"},"x":{"y":{"z":true}}}"#,
            r#"{"segment":"A","position":{"lane":[],"segment":"A"},"first":1,"second":2,"slashed":4,"again":"A","deep":true}"#,
        ),
        (
            // As an object, `readings` has keys that look like indexes.
            r#"{"readings":{"0":{"value":5},"1":6},"position":null,"x":{"y":[{"z":true}]}}"#,
            r#"{"segment":null,"position":null,"first":5,"second":6,"slashed":null,"again":null,"deep":null}"#,
        ),
        (
            // The last of several equal keys holds, at every level, whatever the others had.
            r#"{"position":{"segment":7,"segment":"B"},"readings":[1,2],"readings":3,"x":{"y":{"z":1}},"x":{"y":{}},"position":{"segment":"C","segment":"D"}}"#,
            r#"{"segment":"D","position":{"segment":"C","segment":"D"},"first":null,"second":null,"slashed":null,"again":"D","deep":null}"#,
        ),
        (
            r#"{"p\u006fsition":{"s\u0065gment":"E"},"readings":[],"x":"y"}"#,
            r#"{"segment":"E","position":{"s\u0065gment":"E"},"first":null,"second":null,"slashed":null,"again":"E","deep":null}"#,
        ),
    ] {
        // Twice: the second time keys are expected.
        for _ in 0..2 {
            assert_eq!(
                harness.record(record.as_bytes()).as_deref(),
                Ok(expected),
                "{record}"
            );
        }
    }
    assert_eq!(
        harness.record(br#"{"x":{"y":{"z":1}}}"#),
        Err("schema wrong-type".to_owned())
    );
    assert_eq!(
        harness.record(br#"{"x":{"y":{"z":true}}"#),
        Err("decode not-json".to_owned())
    );
    let mut whole = Harness::new(&DecodeSpec::new(vec![
        at("all", "json", &[]),
        at("a", "int64", &["a"]),
    ]));
    assert_eq!(
        whole.record(br#" {"a":1} "#).as_deref(),
        Ok(r#"{"all":{"a":1},"a":1}"#)
    );
}

#[test]
fn nested_paths_stop_at_the_same_depth_as_everything_else() {
    let mut harness = Harness::new(&DecodeSpec::new(vec![at("v", "json", &["a", "a", "a"])]));
    for depth in 120..135 {
        let record = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let expected = serde_json::from_str::<serde_json::Value>(&record).is_ok();
        assert_eq!(
            harness.record(record.as_bytes()).is_ok(),
            expected,
            "{depth}"
        );
    }
    let mut all = Harness::new(&DecodeSpec::new(vec![at("v", "int64", &["a"; 100])]));
    let record = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    assert_eq!(all.record(record.as_bytes()).as_deref(), Ok("{\"v\":1}"));
}

#[test]
fn a_repeated_key_overwrites_also_errors_and_lists() {
    let mut harness = Harness::new(&DecodeSpec::new(vec![
        column("a", ColumnType::Int64),
        column("s", ColumnType::String),
        column("l", kind("list<string>")),
    ]));
    for (record, expected) in [
        (r#"{"a":"x","a":1}"#, Ok(r#"{"a":1,"s":null,"l":null}"#)),
        (r#"{"a":1,"a":"x"}"#, Err("schema wrong-type")),
        (r#"{"a":1,"a":null}"#, Ok(r#"{"a":null,"s":null,"l":null}"#)),
        (
            r#"{"s":"a long string, on the heap","s":"another string on the heap","l":["x",7],"l":["y"]}"#,
            Ok(r#"{"a":null,"s":"another string on the heap","l":["y"]}"#),
        ),
        (
            r#"{"l":["x"],"l":null,"s":"a long string, on the heap","s":"z"}"#,
            Ok(r#"{"a":null,"s":"z","l":null}"#),
        ),
    ] {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(harness.record(record.as_bytes()), expected, "{record}");
    }
    // Records that are given up leave nothing behind in the rows around them.
    let text = [
        r#"{"a":1,"l":["one","two"],"s":"the first row's long string"}"#,
        r#"{"a":2,"l":["three","four"],"s":"the second row's long string""#,
        r#"{"a":3,"l":["five",6],"s":"the third row's long string"}"#,
        r#"{"a":4}"#,
        r#"{"a":5,"l":["seven"],"s":"the fifth row's long string"}"#,
    ]
    .join("\n");
    let (rows, dead) = harness.decode(&lines(text));
    assert_eq!(
        rows,
        [
            r#"{"a":1,"s":"the first row's long string","l":["one","two"]}"#,
            r#"{"a":4,"s":null,"l":null}"#,
            r#"{"a":5,"s":"the fifth row's long string","l":["seven"]}"#,
        ]
    );
    assert_eq!(
        dead,
        [
            "decode not-json 3@60: the record is not a JSON object",
            "schema wrong-type 3@123: column \"l\" is not list<string>",
        ]
    );
}

#[test]
fn unknown_fields_are_collected() {
    let mut spec = DecodeSpec::new(vec![
        column("a", ColumnType::Int64),
        at("b", "int64", &["n", "b"]),
    ]);
    spec.extra = Some("rest".to_owned());
    let mut harness = Harness::new(&spec);
    for (record, expected) in [
        (r#"{"a":1}"#, r#"{"a":1,"b":null,"rest":null}"#),
        (
            r#"{"x":1,"a":2,"y" : {"z":[null]},"n":{"b":3,"c":4}}"#,
            r#"{"a":2,"b":3,"rest":{"x":1,"y":{"z":[null]}}}"#,
        ),
        (
            r#"{"x":1,"\u0078":2,"é":"\u00e9","x":3}"#,
            r#"{"a":null,"b":null,"rest":{"é":"\u00e9","x":3}}"#,
        ),
        (r#"{"":null}"#, r#"{"a":null,"b":null,"rest":{"":null}}"#),
    ] {
        for _ in 0..2 {
            assert_eq!(
                harness.record(record.as_bytes()).as_deref(),
                Ok(expected),
                "{record}"
            );
        }
    }
    // A declared json column of that name becomes it, at its place.
    let mut spec = DecodeSpec::new(vec![
        column("rest", ColumnType::Json),
        column("a", ColumnType::Int64),
    ]);
    spec.extra = Some("rest".to_owned());
    let mut harness = Harness::new(&spec);
    assert_eq!(
        harness.record(br#"{"rest":1,"a":2,"c":3}"#).as_deref(),
        Ok(r#"{"rest":{"rest":1,"c":3},"a":2}"#)
    );
}

#[test]
fn required_columns_cannot_be_null() {
    let mut field = column("v", ColumnType::Int64);
    field.column.required = true;
    let mut harness = Harness::new(&DecodeSpec::new(vec![field]));
    let (rows, dead) = harness.decode(&lines("{\"v\":1}\n{}\n{\"v\":null}\n{\"v\":2,\"v\":null}"));
    assert_eq!(rows, ["{\"v\":1}"]);
    assert_eq!(dead.len(), 3);
    assert_eq!(
        dead[0],
        "schema required 3@8: column \"v\" is required but null"
    );
}

#[test]
fn bytes_that_are_no_json_object_are_of_class_decode() {
    let mut harness = Harness::new(&DecodeSpec::new(vec![column("v", ColumnType::Int64)]));
    for (record, code) in [
        (&b"{\"v\":1"[..], "not-json"),
        (b"", "not-json"),
        (b"  ", "not-json"),
        (b"[1]", "not-an-object"),
        (b"12", "not-an-object"),
        (b"{\"v\":1}{", "not-json"),
        (b"{\"v\":1} x", "not-json"),
        (b"{\"x\":\"\xff\"}", "not-utf8"),
        (b"{\"\xff\":1}", "not-utf8"),
        (b"{\"x\":1e400}", "number-range"),
        (b"{\"x\":[[[[1e400]]]]}", "number-range"),
        (b"{\"x\":\"\\ud800\"}", "not-json"),
        (b"{\"x\":\"\n\"}", "not-json"),
        (b"\xef\xbb\xbf{\"v\":1}", "not-json"),
    ] {
        let shown = String::from_utf8_lossy(record);
        assert_eq!(
            harness.record(record),
            Err(format!("decode {code}")),
            "{shown}"
        );
    }
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
    assert_eq!(
        harness.record(deep.as_bytes()),
        Err("decode too-deep".to_owned())
    );
}

#[test]
fn lines_are_cut_and_have_their_offsets() {
    let mut harness = Harness::new(&DecodeSpec::new(vec![column("v", ColumnType::Int64)]));
    let text = b"\xef\xbb\xbf{\"v\":1}\r\n\n\r\n  {\"v\":2}  \n{\"v\":3\n}\n \n{\"v\":4}";
    for long in [false, true] {
        // With and without enough behind it to be read in place.
        let tail = if long {
            format!("\n{}", " ".repeat(300))
        } else {
            String::new()
        };
        let chunk = lines([&text[..], tail.as_bytes()].concat());
        let out = harness.decoded(&chunk);
        let origins: Vec<u64> = (out.batches[0].columns().last().expect("origin"))
            .as_primitive::<UInt64Type>()
            .values()
            .iter()
            .map(|o| Origin(*o).offset())
            .collect();
        assert_eq!(origins, [3, 15, 38]);
        let dead: Vec<(u64, Vec<u8>)> = (out.dead.iter())
            .map(|d| match &d.remains {
                Remains::Bytes(bytes) => (d.origin.offset(), bytes.to_vec()),
                other => panic!("{other:?}"),
            })
            .take(3)
            .collect();
        assert_eq!(
            dead,
            [
                (27, b"{\"v\":3".to_vec()),
                (34, b"}".to_vec()),
                (36, b" ".to_vec())
            ]
        );
        assert_eq!(out.dead[0].origin.split(), Some(SplitId(3)));
    }
    // Only the very first bytes of a split may be a byte order mark.
    let later = Chunk {
        start: 4096,
        ..lines(b"\xef\xbb\xbf{\"v\":1}")
    };
    assert_eq!(harness.only(&later), Err("decode not-json".to_owned()));
}

#[test]
fn records_may_hold_line_feeds_and_touch_each_other() {
    let mut harness = Harness::new(&DecodeSpec::new(vec![column("v", ColumnType::Int64)]));
    let filler = vec![b' '; 200];
    let chunk = records(&[
        b"{\"v\"\n:\n1}\n",
        b"{\"v\":2",
        b"}",
        b"   ",
        b"{\"v\":3}",
        b"{\"v\":4}",
        b"{\"x\":\"",
        b"\",\"v\":5}",
        &filler,
    ]);
    let out = harness.decoded(&chunk);
    assert_eq!(out.batches[0].num_rows(), 3);
    let dead: Vec<u64> = out.dead.iter().map(|d| d.origin.offset()).collect();
    assert_eq!(dead, [101, 102, 103, 106, 107, 108]);
}

#[test]
fn batches_are_cut_at_their_greatest_size() {
    let mut spec = DecodeSpec::new(vec![column("v", ColumnType::Int64)]);
    let text: String = (0..20_000).map(|i| format!("{{\"v\":{i}}}\n")).collect();
    for (rows_max, sizes) in [
        (8192, vec![8192, 8192, 3616]),
        (20_000 / 4, vec![5_000; 4]),
        (1, vec![1; 20_000]),
    ] {
        spec.batch_rows_max = rows_max;
        let out = Harness::new(&spec).decoded(&lines(&text));
        let got: Vec<usize> = out.batches.iter().map(|b| b.num_rows()).collect();
        assert_eq!(got, sizes);
    }
}

#[test]
fn metadata_follows_its_records() {
    let mut spec = DecodeSpec::new(vec![column("v", ColumnType::Int64)]);
    spec.metadata = vec![
        Column::new("offset", ColumnType::Int64),
        Column::new("topic", ColumnType::String),
        Column::new("key", ColumnType::Int64),
    ];
    let topic: ArrayRef = Arc::new(StringViewArray::from(vec!["telemetry"]));
    let chunk = Chunk {
        metadata: vec![None, Some(topic.clone()), Some(int64s([10, 20, 30]))],
        ..lines("{\"v\":1}\n\n{\"v\":x}\n{\"v\":3}\n")
    };
    let (rows, dead) = Harness::new(&spec).decode(&chunk);
    assert_eq!(
        rows,
        [
            r#"{"v":1,"offset":0,"topic":"telemetry","key":10}"#,
            r#"{"v":3,"offset":17,"topic":"telemetry","key":30}"#,
        ]
    );
    assert_eq!(dead.len(), 1);
    spec.project = Some(vec!["key".to_owned()]);
    let factory = JsonDecoderFactory::new(&spec).expect("valid");
    assert_eq!(factory.schema().columns.len(), 1);
    let (rows, _) = Harness::new(&spec).decode(&chunk);
    assert_eq!(rows, [r#"{"key":10}"#, r#"{"key":30}"#]);
    // A source that breaks its word is our bug, not the record's.
    let short = Chunk {
        metadata: vec![None, Some(topic), Some(int64s([1, 2]))],
        ..chunk
    };
    let mut decoder = factory.build().expect("valid");
    assert!(decoder.decode(&short, &mut Default::default()).is_err());
}

#[test]
fn event_time_is_checked_against_the_clock() {
    let mut spec = DecodeSpec::new(vec![
        column("ts", ColumnType::Timestamp),
        column("v", ColumnType::Int64),
    ]);
    spec.event_time = Some(EventTimeSpec {
        column: "ts".to_owned(),
        max_ahead_ms: Some(60_000),
    });
    spec.project = Some(vec!["v".to_owned()]);
    let chunk = Chunk {
        read_at_ms: 1_000_000,
        ..lines(
            "{\"ts\":1060000,\"v\":1}\n{\"ts\":1060001,\"v\":2}\n{\"v\":3}\n{\"ts\":5,\"v\":4}\n{\"ts\":9,\"v\":\"x\"}",
        )
    };
    let mut harness = Harness::new(&spec);
    let out = harness.decoded(&chunk);
    assert_eq!(out.newest_event_time, Some(1_060_000));
    assert_eq!(
        out.dead.iter().map(|d| d.event_time).collect::<Vec<_>>(),
        [Some(1_060_001), None, Some(9)]
    );
    let (rows, dead) = harness.decode(&chunk);
    assert_eq!(
        rows,
        [
            r#"{"v":1,"event_time":"1970-01-01T00:17:40.000Z"}"#,
            r#"{"v":4,"event_time":"1970-01-01T00:00:00.005Z"}"#,
        ]
    );
    assert_eq!(
        dead,
        [
            "time too-far-ahead 3@21: event time column \"ts\" is 60001 ms ahead of the clock, 60000 are allowed",
            "time no-event-time 3@42: event time column \"ts\" is null",
            "schema wrong-type 3@65: column \"v\" is not int64",
        ]
    );
}

#[test]
fn event_time_may_be_metadata() {
    let mut spec = DecodeSpec::new(vec![column("v", ColumnType::Int64)]);
    spec.metadata = vec![Column::new("received_at", ColumnType::Timestamp)];
    spec.event_time = Some(EventTimeSpec {
        column: "received_at".to_owned(),
        max_ahead_ms: None,
    });
    let times = TimestampMillisecondArray::from(vec![Some(5), None, Some(7)]).with_timezone("UTC");
    let chunk = Chunk {
        metadata: vec![Some(Arc::new(times))],
        ..lines("{\"v\":1}\n{\"v\":2}\n{\"v\":3}")
    };
    let (rows, dead) = Harness::new(&spec).decode(&chunk);
    assert_eq!(rows.len(), 2);
    assert!(
        rows[1].contains("00.007Z\",\"event_time\":\"1970-01-01T00:00:00.007Z"),
        "{rows:?}"
    );
    assert_eq!(
        dead,
        ["time no-event-time 3@8: event time column \"received_at\" is null"]
    );
}

#[test]
fn a_chunk_cut_anywhere_gives_the_same_rows() {
    let mut harness = Harness::new(&DecodeSpec::new(vec![column("v", ColumnType::String)]));
    let records: Vec<String> = (0..40)
        .map(|i| format!("{{\"v\":\"{}\",\"w\":[{i},{{}}]}}", "x".repeat(i)))
        .collect();
    let text = records.join("\n");
    for end in 0..=text.len() {
        let (rows, dead) = harness.decode(&lines(&text[..end]));
        let complete = text[..end].lines().filter(|l| l.ends_with("}]}")).count();
        assert_eq!(rows.len(), complete, "{end}");
        assert!(dead.len() <= 1);
    }
}

#[test]
fn wrong_descriptions_are_refused() {
    let base = || {
        DecodeSpec::new(vec![
            column("a", ColumnType::Int64),
            column("t", ColumnType::Timestamp),
        ])
    };
    let refused = |spec: DecodeSpec| {
        JsonDecoderFactory::new(&spec)
            .expect_err("wrong")
            .to_string()
    };
    let mut spec = base();
    spec.fields.push(column("a", ColumnType::Bool));
    assert_eq!(refused(spec), "column \"a\" is declared twice");
    let mut spec = base();
    spec.metadata
        .push(Column::new("event_time", ColumnType::Timestamp));
    assert_eq!(refused(spec), "column name \"event_time\" is reserved");
    let mut spec = base();
    spec.project = Some(vec!["b".to_owned()]);
    assert_eq!(
        refused(spec),
        "the projection names column \"b\", which does not exist"
    );
    let mut spec = base();
    spec.event_time = Some(EventTimeSpec {
        column: "a".to_owned(),
        max_ahead_ms: None,
    });
    assert_eq!(
        refused(spec),
        "event time column \"a\" is of type int64, not timestamp"
    );
    let mut spec = base();
    spec.event_time = Some(EventTimeSpec {
        column: "x".to_owned(),
        max_ahead_ms: None,
    });
    assert_eq!(
        refused(spec),
        "the event time names column \"x\", which does not exist"
    );
    let mut spec = base();
    spec.extra = Some("a".to_owned());
    assert_eq!(
        refused(spec),
        "column \"a\" collects unknown fields and must be of type json, not int64"
    );
    let mut spec = base();
    spec.fields[1].timestamp = TimestampInput::Format("%Q".to_owned());
    assert!(refused(spec).contains("unknown directive %Q"));
    let mut spec = base();
    spec.fields[0].timestamp = TimestampInput::Unit(TimestampUnit::Seconds);
    assert_eq!(
        refused(spec),
        FormatError::NoTimestamp("a".into()).to_string()
    );
    let mut spec = base();
    spec.batch_rows_max = 8193;
    assert_eq!(
        refused(spec),
        "a batch cannot have 8193 rows: 1 to 8192 are possible"
    );
    let broken = Chunk {
        framing: Framing::Records {
            ranges: vec![(0, 9)],
            offsets: vec![0],
        },
        ..lines("{}")
    };
    let mut decoder = JsonDecoderFactory::new(&base())
        .and_then(|f| Ok(f.build()))
        .expect("valid")
        .expect("valid");
    assert!(decoder.decode(&broken, &mut Default::default()).is_err());
}
