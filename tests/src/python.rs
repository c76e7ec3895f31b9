//! The Python environment of the tests, which `scripts/setup test` makes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The interpreter, if its environment has these modules.
///
/// # Panics
/// If it has not, where nothing may be skipped (`THALWEG_NO_SKIPS`, set by `make test`).
#[must_use]
pub fn python(modules: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let python = root.join(".deps/python/bin/python");
    let found = Command::new(&python)
        .args(["-c", &format!("import {modules}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if found {
        return Some(python);
    }
    skip(&format!("no Python with {modules}: run scripts/setup test"));
    None
}

/// Says that a test is skipped because what it needs is not installed.
///
/// # Panics
/// Where nothing may be skipped.
#[allow(clippy::print_stderr, reason = "words to whoever runs the test")]
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("THALWEG_NO_SKIPS").is_none(),
        "must not be skipped here: {why}"
    );
    eprintln!("skipped: {why}");
}
