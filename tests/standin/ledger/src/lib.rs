//! What every stand-in service shares: a ledger of what was applied and answered, planned faults,
//! and the HTTP surface that reads and sets them.
//!
//! A stand-in calls [`Options::enter`] for each request before it does anything, and
//! [`Passage::record`] once it has (or has not) applied it; the [`Fate`] says what becomes of the
//! answer. Oracles read the ledger, never the counters of the system under test.
//!
//! Deliberately absent: anything that knows a particular service.

mod admin;
mod fault;
mod http;
mod ledger;
mod passage;

pub use admin::{HEALTH_PATH, admin_routes};
pub use fault::{Action, Faults, FaultsError, Matches, Rule};
pub use http::{LostReply, lost_reply, serve_router};
pub use ledger::{Entry, Ledger, LedgerError};
pub use passage::{Fate, Options, Passage};
