//! The ledger: one entry per request, appended and never changed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Most entries a ledger in memory keeps; a longer run wants a file.
const MEMORY_ENTRIES_MAX: usize = 2_000_000;

/// One request, as the service saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the ledger, from 0. Entries stand in the order in which requests took effect.
    pub number: u64,
    /// When it was recorded: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// When it was received: microseconds of the service's monotonic clock.
    pub received_us: u64,
    /// When it was recorded, just before it was answered, on the same clock.
    pub recorded_us: u64,
    /// The service, such as `cosmos`.
    pub service: String,
    /// What was asked, a word or two of the service's own: `replace`, `PUT blob`.
    pub operation: String,
    /// What it was asked of: usually the path.
    pub target: String,
    /// What an oracle wants to know: stamps, tags, excerpts. No credentials.
    pub details: serde_json::Value,
    /// Whether it took effect.
    pub applied: bool,
    /// The HTTP status answered; nothing if the reply was lost on purpose.
    pub answered: Option<u16>,
    /// How long the answer told the client to stay away, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Whether a planned fault shaped the answer.
    #[serde(default)]
    pub fault: bool,
}

/// Why a ledger cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened, read or written.
    #[error("ledger file {path:?}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of the file is no entry.
    #[error("ledger file {path:?}: line {line} is not an entry: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The ledger in memory is full.
    #[error("the ledger in memory holds {MEMORY_ENTRIES_MAX} entries; give it a file")]
    Full,
}

/// An append-only list of [`Entry`], in memory or as a file of JSON lines.
#[derive(Debug)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    medium: Medium,
}

#[derive(Debug)]
enum Medium {
    Memory(Vec<Entry>),
    File { path: PathBuf, file: File },
}

impl Ledger {
    /// A ledger that lives as long as the process.
    #[must_use]
    pub fn memory() -> Self {
        Self::with(0, Medium::Memory(Vec::new()))
    }

    /// A ledger that appends to `path`, going on after what is there.
    ///
    /// # Errors
    /// If the file cannot be opened or holds something else.
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, LedgerError> {
        let path = path.into();
        let next = if path.exists() {
            read_entries(&path)?.len() as u64
        } else {
            0
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|source| LedgerError::File {
                path: path.clone(),
                source,
            })?;
        Ok(Self::with(next, Medium::File { path, file }))
    }

    fn with(next: u64, medium: Medium) -> Self {
        Self {
            inner: Mutex::new(Inner { next, medium }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // An entry is appended whole or not at all, so a panic elsewhere leaves nothing torn.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an entry and gives it its number.
    ///
    /// # Errors
    /// If it cannot be written; the service must then fail rather than go on unrecorded.
    pub fn append(&self, mut entry: Entry) -> Result<u64, LedgerError> {
        let mut inner = self.lock();
        let number = inner.next;
        entry.number = number;
        match &mut inner.medium {
            Medium::Memory(entries) if entries.len() >= MEMORY_ENTRIES_MAX => {
                return Err(LedgerError::Full);
            }
            Medium::Memory(entries) => entries.push(entry),
            Medium::File { path, file } => {
                let failed = |source| LedgerError::File {
                    path: path.clone(),
                    source,
                };
                let mut line = serde_json::to_vec(&entry).map_err(|e| failed(e.into()))?;
                line.push(b'\n');
                file.write_all(&line).map_err(failed)?;
            }
        }
        inner.next += 1;
        Ok(number)
    }

    /// The entries numbered `since` and higher.
    ///
    /// # Errors
    /// If the file cannot be read back.
    pub fn entries(&self, since: u64) -> Result<Vec<Entry>, LedgerError> {
        let inner = self.lock();
        let from = usize::try_from(since).unwrap_or(usize::MAX);
        match &inner.medium {
            Medium::Memory(entries) => Ok(entries.get(from..).unwrap_or_default().to_vec()),
            Medium::File { path, .. } => Ok(read_entries(path)?.into_iter().skip(from).collect()),
        }
    }
}

fn read_entries(path: &Path) -> Result<Vec<Entry>, LedgerError> {
    let failed = |source| LedgerError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut entries = Vec::new();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(failed)?;
        let entry = serde_json::from_str(&line).map_err(|source| LedgerError::Line {
            path: path.to_owned(),
            line: at + 1,
            source,
        })?;
        entries.push(entry);
    }
    Ok(entries)
}
