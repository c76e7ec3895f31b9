//! Records against `serde_json`: whatever the bytes, whatever the columns, whatever is asked for.
//!
//! A million generated records, many of them damaged, are decoded in chunks of both framings. A
//! model that knows nothing of the decoder parses each with `serde_json` and says what must come
//! out: the same rows with the same values, the same dead letters. Every chunk is decoded with two
//! projections, of which neither may change what is accepted.
//!
//! `THALWEG_SEED` repeats a run; every failure names the seed and shows the record.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail and say why"
)]

#[path = "differential/generator.rs"]
mod generator;
#[path = "differential/model.rs"]
mod model;
#[path = "differential/random.rs"]
mod random;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType, UInt64Type};
use bytes::Bytes;
use generator::Generator;
use model::{Expected, Model, Outcome};
use random::{Random, seed};
use thalweg_formats::{DecodeSpec, JsonDecoderFactory};
use thalweg_stream::{
    Chunk, ColumnType, DeadClass, Decoded, DecoderFactory, Framing, Origin, SplitId,
};

/// The column for unknown fields.
const EXTRA: &str = "rest";
const RECORDS_PER_CHUNK: usize = 100;

#[test]
fn first_quarter_of_a_million_agrees() {
    run(0, 250_000);
}

#[test]
fn second_quarter_of_a_million_agrees() {
    run(1, 250_000);
}

#[test]
fn third_quarter_of_a_million_agrees() {
    run(2, 250_000);
}

#[test]
fn fourth_quarter_of_a_million_agrees() {
    run(3, 250_000);
}

#[test]
fn records_cut_at_every_byte_agree() {
    let seed = seed();
    println!("THALWEG_SEED={seed}");
    let mut random = Random::new(seed ^ 0xc07);
    for _ in 0..40 {
        let model = Model::random(&mut random);
        let mut generator = Generator::new(&model);
        let mut record = Vec::new();
        while record.len() < 40 || record.len() > 600 {
            record = generator.record(&mut random, true);
        }
        let cuts: Vec<Vec<u8>> = (0..=record.len())
            .map(|end| record[..end].to_vec())
            .collect();
        let (framing, bytes) = framed(&cuts);
        check(&model, &chunk(bytes, framing), &mut random, seed);
        for cut in cuts {
            check(&model, &chunk(cut, Framing::Lines), &mut random, seed);
        }
    }
}

fn run(part: u64, cases: usize) {
    let seed = seed();
    println!("THALWEG_SEED={seed}");
    let mut random = Random::new(seed.wrapping_mul(31).wrapping_add(part));
    let (mut seen, mut rows) = (0, 0);
    while seen < cases {
        let model = Model::random(&mut random);
        let mut generator = Generator::new(&model);
        for _ in 0..20 {
            let lines = random.chance(50);
            let records: Vec<Vec<u8>> = (0..RECORDS_PER_CHUNK)
                .map(|_| generator.record(&mut random, lines))
                .collect();
            let (framing, bytes) = if lines {
                let separator: &[u8] = if random.chance(20) { b"\r\n" } else { b"\n" };
                (Framing::Lines, records.join(separator))
            } else {
                framed(&records)
            };
            let (records, accepted) = check(&model, &chunk(bytes, framing), &mut random, seed);
            seen += records;
            rows += accepted;
        }
    }
    println!("{seen} records, {rows} of them rows");
    // Neither all nor none: a generator that makes only nonsense would prove little.
    assert!(
        rows * 10 > seen * 3 && rows * 10 < seen * 9,
        "{rows} of {seen}"
    );
}

/// Records one right behind the other.
fn framed(records: &[Vec<u8>]) -> (Framing, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut ranges = Vec::new();
    for record in records {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(record);
        ranges.push((start, bytes.len() as u32));
    }
    let offsets = (0..records.len() as u64).collect();
    (Framing::Records { ranges, offsets }, bytes)
}

fn chunk(bytes: Vec<u8>, framing: Framing) -> Chunk {
    Chunk {
        split: SplitId(0),
        // Not the beginning of a split: no byte order mark is skipped.
        start: 1_000,
        end: 1_000 + bytes.len() as u64,
        bytes: Bytes::from(bytes),
        framing,
        metadata: Vec::new(),
        read_at_ms: 0,
    }
}

/// The records of a chunk with their offsets.
fn records(chunk: &Chunk) -> Vec<(u64, &[u8])> {
    match &chunk.framing {
        Framing::Records { ranges, offsets } => (ranges.iter().zip(offsets))
            .map(|((start, end), offset)| (*offset, &chunk.bytes[*start as usize..*end as usize]))
            .collect(),
        Framing::Lines => {
            let mut at = chunk.start;
            let mut records = Vec::new();
            for line in chunk.bytes.split(|b| *b == b'\n') {
                let record = line.strip_suffix(b"\r").unwrap_or(line);
                if !record.is_empty() {
                    records.push((at, record));
                }
                at += line.len() as u64 + 1;
            }
            records
        }
    }
}

/// Decodes a chunk in full and with a random projection; compares both with the model.
fn check(model: &Model, chunk: &Chunk, random: &mut Random, seed: u64) -> (usize, usize) {
    let mut spec = DecodeSpec::new(model.fields.clone());
    spec.batch_rows_max = random.below(200) as usize + 1;
    spec.extra = model.extra.then(|| EXTRA.to_owned());
    let all = decode(&spec, chunk);
    let columns = model
        .fields
        .iter()
        .map(|f| (&*f.column.name, &f.column.column_type));
    let extra = model.extra.then_some((EXTRA, &ColumnType::Json));
    let columns: Vec<(&str, &ColumnType)> = columns.chain(extra).collect();
    let names = columns.iter().map(|(name, _)| (*name).to_owned());
    let project: Vec<String> = names.filter(|_| random.chance(50)).collect();
    spec.project = Some(project.clone());
    spec.batch_rows_max = 8192;
    let some = decode(&spec, chunk);

    let all_rows = Rows::new(&all);
    let some_rows = Rows::new(&some);
    let (mut rows, mut dead) = (0, 0);
    let records = records(chunk);
    for (offset, record) in &records {
        let shown = || {
            let columns: Vec<String> = (model.fields.iter())
                .map(|f| {
                    format!(
                        "{} {} /{}",
                        f.column.name,
                        f.column.column_type,
                        f.path.join("/")
                    )
                })
                .collect();
            let text = String::from_utf8_lossy(record);
            format!(
                "THALWEG_SEED={seed}\ncolumns {columns:?}\nprojected {project:?}\nrecord {text}\nbytes {record:?}"
            )
        };
        let outcome = model.outcome(record);
        match outcome {
            Outcome::Row(values) => {
                for (rows_of, what) in [(&all_rows, "all"), (&some_rows, "some")] {
                    let Some((batch, row)) = rows_of.get(rows) else {
                        panic!("not accepted ({what})\n{}", shown());
                    };
                    let origin = batch
                        .columns()
                        .last()
                        .expect("origin")
                        .as_primitive::<UInt64Type>();
                    let got = Origin(origin.value(row)).offset();
                    assert_eq!(
                        got,
                        *offset,
                        "another record was accepted ({what})\n{}",
                        shown()
                    );
                    for ((name, column_type), expected) in columns.iter().zip(&values) {
                        let Some(column) = batch.column_by_name(name) else {
                            assert!(what == "some" && !project.iter().any(|p| p == name));
                            continue;
                        };
                        let same = is_value(column, row, expected, column_type);
                        assert!(
                            same,
                            "column {} is not {expected:?}: {column:?}\n{}",
                            name,
                            shown()
                        );
                    }
                }
                rows += 1;
            }
            Outcome::Decode | Outcome::Schema(_) => {
                for (decoded, what) in [(&all, "all"), (&some, "some")] {
                    let letter = decoded.dead.get(dead);
                    let Some(letter) = letter.filter(|l| l.origin.offset() == *offset) else {
                        panic!(
                            "accepted wrongly ({what}), should be {outcome:?}\n{}",
                            shown()
                        );
                    };
                    match &outcome {
                        Outcome::Schema(column) => {
                            assert_eq!(letter.class, DeadClass::Schema, "{letter:?}\n{}", shown());
                            let name = format!("column {column:?} ");
                            assert!(letter.message.contains(&name), "{letter:?}\n{}", shown());
                        }
                        _ => assert_eq!(letter.class, DeadClass::Decode, "{letter:?}\n{}", shown()),
                    }
                }
                dead += 1;
            }
        }
    }
    for decoded in [&all, &some] {
        assert_eq!(decoded.records, records.len() as u64, "THALWEG_SEED={seed}");
        assert_eq!(decoded.dead.len(), dead, "THALWEG_SEED={seed}");
    }
    (records.len(), rows)
}

fn decode(spec: &DecodeSpec, chunk: &Chunk) -> Decoded {
    let factory = JsonDecoderFactory::new(spec).expect("valid");
    let mut decoder = factory.build().expect("valid");
    let mut out = Decoded::default();
    // Twice, with the keys of the first time remembered: nothing may change.
    decoder.decode(chunk, &mut out).expect("no fault");
    let mut again = Decoded::default();
    decoder.decode(chunk, &mut again).expect("no fault");
    assert_eq!(out.batches, again.batches);
    for batch in &out.batches {
        for column in batch.columns() {
            column.to_data().validate_full().expect("valid for Arrow");
        }
    }
    out
}

/// Rows of several batches by number.
struct Rows<'a> {
    at: Vec<(&'a RecordBatch, usize)>,
}

impl<'a> Rows<'a> {
    fn new(decoded: &'a Decoded) -> Self {
        let rows = |batch: &'a RecordBatch| (0..batch.num_rows()).map(move |row| (batch, row));
        Self {
            at: decoded.batches.iter().flat_map(rows).collect(),
        }
    }

    fn get(&self, row: usize) -> Option<(&'a RecordBatch, usize)> {
        self.at.get(row).copied()
    }
}

fn is_value(column: &dyn Array, row: usize, expected: &Expected, kind: &ColumnType) -> bool {
    if column.is_null(row) {
        return matches!(expected, Expected::Null);
    }
    match (expected, kind) {
        (Expected::Bool(value), ColumnType::Bool) => column.as_boolean().value(row) == *value,
        (Expected::Int(value), ColumnType::Int64) => {
            column.as_primitive::<Int64Type>().value(row) == *value
        }
        (Expected::Int(value), ColumnType::Int32) => {
            i64::from(column.as_primitive::<Int32Type>().value(row)) == *value
        }
        (Expected::Int(value), ColumnType::Timestamp) => {
            column.as_primitive::<TimestampMillisecondType>().value(row) == *value
        }
        (Expected::Float(value), ColumnType::Float64) => {
            column.as_primitive::<Float64Type>().value(row).to_bits() == value.to_bits()
        }
        (Expected::String(value), ColumnType::String) => {
            column.as_string_view().value(row) == value
        }
        (Expected::Json(value), ColumnType::Json) => {
            serde_json::from_str::<serde_json::Value>(column.as_string_view().value(row))
                .ok()
                .as_ref()
                == Some(value)
        }
        (Expected::List(items), ColumnType::List(item)) => {
            let list = column.as_list::<i32>().value(row);
            list.len() == items.len()
                && (items.iter().enumerate())
                    .all(|(at, expected)| is_value(&list, at, expected, item))
        }
        _ => false,
    }
}
