//! Deterministic telemetry: every record is a pure function of (options, split, index).
//!
//! The same generator feeds jobs ([`GenerateSource`]), the command line
//! ([`Generator::write_lines`]) and oracles in tests ([`Generator::truth`]), so that what a job
//! should have made of its input can be computed anew at any time, from the options alone.
//!
//! # What it makes
//! Reporters (devices, vehicles, or the segments of `weather`) take turns: in every *round* each
//! reports once, in an order that changes from round to round. A round spans
//! [`interval_ms`](GenerateSpec::interval_ms) of event time, so event time advances with the
//! record's number; up to [`DISORDER_MS_MAX`] are added to each record's time. `seq` is the
//! number of the round: (reporter, `seq`) names a record.
//!
//! Three probabilities turn a record into something else, and exclude each other:
//!
//! - **late**: the event time lies [`LATE_MS_MIN`] to [`LATE_MS_MAX`] before what it would have
//!   been. The record is well-formed; whether a step finds it late is up to its windows.
//! - **duplicate**: the record's place is taken by an exact repetition, byte for byte, of an
//!   earlier good record of the same split, at most [`DUPLICATE_DISTANCE_MAX`] records and at most
//!   about one interval of event time back. (The record whose place it took does not exist: its
//!   `seq` is missing.) Where there is no good record so near, the record is simply good.
//! - **corrupt**: the record is damaged in one of four ways, each as likely; see [`Corruption`].
//!
//! All else is good: decodable, in time, and the first of its (reporter, `seq`).
//!
//! Deliberately absent: `rand`. Its small generators may change between releases, and the bytes
//! of a seed are a contract; the draws are SplitMix64, a dozen lines.

mod draw;
mod error;
mod event;
mod generator;
mod pace;
mod source;
mod spec;
mod text;

pub use error::Error;
pub use event::{Event, FleetEvent, Status, VehicleEvent, WeatherEvent};
pub use generator::{Corruption, Generator, Kind, Truth};
pub use source::{GenerateSource, METADATA};
pub use spec::{GenerateSpec, What};

/// Most that is added to a record's regular event time, milliseconds: records are out of order by
/// up to this much.
pub const DISORDER_MS_MAX: u64 = 200;
/// Least by which the event time of a late record lies behind, milliseconds.
pub const LATE_MS_MIN: u64 = 5 * 60_000;
/// Most by which the event time of a late record lies behind, milliseconds.
pub const LATE_MS_MAX: u64 = 60 * 60_000;
/// Greatest distance, in records of its split, from a duplicate back to what it repeats.
pub const DUPLICATE_DISTANCE_MAX: u64 = 1000;
