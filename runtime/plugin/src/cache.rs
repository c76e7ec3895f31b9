//! Compiled code, kept between runs.
//!
//! Loading compiled code means running it: it is taken only from a directory that nobody else can
//! write to. The directory must belong to the user we run as and be closed to everybody else, and
//! so must every file; a file carries a checksum over its name and content, so that a damaged,
//! truncated or renamed one is compiled anew. Whoever can get around that runs as the same user
//! already. The name holds the component's hash and a hash of the engine's version and settings.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

/// What a file begins with; the last character is the version of the format.
const MAGIC: &[u8; 8] = b"thwcode1";
const HEAD_BYTES: usize = MAGIC.len() + 32;
/// Largest file (bytes), and most files; the oldest go.
const FILE_BYTES_MAX: u64 = 256 << 20;
const FILES_MAX: usize = 64;

/// A directory of compiled code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// A cache in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, or others could write to it.
    pub fn open(directory: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        (DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory))
        .map_err(failed)?;
        let metadata = std::fs::symlink_metadata(directory).map_err(failed)?;
        if !metadata.is_dir() || !ours(&metadata) {
            return Err(format!(
                "{}: not a directory that only this user can use",
                directory.display()
            ));
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// The cache of the user, below `$XDG_CACHE_HOME` or `$HOME/.cache`; none, with a line in the
    /// log, if it cannot be used.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        match Self::open(&base.join("thalweg").join("plugins")) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(error, "plugins are compiled at every start");
                None
            }
        }
    }

    pub(crate) fn load(&self, name: &str) -> Option<Vec<u8>> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(self.directory.join(name))
            .ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || !ours(&metadata) || metadata.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).ok()?;
        let (head, code) = content.split_at_checked(HEAD_BYTES)?;
        if head != self::head(name, code) {
            tracing::warn!(name, "a damaged file in the plugin cache is replaced");
            return None;
        }
        content.drain(..HEAD_BYTES);
        Some(content)
    }

    /// Keeps code. What cannot be kept is compiled again next time.
    pub(crate) fn store(&self, name: &str, code: &[u8]) {
        if let Err(error) = self.try_store(name, code) {
            tracing::warn!(%error, name, "compiled code of a plugin is not kept");
        }
        self.prune();
    }

    fn try_store(&self, name: &str, code: &[u8]) -> std::io::Result<()> {
        let partial = self
            .directory
            .join(format!("{name}.{}", std::process::id()));
        let write = |mut file: File| {
            file.write_all(&head(name, code))?;
            file.write_all(code)
        };
        // Whole or not at all: several processes may compile the same plugin at once.
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&partial)
            .and_then(write)
            .and_then(|()| std::fs::rename(&partial, self.directory.join(name)));
        if written.is_err() {
            std::fs::remove_file(&partial).ok();
        }
        written
    }

    fn prune(&self) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return;
        };
        let mut files: Vec<_> = (entries.flatten())
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        for (_, path) in files.into_iter().take(surplus) {
            // Another process may have been faster.
            std::fs::remove_file(path).ok();
        }
    }
}

/// The name of the code that `engine` makes of the component with this hash.
pub(crate) fn name(engine: &Engine, sha256: &str) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{sha256}-{:016x}", hasher.finish())
}

fn head(name: &str, code: &[u8]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update(code)
        .finalize();
    let (magic, checksum) = head.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    checksum.copy_from_slice(&digest);
    head
}

/// Whether it belongs to us and nobody else may use it.
#[allow(unsafe_code, reason = "the standard library does not tell who we are")]
fn ours(metadata: &Metadata) -> bool {
    // SAFETY: the call has no arguments and cannot fail.
    let us = unsafe { libc::geteuid() };
    metadata.uid() == us && metadata.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
    }

    #[test]
    fn code_comes_back_as_it_was_and_damaged_or_foreign_files_do_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(&folder.path().join("a/b")).expect("opens");
        assert_eq!(cache.load("one"), None);
        cache.store("one", b"code");
        assert_eq!(cache.load("one").as_deref(), Some(&b"code"[..]));
        let path = cache.directory.join("one");
        std::fs::copy(&path, cache.directory.join("two")).expect("copy");
        assert_eq!(cache.load("two"), None, "another name");
        let whole = std::fs::read(&path).expect("read");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).expect("write");
            assert_eq!(cache.load("one"), None, "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("write");
            assert_eq!(cache.load("one"), None, "cut at {at}");
        }
        std::fs::write(&path, &whole).expect("write");
        mode(&path, 0o620);
        assert_eq!(cache.load("one"), None, "others can write it");
        mode(&path, 0o600);
        let link = cache.directory.join("link");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        assert_eq!(cache.load("link"), None, "a link");
    }

    #[test]
    fn directory_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        mode(folder.path(), 0o770);
        assert!(Cache::open(folder.path()).is_err());
        mode(folder.path(), 0o700);
        assert!(Cache::open(folder.path()).is_ok());
    }

    #[test]
    fn oldest_files_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(&folder.path().join("cache")).expect("opens");
        for number in 0..FILES_MAX + 5 {
            cache.store(&format!("{number:03}"), b"code");
        }
        let left = std::fs::read_dir(&cache.directory).expect("list").count();
        assert_eq!(left, FILES_MAX);
        assert!(cache.load(&format!("{:03}", FILES_MAX + 4)).is_some());
    }
}
