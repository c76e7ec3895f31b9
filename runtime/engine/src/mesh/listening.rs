//! How the leader listens to one follower: its reports become those of workers here, and what it tells
//! of itself is added to what the leader knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use thalweg_stream::Epoch;
use thalweg_stream::sink::EncodedObject;

use super::connection::Receiving;
use super::held::{Held, Known};
use super::leading::failed;
use super::message::{Pulse, Word, packed};
use crate::failure::Failure;
use crate::flow::Flow;
use crate::report::Report;
use crate::shared::{Shared, Team, lock};

/// Listens to one follower.
pub(super) struct Listening {
    pub(super) process: usize,
    /// Its workers are those that are here.
    pub(super) team: Team,
    pub(super) shared: Arc<Shared>,
    /// Whether the job has come to its end: then a follower that has gone is none that is lost.
    pub(super) over: Arc<AtomicBool>,
    pub(super) held: Arc<Held>,
    /// What it has read of an epoch.
    pub(super) read: (Epoch, u64),
    /// What had gone through each node in it.
    pub(super) flow: Vec<[u64; 8]>,
}

impl Listening {
    pub(super) async fn run(mut self, mut receiving: Receiving) {
        loop {
            let taken = match receiving.receive::<Word>().await {
                Ok((word, body)) => self.take(word, body),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = taken {
                if !self.over.load(Ordering::Acquire) {
                    self.shared.fail_with(failure);
                }
                return;
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
                let sections = packed(sections, body);
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
