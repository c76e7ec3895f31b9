//! The engine from outside: sources, steps and sinks written here, run on a store in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation ends a test"
)]

mod compaction;
mod delivery;
mod growing;
mod idleness;
mod mesh;
mod migration;
mod numbers;
mod reading;
mod restarts;
mod runs;
mod shelf;
mod sockets;
mod staging;
mod stopping;
mod sums;
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

use numbers::{NumberDecoder, NumberReader, Numbers};
use shelf::Shelf;
use sums::{SumState, Sums, sum_schema};

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
