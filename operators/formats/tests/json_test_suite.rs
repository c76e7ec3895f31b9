//! The JSON parsing test suite (nst/JSONTestSuite) and `serde_json`, case by case.
//!
//! A record must be an object, so each case becomes the value of a field: once of one that nobody
//! declared, once of a `json` column, and once of the whole record where it is an object itself.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail and say why"
)]

mod harness;

use std::path::PathBuf;

use harness::{Harness, column};
use thalweg_formats::DecodeSpec;
use thalweg_stream::ColumnType;

fn folder() -> PathBuf {
    let shared = std::env::var_os("THALWEG_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    shared.join("data/json-test-suite/test_parsing")
}

#[test]
fn the_parsing_suite_is_judged_as_it_asks() {
    let folder = folder();
    let Ok(entries) = std::fs::read_dir(&folder) else {
        let why = format!("no {}", folder.display());
        assert!(std::env::var_os("THALWEG_NO_SKIPS").is_none(), "{why}");
        println!("skipped: {why}");
        return;
    };
    let mut skipping = Harness::new(&DecodeSpec::new(vec![column("a", ColumnType::Int64)]));
    let mut keeping = Harness::new(&DecodeSpec::new(vec![column("v", ColumnType::Json)]));
    let mut counts = [0; 3];
    for entry in entries {
        let path = entry.expect("readable").path();
        let name = path
            .file_name()
            .expect("named")
            .to_string_lossy()
            .into_owned();
        let case = std::fs::read(&path).expect("readable");
        let record = [b"{\"a\":1,\"v\":", &case[..], b"}"].concat();
        let expected: Option<serde_json::Value> = serde_json::from_slice(&record).ok();
        let skipped = skipping.record(&record);
        let kept = keeping.record(&record);
        let accepted = skipped.is_ok();
        assert_eq!(accepted, kept.is_ok(), "{name}");
        assert_eq!(accepted, expected.is_some(), "{name}: unlike serde_json");
        match name.as_bytes().first() {
            Some(b'y') => assert!(accepted, "{name}"),
            // With an object around them these are valid: what follows the value is what makes the
            // case invalid, or it closes the object itself.
            Some(b'n') => assert!(!accepted || closes_early(&case), "{name}"),
            _ => {}
        }
        counts[match name.as_bytes().first() {
            Some(b'y') => 0,
            Some(b'n') => 1,
            _ => 2,
        }] += 1;
        if let (Ok(row), Some(expected)) = (kept, expected) {
            let row: serde_json::Value = serde_json::from_str(&row).expect("written as JSON");
            assert_eq!(row["v"], expected["v"], "{name}");
        }
        let whole: Result<serde_json::Map<String, serde_json::Value>, _> =
            serde_json::from_slice(&case);
        assert_eq!(keeping.record(&case).is_ok(), whole.is_ok(), "{name} alone");
    }
    println!(
        "{} accepted, {} refused, {} either",
        counts[0], counts[1], counts[2]
    );
    assert!(counts[0] > 90 && counts[1] > 180, "{counts:?}");
}

/// Whether a refused case becomes valid when `{"a":1,"v":` and `}` are put around it.
fn closes_early(case: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(&[b"[", case, b"]"].concat()).is_ok()
        || serde_json::from_slice::<serde_json::Value>(&[b"{\"v\":", case, b"}"].concat()).is_ok()
}
