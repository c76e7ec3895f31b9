//! A follower's side: it builds the workers it is told to, does what is announced, and reports.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use thalweg_stream::{Clock, Fault, Section};
use tokio::sync::mpsc;

use super::connection::{Receiving, Sending};
use super::message::{Brief, Order, Pulse, Word, together};
use super::{Control, Socket, Wires};
use crate::failure::{Cause, Failure};
use crate::flow::{Flow, read};
use crate::graph::Graph;
use crate::letters::SplitNames;
use crate::meter::Meter;
use crate::report::Report;
use crate::shared::{Shared, Team};
use crate::threads::{self, LEAVE};
use crate::watch::Watch;
use crate::worker::Plan;

/// How often the leader is told how this process is.
const PULSE_EVERY: Duration = Duration::from_millis(20);
/// A change of what is held is told at once if it is more than such a part of the budget.
pub(super) const HELD_PARTS: usize = 64;
/// How many pulses there are to one with figures.
const FIGURES_EVERY: u32 = 50;

/// A process that works for a leader.
pub struct Member {
    /// The job's dataflow, made of the definition that the leader has.
    pub graph: Arc<Graph>,
    /// The definition's fingerprint, as the leader's job has it.
    pub version: String,
    /// The connection to the leader.
    pub control: Control,
    /// Connections to all processes, in order; none to itself.
    pub sockets: Vec<Option<Box<dyn Socket>>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Works for a leader until the job has come to its end: one attempt.
///
/// # Errors
/// What has ended the attempt: the leader is lost, or a part of this process has failed, which the
/// leader is told.
///
/// # Crash safety
/// May end at any point: nothing durable is done here.
pub async fn follow(member: Member) -> Result<(), Fault> {
    let Control { outgoing, incoming } = member.control;
    let sending = Sending {
        process: 0,
        frames: outgoing,
    };
    let mut receiving = Receiving {
        process: 0,
        frames: incoming,
        begun: BytesMut::new(),
    };
    let work = Work {
        graph: member.graph,
        version: member.version,
        sockets: member.sockets,
        clock: member.clock,
    };
    let prepared = work.prepared(&mut receiving).await;
    let result = match prepared {
        Ok((brief, restored)) => work.run(brief, restored, &sending, &mut receiving).await,
        Err(failure) => {
            let failure = fail(&sending, failure).await;
            // The leader hears why before it sees the data connections end.
            heard(&mut receiving).await;
            drop(work);
            Err(failure)
        }
    };
    result.map_err(|failure| failure.fault)
}

/// Tells the leader why this process ends; if it cannot be told, it knows.
async fn fail(sending: &Sending, failure: Failure) -> Failure {
    let word = Word::Failed(Box::new(failure.clone()));
    drop(sending.send(&word, &[]).await);
    failure
}

/// Waits until the leader knows why this process ends: it ends the attempt then, and with it the
/// connection, which also ends when it is lost.
async fn heard(receiving: &mut Receiving) {
    while receiving.receive::<Order>().await.is_ok() {}
}

struct Work {
    graph: Arc<Graph>,
    version: String,
    sockets: Vec<Option<Box<dyn Socket>>>,
    clock: Arc<dyn Clock>,
}

/// State by worker and step.
type Restored = BTreeMap<usize, BTreeMap<Arc<str>, Vec<Section>>>;

impl Work {
    async fn run(
        self,
        brief: Brief,
        restored: Restored,
        sending: &Sending,
        receiving: &mut Receiving,
    ) -> Result<(), Failure> {
        let team = Team::of(brief.process, brief.processes, brief.workers);
        let (reported, reports) = mpsc::unbounded_channel();
        let shared = Shared::new(
            brief.limits,
            Arc::clone(&self.clock),
            team,
            self.graph.nodes.len(),
            brief.first,
            Meter::Elsewhere(Mutex::default()),
            reported,
        );
        let shared = Arc::new(shared.suspecting(brief.suspect.clone()));
        let (graph, clock) = (Arc::clone(&self.graph), Arc::clone(&self.clock));
        let (wires, handles) = Wires::watch(self.sockets, &shared)?;
        let plan = plan(brief, &graph, &shared, restored);
        let names = Arc::clone(&plan.names);
        let threads = threads::start(plan, handles)?;
        let result = tokio::select! {
            biased;
            result = listen(receiving, &shared, &graph, &names) => result,
            failure = tell(sending, &shared, reports) => match sending.closed() {
                // What has come before says whether the job has ended, or why the leader is lost.
                true => listen(receiving, &shared, &graph, &names).await,
                // A process that has come to the end of the job goes: that may overtake the order.
                false if failure.cause == Cause::Process => tokio::select! {
                    biased;
                    result = listen(receiving, &shared, &graph, &names) => result.map_err(|_| failure),
                    () = clock.sleep(LEAVE) => Err(failure),
                },
                false => Err(failure),
            },
        };
        let result = match result {
            Ok(()) => Ok(()),
            Err(failure) => {
                shared.fail_with(failure.clone());
                // Before the connections end, which says less.
                let failure = fail(sending, failure).await;
                tokio::select! {
                    () = heard(receiving) => {}
                    () = clock.sleep(LEAVE) => {}
                }
                wires.end();
                Err(failure)
            }
        };
        // A worker that is stuck stays behind.
        tokio::select! {
            _ = threads => {}
            () = clock.sleep(LEAVE) => wires.end(),
        }
        result
    }

    /// What the leader says before the work begins.
    async fn prepared(&self, receiving: &mut Receiving) -> Result<(Brief, Restored), Failure> {
        let strange = || Failure::lost(0, "it does not say what is to be done");
        let (Order::Prepare(brief), _) = receiving.receive::<Order>().await? else {
            return Err(strange());
        };
        if brief.version != self.version || brief.graph != self.graph.fingerprint() {
            let what = format!(
                "the leader has another definition of job \"{}\", or another build of thalweg",
                brief.job
            );
            return Err(Fault::user(what).into());
        }
        if brief.processes != self.sockets.len() {
            return Err(Fault::bug("connections of another mesh").into());
        }
        let mut restored = Restored::new();
        loop {
            let (order, body) = receiving.receive::<Order>().await?;
            match order {
                Order::Restore {
                    worker,
                    step,
                    sections,
                } => {
                    let sections = together(sections, body).ok_or_else(strange)?;
                    let state = restored.entry(worker).or_default();
                    state.entry(step).or_default().extend(sections);
                }
                Order::Begin => return Ok((*brief, restored)),
                Order::Prepare(_)
                | Order::Close { .. }
                | Order::Join { .. }
                | Order::CheckpointFailed { .. }
                | Order::Drain
                | Order::Full { .. }
                | Order::Elsewhere { .. }
                | Order::End => return Err(strange()),
            }
        }
    }
}

/// What the workers of this process need.
fn plan(brief: Brief, graph: &Arc<Graph>, shared: &Arc<Shared>, mut restored: Restored) -> Plan {
    let names = SplitNames::default();
    for (node, source) in graph.sources() {
        for start in brief.starts.get(&node).into_iter().flatten() {
            let split = Arc::clone(&start.spec.name);
            names.name(start.id, Arc::clone(&source.name), split);
        }
    }
    let sinks = (brief.sinks.into_iter())
        .map(|(at, sink)| (at, sink.context(&brief.job, &shared.clock)))
        .collect();
    let workers = 0..shared.team().total;
    Plan {
        job: brief.job,
        graph: Arc::clone(graph),
        shared: Arc::clone(shared),
        first: brief.first,
        starts: brief.starts,
        tracked: brief.tracked,
        watermarks: brief.watermarks,
        names: Arc::new(names),
        sinks,
        restored: workers
            .map(|worker| Mutex::new(restored.remove(&worker).unwrap_or_default()))
            .collect(),
        schedule: None,
    }
}

/// Does what the leader announces, until the end of the job.
async fn listen(
    receiving: &mut Receiving,
    shared: &Shared,
    graph: &Graph,
    names: &SplitNames,
) -> Result<(), Failure> {
    loop {
        let (order, _) = receiving.receive::<Order>().await?;
        let known = |node: usize| node < graph.nodes.len();
        match order {
            Order::Close { epoch, kind } if epoch == shared.closed().next() => {
                shared.close(kind);
            }
            Order::Join { first, splits } => {
                for joining in &splits {
                    let Some((_, source)) = graph.sources().find(|(at, _)| *at == joining.node)
                    else {
                        return Err(Failure::lost(0, "it has splits of no source"));
                    };
                    let split = Arc::clone(&joining.start.spec.name);
                    names.name(joining.start.id, Arc::clone(&source.name), split);
                }
                shared.join_from(first, splits);
            }
            Order::CheckpointFailed { epoch } => shared.checkpoint_failed(epoch),
            Order::Drain => shared.drain(),
            Order::Full { node, full } if known(node) => shared.set_full(node, full),
            Order::Elsewhere { held, queued } => shared.set_elsewhere(&held, queued),
            Order::End => return Ok(()),
            Order::Prepare(_)
            | Order::Restore { .. }
            | Order::Begin
            | Order::Close { .. }
            | Order::Full { .. } => {
                return Err(Failure::lost(0, "its orders make no sense"));
            }
        }
    }
}

/// Tells the leader what is read, what is reported and how this process is, until something fails.
async fn tell(
    sending: &Sending,
    shared: &Shared,
    mut reports: mpsc::UnboundedReceiver<Report>,
) -> Failure {
    let mut telling = Telling {
        sending,
        shared,
        read: (shared.closed(), 0, false),
        held: 0,
        pulses: 0,
        due: shared.clock.elapsed(),
    };
    loop {
        let rest = telling.due.saturating_sub(shared.clock.elapsed());
        tokio::select! {
            biased;
            Some(report) = reports.recv() => {
                if let Err(failure) = telling.report(report).await {
                    return failure;
                }
            }
            () = shared.wake_coordinator.notified() => {}
            () = shared.clock.sleep(rest) => {}
        }
        if let Some(failure) = shared.failure() {
            return failure;
        }
        if let Err(failure) = telling.tell().await {
            return failure;
        }
    }
}

struct Telling<'a> {
    sending: &'a Sending,
    shared: &'a Shared,
    /// What was last told of reading.
    read: (thalweg_stream::Epoch, u64, bool),
    /// What was last told of bytes held and queued, together.
    held: usize,
    pulses: u32,
    /// When the next pulse is due, on the monotonic clock.
    due: Duration,
}

impl Telling<'_> {
    async fn report(&self, report: Report) -> Result<(), Failure> {
        let Some((word, body)) = Word::of(report) else {
            return Err(Fault::bug("a report that is the leader's").into());
        };
        self.sending.send(&word, &body).await?;
        // From now on it counts at the leader.
        let bytes = body.iter().map(bytes::Bytes::len).sum();
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Ok(())
    }

    async fn tell(&mut self) -> Result<(), Failure> {
        let epoch = self.shared.closed().next();
        let (bytes, hurried) = self.shared.read_here();
        let reading = (epoch, bytes, hurried);
        if reading != self.read && (bytes > 0 || hurried) {
            self.read = reading;
            let word = Word::Read {
                epoch,
                bytes,
                hurried,
            };
            self.sending.send(&word, &[]).await?;
        }
        let now = self.shared.clock.elapsed();
        self.tell_held(now >= self.due).await?;
        if now >= self.due {
            self.due = now + PULSE_EVERY;
            let pulse = self.pulse();
            let word = Word::Pulse(Box::new(pulse));
            self.sending.send(&word, &[]).await?;
        }
        Ok(())
    }

    /// Tells what is held if it has changed by much, or if it is time to and it has changed at all.
    async fn tell_held(&mut self, due: bool) -> Result<(), Failure> {
        let nodes = 0..self.shared.flow.len();
        let held: Vec<usize> = nodes.map(|node| self.shared.held_here(node)).collect();
        let queued = self.shared.queued_bytes.load(Ordering::Relaxed);
        let all = held.iter().sum::<usize>() + queued;
        let much = self.shared.limits.bytes_max / HELD_PARTS;
        if due || all.abs_diff(self.held) > much {
            self.held = all;
            let word = Word::Held { held, queued };
            self.sending.send(&word, &[]).await?;
        }
        Ok(())
    }

    fn pulse(&mut self) -> Pulse {
        let shared = self.shared;
        let here = shared.team().here.clone();
        let watches = shared.watches.get(here.clone()).unwrap_or_default();
        let busy = shared.busy_us.get(here).unwrap_or_default();
        let figures = self.pulses.is_multiple_of(FIGURES_EVERY);
        self.pulses = self.pulses.wrapping_add(1);
        Pulse {
            workers: watches.iter().map(seen).collect(),
            busy_us: busy.iter().map(read).collect(),
            flow: shared.flow.iter().map(flowed).collect(),
            counted: shared.metrics.take(),
            figures: match figures {
                true => Pulse::pack(shared.figures.all()),
                false => Vec::new(),
            },
        }
    }
}

fn seen(watch: &Watch) -> (crate::stall::Seen, Option<usize>) {
    (watch.seen(), watch.node())
}

fn flowed(flow: &Flow) -> [u64; 8] {
    [
        read(&flow.rows_in),
        read(&flow.rows_out),
        read(&flow.batches),
        read(&flow.bytes_in),
        read(&flow.bytes_out),
        read(&flow.paused_us),
        flow.readers.load(Ordering::Relaxed) as u64,
        flow.disconnected.load(Ordering::Relaxed) as u64,
    ]
}
