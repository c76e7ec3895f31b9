//! What can go wrong with a Cosmos DB sink, and who must act.

use std::time::Duration;

use thalweg_stream::{Class, Fault};

/// A failure of a Cosmos DB sink. No message contains the key.
#[derive(Debug, thiserror::Error)]
pub enum CosmosError {
    /// The definition and the stream do not go together.
    #[error("{what}")]
    Definition {
        /// The option that is wrong, if it is one alone.
        option: Option<&'static str>,
        /// What is wrong.
        what: String,
    },
    /// The endpoint is no URL the account could have.
    #[error("\"{endpoint}\" is not a Cosmos DB endpoint: {reason}")]
    Endpoint {
        /// As written.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The account refuses the key.
    #[error("cosmos account {endpoint} refuses the key: {reason}")]
    Denied {
        /// The account.
        endpoint: String,
        /// What the service said.
        reason: String,
    },
    /// The account does not answer.
    #[error("cosmos account {endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// The account.
        endpoint: String,
        /// What failed.
        reason: String,
    },
    /// The database or the container does not exist.
    #[error("cosmos account {endpoint} has no {what}")]
    Missing {
        /// The account.
        endpoint: String,
        /// What is missing: `database "roads"`.
        what: String,
    },
    /// The container is partitioned by something else.
    #[error(
        "container \"{container}\" is partitioned by {found}, but the sink's partition_key is \
         column \"{column}\" (path /{column})"
    )]
    PartitionKey {
        /// The container.
        container: String,
        /// Its paths.
        found: String,
        /// The column.
        column: String,
    },
    /// Etags order writes in one region only.
    #[error(
        "cosmos account {endpoint} takes writes in several regions ({regions}), where etags do \
         not order them: exactly once needs an account with one write region (or guard: off)"
    )]
    SeveralWriteRegions {
        /// The account.
        endpoint: String,
        /// The regions' names.
        regions: String,
    },
    /// A newer start of the job has written.
    #[error(
        "document \"{id}\" was written by generation {theirs} of this job; this is generation \
         {ours}, and stops"
    )]
    Fenced {
        /// The document.
        id: String,
        /// The generation in its stamp.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// The document's stamp is of a later version of Thalweg.
    #[error("document \"{id}\" carries a stamp of format {version}, newer than this program's")]
    StampFormat {
        /// The document.
        id: String,
        /// The format.
        version: u64,
    },
    /// A staged object is not what a writer of ours stages.
    #[error("staged object \"{name}\" is not readable: {reason}")]
    Staged {
        /// The object.
        name: String,
        /// Why.
        reason: String,
    },
    /// A document has not been written in the time given; its unit will be given again.
    #[error("document \"{id}\" is not written after {tries} tries: {reason}")]
    Exhausted {
        /// The document.
        id: String,
        /// How often it was tried.
        tries: u64,
        /// What was answered last.
        reason: String,
    },
    /// Impossible, unless we are wrong.
    #[error("{0}")]
    Bug(String),
}

impl CosmosError {
    /// The option of the definition that is wrong, if it is one alone.
    #[must_use]
    pub fn option(&self) -> Option<&'static str> {
        if let Self::Definition { option, .. } = self {
            return *option;
        }
        matches!(self, Self::Endpoint { .. }).then_some("endpoint")
    }

    /// An option that does not go together with the stream.
    pub(crate) fn of_option(option: &'static str, what: impl std::fmt::Display) -> Self {
        Self::Definition {
            option: Some(option),
            what: format!("{option}: {what}"),
        }
    }
}

impl From<CosmosError> for Fault {
    fn from(error: CosmosError) -> Self {
        let class = match &error {
            CosmosError::Definition { .. }
            | CosmosError::Endpoint { .. }
            | CosmosError::Denied { .. }
            | CosmosError::Missing { .. }
            | CosmosError::PartitionKey { .. }
            | CosmosError::SeveralWriteRegions { .. } => Class::User,
            CosmosError::Unreachable { .. } => Class::Unreachable,
            CosmosError::StampFormat { .. } => Class::Unavailable,
            CosmosError::Fenced { .. } => Class::Fenced,
            CosmosError::Staged { .. } => Class::Corrupt,
            CosmosError::Exhausted { .. } => Class::Transient {
                after: Some(Duration::from_secs(1)),
            },
            CosmosError::Bug(_) => Class::Bug,
        };
        Self::new(class, error.to_string())
    }
}
