//! Files as the real binary meets them: rotated while it is killed and started again.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation ends a test"
)]

mod many;
mod rotation;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A definition in a folder of its own.
struct Job(tempfile::TempDir);

impl Job {
    fn new(definition: &str) -> Self {
        let job = Self(tempfile::tempdir().expect("a folder"));
        std::fs::write(job.path("job.yaml"), definition).expect("the definition");
        job
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// All lines of the files published so far.
    fn published(&self) -> Vec<Value> {
        let entries = std::fs::read_dir(self.path("out")).into_iter().flatten();
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let files = paths.filter(|path| path.is_file());
        files.flat_map(|path| lines(&path)).collect()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("text");
    let json = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(json).collect()
}
