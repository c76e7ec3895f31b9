//! What the brokers' failures mean, and what is told of them.

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::Fetch;
use crate::error::Error;
use crate::native::Topic;

/// Why a partition cannot be read.
pub(super) struct Failure {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) code: RDKafkaErrorCode,
    pub(super) reason: String,
}

/// Errors of a topic that is not there, or not yet.
pub(super) const MISSING: [RDKafkaErrorCode; 3] = [
    RDKafkaErrorCode::UnknownTopicOrPartition,
    RDKafkaErrorCode::UnknownTopic,
    RDKafkaErrorCode::UnknownPartition,
];

/// Errors that do not pass by themselves; librdkafka repeats a fetch after all others.
pub(super) const LASTING: [RDKafkaErrorCode; 10] = [
    RDKafkaErrorCode::AutoOffsetReset,
    RDKafkaErrorCode::OffsetOutOfRange,
    RDKafkaErrorCode::TopicAuthorizationFailed,
    RDKafkaErrorCode::BadMessage,
    RDKafkaErrorCode::BadCompression,
    RDKafkaErrorCode::InvalidMessage,
    RDKafkaErrorCode::MessageSizeTooLarge,
    RDKafkaErrorCode::NotImplemented,
    RDKafkaErrorCode::UnsupportedCompressionType,
    RDKafkaErrorCode::Fatal,
];

impl Fetch {
    pub(super) fn broken(&self, partition: i32, offset: i64, reason: &str) -> Error {
        Error::Partition {
            topic: self.options.topic.clone(),
            partition,
            offset,
            reason: self.known.link.told(reason),
        }
    }

    /// What to tell of a failure.
    pub(super) fn judge(&self, failure: Failure, topic: &Topic) -> Error {
        let Failure {
            partition,
            offset,
            code,
            reason,
        } = failure;
        let name = &self.options.topic;
        let out_of_range = matches!(
            code,
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange
        );
        let ends = out_of_range
            .then(|| {
                let asked = topic.consumer();
                asked.fetch_watermarks(name, partition, self.options.connect_timeout)
            })
            .and_then(Result::ok);
        let topic = name.clone();
        match ends {
            Some((low, _)) if offset < low => Error::Expired {
                topic,
                partition,
                offset,
                low,
            },
            Some((_, end)) if offset > end => Error::Beyond {
                topic,
                partition,
                offset,
                end,
            },
            Some(_) | None if code == RDKafkaErrorCode::TopicAuthorizationFailed => Error::Denied {
                topic,
                brokers: self.options.brokers.clone(),
                reason: self.known.link.told(&reason),
            },
            Some(_) | None => self.broken(partition, offset, &reason),
        }
    }
}
