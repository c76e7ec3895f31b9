//! Many partitions, large records, damaged batches.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use thalweg_tests::process::{Running, until};

use super::{Case, Job, Place, record};

pub(crate) const CASES: &[Case] = &[
    ("200 partitions", many),
    ("1 MiB records", large),
    ("more than fits is held back", held),
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

/// What a table that says nothing holds back fills the job's budget; the rest waits at the broker. It is
/// in memory once, though checkpoints take it; half of a budget more is for what clients have read ahead,
/// 8 MiB each, for batches on their way, and for what the allocator keeps.
fn held(place: &mut Place) {
    const PARTS: u64 = 8;
    const ROWS: u64 = 20_000;
    /// Rows that come when it is full.
    const MORE: u64 = 500;
    /// Of one row: all rows have twice the budget.
    const PADDING: usize = 3_300;
    const BUDGET: u64 = 256 << 20;
    /// The allocator gives back what it likes.
    const WOBBLE: u64 = 24 << 20;
    place.broker.create("held", 4);
    place.broker.create("held-versions", 1);
    let padding = "x".repeat(PADDING);
    let line = |n: u64| format!("{{\"n\":{n},\"ts\":{n},\"padding\":\"{padding}\"}}\n");
    for part in 0..PARTS {
        let lines: String = (part * ROWS..(part + 1) * ROWS).map(line).collect();
        let file = place.folder.path().join("held.jsonl");
        std::fs::write(&file, lines).expect("a file");
        place.broker.produce_compressed("held", &file, "lz4");
    }
    let job = place.job("held", "", "");
    let brokers = place.broker.address();
    let text = format!(
        r#"
job: held
settings: {{ checkpoint: {{ every: 1s, to: ./checkpoints }} }}
sources:
  records:
    # A client unpacks a whole response at once, and this one is short only packed.
    kafka: {{ brokers: "{brokers}", topic: held, properties: {{ fetch.message.max.bytes: "65536" }} }}
    schema: {{ n: int64, ts: timestamp, padding: string }}
    event_time: {{ column: ts, out_of_order: 1s }}
    metadata: {{ partition: partition, offset: offset }}
tables:
  versions:
    kafka: {{ brokers: "{brokers}", topic: held-versions }}
    schema: {{ n: int64, since: timestamp, version: int64 }}
    event_time: {{ column: since, out_of_order: 0ms }}
    key: [n]
steps:
  versioned:
    from: records
    enrich: {{ with: versions, on: n, as_of: event_time, wait: 10000h, take: [version], missing: keep }}
  small: {{ from: versioned, drop: [padding] }}
sinks:
  out: {{ from: small, file: {{ path: ./out, timestamps: unix_ms }} }}
"#
    );
    std::fs::write(job.path(), text).expect("the definition");
    let mut running = job.run(2).listen().start();
    let read = |running: &Running| {
        let answer = running.get("/status");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        let status: Value = serde_json::from_str(body).expect("JSON");
        let mut nodes = status["nodes"].as_array().into_iter().flatten();
        let records = nodes.find(|node| node["name"] == "records");
        records.map_or(0, |node| node["rows_out"].as_u64().unwrap_or_default())
    };
    // It serves, and has read next to nothing.
    let mut last = read(&running);
    let before = running.resident_bytes();
    until("nothing more is read", || {
        running.live(Duration::from_secs(2));
        let before = std::mem::replace(&mut last, read(&running));
        before > 0 && last == before
    });
    assert!(last < PARTS * ROWS, "all was read");
    let mut sizes = Vec::new();
    for _ in 0..10 {
        running.live(Duration::from_millis(500));
        sizes.push(running.resident_bytes());
    }
    let (first, most) = (sizes[0], sizes.iter().copied().max().unwrap_or_default());
    assert!(most < before + BUDGET * 3 / 2, "{before} before, {sizes:?}");
    assert!(most < first + WOBBLE, "{sizes:?}");
    assert_eq!(read(&running), last);
    // What comes meanwhile is known to be unread, though nobody asks for it.
    let behind = |running: &Running| {
        let metrics = running.get("/metrics");
        let start = "thalweg_source_lag_records{job=\"held\",step=\"records\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(start));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    let before = behind(&running).expect("a number");
    let file = place.folder.path().join("held.jsonl");
    let lines: String = (PARTS * ROWS..PARTS * ROWS + MORE).map(line).collect();
    std::fs::write(&file, lines).expect("a file");
    place.broker.produce_compressed("held", &file, "lz4");
    until("what has come is behind", || {
        behind(&running) == Some(before + MORE as f64)
    });
    assert_eq!(read(&running), last);
    // A version after all of them: the table has come so far.
    let all = PARTS * ROWS + MORE;
    let late = json!({ "n": 0, "since": all, "version": 1 });
    place.broker.produce("held-versions", &[record(0, &late)]);
    until("all is read", || read(&running) == all);
    Job::stop(running);
    job.holds(0..all);
    place.broker.delete("held");
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
