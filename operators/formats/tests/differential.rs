//! Records against `serde_json`: whatever the bytes, whatever the columns, whatever is asked for.
//!
//! Five million generated records, many of them damaged, are decoded in chunks of both framings. A
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
#[path = "differential/judge.rs"]
mod judge;
#[path = "differential/model.rs"]
mod model;
#[path = "differential/random.rs"]
mod random;

use bytes::Bytes;
use generator::Generator;
use judge::Judge;
use model::Model;
use random::{Random, seed};
use thalweg_stream::{Chunk, Framing, SplitId};

const RECORDS_PER_CHUNK: usize = 100;
const CHUNKS_PER_MODEL: usize = 20;
/// One chunk in so many is looked at closely: decoded again by a decoder that remembers no keys,
/// its arrays validated. That takes most of the time.
const THOROUGHLY_EVERY: usize = 10;

#[test]
fn first_half_of_five_million_agrees() {
    run(0, 2_500_000);
}

#[test]
fn second_half_of_five_million_agrees() {
    run(1, 2_500_000);
}

#[test]
fn records_cut_at_every_byte_agree() {
    let seed = seed();
    println!("THALWEG_SEED={seed}");
    let mut random = Random::new(seed ^ 0xc07);
    for _ in 0..100 {
        let model = Model::random(&mut random);
        let record = record(&model, &mut random);
        let mut judge = Judge::new(&model, &mut random, seed);
        let cuts: Vec<Vec<u8>> = (0..=record.len())
            .map(|end| record[..end].to_vec())
            .collect();
        let (framing, bytes) = framed(&cuts);
        judge.check(&chunk(bytes, framing, 1_000), true);
        for cut in cuts {
            judge.check(&chunk(cut, Framing::Lines, 1_000), false);
        }
    }
}

#[test]
fn chunks_cut_at_every_byte_agree() {
    let seed = seed();
    println!("THALWEG_SEED={seed}");
    let mut random = Random::new(seed ^ 0xc08);
    for _ in 0..100 {
        let model = Model::random(&mut random);
        let mut judge = Judge::new(&model, &mut random, seed);
        let lines: Vec<Vec<u8>> = (0..3).map(|_| record(&model, &mut random)).collect();
        let text = [&b"\xef\xbb\xbf"[..], &lines.join(&b"\r\n"[..])].concat();
        for at in 0..=text.len() {
            let (front, back) = text.split_at(at);
            judge.check(&chunk(front.to_vec(), Framing::Lines, 0), false);
            judge.check(&chunk(back.to_vec(), Framing::Lines, at as u64), false);
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
        let mut judge = Judge::new(&model, &mut random, seed);
        for number in 0..CHUNKS_PER_MODEL {
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
            let thoroughly = number % THOROUGHLY_EVERY == 0;
            let (records, accepted) = judge.check(&chunk(bytes, framing, 1_000), thoroughly);
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

/// A record of a usual length, without a line feed.
fn record(model: &Model, random: &mut Random) -> Vec<u8> {
    let mut generator = Generator::new(model);
    loop {
        let record = generator.record(random, true);
        if (40..=600).contains(&record.len()) {
            return record;
        }
    }
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

/// A chunk that begins at `start`: at 0, a byte order mark is skipped.
fn chunk(bytes: Vec<u8>, framing: Framing, start: u64) -> Chunk {
    Chunk {
        split: SplitId(0),
        start,
        end: start + bytes.len() as u64,
        bytes: Bytes::from(bytes),
        framing,
        metadata: Vec::new(),
        read_at_ms: 0,
    }
}
