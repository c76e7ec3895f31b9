//! Disks that are full, read-only or broken under the real binary: whatever the job writes to (its
//! checkpoints, staged and published files, dead letters) fails at every kind of moment, and in the
//! end the output is what the input says, each row once.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed expectation ends a test, and one that is skipped says so"
)]

mod broken;
mod job;
mod mounted;
