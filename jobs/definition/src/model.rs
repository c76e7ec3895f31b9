//! The model of a definition: what the planner works from.

mod adx;
mod operation;
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use self::adx::{Adx, AdxAuth};
pub use self::operation::{
    Aggregate, AsOf, Assignment, Dedup, Enrich, LateThen, Missing, Operation, Window,
};
pub use self::source::{
    ColumnField, Csv, EventTime, FileSource, Format, Generate, Kafka, KafkaStart, MaxAhead, Source,
    SourceKind, TimestampForm,
};
use crate::diagnostic::{Span, Spanned};

/// A checked definition.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The job's name.
    pub job: String,
    /// What it is for.
    pub description: Option<String>,
    /// The folder that relative paths start at.
    pub folder: PathBuf,
    /// How it runs.
    pub settings: Settings,
    /// Components whose functions its expressions call.
    pub plugins: Vec<Plugin>,
    /// Where records come from.
    pub sources: Vec<Source>,
    /// Streams folded to the newest row per key.
    pub tables: Vec<Table>,
    /// What is done, in the order of the document.
    pub steps: Vec<Step>,
    /// Where results go.
    pub sinks: Vec<Sink>,
    /// Names of the sources, tables, steps and sinks that are wrong, and left out.
    pub damaged: Vec<String>,
}

/// How a job runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When and where checkpoints are taken.
    pub checkpoint: Checkpoint,
    /// What sinks promise unless they say otherwise.
    pub delivery: Option<Delivery>,
    /// Where dead letters go.
    pub dead_letters: DeadLetters,
    /// What follows a failure.
    pub restart: Restart,
}

/// How often a job that has failed is started again, and after how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Restarts in a row; none at all if 0.
    pub attempts: u32,
    /// Delay before the first, milliseconds; it doubles.
    pub delay_ms: u64,
    /// The longest, milliseconds.
    pub delay_max_ms: u64,
    /// How long an attempt goes well before the next failure begins a new row, milliseconds.
    pub reset_after_ms: u64,
}

/// When and where checkpoints are taken.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Time between two, milliseconds.
    pub every_ms: u64,
    /// The store: a directory or `memory://NAME`.
    pub to: String,
    /// How many are kept.
    pub keep: u32,
}

/// Where dead letters go: one file.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// Where they are spoken of.
    pub at: Span,
    /// The file.
    pub path: String,
    /// Its greatest size, bytes.
    pub max_bytes: u64,
    /// What happens then.
    pub when_full: WhenFull,
}

/// What happens when the file of dead letters is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The job stops.
    Stop,
    /// The oldest letters go, counted.
    DropOldest,
}

/// A component whose functions expressions call by its name and theirs.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Its name.
    pub name: Spanned<String>,
    /// The component's file; nothing if that is what is wrong with the definition.
    pub path: Option<Spanned<String>>,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: Option<Spanned<String>>,
    /// Most memory of an instance, bytes.
    pub memory_bytes: Option<u64>,
    /// CPU time for a batch, milliseconds.
    pub deadline_ms: Option<u64>,
}

/// What a sink promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// `exactly-once`
    ExactlyOnce,
    /// `at-least-once`
    AtLeastOnce,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Where its rows come from; the name is the table's.
    pub source: Source,
    /// Its key.
    pub key: Vec<Spanned<String>>,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: Spanned<String>,
    /// Its identity for state.
    pub id: String,
    /// What it takes its rows from; several are united.
    pub from: Vec<Spanned<String>>,
    /// What it does.
    pub operation: Operation,
    /// What happens to rows that fail.
    pub on_error: OnError,
}

/// What happens to rows that fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// They become dead letters.
    #[default]
    DeadLetter,
    /// They are counted and dropped.
    Skip,
    /// The job stops.
    Fail,
}

/// A sink.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its name.
    pub name: Spanned<String>,
    /// What it takes.
    pub from: Vec<Spanned<String>>,
    /// Where it writes.
    pub kind: SinkKind,
    /// Where the connector's options stand, by name: `path`, `roll.size`.
    pub options: BTreeMap<String, Span>,
    /// What it promises, if it says so.
    pub delivery: Option<Spanned<Delivery>>,
}

/// Where a sink writes.
#[derive(Clone, Debug)]
pub enum SinkKind {
    /// JSON-lines files in a folder.
    File(FileSink),
    /// Documents in Azure Cosmos DB.
    Cosmos(Cosmos),
    /// Rows in Azure Data Explorer.
    Adx(Adx),
    /// JSON lines on standard output.
    Stdout,
    /// Nowhere.
    Discard,
}

/// JSON-lines files in a folder.
#[derive(Clone, Debug)]
pub struct FileSink {
    /// The folder.
    pub path: Spanned<String>,
    /// Comma-separated values rather than JSON.
    pub csv: Option<CsvSink>,
    /// Size at which a file is finished, bytes.
    pub roll_bytes: Option<u64>,
    /// Whether timestamps are milliseconds rather than RFC 3339.
    pub unix_ms: bool,
    /// Whether nulls are left out.
    pub omit_nulls: bool,
}

/// Comma-separated values out.
#[derive(Clone, Copy, Debug)]
pub struct CsvSink {
    /// Stands between fields.
    pub delimiter: u8,
    /// Stands around fields that need it.
    pub quote: u8,
    /// Whether every file begins with a header.
    pub header: bool,
}

impl Default for CsvSink {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: b'"',
            header: true,
        }
    }
}

/// A credential. Its text is never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for signing in alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Documents in Azure Cosmos DB, one per id.
#[derive(Clone, Debug)]
pub struct Cosmos {
    /// The account's endpoint.
    pub endpoint: Spanned<String>,
    /// The account key; a service on loopback needs none.
    pub key: Option<Secret>,
    /// The database.
    pub database: Spanned<String>,
    /// The container.
    pub container: Spanned<String>,
    /// The column that names the document.
    pub id: Spanned<String>,
    /// The column that is the container's partition key.
    pub partition_key: Spanned<String>,
    /// The column whose greatest value a document keeps; without it, the event time.
    pub newest_by: Option<Spanned<String>>,
    /// Whether writes are fenced by etags; blind upserts otherwise.
    pub guard: bool,
    /// Request units a second that the sink may use.
    pub request_units: Option<f64>,
    /// Whether timestamps are milliseconds rather than RFC 3339.
    pub unix_ms: bool,
    /// Whether nulls are left out.
    pub omit_nulls: bool,
}
