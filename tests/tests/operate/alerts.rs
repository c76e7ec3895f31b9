//! The page for operators and the alerts it explains.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::running::promtool;

fn path(name: &str) -> PathBuf {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs");
    docs.join(name)
}

fn page(name: &str) -> String {
    std::fs::read_to_string(path(name)).expect("a page")
}

/// What stands behind `mark` in the lines of a text that begin with it.
fn marked<'a>(text: &'a str, mark: &str) -> BTreeSet<&'a str> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix(mark))
        .collect()
}

/// The source files that are no tests.
fn shipped() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
    let mut folders: Vec<PathBuf> = ["runtime", "operators", "jobs"]
        .map(|top| root.join(top))
        .into();
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = std::fs::read_to_string(&path).expect("text");
                let shipped = text.split("#[cfg(test)]\nmod tests {").next();
                texts.push(shipped.unwrap_or_default().to_owned());
            }
        }
    }
    texts
}

#[test]
fn every_alert_is_explained_and_asks_for_metrics_there_are() {
    let (rules, operations, metrics) = (
        page("alerts.yml"),
        page("operations.md"),
        page("metrics.md"),
    );
    let alerts = marked(&rules, "- alert: ");
    let explained = marked(&operations, "### ");
    assert_eq!(alerts, explained);
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let asked = rules
        .split(word)
        .filter_map(|word| word.strip_prefix("thalweg_"));
    for name in asked {
        assert!(metrics.contains(&format!("| `{name}` |")), "{name}");
    }
    promtool(
        &["check", "rules", &path("alerts.yml").display().to_string()],
        "",
    );
}

#[test]
fn every_code_of_a_dead_letter_is_explained() {
    let operations = page("operations.md");
    let mut codes = BTreeSet::new();
    for text in shipped() {
        for line in text.lines() {
            let code = line.trim().strip_prefix("code: \"");
            codes.extend(
                code.and_then(|rest| rest.strip_suffix("\","))
                    .map(str::to_owned),
            );
        }
    }
    assert!(codes.len() >= 8, "{codes:?}");
    for code in codes {
        assert!(operations.contains(&format!("`{code}`")), "{code}");
    }
}

/// What systems say rather than we.
const OF_SYSTEMS: [&str; 3] = [
    "No space left on device",
    "Read-only file system",
    "Input/output error",
];

/// A message that has changed would be looked for in vain.
#[test]
fn every_error_that_is_explained_is_one_that_the_code_says() {
    let operations = page("operations.md");
    let table = (operations.split("\n## Errors\n").nth(1))
        .and_then(|rest| rest.split("\n## ").next())
        .expect("errors");
    let code = shipped().join("\n");
    // Without what breaks a literal over lines, or escapes a quote in one.
    let lines = code.split("\\\n").map(str::trim_start);
    let code = lines.collect::<String>().replace("\\\"", "\"");
    let mut checked = 0;
    for row in table.lines().filter(|line| line.starts_with("| *")) {
        let said = row.split(" | ").next().unwrap_or_default();
        for message in said.split('*').skip(1).step_by(2) {
            for part in message.split(['…', '"']) {
                let part = part.trim_matches([' ', ':', ',']);
                let known = part.len() < 4 || OF_SYSTEMS.contains(&part) || code.contains(part);
                assert!(known, "nothing says {part:?} of {message:?}");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "the table is read: {checked}");
}
