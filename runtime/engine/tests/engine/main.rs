//! The engine from outside: sources, steps and sinks written here, run on a store in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation ends a test"
)]

mod delivery;
mod growing;
mod idleness;
mod mesh;
mod migration;
mod reading;
mod restarts;
mod runs;
mod sockets;
mod staging;
mod stopping;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use bytes::Bytes;
use thalweg_checkpoint::{Access, RestoreFrom, Store};
use thalweg_engine::{
    Allow, Command, Delivery, Edge, Graph, Job, Limits, Node, OnError, Outcome, SinkNode,
    SourceNode, Status, StatusBoard, StepNode, Surroundings, run,
};
use thalweg_metrics::Metrics;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::dead_letter::RowRenderer;
use thalweg_stream::operator::Held;
use thalweg_stream::sink::{
    Encoded, EncodedObject, PublishUnit, Published, Released, SinkContext, StageStore, StagedObject,
};
use thalweg_stream::source::{Placement, SplitSpec, SplitStart, SplitState, SplitStatus, Waker};
use thalweg_stream::{
    BuildContext, Chunk, Class, Column, ColumnType, DeadClass, DeadLetter, Decoded, Decoder,
    DecoderFactory, Epoch, EpochClose, Fault, Framing, Operator, OperatorFactory, Origin, Output,
    Publisher, Route, Section, Sink, SinkCapabilities, SinkWriter, Source, SplitId, SplitReader,
    StreamSchema,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Numbers 0..count in each of `splits` splits, one text line a record; `bad` marks a bad one.
struct Numbers {
    splits: usize,
    count: u64,
    /// Records per chunk.
    chunk: u64,
    /// Never ends: waits at the end.
    endless: bool,
}

#[async_trait]
impl Source for Numbers {
    fn bounded(&self) -> bool {
        !self.endless
    }
    fn placement(&self) -> Placement {
        Placement::Spread
    }
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let name = |n: usize| SplitSpec {
            name: format!("part {n}").into(),
            detail: ().into(),
        };
        let all: Vec<SplitSpec> = (0..self.splits).map(name).collect();
        assert!(known.is_empty() || known == all);
        Ok(all)
    }
    fn open(&self, splits: Vec<SplitStart>, _: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let at = splits
            .iter()
            .map(|s| (s.id, s.offset.unwrap_or(0)))
            .collect();
        Ok(Box::new(NumberReader {
            at,
            count: self.count,
            chunk: self.chunk,
            endless: self.endless,
        }))
    }
}

struct NumberReader {
    at: BTreeMap<SplitId, u64>,
    count: u64,
    chunk: u64,
    endless: bool,
}

impl SplitReader for NumberReader {
    fn poll(&mut self, _: usize) -> Result<Option<Chunk>, Fault> {
        let Some((&split, at)) = self.at.iter_mut().min_by_key(|(_, at)| **at) else {
            return Ok(None);
        };
        if *at >= self.count {
            return Ok(None);
        }
        let (start, end) = (*at, (*at + self.chunk).min(self.count));
        *at = end;
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for number in start..end {
            let from = bytes.len() as u32;
            bytes.extend_from_slice(
                if number % 100 == 99 {
                    "bad".into()
                } else {
                    number.to_string()
                }
                .as_bytes(),
            );
            ranges.push((from, bytes.len() as u32));
        }
        let framing = Framing::Records {
            ranges,
            offsets: (start..end).collect(),
        };
        Ok(Some(Chunk {
            split,
            start,
            end,
            bytes: bytes.into(),
            framing,
            metadata: vec![],
            read_at_ms: 0,
        }))
    }
    fn status(&self, split: SplitId) -> SplitStatus {
        let left = self.count - self.at[&split];
        let state = match (left, self.endless) {
            (0, false) => SplitState::Finished,
            (0, true) => SplitState::AtEnd,
            _ => SplitState::Reading,
        };
        SplitStatus {
            state,
            behind: Some(left),
        }
    }
}

struct NumberDecoder;

impl DecoderFactory for NumberDecoder {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append(vec![Column::new("n", ColumnType::Int64)], true)
    }
    fn build(&self) -> Result<Box<dyn Decoder>, Fault> {
        Ok(Box::new(Self))
    }
}

impl Decoder for NumberDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        let Framing::Records { ranges, offsets } = &chunk.framing else {
            panic!("records")
        };
        let (mut values, mut origins) = (Vec::new(), Vec::new());
        for (&(from, to), &offset) in ranges.iter().zip(offsets) {
            out.records += 1;
            let bytes = chunk.bytes.slice(from as usize..to as usize);
            let origin = Origin::new(chunk.split, offset).expect("small");
            match std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
            {
                Some(value) => {
                    values.push(value);
                    origins.push(origin.0);
                }
                None => out.dead.push(DeadLetter {
                    class: DeadClass::Decode,
                    code: "not-a-number",
                    message: "not a number".to_owned(),
                    origin,
                    event_time: None,
                    remains: thalweg_stream::dead_letter::Remains::Bytes(bytes),
                    plugin: None,
                }),
            }
        }
        out.newest_event_time = values.iter().max().copied();
        let times = TimestampMillisecondArray::from(values.clone()).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(values)),
            Arc::new(times),
            Arc::new(UInt64Array::from(origins)),
        ];
        out.batches
            .push(RecordBatch::try_new(self.schema().arrow(), columns)?);
        Ok(())
    }
}

/// Sums by `n`, put out at the end of time. A stateful operator in few lines, whose checkpoints hold
/// what has changed since the last one.
struct Sums;

#[derive(Default)]
struct SumState {
    sums: BTreeMap<i64, (i64, u64)>,
    changed: BTreeSet<i64>,
    frozen: Frozen,
}

/// Whether it is all, and the entries.
type Frozen = (bool, Vec<(i64, i64, u64)>);

fn sum_schema() -> StreamSchema {
    let columns = vec![
        Column::new("key", ColumnType::Int64),
        Column::new("sum", ColumnType::Int64),
    ];
    StreamSchema::append(columns, false)
}

impl OperatorFactory for Sums {
    fn routes(&self) -> Vec<Route> {
        vec![Route::Key(vec![0])]
    }
    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        vec![("", sum_schema())]
    }
    fn needs_epochs(&self) -> bool {
        true
    }
    fn state_shape(&self) -> Option<String> {
        Some("sums by n".to_owned())
    }
    fn build(&self, _: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        Ok(Box::new(SumState::default()))
    }
}

impl Operator for SumState {
    fn on_batch(&mut self, _: usize, batch: &RecordBatch, _: &mut Output) -> Result<(), Fault> {
        for n in batch.column(0).as_primitive::<Int64Type>().values() {
            let sum = self.sums.entry(*n).or_default();
            sum.0 += n;
            sum.1 += 1;
            self.changed.insert(*n);
        }
        Ok(())
    }
    fn on_epoch(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        if close.inputs[0].finished && !self.sums.is_empty() {
            let sums = std::mem::take(&mut self.sums);
            out.ledger.merged += sums.values().map(|(_, count)| count).sum::<u64>();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(sums.keys().copied().collect::<Int64Array>()),
                Arc::new(sums.values().map(|(sum, _)| *sum).collect::<Int64Array>()),
                Arc::new(
                    sums.keys()
                        .map(|&k| Origin::derived(k as u64).0)
                        .collect::<UInt64Array>(),
                ),
            ];
            out.emit(RecordBatch::try_new(sum_schema().arrow(), columns)?);
        }
        Ok(())
    }
    fn held(&self) -> Held {
        Held {
            rows: self.sums.values().map(|(_, count)| count).sum(),
            bytes: 0,
        }
    }
    fn freeze(&mut self, full: bool) {
        let changed = std::mem::take(&mut self.changed);
        let entries = self.sums.iter().map(|(k, v)| (*k, v.0, v.1));
        let entries = entries.filter(|(key, ..)| full || changed.contains(key));
        self.frozen = (full, entries.collect());
    }
    fn freeze_failed(&mut self) {
        self.changed
            .extend(self.frozen.1.iter().map(|(key, ..)| key));
    }
    fn drain(&mut self, _: usize, sections: &mut Vec<Section>) -> Result<bool, Fault> {
        // By key group, so that any number of workers can take it back.
        let (base, entries) = &self.frozen;
        let mut groups: BTreeMap<u8, Vec<(i64, i64, u64)>> = BTreeMap::new();
        for &entry in entries {
            let mut key = vec![0x03];
            key.extend_from_slice(&entry.0.to_le_bytes());
            let group = thalweg_stream::key::key_group(thalweg_stream::key::hash(&key));
            groups.entry(group).or_default().push(entry);
        }
        for (group, entries) in groups {
            let bytes = serde_json::to_vec(&entries).map_err(|e| Fault::bug(e.to_string()))?;
            sections.push(Section {
                group,
                base: *base,
                bytes: bytes.into(),
            });
        }
        Ok(true)
    }
    fn restore(&mut self, section: &Section) -> Result<(), Fault> {
        let entries: Vec<(i64, i64, u64)> =
            serde_json::from_slice(&section.bytes).map_err(|e| Fault::corrupt(e.to_string()))?;
        for (key, sum, count) in entries {
            self.sums.insert(key, (sum, count));
        }
        Ok(())
    }
}

/// Lines by lineage and epoch of the unit.
type Units = BTreeMap<(String, Epoch), Vec<String>>;

/// Keeps what it is given, by unit: publishing a unit again replaces it. A sink in few lines.
#[derive(Clone, Default)]
struct Shelf {
    units: Arc<Mutex<Units>>,
    publishes: Arc<AtomicUsize>,
    /// Publishing fails for a while.
    closed: Arc<AtomicBool>,
    /// Every batch becomes an object of its own, long before the epoch is sealed.
    at_once: bool,
}

impl Shelf {
    fn lines(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .units
            .lock()
            .unwrap()
            .values()
            .flatten()
            .cloned()
            .collect();
        all.sort();
        all
    }
}

#[async_trait]
impl Sink for Shelf {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            exactly_once: true,
            ordered: true,
            changes: false,
            route: Route::Local,
            grouping: None,
        }
    }
    fn writer(&self, _: usize, _: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        Ok(Box::new(ShelfWriter {
            at_once: self.at_once,
            ..ShelfWriter::default()
        }))
    }
    async fn publisher(&self, _: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        Ok(Box::new(self.clone()))
    }
}

#[derive(Default)]
struct ShelfWriter {
    at_once: bool,
    lines: String,
    rows: u64,
}

impl SinkWriter for ShelfWriter {
    fn write(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault> {
        for row in 0..batch.num_rows() {
            for column in &batch.columns()[..batch.num_columns() - 1] {
                if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
                    self.lines += &format!("{} ", numbers.value(row));
                } else if let Some(texts) = column.as_string_view_opt() {
                    self.lines += &format!("{} ", texts.value(row));
                }
            }
            self.lines.push('\n');
            self.rows += 1;
        }
        match self.at_once {
            true => self.seal(Epoch(0), out),
            false => Ok(()),
        }
    }
    fn seal(&mut self, _: Epoch, out: &mut Encoded) -> Result<(), Fault> {
        if self.rows > 0 {
            let bytes = Bytes::from(std::mem::take(&mut self.lines));
            let rows = std::mem::take(&mut self.rows);
            out.objects.push(EncodedObject {
                bytes,
                rows,
                note: ().into(),
            });
        }
        Ok(())
    }
    fn buffered_bytes(&self) -> usize {
        self.lines.len()
    }
}

#[async_trait]
impl Publisher for Shelf {
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        if self.closed.load(Ordering::Relaxed) {
            let after = Some(Duration::from_millis(2));
            return Err(Fault::new(
                Class::Transient { after },
                "the shelf is closed",
            ));
        }
        let mut lines = Vec::new();
        for object in &unit.get().objects {
            let bytes = stage.get(object).await?;
            lines.extend(String::from_utf8_lossy(&bytes).lines().map(str::to_owned));
        }
        let name = (unit.get().lineage.to_string(), unit.get().epoch);
        self.units.lock().unwrap().insert(name, lines);
        self.publishes.fetch_add(1, Ordering::Relaxed);
        Ok(Published::default())
    }
}

struct NoRows;

impl RowRenderer for NoRows {
    fn render(&self, _: &RecordBatch, _: usize) -> String {
        "{}".to_owned()
    }
}

fn job(source: Numbers, out: &Shelf, dead: &Shelf, workers: usize) -> Job {
    let name = |text: &str| -> Arc<str> { Arc::from(text) };
    let edge = |node| vec![Edge { node, port: 0 }];
    let nodes = vec![
        Node::Source(SourceNode {
            name: name("numbers"),
            source: Arc::new(source),
            decoder: Arc::new(NumberDecoder),
            out_of_order_ms: 0,
            idle_after_ms: None,
            after: vec![],
        }),
        Node::Step(StepNode {
            name: name("sums"),
            id: name("sums"),
            factory: Arc::new(Sums),
            inputs: vec![edge(0)],
            on_error: OnError::DeadLetter,
        }),
        Node::Sink(SinkNode {
            name: name("out"),
            destination: name("shelf out"),
            sink: Arc::new(out.clone()),
            input: edge(1),
            delivery: Delivery::ExactlyOnce,
        }),
        Node::Sink(SinkNode {
            name: name("dead"),
            destination: name("shelf dead"),
            sink: Arc::new(dead.clone()),
            input: vec![],
            delivery: Delivery::ExactlyOnce,
        }),
    ];
    Job {
        name: name("test"),
        graph: Graph {
            nodes,
            dead_letters: 3,
            renderer: Arc::new(NoRows),
        },
        workers,
        checkpoint_every: Duration::from_millis(20),
        keep: 3,
        limits: Limits {
            epoch_ms: 5,
            ..Limits::default()
        },
        version: "1".to_owned(),
        from: RestoreFrom::Latest,
        take_over: false,
        allow: Allow::default(),
    }
}

/// The same without the step: what is decoded goes to the sink, node 1.
fn direct(source: Numbers, out: &Shelf, dead: &Shelf, workers: usize) -> Job {
    let mut job = job(source, out, dead, workers);
    job.graph.nodes.remove(1);
    job.graph.dead_letters = 2;
    if let Node::Sink(sink) = &mut job.graph.nodes[1] {
        sink.input = vec![Edge { node: 0, port: 0 }];
    }
    job
}

/// A store of its own for a test.
fn memory(test: &str, workers: usize) -> Store {
    Store::open(&format!("memory://{test}-{workers}"), Access::Create).expect("opens")
}

fn surroundings(store: &Store) -> (Surroundings, mpsc::Sender<Command>, StatusBoard) {
    let (sender, commands) = mpsc::channel(4);
    let board = StatusBoard::default();
    let surroundings = Surroundings {
        store: store.clone(),
        clock: Arc::new(SystemClock::new()),
        commands,
        board: board.clone(),
        metrics: Arc::new(Metrics::new("test").expect("the list is well formed")),
    };
    (surroundings, sender, board)
}

fn expected(splits: u64, count: u64) -> Vec<String> {
    let mut lines: Vec<String> = (0..count)
        .filter(|n| n % 100 != 99)
        .map(|n| format!("{n} {} ", n * splits))
        .collect();
    lines.sort();
    lines
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(240), future)
        .await
        .unwrap_or_else(|_| panic!("{what} hangs"))
}

/// Asks a job that runs to stop, and waits for how it ends.
async fn stop(
    commands: &mpsc::Sender<Command>,
    running: JoinHandle<Result<Outcome, Fault>>,
) -> Result<Outcome, Fault> {
    commands.send(Command::Stop).await.expect("the job listens");
    within("stopping", running).await.expect("no panic")
}
