//! The worker's side of reading: takes chunks from the queue and knows where each split stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use thalweg_stream::source::{SplitState, SplitStatus};
use thalweg_stream::{Chunk, Clock, Fault, SplitId, SplitReader};

use crate::error::Error;
use crate::fetch::{Known, Lane};
use crate::queue::{Item, Queue};

/// Reads some partitions on one worker.
pub(crate) struct KafkaReader {
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
    state: SplitState,
}

impl KafkaReader {
    pub(crate) fn new(
        queue: Arc<Queue>,
        known: Arc<Known>,
        clock: Arc<dyn Clock>,
        columns: usize,
        lanes: &[Lane],
    ) -> Self {
        Self {
            queue,
            known,
            clock,
            columns,
            places: (lanes.iter().enumerate())
                .map(|(at, lane)| (lane.id, at))
                .collect(),
            lanes: (lanes.iter())
                .map(|lane| At {
                    next: lane.next,
                    end: lane.end,
                    state: SplitState::Reading,
                })
                .collect(),
        }
    }

    fn unfinished(&self) -> bool {
        self.lanes.iter().any(|at| at.state != SplitState::Finished)
    }
}

impl SplitReader for KafkaReader {
    fn poll(&mut self, _bytes_max: usize) -> Result<Option<Chunk>, Fault> {
        // Of a reader without splits, or at its end, the thread is gone too.
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
        let Some((place, at)) = place.and_then(|place| Some((place, self.lanes.get(place)?)))
        else {
            return SplitStatus {
                state: SplitState::Reading,
                behind: None,
            };
        };
        let newest = (self.known.newest.get(place)).map(|newest| newest.load(Ordering::Relaxed));
        let last = at.end.or(newest.filter(|newest| *newest >= 0));
        SplitStatus {
            state: at.state,
            behind: last.map(|last| last.saturating_sub(at.next).max(0).unsigned_abs()),
        }
    }

    fn connected(&self) -> bool {
        self.known.link.connected()
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.queue.close();
    }
}
