//! The sinks of Azure in whole jobs: the real binary against both stand-ins, its results beside an
//! oracle's and the stand-ins' ledgers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a test finds wrong it says by panicking"
)]

mod bench;
mod delivery;
mod history;
mod refusals;
mod rejects;
mod throttling;
