//! Azure Data Explorer as a sink, by queued ingestion, exactly once; and the client it needs.
//!
//! There is no crate for this service, so the client is ours: [`Client`] runs commands and
//! queries, [`Auth`] says who we are. [`AdxSink`] writes rows as compressed JSON lines into the
//! outbox; after the commit its publisher makes blobs of them and has the service ingest each
//! once.
//!
//! How a row gets there once, whatever fails:
//! 1. A unit of staged objects is cut into parts by the manifest alone. Each part has a tag
//!    `<job>/<lineage>/<sink>/<epoch>/<n>` that never changes, and the service refuses to ingest
//!    under a tag it has seen ([`ingestIfNotExists`]).
//! 2. Before anything is posted the status row and the table's extents are *asked*. Attempts are
//!    made one after the other, never two at once.
//! 3. The insertion of an attempt's status row, whose id is a function of the tag, is the gate:
//!    of all processes that try, one may post.
//! 4. A unit is published when the service reports that its rows are visible.
//!
//! ```
//! use thalweg_adx::{AdxSink, AdxSpec, Auth};
//! use thalweg_stream::{Column, ColumnType, Sink, StreamSchema};
//!
//! let columns = vec![Column::new("device", ColumnType::String)];
//! let schema = StreamSchema::append(columns, true);
//! let spec = AdxSpec::new("https://c.westeurope.kusto.windows.net", Auth::None, "iot", "Telemetry");
//! let sink = AdxSink::new(spec, schema)?;
//! assert!(sink.capabilities().exactly_once && !sink.capabilities().ordered);
//! # Ok::<(), thalweg_stream::Fault>(())
//! ```
//!
//! Deliberately absent: streaming ingestion (it knows no tags, so repeats cannot be told), status
//! queues (they are shared by all clients of a cluster, and reading one steals from the others),
//! Azure crates (a signature in an address needs no signing).
//!
//! [`ingestIfNotExists`]: https://learn.microsoft.com/azure/data-explorer/ingestion-properties

mod answer;
mod attempt;
mod auth;
mod client;
mod cluster;
mod counters;
mod error;
mod gzip;
mod http;
mod message;
mod part;
mod publish;
mod resources;
mod secret;
mod sink;
mod storage;
mod target;
mod writer;

pub use answer::{AnswerColumn, Table};
pub use auth::Auth;
pub use client::{Client, Connection};
pub use cluster::Endpoint;
pub use counters::{Counters, CountersNow};
pub use error::Error;
pub use secret::Secret;
pub use sink::{AdxSink, AdxSpec, Changes};
