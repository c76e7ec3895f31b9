//! Where partitions end while their records are not fetched: an answer with records says so by the
//! way, but a client that has read ahead as far as it may asks for none.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::{Fetch, PROBE_WAIT};
use crate::native::Topic;

/// Time between two questions.
const ASK_EVERY: Duration = Duration::from_secs(2);

impl Fetch {
    /// Asks where the partitions end that have no end of their own, if it is time to; else what is
    /// behind would be told as it was when the worker stopped taking records.
    pub(super) fn ask_for_ends(&mut self, topic: &Topic) {
        let now = self.clock.elapsed();
        if now < self.next_ends {
            return;
        }
        self.next_ends = now + ASK_EVERY;
        let mut asked = TopicPartitionList::new();
        for reading in &self.lanes {
            let (name, partition) = (&self.options.topic, reading.lane.partition);
            if reading.lane.end.is_none()
                && (asked.add_partition_offset(name, partition, Offset::End)).is_err()
            {
                return;
            }
        }
        if asked.count() == 0 {
            return;
        }
        // The time "end" is that of the newest offset (protocol.md of Kafka, "ListOffsets").
        let Ok(ends) = (topic.consumer()).offsets_for_times(asked, PROBE_WAIT) else {
            return;
        };
        for end in ends.elements() {
            if let (Ok(()), Offset::Offset(offset)) = (end.error(), end.offset())
                && let Some(reading) = self.lane(end.partition())
            {
                reading.lane.newest.fetch_max(offset, Ordering::Relaxed);
                self.known.link.heard();
            }
        }
    }
}
