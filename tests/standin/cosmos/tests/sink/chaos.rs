//! Replies lost and errors given at every request in turn, and then at random with two
//! generations at once: the documents end as they should, every time.

use std::collections::BTreeMap;

use thalweg_standin_cosmos::Account;
use thalweg_standin_ledger::{Action, Rule};
use thalweg_stream::Class;

use crate::bench::{CONTAINER, Job, Row, Service, row};

/// Three checkpoints over a dozen documents: batches, single writes, folds, older rows.
fn checkpoints() -> Vec<Vec<Row>> {
    let kind = |i: i64| format!("k{}", i % 4);
    let all = |n: i64| {
        (0..12)
            .map(|i| row(&format!("d{i}"), &kind(i), n + i))
            .collect()
    };
    let some = (0..12)
        .step_by(5)
        .map(|i| row(&format!("d{i}"), &kind(i), 50 + i))
        .collect();
    vec![all(100), some, all(200)]
}

fn expected(checkpoints: &[Vec<Row>]) -> BTreeMap<(String, String), i64> {
    let mut documents = BTreeMap::new();
    for row in checkpoints.iter().flatten() {
        let value = documents
            .entry((row.kind.clone(), row.name.clone()))
            .or_insert(row.n);
        *value = row.n.max(*value);
    }
    documents
}

async fn check(service: &Service, context: &str) {
    service.plan(Vec::new());
    for ((kind, name), value) in expected(&checkpoints()) {
        let found = service.raw().read(&kind, &name).await;
        let found = found.and_then(|document| document["n"].as_i64());
        assert_eq!(found, Some(value), "{context}: {name}");
    }
    service.check_history();
}

/// Runs the scenario with one fault at the `nth` request of any kind; whether it was reached.
async fn fault_at(nth: u64, action: Action) -> bool {
    let context = format!("{action:?} at request {nth}");
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let mut units = Vec::new();
    for rows in checkpoints() {
        units.push(job.checkpoint(&rows).await);
    }
    let mut rule = Rule::on("*", action, 1);
    rule.skip = nth;
    service.plan(vec![rule]);
    job.publish_whatever_happens(&units).await;
    let reached = service.acted() == 1;
    check(&service, &context).await;
    reached
}

/// Runs the scenario with a fault at every request in turn.
async fn fault_at_every_request(action: impl Fn(u64) -> Action) {
    let mut nth = 0;
    while fault_at(nth, action(nth)).await {
        nth += 1;
        assert!(nth < 500, "the scenario has no end");
    }
    assert!(nth > 20, "only {nth} requests were tried");
}

#[tokio::test]
async fn any_reply_may_be_lost() {
    fault_at_every_request(|_| Action {
        lost_reply: true,
        ..Action::default()
    })
    .await;
}

#[tokio::test]
async fn any_request_may_be_done_and_still_fail() {
    let action = Action {
        status: Some(503),
        apply: true,
        ..Action::default()
    };
    fault_at_every_request(|_| action.clone()).await;
}

#[tokio::test]
async fn any_request_may_fail() {
    fault_at_every_request(|nth| {
        let status = match nth % 3 {
            0 => 408,
            1 => 449,
            _ => 500,
        };
        Action {
            status: Some(status),
            ..Action::default()
        }
    })
    .await;
}

/// Two generations publish the same checkpoints at once, through lost replies, errors, throttling
/// and delays. The older one may be told so; the documents must not care.
async fn two_generations_at_once(seed: u64) {
    let service = Service::start_with(&[CONTAINER], Account::default(), seed).await;
    let mut job = Job::new(service.spec());
    let old = job.start().await;
    let mut units = Vec::new();
    for rows in checkpoints() {
        units.push(job.checkpoint(&rows).await);
    }
    let new = job.start().await;
    let sometimes = |probability: f64, action: Action| {
        let mut rule = Rule::on("*", action, u64::MAX);
        rule.probability = probability;
        rule
    };
    service.plan(vec![
        sometimes(
            0.08,
            Action {
                lost_reply: true,
                ..Action::default()
            },
        ),
        sometimes(
            0.05,
            Action {
                status: Some(500),
                apply: true,
                ..Action::default()
            },
        ),
        sometimes(
            0.05,
            Action {
                status: Some(449),
                ..Action::default()
            },
        ),
        sometimes(
            0.10,
            Action {
                status: Some(429),
                retry_after_ms: Some(5),
                ..Action::default()
            },
        ),
        sometimes(
            0.20,
            Action {
                delay_ms: 20,
                ..Action::default()
            },
        ),
    ]);
    let older = async {
        for unit in &units {
            match job.try_publish(&old, unit).await {
                Ok(published) => assert!(published.rejected.is_empty()),
                Err(fault) => {
                    assert_eq!(fault.class, Class::Fenced, "seed {seed}: {fault:?}");
                    return;
                }
            }
        }
    };
    let newer = async {
        for unit in &units {
            job.publish(&new, unit).await;
        }
    };
    tokio::join!(older, newer);
    check(&service, &format!("seed {seed}")).await;
}

#[tokio::test]
async fn two_generations_at_once_leave_the_documents_right() {
    for seed in 0..12 {
        two_generations_at_once(seed).await;
    }
}
