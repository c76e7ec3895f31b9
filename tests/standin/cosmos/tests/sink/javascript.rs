//! The official JavaScript SDK reads what the sink wrote: the judge that is not ours.
//!
//! `make test` installs Node.js and the packages of `tests/clients/cosmos-js`; there, and wherever
//! `THALWEG_NO_SKIPS` is set, the judge must not be missing.

use std::path::PathBuf;

use thalweg_standin_cosmos::ACCOUNT_KEY;

use crate::bench::{Job, Row, Service, row};

#[tokio::test]
async fn the_official_sdk_reads_what_was_written() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let folder = root.join("tests/clients/cosmos-js");
    // Where the system's Node.js is too old, the setup installs another one here.
    let own = root.join(".deps/node/node_modules/node/bin/node");
    let node = if own.exists() {
        own
    } else {
        PathBuf::from("node")
    };
    let version = tokio::process::Command::new(&node)
        .arg("--version")
        .output()
        .await;
    if version.is_err() || !folder.join("node_modules/@azure/cosmos").exists() {
        let why = "no Node.js, or no `npm ci` in tests/clients/cosmos-js: run scripts/setup test";
        assert!(std::env::var_os("THALWEG_NO_SKIPS").is_none(), "{why}");
        println!("skipped: {why}");
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

    let judge = tokio::process::Command::new(node)
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
