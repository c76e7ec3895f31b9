//! A Cosmos DB that a test can start: Microsoft's in-memory emulator behind plain HTTP, with a
//! ledger of every write and planned faults in front.
//!
//! The emulator comes with the Cosmos DB driver as an internal feature, so the driver's version is
//! pinned and nothing but tests depends on this crate. What this crate adds: a socket, account
//! keys that are checked (the emulator takes any), faults, and for each document the etag and the
//! `_thalweg` stamp before and after each write.
//!
//! Deliberately absent: persistence (the documents live as long as the process) and TTL, which
//! the emulator accepts and does not act upon.

mod authorization;
mod history;
pub mod oracle;
mod request;
mod service;

pub use authorization::{ACCOUNT_KEY, authorization};
pub use service::{Account, StartError, serve, serve_account};
