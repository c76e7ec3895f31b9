//! What can be wrong with a section of state.

use thalweg_stream::Fault;

/// Why a section cannot be taken back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes end in the middle of something.
    #[error("state section ends early")]
    Truncated,
    /// There are more bytes than the content needs.
    #[error("state section has {0} bytes too many")]
    Trailing(usize),
    /// It was written by a version of the format that this build does not know.
    #[error("state section has format version {found}, this build reads up to {known}")]
    Version {
        /// The version found.
        found: u8,
        /// The greatest version known.
        known: u8,
    },
    /// Its content cannot be that of this operator.
    #[error("state section is not of this step: {0}")]
    Shape(&'static str),
}

impl From<StateError> for Fault {
    fn from(error: StateError) -> Self {
        Self::corrupt(error.to_string())
    }
}
