//! How rows become objects.

use thalweg_stream::dead_letter::Remains;
use thalweg_stream::sink::Encoded;
use thalweg_stream::{DeadClass, Epoch, SinkWriter};

use super::LineWriter;
use crate::sink::tests::{batch, encoders, schema};

fn writer(roll_bytes: usize) -> LineWriter {
    LineWriter::new(encoders()().unwrap(), schema(), roll_bytes)
}

fn objects(out: &Encoded) -> Vec<(&str, u64)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    out.objects
        .iter()
        .map(|object| (text(&object.bytes), object.rows))
        .collect()
}

#[test]
fn an_object_is_complete_at_its_size_or_at_the_seal() {
    let (mut writer, mut out) = (writer(12), Encoded::default());
    writer.write(&batch(0..1), &mut out).unwrap();
    assert_eq!((writer.buffered_bytes(), out.objects.len()), (6, 0));
    writer.write(&batch(1..2), &mut out).unwrap();
    writer.write(&batch(2..3), &mut out).unwrap();
    writer.seal(Epoch(1), &mut out).unwrap();
    writer.seal(Epoch(2), &mut out).unwrap();
    assert_eq!(objects(&out), [("row 0\nrow 1\n", 2), ("row 2\n", 1)]);
    assert_eq!(writer.buffered_bytes(), 0);
}

#[test]
fn no_object_is_larger_than_may_be_and_no_row_is_lost_to_that() {
    for object_bytes_max in [6, 7, 11, 12, 13, 30] {
        let (mut writer, mut out) = (writer(1 << 20), Encoded::default());
        writer.object_bytes_max = object_bytes_max;
        writer.write(&batch(0..3), &mut out).unwrap();
        writer.write(&batch(3..10), &mut out).unwrap();
        writer.seal(Epoch(1), &mut out).unwrap();
        let objects = objects(&out);
        assert!(
            objects
                .iter()
                .all(|(text, _)| text.len() <= object_bytes_max)
        );
        let rows: u64 = objects.iter().map(|(_, rows)| rows).sum();
        let text: String = objects.iter().map(|(text, _)| *text).collect();
        let expected: String = (0..10).map(|n| format!("row {n}\n")).collect();
        assert_eq!((text, rows), (expected, 10));
        assert!(out.dead.is_empty());
    }
}

#[test]
fn a_row_that_fits_no_object_is_a_dead_letter_and_the_others_go_on() {
    let (mut writer, mut out) = (writer(1 << 20), Encoded::default());
    writer.object_bytes_max = 7;
    writer.write(&batch(98..102), &mut out).unwrap();
    writer.seal(Epoch(1), &mut out).unwrap();
    assert_eq!(objects(&out), [("row 98\n", 1), ("row 99\n", 1)]);
    let origins: Vec<u64> = out.dead.iter().map(|letter| letter.origin.0).collect();
    assert_eq!(origins, [100, 101]);
    let letter = &out.dead[0];
    assert_eq!(
        (letter.class, letter.code),
        (DeadClass::SinkReject, "row-too-large")
    );
    assert!(matches!(&letter.remains, Remains::Bytes(bytes) if bytes == "row 100\n"));
    assert_eq!(
        letter.message,
        "the row takes 8 bytes as a line, more than 7 fit a file"
    );
}
