//! `thalweg graph`: the dataflow of a job as a picture's source.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;
use thalweg_engine::{Graph, Node};
use thalweg_stream::Clock;
use thalweg_stream::clock::SystemClock;

use crate::command::{GraphArguments, GraphFormat};
use crate::definition::planned;
use crate::{Failure, terminal};

pub(crate) fn graph(arguments: &GraphArguments) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let planned = planned(&arguments.definition, &clock)?;
    planned.warn();
    let format = match arguments.definition.json {
        true => GraphFormat::Json,
        false => arguments.format,
    };
    Ok(terminal::print(&draw(&planned.graph, format))?)
}

fn draw(graph: &Graph, format: GraphFormat) -> String {
    let edges = edges(graph);
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a string cannot fail.
        writeln!(out, "{text}").ok();
    };
    match format {
        GraphFormat::Mermaid => {
            line("flowchart LR".to_owned());
            for (at, node) in graph.nodes.iter().enumerate() {
                let name = node.name();
                line(match node {
                    Node::Source(_) => format!("    n{at}([{name}])"),
                    Node::Step(_) => format!("    n{at}[{name}]"),
                    Node::Sink(_) => format!("    n{at}[({name})]"),
                });
            }
            for (from, to) in edges {
                line(format!("    n{from} --> n{to}"));
            }
            line(format!(
                "    %% dead letters of all: n{}",
                graph.dead_letters
            ));
        }
        GraphFormat::Dot => {
            line("digraph job {\n    rankdir=LR;".to_owned());
            for (at, node) in graph.nodes.iter().enumerate() {
                let shape = match node {
                    Node::Source(_) => "oval",
                    Node::Step(_) => "box",
                    Node::Sink(_) => "cylinder",
                };
                line(format!(
                    "    n{at} [label=\"{}\", shape={shape}];",
                    node.name()
                ));
            }
            for (from, to) in edges {
                line(format!("    n{from} -> n{to};"));
            }
            line("}".to_owned());
        }
        GraphFormat::Json => {
            let nodes: Vec<_> = graph.nodes.iter().map(describe).collect();
            let name = |at: usize| graph.nodes.get(at).map(|node| node.name().to_string());
            let edges: Vec<_> = (edges.iter())
                .map(|(from, to)| json!({ "from": name(*from), "to": name(*to) }))
                .collect();
            line(json!({ "nodes": nodes, "edges": edges }).to_string());
        }
    }
    out
}

fn describe(node: &Node) -> serde_json::Value {
    let kind = match node {
        Node::Source(_) => "source",
        Node::Step(_) => "step",
        Node::Sink(_) => "sink",
    };
    json!({ "name": **node.name(), "kind": kind })
}

/// Positions of the nodes that are connected, each pair once.
fn edges(graph: &Graph) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let inputs: Vec<usize> = match node {
            Node::Source(_) => Vec::new(),
            Node::Step(step) => step.inputs.iter().flatten().map(|edge| edge.node).collect(),
            Node::Sink(sink) => sink.input.iter().map(|edge| edge.node).collect(),
        };
        for from in inputs {
            if !edges.contains(&(from, at)) {
                edges.push((from, at));
            }
        }
    }
    edges
}
