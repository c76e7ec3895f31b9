//! Files as a source of lines: each file a split, offsets that are positions of bytes.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thalweg_stream::source::{Placement, SplitSpec, SplitStart, Waker};
use thalweg_stream::{Clock, ColumnType, Fault, Quoting, Source, SplitReader};

use crate::RECORD_BYTES_MAX;
use crate::compression::Compression;
use crate::error::{Error, blocking};
use crate::find::{Finder, Truncated, identify};
use crate::follow::{Counts, Following};
use crate::identity::Followed;
use crate::listing;
use crate::reader::{self, Plan};

/// The metadata fields there are, and their types: `path`, as the split is named; `offset`, of the
/// record's first byte (in decompressed content).
pub const METADATA: [(&str, ColumnType); 2] =
    [("path", ColumnType::String), ("offset", ColumnType::Int64)];

/// Size of a chunk and of a read buffer, bytes.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// How often files that are followed are looked at…
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// …and new ones looked for.
const FIND_EVERY: Duration = Duration::from_secs(1);
/// For how long a file that was rotated away must not grow until it is at its end: whoever writes it
/// may be told later than it was renamed.
const RETIRE_AFTER: Duration = Duration::from_secs(10);

/// Which of several files is read next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The one furthest behind in event time; up to 256 files are open together.
    #[default]
    Time,
    /// One after the other, by name. Files not yet read hold the watermark back.
    Name,
}

impl FromStr for Order {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "time" => Ok(Self::Time),
            "name" => Ok(Self::Name),
            other => Err(Error::Option {
                option: "order",
                value: other.to_owned(),
                must: "time or name",
            }),
        }
    }
}

/// How records lie in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Records may have line feeds between quotes; nothing if each is a line.
    pub quoting: Option<Quoting>,
    /// What becomes of the first record of each file.
    pub header: Header,
}

/// What becomes of the first record of each file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Header {
    /// It is a record like any other.
    #[default]
    None,
    /// It is passed over.
    Skipped,
    /// It is taken off, and every chunk of the file carries it: as one more metadata column behind
    /// those asked for, one value of `BinaryView`.
    Carried,
}

/// The options of a [`FileSource`].
#[derive(Clone, Debug)]
pub struct FileSourceOptions {
    /// The definition's folder, at which relative paths start.
    pub folder: PathBuf,
    /// A path or a glob (`*`, `?`, `[…]`, `**`); hidden files match only where the dot is written.
    pub path: String,
    /// How records lie in the files.
    pub records: Records,
    /// How the files are compressed.
    pub compression: Compression,
    /// Which file is read next.
    pub order: Order,
    /// Whether to wait for what is added to the files, and for new ones.
    pub follow: bool,
    /// The metadata field of each metadata column.
    pub metadata: Vec<String>,
}

impl FileSourceOptions {
    /// The options as they are where nothing but the path is said.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, path: impl Into<String>) -> Self {
        Self {
            folder: folder.into(),
            path: path.into(),
            records: Records::default(),
            compression: Compression::default(),
            order: Order::default(),
            follow: false,
            metadata: Vec::new(),
        }
    }
}

/// The lines of files. Bounded unless they are followed: it ends where the files end when it gets there.
#[derive(Debug)]
pub struct FileSource {
    options: FileSourceOptions,
    metadata: Arc<[MetadataField]>,
    clock: Arc<dyn Clock>,
    /// If they are followed: how, and what finds new ones.
    following: Option<Following>,
    finder: Arc<Mutex<Option<Finder>>>,
}

/// A metadata field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetadataField {
    Path,
    Offset,
    Header,
}

impl FileSource {
    /// A source with these options. Nothing is looked for yet.
    ///
    /// # Errors
    /// If an option is not supported or names what there is not.
    pub fn new(options: FileSourceOptions, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        if options.follow && options.order == Order::Name {
            return Err(Error::Option {
                option: "order",
                value: "name".to_owned(),
                must: "time where files are followed: they have no ends",
            });
        }
        if options.follow && matches!(options.compression, Compression::Gzip | Compression::Zstd) {
            return Err(Error::Option {
                option: "compression",
                value: format!("{:?}", options.compression).to_lowercase(),
                must: "none where files are followed",
            });
        }
        let header =
            (options.records.header == Header::Carried).then_some(Ok(MetadataField::Header));
        let metadata = (options.metadata.iter())
            .map(|field| match field.as_str() {
                "path" => Ok(MetadataField::Path),
                "offset" => Ok(MetadataField::Offset),
                unknown => Err(Error::Option {
                    option: "metadata",
                    value: unknown.to_owned(),
                    must: "path or offset",
                }),
            })
            .chain(header)
            .collect::<Result<_, Error>>()?;
        let following = options.follow.then(|| Following {
            look_every: LOOK_EVERY,
            retire_after: RETIRE_AFTER,
            truncated: Truncated::default(),
            counts: Arc::new(Counts::default()),
        });
        Ok(Self {
            options,
            metadata,
            clock,
            following,
            finder: Arc::default(),
        })
    }
}

impl FileSource {
    /// New splits besides `known`.
    async fn find(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let (finder, known) = (Arc::clone(&self.finder), known.to_vec());
        blocking(move || match &mut *lock(&finder) {
            Some(finder) => finder.find(&known),
            None => Err(Error::Died("what looks for files")),
        })
        .await
    }

    /// Splits with what their files are known by, also those of runs that did not follow them.
    async fn identified(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let (folder, known) = (self.options.folder.clone(), known.to_vec());
        blocking(move || {
            known
                .into_iter()
                .map(|spec| identify(&folder, spec))
                .collect()
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Source for FileSource {
    fn bounded(&self) -> bool {
        self.following.is_none()
    }

    fn placement(&self) -> Placement {
        Placement::Single
    }

    /// Files that are followed are read on whatever they are called, and new ones are those of `path`.
    /// Otherwise the files of another path would be read in place of those that it means.
    fn recognize(&self, known: &SplitSpec) -> Result<(), Fault> {
        let name = match Followed::of(known) {
            Some(followed) => followed.path,
            None if known.detail.is_null() => known.name.to_string(),
            None => {
                let split = known.name.to_string();
                return Err(Error::Detail { split }.into());
            }
        };
        let (folder, path) = (&self.options.folder, &self.options.path);
        if self.following.is_some() || listing::means(folder, path, &name)? {
            return Ok(());
        }
        let path = path.clone();
        Err(Error::OtherFiles { name, path }.into())
    }

    /// Lists the files at the first start; afterwards the list is the checkpoint's, and has new ones
    /// besides if they are followed. Must be called on a tokio runtime.
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        if let Some(following) = &self.following {
            let (folder, path) = (self.options.folder.clone(), self.options.path.clone());
            let finder = Finder::new(folder, path, following.truncated.clone());
            *lock(&self.finder) = Some(finder);
            let mut splits = self.identified(known).await?;
            splits.extend(self.find(&splits).await?);
            return Ok(splits);
        }
        if !known.is_empty() {
            return Ok(known.to_vec());
        }
        let (folder, path) = (self.options.folder.clone(), self.options.path.clone());
        let names = blocking(move || listing::list(&folder, &path)).await?;
        Ok(names
            .into_iter()
            .map(|name| SplitSpec {
                name: name.into(),
                detail: serde_json::Value::Null,
            })
            .collect())
    }

    async fn grown(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        if self.following.is_none() {
            return std::future::pending().await;
        }
        let mut took = Duration::ZERO;
        loop {
            // Looking may take a twentieth of the time, however many files there are.
            self.clock.sleep(FIND_EVERY.max(took * 20)).await;
            let began = self.clock.elapsed();
            let found = self.find(known).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            took = self.clock.elapsed().saturating_sub(began);
        }
    }

    fn open(&self, splits: Vec<SplitStart>, waker: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let plan = Plan {
            folder: self.options.folder.clone(),
            records: self.options.records,
            compression: self.options.compression,
            order: self.options.order,
            chunk_bytes: CHUNK_BYTES,
            record_bytes_max: RECORD_BYTES_MAX,
        };
        let (metadata, clock) = (Arc::clone(&self.metadata), Arc::clone(&self.clock));
        Ok(Box::new(reader::open(
            plan,
            self.following.clone(),
            metadata,
            clock,
            splits,
            waker,
        )?))
    }
}

#[cfg(test)]
mod tests;
