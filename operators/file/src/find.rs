//! Finding files to follow: those that match and that the job does not know yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thalweg_stream::source::SplitSpec;

use crate::error::Error;
use crate::identity::{Followed, Identity};
use crate::listing;

/// Names of splits whose files were truncated: what these have now is of other splits.
///
/// Readers tell it to whoever looks for files; a file may begin after the truncation as it did before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truncated(Arc<Mutex<BTreeSet<Arc<str>>>>);

impl Truncated {
    pub(crate) fn note(&self, split: &Arc<str>) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(Arc::clone(split));
    }

    fn take(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How a file was when it was last looked at; one that is as it was is not opened again.
type Look = (u64, i64, i64);

fn look(metadata: &Metadata) -> Look {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// Looks for files that are new. One for each attempt of a job.
#[derive(Debug)]
pub(crate) struct Finder {
    folder: PathBuf,
    path: String,
    truncated: Truncated,
    /// Names of all splits.
    names: BTreeSet<Arc<str>>,
    /// Files that splits are of, by inode, and how many splits have been counted in.
    known: BTreeMap<u64, Vec<(Arc<str>, Followed)>>,
    counted: usize,
    /// By device and inode.
    looks: BTreeMap<(u64, u64), Look>,
}

impl Finder {
    pub(crate) fn new(folder: PathBuf, path: String, truncated: Truncated) -> Self {
        Self {
            folder,
            path,
            truncated,
            names: BTreeSet::new(),
            known: BTreeMap::new(),
            counted: 0,
            looks: BTreeMap::new(),
        }
    }

    /// Splits of the files that are there and that are not of `known` ones, which never become fewer.
    pub(crate) fn find(&mut self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Error> {
        self.count_in(known);
        let mut found = Vec::new();
        let names = match listing::list(&self.folder, &self.path) {
            Ok(names) => names,
            Err(Error::NoMatch(_)) => Vec::new(),
            // What is listed may be removed at any time.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut looks = BTreeMap::new();
        for name in names {
            let path = self.folder.join(&name);
            let Some(metadata) = there(fs::metadata(&path), &path)? else {
                continue;
            };
            let (number, now) = ((metadata.dev(), metadata.ino()), look(&metadata));
            let before = self.looks.get(&number).copied();
            looks.insert(number, now);
            if before == Some(now) {
                continue;
            }
            if before.is_some_and(|(length, ..)| now.0 < length) {
                self.forget(number.1, |_| true);
            }
            if let Some(spec) = self.meet(name, &path)? {
                found.push(spec);
            }
        }
        self.looks = looks;
        Ok(found)
    }

    /// The split of a file that nobody knows.
    fn meet(&mut self, name: String, path: &Path) -> Result<Option<SplitSpec>, Error> {
        let Some(file) = there(File::open(path), path)? else {
            return Ok(None);
        };
        let Some(identity) = Identity::of(&file).map_err(Error::io("read", path))? else {
            return Ok(None);
        };
        let metadata = file.metadata().map_err(Error::io("look at", path))?;
        for (_, known) in self.known.get(&identity.inode()).into_iter().flatten() {
            let same_path = known.path == name;
            let is = known.identity.has_number(&metadata, same_path)
                && (known.identity.has_head(&file)).map_err(Error::io("read", path))?;
            if is {
                return Ok(None);
            }
        }
        let followed = Followed {
            path: name,
            identity,
        };
        let spec = SplitSpec {
            name: self.name(&followed.path),
            detail: detail(&followed)?,
        };
        self.enter(&spec);
        Ok(Some(spec))
    }

    /// A name that no split has: the path, with a number from the second file on that has it.
    fn name(&self, path: &str) -> Arc<str> {
        let mut name = Arc::from(path);
        let mut number = 1;
        while self.names.contains(&name) {
            number += 1;
            name = Arc::from(format!("{path} ({number})"));
        }
        name
    }

    fn count_in(&mut self, known: &[SplitSpec]) {
        for spec in known.get(self.counted..).unwrap_or_default() {
            if !self.names.contains(&spec.name) {
                self.enter(spec);
            }
        }
        self.counted = known.len();
        let truncated = self.truncated.take();
        if !truncated.is_empty() {
            for inode in self.known.keys().copied().collect::<Vec<_>>() {
                self.forget(inode, |name| truncated.contains(name));
            }
            self.looks.clear();
        }
    }

    fn enter(&mut self, spec: &SplitSpec) {
        self.names.insert(Arc::clone(&spec.name));
        if let Some(followed) = Followed::of(spec) {
            let inode = followed.identity.inode();
            let splits = self.known.entry(inode).or_default();
            splits.push((Arc::clone(&spec.name), followed));
        }
    }

    /// What these splits read is no longer in a file.
    fn forget(&mut self, inode: u64, which: impl Fn(&Arc<str>) -> bool) {
        if let Some(splits) = self.known.get_mut(&inode) {
            splits.retain(|(name, _)| !which(name));
        }
    }
}

/// Nothing, if the file has just been removed.
fn there<T>(result: std::io::Result<T>, path: &Path) -> Result<Option<T>, Error> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some).map_err(Error::io("look at", path)),
    }
}

/// A split with what its file is known by, if that was not noted when it was listed.
pub(crate) fn identify(folder: &Path, mut spec: SplitSpec) -> Result<SplitSpec, Error> {
    let path = folder.join(&*spec.name);
    if Followed::of(&spec).is_none()
        && let Some(file) = there(File::open(&path), &path)?
        && let Some(identity) = Identity::of(&file).map_err(Error::io("read", &path))?
    {
        let path = spec.name.to_string();
        spec.detail = detail(&Followed { path, identity })?;
    }
    Ok(spec)
}

fn detail(followed: &Followed) -> Result<serde_json::Value, Error> {
    serde_json::to_value(followed).map_err(|_| Error::Died("a split's detail"))
}
