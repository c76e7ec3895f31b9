//! Many partitions, large records, damaged batches.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Case, Job, Place, record};

pub(crate) const CASES: &[Case] = &[
    ("200 partitions", many),
    ("1 MiB records", large),
    ("a batch that is damaged", damaged),
    ("a batch that cannot be unpacked", packed),
];

fn many(place: &mut Place) {
    place.broker.create("many", 200);
    let lines = place.lines("many", 0..20_000);
    place.broker.produce_lines("many", 200, &lines);
    let job = place.job("many", "start: earliest", "");
    let running = job.run(2).start();
    job.until_rows(20_000);
    Job::stop(running);
    let lines = place.lines("many", 20_000..22_000);
    place.broker.produce_lines("many", 200, &lines);
    let running = job.run(1).start();
    job.until_rows(22_000);
    Job::stop(running);
    job.holds(0..22_000);
    let rows = job.rows();
    let partitions: BTreeSet<_> = rows.iter().map(|row| row["partition"].as_u64()).collect();
    assert_eq!(partitions.len(), 200);
    // The broker is small, and the other cases want it quick.
    place.broker.delete("many");
}

fn large(place: &mut Place) {
    let limit = json!({ "max.message.bytes": "4194304" });
    place.broker.create_with("large", 2, &limit);
    let padding = "x".repeat(1 << 20);
    let records: Vec<Value> = (0..40_u64)
        .map(|n| record((n % 2) as u32, &json!({ "n": n, "padding": padding })))
        .collect();
    place.broker.produce("large", &records);
    let job = place.job("large", "until: latest", "");
    job.finish(2);
    job.holds(0..40);
}

/// The CRC of a batch: CRC-32C (Castagnoli), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ 0x82f6_3b78,
            _ => crc >> 1,
        })
    };
    !bytes.iter().fold(!0, step)
}

/// Damages the second of three batches of a topic, in the broker's file. `change` is given the batch
/// from its CRC on (protocol.md of Kafka, "Record Batch": the CRC is at 17, and over all from 21).
fn damage(place: &mut Place, topic: &str, compression: &str, change: impl Fn(&mut [u8])) -> Job {
    place.broker.create(topic, 1);
    for part in 0..3 {
        let lines = place.lines(topic, part * 10..(part + 1) * 10);
        place.broker.produce_compressed(topic, &lines, compression);
    }
    let segment = place.broker.segment(topic, 0);
    let mut log = std::fs::read(&segment).expect("the segment");
    let length = |log: &[u8], at: usize| {
        let length: [u8; 4] = log[at + 8..at + 12].try_into().expect("four bytes");
        12 + u32::from_be_bytes(length) as usize
    };
    let second = length(&log, 0);
    let end = second + length(&log, second);
    change(&mut log[second + 17..end]);
    std::fs::write(&segment, log).expect("the segment");
    place.job(topic, "until: latest", "")
}

fn damaged(place: &mut Place) {
    let job = damage(place, "damaged", "none", |batch| {
        if let Some(byte) = batch.last_mut() {
            *byte ^= 1;
        }
    });
    let said = job.refused();
    let expected = "topic \"damaged\", partition 0, offset 10: ";
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("CRC"), "{said}");
}

fn packed(place: &mut Place) {
    let job = damage(place, "packed-badly", "zstd", |batch| {
        // All that is compressed, under a sum that fits.
        batch[44..].fill(0xa5);
        let sum = crc32c(&batch[4..]);
        batch[..4].copy_from_slice(&sum.to_be_bytes());
    });
    let said = job.refused();
    assert!(
        said.contains("topic \"packed-badly\", partition 0, offset 10: "),
        "{said}"
    );
    assert!(said.contains("ecompress"), "{said}");
}
