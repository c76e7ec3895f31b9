//! Checkpoints as each version has written them: today's binary reads, verifies, exports and resumes
//! all of them. `scripts/golden` makes one; a released one never changes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Job, json, read_lines};

fn folders() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let entries = std::fs::read_dir(golden).expect("the folder");
    let mut folders: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    folders.sort();
    folders
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).expect("copied")),
        }
    }
}

/// The published windows, and the dead letters without the times at which they were made.
fn results(job: &Job) -> (Vec<String>, Vec<String>) {
    let mut windows: Vec<String> = job.lines("windows").iter().map(Value::to_string).collect();
    let letter = |letter: &Value| format!("{} {}", letter["split"], letter["offset"]);
    let mut dead: Vec<String> = read_lines(&job.path("dead.jsonl"))
        .iter()
        .map(letter)
        .collect();
    windows.sort();
    dead.sort();
    (windows, dead)
}

#[test]
fn the_checkpoints_of_every_version_are_read_verified_exported_and_resumed() {
    let folders = folders();
    assert!(!folders.is_empty());
    for folder in folders {
        let definition = std::fs::read_to_string(folder.join("job.yaml")).expect("text");
        let job = Job::new(&definition);
        copy(&folder, job.folder.path());
        let verified = json(&job.checkpoint(&["verify"]));
        assert_eq!(
            verified["damage"],
            Value::Array(vec![]),
            "{}",
            folder.display()
        );
        assert!(
            verified["parts"].as_u64() > Some(2),
            "deltas too: {verified}"
        );
        let shown = json(&job.checkpoint(&["show"]));
        assert_ne!(shown["unpublished"], 0, "output that waits: {shown}");

        let mut command = super::thalweg();
        let export = command
            .arg("checkpoint")
            .arg("export")
            .arg(job.path("checkpoints"));
        let exported = export.output().expect("the binary starts").stdout;
        let expected = std::fs::read(folder.join("expected.jsonl")).expect("its rows");
        assert_eq!(
            String::from_utf8_lossy(&exported),
            String::from_utf8_lossy(&expected),
            "{}",
            folder.display()
        );

        let (code, said) = job.start(&["--json"]).end();
        assert_eq!(code, Some(0), "{said}");
        let result = said.lines().find(|line| line.starts_with('{'));
        let result: Value = serde_json::from_str(result.expect("a result")).expect("JSON");
        assert_eq!(
            result["status"]["restored"]["epoch"], shown["epoch"],
            "{result}"
        );
        let fresh = Job::new(&definition);
        std::fs::copy(folder.join("limits.jsonl"), fresh.path("limits.jsonl")).expect("copied");
        let (code, said) = fresh
            .start(&["--set", "sources.reports.generate.rate=100000"])
            .end();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(results(&job), results(&fresh), "{}", folder.display());
    }
}
