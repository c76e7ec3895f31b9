//! Jobs that stop and go on, and brokers that do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thalweg_tests::process::{Running, until};

use super::{Case, Job, Place};

pub(crate) const CASES: &[Case] = &[
    ("stop and resume with other workers", resume),
    ("latest is a place, not a moment", latest),
    ("partitions added while it runs and in between", grown),
    ("offsets for a group, and from one", group),
    ("a start at a time", timestamp),
    ("the broker is killed and comes back", restart),
    ("a job stops though the broker does not answer", frozen),
];

fn resume(place: &mut Place) {
    place.broker.create("resumed", 4);
    let job = place.job("resumed", "start: earliest", "");
    for (part, workers) in (0..).zip([2, 1, 4]) {
        let lines = place.lines("resumed", part * 1000..(part + 1) * 1000);
        let running = job.run(workers).start();
        place.broker.produce_lines("resumed", 4, &lines);
        job.until_rows((part as usize + 1) * 1000);
        Job::stop(running);
    }
    job.holds(0..3000);
}

fn latest(place: &mut Place) {
    place.broker.create("newest", 2);
    let lines = place.lines("newest", 1000..1100);
    place.broker.produce_lines("newest", 2, &lines);
    let job = place.job("newest", "start: latest", "");
    let running = job.run(1).start();
    // Stopped before it has read anything: the checkpoint alone knows where it began.
    until("a checkpoint", || {
        let log = job.folder.join("checkpoints");
        walk(&log) > 2
    });
    Job::stop(running);
    let lines = place.lines("newest", 0..100);
    place.broker.produce_lines("newest", 2, &lines);
    let running = job.run(2).start();
    job.until_rows(100);
    Job::stop(running);
    job.holds(0..100);
}

/// Files below a folder.
fn walk(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .map(|path| match path.is_dir() {
            true => walk(&path),
            false => 1,
        })
        .sum()
}

fn grown(place: &mut Place) {
    place.broker.create("grown", 1);
    let lines = place.lines("grown", 0..300);
    place.broker.produce_lines("grown", 1, &lines);
    let job = place.job("grown", "discover_every: 200ms", "");
    let running = job.run(2).start();
    job.until_rows(300);
    // While it runs: the new partitions are read from their beginning.
    place.broker.grow("grown", 3);
    let lines = place.lines("grown", 300..600);
    place.broker.produce_lines("grown", 3, &lines);
    job.until_rows(600);
    Job::stop(running);
    // While it does not. Where to start counts at the first start only.
    job.define(&place.broker.address(), "grown", "start: latest", "");
    place.broker.grow("grown", 5);
    let lines = place.lines("grown", 600..900);
    place.broker.produce_lines("grown", 5, &lines);
    let running = job.run(1).start();
    job.until_rows(900);
    Job::stop(running);
    job.holds(0..900);
}

fn group(place: &mut Place) {
    place.broker.create("watched", 2);
    let lines = place.lines("watched", 0..300);
    place.broker.produce_lines("watched", 2, &lines);
    let job = place.job("watched", "group: watchers", "");
    let running = job.run(2).start();
    job.until_rows(300);
    until("offsets for whoever watches", || {
        place.broker.committed("watched", "watchers") == [Some(150), Some(150)]
    });
    Job::stop(running);
    // They are told, not asked: the checkpoint alone says how far the job has come.
    place.broker.commit("watched", "watchers", &[100, 20]);
    let lines = place.lines("watched", 300..400);
    place.broker.produce_lines("watched", 2, &lines);
    let running = job.run(1).start();
    job.until_rows(400);
    Job::stop(running);
    job.holds(0..400);
    // The last commit is told before the job ends.
    let ends = [Some(200), Some(200)];
    assert_eq!(place.broker.committed("watched", "watchers"), ends);

    // Another job begins where a group has got to.
    place.broker.commit("watched", "others", &[190, 195]);
    let options = "group: others\n      start: committed\n      until: latest";
    let other = place.job("watched", options, "");
    other.finish(2);
    let mut left: Vec<u64> = (190..200).map(|at| 2 * at).collect();
    left.extend((195..200).map(|at| 2 * at + 1));
    left.sort_unstable();
    assert_eq!(other.numbers(), left);

    let options = "group: nobody\n      start: committed";
    let said = place.job("watched", options, "").run(1).end();
    assert_eq!(said.code, Some(1), "{}", said.said);
    let expected = "group \"nobody\" has committed no offset of topic \"watched\"";
    assert!(said.said.contains(expected), "{}", said.said);
}

fn timestamp(place: &mut Place) {
    place.broker.create("dated", 2);
    let minute = 1_767_225_600_000_u64;
    let records: Vec<Value> = (0..20_u64)
        .map(|n| {
            let value = json!({ "n": n }).to_string();
            json!({ "partition": n % 2, "value": value, "timestamp": minute + 1000 * n })
        })
        .collect();
    place.broker.produce("dated", &records);
    for (start, first) in [
        ("2026-01-01T00:00:14Z", 14),
        ("2026-01-01T01:00:05.001+01:00", 6),
        ("{ timestamp: 1767225600003 }", 1),
        ("\"2026-01-01T00:00:19Z\"", 19),
        ("2027-01-01T00:00:00Z", 20),
    ] {
        let options = format!("start: {start}\n      until: latest");
        let job = place.job("dated", &options, "");
        job.finish(1);
        let expected: Vec<u64> = (first..20).collect();
        assert_eq!(job.numbers(), expected, "{start}");
    }
}

/// What is known of the offsets of a group waits for an answer that does not come.
#[allow(
    clippy::disallowed_methods,
    reason = "how long a stop takes is real time"
)]
fn frozen(place: &mut Place) {
    place.broker.create("frozen", 1);
    let lines = place.lines("frozen", 0..100);
    place.broker.produce_lines("frozen", 1, &lines);
    let job = place.job("frozen", "group: watchers", "");
    let mut running = job.run(1).start();
    job.until_rows(100);
    place.broker.freeze();
    // Long enough that a checkpoint has asked for its offsets to be written.
    running.live(Duration::from_secs(3));
    let began = Instant::now();
    running.signal("TERM");
    let ended = running.end();
    let took = began.elapsed();
    place.broker.thaw();
    ended.well();
    assert!(took < Duration::from_secs(30), "{took:?}");
    job.holds(0..100);
}

fn restart(place: &mut Place) {
    place.broker.create("steady", 4);
    let lines = place.lines("steady", 0..20_000);
    place.broker.produce_lines("steady", 4, &lines);
    // One job lives through it; another is stopped meanwhile, and started again before the broker.
    let job = place.job("steady", "start: earliest", "");
    let other = place.job("steady", "connect_timeout: 100s", "");
    let running = job.run(2).listen().start();
    let stopped = other.run(1).start();
    job.until_rows(1000);
    other.until_rows(1000);
    place.broker.kill();
    let connected = |state: u8| {
        let labels = "{job=\"steady\",step=\"records\"}";
        let line = format!("thalweg_source_connected{labels} {state}\n");
        running.get("/metrics").contains(&line)
    };
    until("the job misses the broker", || connected(0));
    assert!(job.said().contains("the brokers are away"));
    // It does not know whether it is at the end.
    until("the time since it was grows", || {
        lag_seconds(&running) > 1.0
    });
    Job::stop(stopped);
    let again = other.run(2).start();
    place.broker.restart();
    let lines = place.lines("steady", 20_000..30_000);
    place.broker.produce_lines("steady", 4, &lines);
    job.until_rows(30_000);
    other.until_rows(30_000);
    until("the job has the broker", || connected(1));
    running.signal("TERM");
    let ended = running.end();
    ended.well();
    Job::stop(again);
    job.holds(0..30_000);
    other.holds(0..30_000);
    let told = ended.said.matches("the brokers are").count();
    assert!((2..=8).contains(&told), "{}", ended.said);
}

fn lag_seconds(running: &Running) -> f64 {
    let metrics = running.get("/metrics");
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix("thalweg_source_lag_seconds{"));
    let value = line.and_then(|line| line.split_once("} ")?.1.parse().ok());
    value.unwrap_or_default()
}
