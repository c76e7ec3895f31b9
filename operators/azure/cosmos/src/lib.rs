//! The Azure Cosmos DB sink: one document per id, each write fenced, published exactly once.
//!
//! A [`CosmosSink`] folds the rows of a checkpoint by document, stages them as JSON lines, and
//! after the commit writes each document under the etag of the version it replaces. What a
//! document holds is the greatest of all rows of its id by ([`order`], epoch), so replays,
//! lost replies and writers that were thought dead change nothing.
//!
//! The path of a row: [`writer`] encodes and folds it, [`row`] is the line in which it is staged,
//! [`publisher`] groups staged rows by partition key, [`mod@write`] brings a document to its row (the
//! protocol), [`batch`] does so for many at once, [`client`] asks the service and classifies its
//! answers, [`pace`] decides when it may be asked.
//!
//! Deliberately absent: creating databases or containers, reading documents for others, sessions
//! shared between processes, and sign-in by anything but the account key.

mod account;
mod batch;
mod cache;
mod client;
mod counters;
mod document_id;
mod error;
mod order;
mod pace;
mod partition;
mod publisher;
mod row;
mod sink;
mod spec;
mod stamp;
mod write;
mod writer;

pub use counters::{Counters, CountersNow};
pub use error::CosmosError;
pub use sink::CosmosSink;
pub use spec::{AccountKey, CosmosSpec, Limits};
pub use stamp::{STAMP_FIELD, Stamp, Verdict};
