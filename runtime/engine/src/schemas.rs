//! The schemas of a job's edges, by which batches travel between its processes without theirs.
//!
//! Timely gives whoever reads a message nothing but its bytes, so what is known is known to the whole
//! process. It only grows, by the schemas of the graphs that have been run in it. A batch of another
//! schema takes it along.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use thalweg_stream::dead_letter;

use crate::graph::{Edge, Graph};

static KNOWN: RwLock<BTreeMap<u64, SchemaRef>> = RwLock::new(BTreeMap::new());

/// Schemas whose number one thread remembers; more are looked for again.
const REMEMBERED_MAX: usize = 64;

thread_local! {
    static REMEMBERED: RefCell<Vec<(SchemaRef, Option<u64>)>> = const { RefCell::new(Vec::new()) };
}

/// From now on the schemas of a graph are known, in each process of its job before any data flows.
pub(crate) fn know(graph: &Graph) {
    add(dead_letter::schema().arrow());
    for node in 0..graph.nodes.len() {
        let ports = (0..).map_while(|port| graph.schema(Edge { node, port }));
        ports.for_each(|schema| add(schema.arrow()));
    }
}

/// From now on a schema is known, unless it has no number.
pub(crate) fn add(schema: SchemaRef) {
    if let Some(number) = number(&schema) {
        let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(number).or_insert(schema);
    }
}

/// The schema of a number.
pub(crate) fn of(number: u64) -> Option<SchemaRef> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.get(&number).cloned()
}

/// The number of a schema, if it is known.
pub(crate) fn number_of(schema: &SchemaRef) -> Option<u64> {
    REMEMBERED.with_borrow_mut(|remembered| {
        let before = remembered.iter().find(|(of, _)| Arc::ptr_eq(of, schema));
        if let Some((_, number)) = before {
            return *number;
        }
        let number = number(schema).filter(|&number| of(number).is_some());
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.push((Arc::clone(schema), number));
        number
    })
}

/// What a schema is known by, never 0; nothing if it has what does not go without it.
fn number(schema: &Schema) -> Option<u64> {
    let plain = schema.metadata().is_empty()
        && (schema.fields().iter()).all(|field| {
            let nested = field.data_type().is_nested();
            let dictionary = matches!(field.data_type(), DataType::Dictionary(..));
            field.metadata().is_empty() && !nested && !dictionary
        });
    let hash = || thalweg_stream::key::hash(format!("{:?}", schema.fields()).as_bytes());
    plain.then(|| hash() | 1)
}
