//! The job that failures are tried on: it has state, and windows that show what was lost or doubled.

use super::Job;

const JOB: &str = r"
job: fleet
settings:
  checkpoint: { every: 200ms, to: ./checkpoints }
  restart: { attempts: 3, delay: 100ms }
sources:
  reports:
    generate: { what: fleet, devices: 40, seed: 5, events: EVENTS, rate: RATE, splits: 2, duplicates: 0.02 }
    schema: { device_id: { type: string, required: true }, ts: { type: timestamp, required: true }, seq: int64 }
    event_time: { column: ts, out_of_order: 10s }
steps:
  once: { from: reports, dedup: { by: [device_id, seq], within: 1h, same_time: true } }
  counted: { from: once, window: { tumbling: 1s, by: [device_id], aggregate: { n: count(*) } } }
sinks:
  windows: { from: counted, file: { path: ./windows } }
";

/// Over so many reports, read at so many a second.
pub(super) fn slow(events: u32, rate: u32) -> String {
    let job = JOB.replace("EVENTS", &events.to_string());
    job.replace("RATE", &rate.to_string())
}

/// The same, not held back.
pub(super) fn swift(events: u32) -> String {
    let job = JOB.replace("EVENTS", &events.to_string());
    job.replace(", rate: RATE", "")
}

/// The windows that are published, byte by byte, in an order of their own.
pub(super) fn windows(job: &Job) -> Vec<String> {
    let texts = job.texts("windows");
    let lines = texts.iter().flat_map(|text| text.lines());
    let mut lines: Vec<String> = lines.map(ToOwned::to_owned).collect();
    lines.sort();
    lines
}

/// What one process makes of so many reports.
pub(super) fn expected(events: u32) -> Vec<String> {
    let job = Job::new(&swift(events));
    let (code, said) = job.start(&[]).end();
    assert_eq!(code, Some(0), "{said}");
    let lines = windows(&job);
    assert!(lines.len() > 50, "{}", lines.len());
    lines
}
