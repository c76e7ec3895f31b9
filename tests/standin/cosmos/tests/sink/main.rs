//! The Cosmos DB sink against Microsoft's emulator, with everything going wrong that may.
//!
//! What happened is read from the stand-in's ledger and from the documents themselves, never from
//! the sink, except where its counters are what is tested.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test finds wrong it says by panicking"
)]

mod bench;
mod chaos;
mod conflicts;
mod delivery;
mod fencing;
mod javascript;
mod raw;
mod refusals;
mod throttling;
