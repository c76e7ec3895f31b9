//! What tests of whole jobs share: the binaries as processes ([`process`]), the stand-ins for
//! Azure's services ([`standin`]), and a Kafka broker ([`kafka`]).

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what a test finds wrong it says by panicking"
)]

pub mod kafka;
pub mod process;
pub mod python;
pub mod standin;
