//! The workers of an attempt: those of other processes are prepared, all are started, and those of
//! this process are waited for.

use std::sync::Arc;

use thalweg_stream::{Clock, Fault};
use tokio::sync::oneshot::{self, error::RecvError};

use super::restore;
use crate::failure::Failure;
use crate::journal::Journal;
use crate::mesh::message::{Brief, SinkBrief};
use crate::mesh::{Mesh, Wires};
use crate::shared::Shared;
use crate::supervisor::Run;
use crate::threads::{self, LEAVE};
use crate::worker::Plan;

/// Tells followers what to do, and gives their workers the state to begin with.
pub(super) async fn prepare_followers(
    mesh: &mut Mesh,
    run: &Run,
    journal: &Journal,
    plan: &Plan,
) -> Result<(), Failure> {
    if mesh.processes() == 1 {
        return Ok(());
    }
    let here = mesh.team().here.clone();
    let brief = Brief {
        process: 0,
        processes: mesh.processes(),
        workers: here.len(),
        job: Arc::clone(&plan.job),
        version: run.version.clone(),
        graph: plan.graph.fingerprint(),
        limits: run.limits,
        suspect: run.suspect.clone(),
        first: plan.first,
        starts: plan.starts.clone(),
        tracked: plan.tracked.clone(),
        watermarks: plan.watermarks.clone(),
        sinks: (plan.sinks.iter())
            .map(|(&at, context)| (at, SinkBrief::of(context)))
            .collect(),
    };
    mesh.prepare(&brief).await?;
    for worker in here.end..run.workers {
        // One after the other: the state of all need not fit in this process.
        let state = restore(journal, &plan.graph, worker, run.workers).await?;
        mesh.restore(worker, state).await?;
    }
    Ok(())
}

/// Ends the workers of an attempt when it is dropped; those that have ended do not notice.
pub(super) struct Ending(pub(super) Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.fail(Fault::unavailable("the run has been dropped"));
    }
}

/// The workers' threads of this process, and what connects them with those of others.
pub(super) struct Workers {
    /// Comes when all have ended.
    ended: oneshot::Receiver<()>,
    pub(super) wires: Wires,
}

impl Workers {
    /// Has the workers of all processes begin.
    pub(super) async fn start(
        plan: Plan,
        mesh: &mut Mesh,
        journal: &mut Journal,
    ) -> Result<Self, Failure> {
        let shared = Arc::clone(&plan.shared);
        if let Some(schedule) = &plan.schedule {
            schedule.begin(shared.team().total);
        }
        let (wires, handles) = Wires::watch(mesh.sockets(), &shared)?;
        mesh.begin(&shared).await?;
        journal.ask_for_whole(&shared);
        let ended = threads::start(plan, handles)?;
        Ok(Self { ended, wires })
    }

    /// Waits until the threads have ended, but not for ever if that is `bounded`: nothing if one is
    /// stuck.
    pub(super) async fn leave(
        &mut self,
        bounded: bool,
        clock: &dyn Clock,
    ) -> Option<Result<(), RecvError>> {
        let left = tokio::select! {
            left = &mut self.ended => Some(left),
            () = clock.sleep(LEAVE), if bounded => None,
        };
        // What timely still waits for comes back.
        self.wires.end();
        left
    }
}
