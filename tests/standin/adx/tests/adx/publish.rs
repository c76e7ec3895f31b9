//! Publishing when everything works and when single steps go wrong: rows stand there once.

use std::time::Duration;

use crate::harness::{
    Stage, StandIn, batch, context, lineage, lost, once, publish, publisher, released, schema,
    status, wait_until,
};
use serde_json::json;
use thalweg_adx::AdxSink;
use thalweg_standin_ledger::{Action, Matches, Rule};
use thalweg_stream::sink::PublishUnit;
use thalweg_stream::{Class, Epoch, Sink};

#[tokio::test]
async fn a_unit_is_one_blob_with_one_tag_and_its_rows_are_visible() {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    let publisher = publisher(standin.spec(), 1).await;
    for epoch in [1, 2] {
        let first = i64::try_from(epoch).unwrap() * 100;
        let unit = stage.unit(epoch, first..first + 10, 3).await;
        publish(&*publisher, &unit, &stage).await.unwrap();
        // A unit whose confirmation was lost with a manifest is given again.
        publish(&*publisher, &unit, &stage).await.unwrap();
    }
    let mut expected = once(100..110);
    expected.extend(once(200..210));
    assert_eq!(standin.numbers().await, expected);
    let by_tag = standin
        .ask("Telemetry | summarize c = count() by t = tostring(extent_tags()) | order by t asc")
        .await;
    let tags: Vec<_> = by_tag
        .rows
        .iter()
        .map(|row| row[0].as_str().unwrap())
        .collect();
    assert_eq!(
        tags,
        [
            "[\"ingest-by:roads/0123456789ab/history/1/0\"]",
            "[\"ingest-by:roads/0123456789ab/history/2/0\"]"
        ]
    );
    let typed = standin
        .ask("Telemetry | where n == 105 | project device, event_time")
        .await;
    assert_eq!(
        typed.rows,
        [vec![json!("d"), json!("1970-01-01T00:01:45Z")]]
    );
    assert_eq!(
        (standin.applied("PUT blob"), standin.applied("POST message")),
        (2, 2)
    );
    let ingested = standin.entries("ingest");
    assert!(
        ingested
            .iter()
            .all(|e| e.details["outcome"] == "applied" && e.details["rows"] == 10)
    );
    let blobs: Vec<_> = ingested
        .iter()
        .map(|e| e.details["blob"].as_str().unwrap())
        .collect();
    let own =
        ["e1", "e2"].map(|e| format!("/ingestdata-0/roads/0123456789ab/history/{e}/0-a0.json.gz"));
    assert!(
        own.iter()
            .all(|o| blobs.iter().any(|b| b.ends_with(o.as_str()))),
        "{blobs:?}"
    );
}

#[tokio::test]
async fn an_empty_unit_asks_for_nothing() {
    let standin = StandIn::start().await;
    let publisher = publisher(standin.spec(), 1).await;
    let unit = PublishUnit {
        lineage: lineage(),
        epoch: Epoch(1),
        objects: Vec::new(),
    };
    publish(&*publisher, &unit, &Stage::default())
        .await
        .unwrap();
    assert_eq!(standin.applied("PUT blob"), 0);
}

#[tokio::test]
async fn a_large_unit_is_uploaded_in_blocks() {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    // What does not compress: 12 MB in several objects.
    let mut state = 7u64;
    let mut letters = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + (state >> 58) as u8)
    };
    let devices: Vec<String> = (0..2)
        .map(|_| (0..900_000).map(&mut letters).collect())
        .collect();
    let batches: Vec<_> = (0..16)
        .map(|n| batch(n..n + 1, devices.get(n as usize % 2).unwrap()))
        .collect();
    let mut objects = stage.stage(1, 0, &batches[..8]).await;
    objects.extend(stage.stage(1, 1, &batches[8..]).await);
    let unit = PublishUnit {
        lineage: lineage(),
        epoch: Epoch(1),
        objects,
    };
    let publisher = publisher(standin.spec(), 1).await;
    // One block fails, and the list's reply is lost.
    standin.faults(vec![
        Rule::on("PUT block", status(503), 1),
        Rule::on("PUT blocklist", lost(), 1),
    ]);
    publish(&*publisher, &unit, &stage).await.unwrap();
    assert_eq!(standin.numbers().await, once(0..16));
    assert!(standin.applied("PUT block") >= 2);
    assert_eq!(standin.applied("PUT blob"), 0);
    let lengths = standin
        .ask("Telemetry | where strlen(device) == 900000 | count")
        .await;
    assert_eq!(lengths.count(), Some(16));
}

async fn one_failure(operation: &'static str, name: &'static str, action: Action) {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    let mut spec = standin.spec();
    // A message of unknown fate is posted again after this time, never before.
    spec.repost_after = Duration::from_millis(400);
    let publisher = publisher(spec, 1).await;
    let unit = stage.unit(1, 0..20, 2).await;
    standin.faults(vec![Rule::on(operation, action, 2)]);
    publish(&*publisher, &unit, &stage).await.unwrap();
    assert_eq!(standin.numbers().await, once(0..20), "{operation} {name}");
    let acted = standin.options.faults.rules()[0].1;
    assert!(acted >= 1, "{operation} {name} never happened");
}

/// Every request of a publish, lost after it took effect or refused before it did, twice.
#[tokio::test]
async fn single_failures_of_every_request_change_nothing() {
    let mut cases = tokio::task::JoinSet::new();
    for operation in [
        "GET entity",
        "mgmt",
        "PUT blob",
        "INSERT entity",
        "POST message",
        "deliver",
        "ingest",
    ] {
        for (name, action) in [
            ("lost", lost()),
            ("429", status(429)),
            ("500", status(500)),
            ("503", status(503)),
        ] {
            cases.spawn(one_failure(operation, name, action));
        }
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test]
async fn duplicate_and_late_deliveries_are_skipped_by_the_tag() {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    let publisher = publisher(standin.spec(), 1).await;
    standin.faults(vec![
        Rule::on("deliver", lost(), 3),
        Rule::on(
            "report",
            Action {
                delay_ms: 200,
                ..Action::default()
            },
            1,
        ),
    ]);
    let unit = stage.unit(1, 0..5, 1).await;
    publish(&*publisher, &unit, &stage).await.unwrap();
    // The queue has not done with it yet.
    let skipped = || {
        standin
            .entries("ingest")
            .iter()
            .filter(|e| e.details["outcome"] == "skipped")
            .count()
    };
    wait_until(|| skipped() >= 3).await;
    assert_eq!(standin.numbers().await, once(0..5));
    assert_eq!(standin.applied("ingest"), 1);
    // Rows are there and the row of status says skipped: a new process is content with that.
    publish(&*publisher, &unit, &stage).await.unwrap();
    assert_eq!(standin.applied("POST message"), 1);
}

#[tokio::test]
async fn nothing_is_posted_twice_before_repost_after() {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    // The worker is slow: the first message is pending for longer than `repost_after`.
    let slow = Action {
        delay_ms: 900,
        ..Action::default()
    };
    standin.faults(vec![Rule::on("ingest", slow, 1)]);
    let mut spec = standin.spec();
    spec.repost_after = Duration::from_millis(300);
    let publisher = publisher(spec, 1).await;
    let unit = stage.unit(1, 0..5, 1).await;
    publish(&*publisher, &unit, &stage).await.unwrap();
    assert_eq!(standin.applied("POST message"), 2);
    // The late one comes when the rows are there, and is skipped.
    wait_until(|| standin.entries("ingest").len() >= 2).await;
    assert_eq!(
        (standin.applied("ingest"), standin.numbers().await),
        (1, once(0..5))
    );
    let posts: Vec<u64> = standin
        .entries("POST message")
        .iter()
        .map(|e| e.recorded_us)
        .collect();
    assert!(posts[1] - posts[0] >= 300_000, "{posts:?}");
}

#[tokio::test]
async fn of_two_publishers_of_one_unit_one_posts() {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    let unit = stage.unit(1, 0..50, 2).await;
    // A frozen process that thaws beside its successor.
    let (old, new) = (
        publisher(standin.spec(), 1).await,
        publisher(standin.spec(), 2).await,
    );
    let (a, b) = tokio::join!(publish(&*old, &unit, &stage), publish(&*new, &unit, &stage));
    assert_eq!((a, b), (Ok(()), Ok(())));
    assert_eq!(standin.numbers().await, once(0..50));
    assert_eq!(standin.applied("POST message"), 1);
}

#[tokio::test]
async fn two_sinks_may_feed_one_table() {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    for (sink, numbers) in [("history", 0..5), ("alarms", 5..9)] {
        let mut context = context(1);
        context.sink = sink.into();
        let publisher = AdxSink::new(standin.spec(), schema())
            .unwrap()
            .publisher(context)
            .await
            .unwrap();
        let unit = stage.unit(1, numbers, 1).await;
        publish(&*publisher, &unit, &stage).await.unwrap();
    }
    assert_eq!(standin.numbers().await, once(0..9));
}

async fn fails_twice(code: u16) {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    let sink = AdxSink::new(standin.spec(), schema()).unwrap();
    let publisher = sink.publisher(context(1)).await.unwrap();
    standin.faults(vec![Rule::on("ingest", status(code), 2)]);
    let unit = stage.unit(1, 0..5, 1).await;
    publish(&*publisher, &unit, &stage).await.unwrap();
    assert_eq!(standin.numbers().await, once(0..5), "{code}");
    let entries = standin.entries("ingest");
    let tags: std::collections::BTreeSet<_> = entries
        .iter()
        .map(|e| e.details["tags"].to_string())
        .collect();
    assert_eq!((entries.len(), tags.len()), (3, 1), "{code}");
    let counted = sink.counters().now();
    let ingestions = (
        counted.posted,
        counted.failed,
        counted.succeeded,
        counted.skipped,
    );
    assert_eq!((ingestions, counted.rows), ((3, 2, 1, 0), 5), "{code}");
    let blobs: std::collections::BTreeSet<_> = entries
        .iter()
        .map(|e| e.details["blob"].to_string())
        .collect();
    assert_eq!(blobs.len(), 3, "each attempt has a blob of its own: {code}");
}

#[tokio::test]
async fn failures_of_ingestion_are_repeated_under_the_same_tag() {
    let mut cases = tokio::task::JoinSet::new();
    for code in [500, 410, 404, 403, 401] {
        cases.spawn(fails_twice(code));
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

#[tokio::test]
async fn a_failure_reported_after_a_commit_is_no_failure() {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    let publisher = publisher(standin.spec(), 1).await;
    let applied_but_failed = Action {
        status: Some(400),
        apply: true,
        ..Action::default()
    };
    standin.faults(vec![Rule::on("ingest", applied_but_failed, 1)]);
    let unit = stage.unit(1, 0..5, 1).await;
    publish(&*publisher, &unit, &stage).await.unwrap();
    assert_eq!(
        (standin.numbers().await, standin.applied("POST message")),
        (once(0..5), 1)
    );
}

#[tokio::test]
async fn what_the_service_refuses_for_good_stops_the_job_until_the_next_start() {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    let first = publisher(standin.spec(), 1).await;
    standin.faults(vec![Rule::on("ingest", status(400), 1)]);
    let unit = stage.unit(1, 0..5, 1).await;
    let fault = publish(&*first, &unit, &stage).await.expect_err("refused");
    assert_eq!(fault.class, Class::User);
    for part in [
        "\"Telemetry\"",
        "BadRequest_InvalidBlob",
        "roads/0123456789ab/history/1/0",
    ] {
        assert!(fault.message.contains(part), "{fault}");
    }
    assert!(!fault.message.contains("sig="), "{fault}");
    assert_eq!(standin.numbers().await, once(0..0));
    // The user has mended what was wrong and starts again.
    let second = publisher(standin.spec(), 2).await;
    publish(&*second, &unit, &stage).await.unwrap();
    assert_eq!(standin.numbers().await, once(0..5));
}

#[tokio::test]
async fn refused_signatures_are_renewed_and_another_account_is_tried() {
    let standin = StandIn::start().await;
    let stage = Stage::default();
    let publisher = publisher(standin.spec(), 1).await;
    let rule = |operation: &str, action, path: Option<&str>| {
        let mut rule = Rule::on(operation, action, 1);
        rule.matches = Matches {
            operation: Some(operation.to_owned()),
            path: path.map(str::to_owned),
        };
        rule
    };
    standin.faults(vec![
        rule("INSERT entity", status(403), None),
        rule("POST message", status(403), None),
        Rule {
            count: None,
            ..rule("PUT blob", status(503), Some("/adxblobs0"))
        },
    ]);
    for epoch in 1..5 {
        let first = i64::try_from(epoch).unwrap() * 10;
        let unit = stage.unit(epoch, first..first + 1, 1).await;
        publish(&*publisher, &unit, &stage).await.unwrap();
    }
    assert_eq!(standin.numbers().await.len(), 4);
    let put = standin.entries("PUT blob");
    let sizes = put
        .iter()
        .filter(|e| e.applied)
        .map(|e| e.details["bytes"].as_u64().unwrap());
    assert!(
        sizes.min().unwrap() > 30,
        "no retry may upload an empty blob"
    );
    assert!(put.iter().any(|e| !e.applied), "both accounts were tried");
}

#[tokio::test]
async fn a_corrupt_stage_is_not_published() {
    let standin = StandIn::start().await;
    let publisher = publisher(standin.spec(), 1).await;
    let unit = Stage::default().unit(1, 0..5, 1).await;
    let fault = publisher
        .publish(&released(&unit), &Stage::default())
        .await
        .expect_err("missing");
    assert_eq!(fault.class, Class::Corrupt);
    assert_eq!(standin.applied("POST message"), 0);
}
