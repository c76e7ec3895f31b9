//! Topics of Kafka, from what a definition says of them.

use std::path::Path;
use std::time::Duration;

use thalweg_definition::{Kafka, KafkaStart, Source, Span};
use thalweg_kafka::{DataLoss, Error, KafkaOptions, Start};

pub(crate) fn options(topic: &Kafka, folder: &Path) -> KafkaOptions {
    let base = KafkaOptions::new(&*topic.brokers.value, &*topic.topic.value);
    KafkaOptions {
        start: match topic.start.value {
            KafkaStart::Earliest => Start::Earliest,
            KafkaStart::Latest => Start::Latest,
            KafkaStart::Timestamp(ms) => Start::Timestamp(ms),
            KafkaStart::Committed => Start::Committed,
        },
        group: topic.group.as_ref().map(|group| group.value.clone()),
        on_data_loss: match topic.continue_on_data_loss {
            true => DataLoss::Continue,
            false => DataLoss::Fail,
        },
        read_uncommitted: topic.read_uncommitted,
        discover_every: (topic.discover_every_ms)
            .map_or(base.discover_every, Duration::from_millis),
        until_latest: topic.until_latest,
        connect_timeout: (topic.connect_timeout_ms)
            .map_or(base.connect_timeout, Duration::from_millis),
        properties: (topic.properties.iter())
            .map(|(name, value)| (name.value.clone(), value.reveal().to_owned()))
            .collect(),
        folder: folder.to_owned(),
        ..base
    }
}

/// Where in the definition stands what a problem is about.
pub(crate) fn place(topic: &Kafka, source: &Source, problem: &Error) -> Span {
    if let Error::Option { option, .. } = problem {
        return match *option {
            "brokers" => topic.brokers.span,
            "topic" => topic.topic.span,
            "start" => topic.start.span,
            "group" => topic
                .group
                .as_ref()
                .map_or(source.name.span, |group| group.span),
            _ => source.name.span,
        };
    }
    if let Error::Metadata(field) = problem {
        let asked = source
            .metadata
            .iter()
            .find(|(_, asked)| asked.value == *field);
        return asked.map_or(source.name.span, |(_, asked)| asked.span);
    }
    let property = problem.property();
    let property = property.and_then(|name| {
        let mut properties = topic.properties.iter();
        properties.find(|(property, _)| property.value == name)
    });
    property.map_or(source.name.span, |(property, _)| property.span)
}
