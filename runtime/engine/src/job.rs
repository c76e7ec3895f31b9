//! One attempt to run a job: claim, connect, restore, run, end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_checkpoint::publish::{SinkRecord, StagePlace};
use thalweg_checkpoint::{Manifest, RestoreFrom, Store};
use thalweg_metrics::Metrics;
use thalweg_stream::planted::planted;
use thalweg_stream::sink::{SinkContext, StageStore};
use thalweg_stream::{Clock, Fault};
use tokio::sync::{mpsc, oneshot};

use crate::conductor::Rhythm;
use crate::coordinator::{Command, Coordinator, Lane, Outcome};
use crate::discovery;
use crate::failpoint;
use crate::failure::Failure;
use crate::fit;
use crate::graph::{Graph, Node, SinkNode};
use crate::herald;
use crate::journal::{Allow, Journal, Open};
use crate::limits::Limits;
use crate::mesh::message::{Brief, SinkBrief};
use crate::mesh::{Mesh, Wires};
use crate::meter::Meter;
use crate::publishing::Outlet;
use crate::report::Report;
use crate::shared::Shared;
use crate::splits::Splits;
use crate::stage::MemoryStage;
use crate::status::{NodeStatus, Phase, RestoreStatus, StatusBoard};
use crate::supervisor::Run;
use crate::threads::{self, LEAVE};
use crate::unpublished::Unpublished;
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
        keep: run.keep,
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

/// The attempt from its claim on.
async fn claimed(
    run: &mut Run,
    mut journal: Journal,
    started: Duration,
) -> Result<Outcome, Failure> {
    let (clock, board) = (Arc::clone(&run.clock), run.board.clone());
    let (name, graph) = (Arc::clone(&run.name), Arc::clone(&run.graph));
    let metrics = Arc::clone(&run.metrics);
    let (workers, limits) = (run.workers, run.limits);
    let schedule = run.schedule.clone();
    let restored = journal.restored().cloned();
    let splits = Splits::discover(&graph, restored.as_ref()).await?;
    let names = Arc::clone(splits.register.names());
    let (mut watches, found) = discovery::watch(&graph, &splits.register);
    journal.set_splits(splits.register);
    failpoint::hit(&["restore", "before"]);
    let launch = run.launch.as_deref();
    let mut mesh = tokio::select! {
        biased;
        mesh = Mesh::start(launch, workers, journal.generation()) => mesh?,
        // Other hosts may be long in coming.
        () = stop_asked(&mut run.commands) => {
            journal.end(false).await?;
            board.update(|status| status.phase = Phase::Stopped);
            return Ok(Outcome::Stopped);
        }
    };
    let here = mesh.team().here.clone();
    let mut sections = Vec::with_capacity(workers);
    for worker in here.clone() {
        sections.push(Mutex::new(
            restore(&journal, &graph, worker, workers).await?,
        ));
    }
    failpoint::hit(&["restore", "after"]);
    let first = journal.first_epoch();
    let (report_sender, reports) = mpsc::unbounded_channel::<Report>();
    let shared = Shared::new(
        limits,
        Arc::clone(&clock),
        mesh.team().clone(),
        graph.nodes.len(),
        first,
        Meter::Here(Arc::clone(&metrics)),
        report_sender,
    );
    let shared = shared
        .suspecting(run.suspect.clone())
        .leading(mesh.orders());
    let shared = Arc::new(shared);
    let (news_sender, news) = mpsc::unbounded_channel();
    let mut lanes = BTreeMap::new();
    let mut contexts = BTreeMap::new();
    let mut outlets = tokio::task::JoinSet::new();
    for (at, sink) in graph.sinks() {
        let (lane, context, outlet, units) =
            open_sink(at, sink, &name, &journal, restored.as_ref(), &clock).await?;
        outlets.spawn(outlet.run(units, news_sender.clone()));
        contexts.insert(at, context);
        lanes.insert(at, lane);
    }
    let own = graph.sinks().filter_map(|(_, sink)| {
        let stage = sink.sink.stage_store()?;
        Some((Arc::clone(&sink.name), stage))
    });
    journal.set_stages(own.collect());
    let watermarks = (restored.as_ref()).map(|restored| watermarks(restored, &graph));
    let watermarks = watermarks.unwrap_or_default();
    if mesh.processes() > 1 {
        let brief = Brief {
            process: 0,
            processes: mesh.processes(),
            workers: here.len(),
            job: Arc::clone(&name),
            version: run.version.clone(),
            graph: graph.fingerprint(),
            limits,
            suspect: run.suspect.clone(),
            first,
            starts: splits.starts.clone(),
            tracked: splits.tracked.clone(),
            watermarks: watermarks.clone(),
            sinks: (contexts.iter())
                .map(|(&at, context)| (at, SinkBrief::of(context)))
                .collect(),
        };
        mesh.prepare(&brief).await?;
        for worker in here.end..workers {
            // One after the other: the state of all need not fit in this process.
            let state = restore(&journal, &graph, worker, workers).await?;
            mesh.restore(worker, state).await?;
        }
    }
    let took = clock.elapsed().saturating_sub(started);
    board.update(|status| {
        status.lineage = journal.lineage().to_string();
        status.generation = journal.generation().0;
        status.restored = restored.as_ref().map(|restored| RestoreStatus {
            epoch: restored.epoch.0,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
    });
    if restored.is_some() {
        metrics.set("restore_seconds", &[], took.as_secs_f64());
    }
    if let Some(cause) = journal.restart_cause() {
        metrics.count("restarts_total", &[cause], 1);
    }
    // Whoever drops this run ends its workers, too.
    let _ending = Ending(Arc::clone(&shared));
    let plan = Arc::new(Plan {
        job: Arc::clone(&name),
        graph: Arc::clone(&graph),
        shared: Arc::clone(&shared),
        first,
        starts: splits.starts,
        tracked: splits.tracked,
        watermarks,
        names,
        sinks: contexts,
        restored: sections,
        schedule: schedule.clone(),
    });
    if let Some(schedule) = &schedule {
        schedule.begin(workers);
    }
    let simulated = schedule.is_some();
    let (wires, handles) = Wires::watch(mesh.sockets(), &shared)
        .map_err(|error| Fault::unavailable(format!("the data connections: {error}")))?;
    mesh.begin(&shared).await?;
    journal.ask_for_whole(&shared);
    let (ended, threads) = oneshot::channel();
    std::thread::Builder::new()
        .name("timely".to_owned())
        .spawn(move || {
            threads::execute(&plan, handles);
            // Nobody waits for them if the run has been dropped.
            ended.send(()).ok();
            if let Some(schedule) = schedule {
                schedule.end();
            }
        })
        .map_err(|error| Fault::bug(format!("no thread for the workers: {error}")))?;
    let rhythm = Rhythm {
        epoch_ms: limits.epoch_ms,
        checkpoint_ms: u64::try_from(run.checkpoint_every.as_millis()).unwrap_or(u64::MAX),
        in_flight_max: limits.epochs_in_flight,
        backlog_max: limits.unpublished_max,
    };
    let mut base = restored
        .map(|manifest| manifest.ledgers)
        .unwrap_or_default();
    // What is gone holds nothing any more.
    base.retain(|id, _| graph.nodes.iter().any(|node| **node.identity() == **id));
    let log = journal.handle();
    let (heralds, telling) = herald::start(&graph);
    let mut coordinator = Coordinator::new(
        graph,
        Arc::clone(&shared),
        journal,
        heralds,
        rhythm,
        workers,
        lanes,
        board,
        metrics,
        base,
    );
    if simulated {
        coordinator.unwatched();
    }
    let running = coordinator.run(reports, news, found, &mut run.commands);
    tokio::pin!(running);
    let mut result = loop {
        tokio::select! {
            result = &mut running => break result,
            ended = outlets.join_next(), if !outlets.is_empty() => {
                if let Some(Err(error)) = ended
                    && let Ok(panic) = error.try_into_panic()
                {
                    shared.fail_with(Failure::panicked("a publisher", panic));
                }
            }
        }
    };
    if let Err(fault) = &result {
        shared.fail(fault.clone());
    }
    watches.shutdown().await;
    if result.is_ok() {
        // The last commit is told to the end.
        telling.join_all().await;
    }
    outlets.shutdown().await;
    if let Err(fault) = result {
        result = Err(Journal::abandon(log, fault).await);
    }
    let alone = mesh.processes() == 1;
    match &result {
        Ok(_) => mesh.end(&*clock).await,
        Err(_) => wires.end(),
    }
    let bounded = !simulated && (result.is_err() || !alone);
    let left = tokio::select! {
        left = threads => Some(left),
        () = clock.sleep(LEAVE), if bounded => None,
    };
    // What timely still waits for comes back.
    wires.end();
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

/// Ends the workers of an attempt when it is dropped; those that have ended do not notice.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.fail(Fault::unavailable("the run has been dropped"));
    }
}

/// The sources' watermarks of a checkpoint, by node.
fn watermarks(manifest: &Manifest, graph: &Graph) -> BTreeMap<usize, i64> {
    let of = |name: &str| {
        manifest
            .sources
            .get(name)
            .map(|source| source.progress.watermark)
    };
    graph
        .sources()
        .filter_map(|(at, source)| Some((at, of(&source.name)?)))
        .collect()
}

/// The state of a worker: that of the key groups it owns.
async fn restore(
    journal: &Journal,
    graph: &Graph,
    worker: usize,
    workers: usize,
) -> Result<BTreeMap<Arc<str>, Vec<thalweg_stream::Section>>, Fault> {
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

type Opened = (
    Lane,
    SinkContext,
    Outlet,
    mpsc::UnboundedReceiver<thalweg_stream::sink::Released<thalweg_stream::sink::PublishUnit>>,
);

async fn open_sink(
    at: usize,
    node: &SinkNode,
    job: &Arc<str>,
    journal: &Journal,
    restored: Option<&Manifest>,
    clock: &Arc<dyn Clock>,
) -> Result<Opened, Fault> {
    let capabilities = node.sink.capabilities();
    let own = node.sink.stage_store();
    let place = if own.is_some() {
        StagePlace::Own
    } else {
        StagePlace::Outbox
    };
    let record = restored
        .and_then(|restored| restored.sinks.get(&*node.name))
        .filter(|record| fit::goes_on(record, node))
        .cloned();
    let mut record = record.unwrap_or_else(|| SinkRecord::new(place));
    record.destination = node.destination.to_string();
    let unpublished = Unpublished::new(capabilities.grouping, journal.lineage().clone(), record);
    let context = SinkContext {
        job: Arc::clone(job),
        sink: Arc::clone(&node.name),
        lineage: journal.lineage().clone(),
        generation: journal.generation(),
        clock: Arc::clone(clock),
        state: unpublished.state().clone(),
    };
    let publisher = node.sink.publisher(context.clone()).await;
    let publisher: Arc<dyn thalweg_stream::Publisher> = publisher
        .map_err(|fault| fault.within(format_args!("sink \"{}\"", node.name)))?
        .into();
    let outbox: Arc<dyn StageStore> = own.unwrap_or_else(|| journal.outbox());
    let memory = Arc::new(MemoryStage::default());
    let stage: Arc<dyn StageStore> = match node.delivery {
        crate::graph::Delivery::ExactlyOnce => Arc::clone(&outbox),
        crate::graph::Delivery::AtLeastOnce => Arc::clone(&memory) as Arc<dyn StageStore>,
    };
    let outlet = Outlet {
        sink: at,
        name: Arc::clone(&node.name),
        ordered: capabilities.ordered,
        publisher: Arc::clone(&publisher),
        stage,
        clock: Arc::clone(clock),
    };
    let (sender, units) = mpsc::unbounded_channel();
    let lane = Lane {
        name: Arc::clone(&node.name),
        delivery: node.delivery,
        unpublished,
        units: sender,
        publisher,
        outbox,
        memory,
        flushing: BTreeMap::new(),
        published_rows: 0,
        released: BTreeMap::new(),
        sequence: BTreeMap::new(),
    };
    Ok((lane, context, outlet, units))
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
        ledger: thalweg_stream::Ledger::default(),
        splits: Vec::new(),
        rows_in: 0,
        rows_out: 0,
        rows_in_per_second: 0.0,
        rows_out_per_second: 0.0,
        unpublished: sink.then_some(0),
        published_rows: sink.then_some(0),
    }
}
