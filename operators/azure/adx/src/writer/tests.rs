//! Tests of the writer.

use std::io::Read;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray, UInt8Array,
    UInt64Array,
};
use flate2::read::GzDecoder;
use thalweg_stream::schema::{DELETE, UPDATE};
use thalweg_stream::sink::{Encoded, EncodedObject};
use thalweg_stream::{
    Column, ColumnType, DeadClass, Epoch, Origin, SinkWriter, StreamKind, StreamSchema,
};

use super::AdxWriter;
use crate::gzip::{HEADER, Piece, trailer};

fn schema() -> StreamSchema {
    let columns = [("n", ColumnType::Int64), ("text", ColumnType::String)];
    StreamSchema::append(columns.map(|(n, t)| Column::new(n, t)).into(), true)
}

fn batch(schema: &StreamSchema, rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let numbers = || 0..rows.len() as u64;
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(n, _)| Some(*n)).collect::<Int64Array>()),
        Arc::new(
            rows.iter()
                .map(|(_, text)| *text)
                .collect::<StringViewArray>(),
        ),
        Arc::new(
            numbers()
                .map(|at| Some(1000 * at as i64))
                .collect::<TimestampMillisecondArray>()
                .with_timezone("UTC"),
        ),
    ];
    if schema.change_at().is_some() {
        let kinds = numbers().map(|at| Some(if at == 0 { UPDATE } else { DELETE }));
        columns.push(Arc::new(kinds.collect::<UInt8Array>()));
    }
    columns.push(Arc::new(numbers().map(Some).collect::<UInt64Array>()));
    RecordBatch::try_new(schema.arrow(), columns).expect("a batch of the schema")
}

/// What a blob of these objects holds.
fn text(objects: &[EncodedObject]) -> String {
    let notes = objects.iter().map(|object| {
        serde_json::from_value::<Piece>(object.note.clone()).expect("a note of ours")
    });
    let mut file = HEADER.to_vec();
    objects
        .iter()
        .for_each(|object| file.extend_from_slice(&object.bytes));
    file.extend_from_slice(&trailer(notes));
    let mut text = String::new();
    GzDecoder::new(&file[..])
        .read_to_string(&mut text)
        .expect("valid gzip of text");
    text
}

#[test]
fn rows_become_lines_that_end_with_the_epoch() {
    let schema = schema();
    let mut writer = AdxWriter::new(schema.clone()).expect("a writer");
    let mut out = Encoded::default();
    writer
        .write(&batch(&schema, &[(1, Some("a")), (2, None)]), &mut out)
        .expect("written");
    assert!(out.objects.is_empty() && writer.buffered_bytes() > 0);
    writer.seal(Epoch(1), &mut out).expect("sealed");
    writer
        .seal(Epoch(2), &mut out)
        .expect("nothing is left for the next");
    assert_eq!(writer.buffered_bytes(), 0);
    let rows: Vec<u64> = out.objects.iter().map(|object| object.rows).collect();
    assert_eq!(rows, [2]);
    assert_eq!(
        text(&out.objects),
        "{\"n\":1,\"text\":\"a\",\"event_time\":\"1970-01-01T00:00:00.000Z\"}\n\
         {\"n\":2,\"event_time\":\"1970-01-01T00:00:01.000Z\"}\n"
    );
}

#[test]
fn changes_say_what_they_are() {
    let mut schema = schema();
    schema.kind = StreamKind::Changes { key: vec![0] };
    let mut writer = AdxWriter::new(schema.clone()).expect("a writer");
    let mut out = Encoded::default();
    writer
        .write(&batch(&schema, &[(1, None), (2, None)]), &mut out)
        .expect("written");
    writer.seal(Epoch(1), &mut out).expect("sealed");
    let text = text(&out.objects);
    let words: Vec<bool> = ["\"_change\":\"update\"", "\"_change\":\"delete\""]
        .map(|word| text.contains(word))
        .into();
    assert_eq!(words, [true, true], "{text}");
}

#[test]
fn a_value_the_service_would_cut_is_a_dead_letter() {
    let schema = schema();
    let mut writer = AdxWriter::new(schema.clone()).expect("a writer");
    let mut out = Encoded::default();
    let (long, fits) = ("x".repeat((1 << 20) + 1), "é".repeat(1 << 19));
    let rows = [
        (1, Some(long.as_str())),
        (2, Some(fits.as_str())),
        (3, Some("short")),
    ];
    writer
        .write(&batch(&schema, &rows), &mut out)
        .expect("written");
    writer.seal(Epoch(1), &mut out).expect("sealed");
    let dead: Vec<_> = (out.dead.iter())
        .map(|d| (d.class, d.code, d.origin, d.event_time))
        .collect();
    assert_eq!(
        dead,
        [(DeadClass::SinkReject, "too-long", Origin(0), Some(0))]
    );
    assert!(
        out.dead[0].message.contains("\"text\""),
        "{}",
        out.dead[0].message
    );
    assert_eq!(out.objects.iter().map(|o| o.rows).sum::<u64>(), 2);
    let text = text(&out.objects);
    assert!(text.contains("\"short\"") && text.contains(&fits) && !text.contains(&long));
}

#[test]
fn memory_is_bounded_by_handing_out_objects() {
    let schema = schema();
    let mut writer = AdxWriter::new(schema.clone()).expect("a writer");
    let mut out = Encoded::default();
    // Text that hardly compresses: 16 MB of it.
    let mut state = 1u64;
    let mut noise = || {
        let letters = (0..40_000).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'!' + (state >> 58) as u8)
        });
        letters.collect::<String>()
    };
    for round in 0..4 {
        let texts: Vec<String> = (0..100).map(|_| noise()).collect();
        let rows: Vec<_> = texts
            .iter()
            .map(|text| (round, Some(text.as_str())))
            .collect();
        writer
            .write(&batch(&schema, &rows), &mut out)
            .expect("written");
        assert!(
            writer.buffered_bytes() < 10 << 20,
            "{}",
            writer.buffered_bytes()
        );
    }
    writer.seal(Epoch(1), &mut out).expect("sealed");
    assert!(out.objects.len() >= 2 && out.objects.iter().all(|o| o.bytes.len() < 10 << 20));
    assert_eq!(text(&out.objects).lines().count(), 400);
}
