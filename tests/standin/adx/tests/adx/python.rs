//! The official Python clients, unmodified, judge the stand-in. `make test` installs them; there, and
//! wherever `THALWEG_NO_SKIPS` is set, they must not be missing.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::harness::StandIn;

/// The interpreter of an environment that has the clients, if there is one.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("THALWEG_PYTHON").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let python = given.unwrap_or_else(|| root.join(".deps/python/bin/python"));
    let has_clients = std::process::Command::new(&python)
        .args(["-c", "import azure.kusto.data, azure.kusto.ingest"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    has_clients.then_some(python)
}

#[tokio::test]
async fn the_official_python_clients_ingest_and_query() {
    let Some(python) = python() else {
        let why = "no Python with azure-kusto-data and azure-kusto-ingest: run scripts/setup test";
        assert!(std::env::var_os("THALWEG_NO_SKIPS").is_none(), "{why}");
        eprintln!("skipped: {why}");
        return;
    };
    let standin = StandIn::with(&[]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/adx-python/judge.py");
    let output = tokio::process::Command::new(python)
        .arg(script)
        .arg(&standin.url)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("all checks hold"), "{out}");
    // The client's word is not enough: the ledger says what was applied.
    assert_eq!(standin.applied("ingest"), 4);
}
