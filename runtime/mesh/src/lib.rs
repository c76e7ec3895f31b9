//! The connections between the processes of one job: who is let in, what is checked, when a process is
//! given up.
//!
//! Process 0 leads. Every other process has a *control* connection to it, and every two processes have
//! a *data* connection. Before a byte of either is believed, both ends prove that they know the job's
//! secret and mean the same job, generation, processes and role (`hello.rs`); between hosts all of it
//! is inside mutual TLS (`tls.rs`). What follows are frames that are checked before they are handed on
//! (`frame.rs`). A process that is silent for [`SILENCE`] is lost, and a mesh with a lost process is
//! lost: nothing is reconnected, the next attempt has connections of its own.
//!
//! Deliberately absent: timely, which reads and writes a [`Stream`] as it would a socket, and what the
//! messages say.

mod control;
mod error;
mod fate;
mod frame;
mod hello;
mod listen;
mod member;
mod secret;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub use control::{Control, HEARTBEAT, MESSAGE_BYTES_MAX, SILENCE};
pub use error::{Error, Refusal};
pub use fate::Fate;
pub use frame::FRAME_BYTES_MAX;
pub use listen::Listener;
pub use member::{Attempt, Joined, Member, Peer};
pub use secret::{Secret, random_secret};
pub use stream::Stream;
pub use tls::Tls;
