//! Why a connection is not made, or is given up.

use std::fmt;
use std::time::Duration;

use thalweg_stream::{Class, Fault};

/// Why a process is not let in: what is told to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It speaks another version of the protocol.
    Version,
    /// It works on another job.
    Job,
    /// It belongs to another attempt.
    Generation,
    /// It counts the processes differently, takes us for another, or has no place among them.
    Process,
    /// It is not waited for, or is here already.
    Unexpected,
    /// It does not know the secret.
    Secret,
}

impl Refusal {
    const ALL: [Self; 6] = [
        Self::Version,
        Self::Job,
        Self::Generation,
        Self::Process,
        Self::Unexpected,
        Self::Secret,
    ];

    /// The byte that says so. 0 is reserved for a welcome.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::Job => 2,
            Self::Generation => 3,
            Self::Process => 4,
            Self::Unexpected => 5,
            Self::Secret => 6,
        }
    }

    pub(crate) fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.code() == code)
    }

    /// Whether the next attempt to connect may be answered otherwise.
    pub(crate) fn may_pass(self) -> bool {
        matches!(self, Self::Generation | Self::Unexpected)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "it speaks another version of the protocol",
            Self::Job => "it works on another job",
            Self::Generation => "it belongs to another attempt of the job",
            Self::Process => "it counts the processes differently",
            Self::Unexpected => "it is not waited for, or connected already",
            Self::Secret => "it does not know the job's secret",
        })
    }
}

/// Why a connection is not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The secret is too short to keep anybody out.
    #[error("the secret of the processes has {0} bytes, fewer than 16")]
    WeakSecret(usize),
    /// The other end does not speak the protocol at all.
    #[error("what it says is not the protocol of Thalweg's processes")]
    Stranger,
    /// The other end is not let in.
    #[error("{0}")]
    Refused(Refusal),
    /// The other end does not let us in.
    #[error("refused by process {process}, which says of this one: {refusal}")]
    RefusedBy {
        /// Who refuses.
        process: usize,
        /// Why.
        refusal: Refusal,
    },
    /// The other end has gone when it saw this one's proof.
    #[error(
        "it did not accept this process's proof: its secret is another one, or it waits for a later attempt"
    )]
    Unconvinced,
    /// The other end has not said all it has to within the time there is.
    #[error("it has not introduced itself within {} s", .0.as_secs())]
    Silent(Duration),
    /// Between hosts everything is encrypted.
    #[error("{0} is not this host: processes on several hosts need TLS")]
    TlsRequired(String),
    /// Certificates or a key cannot be used, or the other end's are not accepted.
    #[error("TLS: {0}")]
    Tls(String),
    /// Some process has not come.
    #[error("{who} did not connect within {} s{refused}", .waited.as_secs())]
    Missing {
        /// Which process, and by which connection.
        who: String,
        /// How long it was waited for.
        waited: Duration,
        /// What came instead, if anything did.
        refused: String,
    },
    /// A process was lost while the mesh was being made.
    #[error("process {process} is lost: {reason}")]
    Lost {
        /// Which.
        process: usize,
        /// Why.
        reason: String,
    },
    /// The network does not do what it is asked to.
    #[error("{doing}: {error}")]
    Io {
        /// What was asked for.
        doing: String,
        /// What it says.
        error: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>, error: std::io::Error) -> Self {
        let doing = doing.into();
        // Certificates are found wanting in the middle of a connection, too: TLS 1.3 tells a client
        // only after the handshake.
        match error.get_ref().is_some_and(|e| e.is::<rustls::Error>()) {
            true => Self::Tls(format!("{doing}: {error}")),
            false => Self::Io { doing, error },
        }
    }

    /// Whether trying again soon may end otherwise.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::WeakSecret(_) | Self::TlsRequired(_) | Self::Tls(_) | Self::Stranger => false,
            Self::Refused(refusal) | Self::RefusedBy { refusal, .. } => refusal.may_pass(),
            Self::Unconvinced
            | Self::Silent(_)
            | Self::Missing { .. }
            | Self::Lost { .. }
            | Self::Io { .. } => true,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let class = if error.may_pass() {
            Class::Transient { after: None }
        } else {
            Class::User
        };
        Self::new(class, error.to_string())
    }
}
