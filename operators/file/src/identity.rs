//! Which file it is, whatever it is called: rotation renames files, and takes their names for others.
//!
//! A file is known by its number in the file system and by its head: numbers of removed files are
//! given out again, and two files may begin alike. Neither changes when a file is renamed or grows.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thalweg_stream::source::SplitSpec;

use crate::compression::{Compression, read_some_at};

/// Most of a file that is its head, bytes.
const HEAD_BYTES: usize = 1 << 10;

/// What a checkpoint keeps of a file that is followed: the detail of its split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Followed {
    /// The name under which it was met, relative to the definition's folder where that is.
    pub(crate) path: String,
    #[serde(flatten)]
    pub(crate) identity: Identity,
}

impl Followed {
    /// Where its file is now, if it is still in the folder where it was met.
    pub(crate) fn locate(&self, folder: &Path) -> io::Result<Option<PathBuf>> {
        let met = folder.join(&self.path);
        match fs::metadata(&met) {
            Ok(metadata) if self.identity.has_number(&metadata, true) => Ok(Some(met)),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(_) | Err(_) => self.identity.beside(&met),
        }
    }

    /// Of a split; nothing if it was listed without being followed.
    pub(crate) fn of(spec: &SplitSpec) -> Option<Self> {
        serde_json::from_value(spec.detail.clone()).ok()
    }
}

/// Which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Identity {
    inode: u64,
    device: u64,
    /// How much of it was there when it was met, up to a limit…
    head_bytes: u32,
    /// …and the CRC-32 of that.
    head: u32,
}

impl Identity {
    /// Of an open file. Nothing if it has no whole line yet, which is too little to know it by, or
    /// is compressed.
    pub(crate) fn of(file: &File) -> io::Result<Option<Self>> {
        let mut head = [0; HEAD_BYTES];
        let read = read_some_at(file, &mut head)?;
        let head = head.get(..read).unwrap_or_default();
        if !head.contains(&b'\n') && read < HEAD_BYTES || Compression::is_compressed(head) {
            return Ok(None);
        }
        let metadata = file.metadata()?;
        Ok(Some(Self {
            inode: metadata.ino(),
            device: metadata.dev(),
            head_bytes: u32::try_from(read).unwrap_or(u32::MAX),
            head: crc32fast::hash(head),
        }))
    }

    /// Its number in the file system.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether `metadata` are of a file with this number. Devices may have other numbers after a
    /// restart of the machine: under the `same_path` they are not compared.
    pub(crate) fn has_number(&self, metadata: &Metadata, same_path: bool) -> bool {
        metadata.ino() == self.inode && (same_path || metadata.dev() == self.device)
    }

    /// Whether an open file begins as this one did.
    pub(crate) fn has_head(&self, file: &File) -> io::Result<bool> {
        let mut head = [0; HEAD_BYTES];
        let bytes = (self.head_bytes as usize).min(HEAD_BYTES);
        let head = head.get_mut(..bytes).unwrap_or_default();
        let read = read_some_at(file, head)?;
        Ok(read == bytes && crc32fast::hash(head) == self.head)
    }

    /// Where in the folder of `path` there is a file with this number.
    pub(crate) fn beside(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let folder = (path.parent()).filter(|folder| *folder != OsStr::new(""));
        let entries = match fs::read_dir(folder.unwrap_or(Path::new("."))) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.ino() == self.inode && self.is_entry(&entry)? {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    fn is_entry(&self, entry: &DirEntry) -> io::Result<bool> {
        match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            metadata => metadata.map(|metadata| self.has_number(&metadata, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::Identity;

    #[test]
    fn a_file_is_known_by_a_whole_line_and_keeps_its_identity_when_renamed_and_grown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let identity = |path| Identity::of(&File::open(path).unwrap()).unwrap();
        for (content, known) in [
            (b"".to_vec(), false),
            (b"half a line".to_vec(), false),
            (b"a line\n".to_vec(), true),
            (vec![b'x'; 2000], true),
            // gzip, whatever comes in it.
            (b"\x1f\x8b\x08\n".to_vec(), false),
        ] {
            fs::write(&path, &content).unwrap();
            assert_eq!(identity(&path).is_some(), known, "{content:?}");
        }
        fs::write(&path, "a line\n").unwrap();
        let met = identity(&path).unwrap();
        let moved = folder.path().join("log.1");
        fs::rename(&path, &moved).unwrap();
        assert_eq!(met.beside(&path).unwrap(), Some(moved.clone()));
        fs::write(&moved, "a line\nand more\n").unwrap();
        assert!(met.has_head(&File::open(&moved).unwrap()).unwrap());
        fs::write(&moved, "another\n").unwrap();
        assert!(!met.has_head(&File::open(&moved).unwrap()).unwrap());
        fs::remove_file(&moved).unwrap();
        assert_eq!(met.beside(&path).unwrap(), None);
        assert_eq!(met.beside(&path.join("no/folder")).unwrap(), None);
    }
}
