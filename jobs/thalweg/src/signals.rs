//! Signals to a process of a job. They are caught before anything else is done, so that a stop that
//! comes in the first moments of a run is a stop, and not an end by the signal.

use thalweg_engine::Command;
use thalweg_stream::Fault;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::runtime::runtime;
use crate::terminal;

/// Stack of the thread that reads and plans a definition (bytes): what a main thread has.
const STACK_BYTES: usize = 8 << 20;

/// The signals, caught, and the runtime on which they come in.
pub(crate) struct Signals {
    pub(crate) runtime: Runtime,
    pub(crate) caught: Caught,
}

impl Signals {
    /// Catches them if this process is for a job, as its first argument says: to read all of them takes
    /// longer. What goes wrong is told when the job finds no signals caught.
    pub(crate) fn at_once() -> Option<Self> {
        let command = std::env::args_os().nth(1)?;
        (command == "run" || command == "follow").then(|| Self::catch().ok())?
    }

    /// Catches them.
    pub(crate) fn catch() -> Result<Self, Fault> {
        let runtime = runtime(2)?;
        let entered = runtime.enter();
        let caught = Caught::new().map_err(|error| Fault::bug(format!("no signals: {error}")))?;
        drop(entered);
        Ok(Self { runtime, caught })
    }

    /// Does what comes before a job, on a thread of its own; nothing as soon as a stop is asked for.
    /// Nothing durable may be done in it, so that any moment will do.
    pub(crate) fn unless_stopped<T: Send + 'static>(
        &mut self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Fault> {
        let (sender, done) = oneshot::channel();
        let thread = std::thread::Builder::new().name("begin".to_owned());
        (thread.stack_size(STACK_BYTES))
            // Nobody waits for it any more once a stop is asked for.
            .spawn(move || sender.send(what()).ok())
            .map_err(|error| Fault::unavailable(format!("nothing to run on: {error}")))?;
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.caught.stop() => Ok(None),
                done = done => match done {
                    Ok(done) => Ok(Some(done)),
                    Err(_) => Err(Fault::bug("planning has panicked")),
                },
            }
        })
    }
}

/// SIGINT, SIGTERM and SIGUSR1: what has come since they were caught waits here.
pub(crate) struct Caught {
    interrupt: Signal,
    terminate: Signal,
    user: Signal,
}

impl Caught {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for SIGINT or SIGTERM.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The first SIGINT or SIGTERM asks for a stop, the second ends the run at once; SIGUSR1 asks for a
    /// savepoint.
    pub(crate) async fn heed(mut self, commands: mpsc::Sender<Command>) -> Fault {
        for _ in 0..2 {
            loop {
                tokio::select! {
                    _ = self.interrupt.recv() => break,
                    _ = self.terminate.recv() => break,
                    _ = self.user.recv() => {
                        tokio::spawn(savepoint(commands.clone()));
                    }
                }
            }
            stop(&commands);
        }
        Fault::unavailable("ended at once by a second signal; run the job again to resume")
    }
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
