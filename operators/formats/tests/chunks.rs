//! Framing, batches, metadata, event time, and descriptions that are refused.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail and say why"
)]

mod harness;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::UInt64Type;
use harness::{Harness, column, int64s, lines, records};
use thalweg_formats::{
    DecodeSpec, EventTimeSpec, FormatError, JsonDecoderFactory, TimestampInput, TimestampUnit,
};
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::{Chunk, Column, ColumnType, DecoderFactory, Framing, Origin, SplitId};

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
        .map(|f| f.build())
        .expect("valid")
        .expect("valid");
    assert!(decoder.decode(&broken, &mut Default::default()).is_err());
}
