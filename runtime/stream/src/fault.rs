//! The one classification of failures: who must act.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Who must act on a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The user: the definition, a credential or a permission is wrong. Exit status 1.
    User,
    /// Nobody: the outside world fails for a while; try again after the delay.
    Transient {
        /// How long to wait before the next attempt, if the peer said so.
        after: Option<Duration>,
    },
    /// The outside world, for good: an endpoint, topic or store is not usable. Exit status 2.
    Unavailable,
    /// The outside world, for now: a service does not answer. Exit status 2 where a run begins; one
    /// that has been going on waits for it.
    Unreachable,
    /// A newer generation owns the job; this one stops. Exit status 2.
    Fenced,
    /// Durable data fails its checks and is not used. Exit status 2.
    Corrupt,
    /// Us: an invariant does not hold. Exit status 3.
    Bug,
}

/// A failure that ends an attempt of a job, with its class and a message that names the object.
///
/// Failures of single records are not faults: they are [dead letters](crate::DeadLetter). Crates
/// keep their own error enums and convert them into a `Fault` at the traits of this crate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Who must act.
    pub class: Class,
    /// What happened to which object: lowercase, no full stop, no secret.
    pub message: Cow<'static, str>,
}

impl Fault {
    /// A fault of `class`.
    pub fn new(class: Class, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }
    /// The user must act.
    pub fn user(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::User, message)
    }
    /// It may pass by itself.
    pub fn transient(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Transient { after: None }, message)
    }
    /// The outside world is not usable.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Unavailable, message)
    }
    /// A newer generation exists.
    pub fn fenced(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Fenced, message)
    }
    /// Durable data is damaged.
    pub fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Corrupt, message)
    }
    /// An invariant is violated.
    pub fn bug(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Class::Bug, message)
    }
    /// The same fault, its message preceded by `context` and a colon.
    #[must_use]
    pub fn within(self, context: impl fmt::Display) -> Self {
        Self {
            class: self.class,
            message: format!("{context}: {}", self.message).into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl From<arrow::error::ArrowError> for Fault {
    /// Arrow's kernels fail only on shapes we got wrong.
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::bug(format!("arrow: {error}"))
    }
}
