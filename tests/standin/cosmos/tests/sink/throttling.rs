//! 429: obeyed to the millisecond, and nothing is lost to it.

use std::time::Duration;

use thalweg_standin_cosmos::Account;
use thalweg_standin_ledger::{Action, Entry, Matches, Rule};

use crate::bench::{Job, Row, Service, row};
use crate::delivery::n;

/// Requests for documents, all of which draw on the container's throughput.
const DOCUMENTS: [&str; 4] = ["read", "create", "replace", "batch"];

fn storm(probability: f64, retry_after_ms: u64) -> Vec<Rule> {
    let action = Action {
        status: Some(429),
        retry_after_ms: Some(retry_after_ms),
        ..Action::default()
    };
    let path = Some("/dbs/db/colls/things/docs".to_owned());
    let matches = Matches {
        operation: None,
        path,
    };
    vec![Rule {
        matches,
        action,
        skip: 0,
        probability,
        count: None,
    }]
}

fn rows(count: i64, kinds: i64, n: i64) -> Vec<Row> {
    (0..count)
        .map(|i| row(&format!("d{i}"), &format!("k{}", i % kinds), n + i))
        .collect()
}

#[tokio::test]
async fn no_request_comes_before_the_time_that_a_429_named() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    // With one request at a time there is none in flight while an answer travels.
    job.spec.limits.concurrency_max = 1;
    let attempt = job.start().await;
    service.plan(storm(0.4, 23));
    for n in [0, 100] {
        let unit = job.checkpoint(&rows(12, 5, n)).await;
        job.publish(&attempt, &unit).await;
    }
    let requests = service.requests(&DOCUMENTS);
    let mut throttled = 0;
    for pair in requests.windows(2) {
        let [before, after] = pair else { continue };
        if let Some(wait) = before.retry_after_ms {
            throttled += 1;
            let waited = after.received_us - before.recorded_us;
            assert!(
                waited >= wait * 1000,
                "asked again after {waited} µs: {after:?}"
            );
        }
    }
    assert!(throttled > 5, "the storm was no storm: {throttled}");
    assert_eq!(attempt.sink.counters().now().throttled, throttled);
    assert_eq!(n(&service, "k1", "d11").await, Some(111));
    service.check_history();
}

#[tokio::test]
async fn a_storm_over_many_requests_at_once_holds_them_all_and_loses_none() {
    const CONCURRENCY: usize = 8;
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    job.spec.limits.concurrency_max = CONCURRENCY;
    let attempt = job.start().await;
    service.plan(storm(0.3, 60));
    let unit = job.checkpoint(&rows(200, 100, 0)).await;
    job.publish(&attempt, &unit).await;
    assert_eq!(service.changes(), 200);
    // Those in flight when a 429 was recorded may still arrive within its pause; none follows.
    let requests = service.requests(&DOCUMENTS);
    for before in &requests {
        let Some(wait) = before.retry_after_ms else {
            continue;
        };
        let pause = before.recorded_us..before.recorded_us + wait * 1000;
        let arrived = |entry: &&Entry| pause.contains(&entry.received_us);
        let early: Vec<&Entry> = requests.iter().filter(arrived).collect();
        assert!(early.len() < CONCURRENCY, "{before:?}: {early:#?}");
    }
    service.check_history();
}

#[tokio::test]
async fn a_small_container_is_filled_as_fast_as_it_takes() {
    // The emulator's own accounting throttles here: a create costs about 6 request units.
    let container = "db/things:/kind:400";
    let service = Service::start_with(&[container], Account::default(), 0).await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    let unit = job.checkpoint(&rows(150, 150, 0)).await;
    job.publish(&attempt, &unit).await;
    assert_eq!(service.changes(), 150);
    assert!(
        attempt.sink.counters().now().throttled > 0,
        "{:?}",
        attempt.sink.counters().now()
    );
    service.check_history();
}

#[tokio::test]
async fn a_budget_of_request_units_is_kept() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    job.spec.request_units = Some(200.0);
    let attempt = job.start().await;
    let began = service.options.clock.elapsed();
    let unit = job.checkpoint(&rows(60, 60, 0)).await;
    job.publish(&attempt, &unit).await;
    let took = (service.options.clock.elapsed() - began).as_secs_f64();
    let used = attempt.sink.counters().now().request_units;
    // One request may overdraw by what it costs; the first second may be saved up.
    let least = (used - 200.0 * 1.0 - 100.0) / 200.0;
    assert!(
        took >= least && least > 0.2,
        "{used} request units in {took} s"
    );
    assert!(took < Duration::from_secs(20).as_secs_f64());
}
