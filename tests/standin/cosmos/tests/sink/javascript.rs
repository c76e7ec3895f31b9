//! The official JavaScript SDK reads what the sink wrote: the judge that is not ours.
//!
//! It runs where Node.js and the packages of `tests/clients/cosmos-js` are installed
//! (`make test` installs them), and says so where they are not.

use std::path::PathBuf;

use thalweg_standin_cosmos::ACCOUNT_KEY;

use crate::bench::{Job, Row, Service, row};

#[tokio::test]
async fn the_official_sdk_reads_what_was_written() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../clients/cosmos-js");
    let node = tokio::process::Command::new("node")
        .arg("--version")
        .output()
        .await;
    if node.is_err() || !folder.join("node_modules/@azure/cosmos").exists() {
        println!("skipped: needs node, and `npm ci` in tests/clients/cosmos-js");
        return;
    }
    let service = Service::start().await;
    let mut job = Job::new(service.spec());
    let attempt = job.start().await;
    let rows: Vec<Row> = (0..120)
        .map(|i| row(&format!("device/{i}"), &format!("k{}", i % 3), i))
        .collect();
    let unit = job.checkpoint(&rows).await;
    job.publish(&attempt, &unit).await;

    let judge = tokio::process::Command::new("node")
        .arg(folder.join("read.mjs"))
        .args([service.url.as_str(), "db", "things"])
        .env("COSMOS_KEY", ACCOUNT_KEY)
        .output()
        .await
        .expect("node runs");
    let errors = String::from_utf8_lossy(&judge.stderr);
    assert!(judge.status.success(), "{errors}");
    assert_eq!(
        String::from_utf8_lossy(&judge.stdout).trim(),
        "120 documents as expected"
    );
}
