//! The worker's side of reading: takes chunks from the queue and knows where each split stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use thalweg_stream::source::{SplitStart, SplitState, SplitStatus};
use thalweg_stream::{Chunk, Clock, Fault, Figures, SplitId, SplitReader};

use crate::discover::parse;
use crate::error::Error;
use crate::fetch::{Fetch, Known, Lane};
use crate::queue::{Item, Queue};

/// Reads some partitions on one worker.
pub(crate) struct KafkaReader {
    /// The thread that reads, until there is something to read.
    fetch: Option<Fetch>,
    queue: Arc<Queue>,
    known: Arc<Known>,
    clock: Arc<dyn Clock>,
    /// How many metadata columns there are.
    columns: usize,
    lanes: Vec<At>,
    places: BTreeMap<SplitId, usize>,
}

/// A split, as far as the worker has it.
struct At {
    next: i64,
    end: Option<i64>,
    newest: Arc<AtomicI64>,
    state: SplitState,
}

impl KafkaReader {
    pub(crate) fn new(
        fetch: Fetch,
        queue: Arc<Queue>,
        known: Arc<Known>,
        clock: Arc<dyn Clock>,
        columns: usize,
    ) -> Self {
        Self {
            fetch: Some(fetch),
            queue,
            known,
            clock,
            columns,
            lanes: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    fn unfinished(&self) -> bool {
        self.lanes.iter().any(|at| at.state != SplitState::Finished)
    }
}

impl SplitReader for KafkaReader {
    fn poll(&mut self, _bytes_max: usize) -> Result<Option<Chunk>, Fault> {
        // Without splits the thread is not there yet; at their end it is gone.
        while self.unfinished() {
            match self.queue.pop()? {
                None => return Ok(None),
                Some(Item::Failed(error)) => return Err(error.into()),
                Some(Item::AtEnd(lane)) => {
                    if let Some(at) = self.lanes.get_mut(lane) {
                        at.state = SplitState::AtEnd;
                    }
                }
                Some(Item::Finished(lane)) => {
                    if let Some(at) = self.lanes.get_mut(lane) {
                        at.state = SplitState::Finished;
                    }
                }
                Some(Item::Chunk(lane, mut chunk)) => {
                    let Some(at) = self.lanes.get_mut(lane) else {
                        return Err(Error::Thread("a chunk of no split".to_owned()).into());
                    };
                    at.next = i64::try_from(chunk.end).unwrap_or(i64::MAX);
                    at.state = SplitState::Reading;
                    chunk.metadata.resize(self.columns, None);
                    chunk.read_at_ms = self.clock.now_ms();
                    return Ok(Some(chunk));
                }
            }
        }
        Ok(None)
    }

    fn status(&self, split: SplitId) -> SplitStatus {
        let place = self.places.get(&split).copied();
        let Some(at) = place.and_then(|place| self.lanes.get(place)) else {
            return SplitStatus {
                state: SplitState::Reading,
                behind: None,
            };
        };
        let newest = at.newest.load(Ordering::Relaxed);
        let last = at.end.or((newest >= 0).then_some(newest));
        SplitStatus {
            state: at.state,
            behind: last.map(|last| last.saturating_sub(at.next).max(0).unsigned_abs()),
        }
    }

    fn add(&mut self, splits: Vec<SplitStart>) -> Result<(), Fault> {
        for split in splits {
            let (partition, detail) = parse(&split.spec)?;
            let offset = split.offset.and_then(|offset| i64::try_from(offset).ok());
            let lane = Lane {
                id: split.id,
                partition,
                next: offset.unwrap_or(detail.start),
                end: detail.end,
                newest: Arc::new(AtomicI64::new(-1)),
            };
            self.places.insert(lane.id, self.lanes.len());
            self.lanes.push(At {
                next: lane.next,
                end: lane.end,
                newest: Arc::clone(&lane.newest),
                state: SplitState::Reading,
            });
            self.known.add(lane);
        }
        if self.lanes.is_empty() {
            return Ok(());
        }
        if let Some(fetch) = self.fetch.take() {
            let thread = std::thread::Builder::new().name("kafka-reader".to_owned());
            let started = thread.spawn(move || fetch.run());
            started.map_err(|error| Error::NoThread(error.to_string()))?;
        }
        Ok(())
    }

    fn connected(&self) -> bool {
        self.known.link.connected()
    }

    fn figures(&self, figures: &mut dyn Figures) {
        let lost = self.known.lost.load(Ordering::Relaxed);
        figures.total("records_lost_total", &[], lost);
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.queue.close();
    }
}
