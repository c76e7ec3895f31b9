//! The way of one request through a stand-in: faults before, the record after.

use std::sync::Arc;
use std::time::Duration;

use thalweg_stream::Clock;
use thalweg_stream::clock::SystemClock;

use crate::fault::{Action, Faults};
use crate::ledger::{Entry, Ledger};

/// What a stand-in is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where requests are recorded.
    pub ledger: Arc<Ledger>,
    /// Which requests go wrong.
    pub faults: Arc<Faults>,
    /// The clock of the record.
    pub clock: Arc<dyn Clock>,
    /// What is to exist from the start, in the service's own notation.
    pub create: Vec<String>,
}

impl Options {
    /// A ledger in memory, no faults, nothing to create.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(Ledger::memory(), Faults::none(0))
    }

    /// Options with this ledger and these faults.
    #[must_use]
    pub fn new(ledger: Ledger, faults: Faults) -> Self {
        Self {
            ledger: Arc::new(ledger),
            faults: Arc::new(faults),
            clock: Arc::new(SystemClock::new()),
            create: Vec::new(),
        }
    }

    /// Receives a request: decides on a fault, and waits if that is one.
    ///
    /// # Errors
    /// If the rules cannot be read; the service answers 500 with the message.
    pub async fn enter(
        &self,
        service: &'static str,
        operation: &str,
        target: &str,
    ) -> std::io::Result<Passage> {
        let received_us = micros(self.clock.elapsed());
        let action = (self.faults.decide(operation, target)).map_err(std::io::Error::other)?;
        if let Some(Action { delay_ms, .. }) = &action
            && *delay_ms > 0
        {
            tokio::time::sleep(Duration::from_millis(*delay_ms)).await;
        }
        Ok(Passage {
            options: self.clone(),
            service,
            operation: operation.to_owned(),
            target: target.to_owned(),
            received_us,
            action: action.unwrap_or_default(),
        })
    }
}

/// A request between its arrival and its answer.
#[must_use = "a request that is not recorded is missing from the ledger"]
#[derive(Debug)]
pub struct Passage {
    options: Options,
    service: &'static str,
    operation: String,
    target: String,
    received_us: u64,
    action: Action,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent.
    Send,
    /// An error is sent in its place, in the service's own form.
    Replace {
        /// Its HTTP status.
        status: u16,
        /// How long the client is to stay away, milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// It is lost: answer with [`lost_reply`](crate::lost_reply).
    Lose,
}

impl Passage {
    /// Whether the service is to apply the request at all; if not, it records it as not applied
    /// and does what the [`Fate`] says.
    #[must_use]
    pub fn applies(&self) -> bool {
        self.action.status.is_none() || self.action.apply || self.action.lost_reply
    }

    /// Records the request: whether it took effect, and the status the service would answer with
    /// (and, if that tells the client to stay away, for how long).
    ///
    /// Call it while nothing else can be applied to the same object, so that the ledger's order is
    /// the order of effects.
    ///
    /// # Errors
    /// If the ledger cannot be written; the service answers 500 with the message.
    pub fn record(
        self,
        applied: bool,
        status: u16,
        retry_after_ms: Option<u64>,
        details: serde_json::Value,
    ) -> std::io::Result<Fate> {
        let fate = match self.action {
            Action {
                lost_reply: true, ..
            } => Fate::Lose,
            Action {
                status: Some(status),
                retry_after_ms,
                ..
            } => Fate::Replace {
                status,
                retry_after_ms,
            },
            Action { status: None, .. } => Fate::Send,
        };
        let (answered, retry_after_ms) = match fate {
            Fate::Send => (Some(status), retry_after_ms),
            Fate::Replace {
                status,
                retry_after_ms,
            } => (Some(status), retry_after_ms),
            Fate::Lose => (None, None),
        };
        let clock = &self.options.clock;
        self.options
            .ledger
            .append(Entry {
                number: 0,
                at_ms: clock.now_ms(),
                received_us: self.received_us,
                recorded_us: micros(clock.elapsed()),
                service: self.service.to_owned(),
                operation: self.operation,
                target: self.target,
                details,
                applied,
                answered,
                retry_after_ms,
                fault: self.action != Action::default(),
            })
            .map_err(std::io::Error::other)?;
        Ok(fate)
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
