//! A start's hold on the dead-letter file, which a successor takes away for good.
//!
//! A process may be frozen between any two system calls, and thaw when a successor has long gone
//! on. No look at who owns the file helps against that: what it does by name a moment later falls
//! on the successor's file. So each start has a hidden folder beside the file, and every name is
//! changed by a rename out of that folder or into it. A successor takes the folder away before it
//! looks at anything; from then on such a rename fails, as one of its two paths leads nowhere, and
//! what was renamed before is what the successor finds. Content is written only through handles on
//! files that one start has made for itself.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use thalweg_stream::epoch::{Generation, Lineage};

use crate::durable;
use crate::error::Error;
use crate::journal::Writer;

/// What is in the folder: files on their way to one of the two names, which whoever takes the
/// folder away brings there,
const TO_FILE: &str = "to-file";
const TO_ROTATED: &str = "to-rotated";
/// one that is not complete yet, one that nobody wants any more,
const NEW: &str = "new";
const OLD: &str = "old";
/// and the folder of another start.
const FENCED: &str = "fenced";

/// The hold of one start.
#[derive(Debug)]
pub(super) struct Claim {
    file: PathBuf,
    rotated: PathBuf,
    folder: PathBuf,
    writer: Writer,
}

impl Claim {
    /// The hold of `writer` on `file` and the one it is rotated to; not taken yet.
    pub(super) fn new(file: &Path, rotated: &Path, writer: &Writer) -> Self {
        let name = format!("{}{}-{}", prefix(file), writer.lineage, writer.generation.0);
        Self {
            file: file.to_owned(),
            rotated: rotated.to_owned(),
            folder: durable::parent(file).join(name),
            writer: writer.clone(),
        }
    }

    /// Takes hold, unless a newer start has.
    pub(super) fn take(&self) -> Result<(), Error> {
        durable::create_folder(durable::parent(&self.file))?;
        match DirBuilder::new().create(&self.folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.settle(&self.folder)?,
            made => made.map_err(Error::io("create folder", &self.folder))?,
        }
        // Of two starts that take hold at once, each has its folder before it looks for others.
        self.others().map(drop)
    }

    /// Takes the hold of all other starts away, and brings what they had on its way to its name.
    pub(super) fn fence(&self) -> Result<(), Error> {
        let fenced = self.folder.join(FENCED);
        for other in self.others()? {
            match fs::rename(&other, &fenced) {
                Err(error) if error.kind() == ErrorKind::NotFound => self.check_held()?,
                renamed => {
                    renamed.map_err(Error::io("take away", &other))?;
                    self.dissolve(&fenced)?;
                }
            }
        }
        Ok(())
    }

    /// Refuses to go on when the hold has been taken away.
    pub(super) fn check_held(&self) -> Result<(), Error> {
        match durable::length(&self.folder)? {
            Some(_) => Ok(()),
            None => Err(self.lost()),
        }
    }

    /// What went wrong because a successor changed what was being looked at is not told as damage.
    pub(super) fn or_lost<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| self.check_held().err().unwrap_or(error))
    }

    /// Writes a file whole, under its name; durable when it returns.
    pub(super) fn write(&self, to: &Path, bytes: &[u8]) -> Result<(), Error> {
        let new = self.folder.join(NEW);
        durable::remove(&new)?;
        match thalweg_disk::write_new(&new, &[bytes]) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.lost()),
            written => written.map_err(Error::io("write", to))?,
        }
        self.put(&new, to)
    }

    /// Puts a new file, locked, in the place of the dead-letter file: its first `length` bytes and
    /// `more`. Handles on the old one write to nowhere afterwards.
    pub(super) fn replace_by_copy(&self, length: u64, more: &[u8]) -> Result<File, Error> {
        let new = self.folder.join(NEW);
        durable::remove(&new)?;
        let made = OpenOptions::new().write(true).create_new(true).open(&new);
        let mut copy = match made {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.lost()),
            made => made.map_err(Error::io("create", &new))?,
        };
        // Not every file system has locks; they only keep other jobs away.
        if let Err(error) = copy.try_lock() {
            tracing::debug!(%error, path = %new.display(), "no lock");
        }
        let mut copied = 0;
        match fs::metadata(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            metadata => {
                let metadata = metadata.map_err(Error::io("look at", &self.file))?;
                (copy.set_permissions(metadata.permissions()))
                    .map_err(Error::io("set permissions of", &new))?;
                durable::read_pieces(&self.file, length, |piece| {
                    copied += piece.len() as u64;
                    copy.write_all(piece).map_err(Error::io("write", &new))
                })?;
            }
        }
        if copied < length {
            // Somebody has cut it or taken it away since we looked. The next look will tell.
            return Err(Error::io("copy", &self.file)(
                ErrorKind::UnexpectedEof.into(),
            ));
        }
        (copy.write_all(more).and_then(|()| copy.sync_all())).map_err(Error::io("write", &new))?;
        self.put(&new, &self.file)?;
        Ok(copy)
    }

    /// Makes the file the rotated one; fine if it is gone.
    pub(super) fn rotate(&self) -> Result<(), Error> {
        self.pass(&self.file, TO_ROTATED, &self.rotated)
    }

    /// Makes the rotated file the file again; fine if it is gone.
    pub(super) fn bring_back(&self) -> Result<(), Error> {
        self.pass(&self.rotated, TO_FILE, &self.file)
    }

    /// Removes both files; fine if they are gone.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let old = self.folder.join(OLD);
        for path in [&self.rotated, &self.file] {
            match durable::rename(path, &old)? {
                true => durable::remove(&old)?,
                false => self.check_held()?,
            }
        }
        durable::sync_parent(&self.file)
    }

    /// Brings what an attempt that failed left on its way to its name.
    pub(super) fn recover(&self) -> Result<(), Error> {
        self.settle(&self.folder)
    }

    fn pass(&self, from: &Path, way: &str, to: &Path) -> Result<(), Error> {
        let way = self.folder.join(way);
        match durable::rename(from, &way)? {
            true => self.put(&way, to),
            false => self.check_held(),
        }
    }

    /// Gives a file of the folder its name.
    fn put(&self, from: &Path, to: &Path) -> Result<(), Error> {
        match durable::rename(from, to)? {
            true => durable::sync_parent(to),
            false => Err(self.lost()),
        }
    }

    /// Removes a folder that has been taken away.
    fn dissolve(&self, folder: &Path) -> Result<(), Error> {
        self.settle(folder)?;
        fs::remove_dir(folder).map_err(Error::io("remove folder", folder))
    }

    /// Empties a folder: what is on its way is brought there.
    fn settle(&self, folder: &Path) -> Result<(), Error> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.lost()),
            entries => entries.map_err(Error::io("list", folder))?,
        };
        for entry in entries {
            let path = entry.map_err(Error::io("list", folder))?.path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some(TO_FILE) => self.put(&path, &self.file)?,
                Some(TO_ROTATED) => self.put(&path, &self.rotated)?,
                // Its owner crashed when it had just taken it away.
                Some(FENCED) => self.dissolve(&path)?,
                Some(_) | None => durable::remove(&path)?,
            }
        }
        Ok(())
    }

    /// The folders of other starts; an error if one of them is newer.
    fn others(&self) -> Result<Vec<PathBuf>, Error> {
        let (parent, prefix) = (durable::parent(&self.file), prefix(&self.file));
        let mut others = Vec::new();
        for entry in fs::read_dir(parent).map_err(Error::io("list", parent))? {
            let path = entry.map_err(Error::io("list", parent))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(writer) = name.and_then(|name| writer(name.strip_prefix(&prefix)?)) else {
                continue;
            };
            if writer.lineage == self.writer.lineage && writer.generation > self.writer.generation {
                return Err(Error::Claimed(self.file.clone()));
            }
            if writer != self.writer {
                others.push(path);
            }
        }
        Ok(others)
    }

    /// Why the folder is not there.
    fn lost(&self) -> Error {
        let parent = durable::parent(&self.file);
        match fs::metadata(parent) {
            Ok(_) => Error::Claimed(self.file.clone()),
            Err(error) => Error::io("look at", parent)(error),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Where it is not empty, the next start settles it.
        if let Err(error) = fs::remove_dir(&self.folder) {
            tracing::debug!(%error, folder = %self.folder.display(), "a claim stays behind");
        }
    }
}

/// How the names of all folders begin.
fn prefix(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.claim-")
}

/// The start whose folder has this name, without what all begin with.
fn writer(name: &str) -> Option<Writer> {
    let (lineage, generation) = name.split_once('-')?;
    if !lineage.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        // Of a file whose name goes on like that.
        return None;
    }
    Some(Writer {
        lineage: Lineage(lineage.to_owned()),
        generation: Generation(generation.parse().ok()?),
    })
}
