//! The worker threads of one process, and what connects them with those of others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use thalweg_stream::Fault;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::{
    CommsGuard, initialize_networking_from_sockets,
};
use timely::communication::{AllocatorBuilder, Hooks};
use timely::{CommunicationConfig, WorkerConfig};
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::mesh::Wire;
use crate::report::Report;
use crate::schedule::Turns;
use crate::schemas;
use crate::worker::{self, Plan};

/// How long a failed attempt waits for its workers to leave. One that is stuck in a call stays
/// behind: it can neither commit nor publish, and leaves when it comes back.
pub(crate) const LEAVE: Duration = Duration::from_secs(1);

/// Starts the worker threads of this process, by a thread of their own; tells when all have ended.
/// `wires` lead to the other processes, in order; none if there are no others.
pub(crate) fn start(plan: Plan, wires: Vec<Option<Wire>>) -> Result<oneshot::Receiver<()>, Fault> {
    let schedule = plan.schedule.clone();
    let (ended, threads) = oneshot::channel();
    std::thread::Builder::new()
        .name("timely".to_owned())
        .spawn(move || {
            execute(&Arc::new(plan), wires);
            // Nobody waits for them if the attempt has been dropped, or the process is about to end.
            ended.send(()).ok();
            if let Some(schedule) = schedule {
                schedule.end();
            }
        })
        .map_err(|error| Fault::transient(format!("no thread for the workers: {error}")))?;
    Ok(threads)
}

/// Runs the worker threads; returns when all have ended. A panic ends the attempt, not the process.
fn execute(plan: &Arc<Plan>, wires: Vec<Option<Wire>>) {
    let shared = Arc::clone(&plan.shared);
    let (builders, comms) = match build(plan, wires) {
        Ok(built) => built,
        Err(error) => return shared.fail(Fault::bug(format!("no workers: {error}"))),
    };
    let plan = Arc::clone(plan);
    let run = move |worker: &mut timely::worker::Worker| {
        let index = worker.index();
        let turns = (plan.schedule.as_deref()).map(|schedule| Turns::begin(schedule, index));
        let turns = turns.as_ref();
        let ended = catch_unwind(AssertUnwindSafe(|| worker::run(worker, &plan, turns)));
        if let Err(panic) = ended {
            plan.shared.watches[index].end();
            let part = format_args!("worker {index}");
            plan.shared.fail_with(Failure::panicked(part, panic));
            // Timely waits for ever on the dataflow of a panicked worker; dropping it may panic too.
            drop(catch_unwind(AssertUnwindSafe(|| worker::abandon(worker))));
            plan.shared.report(Report::Ended);
        }
    };
    match timely::execute::execute_from(builders, Box::new(()), WorkerConfig::default(), run) {
        Ok(guards) => drop(guards.join()),
        Err(error) => shared.fail(Fault::bug(format!("no workers: {error}"))),
    }
    match comms {
        // Its drop panics where a thread of it has; they end by themselves, as their connections do.
        Some(comms) if shared.failed() => std::mem::forget(comms),
        Some(comms) => drop(catch_unwind(AssertUnwindSafe(|| drop(comms)))),
        None => {}
    }
}

/// What timely makes the workers of, and the threads that serve connections.
fn build(
    plan: &Plan,
    wires: Vec<Option<Wire>>,
) -> Result<(Vec<AllocatorBuilder>, Option<CommsGuard>), String> {
    let team = plan.shared.team();
    let threads = team.here.len();
    if wires.is_empty() {
        let (builders, _) = CommunicationConfig::Process(threads).try_build()?;
        return Ok((builders, None));
    }
    // Before any data flows, in each process.
    schemas::know(&plan.graph);
    let (hooks, process) = (Hooks::default(), team.here.start / threads.max(1));
    let inside = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), None);
    let built = initialize_networking_from_sockets(inside, wires, process, threads, hooks);
    let (builders, comms) = built.map_err(|error| error.to_string())?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    Ok((builders, Some(comms)))
}
