//! The dataflow graph of a job, as the planner hands it to the engine.

use std::sync::Arc;

use thalweg_stream::dead_letter::RowRenderer;
use thalweg_stream::watermark::Progress;
use thalweg_stream::{DecoderFactory, OperatorFactory, Sink, Source, StreamSchema};

/// An output of a node: the node's position in the graph and the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Position of the node in [`Graph::nodes`].
    pub node: usize,
    /// Its output port; 0 is the node itself.
    pub port: usize,
}

/// A job's dataflow: sources, steps and sinks in topological order.
///
/// Every worker builds the same graph in the same order.
pub struct Graph {
    /// The nodes; edges point backwards only.
    pub nodes: Vec<Node>,
    /// Position of the sink node that takes the dead letters of all nodes. Its `input` is empty.
    pub dead_letters: usize,
    /// Renders the rows of dead letters.
    pub renderer: Arc<dyn RowRenderer>,
}

/// One part of the graph.
pub enum Node {
    /// Where records come from.
    Source(SourceNode),
    /// What is done with them.
    Step(StepNode),
    /// Where results go.
    Sink(SinkNode),
}

impl Node {
    /// The node's name in the definition.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Source(node) => &node.name,
            Self::Step(node) => &node.name,
            Self::Sink(node) => &node.name,
        }
    }

    /// What it is known by over changes of the definition: the id of a step, the name of a source or
    /// sink.
    #[must_use]
    pub fn identity(&self) -> &Arc<str> {
        match self {
            Self::Source(node) => &node.name,
            Self::Step(node) => &node.id,
            Self::Sink(node) => &node.name,
        }
    }
}

/// A source with its decoder.
pub struct SourceNode {
    /// Its name.
    pub name: Arc<str>,
    /// Reads chunks.
    pub source: Arc<dyn Source>,
    /// Decodes them.
    pub decoder: Arc<dyn DecoderFactory>,
    /// How far rows may be out of order, milliseconds of event time.
    pub out_of_order_ms: i64,
    /// After how long without input a split is idle, milliseconds of processing time.
    pub idle_after_ms: Option<u64>,
    /// Positions of sources whose first load must be done before this one is read.
    pub after: Vec<usize>,
}

/// A step.
pub struct StepNode {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity for state: `id`, or its name.
    pub id: Arc<str>,
    /// Builds its operators.
    pub factory: Arc<dyn OperatorFactory>,
    /// For each input the outputs that are united in it.
    pub inputs: Vec<Vec<Edge>>,
    /// What happens to rows the operator gives up on.
    pub on_error: OnError,
}

/// What happens to a record that cannot be processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It becomes a dead letter.
    #[default]
    DeadLetter,
    /// It is counted and dropped.
    Skip,
    /// The job stops with an error.
    Fail,
}

/// What a sink promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Staged with a checkpoint, published after its commit.
    ExactlyOnce,
    /// Written as it comes, flushed before a checkpoint is reported.
    AtLeastOnce,
}

/// A sink.
pub struct SinkNode {
    /// Its name.
    pub name: Arc<str>,
    /// What it is and where it writes: one word for its kind, then, after a space, what tells the
    /// place from others. It stands in checkpoints, so no secret. Another kind of sink does not go on with what this one has staged.
    pub destination: Arc<str>,
    /// Encodes and publishes.
    pub sink: Arc<dyn Sink>,
    /// The outputs it takes.
    pub input: Vec<Edge>,
    /// What it promises.
    pub delivery: Delivery,
}

impl Graph {
    /// The schema of an output.
    #[must_use]
    pub fn schema(&self, edge: Edge) -> Option<StreamSchema> {
        match self.nodes.get(edge.node)? {
            Node::Source(node) => (edge.port == 0).then(|| node.decoder.schema()),
            Node::Step(node) => node
                .factory
                .outputs()
                .into_iter()
                .nth(edge.port)
                .map(|(_, schema)| schema),
            Node::Sink(_) => None,
        }
    }

    /// How far every node's output has come, given how far the sources have (in their order).
    ///
    /// This is where the steps' declarations are composed along the graph.
    #[must_use]
    pub fn progress(&self, sources: &[Progress]) -> Vec<Progress> {
        let mut nodes: Vec<Progress> = Vec::with_capacity(self.nodes.len());
        let mut sources = sources.iter();
        for node in &self.nodes {
            let progress = match node {
                Node::Source(_) => sources.next().copied().unwrap_or(Progress::START),
                Node::Step(step) => {
                    let inputs: Vec<Progress> = step
                        .inputs
                        .iter()
                        .map(|edges| union(&nodes, edges))
                        .collect();
                    step.factory.output_progress(&inputs)
                }
                Node::Sink(sink) => union(&nodes, &sink.input),
            };
            nodes.push(progress);
        }
        nodes
    }

    /// Positions of the sources that feed the given outputs, directly or through steps.
    #[must_use]
    pub(crate) fn upstream_sources(&self, edges: &[Edge]) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open: Vec<usize> = edges.iter().map(|e| e.node).collect();
        while let Some(at) = open.pop() {
            match self.nodes.get(at) {
                Some(Node::Source(_)) if !found.contains(&at) => found.push(at),
                Some(Node::Step(step)) => open.extend(step.inputs.iter().flatten().map(|e| e.node)),
                Some(Node::Source(_) | Node::Sink(_)) | None => {}
            }
        }
        found.sort_unstable();
        found
    }

    /// The same for graphs that are built of one definition by one build: processes of one job
    /// compare it.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut text = format!("{} {}", env!("CARGO_PKG_VERSION"), self.dead_letters);
        for node in &self.nodes {
            let (name, identity) = (node.name(), node.identity());
            let more = match node {
                Node::Source(source) => {
                    let (bounded, placement) = (source.source.bounded(), source.source.placement());
                    let times = (source.out_of_order_ms, source.idle_after_ms);
                    let (schema, after) = (source.decoder.schema(), &source.after);
                    format!("{bounded} {placement:?} {times:?} {schema:?} {after:?}")
                }
                Node::Step(step) => {
                    let (routes, outputs) = (step.factory.routes(), step.factory.outputs());
                    let (shape, inputs) = (step.factory.state_shape(), &step.inputs);
                    let on_error = step.on_error;
                    format!("{routes:?} {outputs:?} {shape:?} {inputs:?} {on_error:?}")
                }
                Node::Sink(sink) => {
                    let (can, input) = (sink.sink.capabilities(), &sink.input);
                    format!("{} {:?} {can:?} {input:?}", sink.destination, sink.delivery)
                }
            };
            text += &format!("\n{name:?} {identity:?} {more}");
        }
        thalweg_stream::key::hash(text.as_bytes())
    }

    /// The sources, with their positions.
    pub fn sources(&self) -> impl Iterator<Item = (usize, &SourceNode)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| match node {
                Node::Source(source) => Some((at, source)),
                Node::Step(_) | Node::Sink(_) => None,
            })
    }

    /// The steps, with their positions.
    pub fn steps(&self) -> impl Iterator<Item = (usize, &StepNode)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| match node {
                Node::Step(step) => Some((at, step)),
                Node::Source(_) | Node::Sink(_) => None,
            })
    }

    /// The sinks, with their positions.
    pub fn sinks(&self) -> impl Iterator<Item = (usize, &SinkNode)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| match node {
                Node::Sink(sink) => Some((at, sink)),
                Node::Source(_) | Node::Step(_) => None,
            })
    }
}

/// The progress of several outputs united.
pub(crate) fn union(nodes: &[Progress], edges: &[Edge]) -> Progress {
    let inputs: Vec<Progress> = edges
        .iter()
        .map(|e| nodes.get(e.node).copied().unwrap_or(Progress::START))
        .collect();
    Progress::union(&inputs)
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.nodes.iter().map(Node::name))
            .finish()
    }
}
