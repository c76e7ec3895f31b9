//! `thalweg run`: a job in this process, in others that it starts, and on other hosts.

use std::sync::Arc;
use std::time::Duration;

use thalweg_checkpoint::{Access, RestoreFrom, Store};
use thalweg_definition::Restart;
use thalweg_engine::{
    Allow, Command, Job, Launch, Limits, Outcome, RestartPolicy, StatusBoard, Surroundings,
};
use thalweg_metrics::Metrics;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Clock, Epoch, Fault};
use tokio::sync::{mpsc, oneshot};

use crate::command::{DefinitionArguments, RunArguments};
use crate::definition::{planned_text, read, store_location};
use crate::hosts::Hosts;
use crate::http::{self, Served};
use crate::processes::Processes;
use crate::runtime::runtime;
use crate::{Failure, progress, terminal};

pub(crate) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let from = start(&arguments.from)?;
    let DefinitionArguments {
        job: path,
        set,
        json,
    } = &arguments.definition;
    let text = read(path)?;
    let planned = planned_text(path, &text, set, *json, &clock)?;
    planned.warn();
    let runtime = runtime(2)?;
    let launch = launch(arguments, &planned.definition.job, text)?;
    let location = store_location(&planned.definition);
    let store = Store::open(&location, Access::Create).map_err(Fault::from)?;
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
        limits: limits(arguments),
        version: planned.version,
        from,
        take_over: arguments.take_over,
        allow: Allow {
            older: arguments.allow_older,
            dropped: arguments.allow_drop,
        },
    };
    let policy = policy(&planned.definition.settings.restart);
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
                    commands: commands.clone(),
                    local: address.ip().is_loopback(),
                },
            )
            .await?;
            terminal::say(&format!("listening on http://{bound}"));
        }
        tokio::select! {
            // Signals are listened to before anything starts.
            biased;
            fault = signals(commands) => Err(fault),
            outcome = supervised(job, surroundings, policy, launch) => outcome,
            () = progress::draw(board.clone(), Arc::clone(&clock)) => Err(Fault::bug("the progress line has ended")),
        }
    });
    // A second signal must not wait for what is still being written.
    runtime.shutdown_timeout(Duration::from_secs(1));
    progress::clear();
    let outcome = outcome?;
    tell(arguments, &board, outcome, clock.elapsed())
}

/// How the other processes of the job are started or found, if it has several.
fn launch(
    arguments: &RunArguments,
    job: &str,
    text: String,
) -> Result<Option<Arc<dyn Launch>>, Failure> {
    let DefinitionArguments { job: path, set, .. } = &arguments.definition;
    let (hosts, processes) = (&arguments.hosts, usize::from(arguments.processes));
    Ok(match (hosts.hosts.len(), processes) {
        (0, 1) => None,
        (0, _) => Some(Arc::new(Processes::new(
            Arc::from(job),
            path.clone(),
            text,
            set.clone(),
            processes,
        ))),
        (1.., _) => Some(Arc::new(Hosts::new(job, hosts)?)),
    })
}

async fn supervised(
    job: Job,
    surroundings: Surroundings,
    policy: RestartPolicy,
    launch: Option<Arc<dyn Launch>>,
) -> Result<Outcome, Fault> {
    match launch {
        None => thalweg_engine::supervise(job, surroundings, policy).await,
        Some(launch) => thalweg_engine::supervise_mesh(job, surroundings, policy, launch).await,
    }
}

fn limits(arguments: &RunArguments) -> Limits {
    let limits = Limits::default();
    let batch_rows = arguments.batch_rows.map(usize::from);
    Limits {
        batch_rows: batch_rows.unwrap_or(limits.batch_rows),
        ..limits
    }
}

fn policy(restart: &Restart) -> RestartPolicy {
    RestartPolicy {
        attempts: restart.attempts,
        delay: Duration::from_millis(restart.delay_ms),
        delay_max: Duration::from_millis(restart.delay_max_ms),
        reset_after: Duration::from_millis(restart.reset_after_ms),
    }
}

/// The first SIGINT or SIGTERM asks for a stop, the second ends the run at once; SIGUSR1 asks for a
/// savepoint.
async fn signals(commands: mpsc::Sender<Command>) -> Fault {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = || {
        Ok::<_, std::io::Error>((
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::user_defined1())?,
        ))
    };
    let (mut interrupt, mut terminate, mut user) = match listen() {
        Ok(signals) => signals,
        Err(error) => return Fault::bug(format!("no signals: {error}")),
    };
    for _ in 0..2 {
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = user.recv() => {
                    tokio::spawn(savepoint(commands.clone()));
                }
            }
        }
        stop(&commands);
    }
    Fault::unavailable("ended at once by a second signal; run the job again to resume")
}

/// Asks for a stop. Savepoints that were asked for before may fill the way to a run that is still
/// starting, and the next signal must not wait for it. A run that no longer listens is ending.
fn stop(commands: &mpsc::Sender<Command>) {
    let commands = commands.clone();
    tokio::spawn(async move { commands.send(Command::Stop).await.ok() });
}

/// Takes a savepoint and says where it is.
async fn savepoint(commands: mpsc::Sender<Command>) {
    let (asker, taken) = oneshot::channel();
    // A run that no longer listens is ending, and drops the asker.
    commands.send(Command::Savepoint(asker)).await.ok();
    terminal::say(&match taken.await {
        Ok(taken) => format!("savepoint of epoch {} taken: {}", taken.epoch, taken.store),
        Err(_) => "no savepoint was taken: the run has ended".to_owned(),
    });
}

fn tell(
    arguments: &RunArguments,
    board: &StatusBoard,
    outcome: Outcome,
    took: Duration,
) -> Result<(), Failure> {
    let status = board.read();
    if arguments.definition.json {
        let outcome = match outcome {
            Outcome::Finished => "finished",
            Outcome::AlreadyFinished => "already-finished",
            Outcome::Stopped => "stopped",
        };
        let result = serde_json::json!({ "outcome": outcome, "status": status });
        terminal::print(&format!("{result}\n"))?;
    } else {
        terminal::say(&progress::summary(&status, outcome, took));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use thalweg_engine::Command;
    use tokio::sync::{mpsc, oneshot};

    use super::stop;

    #[tokio::test]
    async fn a_stop_is_not_lost_where_savepoints_fill_the_way_to_a_job_that_starts() {
        let (commands, mut run) = mpsc::channel(4);
        let savepoint = || Command::Savepoint(oneshot::channel().0);
        while commands.try_send(savepoint()).is_ok() {}
        stop(&commands);
        drop(commands);
        let mut stops = Vec::new();
        while let Some(command) = run.recv().await {
            stops.push(matches!(command, Command::Stop));
        }
        assert_eq!(stops, [false, false, false, false, true]);
    }
}
