//! The sink against the stand-in, and the stand-in against the official client.

mod connect;
mod crash;
mod harness;
mod login;
mod publish;
mod python;
