//! Where values stand in a record: paths, repeated keys, unknown fields, required columns.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail and say why"
)]

mod harness;

use harness::{Harness, at, column, kind, lines};
use thalweg_formats::DecodeSpec;
use thalweg_stream::ColumnType;

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
