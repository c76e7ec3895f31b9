//! What arrives: documents, folded, deleted, batched, and only once.

use serde_json::{Value, json};
use thalweg_stream::schema::DELETE;

use crate::bench::{Job, Row, Service, row};

#[tokio::test]
async fn documents_hold_the_rows_columns_an_id_and_a_stamp() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    let unit = job
        .checkpoint(&[row("bus/7 #1", "bus", 5), row("tram ", "tram", 6)])
        .await;
    job.publish(&attempt, &unit).await;

    let raw = service.raw();
    let bus = raw.read("bus", "bus~2F7 ~231").await.expect("written");
    for (field, value) in [
        ("id", json!("bus~2F7 ~231")),
        ("name", json!("bus/7 #1")),
        ("kind", json!("bus")),
        ("n", json!(5)),
    ] {
        assert_eq!(bus[field], value, "{field}");
    }
    let stamp = &bus["_thalweg"];
    assert_eq!(stamp["lineage"], "0123456789ab");
    assert_eq!(
        (&stamp["generation"], &stamp["epoch"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&stamp["job"], &stamp["sink"]),
        (&json!("job"), &json!("sink"))
    );
    assert_eq!(raw.read("tram", "tram~20").await.expect("written")["n"], 6);

    let counters = attempt.sink.counters().now();
    assert_eq!(
        (counters.written, counters.superseded, counters.rejected),
        (2, 0, 0)
    );
    assert!(
        counters.request_units > 2.0 && counters.requests >= 4,
        "{counters:?}"
    );
    service.check_history();
}

#[tokio::test]
async fn any_text_names_a_document() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    let names = [
        "Zürich 100%",
        "a+b&c=d",
        "%2F",
        "..",
        "~",
        "\u{1F6F0}",
        "tab\there",
        "\"quoted\"",
        "x;y,z:w@v",
    ];
    for (round, kind) in ["k", "Bahn/Süd?"].into_iter().enumerate() {
        let n = i64::try_from(round).expect("small");
        let rows: Vec<Row> = names.iter().map(|name| row(name, kind, n)).collect();
        let unit = job.checkpoint(&rows).await;
        job.publish(&attempt, &unit).await;
        // Again, by a start that knows nothing and must read each.
        let later = job.start().await;
        job.publish(&later, &unit).await;
        assert_eq!(later.sink.counters().now().unchanged, names.len() as u64);
    }
    assert_eq!(service.changes(), 2 * names.len());
    let found = service
        .raw()
        .read("k", "Zürich 100%")
        .await
        .expect("written");
    assert_eq!(found["name"], "Zürich 100%");
    service.check_history();
}

#[tokio::test]
async fn the_newest_row_wins_within_and_across_checkpoints() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    let rows = [
        row("a", "k", 3),
        row("a", "k", 9),
        row("a", "k", 4),
        row("b", "k", 1),
    ];
    let first = job.checkpoint(&rows).await;
    let second = job.checkpoint(&[row("a", "k", 8), row("b", "k", 2)]).await;
    job.publish(&attempt, &first).await;
    job.publish(&attempt, &second).await;
    assert_eq!(
        n(&service, "k", "a").await,
        Some(9),
        "the older row of the later checkpoint"
    );
    assert_eq!(n(&service, "k", "b").await, Some(2));
    assert_eq!(service.changes(), 3, "folded rows are written once");
    assert_eq!(attempt.sink.counters().now().superseded, 1);
    service.check_history();
}

#[tokio::test]
async fn deletions_leave_a_tombstone_that_expires_and_that_older_rows_do_not_lift() {
    let service = Service::start().await;
    let mut job = Job::of_changes(service.spec());
    let attempt = job.start().await;
    let first = job.checkpoint(&[row("a", "k", 1), row("b", "k", 1)]).await;
    let gone = Row {
        change: DELETE,
        ..row("a", "k", 2)
    };
    let second = job.checkpoint(&[gone]).await;
    job.publish(&attempt, &first).await;
    job.publish(&attempt, &second).await;

    let raw = service.raw();
    let tombstone = raw.read("k", "a").await.expect("a tombstone");
    assert_eq!(tombstone["_thalweg"]["deleted"], true);
    assert_eq!(tombstone["ttl"], 7 * 24 * 3600);
    assert_eq!(tombstone["n"], Value::Null, "its columns are gone");

    // A start after a crash is given the first checkpoint again.
    let again = job.start().await;
    job.publish(&again, &first).await;
    assert_eq!(
        raw.read("k", "a").await.expect("still")["_thalweg"]["deleted"],
        true
    );
    let third = job.checkpoint(&[row("a", "k", 3)]).await;
    job.publish(&again, &second).await;
    job.publish(&again, &third).await;
    let back = raw.read("k", "a").await.expect("back");
    assert_eq!((&back["n"], &back["ttl"]), (&json!(3), &Value::Null));
    service.check_history();
}

#[tokio::test]
async fn publishing_again_changes_nothing() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    let rows: Vec<Row> = (0..40)
        .map(|i| row(&format!("d{i}"), &format!("k{}", i % 3), i))
        .collect();
    let first = job.checkpoint(&rows).await;
    let newer: Vec<Row> = (0..40)
        .step_by(2)
        .map(|i| row(&format!("d{i}"), &format!("k{}", i % 3), 100 + i))
        .collect();
    let second = job.checkpoint(&newer).await;
    job.publish(&attempt, &first).await;
    job.publish(&attempt, &second).await;
    let changes = service.changes();
    assert_eq!(changes, 60);

    job.publish(&attempt, &second).await;
    let later = job.start().await;
    job.publish(&later, &first).await;
    job.publish(&later, &second).await;
    assert_eq!(service.changes(), changes, "not even an etag");
    let counters = later.sink.counters().now();
    assert_eq!(
        (counters.written, counters.unchanged, counters.superseded),
        (0, 40, 20)
    );
    service.check_history();
}

#[tokio::test]
async fn one_partition_key_is_written_in_batches_of_a_hundred() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    let rows: Vec<Row> = (0..250).map(|i| row(&format!("d{i}"), "one", i)).collect();
    let unit = job.checkpoint(&rows).await;
    job.publish(&attempt, &unit).await;
    let batches: Vec<usize> = (service.requests(&["batch"]).iter())
        .map(|entry| entry.details["writes"].as_array().expect("writes").len())
        .collect();
    assert_eq!(batches.iter().sum::<usize>(), 250);
    assert!(batches.iter().all(|&size| size <= 100), "{batches:?}");
    assert_eq!(service.requests(&["create", "replace", "upsert"]).len(), 0);
    assert_eq!(n(&service, "one", "d249").await, Some(249));

    // Their etags are remembered, so the next checkpoint costs no reads.
    let reads = service.requests(&["read"]).len();
    let rows: Vec<Row> = (0..250)
        .map(|i| row(&format!("d{i}"), "one", 1000 + i))
        .collect();
    let unit = job.checkpoint(&rows).await;
    job.publish(&attempt, &unit).await;
    assert_eq!(service.requests(&["read"]).len(), reads);
    assert_eq!(n(&service, "one", "d0").await, Some(1000));
    service.check_history();
}

#[tokio::test]
async fn large_documents_are_batched_by_size() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    job.schema.columns[2].column_type = thalweg_stream::ColumnType::Int64;
    job.spec.id = "n".into();
    let attempt = job.start().await;
    // 300 KiB each: seven would not fit one request.
    let rows: Vec<Row> = (0..9)
        .map(|i| row(&"x".repeat(300 << 10), "big", i))
        .collect();
    let unit = job.checkpoint(&rows).await;
    let published = job.publish(&attempt, &unit).await;
    assert!(published.rejected.is_empty(), "{:?}", published.rejected);
    assert_eq!(service.changes(), 9);
    assert_eq!(
        service.requests(&["create"]).len(),
        0,
        "none had to go singly"
    );
    let found = service.raw().read("big", "8").await.expect("written");
    assert_eq!(found["name"].as_str().map(str::len), Some(300 << 10));
}

#[tokio::test]
async fn without_its_guard_the_sink_writes_blindly() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    job.spec.guard = false;
    let attempt = job.start().await;
    assert!(!thalweg_stream::Sink::capabilities(&attempt.sink).exactly_once);
    let unit = job
        .checkpoint(&[row("a", "k", 1), row("b", "k", 1), row("c", "other", 1)])
        .await;
    job.publish(&attempt, &unit).await;
    job.publish(&attempt, &unit).await;
    assert_eq!(service.requests(&["read"]).len(), 0);
    assert_eq!(service.changes(), 6);
    assert_eq!(n(&service, "other", "c").await, Some(1));
}

pub(crate) async fn n(service: &Service, key: &str, id: &str) -> Option<i64> {
    service
        .raw()
        .read(key, id)
        .await
        .and_then(|document| document["n"].as_i64())
}
