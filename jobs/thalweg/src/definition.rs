//! From the file of a definition to a plan, or to everything that is wrong with it;
//! `thalweg validate` and `thalweg schema`.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use thalweg_checkpoint::{Access, Store};
use thalweg_definition::{Definition, Diagnostics, Environment, LoadOptions, SCHEMA, check};
use thalweg_engine::{Graph, Node};
use thalweg_planner::plan;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::sink::SinkContext;
use thalweg_stream::{Clock, Fault, Generation, Lineage};

use crate::Failure;
use crate::command::{DefinitionArguments, ValidateArguments};
use crate::runtime::runtime;
use crate::terminal;

/// A definition and its dataflow.
pub(crate) struct Planned {
    pub(crate) definition: Definition,
    pub(crate) graph: Graph,
    /// A hash of the text and the overrides.
    pub(crate) version: String,
    /// Warnings at most.
    pub(crate) warnings: Diagnostics,
}

impl Planned {
    /// Says what is not as it should be.
    pub(crate) fn warn(&self) {
        if !self.warnings.found.is_empty() {
            terminal::say(&self.warnings.render(terminal::color()));
        }
    }
}

/// Reads, checks and plans; the errors of the definition and of the plan come in one go.
pub(crate) fn planned(
    arguments: &DefinitionArguments,
    clock: &Arc<dyn Clock>,
) -> Result<Planned, Failure> {
    let text = read(&arguments.job)?;
    planned_text(&arguments.job, &text, &arguments.set, arguments.json, clock)
}

/// The text of a definition.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    thalweg_definition::read_text(path)
        .map_err(|error| Failure::User(format!("{}: {error}", path.display())))
}

/// The same of a text that has been read from `path`, with the values of `--set`.
pub(crate) fn planned_text(
    path: &Path,
    text: &str,
    values: &[String],
    json: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Planned, Failure> {
    let name = path.display().to_string();
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut set = Vec::new();
    for pair in values {
        let (field, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::User(format!("--set {pair}: it has the form path=value")))?;
        set.push((field.to_owned(), value.to_owned()));
    }
    let overrides = format!("{set:?}");
    let options = LoadOptions {
        set,
        resolver: &Environment,
    };
    let checked = check(text, &name, folder.unwrap_or(Path::new(".")), &options);
    let document = checked.document;
    terminal::keep(document.secrets());
    // Credentials are no part of the version: it stands in checkpoints, and they are renewed.
    let said = format!("{}\0{}", document.text(), terminal::redact(&overrides));
    let version = format!("{:016x}", thalweg_stream::key::hash(said.as_bytes()));
    let mut found = checked.found;
    let mut graph = None;
    if let Some(definition) = &checked.definition {
        let around = thalweg_planner::Surroundings {
            clock: Arc::clone(clock),
            output: Arc::new(Mutex::new(std::io::stdout())),
            compile: crate::plugin::compile()?,
        };
        match plan(definition, &around) {
            Ok(mut planned) => {
                // Where sinks write stands in checkpoints.
                for node in &mut planned.nodes {
                    if let thalweg_engine::Node::Sink(sink) = node {
                        sink.destination = terminal::redact(&sink.destination).into();
                    }
                }
                graph = Some(planned);
            }
            Err(mut more) => found.append(&mut more),
        }
    }
    let diagnostics = document.diagnostics(found);
    match (checked.definition, graph) {
        (Some(definition), Some(graph)) if diagnostics.only_warnings() => Ok(Planned {
            definition,
            graph,
            version,
            warnings: diagnostics,
        }),
        _ if json => Err(Failure::Result(json!(diagnostics).to_string())),
        _ => Err(Failure::Definition(diagnostics.render(terminal::color()))),
    }
}

pub(crate) fn validate(arguments: &ValidateArguments) -> Result<(), Failure> {
    let clock = Arc::new(SystemClock::new()) as Arc<dyn Clock>;
    let planned = planned(&arguments.definition, &clock)?;
    let reached = match arguments.connect {
        true => connect(&planned, &clock)?,
        false => Vec::new(),
    };
    let job = &planned.definition.job;
    if arguments.definition.json {
        let connections: Vec<_> = (reached.iter())
            .map(|(name, fault)| json!({ "name": name, "error": fault.as_ref().map(ToString::to_string) }))
            .collect();
        let mut result = json!({ "job": job, "valid": true, "found": planned.warnings.found });
        if arguments.connect {
            result["connections"] = json!(connections);
        }
        terminal::print(&format!("{result}\n"))?;
    } else {
        planned.warn();
        let mut text = format!("{job}: valid\n");
        for (name, fault) in &reached {
            text += &match fault {
                None => format!("  {name}: reached\n"),
                Some(fault) => format!("  {name}: {fault}\n"),
            };
        }
        terminal::print(&text)?;
    }
    let failed = reached.iter().filter(|(_, fault)| fault.is_some()).count();
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Fault(Fault::unavailable(format!(
            "{failed} of {} connections failed",
            reached.len()
        )))),
    }
}

/// Tries every source, every sink that writes to a service, and the store of checkpoints. Nothing
/// is read or written.
fn connect(
    planned: &Planned,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<(String, Option<Fault>)>, Failure> {
    let runtime = runtime(1)?;
    let mut reached = Vec::new();
    for (at, node) in planned.graph.nodes.iter().enumerate() {
        let tried = match node {
            Node::Source(source) => {
                let found = runtime.block_on(source.source.discover(&[]));
                Some(found.map(drop).map_err(|fault| fault.within("source")))
            }
            // A folder on this machine is made when the job starts.
            Node::Sink(sink) if sink.sink.stage_store().is_some() => None,
            Node::Sink(sink) if at != planned.graph.dead_letters => {
                let context = SinkContext {
                    job: planned.definition.job.as_str().into(),
                    sink: Arc::clone(&sink.name),
                    lineage: Lineage("validate".to_owned()),
                    generation: Generation::default(),
                    clock: Arc::clone(clock),
                    state: serde_json::Value::Null,
                };
                let publisher = runtime.block_on(sink.sink.publisher(context));
                Some(publisher.map(drop).map_err(|fault| fault.within("sink")))
            }
            Node::Sink(_) | Node::Step(_) => None,
        };
        reached.extend(tried.map(|tried| (node.name().to_string(), tried.err())));
    }
    let location = store_location(&planned.definition);
    let path = Path::new(&location);
    if !location.contains("://") && path.exists() {
        let opened = Store::open(&location, Access::Existing).map_err(Fault::from);
        reached.push(("checkpoints".to_owned(), opened.err()));
    }
    runtime.shutdown_background();
    Ok(reached)
}

/// Where the checkpoints of a job are.
pub(crate) fn store_location(definition: &Definition) -> String {
    let to = &definition.settings.checkpoint.to;
    match to.contains("://") {
        true => to.clone(),
        false => definition.folder.join(to).display().to_string(),
    }
}

pub(crate) fn schema() -> Result<(), Failure> {
    Ok(terminal::print(SCHEMA)?)
}
