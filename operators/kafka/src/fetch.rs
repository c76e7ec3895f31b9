//! The thread that takes records from librdkafka and makes chunks of them.

mod ends;
mod failure;
mod lane;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use thalweg_stream::Clock;

use self::failure::{Failure, LASTING, MISSING};
pub(crate) use self::lane::Lane;
use self::lane::{Open, Reading};
use crate::column::{Column, Field};
use crate::discover::{Presence, client, presence, serve};
use crate::error::Error;
use crate::link::Link;
use crate::native::{Event, Record, Topic};
use crate::options::{DataLoss, KafkaOptions};
use crate::queue::{Item, Queue};

/// Size at which a chunk is handed over, bytes.
const CHUNK_BYTES: usize = 512 << 10;
/// Age at which it is: a tenth of an epoch, so that few records make few chunks.
const LINGER: Duration = Duration::from_millis(10);
/// Longest wait for records, after which events are looked at.
const WAIT: Duration = Duration::from_millis(100);
/// Time between two questions to brokers, besides those for records.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long one may take. A broker answers the requests of a connection one after the other, and a
/// fetch before it may wait half a second for records; when there are some, it does not.
const PROBE_WAIT: Duration = Duration::from_millis(1500);

/// What the thread and the worker know of the brokers besides what is in the queue.
pub(crate) struct Known {
    pub(crate) link: Arc<Link>,
    /// Splits that the thread is to take on, in the order of their lanes.
    coming: Mutex<Vec<Lane>>,
    /// Offsets that had expired before they were read.
    pub(crate) lost: AtomicU64,
}

impl Known {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            coming: Mutex::default(),
            lost: AtomicU64::new(0),
        }
    }

    /// Has the thread read one more split.
    pub(crate) fn add(&self, lane: Lane) {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        coming.push(lane);
    }

    fn coming(&self) -> Vec<Lane> {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *coming)
    }
}

/// The thread's work.
pub(crate) struct Fetch {
    options: KafkaOptions,
    fields: Arc<[Field]>,
    clock: Arc<dyn Clock>,
    known: Arc<Known>,
    queue: Arc<Queue>,
    lanes: Vec<Reading>,
    /// By partition, the place of its lane.
    places: Vec<Option<usize>>,
    next_probe: Duration,
    /// When it is time to ask where partitions end.
    next_ends: Duration,
    /// Since when the brokers have said that there is no such topic.
    missing_since: Option<Duration>,
}

impl Fetch {
    pub(crate) fn new(
        options: KafkaOptions,
        fields: Arc<[Field]>,
        clock: Arc<dyn Clock>,
        known: Arc<Known>,
        queue: Arc<Queue>,
    ) -> Self {
        Self {
            options,
            fields,
            clock,
            known,
            queue,
            lanes: Vec::new(),
            places: Vec::new(),
            next_probe: Duration::ZERO,
            next_ends: Duration::ZERO,
            missing_since: None,
        }
    }

    /// Reads until all splits are finished, the reader is gone, or something is wrong.
    pub(crate) fn run(mut self) {
        /// Tells the reader that the thread is gone, whatever ends it.
        struct End(Arc<Queue>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let _end = End(Arc::clone(&self.queue));
        if let Err(error) = self.read() {
            self.queue.push(Item::Failed(error));
        }
    }

    fn read(&mut self) -> Result<(), Error> {
        let consumer = client(&self.options, &self.known.link, &[])?;
        let mut topic =
            Topic::new(consumer, &self.options.topic).map_err(|reason| Error::Client {
                topic: self.options.topic.clone(),
                brokers: self.options.brokers.clone(),
                what: self.known.link.told(&reason),
            })?;
        self.take_on(&mut topic)?;
        while self.lanes.iter().any(|reading| !reading.finished) {
            if self.queue.closed() {
                return Ok(());
            }
            self.take_on(&mut topic)?;
            serve(topic.consumer());
            if !self.queue.wait_for_room(WAIT) {
                self.ask_for_ends(&topic);
                continue;
            }
            let wait = self.wait();
            // Of each partition there is one at most: it is not read on until it is started anew.
            let mut failures = Vec::new();
            let more = topic.fetch(wait, |event| failures.extend(self.take(event).err()));
            for failure in failures {
                let error = self.judge(failure, &topic);
                self.go_on(error, &mut topic)?;
            }
            self.hand_over(more, &mut topic);
            self.probe(&topic)?;
        }
        Ok(())
    }

    /// Begins to read the splits that have come.
    fn take_on(&mut self, topic: &mut Topic) -> Result<(), Error> {
        for lane in self.known.coming() {
            let (at, place) = (self.lanes.len(), place(lane.partition));
            if self.places.len() <= place {
                self.places.resize(place + 1, None);
            }
            if let Some(entry) = self.places.get_mut(place) {
                *entry = Some(at);
            }
            self.lanes.push(Reading {
                lane,
                open: None,
                at_end: false,
                finished: false,
            });
            self.begin(at, topic)?;
        }
        Ok(())
    }

    /// Goes on where records have expired, if that is what the job wants; ends with the error else.
    fn go_on(&mut self, error: Error, topic: &mut Topic) -> Result<(), Error> {
        let (DataLoss::Continue, Error::Expired { partition, low, .. }) =
            (self.options.on_data_loss, &error)
        else {
            return Err(error);
        };
        let (partition, low) = (*partition, *low);
        topic.stop(partition);
        let started = topic.start(partition, low);
        started.map_err(|reason| self.broken(partition, low, &reason))?;
        if let Some(reading) = self.lane(partition) {
            let lost = low.saturating_sub(reading.lane.next);
            reading.reach(low);
            let count = u64::try_from(lost).unwrap_or_default();
            self.known.lost.fetch_add(count, Ordering::Relaxed);
            tracing::warn!(lost, %error, "kafka: records are lost, and the job goes on");
        }
        Ok(())
    }

    fn begin(&mut self, at: usize, topic: &mut Topic) -> Result<(), Error> {
        let Some(reading) = self.lanes.get_mut(at) else {
            return Ok(());
        };
        let Lane {
            partition,
            next,
            end,
            ..
        } = reading.lane.clone();
        if end.is_some_and(|end| next >= end) {
            reading.finished = true;
            self.queue.push(Item::Finished(at));
            return Ok(());
        }
        topic
            .start(partition, next)
            .map_err(|reason| self.broken(partition, next, &reason))
    }

    /// How long to wait for records: not longer than chunks may be held back.
    fn wait(&self) -> Duration {
        let now = self.clock.elapsed();
        (self.lanes.iter())
            .filter_map(|reading| reading.open.as_ref())
            .map(|open| LINGER.saturating_sub(now.saturating_sub(open.since)))
            .min()
            .unwrap_or(WAIT)
    }

    /// Takes in one event.
    fn take(&mut self, event: Event<'_>) -> Result<(), Failure> {
        match event {
            Event::Record(record) => {
                self.known.link.heard();
                self.missing_since = None;
                self.add(&record);
            }
            Event::End { partition, offset } => {
                self.known.link.heard();
                if let Some(reading) = self.lane(partition) {
                    reading.reach(offset);
                    reading.at_end = true;
                }
            }
            Event::Failed {
                partition,
                offset,
                code,
                reason,
            } => {
                if MISSING.contains(&code) {
                    // A broker that comes back may not know its topics at once.
                    self.missing_since.get_or_insert(self.clock.elapsed());
                } else if LASTING.contains(&code) {
                    return Err(Failure {
                        partition,
                        offset,
                        code,
                        reason,
                    });
                } else {
                    tracing::debug!(partition, offset, reason, "kafka: fetching again");
                }
            }
        }
        Ok(())
    }

    fn lane(&mut self, partition: i32) -> Option<&mut Reading> {
        let at = self.places.get(place(partition)).copied().flatten()?;
        self.lanes.get_mut(at)
    }

    fn add(&mut self, record: &Record<'_>) {
        let at = self.places.get(place(record.partition()));
        let Some(at) = at.copied().flatten() else {
            return;
        };
        let Some(reading) = self.lanes.get_mut(at) else {
            return;
        };
        let offset = record.offset();
        if offset < reading.lane.next || reading.finished {
            return;
        }
        if reading.lane.end.is_some_and(|end| offset >= end) {
            // It is beyond the end, so all before the end has been read.
            return reading.reach(offset);
        }
        let value = record.value().unwrap_or_default();
        let full = |open: &Open| open.bytes.len().saturating_add(value.len()) > CHUNK_BYTES;
        // One that was opened to take an offset along has no columns.
        let bare = |open: &Open| open.offsets.is_empty();
        if (reading.open.as_ref()).is_some_and(|open| bare(open) || full(open)) {
            reading.give(at, &self.queue);
        }
        let (fields, topic, clock) = (&self.fields, &self.options.topic, &self.clock);
        let partition = reading.lane.partition;
        let open = reading.open.get_or_insert_with(|| Open {
            start: offset,
            bytes: Vec::with_capacity(CHUNK_BYTES.min(value.len().saturating_mul(64))),
            ranges: Vec::new(),
            offsets: Vec::new(),
            columns: (fields.iter())
                .map(|field| Column::new(*field, topic, partition))
                .collect(),
            since: clock.elapsed(),
        });
        open.add(record, value);
        reading.lane.next = offset + 1;
        reading.at_end = false;
    }

    /// Hands over what is full or old enough; everything, if nothing more is there.
    fn hand_over(&mut self, more: bool, topic: &mut Topic) {
        let now = self.clock.elapsed();
        for (at, reading) in self.lanes.iter_mut().enumerate() {
            if reading.finished {
                continue;
            }
            let finished = reading.lane.end.is_some_and(|end| reading.lane.next >= end);
            let due = (reading.open.as_ref())
                .is_some_and(|open| finished || now.saturating_sub(open.since) >= LINGER);
            if due {
                reading.give(at, &self.queue);
            }
            let partition = reading.lane.partition;
            if let Some(newest) = topic.newest(partition) {
                // It may be older than what was asked while there was no room.
                reading.lane.newest.fetch_max(newest, Ordering::Relaxed);
            }
            if finished {
                reading.finished = true;
                self.queue.push(Item::Finished(at));
                topic.stop(partition);
            } else if reading.at_end && reading.open.is_none() && !more {
                reading.at_end = false;
                self.queue.push(Item::AtEnd(at));
            }
        }
    }

    /// Asks brokers that are away whether they are back, and those that miss the topic whether they
    /// have found it.
    fn probe(&mut self, topic: &Topic) -> Result<(), Error> {
        let now = self.clock.elapsed();
        let fine = self.known.link.connected() && self.missing_since.is_none();
        if fine || now < self.next_probe {
            return Ok(());
        }
        self.next_probe = now + PROBE_EVERY;
        let name = self.options.topic.as_str();
        let Ok(metadata) = topic.consumer().fetch_metadata(Some(name), PROBE_WAIT) else {
            return Ok(());
        };
        match presence(&metadata, name) {
            Presence::Partitions(_) => {
                self.known.link.heard();
                self.missing_since = None;
            }
            Presence::Missing => {
                let since = *self.missing_since.get_or_insert(now);
                if now.saturating_sub(since) >= self.options.connect_timeout {
                    return Err(Error::Gone {
                        topic: name.to_owned(),
                        brokers: self.options.brokers.clone(),
                    });
                }
            }
            Presence::Denied | Presence::Unclear(_) => {}
        }
        Ok(())
    }
}

/// A partition's place in a table.
fn place(partition: i32) -> usize {
    usize::try_from(partition).unwrap_or(usize::MAX - 1)
}

#[cfg(test)]
mod tests;
