//! What can be wrong with a topic, or with what is said of it.

use std::time::Duration;

use thalweg_stream::{Class, Fault};

/// Why a topic cannot be read. No message holds a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An option has a value that makes no sense.
    #[error("kafka: \"{option}\" is {value:?}, but must be {must}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What it was given.
        value: String,
        /// What it may be.
        must: &'static str,
    },
    /// A metadata field that there is not.
    #[error(
        "kafka: no metadata field {0:?}; there are key, key_bytes, headers, topic, partition, offset, timestamp"
    )]
    Metadata(String),
    /// A property that the source sets itself.
    #[error("kafka: the property {name:?} is not to be set: {instead}")]
    Owned {
        /// The property.
        name: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// A property that librdkafka does not take.
    #[error("kafka: the property {name:?}: {what}")]
    Property {
        /// The property.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The properties do not make a client.
    #[error("kafka: no client for topic {topic:?} at {brokers}: {what}")]
    Client {
        /// The topic.
        topic: String,
        /// The brokers.
        brokers: String,
        /// What is wrong.
        what: String,
    },
    /// No broker has answered in time.
    #[error("kafka: topic {topic:?} at {brokers} cannot be reached within {}: {reason}", seconds(*.after))]
    Unreachable {
        /// The topic.
        topic: String,
        /// The brokers.
        brokers: String,
        /// How long it was tried: `connect_timeout`.
        after: Duration,
        /// What the client last said.
        reason: String,
    },
    /// A broker does not let us in.
    #[error("kafka: topic {topic:?} at {brokers}: access denied: {reason}")]
    Denied {
        /// The topic.
        topic: String,
        /// The brokers.
        brokers: String,
        /// What the client said.
        reason: String,
    },
    /// The brokers have no such topic.
    #[error("kafka: there is no topic {topic:?} at {brokers}")]
    NoTopic {
        /// The topic.
        topic: String,
        /// The brokers.
        brokers: String,
    },
    /// The topic has fewer partitions than the checkpoint.
    #[error(
        "kafka: topic {topic:?} at {brokers} has {found} partitions, the checkpoint knows \
         {known}: it is not the topic that was read"
    )]
    Shrunk {
        /// The topic.
        topic: String,
        /// The brokers.
        brokers: String,
        /// Partitions that there are.
        found: usize,
        /// Partitions of the checkpoint.
        known: usize,
    },
    /// The topic was deleted and made anew.
    #[error(
        "kafka: topic {topic:?} at {brokers} was made anew: the job's offsets are those of another \
         topic of that name"
    )]
    Recreated {
        /// The topic.
        topic: String,
        /// The brokers.
        brokers: String,
    },
    /// The checkpoint is of another topic.
    #[error("kafka: the checkpoint is of topic {checkpoint:?}, the definition says {definition:?}")]
    OtherTopic {
        /// The checkpoint's.
        checkpoint: String,
        /// The definition's.
        definition: String,
    },
    /// A split's description that we did not write.
    #[error("kafka: the checkpoint describes {split:?} as no version of this source does")]
    Detail {
        /// The split's name.
        split: String,
    },
    /// An offset is older than what the broker still has.
    #[error(
        "kafka: topic {topic:?}, partition {partition}: offset {offset} has expired; the broker's \
         oldest record is {low}"
    )]
    Expired {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset to read from.
        offset: i64,
        /// The least offset there is.
        low: i64,
    },
    /// An offset is beyond the end.
    #[error(
        "kafka: topic {topic:?}, partition {partition}: offset {offset} lies beyond its end at \
         {end}; was the topic made anew?"
    )]
    Beyond {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset to read from, or up to.
        offset: i64,
        /// The offset after the newest record.
        end: i64,
    },
    /// Records that cannot be had.
    #[error("kafka: topic {topic:?}, partition {partition}, offset {offset}: {reason}")]
    Partition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset to read from.
        offset: i64,
        /// What the client said.
        reason: String,
    },
    /// The job is to begin where a group has got to, and it has got nowhere.
    #[error("kafka: group {group:?} has committed no offset of topic {topic:?} at {brokers}")]
    NothingCommitted {
        /// The topic.
        topic: String,
        /// The brokers.
        brokers: String,
        /// The group.
        group: String,
    },
    /// The topic was deleted while it was read.
    #[error("kafka: topic {topic:?} at {brokers} has gone while it was read")]
    Gone {
        /// The topic.
        topic: String,
        /// The brokers.
        brokers: String,
    },
    /// The system has no thread to read with.
    #[error("kafka: no thread to read with: {0}")]
    NoThread(String),
    /// A thread or a task has ended in a panic, or was asked for what it does not have.
    #[error("kafka: {0}")]
    Thread(String),
}

impl Error {
    /// The property it is about, if it is about one.
    #[must_use]
    pub fn property(&self) -> Option<&str> {
        match self {
            Self::Owned { name, .. } | Self::Property { name, .. } => Some(name),
            Self::Option { .. }
            | Self::Metadata(_)
            | Self::Client { .. }
            | Self::Unreachable { .. }
            | Self::Denied { .. }
            | Self::NoTopic { .. }
            | Self::Shrunk { .. }
            | Self::Recreated { .. }
            | Self::OtherTopic { .. }
            | Self::Detail { .. }
            | Self::Expired { .. }
            | Self::Beyond { .. }
            | Self::Partition { .. }
            | Self::NothingCommitted { .. }
            | Self::Gone { .. }
            | Self::NoThread(_)
            | Self::Thread(_) => None,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Option { .. }
            | Self::Metadata(_)
            | Self::Owned { .. }
            | Self::Property { .. }
            | Self::Client { .. }
            | Self::NothingCommitted { .. }
            | Self::OtherTopic { .. } => Class::User,
            Self::Unreachable { .. } => Class::Unreachable,
            Self::Denied { .. } | Self::NoTopic { .. } | Self::Gone { .. } | Self::NoThread(_) => {
                Class::Unavailable
            }
            // What the checkpoint goes on from is not there any more: no further attempt finds it.
            Self::Shrunk { .. }
            | Self::Recreated { .. }
            | Self::Expired { .. }
            | Self::Beyond { .. }
            | Self::Partition { .. }
            | Self::Detail { .. } => Class::Corrupt,
            Self::Thread(_) => Class::Bug,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::new(error.class(), error.to_string())
    }
}

/// A duration in words: `10 s`, `250 ms`.
fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{} ms", duration.as_millis()),
    }
}
