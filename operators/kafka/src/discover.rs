//! What a topic is at the start of a job: its partitions, and where each begins and ends.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use thalweg_stream::Clock;
use thalweg_stream::source::SplitSpec;

use crate::desk::Desk;
use crate::error::Error;
use crate::link::{Context, Link};
use crate::options::{KafkaOptions, Start};
use crate::token::Tokens;

/// Events that are looked at together.
const EVENTS_AT_ONCE: usize = 16;
/// How long one question may take before events are looked at.
const QUESTION: Duration = Duration::from_millis(500);
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

/// Whether a split of a checkpoint is a partition of `topic`, as the checkpoint tells.
pub(crate) fn recognize(topic: &str, known: &SplitSpec) -> Result<(), Error> {
    let (_, detail) = parse(known)?;
    match detail.topic == topic {
        true => Ok(()),
        false => Err(Error::OtherTopic {
            checkpoint: detail.topic,
            definition: topic.to_owned(),
        }),
    }
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
    let context = Context {
        link: Arc::clone(link),
        tokens: Tokens::of(&options.properties, link.clock()),
    };
    let made = config.create_with_context(context);
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

/// Finds the partitions of the topic: those of the checkpoint first, in its order. Also where one
/// can ask on.
pub(crate) fn discover(
    options: &KafkaOptions,
    clock: &Arc<dyn Clock>,
    known: &[SplitSpec],
) -> Result<(Vec<SplitSpec>, Desk), Error> {
    let mut desk = Desk::open(options, clock)?;
    let deadline = clock.elapsed() + options.connect_timeout;
    let partitions = Survey::at(&desk, deadline).partitions()?;
    desk.identify();
    if desk.id.is_none() {
        // Brokers that do not tell the topic's id at this moment may do so later.
        desk.id = known.iter().find_map(|spec| parse(spec).ok()?.1.id);
    }
    let survey = Survey::at(&desk, deadline);
    let ends = survey.ends(partitions)?;
    let mut splits = known
        .iter()
        .map(|spec| survey.known(&desk, spec, &ends, known.len()))
        .collect::<Result<Vec<_>, Error>>()?;
    // What a bounded source reads is fixed once.
    let first = known.is_empty();
    let new: Vec<i32> = (0..partitions)
        .filter(|_| first || !options.until_latest)
        .filter(|&partition| is_new(partition, known))
        .collect();
    let chosen = match first {
        true => survey.chosen(&new)?,
        false => BTreeMap::new(),
    };
    for partition in new {
        let Some(&(low, high)) = ends.get(&partition) else {
            continue;
        };
        let start = match chosen.get(&partition) {
            Some(&Offset::Offset(offset)) => offset,
            Some(Offset::End) => high,
            // A partition that has come since the first start is read from its beginning.
            Some(_) | None => low,
        };
        splits.push(desk.spec(partition, start, high));
    }
    Ok((splits, desk))
}

/// Whether a partition is none of the known splits.
pub(crate) fn is_new(partition: i32, known: &[SplitSpec]) -> bool {
    let name = split_name(partition);
    known.iter().all(|spec| *spec.name != *name)
}

struct Survey<'a> {
    options: &'a KafkaOptions,
    link: &'a Link,
    clock: &'a Arc<dyn Clock>,
    consumer: &'a BaseConsumer<Context>,
    deadline: Duration,
}

/// The answer to a question, or that it is to be asked again.
enum Answer<T> {
    Is(T),
    NotYet(String),
}

impl<'a> Survey<'a> {
    fn at(desk: &'a Desk, deadline: Duration) -> Self {
        Self {
            options: &desk.options,
            link: &desk.link,
            clock: &desk.clock,
            consumer: &desk.consumer,
            deadline,
        }
    }

    /// A partition of the checkpoint, if the topic of this name is still the one that was read.
    fn known(
        &self,
        desk: &Desk,
        spec: &SplitSpec,
        ends: &BTreeMap<i32, (i64, i64)>,
        known: usize,
    ) -> Result<SplitSpec, Error> {
        let (partition, detail) = parse(spec)?;
        let Some(&(_, high)) = ends.get(&partition) else {
            return Err(Error::Shrunk {
                topic: self.options.topic.clone(),
                brokers: self.options.brokers.clone(),
                found: ends.len(),
                known,
            });
        };
        if let (Some(then), Some(now)) = (&detail.id, &desk.id)
            && then != now
        {
            return Err(Error::Recreated {
                topic: self.options.topic.clone(),
                brokers: self.options.brokers.clone(),
            });
        }
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
        Ok(desk.spec(partition, detail.start, detail.end.unwrap_or(high)))
    }

    /// How many partitions the topic has.
    fn partitions(&self) -> Result<i32, Error> {
        let began = self.clock.elapsed();
        let topic = &self.options.topic;
        let no_topic = || Error::NoTopic {
            topic: topic.clone(),
            brokers: self.options.brokers.clone(),
        };
        let missing = Cell::new(false);
        let found = self.ask(|timeout| {
            missing.set(false);
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
                    Err(no_topic())
                }
                Presence::Missing => {
                    missing.set(true);
                    Ok(Answer::NotYet("there is no such topic".to_owned()))
                }
                Presence::Unclear(reason) => Ok(Answer::NotYet(reason)),
            }
        });
        match found {
            // Brokers have answered to the last.
            Err(Error::Unreachable { .. }) if missing.get() => Err(no_topic()),
            found => found,
        }
    }

    /// The offsets of the oldest record of each partition and after its newest. All are asked for
    /// together: one by one, many partitions of brokers far away would take longer than there is.
    fn ends(&self, partitions: i32) -> Result<BTreeMap<i32, (i64, i64)>, Error> {
        // As times, the beginning and the end stand for themselves (protocol.md of Kafka,
        // "ListOffsets").
        let all = |time: Offset| {
            self.ask(|timeout| {
                let times = self.list(0..partitions, time);
                let found = times.and_then(|times| self.consumer.offsets_for_times(times, timeout));
                let found = match self.listed(found) {
                    Answer::Is(found) => found,
                    Answer::NotYet(why) => return Ok(Answer::NotYet(why)),
                };
                let known = |partition: i32| match found.get(&partition) {
                    Some(&Offset::Offset(offset)) => Some(offset),
                    Some(_) | None => None,
                };
                let offsets: Option<Vec<i64>> = (0..partitions).map(known).collect();
                let unknown = || Answer::NotYet("not all partitions are known".to_owned());
                Ok(offsets.map_or_else(unknown, Answer::Is))
            })
        };
        let (low, high) = (all(Offset::Beginning)?, all(Offset::End)?);
        Ok((0..).zip(low.into_iter().zip(high)).collect())
    }

    /// The partitions, each with an offset.
    fn list(
        &self,
        partitions: impl IntoIterator<Item = i32>,
        offset: Offset,
    ) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(&self.options.topic, partition, offset)?;
        }
        Ok(list)
    }

    /// Where the first start begins in each partition, unless that is at its beginning.
    fn chosen(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Offset>, Error> {
        let topic = &self.options.topic;
        let list = |offset: Offset| self.list(partitions.iter().copied(), offset);
        let found = match &self.options.start {
            Start::Earliest => return Ok(BTreeMap::new()),
            Start::Latest => {
                let ends = partitions.iter().map(|&partition| (partition, Offset::End));
                return Ok(ends.collect());
            }
            Start::Timestamp(ms) => self.ask(|timeout| {
                let times = list(Offset::Offset(*ms));
                let found = times.and_then(|times| self.consumer.offsets_for_times(times, timeout));
                Ok(self.listed(found))
            })?,
            Start::Committed => self.ask(|timeout| {
                let asked = list(Offset::Invalid);
                let found = asked.and_then(|asked| self.consumer.committed_offsets(asked, timeout));
                Ok(self.listed(found))
            })?,
        };
        let none = !found
            .values()
            .any(|offset| matches!(offset, Offset::Offset(_)));
        if none && self.options.start == Start::Committed && !found.is_empty() {
            return Err(Error::NothingCommitted {
                topic: topic.clone(),
                brokers: self.options.brokers.clone(),
                group: self.options.group.clone().unwrap_or_default(),
            });
        }
        Ok(found)
    }

    /// The offsets of a list, unless one of them is not known yet.
    fn listed(
        &self,
        found: Result<TopicPartitionList, KafkaError>,
    ) -> Answer<BTreeMap<i32, Offset>> {
        let listed = found.and_then(|list| {
            let elements = list.elements();
            let offsets = elements.iter().map(|element| {
                element.error()?;
                Ok((element.partition(), element.offset()))
            });
            offsets.collect()
        });
        match listed {
            Ok(offsets) => Answer::Is(offsets),
            Err(error) => Answer::NotYet(self.link.told(&describe(&error))),
        }
    }

    /// Asks until there is an answer or the time is over.
    fn ask<T>(&self, question: impl Fn(Duration) -> Result<Answer<T>, Error>) -> Result<T, Error> {
        loop {
            let left = self.deadline.saturating_sub(self.clock.elapsed());
            let asked = self.clock.elapsed();
            // A token may be needed before anything is answered.
            serve(self.consumer);
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
