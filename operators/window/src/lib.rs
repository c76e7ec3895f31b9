//! Windows over event time.
//!
//! [`TumblingFactory`] makes the operator of a `window: { tumbling: … }` step: rows are assigned
//! to half-open windows `[start, end)` aligned to the epoch plus an offset, aggregated by key, and
//! the results put out when the watermark reaches `end`. Which rows a window has when it fires
//! depends only on what the epochs contain: batches are aggregated in any order, sums of floats
//! keep a compensation, and results leave by window start, hash and key.
//!
//! # State
//! One table pane per window: per key the number of rows and the accumulators, in 64-bit words;
//! extremes of strings are the payload; values of distinct counts are 128-bit fingerprints in a set
//! beside it. The watermark the windows last fired at is part of the state, so that no window fires
//! twice after a restore.
//!
//! Deliberately absent: expressions. Arguments, filters and keys are columns that a step before
//! computed.

mod accumulator;
mod assign;
mod fire;
mod kernel;
mod measure;
mod migration;
mod operator;
mod outcome;
mod rows;
mod spec;

pub use operator::TumblingFactory;
pub use rows::state_rows;
pub use spec::{AggregateSpec, Function, LateFate, LateSpec, SpecError, TumblingSpec};
