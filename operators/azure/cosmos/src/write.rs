//! Bringing one document to its row: the protocol, one step at a time.
//!
//! A document we remember is replaced under its etag; one we do not is read first. Whatever the
//! service then says, short of "done", the document is read again and the stamps decide: the same
//! row is there (our own reply was lost), a newer one (ours is superseded), an older one (again,
//! under its etag). So a write that was sent twice, late, or by a process thought dead changes
//! nothing that it should not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use azure_data_cosmos::PartitionKey;
use serde_json::value::RawValue;
use thalweg_stream::planted::planted;

use crate::cache::{Cache, Known};
use crate::client::{Answer, Client, Put, Reply, Throttle, Trouble};
use crate::counters::Counters;
use crate::error::CosmosError;
use crate::pace::Pace;
use crate::spec::CosmosSpec;
use crate::stamp::{Carried, Stamp, Verdict};

/// First wait after an answer that left the outcome open; doubled each time…
const BACKOFF_START: Duration = Duration::from_millis(50);
/// …up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often "exists" and "missing" may alternate before we believe that a unique key is taken.
const CONTRADICTIONS_MAX: u32 = 8;

/// A document to be written.
#[derive(Debug)]
pub(crate) struct Write {
    /// Partition key and id in one: the name in the cache.
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) key: PartitionKey,
    pub(crate) stamp: Stamp,
    pub(crate) document: Box<RawValue>,
    /// Position among the rows being published.
    pub(crate) row: usize,
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is there now.
    Written,
    /// It was there.
    Unchanged,
    /// Something newer is there.
    Superseded,
    /// The service refuses it for good.
    Rejected {
        /// The kind of refusal.
        code: &'static str,
        /// What the service said.
        reason: String,
    },
}

/// What is known of a document when its write is decided.
#[derive(Debug)]
pub(crate) enum There {
    Nothing,
    Document(Known),
    /// The service refuses to read it.
    Unreadable(u16, String),
}

/// What is to be done about a write.
#[derive(Debug)]
pub(crate) enum Decision {
    Settled(Outcome),
    Put(Put),
}

/// All that writing needs.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) spec: std::sync::Arc<CosmosSpec>,
    pub(crate) client: Client,
    pub(crate) pace: Pace,
    pub(crate) cache: Mutex<Cache>,
    pub(crate) counters: std::sync::Arc<Counters>,
    pub(crate) clock: std::sync::Arc<dyn thalweg_stream::Clock>,
}

impl Context {
    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        // The cache is never relied upon, so whatever a panic left of it will do.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request when the pace allows, and again for as long as it is throttled.
    pub(crate) async fn ask<T, F: Future<Output = Answer<T>>>(
        &self,
        patience: &mut Patience<'_>,
        request: impl Fn() -> F,
    ) -> Result<Reply<T>, CosmosError> {
        loop {
            let permit = self.pace.enter().await;
            Counters::add(&self.counters.requests, 1);
            let Answer {
                reply,
                request_units,
            } = request().await;
            self.counters.charge(request_units);
            match reply {
                Ok(reply) => {
                    self.pace.answered(request_units);
                    return Ok(reply);
                }
                Err(Throttle(after)) => {
                    Counters::add(&self.counters.throttled, 1);
                    self.pace.throttled(after);
                }
            }
            drop(permit);
            patience.check("the service keeps throttling")?;
        }
    }

    /// What is there: from the cache, or from the service.
    pub(crate) async fn look(
        &self,
        write: &Write,
        patience: &mut Patience<'_>,
    ) -> Result<There, CosmosError> {
        if let Some(known) = self.cache().get(&write.name) {
            return Ok(There::Document(known));
        }
        loop {
            let read = || self.client.read(write.key.clone(), &write.id);
            match self.ask(patience, read).await? {
                Reply::Done(known) => {
                    self.cache().put(&write.name, known.clone());
                    return Ok(There::Document(known));
                }
                Reply::Missing => return Ok(There::Nothing),
                Reply::Refused(status, reason) => return Ok(There::Unreadable(status, reason)),
                Reply::Trouble(trouble) => self.wait_out(trouble, patience).await?,
                Reply::Exists | Reply::Changed | Reply::Dependent => {
                    return Err(CosmosError::Bug(format!(
                        "reading document \"{}\" is answered as a write",
                        write.id
                    )));
                }
            }
        }
    }

    /// Decides what to do about a write, given what is there.
    pub(crate) fn decide(&self, write: &Write, there: There) -> Result<Decision, CosmosError> {
        if planted("blind-replace") {
            return Ok(Decision::Put(Put::Upsert));
        }
        let known = match there {
            There::Nothing => return Ok(Decision::Put(Put::Create)),
            There::Document(known) => known,
            There::Unreadable(status, reason) => {
                return Ok(Decision::Settled(refused(status, reason)));
            }
        };
        let stamp = match known.carried {
            Carried::None => return Ok(Decision::Put(Put::Replace(known.etag))),
            Carried::Newer(version) => {
                return Err(CosmosError::StampFormat {
                    id: write.id.clone(),
                    version,
                });
            }
            Carried::Stamp(stamp) => stamp,
        };
        Ok(match write.stamp.judge(&stamp) {
            Verdict::Replace => Decision::Put(Put::Replace(known.etag)),
            Verdict::Same => Decision::Settled(Outcome::Unchanged),
            Verdict::Superseded => Decision::Settled(Outcome::Superseded),
            Verdict::Fenced => {
                return Err(CosmosError::Fenced {
                    id: write.id.clone(),
                    theirs: stamp.generation,
                    ours: write.stamp.generation,
                });
            }
        })
    }

    /// Remembers a write that is done.
    pub(crate) fn remember(&self, write: &Write, etag: Option<String>) {
        match etag {
            Some(etag) => {
                let carried = Carried::Stamp(Box::new(write.stamp.clone()));
                self.cache().put(&write.name, Known { etag, carried });
            }
            None => self.cache().forget(&write.name),
        }
    }

    /// Writes one document.
    pub(crate) async fn write_one(&self, write: &Write) -> Result<Outcome, CosmosError> {
        let mut patience = Patience::new(self, &write.id);
        let mut contradictions = 0;
        loop {
            let there = self.look(write, &mut patience).await?;
            let put = match self.decide(write, there)? {
                Decision::Settled(outcome) => return Ok(outcome),
                Decision::Put(put) => put,
            };
            let creates = matches!(put, Put::Create);
            let send = || {
                self.client
                    .write(write.key.clone(), &write.id, &write.document, put.clone())
            };
            let reply = self.ask(&mut patience, send).await?;
            match reply {
                Reply::Done(etag) => {
                    self.remember(write, etag);
                    return Ok(Outcome::Written);
                }
                Reply::Refused(status, reason) => return Ok(refused(status, reason)),
                Reply::Exists if !creates || contradictions >= CONTRADICTIONS_MAX => {
                    // The id is free or ours, so it is another unique key that is taken.
                    return Ok(unique_key());
                }
                Reply::Exists => {
                    contradictions += 1;
                    self.again(write, &mut patience, "it exists, and is not found")
                        .await?;
                }
                Reply::Missing | Reply::Changed => {
                    self.again(write, &mut patience, "somebody else keeps writing it")
                        .await?;
                }
                Reply::Dependent => {
                    self.again(write, &mut patience, "it depends on another write")
                        .await?;
                }
                Reply::Trouble(trouble) => {
                    self.cache().forget(&write.name);
                    self.wait_out(trouble, &mut patience).await?;
                }
            }
        }
    }

    /// The document is not what we thought: look again, at once the first time.
    async fn again(
        &self,
        write: &Write,
        patience: &mut Patience<'_>,
        why: &str,
    ) -> Result<(), CosmosError> {
        self.cache().forget(&write.name);
        Counters::add(&self.counters.retries, 1);
        patience.check(why)?;
        if patience.tries > 2 {
            patience.back_off().await;
        }
        Ok(())
    }

    /// Waits after an answer that settles nothing; an error if waiting is no use.
    pub(crate) async fn wait_out(
        &self,
        trouble: Trouble,
        patience: &mut Patience<'_>,
    ) -> Result<(), CosmosError> {
        let endpoint = self.spec.endpoint.clone();
        match trouble {
            Trouble::Denied(reason) => Err(CosmosError::Denied { endpoint, reason }),
            Trouble::Gone => Err(CosmosError::Missing {
                endpoint,
                what: format!("container \"{}\" any more", self.spec.container),
            }),
            Trouble::Unknown(reason) => {
                Counters::add(&self.counters.retries, 1);
                patience.check(&reason)?;
                patience.back_off().await;
                Ok(())
            }
        }
    }
}

/// A refusal for good, as an outcome.
pub(crate) fn refused(status: u16, reason: String) -> Outcome {
    let code = if status == 413 {
        "too-large"
    } else {
        "bad-request"
    };
    Outcome::Rejected { code, reason }
}

/// The container has unique keys beside the id, and one is taken.
pub(crate) fn unique_key() -> Outcome {
    let reason = "a unique key of the container is taken".to_owned();
    Outcome::Rejected {
        code: "unique-key",
        reason,
    }
}

/// How long a write has been tried, and how long to wait before the next try.
#[derive(Debug)]
pub(crate) struct Patience<'c> {
    context: &'c Context,
    id: &'c str,
    until: Duration,
    backoff: Duration,
    tries: u64,
}

impl<'c> Patience<'c> {
    pub(crate) fn new(context: &'c Context, id: &'c str) -> Self {
        let until = context.clock.elapsed() + context.spec.limits.patience;
        Self {
            context,
            id,
            until,
            backoff: BACKOFF_START,
            tries: 0,
        }
    }

    /// Counts a try that settled nothing; an error once there have been enough.
    pub(crate) fn check(&mut self, reason: &str) -> Result<(), CosmosError> {
        self.tries += 1;
        if self.context.clock.elapsed() < self.until {
            return Ok(());
        }
        Err(CosmosError::Exhausted {
            id: self.id.to_owned(),
            tries: self.tries,
            reason: reason.to_owned(),
        })
    }

    pub(crate) async fn back_off(&mut self) {
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}
