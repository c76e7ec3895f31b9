//! What cannot work is said at once, with names, and without the key.

use std::time::Duration;

use thalweg_cosmos::{AccountKey, CosmosSpec};
use thalweg_standin_cosmos::{ACCOUNT_KEY, Account};
use thalweg_stream::{Class, Fault};

use crate::bench::{CONTAINER, Job, Service, answer, row};
use crate::delivery::n;

async fn refusal(service: &Service, adjust: impl FnOnce(&mut CosmosSpec)) -> Fault {
    let mut spec = service.spec();
    adjust(&mut spec);
    let fault = Job::new(spec).try_start().await.err().expect("refused");
    assert!(!fault.message.contains(ACCOUNT_KEY), "{fault:?}");
    fault
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_named() {
    let service = Service::start().await;
    let url = service.url.clone();
    let fault = refusal(&service, |spec| spec.database = "nowhere".into()).await;
    assert_eq!(fault.class, Class::User);
    assert_eq!(
        fault.message,
        format!("cosmos account {url} has no database \"nowhere\"")
    );

    let fault = refusal(&service, |spec| spec.container = "nothing".into()).await;
    assert_eq!(fault.class, Class::User);
    assert!(
        fault
            .message
            .contains("no container \"nothing\" in database \"db\""),
        "{fault:?}"
    );

    let fault = refusal(&service, |spec| spec.partition_key = "name".into()).await;
    assert_eq!(fault.class, Class::User);
    assert!(
        fault.message.contains("is partitioned by /kind"),
        "{fault:?}"
    );
    assert!(fault.message.contains("column \"name\""), "{fault:?}");

    let wrong_key = "d3Jvbmcga2V5";
    let fault = refusal(&service, |spec| spec.key = AccountKey::new(wrong_key)).await;
    assert_eq!(fault.class, Class::User);
    assert!(
        fault.message.contains(&url) && fault.message.contains("refuses the key"),
        "{fault:?}"
    );
    assert!(!fault.message.contains(wrong_key));

    let fault = refusal(&service, |spec| spec.key = AccountKey::new("no base64 !")).await;
    assert!(fault.message.contains("not base64") && !fault.message.contains("no base64 !"));
}

#[tokio::test]
async fn an_account_that_does_not_answer_is_unreachable() {
    let service = Service::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = closed.local_addr().expect("bound");
    drop(closed);
    let fault = refusal(&service, |spec| {
        spec.endpoint = format!("http://{address}/")
    })
    .await;
    assert_eq!(fault.class, Class::Unreachable, "{fault:?}");
    assert!(fault.message.contains(&address.to_string()), "{fault:?}");
}

#[tokio::test]
async fn an_account_with_several_write_regions_is_refused_unless_unguarded() {
    let account = Account {
        several_write_regions: true,
    };
    let service = Service::start_with(&[CONTAINER], account, 0).await;
    let fault = refusal(&service, |_| ()).await;
    assert_eq!(fault.class, Class::User);
    assert!(fault.message.contains("East US, West US"), "{fault:?}");
    let mut job = Job::new(service.spec());
    job.spec.guard = false;
    job.start().await;
}

#[tokio::test]
async fn a_row_that_the_service_refuses_is_a_dead_letter_and_the_others_go_on() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    service.plan(vec![answer("create", 413, false, 1)]);
    let unit = job
        .checkpoint(&[row("a", "k1", 1), row("c", "k2", 2), row("e", "k3", 3)])
        .await;
    let published = job.publish(&attempt, &unit).await;
    let [rejected] = published.rejected.as_slice() else {
        panic!("{:?}", published.rejected);
    };
    assert_eq!(rejected.letter.code, "too-large");
    assert!(rejected.id.starts_with("1-1-0-"), "{}", rejected.id);
    assert_eq!(service.changes(), 2);
    assert_eq!(attempt.sink.counters().now().rejected, 1);
}

#[tokio::test]
async fn a_key_that_is_withdrawn_ends_the_attempt() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    service.plan(vec![answer("create", 401, false, u64::MAX)]);
    let unit = job.checkpoint(&[row("a", "k", 1)]).await;
    let fault = job.try_publish(&attempt, &unit).await.expect_err("refused");
    assert_eq!(fault.class, Class::User, "{fault:?}");
    assert!(fault.message.contains(&service.url), "{fault:?}");
}

#[tokio::test]
async fn patience_ends_and_the_unit_may_be_given_again() {
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    job.spec.limits.patience = Duration::from_millis(300);
    job.spec.limits.request_timeout = Duration::from_secs(1);
    let attempt = job.start().await;
    service.plan(vec![answer("create", 449, false, u64::MAX)]);
    let unit = job.checkpoint(&[row("a", "k", 1)]).await;
    let fault = job
        .try_publish(&attempt, &unit)
        .await
        .expect_err("out of patience");
    assert!(matches!(fault.class, Class::Transient { .. }), "{fault:?}");
    assert!(fault.message.contains("\"a\""), "{fault:?}");
    service.plan(Vec::new());
    job.publish(&attempt, &unit).await;
    assert_eq!(n(&service, "k", "a").await, Some(1));
}
