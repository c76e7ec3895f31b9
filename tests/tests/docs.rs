//! The documentation holds: what it shows runs, what it links to exists, and every definition is
//! valid by a validator that is not ours.
//!
//! In README.md and docs/*.md a block marked `sh` is run, in the order of the page, in a folder of
//! the page's own that holds a copy of `examples/`, with the binary on the path. A `yaml` block that
//! begins with a comment naming a file, `# job.yaml`, is first written to that file. A block marked
//! `console` is a transcript for readers and is not run: it needs a service, or a terminal.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thalweg_tests::process::binary;
use thalweg_tests::python::python;

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the workspace").to_owned()
}

/// The folder of the binaries under test.
fn binaries() -> PathBuf {
    let thalweg = binary("thalweg");
    thalweg.parent().expect("a folder").to_owned()
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    for entry in std::fs::read_dir(root().join("docs")).expect("docs") {
        pages.push(entry.expect("an entry").path());
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

/// A fenced block of a page.
struct Block {
    language: String,
    line: usize,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => {
                open = Some(Block {
                    language: language.trim().to_owned(),
                    line: number + 1,
                    text: String::new(),
                });
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        let (built, target) = (["run", "target", "node_modules"], to.join(name));
        if path.is_dir() && !built.iter().any(|built| name == *built) {
            copy(&path, &target);
        } else if path.is_file() {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

#[test]
fn every_command_shown_runs() {
    let path = format!(
        "{}:{}",
        binaries().display(),
        std::env::var("PATH").expect("a path")
    );
    let mut ran = 0;
    for page in pages() {
        let name = page
            .strip_prefix(root())
            .expect("inside")
            .display()
            .to_string();
        let text = std::fs::read_to_string(&page).expect("readable");
        let folder = tempfile::tempdir().expect("a folder");
        copy(&root().join("examples"), &folder.path().join("examples"));
        for block in blocks(&text) {
            let Block {
                language,
                line,
                text,
            } = block;
            assert!(
                !language.is_empty(),
                "{name}:{line}: a block says what it is"
            );
            let file = text.lines().next().and_then(|line| line.strip_prefix("# "));
            let file = file.filter(|file| file.ends_with(".yaml") && !file.contains(' '));
            if let (Some(file), "yaml") = (file, &*language) {
                std::fs::write(folder.path().join(file), &text).expect("writable");
            }
            if language != "sh" {
                continue;
            }
            ran += 1;
            let output = Command::new("sh")
                .args(["-euc", &text])
                .current_dir(folder.path())
                .env("PATH", &path)
                // Guests share what is built for them with the tests of plugins.
                .env("CARGO_TARGET_DIR", binaries().join("guests"))
                .env("XDG_CACHE_HOME", binaries().join("guests"))
                .stdin(Stdio::null())
                .output()
                .expect("sh runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{name}:{line}: {}\n{text}\n{}{said}",
                output.status,
                String::from_utf8_lossy(&output.stdout)
            );
        }
    }
    assert!(ran >= 5, "the pages show commands");
    println!("{ran} blocks of commands ran");
}

#[test]
fn links_lead_somewhere() {
    let mut more = pages();
    for name in [
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ] {
        more.push(root().join(name));
    }
    let mut seen = 0;
    for page in more {
        let text = std::fs::read_to_string(&page).expect("readable");
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let (file, _) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") || file.is_empty() {
                continue;
            }
            seen += 1;
            let target = page.parent().expect("a folder").join(file);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
    assert!(seen > 10, "the pages have links");
}

/// Files that guarantees.md, protocol.md and ARCHITECTURE.md name in code style exist.
#[test]
fn files_named_are_there() {
    let pages = [
        "docs/guarantees.md",
        "docs/protocol.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
    ];
    let folders = [
        "runtime/",
        "operators/",
        "jobs/",
        "tests/",
        "benches/",
        "udf-sdk/",
        "docs/",
        "scripts/",
        "examples/",
    ];
    for page in pages {
        let text = std::fs::read_to_string(root().join(page)).expect("readable");
        for (at, name) in text.split('`').enumerate() {
            let is_path = at % 2 == 1 && folders.iter().any(|folder| name.starts_with(folder));
            if is_path && !name.contains(['*', ' ', '{', '…']) {
                assert!(
                    root().join(name).exists(),
                    "{page} names {name}, which is not there"
                );
            }
        }
    }
}

/// Wrong definitions whose fault the schema does not tell: names, columns and options that do not fit
/// together, what a text has to spell, substitution, and text that a YAML reader refuses.
const BEYOND_SCHEMA: [&str; 30] = [
    "01-not-yaml",
    "02-empty",
    "07-duplicate-key",
    "08-alias",
    "09-anchor",
    "10-tag",
    "11-two-documents",
    "16-reserved-column",
    "17-time-not-a-timestamp",
    "18-time-unknown-column",
    "20-from-unknown",
    "26-cycle",
    "27-same-name",
    "28-no-env",
    "29-bad-substitution",
    "33-table-as-stream",
    "34-table-key",
    "37-csv-delimiter",
    "38-csv-letter",
    "39-csv-same",
    "43-csv-generated",
    "51-unit-of-text",
    "53-bad-decimal",
    "54-bad-list",
    "56-store",
    "57-keep-none",
    "62-from-output",
    "70-empty-texts",
    "71-unit-and-format",
    "72-otherwise",
];

#[test]
fn definitions_are_valid_by_an_independent_validator() {
    let Some(python) = python("jsonschema, ruamel.yaml") else {
        return;
    };
    let schema = Command::new(binary("thalweg")).arg("schema").output();
    let schema = schema.expect("the binary runs");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("schema.json");
    std::fs::write(&file, schema.stdout).expect("writable");
    let yaml = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "yaml")
        });
        files.sort();
        files
    };
    let definition = root().join("jobs/definition/src");
    let mut good = yaml(&definition.join("reference"));
    for example in std::fs::read_dir(root().join("examples")).expect("examples") {
        let job = example.expect("an entry").path().join("job.yaml");
        good.extend(job.exists().then_some(job));
    }
    assert!(good.len() >= 3, "{good:?}");
    let mut bad = yaml(&definition.join("tests"));
    bad.retain(|file| {
        let stem = file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        !BEYOND_SCHEMA.contains(&stem.as_str())
    });
    let output = Command::new(python)
        .arg(root().join("tests/clients/json-schema/validate.py"))
        .arg(file)
        .args(good)
        .arg("--bad")
        .args(bad)
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
}
