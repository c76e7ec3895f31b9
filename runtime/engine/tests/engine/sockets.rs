//! One job over processes that are connected as the binary connects them: timely and the control
//! messages over the mesh's sockets, whose handshake and frames are the mesh's own.

use std::net::SocketAddr;
use std::ops::Range;

use thalweg_engine::{Launch, Peer, RestartPolicy, follow, supervise_mesh};
use thalweg_mesh::{Attempt, Fate, Listener, Secret};
use thalweg_stream::Generation;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::delivery::{input, until};
use super::mesh::ends_whole;
use super::restarts::POLICY;
use super::*;

/// How the binary makes the engine's connections of the mesh's.
#[path = "../../../../jobs/thalweg/src/transport.rs"]
mod transport;

use transport::PATIENCE;

/// Followers with runtimes of their own, whose way to the leader goes through a line that can be
/// disturbed.
struct Meshed {
    processes: usize,
    make: Arc<dyn Fn() -> Graph + Send + Sync>,
    trouble: Trouble,
    /// How the followers of the last attempt have ended.
    ended: Arc<Mutex<Vec<Result<(), Fault>>>>,
    followers: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

/// What goes wrong on the way.
#[derive(Clone, Default)]
struct Trouble {
    /// How often a bit was to be flipped.
    flips: watch::Sender<usize>,
    /// The connections of which nothing comes out any more, by the order in which they were made.
    held: watch::Sender<Range<usize>>,
}

impl Meshed {
    fn new(processes: usize, make: impl Fn() -> Graph + Send + Sync + 'static) -> Self {
        Self {
            processes,
            make: Arc::new(make),
            trouble: Trouble::default(),
            ended: Arc::default(),
            followers: Mutex::default(),
        }
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Carries connections to `target`; where it is reached.
async fn line(target: SocketAddr, trouble: Trouble) -> SocketAddr {
    let listener = TcpListener::bind(local()).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((near, _)) = listener.accept().await else {
                return;
            };
            let far = TcpStream::connect(target)
                .await
                .expect("the leader listens");
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(number, near_in, far_out, trouble.clone()));
            tokio::spawn(carry(number, far_in, near_out, trouble.clone()));
        }
    });
    address
}

/// One direction of a connection; after each flip that was asked for, one bit is wrong.
async fn carry(
    number: usize,
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    trouble: Trouble,
) {
    let mut buffer = [0; 4096];
    let (mut flips, mut held) = (trouble.flips.subscribe(), trouble.held.subscribe());
    flips.mark_unchanged();
    // A connection that breaks is closed at the other side, too.
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if flips.has_changed().unwrap_or(false) {
            flips.mark_unchanged();
            buffer[read / 2] ^= 1;
        }
        if held.wait_for(|held| !held.contains(&number)).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

fn member(process: usize, processes: usize, generation: Generation) -> thalweg_mesh::Member {
    thalweg_mesh::Member {
        job: Arc::from("test"),
        attempt: Attempt::Is(generation.0),
        process,
        processes,
        secret: Secret::new(&[7; 32]).expect("long enough"),
    }
}

#[async_trait]
impl Launch for Meshed {
    fn processes(&self) -> usize {
        self.processes
    }

    async fn start(&self, generation: Generation) -> Result<Vec<Peer>, Fault> {
        let processes = self.processes;
        self.ended.lock().unwrap().clear();
        let listener = Listener::bind(local(), None).await?;
        let leader = line(listener.address()?, self.trouble.clone())
            .await
            .to_string();
        for process in 1..processes {
            let (make, leader) = (Arc::clone(&self.make), leader.clone());
            let tell = Arc::clone(&self.ended);
            let follower = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_all().build().expect("a runtime");
                let ended = runtime.block_on(async {
                    let own = Listener::bind(local(), None).await?;
                    let address = own.address()?.to_string();
                    let joining = member(process, processes, generation);
                    let joined = joining.join(&leader, &own, address, PATIENCE).await?;
                    let (graph, clock) = (Arc::new(make()), Arc::new(SystemClock::new()));
                    let version = "1".to_owned();
                    follow(transport::follower(joined, graph, version, clock)).await
                });
                tell.lock().unwrap().push(ended);
            });
            self.followers.lock().unwrap().push(follower);
        }
        let fates: Vec<Fate> = (0..processes).map(|_| Fate::default()).collect();
        let leading = member(0, processes, generation);
        let peers = leading.lead(&listener, PATIENCE, &fates).await?;
        Ok(peers.into_iter().map(transport::peer).collect())
    }

    async fn end(&self) {
        let followers = std::mem::take(&mut *self.followers.lock().unwrap());
        let joined = tokio::task::spawn_blocking(move || {
            let mut followers = followers.into_iter();
            followers.try_for_each(std::thread::JoinHandle::join)
        });
        joined.await.expect("joined").expect("no panic");
    }
}

fn numbers(count: u64, endless: bool) -> Numbers {
    Numbers {
        splits: 3,
        count,
        chunk: 50,
        endless,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_exchanged_over_the_meshs_sockets() {
    for (processes, workers) in [(2, 1), (3, 2)] {
        let store = memory(&format!("sockets-{processes}"), workers);
        let (out, dead) = (Shelf::default(), Shelf::default());
        let shelves = (out.clone(), dead.clone());
        let make = move || job(numbers(2_000, false), &shelves.0, &shelves.1, workers);
        let (job, launch) = (
            make(),
            Arc::new(Meshed::new(processes, move || make().graph)),
        );
        let (around, _commands, _) = surroundings(&store);
        let running = supervise_mesh(job, around, RestartPolicy::NEVER, Arc::clone(&launch) as _);
        let outcome = within("the job", running).await;
        assert_eq!(outcome, Ok(Outcome::Finished));
        assert_eq!(*launch.ended.lock().unwrap(), vec![Ok(()); processes - 1]);
        assert_eq!(out.lines(), expected(3, 2_000));
        assert_eq!(dead.lines().len(), 60);
    }
}

/// A job of two processes that takes many epochs to read all there is: disturbed in each of these ways,
/// it makes what it makes undisturbed.
async fn gets_over<T>(name: &str, ways: Vec<T>, disturb: impl AsyncFn(T, &Trouble, &StatusBoard)) {
    const COUNT: u64 = 60_000;
    let store = memory(&format!("sockets-{name}"), 1);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let shelves = (out.clone(), dead.clone());
    let make = move || {
        let mut job = direct(numbers(COUNT, true), &shelves.0, &shelves.1, 1);
        job.limits.epoch_bytes = 20_000;
        job
    };
    let (job, launch) = (make(), Arc::new(Meshed::new(2, move || make().graph)));
    let (around, commands, board) = surroundings(&store);
    let running = supervise_mesh(job, around, POLICY, Arc::clone(&launch) as _);
    let running = tokio::spawn(running);
    for (restarts, way) in (0..).zip(ways) {
        let before = board.read().checkpoints;
        until("checkpoints", || board.read().checkpoints >= before + 2).await;
        disturb(way, &launch.trouble, &board).await;
        until("another attempt", || board.read().restarts > restarts).await;
    }
    until("all is read", || input(&board) == 3 * COUNT).await;
    ends_whole(COUNT, running, &commands, (&out, &dead)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_ends_the_attempt_before_anybody_acts_on_it() {
    gets_over("flipped", vec![(); 3], async |(), trouble, board| {
        let before = board.read().restarts;
        trouble.flips.send_modify(|flips| *flips += 1);
        until("it is noticed", || board.read().restarts > before).await;
        let restart = board.read().restarted.expect("restarted");
        assert_eq!(restart.cause, "process", "{}", restart.error);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods, reason = "how soon is real time")]
async fn a_process_out_of_reach_ends_the_attempt_within_five_seconds() {
    // All that connects it, and each of its connections alone.
    let ways = vec![(0..9, "process"), (0..1, "process"), (1..2, "stall")];
    gets_over("held", ways, async |(held, cause), trouble, board| {
        let before = board.read().restarts;
        trouble.held.send_replace(held.clone());
        let began = std::time::Instant::now();
        until("it is noticed", || board.read().restarts > before).await;
        let took = began.elapsed();
        trouble.held.send_replace(0..0);
        let restart = board.read().restarted.expect("restarted");
        assert_eq!(restart.cause, cause, "{held:?}: {}", restart.error);
        assert!(took < Duration::from_secs(5), "{held:?}: {took:?}");
    })
    .await;
}
