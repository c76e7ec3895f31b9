//! What can go wrong with files, and who must act.

use std::io;
use std::path::{Path, PathBuf};

use thalweg_stream::{Class, Fault};

/// Why a file could not be read, staged or published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option has a value that makes no sense.
    #[error("file: \"{option}\" is {value:?}, but must be {must}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What it was given.
        value: String,
        /// What it may be.
        must: &'static str,
    },
    /// The path is not a pattern.
    #[error("file: {pattern:?} is not a valid pattern: {source}")]
    Pattern {
        /// The path of the definition.
        pattern: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// Nothing is there.
    #[error("file: no file matches {0:?}")]
    NoMatch(String),
    /// A folder or a device instead of a file.
    #[error("file: {0:?} is not a regular file; to read all files of a folder write {0}/*")]
    NotAFile(String),
    /// A name that is not UTF-8 cannot stand in a checkpoint.
    #[error("file: the name of {0:?} is not UTF-8")]
    NotUnicode(PathBuf),
    /// The checkpoint's files are others than those of the definition.
    #[error("file: the checkpoint has read {name:?}, which is none of {path:?}")]
    OtherFiles {
        /// A split's name.
        name: String,
        /// The path of the definition.
        path: String,
    },
    /// A split's description that we did not write.
    #[error("file: the checkpoint describes {split:?} as no version of this source does")]
    Detail {
        /// The split's name.
        split: String,
    },
    /// A file of the checkpoint is gone.
    #[error("file: {name:?} has vanished; it was to be read from offset {offset} on")]
    Vanished {
        /// The split's name.
        name: String,
        /// Where reading was to go on.
        offset: u64,
    },
    /// A file ends before what was read of it.
    #[error("file: {name:?} has shrunk: it ends at {bytes} and was to be read from {offset} on")]
    Shrunk {
        /// The split's name.
        name: String,
        /// Where reading was to go on, or where it ended before.
        offset: u64,
        /// Where it ends now.
        bytes: u64,
    },
    /// A record is longer than the limit.
    #[error("file: {name:?} has a record of more than {limit} bytes at offset {offset}")]
    RecordTooLong {
        /// The split's name.
        name: String,
        /// Where the record begins.
        offset: u64,
        /// The limit, bytes.
        limit: usize,
    },
    /// A file with a header seems to be one line.
    #[error(
        "file: {0:?} ends lines with a carriage return alone; it has to be a line feed, with or \
         without one before it"
    )]
    LineEnds(String),
    /// A file is larger than offsets can tell.
    #[error("file: {name:?} is longer than an offset can say (16 TiB)")]
    TooLong {
        /// The split's name.
        name: String,
    },
    /// Compressed content does not decompress.
    #[error(
        "file: {name:?} is damaged behind offset {offset} of its decompressed content: {source}"
    )]
    Compressed {
        /// The split's name.
        name: String,
        /// What was decompressed without fault.
        offset: u64,
        /// What the decompressor says.
        source: io::Error,
    },
    /// The operating system refuses.
    #[error("file: cannot {what} {path:?}: {source}")]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A staged object is not what the manifest says, or not there.
    #[error("file: staged {name:?} {what}")]
    Stage {
        /// The object's name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A name in the stage store that would lead out of it.
    #[error("file: {0:?} is no name for a staged object")]
    StageName(String),
    /// A file is there under the name of one to be published, with other content.
    #[error("file: {0:?} is already there with other content; it is not overwritten")]
    Occupied(PathBuf),
    /// The dead-letter file has no room left.
    #[error(
        "dead-letter file {path:?} is full: {bytes} bytes and {more} more to write, the limit is \
         {limit}; move it away or raise max_size"
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// What it has.
        bytes: u64,
        /// What is to be written.
        more: u64,
        /// The limit.
        limit: u64,
    },
    /// The dead-letter file is shorter than what was written to it.
    #[error(
        "dead-letter file {path:?} has {bytes} bytes where {recorded} were written; restore it, \
         or move it away to begin a new one"
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// What it has.
        bytes: u64,
        /// What it had.
        recorded: u64,
    },
    /// Somebody else has the dead-letter file now.
    #[error("dead-letter file {0:?} has been claimed or replaced by another process")]
    Claimed(PathBuf),
    /// Another job is running with the same dead-letter file.
    #[error(
        "dead-letter file {0:?} is in use by another job, or by a start of this one that hangs; \
         give each job a file of its own"
    )]
    InUse(PathBuf),
    /// What stands beside the dead-letter file, or in the manifest about it, cannot be read.
    #[error("dead-letter file {path:?}: {what}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Nobody reads standard output any more.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// A thread or task has ended in a panic.
    #[error("file: {0} has died")]
    Died(&'static str),
}

impl Error {
    /// The option of the definition that is wrong.
    #[must_use]
    pub fn option(&self) -> Option<&'static str> {
        if let Self::Option { option, .. } = self {
            return Some(option);
        }
        None
    }

    /// An error of the operating system on `path`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    fn class(&self) -> Class {
        match self {
            Self::Option { .. }
            | Self::Pattern { .. }
            | Self::NoMatch(_)
            | Self::OtherFiles { .. }
            | Self::NotAFile(_)
            | Self::NotUnicode(_)
            | Self::RecordTooLong { .. }
            | Self::LineEnds(_)
            | Self::InUse(_)
            | Self::TooLong { .. } => Class::User,
            Self::Claimed(_) => Class::Fenced,
            Self::Vanished { .. } | Self::Full { .. } | Self::Output(_) => Class::Unavailable,
            Self::Detail { .. }
            | Self::Shrunk { .. }
            | Self::Compressed { .. }
            | Self::Stage { .. }
            | Self::Occupied(_)
            | Self::Cut { .. }
            | Self::Journal { .. } => Class::Corrupt,
            Self::StageName(_) | Self::Died(_) => Class::Bug,
            Self::Io { source, .. } => io_class(source),
        }
    }
}

/// Who must act on an error of the operating system.
fn io_class(error: &io::Error) -> Class {
    let kind = error.kind();
    if kind == io::ErrorKind::PermissionDenied {
        Class::User
    } else if matches!(
        kind,
        // A full disk is emptied without us.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::Interrupted
    ) {
        Class::Transient { after: None }
    } else if matches!(
        kind,
        // Of a folder on another host.
        io::ErrorKind::TimedOut
            | io::ErrorKind::StaleNetworkFileHandle
            | io::ErrorKind::NotConnected
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    ) {
        Class::Unreachable
    } else {
        Class::Unavailable
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::new(error.class(), error.to_string())
    }
}

/// Runs work on the file system where it holds up no task.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Fault::from),
        Err(_) => Err(Error::Died("a task on the file system").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use thalweg_stream::{Class, Fault};

    use super::Error;

    #[test]
    fn a_full_disk_is_waited_out_and_a_missing_permission_is_the_users() {
        for (kind, class) in [
            (io::ErrorKind::StorageFull, Class::Transient { after: None }),
            (
                io::ErrorKind::QuotaExceeded,
                Class::Transient { after: None },
            ),
            (io::ErrorKind::PermissionDenied, Class::User),
            (io::ErrorKind::ReadOnlyFilesystem, Class::Unavailable),
        ] {
            let fault = Fault::from(Error::io("write", Path::new("out/x"))(kind.into()));
            assert_eq!(fault.class, class);
            let message = format!("file: cannot write \"out/x\": {}", io::Error::from(kind));
            assert_eq!(fault.message, message);
        }
    }
}
