//! The job of the simulation: planned from a definition by the planner, with sources and sinks that
//! are the simulation's.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use thalweg_checkpoint::RestoreFrom;
use thalweg_definition::{Environment, LoadOptions, load};
use thalweg_engine::{Delivery, Edge, Graph, Job, Limits, Node, SinkNode, SourceNode, StepNode};
use thalweg_formats::{Timestamps, WriteOptions};
use thalweg_stream::clock::SystemClock;
use thalweg_stream::dead_letter;
use thalweg_stream::sink::Grouping;

use crate::guest;
use crate::outside::SimSink;
use crate::record::{Input, SimSource};
use crate::world::{SimClock, World};

/// The job, with or without [`GUEST`]; `model.rs` mirrors it.
const JOB: &str = r"
job: sim
settings:
  checkpoint: { every: 1s, to: ./unused }
  dead_letters: { file: { path: ./unused.jsonl } }
sources:
  reports:
    file: { path: unused-reports.jsonl }
    schema: { device: { type: string, required: true }, ts: timestamp, seq: int64, value: int64 }
    event_time: { column: ts, out_of_order: 100ms }
tables:
  versions:
    file: { path: unused-versions.jsonl, follow: true }
    schema: { device: string, since: timestamp, version: int64 }
    event_time: { column: since, out_of_order: 60ms, max_ahead: off }
    key: [device]
steps:
  once: { from: reports, dedup: { by: [device, seq], within: 500ms } }
  plausible: { from: once, filter: value >= 0 }
  versioned:
    from: plausible
    enrich: { with: versions, on: device, as_of: event_time, wait: 200ms, take: [version], missing: keep }
  windows:
    from: versioned
    window:
      tumbling: 100ms
      by: [device]
      aggregate: { n: count(*), total: sum(value), newest: max(version) }
sinks:
  history: { from: versioned, file: { path: ./history } }
  results: { from: windows, file: { path: ./results } }
";

/// What the plausible are told by without a guest.
const PLAIN: &str = "filter: value >= 0";
/// The same by a guest, which traps on each 14th value.
const GUEST: &str = "filter: guest.f(value % 14) >= 0";

/// Whether the guest traps on a record of this value.
pub(crate) fn is_trap(value: i64) -> bool {
    value % 14 == 13
}

/// The sink that publishes several units at a time, whose service refuses rows, and which may be
/// at-least-once.
const HISTORY: &str = "history";

/// How rows are written.
pub(crate) fn lines() -> WriteOptions {
    WriteOptions {
        timestamps: Timestamps::UnixMs,
        ..WriteOptions::default()
    }
}

/// The job with the guest, whose component is put into `folder`.
fn with_guest(folder: &Path) -> String {
    let component = guest::moody();
    std::fs::write(folder.join("guest.wasm"), &component).expect("writable");
    let sha256 = thalweg_plugin::sha256(&component);
    let job = JOB.replace(PLAIN, GUEST);
    format!("{job}plugins:\n  guest: {{ path: guest.wasm, sha256: {sha256} }}\n")
}

fn planned(guest: bool) -> &'static Graph {
    static PLANNED: [OnceLock<Graph>; 2] = [const { OnceLock::new() }; 2];
    PLANNED[usize::from(guest)].get_or_init(|| {
        let options = LoadOptions {
            set: Vec::new(),
            resolver: &Environment,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let job = match guest {
            true => with_guest(folder.path()),
            false => JOB.to_owned(),
        };
        let definition = load(&job, "job.yaml", folder.path(), &options).expect("a definition");
        let around = thalweg_planner::Surroundings {
            compile: thalweg_planner::Compile::Here,
            clock: Arc::new(SystemClock::new()),
            output: Arc::new(Mutex::new(std::io::sink())),
        };
        thalweg_planner::plan(&definition, &around).expect("a plan")
    })
}

/// What a process and its sinks share.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) world: Arc<World>,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) doomed: Arc<AtomicBool>,
}

/// The graph for one process.
fn graph(place: &Place, shape: Shape) -> Graph {
    let planned = planned(shape.guest);
    let sink = |name: &str, edge: Option<Edge>| SimSink {
        world: Arc::clone(&place.world),
        clock: Arc::clone(&place.clock),
        doomed: Arc::clone(&place.doomed),
        ordered: name != HISTORY,
        delivery: shape.delivery(name),
        grouping: shape.grouping.filter(|_| edge.is_some()),
        schema: match edge {
            Some(edge) => planned.schema(edge).expect("an output"),
            None => dead_letter::schema(),
        },
    };
    let node = |node: &Node| match node {
        Node::Source(source) => Node::Source(SourceNode {
            name: Arc::clone(&source.name),
            source: Arc::new(SimSource {
                name: match &*source.name {
                    "versions" => "versions",
                    _ => "reports",
                },
                input: shape.input,
                world: Arc::clone(&place.world),
            }),
            decoder: Arc::clone(&source.decoder),
            out_of_order_ms: source.out_of_order_ms,
            idle_after_ms: shape.idle_after_ms,
            after: source.after.clone(),
        }),
        Node::Step(step) => Node::Step(StepNode {
            name: Arc::clone(&step.name),
            id: Arc::clone(&step.id),
            factory: Arc::clone(&step.factory),
            inputs: step.inputs.clone(),
            on_error: step.on_error,
        }),
        Node::Sink(node) => Node::Sink(SinkNode {
            name: Arc::clone(&node.name),
            destination: Arc::clone(&node.destination),
            sink: Arc::new(sink(&node.name, node.input.first().copied())),
            input: node.input.clone(),
            delivery: shape.delivery(&node.name),
        }),
    };
    Graph {
        nodes: planned.nodes.iter().map(node).collect(),
        dead_letters: planned.dead_letters,
        renderer: Arc::clone(&planned.renderer),
    }
}

/// How a job is run, drawn from the seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) input: Input,
    pub(crate) limits: Limits,
    pub(crate) checkpoint_every: Duration,
    pub(crate) keep: u32,
    pub(crate) idle_after_ms: Option<u64>,
    /// Of the sinks but that of dead letters.
    pub(crate) grouping: Option<Grouping>,
    /// Whether the history may repeat rows.
    pub(crate) repeats: bool,
    /// Whether a plugin says which rows are plausible.
    pub(crate) guest: bool,
}

impl Shape {
    /// What a sink promises.
    fn delivery(&self, sink: &str) -> Delivery {
        match sink == HISTORY && self.repeats {
            true => Delivery::AtLeastOnce,
            false => Delivery::ExactlyOnce,
        }
    }
}

/// The job for one process.
pub(crate) fn job(place: &Place, shape: Shape, workers: usize, take_over: bool) -> Job {
    Job {
        name: Arc::from("sim"),
        graph: graph(place, shape),
        workers,
        checkpoint_every: shape.checkpoint_every,
        keep: shape.keep,
        limits: shape.limits,
        version: "1".to_owned(),
        from: RestoreFrom::Latest,
        take_over,
        allow: thalweg_engine::Allow::default(),
    }
}
