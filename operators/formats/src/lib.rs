//! Formats: JSON in, at top speed, and JSON lines out.
//!
//! Parsing is most of the CPU a telemetry job needs, so it is ours: [`JsonDecoderFactory`] builds
//! decoders that take the declared columns out of each record in one pass and write them straight
//! into Arrow columns. Whether a record is accepted never depends on which columns are asked for:
//! what is skipped is checked as strictly as what is kept, and all answers are those of
//! `serde_json` with exact floats, to which a differential fuzz test holds them.
//!
//! [`JsonLines`] writes batches as JSON lines; [`RowJson`] renders single rows of any batch.
//!
//! Deliberately absent: I/O, framing of files (a [`Source`](thalweg_stream::Source) cuts chunks),
//! any format but JSON so far.

mod calendar;
mod column;
mod decimal;
mod decoder;
mod error;
mod path;
mod record;
mod scan;
mod spec;
mod write;

pub use decoder::JsonDecoderFactory;
pub use error::FormatError;
pub use spec::{DecodeSpec, EventTimeSpec, FieldSpec, TimestampInput, TimestampUnit};
pub use write::{JsonLines, Nulls, PreparedRows, RowJson, SystemColumn, Timestamps, WriteOptions};
