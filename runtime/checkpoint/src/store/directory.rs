//! A folder as a store: atomic, and durable when a write returns.
//!
//! A write goes to a temporary file that is synced, then gets its name, by a rename if it may
//! replace and by `link(2)` if it must not, then the folder is synced. So an object is there whole
//! or not at all, also after a loss of power, and of several writers that create one name exactly
//! one succeeds. (`object_store` 0.13 syncs neither file nor folder; reads go through it.)

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use super::disk::Disk;
use super::faults::Moment;
use crate::error::Error;
use crate::name::{ObjectName, STATE};
use thalweg_stream::planted::planted;

/// Folder of temporary files; no listing looks into it.
const TEMPORARY: &str = ".tmp";
/// How often a write is begun again because somebody removed the folder under it.
const ATTEMPTS_MAX: u32 = 4;

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Durably; replaces.
    Replace,
    /// Durably; fails if the name is taken.
    Create,
    /// Atomically, but it need not survive a loss of power; replaces.
    Advise,
}

/// A folder as a store.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    /// Prefix of this handle's temporary files.
    handle: String,
    serial: AtomicU64,
    /// Folders known to be on disk.
    folders: Mutex<HashSet<PathBuf>>,
    /// A folder could not be synced: what is on disk is no longer known, so nothing more is
    /// written by this process. Why that was.
    lost: OnceLock<String>,
}

impl Directory {
    /// The store in `root`, which is created if it is not there.
    pub(super) fn create(root: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        make_folders(root, disk.as_ref())?;
        let directory = Self::existing(root, disk);
        directory.folder(&directory.root.join(TEMPORARY))?;
        Ok(directory)
    }

    /// The store in `root`, which is there.
    pub(super) fn existing(root: &Path, disk: Arc<dyn Disk>) -> Self {
        Self {
            root: root.to_owned(),
            disk,
            handle: uuid::Uuid::new_v4().simple().to_string(),
            serial: AtomicU64::new(0),
            folders: Mutex::default(),
            lost: OnceLock::new(),
        }
    }

    /// Writes an object; calls `reached` at the moments in between.
    pub(super) fn put(
        &self,
        name: &ObjectName,
        chunks: &[Bytes],
        mode: Mode,
        reached: &dyn Fn(Moment) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if let Some(why) = self.lost.get() {
            let problem = format!(
                "a folder could not be synced before ({why}); what is on disk is not known"
            );
            return Err(failed("put", name, &io::Error::other(problem)));
        }
        let path = self.root.join(name.as_str());
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        let mut attempt = 1;
        loop {
            match self.put_once(name, &path, &folder, chunks, mode, reached) {
                // Retention has removed the folder, or a successor our temporary file.
                Err(Failure::Vanished) if attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    self.folders().clear();
                }
                Err(Failure::Vanished) => {
                    return Err(failed("put", name, &ErrorKind::NotFound.into()));
                }
                Err(Failure::Is(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
    }

    fn put_once(
        &self,
        name: &ObjectName,
        path: &Path,
        folder: &Path,
        chunks: &[Bytes],
        mode: Mode,
        reached: &dyn Fn(Moment) -> Result<(), Error>,
    ) -> Result<(), Failure> {
        let durable = mode != Mode::Advise && !planted("skip-fsync");
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = (self.root.join(TEMPORARY)).join(format!("{}-{serial}", self.handle));
        let io = |error: io::Error| match error.kind() == ErrorKind::NotFound {
            true => Failure::Vanished,
            false => Failure::Is(failed("put", name, &error)),
        };
        (self.folder(&self.root.join(TEMPORARY))).map_err(io)?;
        self.folder(folder).map_err(io)?;
        if let Err(error) = self.disk.write(&temporary, chunks, durable) {
            // Whatever was written is useless; if it stays, the next owner sweeps it.
            self.disk.unlink(&temporary).ok();
            return Err(io(error));
        }
        if durable {
            reached(Moment::Synced).map_err(Failure::Is)?;
        }
        let named = match mode {
            Mode::Create => self.disk.link(&temporary, path),
            Mode::Replace | Mode::Advise => self.disk.rename(&temporary, path),
        };
        if let Err(error) = named {
            self.disk.unlink(&temporary).ok();
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(io(error));
            }
            // Whoever acts on the object that is there must find it again after a loss of power.
            self.sync(folder).map_err(io)?;
            return Err(Failure::Is(Error::AlreadyExists {
                name: name.to_string(),
            }));
        }
        if durable {
            reached(Moment::Visible).map_err(Failure::Is)?;
            self.sync(folder).map_err(io)?;
        }
        if mode == Mode::Create {
            self.disk.unlink(&temporary).ok();
        }
        Ok(())
    }

    /// Deletes an object; fine if it is gone. A deletion need not survive a loss of power: the
    /// object is then swept again.
    pub(super) fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        let path = self.root.join(name.as_str());
        match self.disk.unlink(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("delete", name, &error)),
        }
        // Each checkpoint has a folder below `state/`; the last object takes it along.
        if name.as_str().starts_with(STATE)
            && let Some(folder) = path.parent()
        {
            self.folders().remove(folder);
            self.disk.remove_folder(folder).ok();
        }
        Ok(())
    }

    /// Removes temporary files of other handles: writers of the past, or of a generation that is
    /// fenced by now.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let folder = self.root.join(TEMPORARY);
        if !folder.is_dir() {
            return Ok(());
        }
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if !entry
                .file_name()
                .to_string_lossy()
                .starts_with(&self.handle)
            {
                match self.disk.unlink(&entry.path()) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    fn sync(&self, folder: &Path) -> io::Result<()> {
        let synced = self.disk.sync_folder(folder);
        if let Err(error) = &synced {
            self.lost.get_or_init(|| error.to_string());
        }
        synced
    }

    /// What a panicked holder left is still a cache of true facts.
    fn folders(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that a folder at or below the root is there and on disk.
    fn folder(&self, folder: &Path) -> io::Result<()> {
        if folder == self.root || self.folders().contains(folder) {
            return Ok(());
        }
        let parent = folder.parent().unwrap_or(&self.root);
        self.folder(parent)?;
        match self.disk.create_folder(folder) {
            // Who created it may not have come to syncing its parent.
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => self.sync(parent)?,
        }
        self.folders().insert(folder.to_owned());
        Ok(())
    }
}

/// Why a write did not come about.
enum Failure {
    /// A folder or the temporary file has gone in between.
    Vanished,
    Is(Error),
}

/// Creates the root and what is missing above it, durably.
fn make_folders(folder: &Path, disk: &dyn Disk) -> io::Result<()> {
    let made = match disk.create_folder(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_folders(folder.parent().ok_or(error)?, disk)?;
            // Where nothing can be created, as in /proc, it is still not found.
            disk.create_folder(folder)
        }
        made => made,
    };
    match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => match folder.parent() {
            Some(parent) if parent.as_os_str().is_empty() => disk.sync_folder(Path::new(".")),
            Some(parent) => disk.sync_folder(parent),
            None => Ok(()),
        },
    }
}

/// An error of the operating system, classified.
pub(super) fn failed(action: &'static str, name: &ObjectName, error: &io::Error) -> Error {
    let (problem, passing) = problem(error);
    Error::Storage {
        action,
        name: name.to_string(),
        problem,
        passing,
    }
}

/// What the operating system says, and whether it may say something else later: a full disk can be
/// emptied, a missing permission is for the user to give.
pub(super) fn problem(error: &io::Error) -> (String, bool) {
    let text = error.to_string().to_lowercase();
    if error.kind() == ErrorKind::Unsupported {
        return (
            format!("{text} (the file system must have hard links)"),
            false,
        );
    }
    let lasting = matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::Other
    );
    (text, !lasting)
}

#[cfg(test)]
mod tests;
