//! The sinks of an attempt: what the coordinator and the workers need of each, and the tasks that
//! publish.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_checkpoint::publish::{SinkRecord, StagePlace};
use thalweg_stream::sink::{PublishUnit, Released, SinkContext, StageStore};
use thalweg_stream::{Fault, Publisher};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::coordinator::Lane;
use crate::fit;
use crate::graph::{Delivery, Graph, SinkNode};
use crate::journal::{Journal, OwnStage};
use crate::publishing::{News, Outlet};
use crate::stage::MemoryStage;
use crate::supervisor::Run;
use crate::unpublished::Unpublished;

/// All sinks of an attempt, opened.
pub(super) struct Sinks {
    /// One task a sink, which publishes what its lane is given.
    pub(super) publishing: JoinSet<()>,
    /// What workers are told of each, by node.
    pub(super) contexts: BTreeMap<usize, SinkContext>,
    /// What the coordinator has of each, by node.
    pub(super) lanes: BTreeMap<usize, Lane>,
    /// What has been published.
    pub(super) news: mpsc::UnboundedReceiver<News>,
    /// Keeps `news` open when all tasks have ended.
    told: mpsc::UnboundedSender<News>,
}

impl Sinks {
    /// Opens the publishers, one after the other, and starts their tasks.
    ///
    /// # Errors
    /// The sinks', with their names.
    pub(super) async fn open(run: &Run, journal: &Journal) -> Result<Self, Fault> {
        let (told, news) = mpsc::unbounded_channel();
        let mut sinks = Self {
            publishing: JoinSet::new(),
            contexts: BTreeMap::new(),
            lanes: BTreeMap::new(),
            news,
            told,
        };
        for (at, node) in run.graph.sinks() {
            let (lane, context, outlet, units) = open_sink(at, node, run, journal).await?;
            let published = outlet.run(units, sinks.told.clone());
            sinks.publishing.spawn(published);
            sinks.contexts.insert(at, context);
            sinks.lanes.insert(at, lane);
        }
        Ok(sinks)
    }
}

/// The sinks whose staged output lies in places of their own.
pub(super) fn own_stages(graph: &Graph) -> Vec<OwnStage> {
    let own = graph.sinks().filter_map(|(_, node)| {
        let stage = node.sink.stage_store()?;
        Some((Arc::clone(&node.name), stage))
    });
    own.collect()
}

/// A sink's lane, context and outlet, and the units that the outlet takes from the lane.
type Opened = (
    Lane,
    SinkContext,
    Outlet,
    mpsc::UnboundedReceiver<Released<PublishUnit>>,
);

async fn open_sink(
    at: usize,
    node: &SinkNode,
    run: &Run,
    journal: &Journal,
) -> Result<Opened, Fault> {
    let capabilities = node.sink.capabilities();
    let own = node.sink.stage_store();
    let place = if own.is_some() {
        StagePlace::Own
    } else {
        StagePlace::Outbox
    };
    let record = journal
        .restored()
        .and_then(|restored| restored.sinks.get(&*node.name))
        .filter(|record| fit::goes_on(record, node))
        .cloned();
    let mut record = record.unwrap_or_else(|| SinkRecord::new(place));
    record.destination = node.destination.to_string();
    let unpublished = Unpublished::new(capabilities.grouping, journal.lineage().clone(), record);

    let context = SinkContext {
        job: Arc::clone(&run.name),
        sink: Arc::clone(&node.name),
        lineage: journal.lineage().clone(),
        generation: journal.generation(),
        clock: Arc::clone(&run.clock),
        state: unpublished.state().clone(),
    };
    let publisher = node.sink.publisher(context.clone()).await;
    let publisher: Arc<dyn Publisher> = publisher
        .map_err(|fault| fault.within(format_args!("sink \"{}\"", node.name)))?
        .into();

    let outbox: Arc<dyn StageStore> = own.unwrap_or_else(|| journal.outbox());
    let memory = Arc::new(MemoryStage::default());
    let stage: Arc<dyn StageStore> = match node.delivery {
        Delivery::ExactlyOnce => Arc::clone(&outbox),
        Delivery::AtLeastOnce => Arc::clone(&memory) as Arc<dyn StageStore>,
    };
    let outlet = Outlet {
        sink: at,
        name: Arc::clone(&node.name),
        ordered: capabilities.ordered,
        publisher: Arc::clone(&publisher),
        stage,
        clock: Arc::clone(&run.clock),
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
