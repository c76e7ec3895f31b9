//! What survives a crash: writing, renaming and checking files, with fsync of file and folder.
//!
//! A new or renamed file is durable only when its folder has been fsynced too (fsync(2)). After a
//! failed fsync the file is given up: the kernel may have dropped what it could not write, and a
//! second fsync would say that all is well.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Ending of a file that is not complete yet.
pub(crate) const PARTIAL: &str = ".partial";

/// Creates a folder and those above it that are missing, and makes their names durable.
pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    if path.is_dir() {
        // Who created it may have died before its name was durable.
        return match sync_parent(path) {
            // What lies above belongs to somebody else, who made what is in it, or, as above a mount
            // point, to a file system that has nothing to sync.
            Err(Error::Io { source, .. })
                if matches!(
                    source.kind(),
                    ErrorKind::PermissionDenied
                        | ErrorKind::InvalidInput
                        | ErrorKind::ReadOnlyFilesystem
                        | ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            synced => synced,
        };
    }
    if let Some(above) = path.parent() {
        create_folder(above)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !path.is_dir() => {
            Err(Error::io("create folder", path)(error))
        }
        Ok(()) | Err(_) => sync_parent(path),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("fsync", path))
}

/// Makes the name of a file or folder durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    sync_folder(parent(path))
}

/// The folder a path lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// `path` with `ending` behind its name.
pub(crate) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Writes a file whole: under its name there is all of it or what was there before. Durable when
/// it returns.
///
/// The content goes to a new file each time, never over one whose fsync may have failed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = with_ending(path, PARTIAL);
    remove(&partial)?;
    let written =
        thalweg_disk::write_new(&partial, &[bytes]).and_then(|()| fs::rename(&partial, path));
    if let Err(source) = written {
        // The error that matters is the first; what is left is found by the next listing.
        if let Err(error) = remove(&partial) {
            tracing::debug!(%error, "a partial file stays behind");
        }
        return Err(Error::io("write", path)(source));
    }
    sync_parent(path)
}

/// Renames within one file system; the caller fsyncs the folders. False if `from` is not there.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<bool, Error> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("rename to", to)(error)),
    }
}

/// Removes a file; fine if it is gone.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove", path)(error)),
    }
}

/// The length of a file, or nothing if it is not there.
pub(crate) fn length(path: &Path) -> Result<Option<u64>, Error> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

/// Whether a file is there, and whether with this length and checksum.
pub(crate) fn check(path: &Path, bytes: u64, crc32: u32) -> Result<Found, Error> {
    match length(path)? {
        None => return Ok(Found::Missing),
        Some(length) if length != bytes => return Ok(Found::Different),
        Some(_) => {}
    }
    let mut hasher = crc32fast::Hasher::new();
    read_pieces(path, u64::MAX, |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok(if hasher.finalize() == crc32 {
        Found::Intact
    } else {
        Found::Different
    })
}

/// Hands the first `length` bytes of a file (all, if it has fewer) to `take`, piece by piece.
pub(crate) fn read_pieces(
    path: &Path,
    length: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut file = file.take(length);
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => take(piece.get(..read).unwrap_or_default())?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
}

/// What is under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Missing,
    /// What should be there.
    Intact,
    /// Something of another length or checksum.
    Different,
}
