//! `thalweg run`: a job in this process, in others that it starts, and on other hosts.

use std::sync::Arc;
use std::time::Duration;

use thalweg_checkpoint::{Access, RestoreFrom, Store};
use thalweg_definition::Restart;
use thalweg_engine::{
    Allow, Job, Launch, Limits, Outcome, Phase, RestartPolicy, Status, StatusBoard, Surroundings,
};
use thalweg_metrics::Metrics;
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Clock, Epoch, Fault};
use tokio::sync::mpsc;

use crate::command::{DefinitionArguments, RunArguments};
use crate::definition::{Planned, planned_text, read, store_location};
use crate::hosts::Hosts;
use crate::http::{self, Served};
use crate::processes::Processes;
use crate::signals::Signals;
use crate::{Failure, progress, terminal};

pub(crate) fn run(arguments: RunArguments, mut signals: Signals) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let arguments = Arc::new(arguments);
    let begun = signals.unless_stopped({
        let (arguments, clock) = (Arc::clone(&arguments), Arc::clone(&clock));
        move || begin(&arguments, &clock)
    })?;
    let arguments = &*arguments;
    let Some(begun) = begun else {
        return tell_of_nothing(arguments);
    };
    let (from, text, planned) = begun?;
    planned.warn();
    let Signals { runtime, caught } = signals;
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
            // A stop that was asked for before is heard of before anything starts.
            biased;
            fault = caught.heed(commands) => Err(fault),
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

/// From where to start, the text of the definition, and what was planned of it.
fn begin(
    arguments: &RunArguments,
    clock: &Arc<dyn Clock>,
) -> Result<(RestoreFrom, String, Planned), Failure> {
    let from = start(&arguments.from)?;
    let DefinitionArguments { job, set, json } = &arguments.definition;
    let text = read(job)?;
    let planned = planned_text(job, &text, set, *json, clock)?;
    Ok((from, text, planned))
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

fn tell(
    arguments: &RunArguments,
    board: &StatusBoard,
    outcome: Outcome,
    took: Duration,
) -> Result<(), Failure> {
    let status = board.read();
    match arguments.definition.json {
        true => tell_machines(&status, outcome)?,
        false => terminal::say(&progress::summary(&status, outcome, took)),
    }
    Ok(())
}

fn tell_machines(status: &Status, outcome: Outcome) -> Result<(), Failure> {
    let outcome = match outcome {
        Outcome::Finished => "finished",
        Outcome::AlreadyFinished => "already-finished",
        Outcome::Stopped => "stopped",
    };
    let result = serde_json::json!({ "outcome": outcome, "status": status });
    Ok(terminal::print(&format!("{result}\n"))?)
}

/// The last word on a run that was stopped before it had claimed the job.
fn tell_of_nothing(arguments: &RunArguments) -> Result<(), Failure> {
    let DefinitionArguments { job, json, .. } = &arguments.definition;
    if *json {
        let phase = Phase::Stopped;
        let status = Status {
            phase,
            ..Status::default()
        };
        return tell_machines(&status, Outcome::Stopped);
    }
    let job = job.display();
    terminal::say(&format!("{job}: stopped before it had begun; run it again"));
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
