//! `thalweg process`: a process of a job that another one on this host leads, and has started for it.

use std::io::{self, BufRead as _, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;

use thalweg_engine::follow;
use thalweg_mesh::{Attempt, Listener, Member, Secret};
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Clock, Fault};
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;
use crate::definition::planned_text;
use crate::processes::Brief;
use crate::runtime::runtime;
use crate::transport::{PATIENCE, follower};

/// Bytes of a brief: a definition has 1 MiB at most, and JSON may double it.
const BRIEF_BYTES_MAX: u64 = 8 << 20;

pub(crate) fn run() -> Result<(), Failure> {
    let brief = brief()?;
    end_with_the_leader();
    let runtime = runtime(2)?;
    let entered = runtime.enter();
    leave_stops_to_the_leader()?;
    drop(entered);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let planned = planned_text(&brief.path, &brief.text, &brief.set, false, &clock)?;
    let ended = runtime.block_on(async {
        let member = Member {
            job: Arc::from(brief.job.as_str()),
            attempt: Attempt::Is(brief.generation),
            process: brief.process,
            processes: brief.processes,
            secret: Secret::new(&brief.secret.0)?,
        };
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), None).await?;
        let own = listener.address()?.to_string();
        let leader = brief.leader.to_string();
        let joined = member.join(&leader, &listener, own, PATIENCE).await?;
        let member = follower(joined, Arc::new(planned.graph), planned.version, clock);
        if let Err(fault) = follow(member).await {
            // The leader knows, and tells.
            tracing::info!(%fault, "the attempt has ended");
        }
        Ok::<(), Fault>(())
    });
    // What still runs works for nobody.
    runtime.shutdown_background();
    Ok(ended?)
}

/// Makes SIGTERM and SIGINT pass this process by. Service managers send them to all processes of a
/// service; the leader has them, too, and takes a last checkpoint, for which it needs this one.
fn leave_stops_to_the_leader() -> Result<(), Fault> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        // Once it is caught, a signal stays so: nobody need wait for it.
        drop(signal(kind).map_err(|error| Fault::bug(format!("no signals: {error}")))?);
    }
    Ok(())
}

/// What the leader says first.
fn brief() -> Result<Brief, Failure> {
    let mut line = Vec::new();
    let mut stdin = io::stdin().lock();
    let read = stdin
        .by_ref()
        .take(BRIEF_BYTES_MAX)
        .read_until(b'\n', &mut line);
    let read = read.and_then(|_| serde_json::from_slice(&line).map_err(io::Error::from));
    read.map_err(|error| {
        Failure::User(format!(
            "`thalweg process` is started by `thalweg run`: {error}"
        ))
    })
}

/// Ends this process when the leader closes its standard input, which it does by ending, too. Nothing
/// durable is done here, so that any moment will do.
fn end_with_the_leader() {
    std::thread::spawn(|| {
        let mut rest = [0; 64];
        // The leader says nothing more.
        while io::stdin()
            .lock()
            .read(&mut rest)
            .is_ok_and(|count| count > 0)
        {}
        std::process::exit(0);
    });
}
