//! The Kafka source: the records of one topic, each partition a split.
//!
//! Where a job stands in a topic is kept in its own checkpoints and nowhere else: no consumer group
//! is joined, nothing is committed to the broker, partitions are assigned by the engine. An offset
//! that is gone, a topic that has shrunk or was made anew end the attempt with their names; nothing
//! is ever reset silently. A broker that is away is waited for.
//!
//! ```text
//! librdkafka's threads ──queue──▶ fetch (a thread) ──chunks──▶ reader (on a worker)
//!        bounded by size            batches, framing      bounded, wakes the worker
//! ```
//!
//! This is the only crate that names `rdkafka`. Its safe consumers hand out one message at a time,
//! which costs twice the time, and need a consumer group to assign partitions; so the reading is
//! done by librdkafka's own calls, in `native`; what else its safe face lacks is in `identity`.

mod column;
mod desk;
mod discover;
mod error;
mod fetch;
mod identity;
mod link;
mod native;
mod options;
mod queue;
mod reader;
mod source;
mod token;

pub use error::Error;
pub use options::{DataLoss, KafkaOptions, METADATA, Start};
pub use source::KafkaSource;
