//! The directory store over a disk that forgets what was not synced.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Directory, Disk, Mode};
use crate::error::Error;
use crate::name::ObjectName;

/// A file system in memory that keeps apart what is on disk and what is only in caches.
#[derive(Debug, Default)]
struct VolatileDisk(Mutex<Contents>);

#[derive(Clone, Debug, Default)]
struct Contents {
    /// Files by number: what was written, and whether it was synced.
    files: Vec<(Vec<u8>, bool)>,
    /// Names in caches and on disk; a folder has no file.
    cached: BTreeMap<PathBuf, Option<usize>>,
    stored: BTreeMap<PathBuf, Option<usize>>,
    /// Calls made, and the one at which the power fails.
    calls: usize,
    power_fails_at: Option<usize>,
    trace: Vec<String>,
    syncing_fails: bool,
}

impl VolatileDisk {
    fn with_root(root: &Path) -> Arc<Self> {
        let disk = Self::default();
        {
            let mut contents = disk.0.lock().unwrap();
            for folder in [Path::new("/"), root] {
                contents.cached.insert(folder.to_owned(), None);
                contents.stored.insert(folder.to_owned(), None);
            }
        }
        Arc::new(disk)
    }

    fn call<T>(
        &self,
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut Contents) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut contents = self.0.lock().unwrap();
        contents.calls += 1;
        if (contents.power_fails_at).is_some_and(|at| contents.calls >= at) {
            return Err(io::Error::other("no power"));
        }
        let last = path.file_name().unwrap().to_string_lossy().into_owned();
        contents.trace.push(format!("{what} {last}"));
        act(&mut contents)
    }

    /// What is there when the power is back.
    fn after_power_loss(&self, path: &Path) -> Option<Vec<u8>> {
        let contents = self.0.lock().unwrap();
        let mut above = path.parent();
        while let Some(folder) = above.filter(|f| *f != Path::new("/")) {
            contents.stored.get(folder)?;
            above = folder.parent();
        }
        let file = (*contents.stored.get(path)?)?;
        let (bytes, synced) = &contents.files[file];
        // Worst case: the name is there and the content is not.
        Some(if *synced { bytes.clone() } else { Vec::new() })
    }
}

impl Contents {
    fn parent(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().unwrap();
        let there = self.cached.get(parent) == Some(&None);
        there.then_some(()).ok_or(ErrorKind::NotFound.into())
    }
}

impl Disk for VolatileDisk {
    fn write(&self, path: &Path, chunks: &[Bytes], sync: bool) -> io::Result<()> {
        let temporary = Path::new("temporary");
        self.call("write", temporary, |contents| {
            contents.parent(path)?;
            let number = contents.files.len();
            contents.files.push((chunks.concat(), false));
            contents.cached.insert(path.to_owned(), Some(number));
            Ok(())
        })?;
        if sync {
            self.call("sync", temporary, |contents| {
                let number = contents.cached[path].unwrap();
                contents.files[number].1 = true;
                Ok(())
            })?;
        }
        Ok(())
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link", to, |contents| {
            contents.parent(to)?;
            if contents.cached.contains_key(to) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let file = *(contents.cached.get(from)).ok_or(ErrorKind::NotFound)?;
            contents.cached.insert(to.to_owned(), file);
            Ok(())
        })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", to, |contents| {
            contents.parent(to)?;
            let file = (contents.cached.remove(from)).ok_or(ErrorKind::NotFound)?;
            contents.cached.insert(to.to_owned(), file);
            Ok(())
        })
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call("unlink", path, |contents| {
            let gone = contents.cached.remove(path);
            gone.map(drop).ok_or(ErrorKind::NotFound.into())
        })
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.call("create", path, |contents| {
            contents.parent(path)?;
            if contents.cached.contains_key(path) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            contents.cached.insert(path.to_owned(), None);
            Ok(())
        })
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path, |contents| {
            if contents.cached.keys().any(|k| k.parent() == Some(path)) {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            let gone = contents.cached.remove(path);
            gone.map(drop).ok_or(ErrorKind::NotFound.into())
        })
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call("sync", path, |contents| {
            if contents.syncing_fails {
                return Err(io::Error::other("input/output error"));
            }
            contents.stored.retain(|k, _| k.parent() != Some(path));
            let names: Vec<_> = (contents.cached.iter())
                .filter(|(k, _)| k.parent() == Some(path))
                .map(|(k, v)| (k.clone(), *v))
                .collect();
            contents.stored.extend(names);
            Ok(())
        })
    }
}

fn put(directory: &Directory, name: &ObjectName, content: &str, mode: Mode) -> Result<(), Error> {
    let chunk = Bytes::copy_from_slice(content.as_bytes());
    directory.put(name, &[chunk], mode, &|_| Ok(()))
}

fn part() -> ObjectName {
    ObjectName::listed("state/7-g1/w0")
}

#[test]
fn content_is_synced_before_its_name_and_the_folder_after() {
    let root = Path::new("/store");
    let disk = VolatileDisk::with_root(root);
    let directory = Directory::create(root, disk.clone()).unwrap();
    put(&directory, &part(), "first", Mode::Replace).unwrap();
    disk.0.lock().unwrap().trace.clear();
    put(&directory, &part(), "second", Mode::Replace).unwrap();
    put(
        &directory,
        &ObjectName::listed("state/7-g1/w1"),
        "x",
        Mode::Create,
    )
    .unwrap();
    let trace: Vec<_> = disk.0.lock().unwrap().trace.clone();
    let (replaced, created) = trace.split_at(4);
    assert_eq!(
        replaced,
        [
            "write temporary",
            "sync temporary",
            "rename w0",
            "sync 7-g1"
        ]
    );
    assert_eq!(
        &created[..4],
        ["write temporary", "sync temporary", "link w1", "sync 7-g1"]
    );
}

#[test]
fn loss_of_power_at_any_call_leaves_the_old_object_or_the_new_one_whole() {
    let root = Path::new("/store");
    let path = root.join(part().as_str());
    for mode in [Mode::Create, Mode::Replace] {
        for old in [None, Some("old").filter(|_| mode == Mode::Replace)] {
            let mut returned = 0;
            for fails_at in 1.. {
                let disk = VolatileDisk::with_root(root);
                let Ok(directory) = Directory::create(root, disk.clone()) else {
                    continue;
                };
                if let Some(old) = old {
                    put(&directory, &part(), old, Mode::Replace).unwrap();
                }
                let before = disk.0.lock().unwrap().calls;
                disk.0.lock().unwrap().power_fails_at = Some(before + fails_at);
                let written = put(&directory, &part(), "new", mode);
                let found = disk.after_power_loss(&path);
                let found = found.as_deref().map(|f| std::str::from_utf8(f).unwrap());
                if written.is_ok() {
                    assert_eq!(found, Some("new"), "{mode:?} {old:?} call {fails_at}");
                    returned += 1;
                } else {
                    assert!(
                        found == old || found == Some("new"),
                        "{mode:?} {old:?} call {fails_at}: {found:?}"
                    );
                }
                if returned == 2 {
                    assert!(fails_at > 4, "the power never failed in between");
                    break;
                }
            }
        }
    }
}

#[test]
fn whoever_learns_that_an_object_exists_finds_it_after_a_loss_of_power() {
    let root = Path::new("/store");
    let disk = VolatileDisk::with_root(root);
    let first = Directory::create(root, disk.clone()).unwrap();
    let second = Directory::create(root, disk.clone()).unwrap();
    // The first writer stops between naming the object and syncing the folder.
    let stopped = first.put(
        &part(),
        &[Bytes::from_static(b"first")],
        Mode::Create,
        &|moment| match moment == super::Moment::Visible {
            true => Err(Error::Bug("stopped".into())),
            false => Ok(()),
        },
    );
    assert!(stopped.is_err());
    let path = root.join(part().as_str());
    assert_eq!(disk.after_power_loss(&path), None);
    let refused = put(&second, &part(), "second", Mode::Create);
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })));
    assert_eq!(disk.after_power_loss(&path).as_deref(), Some(&b"first"[..]));
}

#[test]
fn a_folder_that_cannot_be_synced_ends_all_writing() {
    let root = Path::new("/store");
    let disk = VolatileDisk::with_root(root);
    let directory = Directory::create(root, disk.clone()).unwrap();
    put(&directory, &part(), "first", Mode::Replace).unwrap();
    disk.0.lock().unwrap().syncing_fails = true;
    assert!(put(&directory, &part(), "second", Mode::Replace).is_err());
    // The kernel forgets the error; we must not.
    disk.0.lock().unwrap().syncing_fails = false;
    let refused = put(&directory, &part(), "third", Mode::Replace).unwrap_err();
    assert!(!refused.passing(), "{refused}");
}

#[test]
fn a_folder_that_retention_removes_is_made_again() {
    let root = Path::new("/store");
    let disk = VolatileDisk::with_root(root);
    let writer = Directory::create(root, disk.clone()).unwrap();
    let sweeper = Directory::create(root, disk.clone()).unwrap();
    put(&writer, &part(), "first", Mode::Replace).unwrap();
    sweeper.delete(&part()).unwrap();
    put(&writer, &part(), "second", Mode::Replace).unwrap();
    let path = root.join(part().as_str());
    assert_eq!(
        disk.after_power_loss(&path).as_deref(),
        Some(&b"second"[..])
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_where_no_folder_can_be_made_is_an_error() {
    let disk = super::super::disk::OsDisk;
    let error = super::make_folders(Path::new("/proc/nowhere/store"), &disk).expect_err("refused");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
