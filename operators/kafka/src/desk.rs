//! Where one asks about a topic besides reading it: at the start, and while the job runs.
//!
//! A client of its own: a broker answers the requests of a connection one after the other, and
//! those for records may wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use thalweg_stream::Clock;
use thalweg_stream::source::SplitSpec;

use crate::discover::{Detail, Presence, client, is_new, presence, serve, split_name};
use crate::error::Error;
use crate::identity::topic_id;
use crate::link::{Context, Link};
use crate::options::KafkaOptions;

/// How long an answer is waited for that the job can do without.
const WAIT: Duration = Duration::from_secs(2);
/// Time between two looks for whether one has come.
const LOOK: Duration = Duration::from_millis(10);

/// A client for questions, and what the topic was at the start.
pub(crate) struct Desk {
    pub(crate) options: KafkaOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) link: Arc<Link>,
    pub(crate) consumer: BaseConsumer<Context>,
    /// The topic's id, if its brokers have such.
    pub(crate) id: Option<String>,
    /// Since when the brokers have said that there is no such topic.
    missing_since: Mutex<Option<Duration>>,
}

impl Desk {
    /// Nothing is connected yet.
    pub(crate) fn open(options: &KafkaOptions, clock: &Arc<dyn Clock>) -> Result<Self, Error> {
        let link = Link::quiet(options, Arc::clone(clock));
        // The end of a partition is where its records end, whether committed or not: a bounded
        // source waits for transactions that are open.
        let mut also = vec![("isolation.level", "read_uncommitted")];
        also.extend(options.group.as_deref().map(|group| ("group.id", group)));
        let consumer = client(options, &link, &also)?;
        Ok(Self {
            options: options.clone(),
            clock: Arc::clone(clock),
            link,
            consumer,
            id: None,
            missing_since: Mutex::default(),
        })
    }

    /// Takes note of the topic's id.
    pub(crate) fn identify(&mut self) {
        self.id = topic_id(&self.consumer, &self.options.topic, WAIT);
    }

    /// The description of a partition that is read from `start` on and ends at `high` now.
    pub(crate) fn spec(&self, partition: i32, start: i64, high: i64) -> SplitSpec {
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

    /// Partitions besides the known ones. None while brokers do not answer: that is for those who
    /// read to tell.
    pub(crate) fn grown(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Error> {
        serve(&self.consumer);
        let topic = &self.options.topic;
        let metadata = self.consumer.fetch_metadata(Some(topic), WAIT);
        let count = match metadata.map(|found| presence(&found, topic)) {
            Ok(Presence::Partitions(count)) => count,
            Ok(Presence::Missing) => return self.missing(),
            Ok(Presence::Denied | Presence::Unclear(_)) | Err(_) => return Ok(Vec::new()),
        };
        *self.missing_since() = None;
        self.confirm()?;
        if self.options.until_latest {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for partition in (0..count).filter(|&partition| is_new(partition, known)) {
            // One that is just being made has no leader yet; those after it wait for it, too.
            let Ok((low, high)) = self.consumer.fetch_watermarks(topic, partition, WAIT) else {
                break;
            };
            found.push(self.spec(partition, low, high));
        }
        if !found.is_empty() {
            tracing::info!(topic, partitions = count, "kafka: the topic has grown");
        }
        Ok(found)
    }

    /// The topic is not there. A broker that comes back may not know its topics at once.
    fn missing(&self) -> Result<Vec<SplitSpec>, Error> {
        let now = self.clock.elapsed();
        let since = *self.missing_since().get_or_insert(now);
        match now.saturating_sub(since) >= self.options.connect_timeout {
            true => Err(Error::Gone {
                topic: self.options.topic.clone(),
                brokers: self.options.brokers.clone(),
            }),
            false => Ok(Vec::new()),
        }
    }

    fn missing_since(&self) -> MutexGuard<'_, Option<Duration>> {
        (self.missing_since.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the topic is still the one that was read at the start, as far as brokers tell.
    pub(crate) fn confirm(&self) -> Result<(), Error> {
        serve(&self.consumer);
        let Some(then) = &self.id else {
            return Ok(());
        };
        match topic_id(&self.consumer, &self.options.topic, WAIT) {
            Some(now) if now != *then => Err(Error::Recreated {
                topic: self.options.topic.clone(),
                brokers: self.options.brokers.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Commits offsets to the group, for whoever watches it. Waits for the answer for a while.
    pub(crate) fn publish(&self, offsets: &[(i32, i64)]) {
        let before = self.link.published();
        if let Err(error) = self.ask_to_commit(offsets) {
            return self.link.unpublished(&error.to_string());
        }
        let deadline = self.clock.elapsed() + WAIT;
        while self.link.published() == before && self.clock.elapsed() < deadline {
            drop(self.consumer.poll(LOOK));
        }
    }

    fn ask_to_commit(&self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for &(partition, offset) in offsets {
            let offset = Offset::Offset(offset);
            list.add_partition_offset(&self.options.topic, partition, offset)?;
        }
        self.consumer.commit(&list, CommitMode::Async)
    }
}
