//! One attempt to run a job: claim, connect, restore, run, end.

mod sinks;
mod workers;

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_checkpoint::{Manifest, RestoreFrom, Retention, Store};
use thalweg_metrics::Metrics;
use thalweg_stream::planted::planted;
use thalweg_stream::{Clock, Fault, Generation, Ledger, Section};
use tokio::sync::mpsc;
use tokio::sync::oneshot::error::RecvError;
use tokio::task::JoinSet;

use self::sinks::{Sinks, own_stages};
use self::workers::{Ending, Workers, prepare_followers};
use crate::conductor::Rhythm;
use crate::coordinator::{Command, Coordinator, Outcome};
use crate::discovery;
use crate::failpoint;
use crate::failure::Failure;
use crate::graph::{Graph, Node};
use crate::herald;
use crate::journal::{Allow, Journal, Open};
use crate::limits::Limits;
use crate::mesh::Mesh;
use crate::meter::Meter;
use crate::report::Report;
use crate::shared::Shared;
use crate::splits::Splits;
use crate::status::{NodeStatus, Phase, RestoreStatus, StatusBoard};
use crate::supervisor::Run;
use crate::worker::{Plan, groups};

/// A job to run.
pub struct Job {
    /// Its name.
    pub name: Arc<str>,
    /// Its dataflow.
    pub graph: Graph,
    /// Worker threads of each process, 1 to 256 in all.
    pub workers: usize,
    /// How often it takes a checkpoint.
    pub checkpoint_every: Duration,
    /// How many checkpoints are kept.
    pub keep: u32,
    /// Its limits.
    pub limits: Limits,
    /// A fingerprint of the definition.
    pub version: String,
    /// Which checkpoint to start from.
    pub from: RestoreFrom,
    /// Whether to fence a process that still runs the job.
    pub take_over: bool,
    /// What it may do besides.
    pub allow: Allow,
}

/// What a job is run with.
pub struct Surroundings {
    /// Where its checkpoints are.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What people ask of it.
    pub commands: mpsc::Receiver<Command>,
    /// Where it tells how it is.
    pub board: StatusBoard,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
}

/// One attempt; what it has claimed is noted in `run`.
pub(crate) async fn attempt(run: &mut Run) -> Result<Outcome, Failure> {
    let (clock, board) = (Arc::clone(&run.clock), run.board.clone());
    let (name, graph) = (Arc::clone(&run.name), Arc::clone(&run.graph));
    let started = clock.elapsed();
    board.update(|status| {
        status.phase = Phase::Starting;
        status.job = name.to_string();
        status.workers = run.workers;
        status.nodes = graph.nodes.iter().map(node_status).collect();
    });
    let open = Open {
        job: name,
        version: run.version.clone(),
        from: run.from,
        take_over: run.take_over,
        allow: run.allow,
        again: run.claimed.zip(run.cause),
        retention: Retention {
            keep: run.keep,
            snapshot_every: run.limits.log_entries_max,
            fenced_max: run.limits.log_fences_max,
        },
        workers: run.workers,
    };
    failpoint::hit(&["claim", "before"]);
    let (store, identity) = (run.store.clone(), run.identity.clone());
    let Some(journal) = Journal::open(store, open, graph, clock, identity).await? else {
        board.update(|status| status.phase = Phase::Finished);
        return Ok(Outcome::AlreadyFinished);
    };
    failpoint::hit(&["claim", "after"]);
    run.claimed = Some(journal.generation());
    let log = journal.handle();
    let ended = Box::pin(claimed(run, journal, started)).await;
    match ended {
        Ok(outcome) => Ok(outcome),
        Err(failure) => {
            // What fails while it starts may be a successor's doing, too.
            let fault = Journal::abandon(log, failure.fault.clone()).await;
            match fault == failure.fault {
                true => Err(failure),
                false => Err(fault.into()),
            }
        }
    }
}

/// The attempt from its claim on: starts all that works for the job, has the coordinator drive it to
/// its end, and ends the rest.
///
/// # Cancel safety
/// May be dropped at any point. What is held here goes in the reverse of the order in which it came.
async fn claimed(
    run: &mut Run,
    mut journal: Journal,
    started: Duration,
) -> Result<Outcome, Failure> {
    let (clock, graph) = (Arc::clone(&run.clock), Arc::clone(&run.graph));

    // Sources tell what there is to read, and what comes later.
    let splits = Splits::discover(&graph, journal.restored()).await?;
    let names = Arc::clone(splits.register.names());
    let (mut watches, found) = discovery::watch(&graph, &splits.register);
    journal.set_splits(splits.register);

    // The other processes are there, and the state of the workers of this one.
    failpoint::hit(&["restore", "before"]);
    let Some(mut mesh) = connect(run, journal.generation()).await? else {
        journal.end(false).await?;
        run.board.update(|status| status.phase = Phase::Stopped);
        return Ok(Outcome::Stopped);
    };
    let restored = restore_here(&journal, &graph, &mesh, run.workers).await?;
    failpoint::hit(&["restore", "after"]);

    // All that workers need, here and in the other processes.
    let (shared, reports) = share(run, &journal, &mesh);
    // What sinks do from here on is seen outside: not by a start that was frozen until now.
    journal.check_owner().await?;
    let mut sinks = Sinks::open(run, &journal).await?;
    journal.set_stages(own_stages(&graph));
    let plan = Plan {
        job: Arc::clone(&run.name),
        graph: Arc::clone(&graph),
        shared: Arc::clone(&shared),
        first: journal.first_epoch(),
        starts: splits.starts,
        tracked: splits.tracked,
        watermarks: watermarks(journal.restored(), &graph),
        names,
        sinks: sinks.contexts,
        restored,
        schedule: run.schedule.clone(),
    };
    prepare_followers(&mut mesh, run, &journal, &plan).await?;
    tell_of_start(run, &journal, started);

    // Workers begin. Whoever drops this run ends them, too.
    let _ending = Ending(Arc::clone(&shared));
    let mut workers = Workers::start(plan, &mut mesh, &mut journal).await?;

    // The coordinator drives them to the end.
    let log = journal.handle();
    let base = base_ledgers(&journal, &graph);
    let (heralds, telling) = herald::start(&graph);
    let mut coordinator = Coordinator::new(
        graph,
        Arc::clone(&shared),
        journal,
        heralds,
        rhythm(run),
        run.workers,
        sinks.lanes,
        run.board.clone(),
        Arc::clone(&run.metrics),
        base,
    );
    let simulated = run.schedule.is_some();
    if simulated {
        coordinator.unwatched();
    }
    let running = pin!(coordinator.run(reports, sinks.news, found, &mut run.commands));
    let mut result = drive(running, &mut sinks.publishing, &shared).await;

    // Everybody else leaves.
    if let Err(fault) = &result {
        shared.fail(fault.clone());
    }
    watches.shutdown().await;
    if result.is_ok() {
        // The last commit is told to the end.
        telling.join_all().await;
    }
    sinks.publishing.shutdown().await;
    if let Err(fault) = result {
        result = Err(Journal::abandon(log, fault).await);
    }
    match &result {
        Ok(_) => mesh.end(&*clock).await,
        Err(_) => workers.wires.end(),
    }
    let bounded = !simulated && (result.is_err() || mesh.processes() > 1);
    let left = workers.leave(bounded, &*clock).await;
    conclude(result, left, &shared)
}

/// Starts the other processes, if there are any; nothing if somebody asks for a stop meanwhile.
async fn connect(run: &mut Run, generation: Generation) -> Result<Option<Mesh>, Failure> {
    let launch = run.launch.as_deref();
    tokio::select! {
        biased;
        mesh = Mesh::start(launch, run.workers, generation) => mesh.map(Some),
        // Other hosts may be long in coming.
        () = stop_asked(&mut run.commands) => Ok(None),
    }
}

/// Waits until somebody asks for a stop; there is nothing to save yet that is not saved.
async fn stop_asked(commands: &mut mpsc::Receiver<Command>) {
    loop {
        match commands.recv().await {
            Some(Command::Stop) => return,
            Some(Command::Savepoint(_)) => {}
            None => std::future::pending().await,
        }
    }
}

/// State of a worker, by step.
type State = BTreeMap<Arc<str>, Vec<Section>>;

/// The state of the workers of this process.
async fn restore_here(
    journal: &Journal,
    graph: &Graph,
    mesh: &Mesh,
    workers: usize,
) -> Result<Vec<Mutex<State>>, Fault> {
    let mut states = Vec::with_capacity(workers);
    for worker in mesh.team().here.clone() {
        let state = restore(journal, graph, worker, workers).await?;
        states.push(Mutex::new(state));
    }
    Ok(states)
}

/// The state of a worker: that of the key groups it owns.
async fn restore(
    journal: &Journal,
    graph: &Graph,
    worker: usize,
    workers: usize,
) -> Result<State, Fault> {
    let ids: Vec<Arc<str>> = graph
        .steps()
        .map(|(_, step)| Arc::clone(&step.id))
        .collect();
    let worker = match planted("restore-wrong-groups") {
        true => (worker + 1) % workers,
        false => worker,
    };
    journal.read_state(&ids, groups(worker, workers)).await
}

/// What all parts of this process share, and where they report.
fn share(
    run: &Run,
    journal: &Journal,
    mesh: &Mesh,
) -> (Arc<Shared>, mpsc::UnboundedReceiver<Report>) {
    let (sender, reports) = mpsc::unbounded_channel();
    let shared = Shared::new(
        run.limits,
        Arc::clone(&run.clock),
        mesh.team().clone(),
        run.graph.nodes.len(),
        journal.first_epoch(),
        Meter::Here(Arc::clone(&run.metrics)),
        sender,
    );
    let shared = shared
        .suspecting(run.suspect.clone())
        .leading(mesh.orders());
    (Arc::new(shared), reports)
}

/// The sources' watermarks of a checkpoint, if there is one, by node.
fn watermarks(restored: Option<&Manifest>, graph: &Graph) -> BTreeMap<usize, i64> {
    let of = |name: &str| {
        let source = restored?.sources.get(name)?;
        Some(source.progress.watermark)
    };
    graph
        .sources()
        .filter_map(|(at, source)| Some((at, of(&source.name)?)))
        .collect()
}

/// Tells people from where the job goes on, and why.
fn tell_of_start(run: &Run, journal: &Journal, started: Duration) {
    let took = run.clock.elapsed().saturating_sub(started);
    let restored = journal.restored();
    run.board.update(|status| {
        status.lineage = journal.lineage().to_string();
        status.generation = journal.generation().0;
        status.restored = restored.map(|restored| RestoreStatus {
            epoch: restored.epoch.0,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
    });
    if restored.is_some() {
        (run.metrics).set("restore_seconds", &[], took.as_secs_f64());
    }
    if let Some(cause) = journal.restart_cause() {
        run.metrics.count("restarts_total", &[cause], 1);
    }
}

fn rhythm(run: &Run) -> Rhythm {
    Rhythm {
        epoch_ms: run.limits.epoch_ms,
        checkpoint_ms: u64::try_from(run.checkpoint_every.as_millis()).unwrap_or(u64::MAX),
        in_flight_max: run.limits.epochs_in_flight,
        backlog_max: run.limits.unpublished_max,
    }
}

/// Ledgers of the checkpoint that the attempt begins from, of what is still there: what is gone holds
/// nothing any more.
fn base_ledgers(journal: &Journal, graph: &Graph) -> BTreeMap<String, Ledger> {
    let restored = journal.restored();
    let mut base = restored.map_or_else(BTreeMap::new, |manifest| manifest.ledgers.clone());
    base.retain(|id, _| graph.nodes.iter().any(|node| **node.identity() == **id));
    base
}

/// Runs the coordinator to its end. A publisher that panics ends the attempt.
async fn drive(
    mut running: Pin<&mut impl Future<Output = Result<Outcome, Fault>>>,
    publishing: &mut JoinSet<()>,
    shared: &Shared,
) -> Result<Outcome, Fault> {
    loop {
        tokio::select! {
            result = &mut running => return result,
            ended = publishing.join_next(), if !publishing.is_empty() => {
                if let Some(Err(error)) = ended
                    && let Ok(panic) = error.try_into_panic()
                {
                    shared.fail_with(Failure::panicked("a publisher", panic));
                }
            }
        }
    }
}

/// How the attempt has ended, by what the coordinator says and whether the workers have `left`.
fn conclude(
    result: Result<Outcome, Fault>,
    left: Option<Result<(), RecvError>>,
    shared: &Shared,
) -> Result<Outcome, Failure> {
    match (result, left) {
        (Ok(_), Some(Err(_))) => Err(Fault::bug("the workers' thread has panicked").into()),
        (Ok(outcome), _) => Ok(outcome),
        (Err(fault), left) => {
            if left.is_none() {
                tracing::error!("a worker that is stuck is left behind");
            }
            let failure = shared.failure().filter(|failure| failure.fault == fault);
            Err(failure.unwrap_or_else(|| fault.into()))
        }
    }
}

fn node_status(node: &Node) -> NodeStatus {
    let (kind, sink) = match node {
        Node::Source(_) => ("source", false),
        Node::Step(_) => ("step", false),
        Node::Sink(_) => ("sink", true),
    };
    NodeStatus {
        name: node.name().to_string(),
        kind,
        watermark_ms: None,
        idle: false,
        finished: false,
        ledger: Ledger::default(),
        splits: Vec::new(),
        rows_in: 0,
        rows_out: 0,
        rows_in_per_second: 0.0,
        rows_out_per_second: 0.0,
        unpublished: sink.then_some(0),
        published_rows: sink.then_some(0),
    }
}
