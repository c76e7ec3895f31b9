//! Compaction while the job runs: chains that have become long or heavy are merged in the
//! background, and the next manifest names the result.
//!
//! A key group is merged by its step: an operator of that group alone takes its sections back and
//! is frozen whole, as at a restart. That is right for every step there is and ever will be, as a
//! restart has to be, and needs no second implementation that knows what sections mean. It takes no
//! more than half of a core, and no thread of a worker.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use thalweg_checkpoint::state::{Compacted, Compaction, Merge};
use thalweg_checkpoint::{InUse, StateChains, Store};
use thalweg_stream::{BuildContext, Class, Clock, Epoch, Fault, Generation, KeyGroup, Section};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinHandle, unconstrained};

use crate::failpoint;
use crate::graph::{Graph, StepNode};
use crate::shared::Shared;

/// Bytes that an operator hands out at once.
const DRAIN_BYTES: usize = 1 << 20;

/// The compactions of a run, one at a time.
pub(crate) struct Compactor {
    graph: Arc<Graph>,
    store: Store,
    in_use: InUse,
    state: State,
    /// Steps whose objects could not be merged, or have another shape than the step: the workers are
    /// to write them whole.
    whole: BTreeSet<Arc<str>>,
}

enum State {
    Idle,
    Running(Running),
    /// Waits for a manifest that names it.
    Done(Compacted),
}

/// A compaction at work. It ends with whoever has begun it.
struct Running {
    steps: Vec<Arc<str>>,
    task: JoinHandle<Result<Compacted, Fault>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Compactor {
    /// `migrated` are the steps whose state had another shape.
    pub(crate) fn new(graph: Arc<Graph>, store: Store, migrated: BTreeSet<Arc<str>>) -> Self {
        Self {
            graph,
            store,
            in_use: InUse::default(),
            state: State::Idle,
            whole: migrated,
        }
    }

    /// What compaction uses and no manifest may name.
    pub(crate) fn in_use(&self) -> InUse {
        self.in_use.clone()
    }

    /// The chains that the next manifest goes on from, and whether they name what was compacted.
    pub(crate) fn apply(&mut self, chains: &StateChains, shared: &Shared) -> (StateChains, bool) {
        self.harvest(shared);
        match &self.state {
            State::Idle | State::Running(_) => (chains.clone(), false),
            State::Done(compacted) => (chains.compacted(&compacted.reports), true),
        }
    }

    /// A commit stands: `compacted` if it goes on from what was compacted.
    pub(crate) fn committed(&mut self, compacted: bool) {
        if compacted {
            self.state = State::Idle;
        }
    }

    /// Whether the workers are to freeze a step whole: there is no base yet, or the objects that
    /// have it cannot be merged, or are so many that a restart would take long.
    pub(crate) fn wants_whole(&mut self, step: &Arc<str>, chains: &StateChains) -> bool {
        self.whole.remove(step) || chains.lacks(step) || chains.is_overlong(step)
    }

    /// Begins a compaction of the checkpoint just committed, if its chains want one.
    pub(crate) fn begin(
        &mut self,
        chains: &StateChains,
        at: (Epoch, Generation),
        shared: &Arc<Shared>,
    ) {
        if !matches!(self.state, State::Idle) {
            return;
        }
        let steps: Vec<Arc<str>> = (self.graph.steps())
            .map(|(_, step)| Arc::clone(&step.id))
            .filter(|step| chains.wants_compaction(step))
            .collect();
        if steps.is_empty() {
            return;
        }
        let names = steps.iter().map(|step| step.to_string()).collect();
        let compaction = Compaction::new(self.store.clone(), &self.in_use, chains, names, at);
        let rebuild = Rebuild {
            graph: Arc::clone(&self.graph),
            clock: Arc::clone(&shared.clock),
        };
        let task = tokio::spawn(async move {
            failpoint::hit(&["compaction", "before"]);
            let compacted = compaction.run(&rebuild).await;
            failpoint::hit(&["compaction", "after"]);
            compacted
        });
        self.state = State::Running(Running { steps, task });
    }

    /// Takes the result of a compaction that has ended.
    fn harvest(&mut self, shared: &Shared) {
        let State::Running(running) = &mut self.state else {
            return;
        };
        // Unconstrained, as a task that has much to do is told to wait for what is there.
        let Some(ended) = unconstrained(&mut running.task).now_or_never() else {
            return;
        };
        let ended =
            ended.unwrap_or_else(|error| Err(Fault::bug(format!("compaction ended: {error}"))));
        match ended {
            Ok(compacted) => {
                let bytes = compacted.bytes();
                shared.metrics.count("compactions_total", &["done"], 1);
                shared.metrics.count("compaction_bytes_total", &[], bytes);
                self.state = State::Done(compacted);
            }
            Err(fault) => {
                shared.metrics.count("compactions_total", &["failed"], 1);
                tracing::warn!(error = %fault, "state has not been compacted");
                if !matches!(fault.class, Class::Transient { .. }) {
                    // What the workers have in memory is sound, whatever has become of the objects.
                    self.whole.extend(running.steps.iter().cloned());
                }
                self.state = State::Idle;
            }
        }
    }
}

/// Merges the sections of a key group by an operator that takes them back and is frozen.
struct Rebuild {
    graph: Arc<Graph>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Merge for Rebuild {
    async fn merge(
        &self,
        step: &str,
        group: KeyGroup,
        sections: Vec<Section>,
    ) -> Result<Vec<Section>, Fault> {
        let (graph, clock) = (Arc::clone(&self.graph), Arc::clone(&self.clock));
        let id = step.to_owned();
        let began = self.clock.elapsed();
        let merged = apart(move || {
            let (_, step) = (graph.steps())
                .find(|(_, step)| *step.id == *id)
                .ok_or_else(|| Fault::bug("compaction of a step that is not there"))?;
            let merged = rebuild(step, group, &sections, clock);
            merged.map_err(|fault| fault.within(format_args!("step \"{}\"", step.name)))
        });
        let merged = merged.await?;
        // As long a rest as it has worked: the stream comes first.
        let worked = self.clock.elapsed().saturating_sub(began);
        self.clock.sleep(worked).await;
        Ok(merged)
    }
}

fn rebuild(
    step: &StepNode,
    group: KeyGroup,
    sections: &[Section],
    clock: Arc<dyn Clock>,
) -> Result<Vec<Section>, Fault> {
    let groups = usize::from(group)..usize::from(group) + 1;
    let mut operator = step.factory.build(&BuildContext {
        step: Arc::clone(&step.name),
        worker: 0,
        workers: 1,
        groups,
        clock,
    })?;
    for section in sections {
        operator.restore(section)?;
    }
    operator.freeze(true);
    let mut merged = Vec::new();
    while !operator.drain(DRAIN_BYTES, &mut merged)? {}
    Ok(merged)
}

/// Runs work of a processor's kind where it keeps nobody waiting. On a runtime of one thread (a
/// simulation) it runs here.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::bug(format!("compaction ended: {error}")))?
}
