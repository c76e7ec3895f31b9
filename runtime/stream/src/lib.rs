//! The vocabulary of Thalweg: what travels through a dataflow, and the traits its parts implement.
//!
//! Everything else in the workspace speaks in these terms. Connectors and operators implement
//! [`Source`], [`Decoder`], [`Operator`] or [`Sink`] and know nothing of the engine that runs
//! them; the engine knows nothing of Kafka, windows or Cosmos DB.
//!
//! Deliberately absent: timely dataflow, any I/O, any clock but the injected [`clock::Clock`].

pub mod clock;
pub mod column;
pub mod dead_letter;
pub mod epoch;
pub mod expression;
pub mod fault;
pub mod figure;
pub mod key;
pub mod ledger;
pub mod operator;
pub mod origin;
pub mod planted;
pub mod quoting;
pub mod rehearsal;
pub mod scatter;
pub mod schema;
pub mod sink;
pub mod source;
pub mod state;
pub mod watermark;

pub use arrow::record_batch::RecordBatch;
pub use clock::Clock;
pub use column::ColumnType;
pub use dead_letter::{DeadClass, DeadLetter};
pub use epoch::{Epoch, EpochKind, Generation, Lineage};
pub use expression::{Evaluated, Expression};
pub use fault::{Class, Fault};
pub use figure::Figures;
pub use key::{KeyEncoder, KeyGroup};
pub use ledger::Ledger;
pub use operator::{BuildContext, EpochClose, Migration, Operator, OperatorFactory, Output, Route};
pub use origin::{Origin, SplitId};
pub use quoting::{Quoting, RecordEnds};
pub use scatter::Scatter;
pub use schema::{Column, StreamKind, StreamSchema};
pub use sink::{Publisher, Sink, SinkCapabilities, SinkWriter};
pub use source::{Chunk, Decoded, Decoder, DecoderFactory, Framing, Source, SplitReader};
pub use state::Section;
pub use watermark::Progress;

/// Most rows a batch may have (rows).
pub const BATCH_ROWS_MAX: usize = 8192;
