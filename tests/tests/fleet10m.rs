//! The benchmark's job gives DuckDB's results, on a hundredth of its input.

use std::path::Path;
use std::process::Command;

use thalweg_tests::process::binary;
use thalweg_tests::python::python;

#[test]
fn results_of_the_benchmark_are_those_of_duckdb() {
    let Some(python) = python("duckdb") else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = Command::new(python)
        .arg(root.join("benches/fleet10m/run.py"))
        .args(["--events", "100000", "--rounds", "1", "--workers", "1", "2"])
        .arg("--thalweg")
        .arg(binary("thalweg"))
        .arg("--folder")
        .arg(folder.path())
        .output()
        .expect("python");
    let said = String::from_utf8_lossy(&out.stdout);
    let complained = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}{complained}");
    let equal = said.matches("over 100000 events, all equal").count();
    assert_eq!(equal, 2, "once for each number of workers: {said}");
}
