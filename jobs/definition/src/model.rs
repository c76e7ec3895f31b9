//! The model of a definition: what the planner works from.

mod adx;

use std::path::PathBuf;

use thalweg_stream::ColumnType;

pub use self::adx::{Adx, AdxAuth};
use crate::diagnostic::Spanned;

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

/// A source.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub name: Spanned<String>,
    /// What it reads.
    pub kind: SourceKind,
    /// How its records are written.
    pub format: Format,
    /// The columns of its records.
    pub schema: Vec<ColumnField>,
    /// The column that collects unknown fields.
    pub extra: Option<Spanned<String>>,
    /// Metadata columns: column and metadata field.
    pub metadata: Vec<(Spanned<String>, Spanned<String>)>,
    /// Where event time comes from.
    pub event_time: Option<EventTime>,
}

/// How records are written.
#[derive(Clone, Debug)]
pub enum Format {
    /// One JSON object each.
    Json,
    /// Comma-separated values.
    Csv(Csv),
}

/// Comma-separated values in.
#[derive(Clone, Debug)]
pub struct Csv {
    /// Stands between fields.
    pub delimiter: u8,
    /// Stands around fields that need it, if any do.
    pub quote: Option<u8>,
    /// Whether files begin with a header, if it is said.
    pub header: Option<bool>,
    /// The names of the fields, in order.
    pub columns: Vec<Spanned<String>>,
    /// What is null where no quotes are around it.
    pub null_text: String,
}

impl Default for Csv {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            header: None,
            columns: Vec::new(),
            null_text: String::new(),
        }
    }
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

/// What a source reads.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Files.
    File(FileSource),
    /// Generated telemetry.
    Generate(Generate),
    /// A topic of Apache Kafka.
    Kafka(Kafka),
}

/// A topic of Apache Kafka.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// Addresses of some brokers, by commas.
    pub brokers: Spanned<String>,
    /// The topic.
    pub topic: Spanned<String>,
    /// Where the first start begins.
    pub start: Spanned<KafkaStart>,
    /// The group that offsets are published for.
    pub group: Option<Spanned<String>>,
    /// Whether the job goes on when records have expired that it has not read.
    pub continue_on_data_loss: bool,
    /// Whether records of transactions that are open or aborted are read.
    pub read_uncommitted: Option<bool>,
    /// Time between two looks for new partitions, milliseconds.
    pub discover_every_ms: Option<u64>,
    /// Whether it ends where the partitions end at the first start.
    pub until_latest: bool,
    /// How long a start waits for the brokers, milliseconds.
    pub connect_timeout_ms: Option<u64>,
    /// Properties of the client: their names, and values that may be credentials.
    pub properties: Vec<(Spanned<String>, Secret)>,
}

/// Where the first start begins to read a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaStart {
    /// At the oldest record there is.
    Earliest,
    /// After the newest.
    Latest,
    /// At the first record of this time or a later one, milliseconds since 1970.
    Timestamp(i64),
    /// Where the group has got to.
    Committed,
}

/// Files.
#[derive(Clone, Debug)]
pub struct FileSource {
    /// A path or a glob.
    pub path: Spanned<String>,
    /// `auto`, `none`, `gzip` or `zstd`.
    pub compression: Spanned<String>,
    /// Whether files are read one after the other by name.
    pub by_name: bool,
    /// Whether to wait for what is added to the files, and for new ones.
    pub follow: bool,
}

/// Generated telemetry.
#[derive(Clone, Debug)]
pub struct Generate {
    /// `fleet`, `vehicles` or `weather`.
    pub what: Spanned<String>,
    /// How many records; without it they never end.
    pub events: Option<u64>,
    /// Records per second.
    pub rate: Option<f64>,
    /// How many devices.
    pub devices: Option<u64>,
    /// The seed.
    pub seed: Option<u64>,
    /// Share of late records.
    pub late: Option<f64>,
    /// Share of repeated records.
    pub duplicates: Option<f64>,
    /// Share of damaged records.
    pub corrupt: Option<f64>,
    /// Splits.
    pub splits: Option<u64>,
}

/// A column of a source.
#[derive(Clone, Debug)]
pub struct ColumnField {
    /// Its name.
    pub name: Spanned<String>,
    /// Its type.
    pub column_type: ColumnType,
    /// JSON pointer, if it is not `/name`.
    pub path: Option<Spanned<String>>,
    /// Whether null is a schema error.
    pub required: bool,
    /// Whether values of other types are converted.
    pub coerce: bool,
    /// How a timestamp is written.
    pub timestamp: TimestampForm,
}

/// How a timestamp is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampForm {
    /// RFC 3339 or milliseconds.
    Auto,
    /// A number of `s`, `ms`, `us` or `ns`.
    Unit(String),
    /// A pattern.
    Format(Spanned<String>),
}

/// Where event time comes from.
#[derive(Clone, Debug)]
pub struct EventTime {
    /// The column.
    pub column: Spanned<String>,
    /// How far rows may be out of order, milliseconds.
    pub out_of_order_ms: u64,
    /// After how long without input a split is idle, milliseconds.
    pub idle_after_ms: Option<u64>,
    /// How far ahead of the clock rows may be.
    pub max_ahead: MaxAhead,
}

/// How far ahead of the clock rows may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAhead {
    /// One minute where the source has no end, no limit where it has.
    Default,
    /// No limit.
    Off,
    /// So many milliseconds.
    Ms(u64),
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

/// A column and the expression that makes it.
pub type Assignment = (Spanned<String>, Spanned<String>);

/// What a step does.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Unites its inputs.
    Union,
    /// Keeps rows that meet a condition.
    Filter(Spanned<String>),
    /// Makes exactly these columns.
    Select(Vec<Assignment>),
    /// Adds or replaces columns.
    Set(Vec<Assignment>),
    /// Drops columns.
    Drop(Vec<Spanned<String>>),
    /// Renames columns: old and new name.
    Rename(Vec<(Spanned<String>, Spanned<String>)>),
    /// Sends each row to the first output whose condition it meets; no condition is `otherwise`.
    Route(Vec<(Spanned<String>, Option<Spanned<String>>)>),
    /// Drops repeated rows.
    Dedup(Dedup),
    /// Aggregates in windows.
    Window(Window),
    /// Adds columns from a table.
    Enrich(Enrich),
}

/// Drops repeated rows.
#[derive(Clone, Debug)]
pub struct Dedup {
    /// The key.
    pub by: Vec<Spanned<String>>,
    /// Event times of repeated rows differ by less, milliseconds.
    pub within_ms: u64,
    /// Repeated rows carry the same event time.
    pub same_time: bool,
}

/// Tumbling windows.
#[derive(Clone, Debug)]
pub struct Window {
    /// Their size, milliseconds.
    pub size_ms: u64,
    /// How far they are shifted from the epoch, milliseconds.
    pub offset_ms: u64,
    /// The key.
    pub by: Vec<Spanned<String>>,
    /// The aggregates: column and call.
    pub aggregate: Vec<Aggregate>,
    /// A condition on results.
    pub having: Option<Spanned<String>>,
    /// How long after firing rows still change a result, milliseconds.
    pub late_allowed_ms: u64,
    /// What becomes of rows that are later.
    pub late_then: LateThen,
}

/// A column and the aggregate call that makes it.
pub type Aggregate = Assignment;

/// What becomes of late rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LateThen {
    /// Counted and dropped.
    Drop,
    /// Dead letters.
    #[default]
    DeadLetter,
    /// Rows of `step.late`.
    Output,
}

/// Adds columns from a table.
#[derive(Clone, Debug)]
pub struct Enrich {
    /// The table.
    pub with: Spanned<String>,
    /// Columns that are equal: left and table column.
    pub on: Vec<(Spanned<String>, Spanned<String>)>,
    /// Columns to take: new name and table column.
    pub take: Vec<(Spanned<String>, Spanned<String>)>,
    /// What becomes of rows without a match.
    pub missing: Missing,
    /// The version of the row's event time, rather than the newest.
    pub as_of: Option<AsOf>,
}

/// The version of the row's event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// How long rows wait for a table without an end, milliseconds of event time.
    pub wait_ms: u64,
}

/// What becomes of rows without a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// They go on with nulls.
    #[default]
    Keep,
    /// They are dropped, counted.
    Drop,
    /// They are dead letters.
    DeadLetter,
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
