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
/// Heavy dependencies, by the beginning of their names, and the one folder that may name each. Test
/// services are stand-ins for the world outside, and benchmarks measure what others make of it: they
/// may use the same parts.
const OWNERS: [(&str, &str); 13] = [
    ("timely", "runtime/engine"),
    ("differential-dataflow", "operators/view"),
    ("wasmtime", "runtime/plugin"),
    ("rdkafka", "operators/kafka"),
    ("axum", "jobs/thalweg"),
    ("clap", "jobs/thalweg"),
    ("azure_", "operators/azure"),
    ("datafusion", "operators/expr"),
    ("object_store", "runtime/checkpoint"),
    ("prometheus", "runtime/metrics"),
    ("granit-parser", "jobs/definition"),
    ("stateright", "runtime/checkpoint"),
    ("quick-xml", "operators/azure/adx"),
];
/// Folders of this or that machine, and hosts of package registries. In two pieces each, so that
/// this file is not one that names them.
const MACHINE: [(&str, &str); 10] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/home", "/"),
    ("registry.npm", "js.org"),
    ("py", "pi.org"),
    ("static.", "crates.io"),
    ("index.", "crates.io"),
    ("repo1.", "maven.org"),
    ("deb.", "debian.org"),
    ("proxy.", "golang.org"),
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
            if let Some((_, owner)) = OWNERS.iter().find(|(heavy, _)| name.starts_with(heavy)) {
                let outside = ["/tests/", "/benches/"]
                    .iter()
                    .any(|f| manifest.contains(f));
                assert!(
                    manifest.contains(owner) || outside,
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
        let lines = text.lines().count();
        assert!(lines <= 500, "{name} has {lines} lines, more than 500");
        assert!(text.starts_with("//!"), "{name} has no module doc");
        // In two pieces, so that this file has none.
        for (a, b) in [("TO", "DO"), ("FIX", "ME"), ("XX", "X:"), ("to", "do!(")] {
            let word = format!("{a}{b}");
            assert!(!text.contains(&word), "{name} has a stray {word}");
        }
    }
}

#[test]
fn modules_are_named_for_what_they_are() {
    const NO_NAMES: [&str; 9] = [
        "util",
        "utils",
        "common",
        "helper",
        "helpers",
        "misc",
        "manager",
        "base",
        "shared_utils",
    ];
    for path in tracked("*.rs") {
        let inside = path.strip_prefix(root()).expect("inside");
        for part in inside.components() {
            let part = part.as_os_str().to_string_lossy();
            let stem = part.trim_end_matches(".rs");
            assert!(!NO_NAMES.contains(&stem), "{} is no name", inside.display());
        }
    }
}

#[test]
fn no_tracked_file_names_a_machine_or_a_registry() {
    let mut read = 0;
    for path in tracked("*") {
        let locked = path.ends_with("Cargo.lock");
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        read += 1;
        for (a, b) in MACHINE {
            let word = format!("{a}{b}");
            let at = text.find(&word).filter(|_| !locked);
            let line = at.map(|at| text[..at].lines().count());
            assert!(at.is_none(), "{}:{line:?} has {word}", path.display());
        }
    }
    assert!(read > 300, "git knows the files: {read}");
}

/// The lists that several people add to stay free of what a merge leaves behind.
#[test]
fn no_conflict_is_left() {
    for path in tracked("*") {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let torn = text.lines().any(|line| line.starts_with(&"<".repeat(7)));
        assert!(!torn, "{} has a conflict", path.display());
    }
}

/// In a row of a table: the file named last, and the functions that are named behind it and a colon.
fn functions_named(row: &str) -> Vec<(&str, &str)> {
    let mut named = Vec::new();
    let (mut file, mut before) = (None, "");
    for (at, part) in row.split('`').enumerate() {
        if at % 2 == 0 {
            before = part;
        } else if part.ends_with(".rs") {
            file = Some(part);
        } else if let Some(file) = file
            && (before.ends_with(": ") || before == ", ")
        {
            named.push((file, part));
        }
    }
    named
}

/// Whether `text` has a function of this name, and one that is a test.
fn function(text: &str, name: &str) -> (bool, bool) {
    let mut attributes = Vec::new();
    let (mut there, mut test) = (false, false);
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            attributes.push(line);
            continue;
        }
        let rest = line.split_once("fn ").map(|(_, rest)| rest);
        if rest.and_then(|rest| rest.split(['(', '<']).next()) == Some(name) {
            there = true;
            test |= (attributes.iter())
                .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
        }
        attributes.clear();
    }
    (there, test)
}

/// A promise that names no test, or a page that leads to a function that is gone, is of no use.
#[test]
fn pages_name_functions_that_are_there_and_promises_name_tests() {
    let mut checked = 0;
    for (page, promises) in [("ARCHITECTURE.md", false), ("docs/guarantees.md", true)] {
        let text = std::fs::read_to_string(root().join(page)).expect("readable");
        let rows = text.lines().filter(|line| line.starts_with("| "));
        for row in rows.filter(|row| !row.starts_with("| promise")) {
            let named = functions_named(row);
            let run_by_make = row.contains("`make faults`");
            assert!(
                !promises || run_by_make || !named.is_empty(),
                "{page}: no test shows {row}"
            );
            for (file, name) in named {
                let source = std::fs::read_to_string(root().join(file)).expect(file);
                let (there, test) = function(&source, name);
                assert!(there, "{page}: {file} has no function {name}");
                assert!(!promises || test, "{page}: {name} of {file} is no test");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "the tables are read: {checked}");
}
