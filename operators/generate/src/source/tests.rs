//! The source as the engine drives it, on a clock that tests move.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::executor::block_on;
use thalweg_stream::source::{SplitStart, SplitState, Waker};
use thalweg_stream::{Chunk, Clock, Fault, Framing, Source, SplitId, SplitReader};

use super::{GenerateSource, METADATA};
use crate::{GenerateSpec, Generator, What};

#[derive(Debug, Default)]
struct HandClock(Mutex<Duration>);

impl HandClock {
    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> i64 {
        1_000 + self.elapsed().as_millis() as i64
    }
    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

fn spec(events: Option<u64>, splits: u32) -> GenerateSpec {
    let mut spec = GenerateSpec::new(What::Vehicles);
    (spec.devices, spec.events, spec.splits) = (50, events, splits);
    (spec.late, spec.duplicates, spec.corrupt) = (0.05, 0.1, 0.1);
    spec
}

fn source(spec: &GenerateSpec, clock: &Arc<HandClock>) -> GenerateSource {
    let generator = Generator::new(spec.clone()).unwrap();
    let metadata = [METADATA[0].0.to_owned()];
    GenerateSource::new(generator, &metadata, Arc::clone(clock) as _).unwrap()
}

fn open(source: &GenerateSource, offsets: &[Option<u64>]) -> Box<dyn SplitReader> {
    open_with(source, offsets, Arc::new(|| ())).unwrap()
}

fn open_with(
    source: &GenerateSource,
    offsets: &[Option<u64>],
    waker: Waker,
) -> Result<Box<dyn SplitReader>, Fault> {
    let specs = block_on(source.discover(&[])).unwrap();
    let starts = (specs.into_iter().zip(offsets).enumerate())
        .map(|(at, (spec, offset))| SplitStart {
            id: SplitId(at as u32 + 10),
            spec,
            offset: *offset,
            finished: false,
        })
        .collect();
    source.open(starts, waker)
}

/// The records of a chunk with their offsets, checked against its frame and metadata.
fn records(chunk: &Chunk) -> Vec<(SplitId, u64, Vec<u8>)> {
    let Framing::Records { ranges, offsets } = &chunk.framing else {
        panic!("not framed by records");
    };
    let column = chunk.metadata[0]
        .as_ref()
        .unwrap()
        .as_primitive::<Int64Type>();
    assert_eq!(column.values().len(), offsets.len());
    assert_eq!(
        (offsets[0], offsets[offsets.len() - 1] + 1),
        (chunk.start, chunk.end)
    );
    (ranges.iter().zip(offsets).zip(column.values()))
        .map(|((range, offset), column)| {
            assert_eq!(*offset as i64, *column);
            let bytes = &chunk.bytes[range.0 as usize..range.1 as usize];
            (chunk.split, *offset, bytes.to_vec())
        })
        .collect()
}

fn drain(reader: &mut dyn SplitReader, bytes_max: usize) -> Vec<(SplitId, u64, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.poll(bytes_max).unwrap() {
        all.extend(records(&chunk));
    }
    all
}

#[test]
fn a_bounded_source_gives_every_record_once_whatever_the_chunk_size() {
    let clock = Arc::default();
    let spec = spec(Some(1001), 3);
    let generator = Generator::new(spec.clone()).unwrap();
    for bytes_max in [1, 1000, 1 << 20] {
        let source = source(&spec, &clock);
        assert!(source.bounded());
        let mut reader = open(&source, &[None; 3]);
        let mut all = drain(&mut *reader, bytes_max);
        all.sort();
        let mut expected = Vec::new();
        for split in 0..3 {
            for index in 0..generator.split_events(split).unwrap() {
                let mut bytes = Vec::new();
                generator.record(split, index, &mut bytes);
                expected.push((SplitId(split + 10), index, bytes));
            }
        }
        assert_eq!(all, expected);
        for split in 10..13 {
            let status = reader.status(SplitId(split));
            assert_eq!(
                (status.state, status.behind),
                (SplitState::Finished, Some(0))
            );
        }
    }
}

#[test]
fn resuming_at_any_offset_gives_the_same_bytes() {
    let clock = Arc::default();
    let source = source(&spec(Some(60), 1), &clock);
    let all = drain(&mut *open(&source, &[None]), 700);
    for offset in 0..=60 {
        let rest = drain(&mut *open(&source, &[Some(offset)]), 700);
        assert_eq!(rest, all[offset as usize..], "from {offset}");
    }
    let beyond = open_with(&source, &[Some(61)], Arc::new(|| ()))
        .err()
        .unwrap();
    assert!(
        beyond.message.contains("offset 61 of \"part 0\""),
        "{beyond}"
    );
}

#[test]
fn splits_advance_together() {
    let clock = Arc::default();
    let source = source(&spec(None, 2), &clock);
    assert!(!source.bounded());
    let mut reader = open(&source, &[None, Some(500)]);
    let mut next = [0, 500];
    for _ in 0..200 {
        let chunk = reader.poll(2000).unwrap().unwrap();
        let at = chunk.split.0 as usize - 10;
        assert!(
            next[at] <= next[1 - at],
            "the part ahead was read: {next:?}"
        );
        next[at] = chunk.end;
    }
    assert_eq!(reader.status(SplitId(10)).behind, None);
}

#[test]
fn a_rate_gives_what_is_due_by_the_jobs_clock() {
    let clock: Arc<HandClock> = Arc::default();
    let mut spec = spec(Some(10_000), 2);
    spec.rate = Some(400.0);
    let source = source(&spec, &clock);
    let mut reader = open(&source, &[None; 2]);
    assert_eq!(drain(&mut *reader, 1 << 20).len(), 2);
    assert_eq!(reader.status(SplitId(10)).state, SplitState::AtEnd);
    for _ in 0..10 {
        clock.advance(Duration::from_millis(100));
        let due = drain(&mut *reader, 1 << 20).len();
        assert!((39..=41).contains(&due), "{due} in a tenth of a second");
    }
    clock.advance(Duration::from_millis(100));
    let chunk = reader.poll(1 << 20).unwrap().unwrap();
    assert_eq!(chunk.read_at_ms, 2_100);
    assert_eq!(reader.status(chunk.split).state, SplitState::Reading);
}

#[test]
fn the_worker_is_woken_when_something_is_due() {
    let clock: Arc<HandClock> = Arc::default();
    let mut spec = spec(None, 1);
    spec.rate = Some(100.0);
    let source = source(&spec, &clock);
    let (rang, ringing) = mpsc::channel();
    let waker: Waker = Arc::new(move || rang.send(()).unwrap_or(()));
    let mut reader = open_with(&source, &[None], waker).unwrap();
    assert_eq!(drain(&mut *reader, 1 << 20).len(), 1);
    clock.advance(Duration::from_millis(10));
    ringing
        .recv_timeout(Duration::from_secs(20))
        .expect("not woken");
    assert_eq!(drain(&mut *reader, 1 << 20).len(), 1);
    // The alarm's thread holds the waker: it ends with the reader.
    drop(reader);
    while ringing.recv_timeout(Duration::from_secs(20)).is_ok() {}
    assert_eq!(ringing.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn a_checkpoint_of_other_options_is_refused() {
    let clock = Arc::default();
    let before = source(&spec(Some(100), 2), &clock);
    let known = block_on(before.discover(&[])).unwrap();
    assert_eq!(before.recognize(&known[1]), Ok(()));
    assert_eq!(block_on(before.discover(&known)).unwrap(), known);
    // How many and how fast is no part of what the records are.
    let mut more = spec(Some(200), 2);
    more.rate = Some(1.0);
    let more = source(&more, &clock);
    assert_eq!(more.recognize(&known[1]), Ok(()));
    assert_eq!(block_on(more.discover(&known)).unwrap(), known);
    let mut other = spec(Some(100), 2);
    other.seed = 9;
    let fault = source(&other, &clock).recognize(&known[1]).unwrap_err();
    assert!(fault.message.contains("\"seed\":9"), "{fault}");
}

#[test]
fn unknown_metadata_is_refused() {
    let generator = Generator::new(spec(None, 1)).unwrap();
    let clock: Arc<HandClock> = Arc::default();
    let error = GenerateSource::new(generator, &["path".to_owned()], clock).unwrap_err();
    assert_eq!(
        error.to_string(),
        "generate: no metadata field \"path\"; there is offset"
    );
}
