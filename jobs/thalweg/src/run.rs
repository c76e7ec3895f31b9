//! `thalweg run`, `validate` and `graph`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_checkpoint::{Access, RestoreFrom, Store};
use thalweg_definition::{Definition, Diagnostics, Environment, LoadOptions, load};
use thalweg_engine::{Command, Graph, Job, Limits, Node, Outcome, StatusBoard, Surroundings};
use thalweg_metrics::Metrics;
use thalweg_planner::plan;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Clock, Epoch, Fault};
use tokio::sync::mpsc;

use crate::command::{DefinitionArguments, GraphArguments, GraphFormat, RunArguments};
use crate::http::{self, Served};
use crate::{Failure, progress};

struct Planned {
    definition: Definition,
    graph: Graph,
    /// A hash of the text and the overrides.
    version: String,
}

pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let from = start(&arguments.from)?;
    let planned = planned(&arguments.definition, &clock)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Fault(Fault::bug(format!("no runtime: {error}"))))?;
    let store = open(&planned.definition)?;
    let metrics = Metrics::new(&planned.definition.job);
    let metrics = Arc::new(metrics.map_err(|error| Fault::bug(error.to_string()))?);
    let board = StatusBoard::default();
    let (commands, receiver) = mpsc::channel(4);
    let job = Job {
        name: Arc::from(planned.definition.job.as_str()),
        graph: planned.graph,
        workers: usize::from(arguments.workers),
        checkpoint_every: Duration::from_millis(planned.definition.settings.checkpoint.every_ms),
        keep: planned.definition.settings.checkpoint.keep,
        limits: Limits::default(),
        version: planned.version,
        from,
        take_over: arguments.take_over,
    };
    let surroundings = Surroundings {
        store,
        clock: Arc::clone(&clock),
        commands: receiver,
        board: board.clone(),
        metrics: Arc::clone(&metrics),
    };
    let outcome = runtime.block_on(async {
        if let Some(address) = arguments.listen {
            let bound = http::serve(
                address,
                Served {
                    board: board.clone(),
                    metrics,
                },
            )
            .await?;
            say(&format!("listening on http://{bound}"));
        }
        tokio::select! {
            outcome = thalweg_engine::run(job, surroundings) => outcome,
            fault = signals(commands) => Err(fault),
            () = progress::draw(board.clone()) => Err(Fault::bug("the progress line has ended")),
        }
    });
    // A second signal must not wait for what is still being written.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let outcome = outcome?;
    tell(arguments, &board, outcome, clock.elapsed());
    Ok(())
}

/// The first signal asks for a stop, the second ends the run at once.
async fn signals(commands: mpsc::Sender<Command>) -> Fault {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = || {
        Ok::<_, std::io::Error>((
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ))
    };
    let (mut interrupt, mut terminate) = match listen() {
        Ok(signals) => signals,
        Err(error) => return Fault::bug(format!("no signals: {error}")),
    };
    for _ in 0..2 {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // A run that no longer listens is ending.
        commands.try_send(Command::Stop).ok();
    }
    Fault::unavailable("ended at once by a second signal; run the job again to resume")
}

#[allow(clippy::print_stdout, reason = "the result of a command")]
fn tell(arguments: &RunArguments, board: &StatusBoard, outcome: Outcome, took: Duration) {
    let status = board.read();
    if arguments.definition.json {
        println!(
            "{}",
            serde_json::json!({ "outcome": format!("{outcome:?}").to_lowercase(), "status": status })
        );
    } else {
        say(&progress::summary(&status, outcome, took));
    }
}

#[allow(clippy::print_stderr, reason = "words to the person at the terminal")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn start(from: &str) -> Result<RestoreFrom, Failure> {
    match from {
        "latest" => Ok(RestoreFrom::Latest),
        "none" => Ok(RestoreFrom::Nothing),
        epoch => match epoch.parse() {
            Ok(epoch) => Ok(RestoreFrom::Epoch(Epoch(epoch))),
            Err(_) => Err(Failure::User(format!(
                "--from is latest, an epoch or none, not {epoch}"
            ))),
        },
    }
}

fn open(definition: &Definition) -> Result<Store, Failure> {
    let to = &definition.settings.checkpoint.to;
    let location = match to.contains("://") {
        true => to.clone(),
        false => definition.folder.join(to).display().to_string(),
    };
    Ok(Store::open(&location, Access::Create).map_err(Fault::from)?)
}

#[allow(clippy::print_stdout, reason = "the result of a command")]
pub(crate) fn validate(arguments: &DefinitionArguments) -> Result<(), Failure> {
    let planned = planned(arguments, &(Arc::new(SystemClock::new()) as Arc<dyn Clock>))?;
    if arguments.json {
        println!(
            "{}",
            serde_json::json!({ "job": planned.definition.job, "valid": true })
        );
    } else {
        println!("{}: valid", planned.definition.job);
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the result of a command")]
pub(crate) fn graph(arguments: &GraphArguments) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let graph = planned(&arguments.definition, &clock)?.graph;
    let name = |at: usize| {
        graph
            .nodes
            .get(at)
            .map(|node| node.name().to_string())
            .unwrap_or_default()
    };
    let edges: Vec<(String, String)> = (graph.nodes.iter())
        .flat_map(|node| {
            let inputs: Vec<usize> = match node {
                Node::Source(_) => Vec::new(),
                Node::Step(step) => step.inputs.iter().flatten().map(|edge| edge.node).collect(),
                Node::Sink(sink) => sink.input.iter().map(|edge| edge.node).collect(),
            };
            inputs
                .into_iter()
                .map(|from| (name(from), node.name().to_string()))
                .collect::<Vec<_>>()
        })
        .collect();
    match arguments.format {
        GraphFormat::Mermaid => {
            println!("flowchart LR");
            edges
                .iter()
                .for_each(|(from, to)| println!("    {from} --> {to}"));
        }
        GraphFormat::Dot => {
            println!("digraph job {{\n    rankdir=LR;");
            edges
                .iter()
                .for_each(|(from, to)| println!("    \"{from}\" -> \"{to}\";"));
            println!("}}");
        }
        GraphFormat::Json => {
            let nodes: Vec<String> = graph
                .nodes
                .iter()
                .map(|node| node.name().to_string())
                .collect();
            println!("{}", serde_json::json!({ "nodes": nodes, "edges": edges }));
        }
    }
    Ok(())
}

fn planned(arguments: &DefinitionArguments, clock: &Arc<dyn Clock>) -> Result<Planned, Failure> {
    let path = &arguments.job;
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::User(format!("{}: {error}", path.display())))?;
    let name = path.display().to_string();
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut set = Vec::new();
    for pair in &arguments.set {
        let (field, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::User(format!("--set {pair}: it has the form path=value")))?;
        set.push((field.to_owned(), value.to_owned()));
    }
    let hash = thalweg_stream::key::hash(format!("{text}\0{set:?}").as_bytes());
    let wrong = |found: &Diagnostics| match arguments.json {
        true => Failure::Definition(serde_json::json!(found).to_string() + "\n"),
        false => Failure::Definition(found.render(color())),
    };
    let options = LoadOptions {
        set,
        resolver: &Environment,
    };
    let definition =
        load(&text, &name, folder.unwrap_or(Path::new(".")), &options).map_err(|f| wrong(&f))?;
    let output = Arc::new(Mutex::new(std::io::stdout()));
    let around = thalweg_planner::Surroundings {
        clock: Arc::clone(clock),
        output,
    };
    let graph = plan(&definition, &around)
        .map_err(|found| wrong(&Diagnostics::new(&name, &text, found)))?;
    Ok(Planned {
        definition,
        graph,
        version: format!("{hash:016x}"),
    })
}

fn color() -> bool {
    use std::io::IsTerminal as _;
    std::env::var_os("NO_COLOR").is_none() && std::io::stderr().is_terminal()
}
