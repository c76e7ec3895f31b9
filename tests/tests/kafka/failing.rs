//! What is wrong with a topic, a broker or a definition, and what is said of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use thalweg_tests::process::{Run, Running, binary, until};

use super::reading::sealed;
use super::{Case, Job, Place};

pub(crate) const CASES: &[Case] = &[
    ("a missing topic", missing),
    ("a broker that is not there", unreachable),
    ("a wrong password, a certificate of nobody's", refused),
    ("offsets that have expired", expired),
    ("offsets of all partitions that have expired", all_expired),
    ("offsets that expire under a running job", expiring),
    ("another topic than the checkpoint's", another),
    ("a topic made anew", recreated),
    ("a topic that goes away while it is read", gone),
    ("a topic made anew while it is read", replaced),
    ("properties that cannot be", properties),
    ("the definition of docs/kafka.md is valid", page),
];

fn missing(place: &mut Place) {
    let said = place.job("nowhere", "until: latest", "").refused();
    let brokers = place.broker.address();
    let expected = format!("there is no topic \"nowhere\" at {brokers}");
    assert!(said.contains(&expected), "{said}");
}

fn unreachable(place: &mut Place) {
    // Port 1 is nobody's.
    let job = place.job_at("127.0.0.1:1", "away", "connect_timeout: 1s", "");
    let said = job.refused();
    let expected = "topic \"away\" at 127.0.0.1:1 cannot be reached within 1 s: ";
    assert!(said.contains(expected), "{said}");
    assert!(said.to_lowercase().contains("refused"), "{said}");
}

fn refused(place: &mut Place) {
    place.broker.create("guarded", 1);
    let (address, options) = sealed(place, "Endpoint=sb://x/;SharedAccessKey=wrong-4711");
    let said = place.job_at(&address, "guarded", &options, "").refused();
    let expected = format!("topic \"guarded\" at {address}: access denied: ");
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("uthentication failed"), "{said}");
    assert!(!said.contains("4711"), "{said}");

    let (address, options) = sealed(place, thalweg_tests::kafka::PASSWORD);
    let own = options
        .lines()
        .filter(|line| !line.contains("ssl.ca.location"));
    let options = own.collect::<Vec<_>>().join("\n");
    let said = place.job_at(&address, "guarded", &options, "").refused();
    assert!(said.contains("access denied: "), "{said}");
    assert!(said.contains("certificate"), "{said}");
    assert!(!said.contains("SharedAccessKey="), "{said}");
}

fn expired(place: &mut Place) {
    place.broker.create("trimmed", 1);
    let job = place.job("trimmed", "start: earliest", "");
    let running = job.run(1).start();
    let lines = place.lines("trimmed", 0..100);
    place.broker.produce_lines("trimmed", 1, &lines);
    job.until_rows(100);
    Job::stop(running);
    let lines = place.lines("trimmed", 100..300);
    place.broker.produce_lines("trimmed", 1, &lines);
    place.broker.trim("trimmed", 0, 250);
    let said = job.refused();
    let expected =
        "topic \"trimmed\", partition 0: offset 100 has expired; the broker's oldest record is 250";
    assert!(said.contains(expected), "{said}");
    job.holds(0..100);

    let continuing = "start: earliest\n      on_data_loss: continue";
    job.define(&place.broker.address(), "trimmed", continuing, "");
    goes_on(&job, 150, 150);
    let expected = "offset 100 has expired; the broker's oldest record is 250";
    assert!(job.said().contains(expected), "{}", job.said());
    assert!(job.said().contains("lost=150"), "{}", job.said());
    let kept: Vec<u64> = (0..100).chain(250..300).collect();
    assert_eq!(job.numbers(), kept);
}

/// The brokers tell of all partitions at once, and each is to be read on.
fn all_expired(place: &mut Place) {
    place.broker.create("thinned", 3);
    let continuing = "start: earliest\n      on_data_loss: continue";
    let job = place.job("thinned", continuing, "");
    let running = job.run(1).start();
    let lines = place.lines("thinned", 0..300);
    place.broker.produce_lines("thinned", 3, &lines);
    job.until_rows(300);
    Job::stop(running);
    let lines = place.lines("thinned", 300..900);
    place.broker.produce_lines("thinned", 3, &lines);
    for partition in 0..3 {
        place.broker.trim("thinned", partition, 200);
    }
    goes_on(&job, 600, 300);
    let kept: Vec<u64> = (0..300).chain(600..900).collect();
    assert_eq!(job.numbers(), kept);
}

/// Two jobs fall so far behind that what they are about to read is no longer there.
fn expiring(place: &mut Place) {
    place.broker.create("passing", 1);
    let lines = place.lines("passing", 0..100);
    place.broker.produce_lines("passing", 1, &lines);
    let make = |on_data_loss: &str| {
        let options =
            format!("on_data_loss: {on_data_loss}\n      properties: {{ fetch.wait.max.ms: 100 }}");
        let job = place.job("passing", &options, "");
        let running = job.run(1).listen().start();
        job.until_rows(100);
        running.signal("STOP");
        (job, running)
    };
    let (fails, mut failing) = make("fail");
    let (continues, mut continuing) = make("continue");
    // Much longer than the broker holds a request: what is written from now on answers none of theirs.
    failing.live(Duration::from_secs(1));
    continuing.live(Duration::from_secs(1));
    let lines = place.lines("passing", 100..300);
    place.broker.produce_lines("passing", 1, &lines);
    place.broker.trim("passing", 0, 250);
    failing.signal("CONT");
    continuing.signal("CONT");
    let expected = "offset 100 has expired; the broker's oldest record is 250";
    let ended = failing.end();
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    assert!(ended.said.contains(expected), "{}", ended.said);
    fails.holds(0..100);
    lost(&continues, continuing, 150, 150);
    assert!(continues.said().contains(expected), "{}", continues.said());
    let kept: Vec<u64> = (0..100).chain(250..300).collect();
    assert_eq!(continues.numbers(), kept);
}

/// Runs a job that goes on past expired records until it has put out so many `rows` and counted all
/// that are `expired`.
fn goes_on(job: &Job, rows: usize, expired: u64) {
    let running = job.run(1).listen().start();
    lost(job, running, rows, expired);
}

/// Waits for so many rows of such a job, and for what it counts as lost; ends it.
fn lost(job: &Job, running: Running, rows: usize, expired: u64) {
    job.until_rows(rows);
    until("what is lost is counted", || {
        let metrics = running.get("/metrics");
        let mut lines = metrics.lines();
        let end = format!(" {expired}");
        lines.any(|line| line.starts_with("thalweg_records_lost_total{") && line.ends_with(&end))
    });
    Job::stop(running);
}

/// `plan` and a start tell it before they ask any broker: nobody has made the other topic.
fn another(place: &mut Place) {
    let (job, running) = reading(place, "former");
    Job::stop(running);
    let (topic, other) = ("sources.records.kafka.topic", "latter");
    let expected = "cannot go on with split \"partition 0\": kafka: the checkpoint is of topic \
                    \"former\", the definition says \"latter\"";
    let ended = job.run(1).set(topic, other).end();
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains(expected), "{}", ended.said);

    let mut plan = Command::new(binary("thalweg"));
    let changed = format!("{topic}={other}");
    let plan = plan.arg("plan").arg(job.path()).args(["--set", &changed]);
    let planned = plan.output().expect("the binary runs");
    assert_eq!(planned.status.code(), Some(1));
    let said = String::from_utf8_lossy(&planned.stdout);
    let mut rows = said.lines();
    let row = rows.find(|row| row.contains("records")).expect("a row");
    assert!(
        row.contains("incompatible") && row.contains(expected),
        "{said}"
    );
}

fn recreated(place: &mut Place) {
    place.broker.create("again", 3);
    let lines = place.lines("again", 0..300);
    place.broker.produce_lines("again", 3, &lines);
    let job = place.job("again", "start: earliest", "");
    let running = job.run(1).start();
    job.until_rows(300);
    Job::stop(running);

    place.broker.delete("again");
    place.broker.create("again", 3);
    // As many records again: the checkpoint's offsets are there, and are others.
    place.broker.produce_lines("again", 3, &lines);
    let said = job.refused();
    let expected = format!(
        "topic \"again\" at {} was made anew",
        place.broker.address()
    );
    assert!(said.contains(&expected), "{said}");
    job.holds(0..300);
}

fn gone(place: &mut Place) {
    let (job, running) = reading(place, "leaving");
    place.broker.delete("leaving");
    let ended = running.end();
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    let expected = format!("topic \"leaving\" at {} has gone", place.broker.address());
    assert!(ended.said.contains(&expected), "{}", ended.said);
    job.holds(0..100);
}

fn replaced(place: &mut Place) {
    let (job, running) = reading(place, "changing");
    place.broker.delete("changing");
    place.broker.create("changing", 1);
    // More than before: by offsets alone nobody could tell.
    let lines = place.lines("changing", 1000..1300);
    place.broker.produce_lines("changing", 1, &lines);
    let ended = running.end();
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    // On a slow machine the job may have looked in between.
    let told = ["was made anew", "has gone"].map(|word| ended.said.contains(word));
    assert!(told.contains(&true), "{}", ended.said);
    // Whatever it had read of the new one has become no output.
    job.holds(0..100);
}

/// A job that has read all of a topic and goes on.
fn reading(place: &mut Place, topic: &str) -> (Job, Running) {
    place.broker.create(topic, 1);
    let lines = place.lines(topic, 0..100);
    place.broker.produce_lines(topic, 1, &lines);
    let job = place.job(topic, "connect_timeout: 1s\n      discover_every: 1s", "");
    let running = job.run(1).start();
    job.until_rows(100);
    (job, running)
}

fn properties(place: &mut Place) {
    let options = "properties: { group.id: mine, security.protocl: SSL, fetch.wait.max.ms: soon }";
    let job = place.job("unread", options, "key: kee");
    let ended = Run::of(&job.path()).end();
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    for expected in [
        "\"group.id\" is not to be set: `group` says it",
        "no such configuration property: \"security.protocl\"",
        "invalid value",
        "this source has no metadata `kee`",
    ] {
        assert!(ended.said.contains(expected), "{expected}: {}", ended.said);
    }
}

fn page(place: &mut Place) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kafka.md");
    let text = std::fs::read_to_string(page).expect("the page");
    let job = text
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let path = place.folder.path().join("page.yaml");
    std::fs::write(&path, job.expect("a definition")).expect("a file");
    let mut validate = Command::new(binary("thalweg"));
    let said = validate
        .arg("validate")
        .arg(path)
        .output()
        .expect("the binary runs");
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
}
