//! The sink against the stand-in, and the stand-in against the official client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod connect;
mod crash;
mod harness;
mod login;
mod publish;
mod python;
