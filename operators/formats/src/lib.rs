//! Formats: JSON in, at top speed, and JSON lines out; comma-separated values in and out.
//!
//! Parsing is most of the CPU a telemetry job needs, so it is ours: [`JsonDecoderFactory`] builds
//! decoders that take the declared columns out of each record in one pass and write them straight
//! into Arrow columns. Whether a record is accepted never depends on which columns are asked for:
//! what is skipped is checked as strictly as what is kept, and all answers are those of
//! `serde_json` with exact floats, to which a differential fuzz test holds them.
//!
//! [`CsvDecoderFactory`] fills the same columns by the same rules from comma-separated values.
//!
//! [`JsonLines`] writes batches as JSON lines, [`CsvRows`] as comma-separated values; [`RowJson`]
//! renders single rows of any batch.
//!
//! Deliberately absent: I/O, framing of files (a [`Source`](thalweg_stream::Source) cuts chunks).

mod assembly;
mod calendar;
mod column;
mod csv;
mod decimal;
mod decoder;
mod error;
mod path;
mod record;
mod scan;
mod spec;
mod write;

pub use csv::{CsvDecoderFactory, CsvFields, CsvSpec};
pub use decoder::JsonDecoderFactory;
pub use error::FormatError;
pub use spec::{DecodeSpec, EventTimeSpec, FieldSpec, TimestampInput, TimestampUnit};
pub use write::{
    CsvRows, CsvWriteOptions, JsonLines, Nulls, PreparedRows, RowJson, SystemColumn, Timestamps,
    WriteOptions,
};
