//! What can be seen of worker threads from outside.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::flow::{cpu_of, micros, thread_clock};
use crate::stall::Seen;

/// No step is at work.
const NOWHERE: usize = usize::MAX;

/// One worker, as it tells of itself.
#[derive(Debug)]
pub(crate) struct Watch {
    at_work: AtomicBool,
    turns: AtomicU64,
    /// The node in whose call it is.
    node: AtomicUsize,
    /// The clock of its thread.
    clock: AtomicI32,
    /// Its CPU time as another process tells it, microseconds, where it is a thread of that.
    elsewhere: Option<AtomicU64>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            at_work: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            node: AtomicUsize::new(NOWHERE),
            clock: AtomicI32::new(0),
            elsewhere: None,
        }
    }
}

impl Watch {
    /// The worker is a thread of another process.
    pub(crate) fn elsewhere() -> Self {
        Self {
            elsewhere: Some(AtomicU64::new(0)),
            ..Self::default()
        }
    }

    /// Another process tells what it has seen, and in which node.
    pub(crate) fn told(&self, seen: Seen, node: Option<usize>) {
        if let Some(cpu) = &self.elsewhere {
            cpu.store(micros(seen.cpu), Ordering::Relaxed);
        }
        self.turns.store(seen.turns, Ordering::Relaxed);
        self.node.store(node.unwrap_or(NOWHERE), Ordering::Relaxed);
        self.at_work.store(seen.at_work, Ordering::Release);
    }

    /// The calling thread is the worker, and has built its part.
    pub(crate) fn begin(&self) {
        self.clock.store(thread_clock(), Ordering::Relaxed);
        self.at_work.store(true, Ordering::Release);
    }

    /// It leaves.
    pub(crate) fn end(&self) {
        self.at_work.store(false, Ordering::Release);
    }

    /// It goes round once more.
    pub(crate) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// It calls a node; counts as a turn.
    pub(crate) fn enter(&self, node: usize) {
        self.node.store(node, Ordering::Relaxed);
        self.turn();
    }

    /// It comes back from it.
    pub(crate) fn leave(&self) {
        self.node.store(NOWHERE, Ordering::Relaxed);
    }

    /// The node it is in.
    pub(crate) fn node(&self) -> Option<usize> {
        Some(self.node.load(Ordering::Relaxed)).filter(|&node| node != NOWHERE)
    }

    /// What is seen of it now.
    pub(crate) fn seen(&self) -> Seen {
        let at_work = self.at_work.load(Ordering::Acquire);
        let cpu = match (at_work, &self.elsewhere) {
            (true, None) => cpu_of(self.clock.load(Ordering::Relaxed)),
            (true, Some(told)) => Duration::from_micros(told.load(Ordering::Relaxed)),
            (false, _) => Duration::ZERO,
        };
        Seen {
            at_work,
            turns: self.turns.load(Ordering::Relaxed),
            cpu,
        }
    }
}
