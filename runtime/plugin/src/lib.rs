//! The host of plugins: WebAssembly components that are given nothing but what they are called with.
//!
//! The only crate that names wasmtime. A [`Plugin`] is loaded from a component that was built
//! against the contract in `udf-sdk/wit`; a [`PluginSet`] holds those of a job by name; a [`Caller`]
//! calls one function on one worker, a batch at a time, and turns whatever the guest does (panic,
//! loop, eat memory, return nonsense) into failed rows. What a guest returns is checked before it is
//! used: lengths, offsets, flags, UTF-8.
//!
//! Deliberately absent: WASI, threads, asynchronous calls, and any state in a guest that outlives a
//! call for certain.

mod cache;
mod caller;
mod column;
mod compile;
mod cpu;
mod error;
mod host;
mod instance;
mod known;
mod limit;
mod notation;
mod plugin;
mod set;
mod tally;
mod trap;
mod wire;

pub use cache::Cache;
pub use caller::Caller;
pub use compile::{Compile, compile_in_child};
pub use error::PluginError;
pub use host::Host;
pub use limit::{COMPONENT_BYTES_MAX, Limits};
pub use plugin::{Function, Plugin, interfaces, sha256};
pub use set::PluginSet;
pub use tally::Tally;
