//! Job definitions: from YAML or JSON text to a checked model, all errors told in one go.
//!
//! [`check`] parses the text into a tree in which every value knows where it stands, substitutes
//! `${env:…}` and its like, and walks the tree into a [`Definition`]. Each part of the walk asks its
//! [`fields`](fields::Fields) by name; what nobody asked for is an unknown field, and what the
//! reference names but nobody builds yet is refused as not supported yet. Expressions, column names
//! and types are the planner's to check; it reports with the same [`Diagnostic`]s, also about a
//! definition parts of which are wrong: these parts are left out of the model and named in
//! [`Definition::damaged`].
//!
//! [`SCHEMA`] describes the same language to other tools; a test holds the two together.

mod azure;
mod diagnostic;
mod fields;
mod format;
mod kafka;
mod model;
mod operator;
mod plugin;
mod quantity;
mod reference;
mod secret;
mod source;
mod substitute;
mod tree;
mod walk;

pub use diagnostic::{Diagnostic, Diagnostics, Document, Severity, Span, Spanned};
pub use model::{
    Adx, AdxAuth, Aggregate, AsOf, Assignment, Checkpoint, ColumnField, Cosmos, Csv, CsvSink,
    DeadLetters, Dedup, Definition, Delivery, Enrich, EventTime, FileSink, FileSource, Format,
    Generate, Kafka, KafkaStart, LateThen, MaxAhead, Missing, OnError, Operation, Plugin, Restart,
    Secret, Settings, Sink, SinkKind, Source, SourceKind, Step, Table, TimestampForm, WhenFull,
    Window,
};
pub use reference::{SCHEMA, page};
pub use secret::Secrets;
pub use substitute::{Environment, Resolver};

use std::fs::File;
use std::io::{self, Read as _};
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

/// What there is to say about a definition.
#[derive(Debug)]
pub struct Checked {
    /// The definition as it may be shown.
    pub document: Document,
    /// What could be read of it; nothing if it is no mapping.
    pub definition: Option<Definition>,
    /// What is wrong with it, warnings included.
    pub found: Vec<Diagnostic>,
}

/// The text of a file, or, if it is too long for a definition, a little more than one may have: what
/// somebody names by mistake may have no end.
///
/// # Errors
/// It cannot be read, or is no UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let most = TEXT_BYTES_MAX as u64 + 1;
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    match String::from_utf8(bytes) {
        // Cut within a character perhaps.
        Err(error) if error.as_bytes().len() as u64 == most => {
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        text => text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8")),
    }
}

/// Reads a definition as far as it goes; `name` stands in its diagnostics, relative paths start at
/// `folder`.
#[must_use]
pub fn check(text: &str, name: &str, folder: &Path, options: &LoadOptions<'_>) -> Checked {
    let mut found = Vec::new();
    let mut document = Document {
        name: name.to_owned(),
        ..Document::default()
    };
    if text.len() > TEXT_BYTES_MAX {
        let message = "a definition has at most 1 MiB, this one has more";
        found.push(Diagnostic::error(Span::START, message));
        return Checked {
            document,
            definition: None,
            found,
        };
    }
    let parsed = match tree::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            document.text = secret::mask_unparsed(text);
            return Checked {
                document,
                definition: None,
                found: vec![error],
            };
        }
    };
    let (mut tree, repeated) = (parsed.root, parsed.repeated);
    found.extend(parsed.found);
    secret::mark_credentials(&tree);
    secret::mark_credentials(&repeated);
    let text = secret::mask(&secret::mask(text, &repeated), &tree);
    for (path, value) in &options.set {
        if let Err(message) = tree::set(&mut tree, path, value) {
            found.push(Diagnostic::error(
                Span::OUTSIDE,
                format!("{path}: {message}"),
            ));
        }
    }
    let mut secrets = Vec::new();
    substitute::substitute(
        &mut tree,
        folder,
        options.resolver,
        &mut secrets,
        &mut found,
    );
    secret::refuse_misplaced(&mut tree, &mut found);
    let definition = walk::definition(&tree, folder, &mut found);
    secrets.extend(secret::values(&tree));
    document.text = secret::mask(&text, &tree);
    document.secrets = Secrets::new(&secrets);
    Checked {
        document,
        definition,
        found,
    }
}

/// Loads a definition in which nothing is wrong.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    text: &str,
    name: &str,
    folder: &Path,
    options: &LoadOptions<'_>,
) -> Result<Definition, Diagnostics> {
    let checked = check(text, name, folder, options);
    let diagnostics = checked.document.diagnostics(checked.found);
    match checked.definition {
        Some(definition) if diagnostics.only_warnings() => Ok(definition),
        _ => Err(diagnostics),
    }
}

#[cfg(test)]
mod tests;
