//! Every type as JSON text, and that it reads back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringViewArray,
    TimestampMillisecondArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::Int64Type;
use thalweg_stream::dead_letter::RowRenderer;
use thalweg_stream::schema::StreamKind;
use thalweg_stream::{Column, ColumnType, Origin, SplitId, StreamSchema};

use super::{JsonLines, Nulls, RowJson, SystemColumn, Timestamps, WriteOptions};

/// A stream of one column and a batch of it.
fn stream(column_type: &str, values: ArrayRef) -> (StreamSchema, RecordBatch) {
    let column_type: ColumnType = column_type.parse().expect(column_type);
    let schema = StreamSchema::append(vec![Column::new("v", column_type)], false);
    let origins: ArrayRef = Arc::new(UInt64Array::from(vec![0; values.len()]));
    let batch = RecordBatch::try_new(schema.arrow(), vec![values, origins]).expect("fits");
    (schema, batch)
}

fn written(column_type: &str, values: impl arrow::array::Array + 'static) -> Vec<String> {
    let (schema, batch) = stream(column_type, Arc::new(values));
    let writer = JsonLines::new(&schema, WriteOptions::default()).expect("valid");
    let mut out = Vec::new();
    writer.write(&batch, &mut out).expect("fits");
    let text = String::from_utf8(out).expect("UTF-8");
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect(line);
    }
    let value = |line: &str| line[5..line.len() - 1].to_owned();
    text.lines().map(value).collect()
}

#[test]
fn timestamps_that_repeat_and_change_are_each_their_own() {
    let (some, far) = (1_767_225_600_123, i64::MAX);
    let times = [some, some, 0, 0, far, far, some, -1, -1];
    let array = TimestampMillisecondArray::from(times.to_vec()).with_timezone("UTC");
    let alone = |ms: i64| {
        let array = TimestampMillisecondArray::from(vec![ms]).with_timezone("UTC");
        written("timestamp", array).remove(0)
    };
    assert_eq!(written("timestamp", array), times.map(alone));
    assert_eq!(alone(some), "\"2026-01-01T00:00:00.123Z\"");
}

#[test]
fn every_type_is_written() {
    assert_eq!(
        written("bool", BooleanArray::from(vec![Some(true), None])),
        ["true", "null"]
    );
    assert_eq!(
        written("int32", Int32Array::from(vec![i32::MIN])),
        ["-2147483648"]
    );
    assert_eq!(
        written("int64", Int64Array::from(vec![i64::MIN])),
        ["-9223372036854775808"]
    );
    assert_eq!(
        written(
            "float64",
            Float64Array::from(vec![0.1, 1.0, 1e300, f64::NAN, f64::INFINITY, -0.0])
        ),
        ["0.1", "1.0", "1e+300", "null", "null", "-0.0"]
    );
    assert_eq!(
        written("float32", Float32Array::from(vec![0.1, 16777216.0])),
        ["0.1", "16777216.0"]
    );
    let decimals = Decimal128Array::from(vec![12345, -5]);
    let decimals = decimals.with_precision_and_scale(10, 2).expect("valid");
    assert_eq!(written("decimal(10,2)", decimals), ["123.45", "-0.05"]);
    assert_eq!(
        written(
            "string",
            StringViewArray::from(vec![
                "a\"\\\n\u{1}é/",
                "sixteen bytes..\u{7f}\t twice and more"
            ])
        ),
        [
            r#""a\"\\\n\u0001é/""#,
            "\"sixteen bytes..\u{7f}\\t twice and more\""
        ]
    );
    assert_eq!(
        written("binary", BinaryViewArray::from(vec![&[0u8, 255][..]])),
        ["\"AP8=\""]
    );
    assert_eq!(
        written("date", Date32Array::from(vec![-1])),
        ["\"1969-12-31\""]
    );
    let times = TimestampMillisecondArray::from(vec![1_767_225_600_123]).with_timezone("UTC");
    assert_eq!(
        written("timestamp", times),
        ["\"2026-01-01T00:00:00.123Z\""]
    );
    let lists = vec![Some(vec![Some(1), None]), None, Some(vec![])];
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
    assert_eq!(written("list<int64>", lists), ["[1,null]", "null", "[]"]);
}

#[test]
fn json_columns_are_embedded_and_never_break_the_line() {
    let values = [
        "{\"a\": [1.50]}",
        "[\n1,\r\n2]",
        "not json",
        "{\"a\":1}}",
        "\"text\"",
    ];
    assert_eq!(
        written("json", StringViewArray::from(values.to_vec())),
        [
            "{\"a\": [1.50]}",
            "[ 1,  2]",
            "\"not json\"",
            "\"{\\\"a\\\":1}}\"",
            "\"text\""
        ]
    );
}

#[test]
fn strings_of_all_lengths_and_characters_read_back() {
    let mut values = Vec::new();
    for code in (0..0x300).chain(0xd700..0xe100).chain(0x1_0000..0x1_0010) {
        let Some(character) = char::from_u32(code) else {
            continue;
        };
        for before in [0, 1, 7, 15, 16, 17, 40] {
            values.push(format!(
                "{}{character}{}",
                "x".repeat(before),
                "y".repeat(code as usize % 20)
            ));
        }
    }
    let lines = written("string", StringViewArray::from_iter_values(&values));
    for (line, value) in lines.iter().zip(&values) {
        let read: String = serde_json::from_str(line).expect(line);
        assert_eq!(read, *value);
        assert_eq!(*line, serde_json::to_string(value).expect("written"));
    }
}

#[test]
fn keys_of_all_lengths_are_written() {
    for len in 1..80 {
        let (first, second) = ("a".repeat(len), "b".repeat(80 - len));
        let columns = [&first, &second].map(|name| Column::new(&**name, ColumnType::Int64));
        let schema = StreamSchema::append(columns.to_vec(), false);
        let values = || Arc::new(Int64Array::from(vec![7])) as ArrayRef;
        let origins = Arc::new(UInt64Array::from(vec![0]));
        let arrays = vec![values(), values(), origins];
        let batch = RecordBatch::try_new(schema.arrow(), arrays).unwrap();
        let mut line = Vec::new();
        let writer = JsonLines::new(&schema, WriteOptions::default()).unwrap();
        writer.write(&batch, &mut line).unwrap();
        let expected = format!("{{\"{first}\":7,\"{second}\":7}}\n");
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }
}

#[test]
fn floats_read_back_bit_by_bit() {
    let mut values = vec![
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
        0.3,
        1e21,
        1e22,
        123_456_789.125,
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let value = f64::from_bits(state);
        if value.is_finite() {
            values.push(value);
        }
    }
    for (line, value) in written("float64", Float64Array::from(values.clone()))
        .iter()
        .zip(values)
    {
        let read: f64 = serde_json::from_str(line).expect(line);
        assert_eq!(read.to_bits(), value.to_bits(), "{line}");
    }
}

/// Two columns of a timed stream of changes.
fn changes() -> (StreamSchema, RecordBatch) {
    let schema = StreamSchema {
        columns: vec![
            Column::new("key \"1\"", ColumnType::String),
            Column::new("at", ColumnType::Timestamp),
        ],
        timed: true,
        kind: StreamKind::Changes { key: vec![0] },
    };
    let times = |values: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC"))
    };
    let origin = Origin::new(SplitId(2), 77).expect("in range");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec![Some("a"), None, Some("c")])),
        times(vec![Some(1), None, None]),
        times(vec![Some(5), Some(6), Some(7)]),
        Arc::new(UInt8Array::from(vec![0, 1, 2])),
        Arc::new(UInt64Array::from(vec![
            origin.0,
            origin.0,
            Origin::derived(10).0,
        ])),
    ];
    let batch = RecordBatch::try_new(schema.arrow(), columns).expect("fits");
    (schema, batch)
}

#[test]
fn options_choose_nulls_times_and_system_columns() {
    let (schema, batch) = changes();
    let write = |options| {
        let mut out = Vec::new();
        let writer = JsonLines::new(&schema, options).expect("valid");
        writer.write(&batch, &mut out).expect("fits");
        String::from_utf8(out).expect("UTF-8")
    };
    assert_eq!(
        write(WriteOptions::default()),
        concat!(
            "{\"key \\\"1\\\"\":\"a\",\"at\":\"1970-01-01T00:00:00.001Z\"}\n",
            "{\"key \\\"1\\\"\":null,\"at\":null}\n",
            "{\"key \\\"1\\\"\":\"c\",\"at\":null}\n",
        )
    );
    assert_eq!(
        write(WriteOptions {
            timestamps: Timestamps::UnixMs,
            nulls: Nulls::Omit,
            include: vec![
                SystemColumn::EventTime,
                SystemColumn::Change,
                SystemColumn::Origin
            ],
        }),
        concat!(
            "{\"key \\\"1\\\"\":\"a\",\"at\":1,\"event_time\":5,\"_change\":\"insert\",\"_origin\":\"2@77\"}\n",
            "{\"event_time\":6,\"_change\":\"update\",\"_origin\":\"2@77\"}\n",
            "{\"key \\\"1\\\"\":\"c\",\"event_time\":7,\"_change\":\"delete\",\"_origin\":\"derived@a\"}\n",
        )
    );
    let omit = WriteOptions {
        nulls: Nulls::Omit,
        ..WriteOptions::default()
    };
    assert!(write(omit).contains("\n{}\n"));
}

#[test]
fn what_does_not_fit_is_refused_or_rendered_by_its_own_schema() {
    let (schema, batch) = changes();
    let untimed = StreamSchema::append(schema.columns.clone(), false);
    let include = WriteOptions {
        include: vec![SystemColumn::EventTime],
        ..WriteOptions::default()
    };
    assert!(JsonLines::new(&untimed, include).is_err());
    let other = StreamSchema::append(vec![Column::new("n", ColumnType::Int64)], false);
    let writer = JsonLines::new(&other, WriteOptions::default()).expect("valid");
    let mut out = Vec::new();
    assert!(writer.write(&batch, &mut out).is_err());
    assert!(out.is_empty());
    let by_itself = "{\"key \\\"1\\\"\":\"a\",\"at\":\"1970-01-01T00:00:00.001Z\"}";
    assert_eq!(writer.render(&batch, 0), by_itself);
    assert_eq!(RowJson.render(&batch, 0), by_itself);
    let fitting = JsonLines::new(&schema, WriteOptions::default()).expect("valid");
    assert_eq!(fitting.render(&batch, 0), by_itself);
    // A type that no stream has is still shown.
    let odd: ArrayRef = Arc::new(UInt64Array::from(vec![7]));
    let odd = RecordBatch::try_from_iter([("n", odd)]).expect("fits");
    assert_eq!(RowJson.render(&odd, 0), "{\"n\":\"7\"}");
    assert_eq!(RowJson.render(&odd, 9), "{\"n\":null}");
}
