//! The job log: the append-only record of claims and commits that is the only truth about a job.
//!
//! It is a sequence of small objects, `log/1`, `log/2` …, each created only if absent: whoever
//! creates the next number wins. [`Contender`] decides, [`History`] is what the entries say, and
//! this module performs: [`JobLog`] reads the log and may [claim](JobLog::claim) the job,
//! [`OwnedLog`] is the right to commit in its name.
//!
//! A log does not grow for ever: now and then its owner writes all that the entries say into one
//! more entry, a snapshot. Of the numbers below it, the nearest stay occupied by fences and the
//! others are deleted. A process that was frozen since may still create one of those; what it
//! finds when it lists beyond it is at least that snapshot. What stands below the newest snapshot
//! is never read.

mod claim;
mod contender;
mod entry;
mod history;
#[cfg(test)]
mod model;
mod owned;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thalweg_stream::Fault;
use thalweg_stream::clock::Clock;

pub use self::claim::{ClaimRequest, Claimed};
pub use self::contender::{Contender, Fact, Rest, Step};
pub use self::entry::{Body, Claim, Commit, Entry, ManifestRef, WriterId};
pub use self::history::{CommitRecord, History, Owner, Standing, Violation};
pub use self::owned::{Cleaning, CommitNumber, OwnedLog, Swept};

use crate::document::Format;
use crate::error::Error;
use crate::identity::{Identity, Process};
use crate::name::{LOG, ObjectKind, ObjectName};
use crate::store::{Listed, Store};

const HINT: Format = Format {
    kind: "hint",
    version: 1,
};
/// How often a request is repeated that may pass…
const ATTEMPTS_MAX: u32 = 6;
/// …and how long after the first failure; it doubles. All in all about three seconds.
const BACKOFF: Duration = Duration::from_millis(100);
/// How often the log may be truncated while it is read.
const RESTARTS_MAX: u32 = 16;
/// How many entries are read at once on the way back to the newest snapshot.
const READ_AHEAD: u64 = 32;

/// Where the log ends, about. It speeds up finding the end and is never believed.
#[derive(Debug, Serialize, Deserialize)]
struct Hint {
    end: u64,
}

/// A job's log, read.
#[derive(Debug)]
pub struct JobLog {
    store: Store,
    identity: Identity,
    clock: Arc<dyn Clock>,
    writer: WriterId,
    contender: Contender,
}

impl JobLog {
    /// Reads the log of the job in `store`; of a new store it is empty.
    ///
    /// # Errors
    /// Corrupt if it is damaged; the store's.
    pub async fn open(
        store: Store,
        identity: Identity,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        let mut log = Self::unread(store, identity, clock);
        log.drive().await?;
        Ok(log)
    }

    fn unread(store: Store, identity: Identity, clock: Arc<dyn Clock>) -> Self {
        let writer = identity.next_writer();
        Self {
            contender: Contender::new(writer.clone()),
            store,
            identity,
            clock,
            writer,
        }
    }

    /// What it says.
    #[must_use]
    pub fn history(&self) -> &History {
        self.contender.history()
    }

    /// Does what the contender asks for until it is at rest.
    async fn drive(&mut self) -> Result<Rest, Error> {
        let mut read_ahead = BTreeMap::new();
        let mut attempts = 0;
        let mut restarts = 0;
        loop {
            let fact = match self.contender.step() {
                Step::Rest(rest) => return Ok(rest),
                Step::List { beyond } => {
                    read_ahead.clear();
                    Fact::Listed(self.list(beyond).await?)
                }
                Step::Read { number } => match self.read(number, &mut read_ahead).await? {
                    Some(entry) => Fact::Found(entry),
                    None => {
                        restarts += 1;
                        if restarts > RESTARTS_MAX {
                            let name = ObjectName::log(number).to_string();
                            return Err(Error::Missing { name });
                        }
                        Fact::Missing
                    }
                },
                Step::Create(entry) => {
                    read_ahead.clear();
                    match self
                        .store
                        .put_if_absent(&entry.name(), entry.encode()?)
                        .await
                    {
                        Ok(()) => Fact::Created,
                        Err(Error::AlreadyExists { .. }) => Fact::Exists,
                        Err(error) if error.passing() => {
                            attempts += 1;
                            if attempts >= ATTEMPTS_MAX {
                                return Err(Error::OutcomeUnknown {
                                    name: entry.name().to_string(),
                                    problem: error.to_string(),
                                });
                            }
                            self.clock.sleep(backoff(attempts)).await;
                            Fact::Unknown
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
            (self.contender.observe(fact)).map_err(|violation| violated(&violation))?;
        }
    }

    /// The greatest number beyond `beyond`.
    async fn list(&self, beyond: u64) -> Result<Option<u64>, Error> {
        let hint = match beyond {
            0 => self.hint().await,
            _ => None,
        };
        if let Some(end) = hint {
            // Entries are never deleted above the newest snapshot, so where the hint is right its
            // entry is there, and all that matters is beyond it.
            let listed = retry(&self.store, || self.store.list_log(end.saturating_sub(1))).await?;
            let numbers: Vec<_> = numbers(&listed).collect();
            if numbers.first() == Some(&end) {
                return Ok(numbers.last().copied());
            }
        }
        let listed = retry(&self.store, || self.store.list_log(beyond)).await?;
        Ok(numbers(&listed).last())
    }

    async fn hint(&self) -> Option<u64> {
        let name = ObjectName::hint();
        let bytes = self.store.find(&name).await.ok()??;
        let hint: Hint = HINT.decode(&name, &bytes).ok()?;
        (hint.end > 0).then_some(hint.end)
    }

    /// Leaves a hint of the end. It may fail, be old, or be wrong.
    async fn leave_hint(&self) {
        let end = self.history().end;
        let left = match HINT.encode(&Hint { end }) {
            Ok(bytes) => self.store.advise(&ObjectName::hint(), bytes).await,
            Err(error) => Err(error),
        };
        if let Err(error) = left {
            tracing::debug!(%error, "hint not written");
        }
    }

    /// Reads an entry, and some before it, which are likely to be wanted next.
    async fn read(
        &self,
        number: u64,
        ahead: &mut BTreeMap<u64, Bytes>,
    ) -> Result<Option<Entry>, Error> {
        if !ahead.contains_key(&number) {
            let first = number.saturating_sub(READ_AHEAD - 1).max(1);
            let wanted = (first..=number).map(|number| async move {
                let name = ObjectName::log(number);
                let found = retry(&self.store, || self.store.find(&name)).await?;
                Ok::<_, Error>(found.map(|bytes| (number, bytes)))
            });
            let found = futures::future::try_join_all(wanted).await?;
            ahead.extend(found.into_iter().flatten());
        }
        let bytes = ahead.remove(&number);
        bytes.map(|bytes| Entry::decode(number, &bytes)).transpose()
    }
}

/// Reads the log of the job in `store` without any wish to own it.
///
/// # Errors
/// Corrupt if it is damaged; the store's.
pub async fn read_history(store: &Store) -> Result<History, Error> {
    let identity = Identity::new("reader", Process::default());
    let mut log = JobLog::unread(store.clone(), identity, Arc::clone(store.clock()));
    log.drive().await?;
    Ok(log.contender.history().clone())
}

/// Repeats a request to `store` that changes nothing, or the same however often.
pub(crate) async fn retry<T, F>(store: &Store, request: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut attempts = 0;
    loop {
        match request().await {
            Err(error) if error.passing() && attempts + 1 < ATTEMPTS_MAX => {
                attempts += 1;
                tracing::debug!(%error, attempts, "repeating a request to the checkpoint store");
                store.clock().sleep(backoff(attempts)).await;
            }
            done => return done,
        }
    }
}

/// The wait before attempt number `attempts` + 1.
fn backoff(attempts: u32) -> Duration {
    BACKOFF * 2_u32.saturating_pow(attempts.saturating_sub(1).min(5))
}

fn numbers(listed: &[Listed]) -> impl Iterator<Item = u64> {
    listed.iter().filter_map(|found| match found.name.kind() {
        Some(ObjectKind::Log(number)) => Some(number),
        Some(ObjectKind::Manifest { .. } | ObjectKind::Part(_) | ObjectKind::Staged { .. })
        | None => None,
    })
}

/// A log that the protocol does not allow is a damaged one.
fn violated(violation: &Violation) -> Error {
    Error::corrupt(LOG.trim_end_matches('/'), violation.to_string())
}

#[cfg(test)]
pub(crate) mod tests;
