//! Crashes at every request of a publish, before and after it took effect: the next generation
//! finds out what happened, and rows stand there once.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Stage, StandIn, lost, once, publish, publisher, released};
use thalweg_standin_ledger::{Action, Rule};

/// Requests to storage: the worker's operations have no blank in their names.
const STORAGE: &str = "* *";
const REPOST_AFTER: Duration = Duration::from_millis(400);

fn hang(skip: u64) -> Rule {
    let action = Action {
        delay_ms: 3_600_000,
        ..Action::default()
    };
    let mut rule = Rule::on(STORAGE, action, u64::MAX);
    rule.skip = skip;
    rule
}

/// Publishes until request number `at`, and dies there; whether there was such a request.
async fn crash(standin: &StandIn, stage: &Arc<Stage>, at: u64, applied: bool) -> bool {
    let mut spec = standin.spec();
    spec.repost_after = REPOST_AFTER;
    let publisher = publisher(spec, 1).await;
    let unit = stage.unit(1, 0..30, 2).await;
    let hanging = if applied {
        let mut lose = Rule::on(STORAGE, lost(), 1);
        lose.skip = at;
        standin.faults(vec![lose, hang(at)]);
        1
    } else {
        standin.faults(vec![hang(at)]);
        0
    };
    let stage = stage.clone();
    let task = tokio::spawn(async move { publisher.publish(&released(&unit), &*stage).await });
    loop {
        if standin.options.faults.rules()[hanging].1 > 0 {
            task.abort();
            // The task is gone, and its connections with it.
            assert!(task.await.is_err());
            return true;
        }
        if task.is_finished() {
            task.await.unwrap().unwrap();
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn every_crash_point(applied: bool) -> u64 {
    let mut reached = 0;
    for at in 0..12 {
        let standin = StandIn::start().await;
        let stage = Arc::new(Stage::default());
        let crashed = crash(&standin, &stage, at, applied).await;
        reached += u64::from(crashed);
        standin.faults(Vec::new());
        let mut spec = standin.spec();
        spec.repost_after = REPOST_AFTER;
        let successor = publisher(spec, 2).await;
        let unit = stage.unit(1, 0..30, 2).await;
        publish(&*successor, &unit, &stage).await.unwrap();
        assert_eq!(
            standin.numbers().await,
            once(0..30),
            "request {at}, applied: {applied}"
        );
        assert_eq!(
            standin.applied("ingest"),
            1,
            "request {at}, applied: {applied}"
        );
        if !crashed {
            break;
        }
    }
    reached
}

#[tokio::test]
async fn a_crash_before_any_request_loses_and_doubles_nothing() {
    // Ask, upload, row, post, and the first look at the status.
    assert!(every_crash_point(false).await >= 5);
}

#[tokio::test]
async fn a_crash_after_any_request_loses_and_doubles_nothing() {
    assert!(every_crash_point(true).await >= 4);
}

#[tokio::test]
async fn a_crash_between_row_and_message_costs_repost_after_and_no_more() {
    let standin = StandIn::start().await;
    let stage = Arc::new(Stage::default());
    // Ask, upload, row; dead before the message.
    assert!(crash(&standin, &stage, 3, false).await);
    assert_eq!(
        (
            standin.applied("INSERT entity"),
            standin.applied("POST message")
        ),
        (1, 0)
    );
    standin.faults(Vec::new());
    let mut spec = standin.spec();
    spec.repost_after = REPOST_AFTER;
    let successor = publisher(spec, 2).await;
    let unit = stage.unit(1, 0..30, 2).await;
    publish(&*successor, &unit, &stage).await.unwrap();
    assert_eq!(standin.numbers().await, once(0..30));
    assert_eq!(
        (
            standin.applied("INSERT entity"),
            standin.applied("POST message")
        ),
        (2, 1)
    );
}
