//! Whether a job can go on from a checkpoint that another version of its definition has made. Pure.
//!
//! Sources and sinks match by name, steps by id. What decides is what would be lost: offsets, state,
//! output that is staged and not yet published. `thalweg plan` shows the answer, and a start of the
//! job abides by it.

use std::collections::BTreeSet;

use serde::Serialize;
use thalweg_checkpoint::Manifest;
use thalweg_checkpoint::manifest::SourceRecord;
use thalweg_checkpoint::publish::SinkRecord;
use thalweg_stream::{Epoch, Fault, Migration};

use crate::graph::{Graph, Node, SinkNode, SourceNode, StepNode};

/// How a definition fits a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// The checkpoint's epoch.
    pub epoch: Epoch,
    /// Sources, steps and sinks: those of the definition in their order, then those that it no
    /// longer has.
    pub parts: Vec<PartFit>,
}

/// How one part of a definition fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartFit {
    /// What it is.
    pub kind: PartKind,
    /// Its name; of a step, its id.
    pub name: String,
    /// What becomes of what the checkpoint has of it.
    pub fate: Fate,
    /// Why.
    pub reason: String,
    /// Whether something would be lost, so that the job starts only if that is allowed.
    pub loses: bool,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    /// A source, or the source of a table.
    Source,
    /// A step.
    Step,
    /// A sink.
    Sink,
}

/// What becomes of what a checkpoint has of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It goes on.
    Kept,
    /// It goes on, brought into another shape.
    Migrated,
    /// The checkpoint has nothing of it: it begins.
    New,
    /// The definition no longer has it.
    Dropped,
    /// It means something else now, and cannot go on.
    Incompatible,
}

impl Fit {
    /// Compares what `manifest` has with the parts of `graph`.
    #[must_use]
    pub fn of(manifest: &Manifest, graph: &Graph) -> Self {
        let mut parts = Vec::new();
        for (_, source) in graph.sources() {
            parts.push(self::source(manifest.sources.get(&*source.name), source));
        }
        for (_, node) in graph.steps() {
            parts.push(step(manifest, graph, node));
        }
        for (_, node) in graph.sinks() {
            parts.push(sink(manifest.sinks.get(&*node.name), node));
        }
        parts.extend(gone(manifest, graph));
        Self {
            epoch: manifest.epoch,
            parts,
        }
    }

    /// What keeps the job from going on: parts that cannot, and, unless that is allowed, those of
    /// which something would be lost.
    pub(crate) fn obstacles(&self, allow_drop: bool) -> impl Iterator<Item = &PartFit> {
        (self.parts.iter()).filter(move |part| match part.fate {
            Fate::Kept | Fate::Migrated | Fate::New => false,
            Fate::Dropped => part.loses && !allow_drop,
            Fate::Incompatible => true,
        })
    }

    /// Refuses a start that meets an obstacle.
    ///
    /// # Errors
    /// The user's, which names every obstacle and says what can be done.
    pub fn check(&self, allow_drop: bool) -> Result<(), Fault> {
        let problems: Vec<String> = (self.obstacles(allow_drop))
            .map(|part| format!("{} \"{}\" {}", part.kind.name(), part.name, part.reason))
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Fault::user(format!(
            "the definition does not fit the checkpoint of epoch {}: {}; give steps the ids they \
             had, sources that read something else another name, let the job publish with the \
             definition before, lose what is gone with --allow-drop, or start anew with --from none",
            self.epoch,
            problems.join("; ")
        )))
    }
}

impl PartKind {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Step => "step",
            Self::Sink => "sink",
        }
    }
}

impl Fate {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Migrated => "migrated",
            Self::New => "new",
            Self::Dropped => "dropped",
            Self::Incompatible => "incompatible",
        }
    }
}

/// The record a sink goes on with: what the checkpoint has of it, if it is still a sink of that
/// kind that writes there, or may lose what it has not published.
pub(crate) fn goes_on(record: &SinkRecord, node: &SinkNode) -> bool {
    let same_kind = kind(&record.destination) == kind(&node.destination);
    record.destination.is_empty()
        || record.destination == *node.destination
        || same_kind && record.units.is_empty()
}

/// The kind of a destination.
fn kind(destination: &str) -> &str {
    destination.split(' ').next().unwrap_or_default()
}

/// How a sink is another than it was.
fn moved(record: &SinkRecord, node: &SinkNode) -> String {
    match (kind(&record.destination), kind(&node.destination)) {
        (old, new) if old == new => format!("writes to another {new}"),
        (old, new) => format!("was a sink to {old}, and is one to {new}"),
    }
}

fn part(kind: PartKind, name: &str, fate: Fate, reason: impl Into<String>) -> PartFit {
    PartFit {
        kind,
        name: name.to_owned(),
        fate,
        reason: reason.into(),
        loses: fate == Fate::Incompatible,
    }
}

fn source(known: Option<&SourceRecord>, node: &SourceNode) -> PartFit {
    let refused = (known.iter())
        .flat_map(|known| &known.splits)
        .find_map(|split| Some((&split.spec.name, node.source.recognize(&split.spec).err()?)));
    let (fate, reason) = match (known, refused) {
        (None, _) => (Fate::New, "is read from its beginning".to_owned()),
        (Some(_), Some((split, why))) => (
            Fate::Incompatible,
            format!("cannot go on with split {split:?}: {why}"),
        ),
        (Some(known), None) => (
            Fate::Kept,
            format!("goes on at the offsets of {} splits", known.splits.len()),
        ),
    };
    part(PartKind::Source, &node.name, fate, reason)
}

/// How a step takes over what `manifest` has of it, if that has another shape and can be taken over.
pub(crate) fn migration(manifest: &Manifest, node: &StepNode) -> Option<Box<dyn Migration>> {
    let old = manifest.steps.get(&*node.id)?.shape.as_deref()?;
    let new = node.factory.state_shape()?;
    (old != new).then(|| node.factory.migration(old)).flatten()
}

fn step(manifest: &Manifest, graph: &Graph, node: &StepNode) -> PartFit {
    if let Some(migration) = migration(manifest, node) {
        return part(
            PartKind::Step,
            &node.id,
            Fate::Migrated,
            migration.outcome(),
        );
    }
    let known = manifest.steps.get(&*node.id);
    let old = known.and_then(|record| record.shape.as_deref());
    let new = node.factory.state_shape();
    let (fate, reason) = match (old, new.as_deref()) {
        (Some(old), Some(new)) if old == new => (Fate::Kept, "keeps its state".to_owned()),
        (Some(old), new) => (
            Fate::Incompatible,
            format!(
                "has changed, its state would be lost: it was {old}, it is {}",
                new.unwrap_or("without state")
            ),
        ),
        (None, Some(_)) => (Fate::New, begins(manifest, graph, node)),
        (None, None) if known.is_some() => (Fate::Kept, "has no state".to_owned()),
        (None, None) => (Fate::New, "has no state".to_owned()),
    };
    part(PartKind::Step, &node.id, fate, reason)
}

/// What the new state of a step lacks: a source goes on where it was, that of a table as well.
fn begins(manifest: &Manifest, graph: &Graph, node: &StepNode) -> String {
    let above = |node: &StepNode| {
        let edges = node.inputs.iter().flatten();
        edges.map(|edge| edge.node).collect::<Vec<_>>()
    };
    let mut read = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut left = above(node);
    while let Some(at) = left.pop() {
        match graph.nodes.get(at) {
            Some(Node::Step(step)) if seen.insert(at) => left.extend(above(step)),
            Some(Node::Source(source)) if manifest.sources.contains_key(&*source.name) => {
                read.insert(&*source.name);
            }
            _ => {}
        }
    }
    match read.is_empty() {
        true => "begins with empty state".to_owned(),
        false => {
            let read = Vec::from_iter(read).join(", ");
            format!("begins with empty state, without what has been read of {read}")
        }
    }
}

fn sink(known: Option<&SinkRecord>, node: &SinkNode) -> PartFit {
    let (fate, reason) = match known {
        None => (Fate::New, "begins".to_owned()),
        Some(record) if goes_on(record, node) => (
            Fate::Kept,
            match record.units.len() {
                0 => "has published everything".to_owned(),
                units => format!("publishes {units} units of output that are staged"),
            },
        ),
        Some(record) if record.units.is_empty() => {
            (Fate::New, format!("begins: it {}", moved(record, node)))
        }
        Some(record) => {
            let reason = format!("{}, with output not yet published", moved(record, node));
            return PartFit {
                loses: true,
                ..part(PartKind::Sink, &node.name, Fate::Dropped, reason)
            };
        }
    };
    part(PartKind::Sink, &node.name, fate, reason)
}

/// What the definition no longer has.
fn gone(manifest: &Manifest, graph: &Graph) -> Vec<PartFit> {
    let mut parts = Vec::new();
    let mut drop = |kind, name: &str, reason, loses| {
        parts.push(PartFit {
            loses,
            ..part(kind, name, Fate::Dropped, reason)
        });
    };
    for name in manifest.sources.keys() {
        if !graph.sources().any(|(_, node)| *node.name == **name) {
            drop(
                PartKind::Source,
                name,
                "is gone, its offsets would be lost",
                true,
            );
        }
    }
    for (id, record) in &manifest.steps {
        if !graph.steps().any(|(_, node)| *node.id == **id) {
            match record.shape.is_some() {
                true => drop(PartKind::Step, id, "is gone, its state would be lost", true),
                false => drop(PartKind::Step, id, "is gone, it had no state", false),
            }
        }
    }
    for (name, record) in &manifest.sinks {
        if !graph.sinks().any(|(_, node)| *node.name == **name) {
            match record.units.is_empty() {
                true => drop(
                    PartKind::Sink,
                    name,
                    "is gone, it has published everything",
                    false,
                ),
                false => drop(
                    PartKind::Sink,
                    name,
                    "is gone, with output not yet published",
                    true,
                ),
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests;
