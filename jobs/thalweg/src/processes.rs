//! The processes of a job on this host: process 0 starts the others anew for every attempt, from its own
//! executable, and none outlives it.
//!
//! What another process has to know comes over its standard input, which stays open as long as the
//! leader lives: when it closes, for whatever reason, the process ends (`process.rs`). So nothing is
//! left behind by a leader that is killed, without help of the operating system's that only some have.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thalweg_engine::{Launch, Peer};
use thalweg_mesh::{Attempt, Fate, Listener, Member, Secret};
use thalweg_stream::{Fault, Generation};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::terminal;
use crate::transport::{PATIENCE, peer};

/// How long a process may take to end by itself once nobody leads it.
const GRACE: Duration = Duration::from_secs(1);

/// What a process that follows is told, as a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Brief {
    pub(crate) job: String,
    /// Where the definition is, for messages and for the paths in it.
    pub(crate) path: std::path::PathBuf,
    pub(crate) text: String,
    pub(crate) set: Vec<String>,
    pub(crate) generation: u64,
    pub(crate) process: usize,
    pub(crate) processes: usize,
    pub(crate) leader: SocketAddr,
    pub(crate) secret: Hidden,
}

/// The secret, which debug output does not show.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(pub(crate) [u8; 32]);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// The other processes of a job on this host.
#[derive(Debug)]
pub(crate) struct Processes {
    pub(crate) job: Arc<str>,
    pub(crate) path: std::path::PathBuf,
    pub(crate) text: String,
    pub(crate) set: Vec<String>,
    pub(crate) processes: usize,
    running: Mutex<Vec<Running>>,
}

/// One that runs, and the task that waits for its end.
#[derive(Debug)]
struct Running {
    /// Dropped to end it.
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Processes {
    pub(crate) fn new(
        job: Arc<str>,
        path: std::path::PathBuf,
        text: String,
        set: Vec<String>,
        processes: usize,
    ) -> Self {
        Self {
            job,
            path,
            text,
            set,
            processes,
            running: Mutex::default(),
        }
    }

    fn brief(
        &self,
        process: usize,
        generation: Generation,
        leader: SocketAddr,
        secret: &Hidden,
    ) -> Brief {
        Brief {
            job: self.job.to_string(),
            path: self.path.clone(),
            text: self.text.clone(),
            set: self.set.clone(),
            generation: generation.0,
            process,
            processes: self.processes,
            leader,
            secret: secret.clone(),
        }
    }
}

#[async_trait]
impl Launch for Processes {
    fn processes(&self) -> usize {
        self.processes
    }

    async fn start(&self, generation: Generation) -> Result<Vec<Peer>, Fault> {
        let secret = Hidden(thalweg_mesh::random_secret()?);
        let member = Member {
            job: Arc::clone(&self.job),
            attempt: Attempt::Is(generation.0),
            process: 0,
            processes: self.processes,
            secret: Secret::new(&secret.0)?,
        };
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), None).await?;
        let leader = listener.address()?;
        let fates: Vec<Fate> = (0..self.processes).map(|_| Fate::default()).collect();
        let mut running = self.running.lock().await;
        for (process, fate) in fates.iter().enumerate().skip(1) {
            let brief = self.brief(process, generation, leader, &secret);
            running.push(spawn(&brief, fate.clone())?);
        }
        drop(running);
        let peers = member.lead(&listener, PATIENCE, &fates).await?;
        Ok(peers.into_iter().map(peer).collect())
    }

    async fn end(&self) {
        let running = std::mem::take(&mut *self.running.lock().await);
        let (ends, tasks): (Vec<_>, Vec<_>) = running
            .into_iter()
            .map(|running| (running.end, running.task))
            .unzip();
        drop(ends);
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "the watch over a process has ended");
            }
        }
    }
}

/// Starts a process that follows.
fn spawn(brief: &Brief, fate: Fate) -> Result<Running, Fault> {
    let process = brief.process;
    let failed =
        |error: io::Error| Fault::transient(format!("process {process} does not start: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    // A group of its own: what is typed at the terminal is for the leader, which tells the others.
    command
        .arg("process")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let mut line = serde_json::to_vec(brief).map_err(|e| failed(e.into()))?;
    line.push(b'\n');
    let Some(stdin) = child.stdin.take() else {
        return Err(Fault::bug(format!(
            "process {process} has no standard input"
        )));
    };
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(pass_on(process, stderr));
    }
    let (end, ended) = oneshot::channel();
    fate.watch();
    let task = tokio::spawn(watch(child, stdin, line, ended, fate));
    Ok(Running { end, task })
}

/// Tells a process its brief, waits for its end, and makes it end when it is told to.
async fn watch(
    mut child: Child,
    mut stdin: ChildStdin,
    brief: Vec<u8>,
    ended: oneshot::Receiver<()>,
    fate: Fate,
) {
    // For as long as it takes: one that is frozen may never read it.
    let tell = async {
        // One that has ended already says so by its status.
        if let Err(error) = stdin.write_all(&brief).await {
            tracing::warn!(%error, "a process does not take its brief");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        status = child.wait() => return fate.lose(how(status)),
        () = tell => {}
        // Dropped or told: either way.
        _ = ended => {}
    }
    drop(stdin);
    if timeout(GRACE, child.wait()).await.is_err() {
        // It may be frozen.
        if let Err(error) = child.kill().await {
            tracing::error!(%error, "a process does not end");
        }
    }
}

fn how(status: io::Result<ExitStatus>) -> String {
    match status {
        Err(error) => format!("nothing is known of it: {error}"),
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("it was killed by signal {signal}"),
            (None, code) => format!("it has ended with exit status {}", code.unwrap_or_default()),
        },
    }
}

/// What a process says, with its number before it.
async fn pass_on(process: usize, stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr).lines();
    loop {
        match lines.next_line().await {
            Ok(Some(line)) => terminal::say(&format!("process {process}: {line}")),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(process, %error, "what a process says cannot be read");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_does_not_read_its_brief_is_ended_all_the_same() {
        let mut command = Command::new("sleep");
        let command = command.arg("600").stdin(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("there is a sleep");
        let stdin = child.stdin.take().expect("a pipe");
        let (end, ended) = oneshot::channel();
        // More than a pipe takes.
        let brief = vec![b'x'; 1 << 20];
        let watched = tokio::spawn(watch(child, stdin, brief, ended, Fate::default()));
        drop(end);
        let gone = timeout(GRACE * 30, watched).await;
        gone.expect("in time").expect("no panic");
    }
}
