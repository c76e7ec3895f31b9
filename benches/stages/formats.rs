//! Decoding and writing fleet-like events, beside `serde_json` into a struct.
#![allow(
    clippy::unwrap_used,
    reason = "a measurement of what is known to be right"
)]

use std::io::Write;

use bytes::Bytes;
use thalweg_formats::{
    DecodeSpec, EventTimeSpec, FieldSpec, JsonDecoderFactory, JsonLines, WriteOptions,
};
use thalweg_stream::{
    Chunk, Column, ColumnType, Decoded, DecoderFactory, Fault, Framing, RecordBatch, SplitId,
};

use crate::stopwatch::{per_row, report};

const EVENTS: usize = 1 << 20;
const CHUNK_BYTES: usize = 1 << 20;
const ROUNDS: usize = 9;

pub(crate) fn measure() -> Result<(), Fault> {
    let chunks = chunks();
    let all = [
        ("device_id", ColumnType::String),
        ("ts", ColumnType::Timestamp),
        ("seq", ColumnType::Int64),
        ("temperature_c", ColumnType::Float64),
        ("speed_kmh", ColumnType::Float64),
        ("status", ColumnType::String),
    ];
    let three = ["device_id", "ts", "speed_kmh"];
    let mut spec = DecodeSpec::new(
        (all.iter())
            .map(|(name, kind)| FieldSpec::new(Column::new(*name, kind.clone())))
            .collect(),
    );
    spec.event_time = Some(EventTimeSpec {
        column: "ts".to_owned(),
        max_ahead_ms: None,
    });
    let batches = decode("decoding six columns", 64.0, &spec, &chunks);
    spec.project = Some(three.map(str::to_owned).to_vec());
    decode(
        "decoding six columns, three of them asked for",
        64.0,
        &spec,
        &chunks,
    );
    spec.fields.retain(|f| three.contains(&&*f.column.name));
    decode("decoding three columns", 47.0, &spec, &chunks);
    write(&spec_schema(&all), &batches);
    serde(&chunks);
    Ok(())
}

/// The same events as structs, for comparison on the same machine at the same time.
fn serde(chunks: &[Chunk]) {
    let mut each = Vec::new();
    for chunk in (0..ROUNDS).flat_map(|_| chunks) {
        let lines = || {
            chunk
                .bytes
                .split(|b| *b == b'\n')
                .filter(|line| !line.is_empty())
        };
        let (took, ()) = per_row(lines().count(), || {
            for line in lines() {
                let event: Event<'_> = serde_json::from_slice(line).unwrap();
                std::hint::black_box(event);
            }
        });
        each.push(took);
    }
    report("&nbsp; the same by serde_json into a struct", None, each);
}

#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "only parsed")]
struct Event<'a> {
    device_id: &'a str,
    ts: i64,
    seq: i64,
    temperature_c: f64,
    speed_kmh: f64,
    status: &'a str,
}

fn spec_schema(all: &[(&str, ColumnType)]) -> thalweg_stream::StreamSchema {
    let columns = all
        .iter()
        .map(|(name, kind)| Column::new(*name, kind.clone()));
    thalweg_stream::StreamSchema::append(columns.collect(), true)
}

fn decode(what: &str, budget: f64, spec: &DecodeSpec, chunks: &[Chunk]) -> Vec<RecordBatch> {
    let mut decoder = JsonDecoderFactory::new(spec).unwrap().build().unwrap();
    let mut each = Vec::new();
    let mut batches = Vec::new();
    for chunk in (0..ROUNDS).flat_map(|_| chunks) {
        let mut out = Decoded::default();
        let (took, done) = per_row(1, || decoder.decode(chunk, &mut out));
        done.unwrap();
        assert!(out.dead.is_empty());
        each.push(took / out.records as f64);
        if batches.len() < 16 {
            batches.append(&mut out.batches);
        }
    }
    report(what, Some(budget), each);
    batches
}

fn write(schema: &thalweg_stream::StreamSchema, batches: &[RecordBatch]) {
    let writer = JsonLines::new(schema, WriteOptions::default()).unwrap();
    let mut each = Vec::new();
    let mut out = Vec::new();
    for batch in (0..ROUNDS).flat_map(|_| batches) {
        out.clear();
        let (took, done) = per_row(batch.num_rows(), || writer.write(batch, &mut out));
        done.unwrap();
        each.push(took);
    }
    report("writing six columns as JSON", None, each);
}

/// Events of ten thousand devices with times somewhat out of order.
fn chunks() -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut text = Vec::with_capacity(CHUNK_BYTES + 256);
    let mut start = 0;
    let mut random: u64 = 42;
    for event in 0..EVENTS as u64 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let device = random % 10_000;
        let ts = 1_767_225_600_000 + event / 10 - random % 200;
        let temperature = (random >> 20) % 6_000;
        let speed = (random >> 33) % 2_600;
        let status = ["ok", "ok", "idle", "warning"][(random >> 50) as usize % 4];
        writeln!(
            text,
            r#"{{"device_id":"dev-{device:06}","ts":{ts},"seq":{event},"temperature_c":{},"speed_kmh":{},"status":"{status}"}}"#,
            temperature as f64 / 100.0,
            speed as f64 / 10.0,
        )
        .unwrap();
        if text.len() >= CHUNK_BYTES || event + 1 == EVENTS as u64 {
            let end = start + text.len() as u64;
            chunks.push(Chunk {
                split: SplitId(0),
                start,
                end,
                bytes: Bytes::from(std::mem::take(&mut text)),
                framing: Framing::Lines,
                metadata: Vec::new(),
                read_at_ms: 0,
            });
            start = end;
        }
    }
    chunks
}
