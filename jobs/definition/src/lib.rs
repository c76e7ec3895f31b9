//! Job definitions: from YAML or JSON text to a checked model, all errors told in one go.
//!
//! [`load`] parses the text into a tree in which every value knows where it stands, substitutes
//! `${env:…}` and its like, and walks the tree into a [`Definition`]. Each part of the walk asks its
//! [`fields`](fields::Fields) by name; what nobody asked for is an unknown field, and what the
//! reference names but nobody builds yet is refused as not supported yet. Expressions, column names
//! and types are the planner's to check; it reports with the same [`Diagnostic`]s.

mod azure;
mod diagnostic;
mod fields;
mod kafka;
mod model;
mod operator;
mod quantity;
mod source;
mod substitute;
mod tree;
mod walk;

pub use diagnostic::{Diagnostic, Diagnostics, Severity, Span, Spanned};
pub use model::{
    Adx, AdxAuth, Aggregate, AsOf, Assignment, Checkpoint, ColumnField, Cosmos, DeadLetters, Dedup,
    Definition, Delivery, Enrich, EventTime, FileSink, FileSource, Generate, Kafka, KafkaStart,
    LateThen, MaxAhead, Missing, OnError, Operation, Secret, Settings, Sink, SinkKind, Source,
    SourceKind, Step, Table, TimestampForm, WhenFull, Window,
};
pub use substitute::{Environment, Resolver};

use std::path::Path;

/// Longest definition (bytes).
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// How a definition is loaded.
#[allow(missing_debug_implementations, reason = "a resolver has none")]
pub struct LoadOptions<'a> {
    /// Overrides: path of a field and its value.
    pub set: Vec<(String, String)>,
    /// Resolves `${env:…}`, `${file:…}` and `${secret:…}`.
    pub resolver: &'a dyn Resolver,
}

/// Loads a definition; `name` stands in its diagnostics, relative paths start at `folder`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    text: &str,
    name: &str,
    folder: &Path,
    options: &LoadOptions<'_>,
) -> Result<Definition, Diagnostics> {
    let fail = |found: Vec<Diagnostic>| Diagnostics::new(name, text, found);
    if text.len() > TEXT_BYTES_MAX {
        let message = format!(
            "a definition has at most 1 MiB, this one has {} bytes",
            text.len()
        );
        return Err(fail(vec![Diagnostic::error(Span::START, message)]));
    }
    let mut tree = tree::parse(text).map_err(|found| fail(vec![found]))?;
    let mut found = Vec::new();
    for (path, value) in &options.set {
        if let Err(message) = tree::set(&mut tree, path, value) {
            found.push(Diagnostic::error(
                Span::START,
                format!("--set {path}: {message}"),
            ));
        }
    }
    substitute::substitute(&mut tree, folder, options.resolver, &mut found);
    let definition = walk::definition(&tree, folder, &mut found);
    match definition {
        Some(definition) if found.is_empty() => Ok(definition),
        _ => Err(fail(found)),
    }
}

#[cfg(test)]
mod tests;
