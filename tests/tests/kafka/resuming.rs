//! Jobs that stop and go on, and brokers that do.

use thalweg_tests::process::until;

use super::{Case, Job, Place};

pub(crate) const CASES: &[Case] = &[
    ("stop and resume with other workers", resume),
    ("latest is a place, not a moment", latest),
    ("partitions added in between", grown),
    ("the broker is killed and comes back", restart),
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
    let job = place.job("grown", "connect_timeout: 1s", "");
    let running = job.run(1).start();
    job.until_rows(300);
    place.broker.grow("grown", 3);
    until("the job says so", || {
        job.said().contains("the topic has grown")
    });
    Job::stop(running);
    // Where to start counts at the first start only: the new partitions are read from their
    // beginning.
    job.define(&place.broker.address(), "grown", "start: latest", "");
    let lines = place.lines("grown", 300..600);
    place.broker.produce_lines("grown", 3, &lines);
    let running = job.run(2).start();
    job.until_rows(600);
    Job::stop(running);
    job.holds(0..600);
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
