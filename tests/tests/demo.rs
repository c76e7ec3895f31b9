//! `make demo`, as a newcomer sees it: the script with the binaries that are built already.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a test finds wrong it says by panicking"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use thalweg_tests::process::binary;

#[test]
fn the_demo_shows_what_it_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    let bin = binary("thalweg");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(root.join("scripts/demo"))
        .env("THALWEG_BIN", bin.parent().expect("a folder"))
        .env("DEMO_RUN", &run)
        .env_remove("KEEP")
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    let (out, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{said}");
    // Progress, though there is no terminal.
    assert!(
        said.contains("road-risk: ") && said.contains("/s)"),
        "{said}"
    );
    assert!(said.contains("road-risk: finished: "), "{said}");
    let (_, history) = out.split_once("asked of Azure Data Explorer").expect(&out);
    let figures = history.lines().nth(2).expect("a row");
    let reports: u64 = figures
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect(&out);
    assert!((60_000..72_000).contains(&reports), "{out}");
    let riskiest: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("  seg-"))
        .collect();
    assert_eq!(riskiest.len(), 5, "{out}");
    for line in riskiest {
        let (_, now) = line.split_once(";  now: ").expect(line);
        let risk: f64 = now
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect(line);
        assert!((0.0..=100.0).contains(&risk), "{line}");
        assert!(
            line.contains("in the ten seconds to 2026-01-01T00:"),
            "{line}"
        );
    }
    for kept in [
        "dead-letters.jsonl",
        "checkpoints",
        "cosmos-ledger.jsonl",
        "adx-ledger.jsonl",
    ] {
        assert!(
            out.contains(kept) && run.join(kept).exists(),
            "{kept}: {out}"
        );
    }
    // What it started has ended: nobody listens any more.
    for line in out
        .lines()
        .filter_map(|line| line.split_once("stands in at"))
    {
        let address = line.1.trim().trim_start_matches("http://");
        assert!(
            std::net::TcpStream::connect(address).is_err(),
            "{address} still listens"
        );
    }
}
