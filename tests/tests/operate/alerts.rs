//! The page for operators and the alerts it explains.

use std::collections::{BTreeMap, BTreeSet};
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

/// The source files that are no tests, by their paths.
fn shipped() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("");
    let mut folders: Vec<PathBuf> = ["runtime", "operators", "jobs"]
        .map(|top| root.join(top))
        .into();
    let mut texts = BTreeMap::new();
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
                let name = path.strip_prefix(&root).expect("inside").to_string_lossy();
                texts.insert(name.into_owned(), shipped.unwrap_or_default().to_owned());
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

/// The string that `text` begins with, without what breaks it over lines or escapes a quote, and what
/// stands behind it.
fn literal_and_rest(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => return Some((out, chars.as_str())),
            '\\' => match chars.next()? {
                '\n' => chars = chars.as_str().trim_start().chars(),
                escaped => out.push(escaped),
            },
            other => out.push(other),
        }
    }
}

fn literal(text: &str) -> Option<String> {
    Some(literal_and_rest(text)?.0)
}

/// The rows of the first table below a heading of a page, by their cells.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let below = page.split_once(&format!("\n{heading}\n")).expect(heading).1;
    let rows = (below.lines().take_while(|line| !line.starts_with('#')))
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        row.trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    })
    .collect()
}

/// What a cell has between marks of one kind.
fn between(cell: &str, mark: char) -> impl Iterator<Item = &str> {
    cell.split(mark).skip(1).step_by(2)
}

/// What stands before a code where a row becomes a dead letter: its field, and what maps a kind of
/// failure to it.
const OF_FAILURES: [&str; 6] = ["code:", "=>", "=> {", "Unfit::new", "413 {", "else {"];

/// The words like codes that stand behind one of `marks` in a file.
fn codes(text: &str, marks: &[&str]) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (at, _) in text.match_indices('"') {
        let before = text[..at].trim_end();
        let before = before.strip_suffix('(').unwrap_or(before).trim_end();
        let given = marks.iter().any(|mark| before.ends_with(mark));
        let code = literal(&text[at..]).filter(|_| given);
        codes.extend(code.filter(|code| {
            code.starts_with(|c: char| c.is_ascii_lowercase())
                && (code.chars()).all(|c| c == '-' || c.is_ascii_lowercase() || c.is_ascii_digit())
        }));
    }
    codes
}

#[test]
fn the_codes_and_classes_of_dead_letters_are_those_that_are_explained() {
    let rows = table(&page("operations.md"), "## Codes of dead letters");
    let cells = |at: usize| rows.iter().map(move |row| row[at].as_str());
    let explained: BTreeSet<String> = (cells(0).flat_map(|cell| between(cell, '`')))
        .map(str::to_owned)
        .collect();
    let mut said = BTreeSet::new();
    let mut classes = BTreeSet::new();
    for (name, text) in shipped() {
        if name == "runtime/stream/src/dead_letter.rs" {
            classes = codes(&text, &["=>"]);
        } else if text.contains("DeadClass::")
            || text.contains("Outcome::Rejected")
            || name == "runtime/plugin/src/trap.rs"
        {
            said.append(&mut codes(&text, &OF_FAILURES));
        } else {
            said.append(&mut codes(&text, &["code:"]));
        }
    }
    assert_eq!(said, explained);
    assert_eq!(classes, cells(1).map(str::to_owned).collect());
}

#[test]
fn the_causes_of_restarts_are_those_that_are_explained() {
    let rows = table(&page("operations.md"), "## Restarts");
    let explained: BTreeSet<String> = (rows.iter())
        .flat_map(|row| between(&row[0], '`'))
        .map(str::to_owned)
        .collect();
    let code = shipped();
    let mut said = codes(&code["runtime/engine/src/failure.rs"], &["=>"]);
    // What a start is called that follows no failure of its own process.
    said.append(&mut codes(
        &code["runtime/engine/src/journal.rs"],
        &["Some"],
    ));
    assert_eq!(said, explained);
}

/// Errors of definitions, which are told with their place in the text and mostly a hint.
const PLACED: [&str; 6] = [
    "jobs/definition/src/diagnostic.rs",
    "operators/dedup/src/lib.rs",
    "operators/enrich/src/lib.rs",
    "operators/formats/src/error.rs",
    "operators/window/src/spec.rs",
    "runtime/stream/src/column.rs",
];
/// Errors that nobody is told, or that are bugs.
const UNTOLD: [&str; 7] = [
    // Bugs by their class, which their variants do not say.
    "… is no name for a staged object",
    "file: … has died",
    "kafka: …",
    "… exists already",
    // Of a store that a test has ended.
    "the store handle was ended by an injected fault",
    // Told as damage of the object that has it.
    "… is no set of key groups",
    // By whoever dropped the run.
    "the run has been dropped",
];

/// What errors say, each with … for what is put in, and the file that says it.
fn errors() -> Vec<(String, String)> {
    let mut errors = Vec::new();
    for (name, text) in shipped() {
        let classes = ["user", "unavailable", "transient", "corrupt", "fenced"];
        let calls = classes.map(|class| format!("Fault::{class}("));
        let marks = calls.iter().map(String::as_str).chain(["#[error("]);
        for (at, mark) in marks.flat_map(|mark| text.match_indices(mark)) {
            let rest = text[at + mark.len()..].trim_start();
            let rest = rest.strip_prefix("format!(").unwrap_or(rest).trim_start();
            // Others pass on what somebody else has said.
            let Some(message) = literal(rest) else {
                continue;
            };
            let mut said = String::new();
            for (number, part) in message.split('{').enumerate() {
                let behind = part.split_once('}').map_or(part, |(_, behind)| behind);
                said.push_str(if number == 0 { part } else { "…" });
                said.push_str(if number == 0 { "" } else { behind });
            }
            errors.push((name.clone(), said));
        }
    }
    errors
}

/// Whether `message` of a page, which leaves out what is put in, is what the error `said` says: at
/// least half of what it has always. Words that many have in common explain none of them.
fn explains(message: &str, said: &str) -> bool {
    if said == message {
        return true;
    }
    let parts = message
        .split(['…', '"'])
        .map(|part| part.trim_matches([' ', ':', ',']));
    let literal: usize = said.split('…').map(|part| part.trim().len()).sum();
    let mut rest = said;
    let mut found = 0;
    for part in parts.filter(|part| part.len() >= 4) {
        let Some((_, behind)) = rest.split_once(part) else {
            return false;
        };
        rest = behind;
        found += part.len();
    }
    found >= 6 && 2 * found >= literal
}

/// Whoever meets an error finds out what to do about it.
#[test]
fn every_error_is_explained() {
    let mut explained = Vec::new();
    for (name, mark) in [
        ("operations.md", '*'),
        ("cosmos-db.md", '`'),
        ("azure-data-explorer.md", '`'),
    ] {
        for row in table(&page(name), "## Errors") {
            explained.extend(between(&row[0], mark).map(str::to_owned));
        }
    }
    let mut missing = Vec::new();
    let errors = errors();
    for (name, said) in &errors {
        let passes_on = said.trim_matches(['…', ' ', ':']).is_empty();
        if passes_on || PLACED.contains(&&**name) || UNTOLD.iter().any(|one| said.ends_with(one)) {
            continue;
        }
        if !explained.iter().any(|message| explains(message, said)) {
            missing.push(format!("{name}: {said}"));
        }
    }
    assert!(
        missing.is_empty(),
        "operations.md has no row for\n{}",
        missing.join("\n")
    );
    assert!(errors.len() > 120, "the code is read: {}", errors.len());
}

/// The last string within the parentheses that `text` begins behind.
fn last_literal(mut text: &str) -> Option<String> {
    let (mut depth, mut last) = (1, None);
    while depth > 0 {
        text = &text[text.find(['(', ')', '"'])?..];
        if let Some((said, rest)) = literal_and_rest(text) {
            (last, text) = (Some(said), rest);
            continue;
        }
        depth += if text.starts_with('(') { 1 } else { -1 };
        text = &text[1..];
    }
    last
}

/// Whoever finds a warning in the log finds out what it means, and no page explains one that is gone.
#[test]
fn every_warning_is_explained() {
    let rows = table(&page("operations.md"), "## Warnings");
    let explained: BTreeSet<String> = (rows.iter())
        .flat_map(|row| between(&row[0], '*'))
        .map(str::to_owned)
        .collect();
    let mut said = BTreeSet::new();
    for (name, text) in shipped() {
        for mark in ["warn!(", "error!("] {
            for (at, _) in text.match_indices(mark) {
                let message = last_literal(&text[at + mark.len()..]);
                said.insert(message.unwrap_or_else(|| panic!("{name}: {mark}… says nothing")));
            }
        }
        assert!(!text.contains("tracing::event!"), "{name}");
    }
    assert_eq!(said, explained);
    assert!(said.len() > 30, "the code is read: {}", said.len());
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
    let code: Vec<String> = shipped().into_values().collect();
    // Without what breaks a literal over lines, or escapes a quote in one.
    let code = code.join("\n");
    let lines = code.split("\\\n").map(str::trim_start);
    let code = lines.collect::<String>().replace("\\\"", "\"");
    let mut checked = 0;
    for row in table(&page("operations.md"), "## Errors") {
        for message in between(&row[0], '*') {
            for part in message.split(['…', '"']) {
                let part = part.trim_matches([' ', ':', ',']);
                let known = part.len() < 4 || OF_SYSTEMS.contains(&part) || code.contains(part);
                assert!(known, "nothing says {part:?} of {message:?}");
                checked += 1;
            }
        }
    }
    assert!(checked > 200, "the table is read: {checked}");
}
