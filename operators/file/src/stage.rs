//! Staged output of a file sink: a hidden folder inside the sink's own, on the same file system.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thalweg_stream::Fault;
use thalweg_stream::sink::{StageStore, StagedObject};

use crate::durable::{self, Found, PARTIAL};
use crate::error::{Error, blocking};

/// The hidden folder's name.
const FOLDER: &str = ".thalweg-stage";

/// By how much the time of a staged file is put back: more than the coarsest clock of a file system
/// ticks (2 s, FAT), so that whoever writes to the file changes it.
const PUT_BACK: Duration = Duration::from_secs(5);

/// Stages objects as files of `FOLDER/.thalweg-stage`. Must be used on a tokio runtime.
#[derive(Clone, Debug)]
pub struct FileStageStore {
    root: Arc<Path>,
    /// Objects that this process has written and not yet published.
    written: Arc<Mutex<HashMap<String, Stamp>>>,
    /// Folders that this process has made durable.
    folders: Arc<Mutex<HashSet<PathBuf>>>,
}

/// What tells a file that nobody has written to from any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            inode: file.ino(),
            modified: (file.mtime(), file.mtime_nsec()),
        }
    }

    /// Stamps a file, unless its file system does not let its time be put back.
    fn put_on(path: &Path) -> Result<Option<Self>, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let put_back = || -> std::io::Result<Option<Self>> {
            let Some(before) = file.metadata()?.modified()?.checked_sub(PUT_BACK) else {
                return Ok(None);
            };
            file.set_modified(before)?;
            let stamped = file.metadata()?;
            Ok((stamped.modified()? <= before).then(|| Self::of(&stamped)))
        };
        Ok(put_back().unwrap_or_else(|error| {
            tracing::debug!(%error, "the time of a staged file stays; it is read again");
            None
        }))
    }
}

impl FileStageStore {
    /// The store of the sink that publishes into `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            root: Arc::from(folder.join(FOLDER)),
            written: Arc::default(),
            folders: Arc::default(),
        }
    }

    fn written(&self) -> MutexGuard<'_, HashMap<String, Stamp>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folders(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hidden folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object lies.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_));
        let valid = !name.is_empty()
            && !name.ends_with(PARTIAL)
            && Path::new(name).components().all(inside);
        if !valid {
            return Err(Error::StageName(name.to_owned()));
        }
        Ok(self.root.join(name))
    }
}

#[async_trait]
impl StageStore for FileStageStore {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        let path = self.path(name)?;
        let stage = self.clone();
        let stamp = blocking(move || {
            let folder = durable::parent(&path);
            if !folder.is_dir() || !stage.folders().contains(folder) {
                durable::create_folder(folder)?;
                stage.folders().insert(folder.to_owned());
            }
            durable::write(&path, &bytes)?;
            Stamp::put_on(&path)
        })
        .await?;
        match stamp {
            Some(stamp) => self.written().insert(name.to_owned(), stamp),
            None => self.written().remove(name),
        };
        Ok(())
    }

    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault> {
        let path = self.path(&object.name)?;
        let (name, length, crc32) = (object.name.clone(), object.bytes, object.crc32);
        blocking(move || {
            let bytes = fs::read(&path).map_err(|error| {
                if error.kind() == ErrorKind::NotFound {
                    let (name, what) = (name.clone(), "is missing");
                    return Error::Stage { name, what };
                }
                Error::io("read", &path)(error)
            })?;
            if bytes.len() as u64 != length || crc32fast::hash(&bytes) != crc32 {
                let what = "is not what the manifest says";
                return Err(Error::Stage { name, what });
            }
            Ok(Bytes::from(bytes))
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), Fault> {
        let path = self.path(name)?;
        self.written().remove(name);
        blocking(move || {
            durable::remove(&durable::with_ending(&path, PARTIAL))?;
            durable::remove(&path)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.to_owned());
        blocking(move || {
            let mut names = Vec::new();
            collect(&root, "", &mut names)?;
            names.retain(|name| name.starts_with(&prefix));
            names.sort_unstable();
            // A partial file counts as the object it was to become, so that it is deleted with it.
            names.dedup();
            Ok(names)
        })
        .await
    }
}

/// Names of the objects in `folder` and below. What is not one of ours is left alone.
fn collect(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<(), Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("list", folder))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let kind = entry.file_type().map_err(Error::io("look at", folder))?;
        if kind.is_dir() {
            collect(&entry.path(), &format!("{prefix}{name}/"), names)?;
        } else {
            let name = name.strip_suffix(PARTIAL).unwrap_or(&name);
            names.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// Whether a staged object is there and intact.
///
/// One that this process has written and nobody since is what was written: only a restart reads it
/// again.
pub(crate) fn check(store: &FileStageStore, object: &StagedObject) -> Result<Found, Error> {
    let path = store.path(&object.name)?;
    if let Some(stamp) = store.written().remove(&object.name)
        && let Ok(file) = fs::metadata(&path)
        && (Stamp::of(&file), file.len()) == (stamp, object.bytes)
    {
        return Ok(Found::Intact);
    }
    durable::check(&path, object.bytes, object.crc32)
}

#[cfg(test)]
mod tests;
