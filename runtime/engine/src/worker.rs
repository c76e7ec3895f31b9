//! One worker of a job: builds the dataflow and runs it to its end, or to the attempt's.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_stream::key::KEY_GROUPS;
use thalweg_stream::sink::SinkContext;
use thalweg_stream::source::{Placement, SplitStart, Waker};
use thalweg_stream::{BuildContext, Epoch, Fault, Route, Section, SplitId};
use timely::dataflow::Scope;
use timely::dataflow::operators::{Concatenate, Probe, probe};
use timely::worker::Worker;

use crate::clock::{rejected, track};
use crate::decode::{Batches, decode};
use crate::flow::{micros, thread_cpu};
use crate::graph::{Edge, Graph, Node, OnError, SourceNode};
use crate::letters::{Letters, SplitNames};
use crate::read::{Observed, Reading, read};
use crate::report::Report;
use crate::schedule::{Schedule, Turns};
use crate::shared::{Shared, lock};
use crate::sink::SinkStage;
use crate::step::{Stage, step};
use crate::tracker::{TrackedSplit, Tracker};

/// Longest time a worker sleeps before it looks whether the attempt has failed.
const PARK: Duration = Duration::from_millis(100);

/// The output of a step that carries what came too late.
const LATE: &str = "late";

/// Everything a worker needs to build its part of the job.
pub(crate) struct Plan {
    pub(crate) job: Arc<str>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) first: Epoch,
    /// Splits to read, by source node, in order of their numbers.
    pub(crate) starts: BTreeMap<usize, Vec<SplitStart>>,
    pub(crate) tracked: Vec<TrackedSplit>,
    pub(crate) watermarks: BTreeMap<usize, i64>,
    pub(crate) names: Arc<SplitNames>,
    /// Context of every sink, by node.
    pub(crate) sinks: BTreeMap<usize, SinkContext>,
    /// Restored state by worker and step id; taken by the worker when it builds.
    pub(crate) restored: Vec<Mutex<BTreeMap<Arc<str>, Vec<Section>>>>,
    /// Who gives turns to the workers, in a simulation.
    pub(crate) schedule: Option<Arc<dyn Schedule>>,
}

/// Key groups that a worker owns.
pub(crate) fn groups(worker: usize, workers: usize) -> Range<usize> {
    // The inverse of `key::owner`.
    let start = |w: usize| (w * KEY_GROUPS).div_ceil(workers);
    start(worker)..start(worker + 1)
}

/// Runs one worker; its faults end the attempt.
pub(crate) fn run(worker: &mut Worker, plan: &Plan, turns: Option<&Turns<'_>>) {
    let shared = Arc::clone(&plan.shared);
    let built = worker.dataflow::<u64, _, _>(|scope| Building::new(&scope, plan).build());
    let probe = match built {
        Ok(probe) => probe,
        Err(fault) => {
            shared.fail(fault);
            abandon(worker);
            return;
        }
    };
    let (index, mut measured) = (worker.index(), Duration::ZERO);
    let watch = &shared.watches[index];
    watch.begin();
    while !shared.failed() && !probe.done() {
        work(worker, turns);
        watch.turn();
        let now = shared.clock.elapsed();
        if now.saturating_sub(measured) >= PARK {
            measured = now;
            if let Some(busy) = shared.busy_us.get(index) {
                busy.store(micros(thread_cpu()), Ordering::Relaxed);
            }
        }
        let frontier = probe.with_frontier(|frontier| frontier.first().copied());
        if let Some(open) = frontier {
            shared.complete(Epoch(open.saturating_sub(1)));
        }
    }
    if shared.failed() {
        abandon(worker);
    } else {
        // State of the last checkpoint may still be on its way out.
        while worker.has_dataflows() && !shared.failed() {
            work(worker, turns);
            watch.turn();
        }
    }
    watch.end();
    shared.report(Report::Ended);
}

/// Lets the worker work, or sleep until there is something to do.
fn work(worker: &mut Worker, turns: Option<&Turns<'_>>) {
    match turns {
        None => worker.step_or_park(Some(PARK)),
        Some(turns) => {
            turns.next();
            worker.step()
        }
    };
}

/// Leaves the dataflow without finishing it.
pub(crate) fn abandon(worker: &mut Worker) {
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// The worker that reads the split at a position of the list of the source at a node.
pub(crate) fn reads(
    placement: Placement,
    (node, position): (usize, usize),
    workers: usize,
) -> usize {
    match placement {
        Placement::Single => node % workers,
        Placement::Spread => position % workers,
    }
}

struct Building<'a, 'scope> {
    scope: &'a Scope<'scope, u64>,
    plan: &'a Plan,
    worker: usize,
    workers: usize,
    observed: Observed,
}

impl<'a, 'scope> Building<'a, 'scope> {
    fn new(scope: &'a Scope<'scope, u64>, plan: &'a Plan) -> Self {
        Self {
            scope,
            plan,
            worker: scope.index(),
            workers: scope.peers(),
            observed: Observed::default(),
        }
    }

    fn build(self) -> Result<probe::Handle<u64>, Fault> {
        let (scope, plan) = (self.scope, self.plan);
        let graph = &plan.graph;
        let mut outputs: BTreeMap<Edge, Batches<'scope>> = BTreeMap::new();
        let mut dead: Vec<Batches<'scope>> = Vec::new();
        let mut notices = Vec::new();
        for (node, source) in graph.sources() {
            let (chunks, closed) = self.read(node, source)?;
            let decoder = source.decoder.build()?;
            let letters = self.letters(&source.name, OnError::DeadLetter);
            let shared = Arc::clone(&plan.shared);
            let (rows, letters, decoded) = decode(scope, node, decoder, chunks, letters, shared);
            outputs.insert(Edge { node, port: 0 }, rows);
            dead.push(letters);
            notices.extend([closed, decoded]);
        }
        let tracker = Tracker::new(Arc::clone(graph), &plan.tracked, &plan.watermarks);
        let gates = graph
            .sources()
            .flat_map(|(_, source)| source.after.clone())
            .collect();
        let notices = scope.concatenate(notices);
        let observed = self.observed.clone();
        let clock = track(
            scope,
            notices,
            tracker,
            gates,
            observed,
            Arc::clone(&plan.shared),
        );
        let rejects = self.letters(graph.nodes[graph.dead_letters].name(), OnError::DeadLetter);
        dead.push(rejected(
            scope,
            rejects,
            Arc::clone(&plan.shared),
            plan.first,
        ));

        let probe = probe::Handle::new();
        for (at, node) in graph.nodes.iter().enumerate() {
            let (stage, inputs) = match node {
                Node::Source(_) => continue,
                Node::Step(_) => self.step(at)?,
                Node::Sink(_) if at == graph.dead_letters => continue,
                Node::Sink(_) => self.sink(at)?,
            };
            let ports = stage.ports;
            let inputs = (stage.edges.iter().zip(inputs))
                .map(|(edges, route)| Ok((self.united(edges, &outputs)?, route)))
                .collect::<Result<Vec<_>, Fault>>()?;
            let mut streams = step(
                scope,
                stage,
                inputs,
                clock.clone(),
                Arc::clone(&plan.shared),
            );
            dead.extend(streams.pop());
            for (port, stream) in streams.into_iter().enumerate() {
                outputs.insert(Edge { node: at, port }, stream);
            }
            debug_assert!(ports == 0 || outputs.contains_key(&Edge { node: at, port: 0 }));
        }
        let (stage, mut routes) = self.sink(graph.dead_letters)?;
        let input = (
            scope.concatenate(dead),
            routes.pop().unwrap_or(Route::Local),
        );
        // Every node has dead letters, so all of them have passed an epoch when this sink has.
        for stream in step(scope, stage, vec![input], clock, Arc::clone(&plan.shared)) {
            stream.probe_with(&probe);
        }
        Ok(probe)
    }

    fn letters(&self, step: &Arc<str>, on_error: OnError) -> Letters {
        let plan = self.plan;
        let (job, names) = (Arc::clone(&plan.job), Arc::clone(&plan.names));
        Letters::new(
            Arc::clone(step),
            job,
            on_error,
            names,
            Arc::clone(&plan.graph.renderer),
        )
    }

    fn united(
        &self,
        edges: &[Edge],
        outputs: &BTreeMap<Edge, Batches<'scope>>,
    ) -> Result<Batches<'scope>, Fault> {
        let streams = (edges.iter())
            .map(|edge| outputs.get(edge).cloned())
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Fault::bug("the graph is not in topological order"))?;
        // One stream is what it is: whatever stands between two nodes costs every epoch.
        match <[_; 1]>::try_from(streams) {
            Ok([stream]) => Ok(stream),
            Err(streams) => Ok(self.scope.concatenate(streams)),
        }
    }

    fn read(
        &self,
        node: usize,
        source: &SourceNode,
    ) -> Result<
        (
            crate::read::Parcels<'scope, crate::parcel::Cargo>,
            crate::read::Parcels<'scope, crate::report::TimeReport>,
        ),
        Fault,
    > {
        let plan = self.plan;
        let starts = plan.starts.get(&node).map_or(&[][..], Vec::as_slice);
        let mine: Vec<SplitStart> = (starts.iter().enumerate())
            .filter(|&(at, _)| {
                reads(source.source.placement(), (node, at), self.workers) == self.worker
            })
            .map(|(_, start)| start.clone())
            .collect();
        let splits: Vec<(SplitId, Option<u64>)> = mine.iter().map(|s| (s.id, s.offset)).collect();
        // The operator's address is known only when it is built; it registers itself then.
        let shared = Arc::clone(&plan.shared);
        let waker: Waker = Arc::new(move || shared.wake_workers());
        let reader = source.source.open(mine, waker)?;
        for split in &plan.tracked {
            if let (true, Some(newest)) = (split.source == node, split.newest) {
                self.observed.note(node, split.id.0, newest);
            }
        }
        let reading = Reading {
            name: Arc::clone(&source.name),
            node,
            placement: source.source.placement(),
            reader,
            splits,
            observed: self.observed.clone(),
            idle_after: source.idle_after_ms.map(Duration::from_millis),
            after: source.after.clone(),
            charged: self.charged(node),
        };
        Ok(read(
            self.scope,
            reading,
            Arc::clone(&plan.shared),
            plan.first,
        ))
    }

    /// Nodes whose held rows count against a source: those it feeds, but for a table's source not
    /// the steps that it only enriches.
    fn charged(&self, source: usize) -> Vec<usize> {
        let graph = &self.plan.graph;
        (graph.nodes.iter().enumerate())
            .filter(|(at, node)| match node {
                Node::Source(_) => false,
                Node::Step(step) => (step.inputs.first())
                    .is_some_and(|rows| graph.upstream_sources(rows).contains(&source)),
                // Every source may have dead letters.
                Node::Sink(_) if *at == graph.dead_letters => true,
                Node::Sink(sink) => graph.upstream_sources(&sink.input).contains(&source),
            })
            .map(|(at, _)| at)
            .collect()
    }

    fn step(&self, at: usize) -> Result<(Stage, Vec<Route>), Fault> {
        let Some(Node::Step(node)) = self.plan.graph.nodes.get(at) else {
            return Err(Fault::bug("no step there"));
        };
        let context = BuildContext {
            step: Arc::clone(&node.name),
            worker: self.worker,
            workers: self.workers,
            groups: groups(self.worker, self.workers),
            clock: Arc::clone(&self.plan.shared.clock),
        };
        let mut operator = node.factory.build(&context)?;
        let restored = (self.plan.restored.get(self.worker))
            .and_then(|restored| lock(restored).remove(&node.id))
            .unwrap_or_default();
        for section in &restored {
            let step = format_args!("step \"{}\"", node.name).to_string();
            operator
                .restore(section)
                .map_err(|fault| fault.within(step))?;
        }
        let stage = Stage {
            node: at,
            operator,
            needs_epochs: node.factory.needs_epochs(),
            edges: node.inputs.clone(),
            ports: node.factory.outputs().len(),
            late_port: (node.factory.outputs().iter()).position(|(name, _)| *name == LATE),
            letters: self.letters(&node.name, node.on_error),
        };
        Ok((stage, node.factory.routes()))
    }

    fn sink(&self, at: usize) -> Result<(Stage, Vec<Route>), Fault> {
        let Some(Node::Sink(node)) = self.plan.graph.nodes.get(at) else {
            return Err(Fault::bug("no sink there"));
        };
        let context =
            (self.plan.sinks.get(&at)).ok_or_else(|| Fault::bug("sink has no context"))?;
        let writer = node.sink.writer(self.worker, context)?;
        let shared = Arc::clone(&self.plan.shared);
        let stage = Stage {
            node: at,
            operator: Box::new(SinkStage::new(
                at,
                self.worker,
                writer,
                node.delivery,
                shared,
                Epoch(self.plan.first.0.saturating_sub(1)),
            )),
            needs_epochs: true,
            edges: vec![node.input.clone()],
            ports: 0,
            late_port: None,
            letters: self.letters(&node.name, OnError::DeadLetter),
        };
        Ok((stage, vec![node.sink.capabilities().route]))
    }
}
