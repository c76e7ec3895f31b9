//! Checkpoints as each version has written them: today's binary reads, verifies, exports and resumes
//! all of them. `scripts/golden` makes one; a released one never changes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::savepoints::{published, savepoints};
use super::{Job, json, read_lines};

/// As fast as it goes: the pace at which a store was made is of no interest later on.
const RATE: [&str; 2] = ["--set", "sources.reports.generate.rate=100000"];

/// The stores, the newest last.
fn folders() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let entries = std::fs::read_dir(golden).expect("the folder");
    let mut folders: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    folders.sort_by_key(|folder| {
        let number = folder.file_name().and_then(|name| name.to_str());
        number.and_then(|number| number.parse::<u32>().ok())
    });
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

/// The kinds of entries that the job log has.
fn entries(job: &Job) -> BTreeSet<String> {
    let folder = std::fs::read_dir(job.path("checkpoints/log")).expect("a log");
    let kind = |path: PathBuf| {
        let text = std::fs::read_to_string(path).expect("text");
        let (_, body) = text.split_once('\n').expect("a head and a body");
        let entry: Value = serde_json::from_str(body).expect("JSON");
        entry["body"]["entry"].as_str().expect("a kind").to_owned()
    };
    folder
        .map(|entry| kind(entry.expect("an entry").path()))
        .collect()
}

/// The steps whose state begins with what was compacted.
fn compacted(manifest: &Value) -> BTreeSet<&str> {
    let steps = manifest["state"]["steps"].as_object().expect("steps");
    let base = |links: &Value| {
        let part = links[0]["part"].as_str().expect("a part");
        let (_, writer) = part.rsplit_once('/').expect("a folder");
        writer.starts_with('c') && links[0]["bases"] == "0-255"
    };
    let steps = steps.iter().filter(|(_, links)| base(links));
    steps.map(|(step, _)| step.as_str()).collect()
}

/// The result of a run to the end.
fn run(job: &Job, arguments: &[&str]) -> Value {
    let (code, said) = job.start(&[arguments, &RATE, &["--json"]].concat()).end();
    assert_eq!(code, Some(0), "{said}");
    let result = said.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(result.expect("a result")).expect("JSON")
}

/// Starts the finished job from its savepoint, as a history of its own.
fn start_from_savepoint(job: &Job, epoch: u64) {
    let shown = json(&job.checkpoint(&["show", "--epoch", &epoch.to_string()]));
    let staged = shown["manifest"]["ledgers"]["windows"]["input"].as_u64();
    let staged = usize::try_from(staged.expect("a count")).expect("few");
    let history = shown["lineage"].as_str().expect("text");
    let whole = published(job).remove(history).expect("the first history");
    let result = run(job, &["--from", &epoch.to_string()]);
    assert_eq!(result["status"]["restored"]["epoch"], epoch, "{result}");
    let all = published(job);
    let again = &all[result["status"]["lineage"].as_str().expect("text")];
    assert_eq!(all[history], whole, "what was published stays as it is");
    let known: BTreeSet<&String> = whole.iter().collect();
    let after: BTreeSet<&String> = again.iter().collect();
    assert!(
        staged > 0 && after.is_subset(&known),
        "{staged}, {after:#?}"
    );
    assert_eq!(
        (again.len(), after.len()),
        (whole.len() - staged, whole.len() - staged),
        "what came after, once"
    );
}

#[test]
fn the_newest_store_has_all_that_is_to_stay_readable() {
    let folder = folders().pop().expect("one at least");
    let job = Job::new("");
    copy(&folder, job.folder.path());
    let shown = json(&job.checkpoint(&["show"]));
    let steps = ["counted", "limited", "once"];
    assert_eq!(compacted(&shown["manifest"]), BTreeSet::from(steps));
    for step in steps {
        let deltas = shown["states"][step]["delta_bytes"].as_u64();
        assert!(deltas > Some(0), "deltas behind the base of {step}");
    }
    assert_eq!(savepoints(&job).len(), 1);
    let kinds = ["claim", "commit", "fence", "snapshot", "stop"].map(str::to_owned);
    assert_eq!(entries(&job), BTreeSet::from(kinds));
    let units = shown["manifest"]["sinks"]["windows"]["units"].as_array();
    assert_ne!(units.expect("a list").len(), 0, "staged beside the output");
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

        let result = run(&job, &[]);
        assert_eq!(
            result["status"]["restored"]["epoch"], shown["epoch"],
            "{result}"
        );
        let fresh = Job::new(&definition);
        std::fs::copy(folder.join("limits.jsonl"), fresh.path("limits.jsonl")).expect("copied");
        run(&fresh, &[]);
        assert_eq!(results(&job), results(&fresh), "{}", folder.display());
        for epoch in savepoints(&job) {
            start_from_savepoint(&job, epoch);
        }
    }
}
