//! How fast fleet-like events are decoded on one core: `cargo run --release --example decode_speed`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement: it prints, and its clock is the machine's"
)]

use std::io::Write;
use std::time::Instant;

use bytes::Bytes;
use thalweg_formats::{
    DecodeSpec, EventTimeSpec, FieldSpec, JsonDecoderFactory, JsonLines, WriteOptions,
};
use thalweg_stream::{
    Chunk, Column, ColumnType, Decoded, DecoderFactory, Framing, RecordBatch, SplitId,
};

const EVENTS: usize = 1 << 20;
const CHUNK_BYTES: usize = 1 << 20;
const ROUNDS: usize = 9;

fn main() {
    let chunks = chunks();
    let bytes: usize = chunks.iter().map(|c| c.bytes.len()).sum();
    println!("{EVENTS} events of {} bytes", bytes / EVENTS);
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
    let batches = measure("six columns", &spec, &chunks);
    spec.project = Some(three.map(str::to_owned).to_vec());
    measure("six columns declared, three asked for", &spec, &chunks);
    spec.fields.retain(|f| three.contains(&&*f.column.name));
    measure("three columns declared", &spec, &chunks);
    write(&spec_schema(&all), &batches);
    measure_serde(&chunks);
}

/// The same events as structs, for comparison on the same machine at the same time.
fn measure_serde(chunks: &[Chunk]) {
    let mut best = vec![u128::MAX; chunks.len()];
    for _ in 0..ROUNDS {
        for (chunk, best) in chunks.iter().zip(&mut best) {
            let start = Instant::now();
            for line in chunk.bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                let event: Event<'_> = serde_json::from_slice(line).unwrap();
                std::hint::black_box(event);
            }
            *best = start.elapsed().as_nanos().min(*best);
        }
    }
    let best = best.iter().sum::<u128>() as f64 / EVENTS as f64;
    println!("serde_json into a struct: {best:.1} ns per event");
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

fn measure(what: &str, spec: &DecodeSpec, chunks: &[Chunk]) -> Vec<RecordBatch> {
    let mut decoder = JsonDecoderFactory::new(spec).unwrap().build().unwrap();
    // The best of several rounds for each chunk: other programs on the machine do not count.
    let mut best = vec![u128::MAX; chunks.len()];
    let mut last = Vec::new();
    for _ in 0..ROUNDS {
        last.clear();
        let mut records = 0;
        for (chunk, best) in chunks.iter().zip(&mut best) {
            let mut out = Decoded::default();
            let start = Instant::now();
            decoder.decode(chunk, &mut out).unwrap();
            *best = start.elapsed().as_nanos().min(*best);
            assert!(out.dead.is_empty());
            records += out.records;
            if last.len() < 16 {
                last.append(&mut out.batches);
            }
        }
        assert_eq!(records, EVENTS as u64);
    }
    let best = best.iter().sum::<u128>() as f64 / EVENTS as f64;
    println!("{what}: {best:.1} ns per event");
    last
}

fn write(schema: &thalweg_stream::StreamSchema, batches: &[RecordBatch]) {
    let writer = JsonLines::new(schema, WriteOptions::default()).unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut best = f64::MAX;
    let mut out = Vec::new();
    for _ in 0..ROUNDS {
        out.clear();
        let start = Instant::now();
        for batch in batches {
            writer.write(batch, &mut out).unwrap();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / rows as f64);
    }
    println!(
        "writing six columns: {best:.1} ns per row of {} bytes",
        out.len() / rows
    );
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
