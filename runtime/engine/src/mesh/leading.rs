//! The leader's side: followers are prepared, told what is announced, and listened to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thalweg_stream::{Clock, Epoch, Fault, Generation, Section};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::connection::{Receiving, Sending};
use super::held::{Held, Known, tell};
use super::listening::Listening;
use super::message::{Brief, Order, Word, apart};
use super::{Launch, Socket};
use crate::failure::Failure;
use crate::shared::{Shared, Team};

/// Orders that may wait for one follower: the epochs in flight are few, and a checkpoint gives one
/// for each node.
const ORDERS_MAX: usize = 4096;

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
    /// Those that listen, each until its follower has gone.
    listening: JoinSet<()>,
    /// Tells what is held elsewhere.
    telling: JoinSet<()>,
    /// Whether the job has come to its end, so that followers may go.
    over: Arc<AtomicBool>,
}

/// How long followers may take to go when the job has come to its end.
const FAREWELL: Duration = Duration::from_secs(5);

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
pub(super) fn failed(process: usize, mut failure: Failure) -> Failure {
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
            listening: JoinSet::new(),
            telling: JoinSet::new(),
            over: Arc::default(),
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
            self.telling.spawn(telling);
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
                over: Arc::clone(&self.over),
                held: Arc::clone(&held),
                read: (Epoch(0), 0),
                flow: vec![[0; 8]; nodes],
            };
            self.listening.spawn(listening.run(receiving));
            self.sending.spawn(send(sending, orders));
        }
        Ok(())
    }

    /// The job has come to its end: tells the followers, and waits until they have gone. An order that
    /// this process has only queued when it exits would never reach them.
    pub(crate) async fn end(&mut self, clock: &dyn Clock) {
        if self.processes == 1 {
            return;
        }
        self.over.store(true, Ordering::Release);
        for orders in &self.orders {
            // A follower that takes no orders is ended by whoever has started it.
            orders.try_send(Order::End).ok();
        }
        let gone = async {
            while self.sending.join_next().await.is_some() {}
            while self.listening.join_next().await.is_some() {}
        };
        tokio::select! {
            () = gone => {}
            () = clock.sleep(FAREWELL) => {}
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
