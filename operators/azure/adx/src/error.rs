//! What can go wrong between us and a cluster, and who must act on it.

use std::time::Duration;

use thalweg_stream::{Class, Fault};

/// A failure of a request to Azure Data Explorer, to its storage or to the login service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What the definition says cannot be used.
    #[error("{0}")]
    Setting(String),
    /// An option of the definition cannot be used.
    #[error("{what}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The host is none of the service's, so it is sent no token.
    #[error(
        "host {host:?} is not known to belong to Azure Data Explorer, so it is not sent a token"
    )]
    Untrusted {
        /// The host.
        host: String,
    },
    /// No connection: the request was not sent.
    #[error("{what}: cannot connect to {host}: {reason}")]
    Unreachable {
        /// What was being done.
        what: String,
        /// The host.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The request was sent, and what became of it is not known.
    #[error("{what}: no answer from {host}: {reason}")]
    Unknown {
        /// What was being done.
        what: String,
        /// The host.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The service refused the request.
    #[error("{what}: {host} answered {status} {code}: {message}")]
    Refused {
        /// What was being done.
        what: String,
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The service's word for it.
        code: String,
        /// The service's explanation.
        message: String,
        /// Whether repeating the request is pointless.
        permanent: bool,
        /// How long to stay away, if the service said so.
        after: Option<Duration>,
    },
    /// No token was to be had.
    #[error("no token for {host}: {reason}")]
    Login {
        /// The login service.
        host: String,
        /// Why.
        reason: String,
        /// Whether repeating the request is pointless.
        permanent: bool,
    },
    /// The answer is not what the protocol says.
    #[error("{what}: answer of {host} is not understood: {reason}")]
    Answer {
        /// What was being done.
        what: String,
        /// The host.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// The option of the definition that cannot be used.
    #[must_use]
    pub fn option(&self) -> Option<&'static str> {
        if let Self::Option { option, .. } = self {
            return Some(option);
        }
        None
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unknown { .. } => true,
            Self::Refused { permanent, .. } | Self::Login { permanent, .. } => !permanent,
            Self::Setting(_)
            | Self::Option { .. }
            | Self::Untrusted { .. }
            | Self::Answer { .. } => false,
        }
    }

    /// How long the service wants us to stay away.
    #[must_use]
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Refused { after, .. } => *after,
            Self::Setting(_)
            | Self::Option { .. }
            | Self::Untrusted { .. }
            | Self::Unreachable { .. }
            | Self::Unknown { .. }
            | Self::Login { .. }
            | Self::Answer { .. } => None,
        }
    }

    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Setting(_)
            | Self::Option { .. }
            | Self::Untrusted { .. }
            | Self::Unreachable { .. }
            | Self::Unknown { .. }
            | Self::Login { .. }
            | Self::Answer { .. } => None,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Setting(_) | Self::Option { .. } | Self::Untrusted { .. } => Class::User,
            Self::Unreachable { .. } | Self::Unknown { .. } => Class::Transient { after: None },
            Self::Refused {
                permanent: false,
                after,
                ..
            } => Class::Transient { after: *after },
            Self::Refused { .. }
            | Self::Login {
                permanent: true, ..
            } => Class::User,
            Self::Login { .. } => Class::Transient { after: None },
            Self::Answer { .. } => Class::Unreachable,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::new(error.class(), error.to_string())
    }
}

/// The text without the queries of the addresses in it: a shared access signature is a secret.
pub(crate) fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at);
        let end = tail
            .find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ')' | '>' | ';'))
            .unwrap_or(tail.len());
        let (address, after) = tail.split_at(end);
        out.push_str(head);
        match address.split_once('?') {
            Some((path, _)) => {
                out.push_str(path);
                out.push_str("?…");
            }
            None => out.push_str(address),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::without_queries;

    #[test]
    fn signatures_are_cut_out_of_messages() {
        for (text, expected) in [
            ("no address at all?", "no address at all?"),
            (
                "blob 'https://a.b/c/d.gz?sv=1&sig=SECRET' is gone",
                "blob 'https://a.b/c/d.gz?…' is gone",
            ),
            ("http://x/?sig=S http://y/z", "http://x/?… http://y/z"),
        ] {
            assert_eq!(without_queries(text), expected);
        }
    }
}
