//! `thalweg follow`: a process of a job that is led from another host. It works for one attempt after
//! the other, until the job has finished or is stopped.

use std::sync::Arc;

use thalweg_mesh::{Attempt, Listener};
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Class, Clock, Fault};

use crate::command::FollowArguments;
use crate::definition::planned;
use crate::hosts::Hosts;
use crate::signals::Signals;
use crate::transport::{PATIENCE, follower};
use crate::{Failure, terminal};

/// Nothing durable is done here, so that SIGINT and SIGTERM may end it at any moment.
pub(crate) fn run(arguments: FollowArguments, mut signals: Signals) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let arguments = Arc::new(arguments);
    let planned = signals.unless_stopped({
        let (arguments, clock) = (Arc::clone(&arguments), Arc::clone(&clock));
        move || planned(&arguments.definition, &clock)
    })?;
    let Some(planned) = planned else {
        return Ok(());
    };
    let planned = planned?;
    planned.warn();
    let hosts = Hosts::new(&planned.definition.job, &arguments.hosts)?;
    let process = usize::from(arguments.process);
    if hosts.address(process).is_none() {
        let (first, last) = (1, hosts.count() - 1);
        let what = format!(
            "--process {process}: --hosts has processes {first} to {last}, and 0, which leads"
        );
        return Err(Failure::User(what));
    }
    let Signals {
        runtime,
        mut caught,
    } = signals;
    let following = Following {
        hosts,
        process,
        graph: Arc::new(planned.graph),
        version: planned.version,
        clock,
    };
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = following.attempts() => ended,
            () = caught.stop() => Ok(()),
        }
    });
    // What still runs works for nobody.
    runtime.shutdown_background();
    Ok(ended?)
}

struct Following {
    hosts: Hosts,
    process: usize,
    graph: Arc<thalweg_engine::Graph>,
    version: String,
    clock: Arc<dyn Clock>,
}

impl Following {
    /// Attempts until the end of the job, or until one fails for a reason that only the user can remove.
    async fn attempts(&self) -> Result<(), Fault> {
        let own = self.address(self.process);
        let listener = self.hosts.listen(own).await?;
        let mut last = 0;
        self.say(format_args!("waiting for {}, which leads", self.address(0)));
        loop {
            let fault = match self.attempt(&listener, &mut last).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            if fault.class == Class::User {
                return Err(fault);
            }
            self.say(format_args!("{fault}; waiting for the next attempt"));
        }
    }

    /// Finds the leader of an attempt after the `last`, and works for it.
    async fn attempt(&self, listener: &Listener, last: &mut u64) -> Result<(), Fault> {
        let member = self.hosts.member(self.process, Attempt::After(*last));
        let (leader, own) = (self.address(0), self.address(self.process));
        let joined = loop {
            let joined = member.join(leader, listener, own.to_owned(), PATIENCE);
            let fault = match joined.await {
                Ok(joined) => break joined,
                Err(error) => Fault::from(error).within(leader),
            };
            if fault.class == Class::User {
                return Err(fault);
            }
            tracing::info!(%fault, "there is no attempt yet");
        };
        *last = joined.generation;
        self.say(format_args!("works for generation {last}"));
        let (graph, version) = (Arc::clone(&self.graph), self.version.clone());
        let member = follower(joined, graph, version, Arc::clone(&self.clock));
        thalweg_engine::follow(member).await
    }

    fn address(&self, process: usize) -> &str {
        self.hosts.address(process).unwrap_or_default()
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        let (process, count) = (self.process, self.hosts.count());
        terminal::say(&format!("process {process} of {count}: {what}"));
    }
}
