//! The heartbeat: how a second start of a job learns that the first one is at work.
//!
//! The owner replaces the object `heartbeat` every second. Whoever wants to start a job that is
//! claimed watches: if the owner's heartbeat comes within five seconds it is alive, and the start is
//! refused. The clocks of two hosts are never compared. There is no need to watch if the owner is
//! known to have ended: its last heartbeat says so, or its process is gone from this host.
//!
//! Who the owner is says the log alone: a process that was frozen may put its own heartbeat in the
//! place of its successor's when it thaws, which then says nothing of the owner.
//!
//! This is a courtesy and fences nobody: that is what claims in the [job log](crate::log) do. A
//! heartbeat that cannot be written is no failure of the job, and a damaged one counts as any
//! other content that changes or does not.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_stream::clock::Clock;
use thalweg_stream::{Fault, Generation};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::document::Format;
use crate::error::Error;
use crate::identity::{Identity, Process};
use crate::log::Owner;
use crate::name::ObjectName;
use crate::store::Store;

const FORMAT: Format = Format {
    kind: "heartbeat",
    version: 1,
};

/// How often heartbeats are written, and how long one is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Time between two heartbeats.
    pub every: Duration,
    /// Time without a change after which the owner is taken for dead.
    pub stale_after: Duration,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            stale_after: Duration::from_secs(5),
        }
    }
}

/// What the owner tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The job.
    pub job: String,
    /// The generation.
    pub generation: Generation,
    /// The run, the same over restarts of the dataflow.
    pub run: String,
    /// The process.
    pub process: Process,
    /// How many beats there were before.
    pub count: u64,
    /// When, by the owner's clock, milliseconds; for people only.
    pub at_ms: i64,
    /// Whether this start has ended: nothing follows.
    #[serde(default)]
    pub ended: bool,
}

/// Reads the heartbeat, if there is one that can be read.
///
/// # Errors
/// The store's.
pub async fn read(store: &Store) -> Result<Option<Beat>, Error> {
    let name = ObjectName::heartbeat();
    let bytes = store.find(&name).await?;
    Ok(bytes.and_then(|bytes| FORMAT.decode(&name, &bytes).ok()))
}

/// Refuses if `owner`, the last to claim the job, is running it and is somebody else. Takes up to
/// [`Pulse::stale_after`].
///
/// # Errors
/// [`Error::Running`], or the store's.
pub(crate) async fn refuse_if_running(
    store: &Store,
    owner: &Owner,
    identity: &Identity,
    clock: &dyn Clock,
    pulse: Pulse,
) -> Result<(), Error> {
    let own = |beat: Option<Beat>| beat.filter(|beat| beat.generation >= owner.generation);
    let ended = |beat: &Beat| beat.ended || beat.process.has_ended(identity.process());
    let first = own(read(store).await?);
    if identity.wrote(&owner.writer)
        || match &first {
            Some(beat) => ended(beat),
            // It may have died before its first.
            None => identity.process().misses(&owner.host, owner.pid),
        }
    {
        return Ok(());
    }
    let begin = clock.elapsed();
    while clock.elapsed().saturating_sub(begin) < pulse.stale_after {
        clock.sleep(pulse.every / 4).await;
        let now = own(read(store).await?);
        match now.filter(|now| Some(now) != first.as_ref()) {
            Some(beat) if ended(&beat) => return Ok(()),
            Some(beat) => {
                return Err(Error::Running {
                    job: beat.job,
                    host: beat.process.host,
                    pid: beat.process.pid,
                });
            }
            None => {}
        }
    }
    Ok(())
}

/// Writes heartbeats until it is dropped or told to stop.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    task: JoinHandle<()>,
    enough: Arc<Notify>,
    fenced: watch::Receiver<Option<Fault>>,
}

impl Heartbeat {
    /// Begins. The first beat is written before this returns.
    pub(crate) async fn start(
        store: Store,
        first: Beat,
        clock: Arc<dyn Clock>,
        every: Duration,
    ) -> Self {
        let (tell, fenced) = watch::channel(None);
        let enough = Arc::new(Notify::new());
        write(&store, &first).await;
        let told = Arc::clone(&enough);
        let mut beat = first;
        let task = tokio::spawn(async move {
            while !beat.ended {
                beat.ended = tokio::select! {
                    biased;
                    () = told.notified() => true,
                    () = clock.sleep(every) => false,
                };
                if let Some(by) = successor(&store, &beat).await {
                    tell.send_replace(Some(by));
                    return;
                }
                beat.count += 1;
                beat.at_ms = clock.now_ms();
                write(&store, &beat).await;
            }
        });
        Self {
            task,
            enough,
            fenced,
        }
    }

    /// Tells when somebody else's heartbeat of a higher generation has been seen. An owner that
    /// commits learns it from the log; this is for one that has nothing to commit.
    pub(crate) fn fenced(&self) -> watch::Receiver<Option<Fault>> {
        self.fenced.clone()
    }

    /// Stops, and says so if nobody has taken over, so that the next start need not watch.
    pub(crate) async fn stop(mut self) {
        self.enough.notify_one();
        if let Err(error) = (&mut self.task).await {
            tracing::debug!(%error, "no last heartbeat; the next start will watch for one");
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn write(store: &Store, beat: &Beat) {
    let written = match FORMAT.encode(beat) {
        Ok(bytes) => store.advise(&ObjectName::heartbeat(), bytes).await,
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        tracing::debug!(%error, "heartbeat not written");
    }
}

async fn successor(store: &Store, ours: &Beat) -> Option<Fault> {
    let beat = read(store).await.ok()??;
    (beat.generation > ours.generation).then(|| {
        Error::Fenced {
            what: "heartbeat".to_owned(),
            by: beat.generation.0,
            host: beat.process.host,
            pid: beat.process.pid,
        }
        .into()
    })
}
