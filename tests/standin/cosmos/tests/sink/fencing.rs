//! A process that was thought dead goes on: what it still sends changes nothing.

use thalweg_standin_ledger::{Action, Rule};
use thalweg_stream::Class;

use crate::bench::{Job, Row, Service, row, until};
use crate::delivery::n;

/// Requests that write are held up this long on the way, as in the sockets of a frozen process.
fn freeze(operation: &str) -> Vec<Rule> {
    vec![Rule::on(
        operation,
        Action {
            delay_ms: 700,
            ..Action::default()
        },
        1,
    )]
}

fn rows(n: i64, names: &[&str]) -> Vec<Row> {
    names.iter().map(|name| row(name, "k", n)).collect()
}

/// Generation 1 sends a write that arrives only after generation 2 has published everything.
async fn late_write_is_fenced(operation: &str, names: &[&str], cold: bool) {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let old = job.start().await;
    let first = job.checkpoint(&rows(1, names)).await;
    if !cold {
        job.publish(&old, &first).await;
    }
    let second = job.checkpoint(&rows(2, names)).await;
    let third = job.checkpoint(&rows(3, names)).await;
    let new = job.start().await;

    service.plan(freeze(operation));
    let successor = async {
        until("the old one's write is on its way", || service.acted() == 1).await;
        for unit in [&first, &second, &third] {
            job.publish(&new, unit).await;
        }
    };
    let (late, ()) = tokio::join!(job.try_publish(&old, &second), successor);
    let fault = late.expect_err("the old one must learn that it is old");
    assert_eq!(fault.class, Class::Fenced, "{fault:?}");
    assert!(fault.message.contains("generation 2"), "{fault:?}");
    for name in names {
        assert_eq!(n(&service, "k", name).await, Some(3), "{name}");
    }
    let by_old = (service.entries().iter())
        .filter(|e| e.applied && e.details["writes"][0]["stamp"]["generation"] == 1)
        .count();
    assert_eq!(by_old, usize::from(!cold), "the late write is not applied");
    service.check_history();
}

#[tokio::test]
async fn a_late_replace_is_fenced() {
    late_write_is_fenced("replace", &["a"], false).await;
}

#[tokio::test]
async fn a_late_create_is_fenced() {
    late_write_is_fenced("create", &["a"], true).await;
}

#[tokio::test]
async fn a_late_batch_is_fenced() {
    late_write_is_fenced("batch", &["a", "c", "e"], false).await;
    late_write_is_fenced("batch", &["a", "c", "e"], true).await;
}

#[tokio::test]
async fn a_zombie_that_reads_first_is_fenced_too() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let old = job.start().await;
    let first = job.checkpoint(&rows(1, &["a", "b"])).await;
    let second = job.checkpoint(&rows(2, &["a", "b"])).await;
    let new = job.start().await;
    job.publish(&new, &first).await;
    job.publish(&new, &second).await;
    let changes = service.changes();
    for unit in [&first, &second] {
        let fault = job.try_publish(&old, unit).await.expect_err("fenced");
        assert_eq!(fault.class, Class::Fenced);
    }
    assert_eq!(service.changes(), changes);
}

#[tokio::test]
async fn a_new_history_overwrites_the_old_one_and_fences_it() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let old = job.start().await;
    let ahead = job.checkpoint(&rows(90, &["a"])).await;
    job.publish(&old, &ahead).await;
    let beyond = job.checkpoint(&rows(91, &["a"])).await;

    // Started from an older checkpoint: what it computes counts, though it looks older.
    job.lineage = "ba9876543210";
    let new = job.start().await;
    let replayed = job.checkpoint(&rows(40, &["a"])).await;
    job.publish(&new, &replayed).await;
    assert_eq!(n(&service, "k", "a").await, Some(40));

    let fault = job
        .try_publish(&old, &beyond)
        .await
        .expect_err("the old history is over");
    assert_eq!(fault.class, Class::Fenced, "{fault:?}");
    assert_eq!(n(&service, "k", "a").await, Some(40));
    service.check_history();
}
