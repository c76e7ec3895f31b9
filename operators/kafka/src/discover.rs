//! What a topic is at the start of a job: its partitions, and where each begins and ends.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use serde::{Deserialize, Serialize};
use thalweg_stream::Clock;
use thalweg_stream::source::SplitSpec;

use crate::error::Error;
use crate::identity::topic_id;
use crate::link::{Context, Link};
use crate::options::{KafkaOptions, Start};

/// Events that are looked at together.
const EVENTS_AT_ONCE: usize = 16;
/// How long one question may take before events are looked at.
const QUESTION: Duration = Duration::from_millis(500);
/// How long the topic's id is waited for.
const ID_WAIT: Duration = Duration::from_secs(2);
/// A broker that has just started may not know its topics yet; after this long it does.
const TOPICS_KNOWN_AFTER: Duration = Duration::from_secs(2);

/// What stands in every manifest of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Detail {
    pub(crate) topic: String,
    /// The topic's id, if its brokers have such.
    pub(crate) id: Option<String>,
    /// Where the first start began; until a record was read, this is where a start begins.
    pub(crate) start: i64,
    /// Where a bounded source ends: before this offset.
    pub(crate) end: Option<i64>,
}

/// The name of a partition's split.
pub(crate) fn split_name(partition: i32) -> String {
    format!("partition {partition}")
}

/// The partition of a split, and its description.
pub(crate) fn parse(spec: &SplitSpec) -> Result<(i32, Detail), Error> {
    let partition = spec.name.strip_prefix("partition ");
    let partition = partition.and_then(|number| number.parse().ok());
    let detail = serde_json::from_value(spec.detail.clone()).ok();
    partition.zip(detail).ok_or_else(|| Error::Detail {
        split: spec.name.to_string(),
    })
}

/// Makes a client. It connects when it is asked something.
pub(crate) fn client(
    options: &KafkaOptions,
    link: &Arc<Link>,
    also: &[(&str, &str)],
) -> Result<BaseConsumer<Context>, Error> {
    let mut config = options.config();
    for (name, value) in also {
        config.set(*name, *value);
    }
    let made = config.create_with_context(Context(Arc::clone(link)));
    made.map_err(|error| Error::Client {
        topic: options.topic.clone(),
        brokers: options.brokers.clone(),
        // What a wrong property's error says holds its value.
        what: if let KafkaError::ClientConfig(_, _, name, _) = &error {
            format!("the property {name:?} is not valid")
        } else if let KafkaError::ClientCreation(what) = &error {
            link.told(what)
        } else {
            link.told(&error.to_string())
        },
    })
}

/// Hands the client's events (errors, logs) to its context.
pub(crate) fn serve(consumer: &BaseConsumer<Context>) {
    // A poll handles one event, and does not say whether there was one. Nothing is assigned, so an
    // event is all that it may hand out, and the context has been told of it then.
    for _ in 0..EVENTS_AT_ONCE {
        drop(consumer.poll(Duration::ZERO));
    }
}

/// What a topic was at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// How many partitions it had.
    pub(crate) partitions: i32,
    /// Its id, if its brokers have such.
    pub(crate) id: Option<String>,
}

/// Finds the partitions of the topic: those of the checkpoint first, in its order.
pub(crate) fn discover(
    options: &KafkaOptions,
    clock: &Arc<dyn Clock>,
    known: &[SplitSpec],
) -> Result<(Vec<SplitSpec>, Facts), Error> {
    let link = Link::new(options, Arc::clone(clock));
    // The end of a partition is where its records end, whether committed or not: a bounded source
    // waits for transactions that are open.
    let consumer = client(options, &link, &[("isolation.level", "read_uncommitted")])?;
    let mut survey = Survey {
        options,
        link: &link,
        clock,
        consumer: &consumer,
        deadline: clock.elapsed() + options.connect_timeout,
        id: None,
    };
    let partitions = survey.partitions()?;
    survey.id = topic_id(&consumer, &options.topic, ID_WAIT);
    let mut splits = known
        .iter()
        .map(|spec| survey.known(spec, partitions, known.len()))
        .collect::<Result<Vec<_>, Error>>()?;
    for partition in 0..partitions {
        let name = split_name(partition);
        if known.iter().all(|spec| *spec.name != *name) {
            let (low, high) = survey.ends(partition)?;
            let start = match options.start {
                Start::Latest if known.is_empty() => high,
                // A partition that has come since the checkpoint is read from its beginning.
                Start::Latest | Start::Earliest => low,
            };
            splits.push(survey.spec(partition, start, high));
        }
    }
    let id = survey.id;
    Ok((splits, Facts { partitions, id }))
}

struct Survey<'a> {
    options: &'a KafkaOptions,
    link: &'a Link,
    clock: &'a Arc<dyn Clock>,
    consumer: &'a BaseConsumer<Context>,
    deadline: Duration,
    /// The topic's id, if it is known.
    id: Option<String>,
}

/// The answer to a question, or that it is to be asked again.
enum Answer<T> {
    Is(T),
    NotYet(String),
}

impl Survey<'_> {
    fn spec(&self, partition: i32, start: i64, high: i64) -> SplitSpec {
        let detail = Detail {
            topic: self.options.topic.clone(),
            id: self.id.clone(),
            start,
            end: self.options.until_latest.then_some(high),
        };
        SplitSpec {
            name: split_name(partition).into(),
            detail: serde_json::json!(detail),
        }
    }

    /// A partition of the checkpoint, if the topic is still the one that was read.
    fn known(&self, spec: &SplitSpec, partitions: i32, known: usize) -> Result<SplitSpec, Error> {
        let (partition, detail) = parse(spec)?;
        if detail.topic != self.options.topic {
            return Err(Error::OtherTopic {
                checkpoint: detail.topic,
                definition: self.options.topic.clone(),
            });
        }
        if partition >= partitions {
            return Err(Error::Shrunk {
                topic: self.options.topic.clone(),
                brokers: self.options.brokers.clone(),
                found: usize::try_from(partitions).unwrap_or(0),
                known,
            });
        }
        if let (Some(then), Some(now)) = (&detail.id, &self.id)
            && then != now
        {
            return Err(Error::Recreated {
                topic: self.options.topic.clone(),
                brokers: self.options.brokers.clone(),
            });
        }
        let (_, high) = self.ends(partition)?;
        let farthest = detail.end.unwrap_or(detail.start).max(detail.start);
        if farthest > high {
            return Err(Error::Beyond {
                topic: self.options.topic.clone(),
                partition,
                offset: farthest,
                end: high,
            });
        }
        // Whether a source ends may be changed; where it ends is fixed once.
        Ok(self.spec(partition, detail.start, detail.end.unwrap_or(high)))
    }

    /// How many partitions the topic has.
    fn partitions(&self) -> Result<i32, Error> {
        let began = self.clock.elapsed();
        let topic = &self.options.topic;
        self.ask(|timeout| {
            let metadata = match self.consumer.fetch_metadata(Some(topic), timeout) {
                Ok(metadata) => metadata,
                Err(error) => return Ok(Answer::NotYet(self.link.told(&describe(&error)))),
            };
            match presence(&metadata, topic) {
                Presence::Partitions(count) => Ok(Answer::Is(count)),
                Presence::Denied => Err(Error::Denied {
                    topic: topic.clone(),
                    brokers: self.options.brokers.clone(),
                    reason: "not authorized to read the topic".to_owned(),
                }),
                Presence::Missing
                    if self.clock.elapsed().saturating_sub(began) >= TOPICS_KNOWN_AFTER =>
                {
                    Err(Error::NoTopic {
                        topic: topic.clone(),
                        brokers: self.options.brokers.clone(),
                    })
                }
                Presence::Missing => Ok(Answer::NotYet("there is no such topic".to_owned())),
                Presence::Unclear(reason) => Ok(Answer::NotYet(reason)),
            }
        })
    }

    /// The offsets of the oldest record of a partition and after its newest.
    fn ends(&self, partition: i32) -> Result<(i64, i64), Error> {
        self.ask(|timeout| {
            let topic = &self.options.topic;
            match self.consumer.fetch_watermarks(topic, partition, timeout) {
                Ok(ends) => Ok(Answer::Is(ends)),
                Err(error) => Ok(Answer::NotYet(self.link.told(&describe(&error)))),
            }
        })
    }

    /// Asks until there is an answer or the time is over.
    fn ask<T>(&self, question: impl Fn(Duration) -> Result<Answer<T>, Error>) -> Result<T, Error> {
        loop {
            let left = self.deadline.saturating_sub(self.clock.elapsed());
            let asked = self.clock.elapsed();
            let answer = question(left.clamp(Duration::from_millis(100), QUESTION))?;
            serve(self.consumer);
            let why = match answer {
                Answer::Is(answer) => return Ok(answer),
                Answer::NotYet(why) => why,
            };
            let (topic, brokers) = (self.options.topic.clone(), self.options.brokers.clone());
            if let Some(reason) = self.link.denied() {
                return Err(Error::Denied {
                    topic,
                    brokers,
                    reason,
                });
            }
            if self.clock.elapsed() >= self.deadline {
                return Err(Error::Unreachable {
                    topic,
                    brokers,
                    after: self.options.connect_timeout,
                    // What the client complained about says more than that time is over.
                    reason: self.link.reason().unwrap_or(why),
                });
            }
            if self.clock.elapsed().saturating_sub(asked) < Duration::from_millis(50) {
                // An answer that came at once is asked for again a little later.
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
    }
}

/// Whether a topic is there.
pub(crate) enum Presence {
    /// With so many partitions.
    Partitions(i32),
    Missing,
    Denied,
    /// The broker does not know at the moment.
    Unclear(String),
}

/// What metadata say of a topic.
pub(crate) fn presence(metadata: &Metadata, topic: &str) -> Presence {
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Presence::Missing;
    };
    match found.error().map(RDKafkaErrorCode::from) {
        // Without an error there is at least one partition.
        None => Presence::Partitions(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX)),
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition,
        ) => Presence::Missing,
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Presence::Denied,
        Some(other) => Presence::Unclear(other.to_string()),
    }
}

/// An error of the client, in its own words and no others.
fn describe(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
