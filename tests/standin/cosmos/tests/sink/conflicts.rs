//! Somebody else writes the same documents at the same moment.

use serde_json::json;
use thalweg_standin_ledger::{Action, Rule};

use crate::bench::{Job, Row, Service, row, until};
use crate::delivery::n;

/// Holds the next request of this operation up on the way.
fn hold_up(operation: &str) -> Vec<Rule> {
    vec![Rule::on(
        operation,
        Action {
            delay_ms: 400,
            ..Action::default()
        },
        1,
    )]
}

async fn seeded(service: &Service, count: i64) -> (Job, crate::bench::Attempt) {
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    let rows: Vec<Row> = (0..count).map(|i| row(&format!("d{i}"), "k", i)).collect();
    let unit = job.checkpoint(&rows).await;
    job.publish(&attempt, &unit).await;
    (job, attempt)
}

#[tokio::test]
async fn a_newer_row_that_arrives_first_stays() {
    let service = Service::start().await;
    let (mut job, attempt) = seeded(&service, 1).await;
    let unit = job.checkpoint(&[row("d0", "k", 50)]).await;
    service.plan(hold_up("replace"));
    let meanwhile = async {
        until("the write is on its way", || service.acted() == 1).await;
        let mut there = service.raw().read("k", "d0").await.expect("seeded");
        there["n"] = json!(99);
        there["_thalweg"]["order"] = json!("ff");
        service.raw().upsert("k", &there).await;
    };
    let (_, _) = tokio::join!(job.publish(&attempt, &unit), meanwhile);
    assert_eq!(n(&service, "k", "d0").await, Some(99));
    assert_eq!(attempt.sink.counters().now().superseded, 1);
    service.check_history();
}

#[tokio::test]
async fn a_document_that_is_not_ours_is_overwritten_under_its_etag() {
    let service = Service::start().await;
    let raw = service.raw();
    raw.upsert(
        "k",
        &json!({ "id": "d0", "kind": "k", "n": 7, "note": "by hand" }),
    )
    .await;
    raw.upsert(
        "k",
        &json!({ "id": "d1", "kind": "k", "_thalweg": "mischief" }),
    )
    .await;
    let (_, attempt) = seeded(&service, 2).await;
    let there = raw.read("k", "d0").await.expect("written");
    assert_eq!((&there["n"], &there["note"]), (&json!(0), &json!(null)));
    assert_eq!(n(&service, "k", "d1").await, Some(1));
    assert_eq!(attempt.sink.counters().now().written, 2);
    let blind = service
        .requests(&["replace"])
        .iter()
        .any(|e| e.details["writes"][0]["if_match"].is_null());
    assert!(!blind, "every replace names a version");
}

#[tokio::test]
async fn one_conflict_in_the_middle_of_a_batch_loses_none_of_its_rows() {
    let service = Service::start().await;
    let (mut job, attempt) = seeded(&service, 20).await;
    let rows: Vec<Row> = (0..20)
        .map(|i| row(&format!("d{i}"), "k", 100 + i))
        .collect();
    let unit = job.checkpoint(&rows).await;
    service.plan(hold_up("batch"));
    let meanwhile = async {
        until("the batch is on its way", || service.acted() == 1).await;
        // One is changed by hand, one gets a newer row, one is deleted and made again.
        let raw = service.raw();
        raw.upsert("k", &json!({ "id": "d4", "kind": "k", "n": -1 }))
            .await;
        let mut newer = raw.read("k", "d9").await.expect("seeded");
        newer["n"] = json!(999);
        newer["_thalweg"]["order"] = json!("ff");
        raw.upsert("k", &newer).await;
    };
    let (published, ()) = tokio::join!(job.publish(&attempt, &unit), meanwhile);
    assert!(published.rejected.is_empty());
    for i in 0..20 {
        let expected = if i == 9 { 999 } else { 100 + i };
        assert_eq!(
            n(&service, "k", &format!("d{i}")).await,
            Some(expected),
            "d{i}"
        );
    }
    assert_eq!(attempt.sink.counters().now().superseded, 1);
    service.check_history();
}

#[tokio::test]
async fn a_stamp_of_a_later_format_is_not_overwritten() {
    let service = Service::start().await;
    service
        .raw()
        .upsert(
            "k",
            &json!({ "id": "d0", "kind": "k", "_thalweg": { "v": 2 } }),
        )
        .await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    let unit = job.checkpoint(&[row("d0", "k", 1)]).await;
    let fault = job.try_publish(&attempt, &unit).await.expect_err("refused");
    assert!(fault.message.contains("format 2"), "{fault:?}");
    assert_eq!(n(&service, "k", "d0").await, None);
}
