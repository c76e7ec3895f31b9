//! The house rules that a machine can hold.

use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDERS: [&str; 6] = [
    "udf-sdk",
    "runtime",
    "operators",
    "jobs",
    "tests",
    "benches",
];
/// Heavy dependencies and the one folder that may name each.
const OWNERS: [(&str, &str); 6] = [
    ("timely", "runtime/engine"),
    ("wasmtime", "runtime/plugin"),
    ("rdkafka", "operators/kafka"),
    ("axum", "jobs/thalweg"),
    ("azure_data_cosmos", "operators/azure/cosmos"),
    ("datafusion-sql", "operators/expr"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

fn tracked(pattern: &str) -> Vec<PathBuf> {
    let out = Command::new("git")
        .args(["ls-files", pattern])
        .current_dir(root())
        .output()
        .expect("git");
    let text = String::from_utf8(out.stdout).expect("text");
    text.lines()
        .map(|line| root().join(line))
        .filter(|path| path.exists())
        .collect()
}

fn metadata() -> serde_json::Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let out = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo");
    serde_json::from_slice(&out.stdout).expect("JSON")
}

#[test]
fn folders_depend_only_to_the_left_and_heavy_crates_have_one_owner() {
    let metadata = metadata();
    let folder = |path: &str| {
        let inside = Path::new(path)
            .strip_prefix(root())
            .expect("inside")
            .to_owned();
        let top = inside
            .components()
            .next()
            .expect("a folder")
            .as_os_str()
            .to_owned();
        FOLDERS
            .iter()
            .position(|known| *known == top)
            .expect("one of the folders")
    };
    let packages = metadata["packages"].as_array().expect("packages");
    for package in packages {
        let manifest = package["manifest_path"].as_str().expect("a path");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let name = dependency["name"].as_str().expect("a name");
            if let Some(path) = dependency["path"].as_str() {
                let (from, to) = (folder(manifest), folder(path));
                assert!(to <= from, "{manifest} may not depend on {name}");
            }
            if let Some((_, owner)) = OWNERS.iter().find(|(heavy, _)| *heavy == name) {
                let test_service = manifest.contains("/tests/");
                assert!(
                    manifest.contains(owner) || test_service,
                    "{manifest} names {name}"
                );
            }
        }
    }
}

#[test]
fn files_are_documented_and_of_a_readable_size() {
    let files = tracked("*.rs");
    assert!(files.len() > 50, "git knows the files");
    for path in files {
        let text = std::fs::read_to_string(&path).expect("readable");
        let name = path.display();
        assert!(
            text.lines().count() <= 600,
            "{name} is longer than 600 lines"
        );
        let script = name.to_string().contains("/examples/");
        assert!(
            text.starts_with("//!") || script,
            "{name} has no module doc"
        );
        for word in ["TODO", "FIXME", "todo!("] {
            let itself = path.ends_with("tests/tests/tidy.rs");
            assert!(itself || !text.contains(word), "{name} has a {word}");
        }
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        assert!(
            !["utils", "common", "helpers", "misc"].contains(&stem),
            "{name}"
        );
    }
}
