//! The planner: from a checked definition to the dataflow graph that the engine runs.
//!
//! What the definition could not check alone is checked here (columns, types, expressions, whether
//! a sink can keep what it is asked to promise), and told with the same diagnostics.

mod azure;
mod kafka;
mod need;
mod plugin;
mod rows;
mod source;
mod step;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use thalweg_definition::{
    CsvSink, Definition, Delivery, Diagnostic, FileSink as FileOptions, Sink, SinkKind, Span,
    Spanned, Step, WhenFull,
};
use thalweg_engine::{Delivery as Promise, Edge, Graph, Node, SinkNode};
use thalweg_expr::{Compiler, ExpressionError};
use thalweg_file::{
    DeadLetterFile, DeadLetterFileOptions, DiscardSink, EncoderFactory, FileSink, FileSinkOptions,
    RowEncoder, SharedOutput, StdoutSink, WhenFull as Full,
};
use thalweg_formats::{
    CsvRows, CsvWriteOptions, JsonLines, Nulls, RowJson, SystemColumn, Timestamps, WriteOptions,
};
use thalweg_stream::{Clock, StreamKind, StreamSchema, dead_letter};

use crate::azure::Refusal;

pub use rows::state_rows;
pub use thalweg_plugin::Compile;

/// So many errors are enough: of more nobody is told.
const ERRORS_MAX: usize = 200;

/// What a plan needs from its surroundings.
#[allow(missing_debug_implementations, reason = "an output has none")]
pub struct Surroundings {
    /// The job's clock.
    pub clock: Arc<dyn Clock>,
    /// What `stdout` writes to.
    pub output: SharedOutput,
    /// Where plugins are compiled.
    pub compile: Compile,
}

/// A named output of the graph.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) edge: Edge,
    pub(crate) schema: StreamSchema,
}

/// Plans a job. Of a definition that is wrong in parts, the rest is planned as far as it goes, so
/// that its errors come in the same go.
///
/// # Errors
/// Everything that is wrong with the definition and could not be seen without planning.
pub fn plan(definition: &Definition, around: &Surroundings) -> Result<Graph, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let plugins = plugin::load(definition, &around.compile, &mut found);
    // Where columns that nobody reads are left out, an error could not list what there is.
    attempt(definition, around, &plugins, &found, true)
        .or_else(|more| attempt(definition, around, &plugins, &found, false).and(Err(more)))
}

fn attempt(
    definition: &Definition,
    around: &Surroundings,
    plugins: &thalweg_plugin::PluginSet,
    found: &[Diagnostic],
    project: bool,
) -> Result<Graph, Vec<Diagnostic>> {
    let mut planning = Planning {
        definition,
        around,
        project,
        compiler: Compiler::new(Arc::new(plugin::PluginFunctions(plugins.clone()))),
        plugins: plugins.clone(),
        nodes: Vec::new(),
        streams: BTreeMap::new(),
        tables: BTreeMap::new(),
        folders: BTreeMap::new(),
        found: found.to_vec(),
    };
    planning.sources();
    planning.steps();
    for sink in &definition.sinks {
        planning.sink(sink);
    }
    let dead_letters = planning.dead_letters();
    match (dead_letters, planning.found.is_empty()) {
        (Some(dead_letters), true) => Ok(Graph {
            nodes: planning.nodes,
            dead_letters,
            renderer: Arc::new(RowJson),
        }),
        _ => Err(planning.found),
    }
}

/// The graph as far as it has come.
pub(crate) struct Planning<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) around: &'a Surroundings,
    /// Whether sources leave out columns that nobody reads.
    pub(crate) project: bool,
    pub(crate) compiler: Compiler,
    pub(crate) plugins: thalweg_plugin::PluginSet,
    pub(crate) nodes: Vec<Node>,
    pub(crate) streams: BTreeMap<String, Stream>,
    pub(crate) tables: BTreeMap<String, Stream>,
    /// Where file sinks write, and which.
    pub(crate) folders: BTreeMap<PathBuf, &'a str>,
    pub(crate) found: Vec<Diagnostic>,
}

impl<'a> Planning<'a> {
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.found.push(Diagnostic::error(span, message));
    }

    /// An expression that is wrong, with the nearest name it may have meant.
    pub(crate) fn wrong(&mut self, text: &Spanned<String>, error: &ExpressionError) {
        let unknown = error.message.split('"').nth(1).unwrap_or_default();
        let plugin = unknown.split_once('.').map(|(plugin, _)| plugin);
        let named = |name| self.definition.plugins.iter().any(|p| p.name.value == name);
        if plugin.is_some_and(|name| named(name) && !self.plugins.contains(name)) {
            // The plugin itself could not be loaded, and that is told already.
            return;
        }
        let found = Diagnostic::error(text.span, error.message.clone());
        self.found
            .push(found.nearest(unknown, error.valid.iter().map(String::as_str)));
    }

    /// The position of a column; an error that lists what there is.
    pub(crate) fn column(
        &mut self,
        name: &Spanned<String>,
        schema: &StreamSchema,
    ) -> Option<usize> {
        let at = schema.column(&name.value);
        if at.is_none() {
            let names: Vec<&str> = schema.columns.iter().map(|c| &*c.name).collect();
            let message = format!(
                "there is no column `{}`; there are {}",
                name.value,
                names.join(", ")
            );
            self.found
                .push(Diagnostic::error(name.span, message).nearest(&name.value, names));
        }
        at
    }

    /// Whether so much is wrong that it is not worth the time to look for more.
    pub(crate) fn is_enough(&self) -> bool {
        self.found.len() >= ERRORS_MAX
    }

    /// Places the steps in an order in which each comes after what it takes.
    fn steps(&mut self) {
        let mut waiting: Vec<&Step> = self.definition.steps.iter().collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            let (ready, later): (Vec<&Step>, Vec<&Step>) =
                (waiting.into_iter()).partition(|step| {
                    step.from
                        .iter()
                        .all(|from| self.streams.contains_key(&from.value))
                });
            for step in ready {
                self.step(step);
            }
            waiting = later;
            if waiting.len() == before {
                // What they wait for is wrong and has told its error, here or in the definition.
                return;
            }
        }
    }

    /// The union of several streams: their edges, and the schema they share.
    pub(crate) fn united(&mut self, from: &[Spanned<String>]) -> Option<(Vec<Edge>, StreamSchema)> {
        let streams: Vec<(Span, Stream)> = (from.iter())
            .filter_map(|name| Some((name.span, self.streams.get(&name.value)?.clone())))
            .collect();
        let (_, first) = streams.first()?.clone();
        for (span, stream) in &streams {
            if stream.schema != first.schema {
                let describe = |schema: &StreamSchema| {
                    let columns = schema.columns.iter();
                    let mut columns: Vec<String> = columns
                        .map(|c| {
                            let required = if c.required { " (required)" } else { "" };
                            format!("{} {}{required}", c.name, c.column_type)
                        })
                        .collect();
                    columns.push(match schema.timed {
                        true => "event time".to_owned(),
                        false => "no event time".to_owned(),
                    });
                    if let StreamKind::Changes { .. } = schema.kind {
                        columns.push("changes".to_owned());
                    }
                    columns.join(", ")
                };
                let message = format!(
                    "united streams have one schema; the first has {}, this one {}",
                    describe(&first.schema),
                    describe(&stream.schema)
                );
                self.error(*span, message);
                return None;
            }
        }
        (streams.len() == from.len()).then(|| {
            (
                streams.iter().map(|(_, stream)| stream.edge).collect(),
                first.schema,
            )
        })
    }

    fn sink(&mut self, sink: &'a Sink) {
        let Some((input, schema)) = self.united(&sink.from) else {
            return;
        };
        let Some((made, default)) = self.made(sink, &schema) else {
            return;
        };
        let capabilities = made.capabilities();
        if matches!(schema.kind, StreamKind::Changes { .. }) && !capabilities.changes {
            let message = format!(
                "sink `{}` appends rows, and its input carries changes: updates of results within \
                 `late.allowed`",
                sink.name.value
            );
            return self.error(sink.name.span, message);
        }
        let Some(delivery) = self.promise(sink, capabilities.exactly_once, default) else {
            return;
        };
        let name = Arc::from(sink.name.value.as_str());
        self.nodes.push(Node::Sink(SinkNode {
            name,
            destination: destination(&sink.kind, delivery).into(),
            sink: made,
            input,
            delivery,
        }));
    }

    /// The sink itself; nothing if its options are wrong.
    fn made(&mut self, sink: &'a Sink, schema: &StreamSchema) -> Option<Made> {
        let made: Result<Made, Refusal> = match &sink.kind {
            SinkKind::File(file) => {
                let folder = self.folder_of_its_own(sink, file)?;
                let at_once = self.asked(sink) == Some(Delivery::AtLeastOnce);
                file_sink(file, folder, at_once, schema)
                    .map(|sink| (Arc::new(sink) as _, Promise::ExactlyOnce))
            }
            SinkKind::Cosmos(cosmos) => {
                let default = match cosmos.guard {
                    true => Promise::ExactlyOnce,
                    false => Promise::AtLeastOnce,
                };
                azure::cosmos(cosmos, schema).map(|sink| (sink, default))
            }
            SinkKind::Adx(adx) => azure::adx(adx, schema).map(|sink| (sink, Promise::ExactlyOnce)),
            SinkKind::Stdout => {
                let encoders = encoders(schema, WriteOptions::default());
                let output = Arc::clone(&self.around.output);
                let made = StdoutSink::new(output, schema.clone(), encoders);
                Ok((Arc::new(made) as _, Promise::AtLeastOnce))
            }
            SinkKind::Discard => Ok((Arc::new(DiscardSink::new()) as _, Promise::ExactlyOnce)),
        };
        match made {
            Ok(made) => Some(made),
            Err(refusal) => {
                let place = refusal.option.and_then(|name| sink.options.get(name));
                self.error(*place.unwrap_or(&sink.name.span), refusal.message);
                None
            }
        }
    }

    /// The folder of a file sink; nothing if another sink writes there.
    fn folder_of_its_own(&mut self, sink: &'a Sink, file: &FileOptions) -> Option<PathBuf> {
        let folder = self.definition.folder.join(&file.path.value);
        let Some(other) = self.folders.insert(normal(&folder), &sink.name.value) else {
            return Some(folder);
        };
        let message = format!(
            "sink `{other}` writes to this folder, under the same names; give each a folder of its \
             own"
        );
        self.error(file.path.span, message);
        None
    }

    /// What the definition asks of a sink, or of all.
    fn asked(&self, sink: &Sink) -> Option<Delivery> {
        let own = sink.delivery.as_ref().map(|delivery| delivery.value);
        own.or(self.definition.settings.delivery)
    }

    /// What a sink promises: what it is asked to, or what is its default. Nothing if it is asked for
    /// what it cannot keep; what is asked of all sinks binds only those that can.
    fn promise(&mut self, sink: &Sink, exactly_once: bool, default: Promise) -> Option<Promise> {
        match (&sink.delivery, self.asked(sink)) {
            (_, Some(Delivery::AtLeastOnce)) => Some(Promise::AtLeastOnce),
            (Some(asked), Some(Delivery::ExactlyOnce)) if !exactly_once => {
                let message = format!("sink `{}` cannot keep exactly-once", sink.name.value);
                self.error(asked.span, message);
                None
            }
            (Some(_), Some(Delivery::ExactlyOnce)) => Some(Promise::ExactlyOnce),
            (None, Some(Delivery::ExactlyOnce)) | (_, None) => Some(default),
        }
    }

    fn dead_letters(&mut self) -> Option<usize> {
        let letters = &self.definition.settings.dead_letters;
        let mut options = DeadLetterFileOptions::new(self.definition.folder.join(&letters.path));
        options.max_bytes = letters.max_bytes;
        options.when_full = match letters.when_full {
            WhenFull::Stop => Full::Stop,
            WhenFull::DropOldest => Full::DropOldest,
        };
        let schema = dead_letter::schema();
        let write = WriteOptions {
            nulls: Nulls::Omit,
            ..WriteOptions::default()
        };
        match DeadLetterFile::new(options, encoders(&schema, write)) {
            Ok(sink) => {
                self.nodes.push(Node::Sink(SinkNode {
                    name: Arc::from("dead_letters"),
                    destination: "dead-letters".into(),
                    sink: Arc::new(sink),
                    input: Vec::new(),
                    delivery: Promise::ExactlyOnce,
                }));
                Some(self.nodes.len() - 1)
            }
            Err(error) => {
                self.error(letters.at, format!("dead_letters: {error}"));
                None
            }
        }
    }
}

/// A path by which two spellings of it are known to be one.
fn normal(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => normal.push(part),
        }
    }
    normal
}

/// A sink, and what it promises if nobody asks.
type Made = (Arc<dyn thalweg_stream::Sink>, Promise);

fn file_sink(
    file: &FileOptions,
    folder: PathBuf,
    at_once: bool,
    schema: &StreamSchema,
) -> Result<FileSink, Refusal> {
    let options = WriteOptions {
        timestamps: match file.unix_ms {
            true => Timestamps::UnixMs,
            false => Timestamps::default(),
        },
        nulls: match file.omit_nulls {
            true => Nulls::Omit,
            false => Nulls::Write,
        },
        ..WriteOptions::default()
    };
    let mut place = FileSinkOptions::new(folder);
    place.roll_bytes = file.roll_bytes.unwrap_or(place.roll_bytes);
    place.at_once = at_once;
    let encoders = match file.csv {
        None => encoders(schema, options),
        Some(csv) => {
            place.extension = "csv";
            separated(schema, options, csv)
        }
    };
    FileSink::new(place, schema.clone(), encoders)
        .map_err(|error| Refusal::new(error.option(), &error))
}

/// What a sink is and where it writes. The service's address is left out: it may move. As it stands
/// in checkpoints, the place is a checksum of its name: that may hold what is secret.
fn destination(kind: &SinkKind, delivery: Promise) -> String {
    let (kind, place) = match kind {
        // What was staged to be renamed cannot be published by one that stages nothing.
        SinkKind::File(file) => match delivery {
            Promise::ExactlyOnce => ("file", vec![&file.path]),
            Promise::AtLeastOnce => ("file-at-once", vec![&file.path]),
        },
        SinkKind::Cosmos(to) => ("cosmos", vec![&to.database, &to.container]),
        SinkKind::Adx(to) => ("adx", vec![&to.database, &to.table]),
        SinkKind::Stdout => return "stdout".to_owned(),
        SinkKind::Discard => return "discard".to_owned(),
    };
    let place: Vec<&str> = place.into_iter().map(|part| part.value.as_str()).collect();
    let sum = thalweg_stream::key::hash(place.join("/").as_bytes()) >> 32;
    format!("{kind} {sum:08x}")
}

/// Encoders of a stream's rows as lines. Of a stream of changes every line says, as `_change`,
/// whether its row is new, replaces the one of the same key, or deletes it.
/// A header for every file, and rows as comma-separated values.
struct Separated(CsvRows);

impl RowEncoder for Separated {
    fn begin(&mut self, out: &mut Vec<u8>) {
        self.0.header(out);
    }

    fn encode(
        &mut self,
        batch: &thalweg_stream::RecordBatch,
        out: &mut Vec<u8>,
    ) -> Result<(), thalweg_stream::Fault> {
        self.0.write(batch, out)
    }
}

fn separated(schema: &StreamSchema, mut options: WriteOptions, csv: CsvSink) -> EncoderFactory {
    let schema = schema.clone();
    if schema.change_at().is_some() {
        options.include.push(SystemColumn::Change);
    }
    let csv = CsvWriteOptions {
        delimiter: csv.delimiter,
        quote: csv.quote,
        header: csv.header,
    };
    Arc::new(move || {
        let rows = CsvRows::new(&schema, options.clone(), csv)?;
        Ok(Box::new(Separated(rows)) as Box<dyn RowEncoder>)
    })
}

fn encoders(schema: &StreamSchema, mut options: WriteOptions) -> EncoderFactory {
    let schema = schema.clone();
    if schema.change_at().is_some() {
        options.include.push(SystemColumn::Change);
    }
    Arc::new(move || {
        let lines = JsonLines::new(&schema, options.clone())
            .map_err(|error| thalweg_stream::Fault::user(error.to_string()))?;
        let encoder =
            move |batch: &thalweg_stream::RecordBatch, out: &mut Vec<u8>| lines.write(batch, out);
        Ok(Box::new(encoder) as Box<dyn RowEncoder>)
    })
}
