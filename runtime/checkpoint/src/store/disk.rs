//! The few file system calls the directory store makes, so that a test can put a disk under it
//! that loses everything not synced.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;

/// A file system.
pub(crate) trait Disk: Send + Sync + Debug {
    /// Creates a file that must not be there and writes it; on disk when it returns if `sync`.
    fn write(&self, path: &Path, chunks: &[Bytes], sync: bool) -> io::Result<()>;
    /// Gives a file a second name, unless the name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name, which it takes from whoever has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Brings the names in a folder to disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OsDisk;

impl Disk for OsDisk {
    fn write(&self, path: &Path, chunks: &[Bytes], sync: bool) -> io::Result<()> {
        if sync {
            return thalweg_disk::write_new(path, chunks);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        chunks.iter().try_for_each(|chunk| file.write_all(chunk))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
