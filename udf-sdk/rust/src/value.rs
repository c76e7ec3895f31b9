//! Values that Rust has no type of its own for, and the log.

/// A point in time: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A date: days since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub i32);

/// How much a line in the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// For whoever looks for a mistake.
    Debug = 1,
    /// Good to know.
    Info = 2,
    /// Somebody should look at it.
    Warning = 3,
    /// Something failed.
    Error = 4,
}

/// Writes to the log of the job. In a native test it writes nothing.
#[cfg_attr(
    not(target_arch = "wasm32"),
    allow(unused_variables, reason = "only a host has a log")
)]
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::guest::log(level, message);
}
