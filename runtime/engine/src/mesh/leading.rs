//! The leader's side: followers are prepared, told what is announced, and listened to.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thalweg_stream::sink::EncodedObject;
use thalweg_stream::{Clock, Epoch, Fault, Generation, Section};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::connection::{Receiving, Sending};
use super::following::HELD_PARTS;
use super::message::{Brief, Order, Pulse, Word, apart, together};
use super::{Launch, Socket};
use crate::failure::Failure;
use crate::flow::Flow;
use crate::report::Report;
use crate::shared::{Shared, Team, lock};
use crate::threads::LEAVE;

/// Orders that may wait for one follower: the epochs in flight are few, and a checkpoint gives one
/// for each node.
const ORDERS_MAX: usize = 4096;
/// How often it is looked whether followers are to be told what the others hold.
const TELL_EVERY: Duration = Duration::from_millis(5);

/// The processes of one attempt, as the leader has them; none but itself unless it has been given a
/// way to start others.
pub(crate) struct Mesh {
    team: Team,
    processes: usize,
    links: Vec<Link>,
    sockets: Vec<Option<Box<dyn Socket>>>,
    orders: Vec<mpsc::Sender<Order>>,
    /// Those that send orders end by themselves when they have sent the last.
    sending: JoinSet<()>,
    /// Those that listen.
    tasks: JoinSet<()>,
}

/// One follower.
struct Link {
    sending: Sending,
    receiving: Receiving,
    orders: mpsc::Receiver<Order>,
}

impl Link {
    /// Sends something before the work begins. If the follower is gone, its last word says why.
    async fn send(&mut self, order: &Order, body: &[Bytes]) -> Result<(), Failure> {
        let Err(lost) = self.sending.send(order, body).await else {
            return Ok(());
        };
        loop {
            match self.receiving.receive::<Word>().await {
                Ok((Word::Failed(failure), _)) => {
                    return Err(failed(self.sending.process, *failure));
                }
                Ok(_) => {}
                Err(_) => return Err(lost),
            }
        }
    }
}

/// What has failed in another process.
fn failed(process: usize, mut failure: Failure) -> Failure {
    failure.fault = failure.fault.within(format_args!("process {process}"));
    failure
}

impl Mesh {
    /// Starts the others, if there are any: `workers` are those of all processes.
    pub(crate) async fn start(
        launch: Option<&dyn Launch>,
        workers: usize,
        generation: Generation,
    ) -> Result<Self, Failure> {
        let mut mesh = Self {
            team: Team::alone(workers),
            processes: 1,
            links: Vec::new(),
            sockets: Vec::new(),
            orders: Vec::new(),
            sending: JoinSet::new(),
            tasks: JoinSet::new(),
        };
        let Some(launch) = launch else {
            return Ok(mesh);
        };
        let (processes, peers) = (launch.processes(), launch.start(generation).await?);
        if peers.len() + 1 != processes {
            let what = format!("{} of {processes} processes have started", peers.len() + 1);
            return Err(Fault::bug(what).into());
        }
        mesh.team = Team::of(0, processes, workers / processes);
        mesh.processes = processes;
        mesh.sockets.push(None);
        for (at, peer) in peers.into_iter().enumerate() {
            let (process, (orders, taken)) = (at + 1, mpsc::channel(ORDERS_MAX));
            mesh.sockets.push(Some(peer.data));
            mesh.orders.push(orders);
            mesh.links.push(Link {
                sending: Sending {
                    process,
                    frames: peer.control.outgoing,
                },
                receiving: Receiving {
                    process,
                    frames: peer.control.incoming,
                    begun: BytesMut::new(),
                },
                orders: taken,
            });
        }
        Ok(mesh)
    }

    pub(crate) fn team(&self) -> &Team {
        &self.team
    }

    pub(crate) fn processes(&self) -> usize {
        self.processes
    }

    /// Where each follower takes orders.
    pub(crate) fn orders(&self) -> Vec<mpsc::Sender<Order>> {
        self.orders.clone()
    }

    /// The data connections, in order of the processes.
    pub(crate) fn sockets(&mut self) -> Vec<Option<Box<dyn Socket>>> {
        std::mem::take(&mut self.sockets)
    }

    /// The first thing that followers are told.
    pub(crate) async fn prepare(&mut self, brief: &Brief) -> Result<(), Failure> {
        for (at, link) in self.links.iter_mut().enumerate() {
            let brief = Brief {
                process: at + 1,
                ..brief.clone()
            };
            let order = Order::Prepare(Box::new(brief));
            link.send(&order, &[]).await?;
        }
        Ok(())
    }

    /// Gives a worker of a follower its state.
    pub(crate) async fn restore(
        &mut self,
        worker: usize,
        state: BTreeMap<Arc<str>, Vec<Section>>,
    ) -> Result<(), Failure> {
        let at = self.follower_of(worker);
        let Some(link) = at.and_then(|at| self.links.get_mut(at)) else {
            return Err(Fault::bug("state of no follower's worker").into());
        };
        for (step, sections) in state {
            // One message a section: of any size, and as many as there are.
            for section in sections {
                let (sections, body) = apart(vec![section]);
                let step = Arc::clone(&step);
                let order = Order::Restore {
                    worker,
                    step,
                    sections,
                };
                link.send(&order, &body).await?;
            }
        }
        Ok(())
    }

    fn follower_of(&self, worker: usize) -> Option<usize> {
        (worker / self.team.here.len().max(1)).checked_sub(1)
    }

    /// Followers have all they need; from now on they are told what `shared` announces, and what they
    /// report is told to the coordinator.
    pub(crate) async fn begin(&mut self, shared: &Arc<Shared>) -> Result<(), Failure> {
        for link in &mut self.links {
            link.send(&Order::Begin, &[]).await?;
        }
        let nodes = shared.flow.len();
        let followers = self.links.iter();
        let held = Arc::new(Held {
            followers: followers.map(|_| Mutex::new(Known::new(nodes))).collect(),
            told: Notify::new(),
        });
        if self.processes > 1 {
            let orders = self.orders.clone();
            let telling = tell(Arc::clone(&held), orders, Arc::clone(shared));
            self.tasks.spawn(telling);
        }
        for link in self.links.drain(..) {
            let Link {
                sending,
                receiving,
                orders,
            } = link;
            let each = self.team.here.len();
            let process = receiving.process;
            let listening = Listening {
                process,
                team: Team::of(process, self.team.total / each.max(1), each),
                shared: Arc::clone(shared),
                held: Arc::clone(&held),
                read: (Epoch(0), 0),
                flow: vec![[0; 8]; nodes],
            };
            self.tasks.spawn(listening.run(receiving));
            self.sending.spawn(send(sending, orders));
        }
        Ok(())
    }

    /// The job has come to its end: tells the followers that listen.
    pub(crate) async fn end(&mut self, clock: &dyn Clock) {
        if self.processes == 1 {
            return;
        }
        for orders in &self.orders {
            // A follower that takes no orders is ended by whoever has started it.
            orders.try_send(Order::End).ok();
        }
        let sent = async { while self.sending.join_next().await.is_some() {} };
        tokio::select! {
            () = sent => {}
            () = clock.sleep(LEAVE) => {}
        }
    }
}

/// Sends a follower its orders.
async fn send(sending: Sending, mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        // If it is lost, whoever listens to it is told why.
        if sending.send(&order, &[]).await.is_err() || matches!(order, Order::End) {
            return;
        }
    }
}

/// What a follower has last told of itself.
#[derive(Debug)]
struct Known {
    held: Vec<usize>,
    queued: usize,
}

impl Known {
    fn new(nodes: usize) -> Self {
        Self {
            held: vec![0; nodes],
            queued: 0,
        }
    }
}

/// What all followers hold, as they have last told.
struct Held {
    followers: Vec<Mutex<Known>>,
    /// One of them has told.
    told: Notify,
}

/// Tells each follower, and the leader itself, what all others hold.
async fn tell(all: Arc<Held>, followers: Vec<mpsc::Sender<Order>>, shared: Arc<Shared>) {
    let nodes = shared.flow.len();
    let mut told: Vec<(Vec<usize>, usize)> = vec![(vec![0; nodes], 0); followers.len()];
    loop {
        tokio::select! {
            () = all.told.notified() => {}
            () = shared.clock.sleep(TELL_EVERY) => {}
        }
        let (mut held, mut queued) = (vec![0_usize; nodes], 0);
        for known in &all.followers {
            let known = lock(known);
            queued += known.queued;
            let sums = held.iter_mut().zip(&known.held);
            sums.for_each(|(sum, more)| *sum += more);
        }
        shared.set_elsewhere(&held, queued);
        for (node, sum) in held.iter_mut().enumerate() {
            *sum += shared.held_here(node);
        }
        queued += shared.queued_bytes.load(Ordering::Relaxed);
        let many = followers.iter().zip(&all.followers).zip(&mut told);
        for ((follower, known), told) in many {
            let (held, queued) = {
                let own = lock(known);
                let others = held.iter().zip(&own.held);
                let others = others.map(|(all, own)| all.saturating_sub(*own));
                (
                    others.collect::<Vec<_>>(),
                    queued.saturating_sub(own.queued),
                )
            };
            let sum = |held: &[usize], queued: usize| held.iter().sum::<usize>() + queued;
            let change = sum(&held, queued).abs_diff(sum(&told.0, told.1));
            if change > shared.limits.bytes_max / HELD_PARTS
                || (change > 0 && sum(&held, queued) == 0)
            {
                *told = (held.clone(), queued);
                // If it takes no orders, that is found out where it matters.
                follower.try_send(Order::Elsewhere { held, queued }).ok();
            }
        }
    }
}

/// Listens to one follower.
struct Listening {
    process: usize,
    /// Its workers are those that are here.
    team: Team,
    shared: Arc<Shared>,
    held: Arc<Held>,
    /// What it has read of an epoch.
    read: (Epoch, u64),
    /// What had gone through each node in it.
    flow: Vec<[u64; 8]>,
}

impl Listening {
    async fn run(mut self, mut receiving: Receiving) {
        loop {
            let taken = match receiving.receive::<Word>().await {
                Ok((word, body)) => self.take(word, body),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = taken {
                return self.shared.fail_with(failure);
            }
        }
    }

    fn take(&mut self, word: Word, body: Bytes) -> Result<(), Failure> {
        match word {
            Word::Read {
                epoch,
                bytes,
                hurried,
            } => self.read(epoch, bytes, hurried),
            Word::Held { held, queued } => {
                if let Some(known) = self.held.followers.get(self.process - 1) {
                    *lock(known) = Known { held, queued };
                    self.held.told.notify_one();
                }
            }
            Word::Pulse(pulse) => self.pulse(*pulse)?,
            Word::Sections {
                worker,
                node,
                sections,
            } => {
                self.check(worker, node)?;
                let length = body.len();
                let sections = together(sections, body);
                let sections =
                    sections.ok_or_else(|| self.strange("sections of another length"))?;
                self.queue(length);
                self.shared.report(Report::Sections {
                    worker,
                    node,
                    sections,
                });
            }
            Word::Sealed {
                epoch,
                worker,
                node,
                ledger,
                full,
            } => {
                self.check(worker, node)?;
                self.shared.report(Report::Sealed {
                    epoch,
                    worker,
                    node,
                    ledger,
                    full,
                });
            }
            Word::Staged {
                worker,
                node,
                after,
                rows,
                note,
            } => {
                self.check(worker, node)?;
                self.queue(body.len());
                let bytes = body;
                let object = EncodedObject { bytes, rows, note };
                self.shared.report(Report::Staged {
                    worker,
                    node,
                    after,
                    object,
                });
            }
            Word::Ended => self.shared.report(Report::Ended),
            Word::Failed(failure) => return Err(failed(self.process, *failure)),
        }
        Ok(())
    }

    /// From here on its content counts as queued at the leader.
    fn queue(&self, bytes: usize) {
        let queued = &self.shared.queued_bytes;
        queued.fetch_add(bytes, Ordering::Relaxed);
    }

    fn read(&mut self, epoch: Epoch, bytes: u64, hurried: bool) {
        if epoch != self.shared.closed().next() {
            return;
        }
        let before = match self.read.0 == epoch {
            true => self.read.1,
            false => 0,
        };
        self.read = (epoch, before.max(bytes));
        let more = bytes.saturating_sub(before);
        self.shared
            .count_read(usize::try_from(more).unwrap_or(usize::MAX));
        if hurried {
            self.shared.hurry();
        }
    }

    fn pulse(&mut self, pulse: Pulse) -> Result<(), Failure> {
        let nodes = self.shared.flow.len();
        let here = self.team.here.clone();
        let fits = pulse.flow.len() == nodes
            && pulse.workers.len() == here.len()
            && pulse.busy_us.len() == here.len();
        if !fits {
            return Err(self.strange("a pulse of another job"));
        }
        for ((worker, (seen, node)), busy) in here.zip(pulse.workers).zip(pulse.busy_us) {
            if let Some(watch) = self.shared.watches.get(worker) {
                watch.told(seen, node);
            }
            if let Some(known) = self.shared.busy_us.get(worker) {
                known.store(busy, Ordering::Relaxed);
            }
        }
        for ((flow, before), now) in (self.shared.flow.iter())
            .zip(&mut self.flow)
            .zip(pulse.flow)
        {
            add(flow, *before, now);
            *before = now;
        }
        self.shared.metrics.add(pulse.counted);
        for ((node, worker), told) in pulse.figures {
            self.check(worker, node)?;
            let told = told.into_iter().collect();
            self.shared.figures.tell(node, worker, told);
        }
        Ok(())
    }

    fn check(&self, worker: usize, node: usize) -> Result<(), Failure> {
        match self.team.here.contains(&worker) && node < self.shared.flow.len() {
            true => Ok(()),
            false => Err(self.strange("a worker or a node that is not its own")),
        }
    }

    fn strange(&self, what: &str) -> Failure {
        Failure::lost(self.process, format_args!("it tells of {what}"))
    }
}

/// Adds what has gone through a node of a follower since it last told; two of them are levels, which
/// may fall.
fn add(flow: &Flow, before: [u64; 8], now: [u64; 8]) {
    let more: [u64; 8] = std::array::from_fn(|at| now[at].wrapping_sub(before[at]));
    let [
        rows_in,
        rows_out,
        batches,
        bytes_in,
        bytes_out,
        paused_us,
        readers,
        disconnected,
    ] = more;
    let totals = [
        (&flow.rows_in, rows_in),
        (&flow.rows_out, rows_out),
        (&flow.batches, batches),
        (&flow.bytes_in, bytes_in),
        (&flow.bytes_out, bytes_out),
        (&flow.paused_us, paused_us),
    ];
    for (total, more) in totals {
        total.fetch_add(more, Ordering::Relaxed);
    }
    flow.readers.fetch_add(readers as usize, Ordering::Relaxed);
    let disconnected = disconnected as usize;
    flow.disconnected.fetch_add(disconnected, Ordering::Relaxed);
}
