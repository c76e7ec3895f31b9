//! The SDK that plugins of Thalweg are written with: plain functions, one attribute.
//!
//! ```
//! /// Metres a vehicle needs to stop.
//! #[thalweg_udf::scalar]
//! fn braking_distance_m(speed_kmh: f64, friction: f64, reaction_s: Option<f64>) -> f64 {
//!     let speed = speed_kmh / 3.6;
//!     speed * reaction_s.unwrap_or(1.0) + speed * speed / (2.0 * 9.81 * friction)
//! }
//! assert!(braking_distance_m(100.0, 0.8, None) > 70.0);
//! ```
//!
//! The function stays what it is and is tested as one. Compiled for `wasm32-unknown-unknown`, the
//! crate becomes a component whose functions the expressions of a job call by name, a batch of rows
//! at a time.
//!
//! - Arguments are `bool`, `i32`, `i64`, `f32`, `f64`, `&str`, `String`, `&[u8]`, `Vec<u8>`,
//!   [`Timestamp`], [`Date`], or an `Option` of one. A row with a null for an argument that is no
//!   `Option` has a null result; the function is not called.
//! - Results are one of these that owns its value, an `Option` of it, or a `Result` with any error
//!   that can be displayed. A row whose result is an error becomes a dead letter with its text; a
//!   panic does the same, at a higher price.
//! - A function is pure. It has no clock, no randomness, no files and no network, and what it keeps
//!   in a static may be gone at the next call.

mod argument;
mod column;
pub mod function;
#[cfg(target_arch = "wasm32")]
mod guest;
mod output;
mod value;

pub use argument::Argument;
pub use column::{Blobs, Column, Failure, Failures, Returned};
pub use output::{Output, Value};
pub use thalweg_udf_macro::scalar;
pub use value::{Date, Level, Timestamp, log};
