//! What can go wrong with durable things, and who must act on it.

use thalweg_stream::{Epoch, Fault};

/// A failure of the store, or of what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kind of store is planned and not built.
    #[error("checkpoint store {scheme}://: not supported yet")]
    NotSupported {
        /// The scheme alone: the rest of such a URL may hold a secret.
        scheme: String,
    },
    /// The location is not one.
    #[error("checkpoint store {location:?}: {problem}")]
    BadLocation {
        /// The location as it was given.
        location: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing is stored there.
    #[error("no checkpoints at {location}")]
    NoStore {
        /// Where was looked.
        location: String,
    },
    /// The object was to be created and is there.
    #[error("{name} exists already")]
    AlreadyExists {
        /// The object.
        name: String,
    },
    /// The object is not there.
    #[error("{name} is missing")]
    Missing {
        /// The object.
        name: String,
    },
    /// The object was written by a newer program.
    #[error("{name} has {kind} format {version}, and this program knows formats up to {known}")]
    Newer {
        /// The object.
        name: String,
        /// What it is.
        kind: &'static str,
        /// Its format.
        version: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// The object fails its checks.
    #[error("{name} is damaged: {problem}")]
    Corrupt {
        /// The object.
        name: String,
        /// Which check it fails.
        problem: String,
    },
    /// The checkpoint to start from fails its checks.
    #[error("the checkpoint of epoch {epoch} cannot be used: {damage}; {way_out}")]
    Damaged {
        /// Its epoch.
        epoch: Epoch,
        /// Which object is damaged, and how.
        damage: Box<Self>,
        /// How to go on.
        way_out: String,
    },
    /// The store could not do what it was asked; whether it did is not known.
    #[error("{action} {name}: {problem}")]
    Storage {
        /// What was tried.
        action: &'static str,
        /// The object.
        name: String,
        /// What the store said.
        problem: String,
        /// Whether it may succeed later.
        passing: bool,
    },
    /// An injected fault has ended this handle: nothing passes it any more.
    #[error("{name}: the store handle was ended by an injected fault")]
    Ended {
        /// The object that was asked for.
        name: String,
    },
    /// A newer generation owns the job.
    #[error("{what}: generation {by} has taken over, on host {host}, process {pid}")]
    Fenced {
        /// What was to be done.
        what: String,
        /// The generation that owns the job now.
        by: u64,
        /// Its host.
        host: String,
        /// Its process.
        pid: u32,
    },
    /// A newer generation owns the job, and which could not be found out.
    #[error("{what}: a later generation has taken over; which is not known: {problem}")]
    FencedBySomebody {
        /// What was to be done.
        what: String,
        /// Why it is not known.
        problem: String,
    },
    /// The job is being run.
    #[error(
        "job \"{job}\" is already running on host {host}, process {pid}; stop it, or take over with --take-over"
    )]
    Running {
        /// The job.
        job: String,
        /// Where it runs.
        host: String,
        /// Its process.
        pid: u32,
    },
    /// The store belongs to another job.
    #[error("the checkpoints at {location} belong to job \"{found}\", not to \"{job}\"")]
    OtherJob {
        /// Where the store is.
        location: String,
        /// The job that was to be run.
        job: String,
        /// The job it belongs to.
        found: String,
    },
    /// The user asked for a checkpoint that is not kept.
    #[error("there is no checkpoint of epoch {epoch}; there are {kept}")]
    NoSuchEpoch {
        /// The epoch asked for.
        epoch: Epoch,
        /// Those that are kept.
        kept: String,
    },
    /// A running job has removed the checkpoint that is being read.
    #[error(
        "the checkpoint of epoch {epoch} was removed while it was read: its job has newer ones; \
         a savepoint stays"
    )]
    Removed {
        /// Its epoch.
        epoch: Epoch,
    },
    /// Whether a log entry exists could not be found out.
    #[error("{name}: its outcome is unknown: {problem}")]
    OutcomeUnknown {
        /// The object.
        name: String,
        /// What the store said last.
        problem: String,
    },
    /// An invariant does not hold.
    #[error("{0}")]
    Bug(String),
}

impl Error {
    /// `name` fails a check.
    pub(crate) fn corrupt(name: &(impl ToString + ?Sized), problem: impl Into<String>) -> Self {
        Self::Corrupt {
            name: name.to_string(),
            problem: problem.into(),
        }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn passing(&self) -> bool {
        matches!(self, Self::Storage { passing: true, .. })
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NotSupported { .. }
            | Error::BadLocation { .. }
            | Error::NoStore { .. }
            | Error::Newer { .. }
            | Error::OtherJob { .. }
            | Error::NoSuchEpoch { .. } => Self::user(message),
            Error::Missing { .. } | Error::Corrupt { .. } | Error::Damaged { .. } => {
                Self::corrupt(message)
            }
            Error::Storage { passing: true, .. } | Error::OutcomeUnknown { .. } => {
                Self::transient(message)
            }
            Error::Storage { passing: false, .. }
            | Error::Ended { .. }
            | Error::Removed { .. }
            | Error::Running { .. } => Self::unavailable(message),
            Error::Fenced { .. } | Error::FencedBySomebody { .. } => Self::fenced(message),
            Error::AlreadyExists { .. } | Error::Bug(_) => Self::bug(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use thalweg_stream::{Class, Fault};

    use super::Error;

    #[test]
    fn damage_and_outages_are_told_apart() {
        let class = |error: Error| Fault::from(error).class;
        let storage = |passing| Error::Storage {
            action: "put",
            name: "log/1".into(),
            problem: "no space left on device".into(),
            passing,
        };
        assert_eq!(class(storage(true)), Class::Transient { after: None });
        assert_eq!(class(storage(false)), Class::Unavailable);
        assert_eq!(class(Error::corrupt("log/1", "checksum")), Class::Corrupt);
    }
}
