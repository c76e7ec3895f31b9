//! The generator as a source: splits `part 0`, `part 1`…, offsets that are record numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array};
use async_trait::async_trait;
use bytes::Bytes;
use thalweg_stream::source::{Placement, SplitSpec, SplitStart, SplitState, SplitStatus, Waker};
use thalweg_stream::{Chunk, Clock, ColumnType, Fault, Framing, Source, SplitId, SplitReader};

use crate::error::Error;
use crate::generator::Generator;
use crate::pace::Pace;

/// The metadata fields there are, and their types: `offset`, the record's number in its split.
pub const METADATA: [(&str, ColumnType); 1] = [("offset", ColumnType::Int64)];

/// Room for the record that crosses a chunk's target size.
const RECORD_BYTES_MAX: usize = 512;

/// Generated telemetry as a source. Bounded if the number of events is.
///
/// With a rate, each split is paced by its share of it, from the start of the job on; what was
/// missed while the job was held back is made up for by at most one second's worth.
#[derive(Debug)]
pub struct GenerateSource {
    generator: Arc<Generator>,
    /// How many metadata columns there are; all are offsets.
    offset_columns: usize,
    clock: Arc<dyn Clock>,
}

impl GenerateSource {
    /// A source of the generator's records; `metadata` names the fields for the metadata columns.
    ///
    /// # Errors
    /// If a metadata field is none of [`METADATA`].
    pub fn new(
        generator: Generator,
        metadata: &[String],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        match metadata.iter().find(|field| *field != "offset") {
            Some(unknown) => Err(Error::Metadata(unknown.clone())),
            None => Ok(Self {
                generator: Arc::new(generator),
                offset_columns: metadata.len(),
                clock,
            }),
        }
    }
}

#[async_trait]
impl Source for GenerateSource {
    fn bounded(&self) -> bool {
        self.generator.spec().events.is_some()
    }

    fn placement(&self) -> Placement {
        Placement::Spread
    }

    fn recognize(&self, known: &SplitSpec) -> Result<(), Fault> {
        let identity = self.generator.spec().identity();
        match known.detail == identity {
            true => Ok(()),
            false => Err(Fault::from(Error::Changed {
                checkpoint: known.detail.to_string(),
                definition: identity.to_string(),
            })),
        }
    }

    async fn discover(&self, _known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let identity = self.generator.spec().identity();
        Ok((0..self.generator.spec().splits)
            .map(|part| SplitSpec {
                name: name(part).into(),
                detail: identity.clone(),
            })
            .collect())
    }

    fn open(&self, splits: Vec<SplitStart>, waker: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let spec = self.generator.spec();
        let now = self.clock.elapsed();
        let parts = splits
            .into_iter()
            .map(|start| {
                let number = (0..spec.splits)
                    .find(|part| *start.spec.name == name(*part))
                    .ok_or_else(|| Fault::bug(format!("no split {:?}", start.spec.name)))?;
                let (next, end) = (
                    start.offset.unwrap_or(0),
                    self.generator.split_events(number),
                );
                if let Some(end) = end.filter(|end| next > *end) {
                    return Err(Fault::from(Error::Offset {
                        split: start.spec.name.to_string(),
                        offset: next,
                        end,
                    }));
                }
                let pace = spec
                    .rate
                    .map(|all| Pace::new(all / f64::from(spec.splits), now));
                Ok(Part {
                    id: start.id,
                    number,
                    next,
                    end,
                    pace,
                    starved: false,
                })
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        let alarm = spec.rate.map(|_| Alarm::start(waker)).transpose()?;
        Ok(Box::new(GenerateReader {
            generator: Arc::clone(&self.generator),
            offset_columns: self.offset_columns,
            clock: Arc::clone(&self.clock),
            places: (parts.iter().enumerate())
                .map(|(place, part)| (part.id, place))
                .collect(),
            parts,
            alarm,
        }))
    }
}

fn name(part: u32) -> String {
    format!("part {part}")
}

/// Where one split stands.
#[derive(Debug)]
struct Part {
    id: SplitId,
    number: u32,
    next: u64,
    end: Option<u64>,
    pace: Option<Pace>,
    /// Whether nothing was due when it was last asked.
    starved: bool,
}

impl Part {
    /// How many records there are to give out at `now`.
    fn due(&mut self, now: Duration) -> u64 {
        let left = self.end.map_or(u64::MAX, |end| end - self.next);
        let due = self.pace.as_mut().map_or(u64::MAX, |pace| pace.due(now));
        self.starved = due == 0;
        left.min(due)
    }

    fn finished(&self) -> bool {
        self.end == Some(self.next)
    }
}

/// Generates in `poll`, on the worker's own thread: that is no I/O, and takes about 3 ms a chunk.
struct GenerateReader {
    generator: Arc<Generator>,
    offset_columns: usize,
    clock: Arc<dyn Clock>,
    parts: Vec<Part>,
    places: BTreeMap<SplitId, usize>,
    alarm: Option<Alarm>,
}

impl SplitReader for GenerateReader {
    fn poll(&mut self, bytes_max: usize) -> Result<Option<Chunk>, Fault> {
        let now = self.clock.elapsed();
        // The part with the least index is the one furthest behind in event time.
        let next = (self.parts.iter_mut())
            .filter(|part| !part.finished())
            .map(|part| (part.due(now), part))
            .filter(|(due, _)| *due > 0)
            .min_by_key(|(_, part)| part.next);
        if let Some((due, part)) = next {
            let chunk = generate(&self.generator, part, due, bytes_max);
            return Ok(Some(Chunk {
                metadata: offsets_columns(&chunk, self.offset_columns),
                read_at_ms: self.clock.now_ms(),
                ..chunk
            }));
        }
        let wait = (self.parts.iter())
            .filter(|part| !part.finished())
            .filter_map(|part| part.pace.as_ref())
            .map(Pace::wait)
            .min();
        if let (Some(alarm), Some(wait)) = (&self.alarm, wait) {
            alarm.set(wait)?;
        }
        Ok(None)
    }

    fn status(&self, split: SplitId) -> SplitStatus {
        let part = self.places.get(&split).and_then(|at| self.parts.get(*at));
        let state = match part {
            Some(part) if part.finished() => SplitState::Finished,
            Some(part) if part.starved => SplitState::AtEnd,
            Some(_) | None => SplitState::Reading,
        };
        SplitStatus {
            state,
            behind: part.and_then(|part| part.end.map(|end| end - part.next)),
        }
    }
}

/// Generates a chunk of at most `due` records and about `bytes_max` bytes; its metadata and time
/// are still to be filled in.
fn generate(generator: &Generator, part: &mut Part, due: u64, bytes_max: usize) -> Chunk {
    let mut bytes = Vec::with_capacity(bytes_max.min(1 << 20) + RECORD_BYTES_MAX);
    let start = part.next;
    let (mut ranges, mut offsets) = (Vec::new(), Vec::new());
    // A chunk's positions are 32 bits wide; no caller asks for chunks near that.
    let bytes_max = bytes_max.min(1 << 30);
    while part.next < start.saturating_add(due) && (ranges.is_empty() || bytes.len() < bytes_max) {
        let begin = bytes.len() as u32;
        generator.record(part.number, part.next, &mut bytes);
        ranges.push((begin, bytes.len() as u32));
        offsets.push(part.next);
        part.next += 1;
    }
    if let Some(pace) = &mut part.pace {
        pace.spend(part.next - start);
    }
    Chunk {
        split: part.id,
        start,
        end: part.next,
        bytes: Bytes::from(bytes),
        framing: Framing::Records { ranges, offsets },
        metadata: Vec::new(),
        read_at_ms: 0,
    }
}

/// The metadata columns of a chunk: the offset, as often as it was asked for.
fn offsets_columns(chunk: &Chunk, count: usize) -> Vec<Option<ArrayRef>> {
    if count == 0 {
        return Vec::new();
    }
    // Offsets have at most 44 bits.
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(
        (chunk.start..chunk.end).map(u64::cast_signed),
    ));
    vec![Some(column); count]
}

/// Wakes the worker after a while; the thread ends with the reader.
#[derive(Debug)]
struct Alarm {
    /// Room for one: an alarm that is already set does as well.
    waits: SyncSender<Duration>,
}

impl Alarm {
    fn start(waker: Waker) -> Result<Self, Fault> {
        let (waits, asked) = sync_channel(1);
        std::thread::Builder::new()
            .name("generate-alarm".to_owned())
            .spawn(move || ring(&asked, &waker))
            .map_err(|error| Fault::unavailable(format!("generate: no thread: {error}")))?;
        Ok(Self { waits })
    }

    fn set(&self, wait: Duration) -> Result<(), Fault> {
        match self.waits.try_send(wait) {
            // Full means that the thread is about to take an earlier wait; its ringing makes the
            // worker ask again.
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Fault::bug("generate: the alarm has died")),
        }
    }
}

/// Waits as asked, then wakes; a new wait replaces one that has not passed.
fn ring(asked: &Receiver<Duration>, waker: &Waker) {
    while let Ok(mut wait) = asked.recv() {
        loop {
            match asked.recv_timeout(wait) {
                Ok(sooner) => wait = sooner,
                Err(RecvTimeoutError::Timeout) => break waker(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
