//! A mesh whose processes are threads with runtimes of their own: their only connections are those
//! that processes have.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thalweg_engine::{Control, Graph, Launch, Member, Peer, Socket, follow};
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{Fault, Generation};
use tokio::sync::mpsc;

/// Makes the graph of any process.
type Make = Arc<dyn Fn() -> Graph + Send + Sync>;

/// What connects two processes, to cut it.
type Cut = Box<dyn Fn() + Send + Sync>;

/// Starts followers as threads.
pub(crate) struct Threads {
    processes: usize,
    make: Make,
    /// How those of the last attempt have ended.
    pub(crate) ended: Arc<Mutex<Vec<Result<(), Fault>>>>,
    cuts: Arc<Mutex<Vec<Cut>>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    /// Generations started.
    pub(crate) started: Arc<Mutex<Vec<Generation>>>,
    /// How long a message is on its way.
    delay: Duration,
    /// Messages that are on their way.
    under_way: Arc<AtomicUsize>,
    /// How many of them there were when the leader said that the followers are at their end.
    pub(crate) overtaken: Arc<AtomicUsize>,
}

impl Threads {
    pub(crate) fn new(processes: usize, make: impl Fn() -> Graph + Send + Sync + 'static) -> Self {
        Self {
            processes,
            make: Arc::new(make),
            ended: Arc::default(),
            cuts: Arc::default(),
            threads: Mutex::default(),
            started: Arc::default(),
            delay: Duration::ZERO,
            under_way: Arc::default(),
            overtaken: Arc::default(),
        }
    }

    /// Control messages take so long.
    pub(crate) fn slow(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Cuts all connections, as if the followers were gone.
    pub(crate) fn cut(&self) {
        self.cuts.lock().unwrap().drain(..).for_each(|cut| cut());
    }
}

/// A control connection between two processes, both ends; cut by dropping the task between.
fn control(threads: &Threads, cuts: &mut Vec<Cut>) -> (Control, Control) {
    let half = |cuts: &mut Vec<Cut>| {
        let (outgoing, mut taken) = mpsc::channel::<Bytes>(8);
        let (given, incoming) = mpsc::channel(8);
        let (delay, under_way) = (threads.delay, Arc::clone(&threads.under_way));
        let carrying = tokio::spawn(async move {
            while let Some(frame) = taken.recv().await {
                assert!(frame.len() <= thalweg_engine::FRAME_BYTES_MAX);
                under_way.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(delay).await;
                let sent = given.send(Ok(frame)).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                if sent.is_err() {
                    return;
                }
            }
        });
        cuts.push(Box::new(move || carrying.abort()));
        (outgoing, incoming)
    };
    let (there, back) = (half(cuts), half(cuts));
    let near = Control {
        outgoing: there.0,
        incoming: back.1,
    };
    let far = Control {
        outgoing: back.0,
        incoming: there.1,
    };
    (near, far)
}

fn sockets(cuts: &mut Vec<Cut>) -> (Box<dyn Socket>, Box<dyn Socket>) {
    let (near, far) = UnixStream::pair().expect("a pair");
    let cut = near.try_clone().expect("a handle");
    cuts.push(Box::new(move || {
        cut.shutdown(std::net::Shutdown::Both).ok();
    }));
    (Box::new(near), Box::new(far))
}

#[async_trait]
impl Launch for Threads {
    fn processes(&self) -> usize {
        self.processes
    }

    async fn start(&self, generation: Generation) -> Result<Vec<Peer>, Fault> {
        self.started.lock().unwrap().push(generation);
        self.ended.lock().unwrap().clear();
        let mut cuts = Vec::new();
        let mut data: Vec<Vec<Option<Box<dyn Socket>>>> = Vec::new();
        for process in 0..self.processes {
            let mut own: Vec<Option<Box<dyn Socket>>> = Vec::new();
            for others in &mut data {
                let (near, far) = sockets(&mut cuts);
                others[process] = Some(near);
                own.push(Some(far));
            }
            own.resize_with(self.processes, || None);
            data.push(own);
        }
        let mut peers = Vec::new();
        let mut leaders = data.remove(0);
        for (at, sockets) in data.into_iter().enumerate() {
            let (near, far) = control(self, &mut cuts);
            let (make, ended) = (Arc::clone(&self.make), Arc::clone(&self.ended));
            let thread = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_all().build().expect("a runtime");
                let result = runtime.block_on(follow(Member {
                    graph: Arc::new(make()),
                    version: "1".to_owned(),
                    control: far,
                    sockets,
                    clock: Arc::new(SystemClock::new()),
                }));
                ended.lock().unwrap().push(result);
            });
            self.threads.lock().unwrap().push(thread);
            peers.push(Peer {
                control: near,
                data: leaders[at + 1].take().expect("connected"),
            });
        }
        *self.cuts.lock().unwrap() = cuts;
        Ok(peers)
    }

    async fn end(&self) {
        let under_way = self.under_way.load(Ordering::SeqCst);
        self.overtaken.store(under_way, Ordering::SeqCst);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap());
        let joined = tokio::task::spawn_blocking(move || {
            threads
                .into_iter()
                .for_each(|thread| thread.join().expect("no panic"));
        });
        joined.await.expect("joined");
    }
}
