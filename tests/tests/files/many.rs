//! A hundred thousand small files: opened lazily, read furthest behind first.

use std::path::Path;

use thalweg_tests::process::{Run, until};

use crate::Job;

const FILES: u64 = 100_000;
const JOB: &str = r#"
job: many
settings:
  checkpoint: { every: 1s, to: ./checkpoints }
  dead_letters: { file: { path: ./dead.jsonl } }
sources:
  readings:
    file: { path: "in/*.json" }
    schema: { n: { type: int64, required: true }, ts: { type: timestamp, required: true } }
    event_time: { column: ts, out_of_order: 0ms }
steps:
  counted: { from: readings, window: { tumbling: 1h, aggregate: { n: count(*), sum: sum(n) } } }
sinks:
  out: { from: counted, file: { path: ./out } }
"#;
/// Files open at once are 256; a process has some more.
const OPEN_MAX: usize = 320;
/// What a split costs, everywhere it is known, beside what any job takes (bytes).
const RESIDENT_BYTES_MAX: u64 = 400 << 20;

/// Writes the files, whose times go against the order of their names.
fn write(folder: &Path) {
    std::fs::create_dir(folder).expect("a folder");
    for n in 0..FILES {
        let ts = 1_700_000_000_000 + (FILES - 1 - n) * 100;
        let line = format!("{{\"n\":{n},\"ts\":{ts}}}\n");
        std::fs::write(folder.join(format!("{n:06}.json")), line).expect("written");
    }
}

#[test]
fn a_hundred_thousand_files_take_little_memory_and_few_descriptors() {
    let job = Job::new(JOB);
    write(&job.path("in"));
    let mut running = Run::of(&job.path("job.yaml")).workers(1).start();
    let (mut open, mut resident, mut ended) = (0, 0, None);
    until("all are read", || {
        open = open.max(running.open_files());
        resident = resident.max(running.resident_bytes());
        ended = running.ended();
        ended.is_some()
    });
    ended.expect("it has ended").well();
    println!("{open} descriptors, {} MiB", resident >> 20);
    assert!(open > 200, "files are open together");
    assert!(open <= OPEN_MAX, "{open} descriptors");
    assert!(resident <= RESIDENT_BYTES_MAX, "{resident} bytes");
    // Nothing was late, though a file that is not open yet may be the earliest.
    let rows = job.published();
    let all = |field: &str| {
        rows.iter()
            .filter_map(|row| row[field].as_u64())
            .sum::<u64>()
    };
    assert_eq!((all("n"), all("sum")), (FILES, FILES * (FILES - 1) / 2));
    assert_eq!(rows.len(), 3, "hours: {rows:?}");
    let dead = std::fs::read_to_string(job.path("dead.jsonl")).unwrap_or_default();
    assert_eq!(dead, "");
}
