//! Sources: what is read, how its records are written, and where event time comes from.

use thalweg_stream::ColumnType;

use super::Secret;
use crate::diagnostic::Spanned;

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
