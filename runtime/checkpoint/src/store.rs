//! The store of a job's durable objects, and the one choke point of durable effects.
//!
//! Every write and deletion goes through a [`Store`], gets a number, and passes the injected
//! [`Faults`] before and after, so that tests can enumerate every point at which a process can
//! die or a reply can be lost. Advisory objects (heartbeat, hint) are no effects: nothing is ever
//! decided by what they say, so they are neither counted nor synced.
//!
//! Deliberately absent: any knowledge of what the objects mean.

mod directory;
mod disk;
mod faults;
mod location;
mod object;
mod passage;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use thalweg_stream::clock::{Clock, SystemClock};

pub use self::faults::{Effect, EffectKind, Faults, Moment, NoFaults, Verdict};

use self::directory::{Directory, Mode, problem};
use self::disk::OsDisk;
use self::location::{Place, memory, place};
use self::object::{path, read_error, sorted, write_object};
use crate::error::Error;
use crate::name::{LOG, ObjectName};

/// A job's store. Cloning gives another handle to the same one, with the same numbering.
#[derive(Clone)]
pub struct Store {
    location: Arc<str>,
    reads: Arc<dyn ObjectStore>,
    writes: Writes,
    clock: Arc<dyn Clock>,
    faults: Arc<dyn Faults>,
    effects: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Writes {
    Directory(Arc<Directory>),
    Object(Arc<dyn ObjectStore>),
}

/// What to do if there is no store at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Make one.
    Create,
    /// It is an error.
    Existing,
}

/// An object that a listing found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its length.
    pub bytes: u64,
}

impl Store {
    /// Opens the store at `location`: a path or `file://` URL of a folder, or `memory://NAME`,
    /// which lives as long as the process.
    ///
    /// # Errors
    /// [`Error::NotSupported`], [`Error::BadLocation`], [`Error::NoStore`], or that the folder
    /// cannot be made.
    pub fn open(location: &str, access: Access) -> Result<Self, Error> {
        match place(location)? {
            Place::Memory(name) => {
                let memory = memory(&name);
                let reads = Arc::clone(&memory) as Arc<dyn ObjectStore>;
                Ok(Self::over(location, reads, Writes::Object(memory)))
            }
            Place::Folder(path) => Self::open_folder(&path, access),
        }
    }

    fn open_folder(path: &Path, access: Access) -> Result<Self, Error> {
        let location = path.display().to_string();
        let storage = |error: &std::io::Error| {
            let (problem, passing) = problem(error);
            Error::Storage {
                action: "open",
                name: location.clone(),
                problem,
                passing,
            }
        };
        let directory = match access {
            Access::Create => Directory::create(path, Arc::new(OsDisk)).map_err(|e| storage(&e))?,
            Access::Existing if path.is_dir() => Directory::existing(path, Arc::new(OsDisk)),
            Access::Existing => return Err(Error::NoStore { location }),
        };
        let reads = LocalFileSystem::new_with_prefix(path)
            .map_err(|error| read_error("open", &location, &error))?;
        let writes = Writes::Directory(Arc::new(directory));
        Ok(Self::over(&location, Arc::new(reads), writes))
    }

    fn over(location: &str, reads: Arc<dyn ObjectStore>, writes: Writes) -> Self {
        Self {
            location: location.into(),
            reads,
            writes,
            clock: Arc::new(SystemClock::new()),
            faults: Arc::new(NoFaults),
            effects: Arc::default(),
            ended: Arc::default(),
        }
    }

    /// The same store through a handle of its own, whose effects are numbered from 1 and pass
    /// `faults`.
    #[must_use]
    pub fn with_faults(&self, faults: Arc<dyn Faults>) -> Self {
        Self {
            faults,
            effects: Arc::default(),
            ended: Arc::default(),
            ..self.clone()
        }
    }

    /// The same store, which waits by `clock` before a request is repeated.
    #[must_use]
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            ..self.clone()
        }
    }

    /// The clock by which is waited before a request is repeated.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// How many durable effects this handle has begun.
    #[must_use]
    pub fn effects(&self) -> u64 {
        self.effects.load(Ordering::Acquire)
    }

    /// Writes an object, whether it is there or not; durable when it returns.
    ///
    /// # Errors
    /// [`Error::Storage`]: the object is as before, or as wanted.
    pub async fn put(&self, name: &ObjectName, bytes: impl Into<Payload>) -> Result<(), Error> {
        self.write(EffectKind::Put, name, bytes.into()).await
    }

    /// Creates an object; durable when it returns. Of several writers exactly one succeeds.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`]; [`Error::Storage`]: whether it was created is not known.
    pub async fn put_if_absent(
        &self,
        name: &ObjectName,
        bytes: impl Into<Payload>,
    ) -> Result<(), Error> {
        self.write(EffectKind::PutIfAbsent, name, bytes.into())
            .await
    }

    /// Deletes an object; fine if it is gone.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        self.write(EffectKind::Delete, name, Payload::default())
            .await
    }

    async fn write(
        &self,
        kind: EffectKind,
        name: &ObjectName,
        payload: Payload,
    ) -> Result<(), Error> {
        self.request(name).await?;
        path(name)?;
        let effect = Effect {
            number: self.effects.fetch_add(1, Ordering::AcqRel) + 1,
            kind,
            name: name.clone(),
        };
        let verdict = self.faults.at(&effect, Moment::Before);
        let torn = verdict == Verdict::Tear;
        let payload = if torn { payload.half() } else { payload };
        if !torn {
            self.obey(&effect, Moment::Before, verdict)?;
        }
        match &self.writes {
            Writes::Directory(directory) => {
                let (store, directory) = (self.clone(), Arc::clone(directory));
                let effect = effect.clone();
                blocking(name, move || {
                    let reached = |moment| store.judge(&effect, moment);
                    let mode = match effect.kind {
                        EffectKind::Put => Mode::Replace,
                        EffectKind::PutIfAbsent => Mode::Create,
                        EffectKind::Delete => return directory.delete(&effect.name),
                    };
                    directory.put(&effect.name, &payload.0, mode, &reached)
                })
                .await?;
            }
            Writes::Object(objects) => write_object(objects.as_ref(), &effect, payload).await?,
        }
        if torn {
            return self.obey(&effect, Moment::Before, Verdict::End);
        }
        let judged = self.judge(&effect, Moment::After);
        self.faults.passage(name.as_str()).await;
        self.check(name)?;
        judged
    }

    /// Replaces an advisory object: atomically, but neither counted nor synced.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) async fn advise(&self, name: &ObjectName, bytes: Bytes) -> Result<(), Error> {
        self.request(name).await?;
        path(name)?;
        match &self.writes {
            Writes::Directory(directory) => {
                let (directory, object) = (Arc::clone(directory), name.clone());
                blocking(name, move || {
                    directory.put(&object, &[bytes], Mode::Advise, &|_| Ok(()))
                })
                .await
            }
            Writes::Object(objects) => {
                let path = path(name)?;
                let put = objects.put(&path, bytes.into()).await;
                put.map(drop)
                    .map_err(|error| read_error("put", name.as_str(), &error))
            }
        }
    }

    /// Removes what earlier writers left half written.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) async fn sweep_temporary(&self) -> Result<(), Error> {
        let Writes::Directory(directory) = &self.writes else {
            return Ok(());
        };
        let name = ObjectName::listed("temporary files");
        self.check(&name)?;
        let (directory, object) = (Arc::clone(directory), name.clone());
        blocking(&name, move || {
            (directory.sweep()).map_err(|error| directory::failed("sweep", &object, &error))
        })
        .await
    }

    /// Reads an object whole.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Storage`].
    pub async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        self.ask(name).await?;
        let error = |error| read_error("get", name.as_str(), &error);
        let found = self.reads.get(&path(name)?).await.map_err(error)?;
        found.bytes().await.map_err(error)
    }

    /// Reads an object if it is there.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn find(&self, name: &ObjectName) -> Result<Option<Bytes>, Error> {
        match self.get(name).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads ranges of an object.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Storage`], [`Error::Corrupt`] if it ends before a range does.
    pub async fn get_ranges(
        &self,
        name: &ObjectName,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, Error> {
        self.ask(name).await?;
        let found = (self.reads.get_ranges(&path(name)?, ranges).await)
            .map_err(|error| read_error("get", name.as_str(), &error))?;
        let whole = found.len() == ranges.len()
            && (found.iter().zip(ranges)).all(|(f, r)| f.len() as u64 == r.end - r.start);
        if whole {
            return Ok(found);
        }
        Err(Error::corrupt(name, "it is shorter than it should be"))
    }

    /// The length of an object.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Storage`].
    pub async fn length(&self, name: &ObjectName) -> Result<u64, Error> {
        self.ask(name).await?;
        let found = self.reads.head(&path(name)?).await;
        found
            .map(|meta| meta.size)
            .map_err(|error| read_error("get", name.as_str(), &error))
    }

    /// The objects whose names start with `prefix` (whole segments), sorted by name.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        self.ask(&ObjectName::listed(prefix)).await?;
        let found = self.reads.list(Some(&ObjectPath::from(prefix)));
        sorted(prefix, found.try_collect().await)
    }

    /// The entries of the log beyond number `beyond`, sorted.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) async fn list_log(&self, beyond: u64) -> Result<Vec<Listed>, Error> {
        let offset = ObjectName::log(beyond);
        self.ask(&offset).await?;
        let prefix = ObjectPath::from(LOG);
        let found = (self.reads).list_with_offset(Some(&prefix), &path(&offset)?);
        sorted(LOG, found.try_collect().await)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("location", &self.location)
            .field("effects", &self.effects())
            .finish_non_exhaustive()
    }
}

/// The content of an object, in pieces.
#[derive(Clone, Debug, Default)]
pub struct Payload(Vec<Bytes>);

impl Payload {
    /// The first half of it.
    fn half(mut self) -> Self {
        let mut left = self.0.iter().map(Bytes::len).sum::<usize>() / 2;
        for piece in &mut self.0 {
            piece.truncate(left);
            left -= piece.len();
        }
        self
    }
}

#[cfg(test)]
impl Payload {
    /// All of it.
    pub(crate) fn whole(&self) -> Bytes {
        self.0.concat().into()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(vec![bytes])
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self(pieces)
    }
}

impl<const N: usize> From<[Bytes; N]> for Payload {
    fn from(pieces: [Bytes; N]) -> Self {
        Self(pieces.into())
    }
}

/// Runs file system calls where they may block.
async fn blocking(
    name: &ObjectName,
    act: impl FnOnce() -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|error| Err(Error::Bug(format!("writing {name}: {error}"))))
}

#[cfg(test)]
mod tests;
