//! Files: a source of lines, an exactly-once sink, the dead-letter file, and two small sinks.
//!
//! - [`FileSource`] reads plain and compressed files, found by a glob, as splits; it can follow them.
//! - [`FileSink`] stages whole files inside its own folder and publishes each by a rename.
//! - [`DeadLetterFile`] appends to one file, at the length that the manifest records.
//! - [`StdoutSink`] writes lines as they come; [`DiscardSink`] counts rows and drops them.
//!
//! Formats are not known here, but for where quotes hide line feeds: sinks are given a [`RowEncoder`] that turns rows into lines.
//!
//! Everything that must survive a crash goes through `durable`: written, then fsynced, file and
//! folder. Calls to the file system that the async traits make run on tokio's blocking threads;
//! reading runs on a thread of its own.
//!
//! Deliberately absent: `object_store`. Its local store neither fsyncs nor renames without
//! copying through its own staging names, and both are what this crate is about.

mod bounded;
mod buffer;
mod compression;
mod dead_letter;
mod discard;
mod durable;
mod encode;
mod error;
mod find;
mod follow;
mod identity;
mod journal;
mod line_writer;
mod listing;
mod publish;
mod queue;
mod reader;
mod sink;
mod source;
mod split_file;
mod stage;
mod stdout;

pub use compression::Compression;
pub use dead_letter::{DeadLetterFile, DeadLetterFileOptions, WhenFull};
pub use discard::DiscardSink;
pub use encode::{EncoderFactory, RowEncoder};
pub use error::Error;
pub use sink::{FileSink, FileSinkOptions};
pub use source::{FileSource, FileSourceOptions, Header, METADATA, Order, Records};
pub use stage::FileStageStore;
pub use stdout::{SharedOutput, StdoutSink};

/// The longest record the source reads, bytes.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// The largest object a sink stages, bytes.
pub const OBJECT_BYTES_MAX: usize = 64 << 20;
