//! Crashes at every request of a publish, before and after it took effect: the next generation
//! finds out what happened, and rows stand there once.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::{
    Stage, StandIn, lost, once, publish, publisher, publisher_in, released, wait_until,
};
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

/// Publishes until request number `at`, and dies there; whether there was such a request. Other
/// faults hold besides.
async fn crash(
    standin: &StandIn,
    stage: &Arc<Stage>,
    at: u64,
    applied: bool,
    others: Vec<Rule>,
) -> bool {
    let mut spec = standin.spec();
    spec.repost_after = REPOST_AFTER;
    let publisher = publisher(spec, 1).await;
    let unit = stage.unit(1, 0..30, 2).await;
    let mut rules = Vec::new();
    if applied {
        let mut lose = Rule::on(STORAGE, lost(), 1);
        lose.skip = at;
        rules.push(lose);
    }
    let hanging = rules.len();
    rules.push(hang(at));
    rules.extend(others);
    standin.faults(rules);
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
        let crashed = crash(&standin, &stage, at, applied, Vec::new()).await;
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

/// A crash at request `at` while the worker is slow with the first message, and a successor so
/// much later: how many messages and rows of status there are then, and that the numbers are there once.
async fn succeed_later(at: u64, later: Duration) -> (usize, usize) {
    let standin = StandIn::start().await;
    let stage = Arc::new(Stage::default());
    let slow = Action {
        delay_ms: 4_000,
        ..Action::default()
    };
    let slow = vec![Rule::on("ingest", slow, 1)];
    assert!(crash(&standin, &stage, at, false, slow).await);
    // The worker has begun with what has been posted, and is slow.
    let posted = standin.applied("POST message");
    wait_until(|| standin.options.faults.rules()[1].1 == posted as u64).await;
    standin.faults(Vec::new());
    // Nothing is posted again because of its age alone.
    let successor = publisher_in(standin.spec(), 2, later).await;
    let unit = stage.unit(1, 0..30, 2).await;
    publish(&*successor, &unit, &stage).await.unwrap();
    let messages = standin.applied("POST message");
    wait_until(|| standin.entries("ingest").len() == messages).await;
    assert_eq!(standin.numbers().await, once(0..30));
    assert_eq!(standin.applied("ingest"), 1);
    (messages, standin.applied("INSERT entity"))
}

#[tokio::test]
async fn a_message_that_never_left_is_posted_soon_after_a_crash() {
    // Ask, upload, row; dead before the message. Both have a row, the second a mark.
    let posted = succeed_later(3, Duration::from_secs(6)).await;
    assert_eq!(posted, (1, 3));
}

#[tokio::test]
async fn a_message_that_may_have_left_is_posted_again_and_its_rows_stand_once() {
    // Dead between message and mark.
    let posted = succeed_later(4, Duration::from_secs(6)).await;
    assert_eq!(posted, (2, 3));
}

#[tokio::test]
async fn a_message_that_has_left_is_waited_for() {
    // Dead after the mark.
    let posted = succeed_later(5, Duration::from_secs(6)).await;
    assert_eq!(posted, (1, 2));
}
