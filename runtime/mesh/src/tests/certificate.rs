//! Certificates for tests, made by openssl.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{Error, Tls};

/// Two authorities, and a certificate for `NAME` that each has signed.
const MAKE: &str = include_str!("certificates.sh");

/// A folder with `ours` and `theirs`.
pub(super) fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new("bash")
        .args(["-c", MAKE])
        .env("NAME", "DNS:localhost")
        .current_dir(folder.path())
        .output()
        .expect("bash and openssl");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    folder
}

/// Believes `authority`, is `process`.
pub(super) fn tls(folder: &Path, authority: &str, process: &str) -> Result<Tls, Error> {
    Tls::from_files(
        &folder.join(format!("{authority}-ca.pem")),
        &folder.join(format!("{process}.pem")),
        &folder.join(format!("{process}.key")),
    )
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let folder = folder();
    let wrong = |authority: &str, certificate: &str, key: &str| {
        let path = |name: &str| folder.path().join(name);
        let tls = Tls::from_files(&path(authority), &path(certificate), &path(key));
        tls.expect_err("of no use").to_string()
    };
    assert!(wrong("none.pem", "ours.pem", "ours.key").contains("none.pem"));
    assert!(wrong("ours.key", "ours.pem", "ours.key").contains("ours.key: no certificate"));
    assert!(wrong("ours-ca.pem", "ours.key", "ours.key").contains("ours.key: no certificate"));
    assert!(wrong("ours-ca.pem", "ours.pem", "ours.pem").contains("ours.pem"));
    assert!(wrong("ours-ca.pem", "ours.pem", "theirs.key").contains("ours.pem"));
}
