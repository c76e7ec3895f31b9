//! Publishes units: asks ([`known`]), makes attempts ([`making`]) and confirms, each part as [`decide`]
//! says.

mod known;
mod making;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use thalweg_stream::sink::{PublishUnit, Published, Released, SinkContext, StageStore};
use thalweg_stream::{Fault, Figures, Publisher};
use uuid::Uuid;

use crate::attempt::{Action, Attempt, Facts, State, decide, source_id};
use crate::client::{Client, backoff};
use crate::counters::{Counters, add};
use crate::error::Error;
use crate::message::Mapping;
use crate::part::{Part, parts};
use crate::resources::{Lent, Resources};
use crate::secret::SasUrl;
use crate::storage::Storage;

/// Parts of one unit that are published at once.
const PARTS_AT_ONCE: usize = 4;
/// Tries of each request to storage, each on another account where there are several.
const TRIES_MAX: u32 = 4;
const POLL_FIRST: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_secs(5);
const REPEAT_FIRST: Duration = Duration::from_millis(500);
/// More attempts than this mean that something is wrong that time will not mend.
const ATTEMPTS_MAX: u32 = 10_000;

/// The publisher of one sink.
#[derive(Debug)]
pub(crate) struct AdxPublisher {
    pub(crate) client: Client,
    pub(crate) resources: Resources,
    pub(crate) database: String,
    pub(crate) table: String,
    pub(crate) mapping: Mapping,
    pub(crate) repost_after: Duration,
    pub(crate) context: SinkContext,
    /// Attempts whose row we inserted and whose message certainly never left, with the name we
    /// wrote into the row.
    pub(crate) unposted: Mutex<BTreeMap<Uuid, String>>,
    pub(crate) counters: Arc<Counters>,
}

#[async_trait]
impl Publisher for AdxPublisher {
    /// # Cancel safety
    /// The future may be dropped anywhere; the next call asks before it does anything.
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        let unit = unit.get();
        let parts = parts(unit, &self.context)?;
        let rows: u64 = parts.iter().map(|part| part.rows).sum();
        // Nothing runs before it is polled: a few at a time.
        let publishing: Vec<BoxFuture<'_, Result<(), Fault>>> = (parts.iter())
            .map(|part| self.publish_part(part, stage).boxed())
            .collect();
        stream::iter(publishing)
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect::<Vec<()>>()
            .await
            .map_err(|fault| fault.within(format!("azure data explorer table {:?}", self.table)))?;
        tracing::debug!(table = %self.table, epoch = %unit.epoch, rows, "published");
        Ok(Published::default())
    }

    fn figures(&self, figures: &mut dyn Figures) {
        let now = self.counters.now();
        figures.total("sink_throttled_total", &[], now.throttled);
        figures.total("sink_retries_total", &["request"], now.retries);
        for (status, blobs) in [
            ("succeeded", now.succeeded),
            ("skipped", now.skipped),
            ("failed", now.failed),
        ] {
            figures.total("adx_ingestions_total", &[status], blobs);
        }
    }
}

impl AdxPublisher {
    async fn publish_part(&self, part: &Part<'_>, stage: &dyn StageStore) -> Result<(), Fault> {
        let mut facts = Facts {
            last: self.newest_attempt(part).await?,
            tagged: None,
            posted: None,
            made: 0,
        };
        if let Some(last) = &facts.last
            && self.is_unposted(part, last.number)
        {
            facts = self.attempt(part, last.number, stage, facts.made).await?;
        }
        let mut pause = POLL_FIRST;
        loop {
            match decide(&facts, self.repost_after) {
                Action::Done => {
                    self.count_done(&facts, part);
                    return Ok(());
                }
                Action::AskTag => facts.tagged = Some(self.tagged(part).await?),
                Action::AskMark => facts.posted = Some(self.is_marked(part, &facts).await?),
                Action::Wait => {
                    tokio::time::sleep(pause.min(self.repost_after)).await;
                    facts.last = self.again(part, facts.last.take(), pause).await?;
                    facts.tagged = None;
                    pause = (pause * 2).min(POLL_MAX);
                }
                Action::Post(number) if number >= ATTEMPTS_MAX => {
                    return Err(Fault::unavailable(format!(
                        "tag {:?} has failed {number} times",
                        part.tag
                    )));
                }
                Action::Post(number) => {
                    self.count_failure(&facts);
                    if facts.made > 0 {
                        tokio::time::sleep(REPEAT_FIRST * (1 << facts.made.min(6))).await;
                    }
                    facts = self.attempt(part, number, stage, facts.made).await?;
                    pause = POLL_FIRST;
                }
                Action::Later(failure) => {
                    self.count_failure(&facts);
                    return Err(Fault::transient(format!(
                        "ingestion of tag {:?} failed: {}: {}",
                        part.tag, failure.code, failure.details
                    )));
                }
                Action::Refuse(failure) => {
                    self.count_failure(&facts);
                    return Err(Fault::user(format!(
                        "database {:?} refuses the rows of tag {:?}: {} ({}): {}",
                        self.database, part.tag, failure.code, failure.kind, failure.details
                    )));
                }
            }
        }
    }

    /// Runs a request to storage with what the service lends: again after failures that may pass,
    /// and once with fresh signatures when they are refused.
    async fn with_lent<T, F>(&self, request: impl Fn(Arc<Lent>, u32) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut refreshed = false;
        let mut lent = self.resources.get(&self.client).await?;
        let mut tries = 0;
        loop {
            let error = match request(lent.clone(), tries).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            tries += 1;
            if matches!(error.status(), Some(429 | 503)) {
                add(&self.counters.throttled, 1);
            }
            add(&self.counters.retries, 1);
            if matches!(error.status(), Some(401 | 403 | 404)) && !refreshed {
                refreshed = true;
                lent = self.resources.refreshed(&self.client).await?;
            } else if error.retryable() && tries < TRIES_MAX {
                tokio::time::sleep(backoff(tries, &error)).await;
            } else {
                return Err(error);
            }
        }
    }

    fn count_done(&self, facts: &Facts, part: &Part<'_>) {
        let by_us = |last: &Attempt| last.ours && last.state == State::Succeeded;
        match facts.last.as_ref().is_some_and(by_us) {
            true => add(&self.counters.succeeded, 1),
            false => add(&self.counters.skipped, 1),
        }
        add(&self.counters.rows, part.rows);
    }

    fn count_failure(&self, facts: &Facts) {
        let failed = |last: &Attempt| last.ours && matches!(last.state, State::Failed(_));
        add(
            &self.counters.failed,
            u64::from(facts.last.as_ref().is_some_and(failed)),
        );
    }

    fn storage(&self) -> Storage<'_> {
        Storage {
            http: self.client.http(),
            now_ms: self.context.clock.now_ms(),
        }
    }

    fn is_unposted(&self, part: &Part<'_>, number: u32) -> bool {
        self.lock().contains_key(&source_id(&part.tag, number))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, String>> {
        self.unposted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The status table of `id`: a function of the tables lent, so that everybody looks in the same.
fn own_table(lent: &Lent, id: Uuid) -> Result<&SasUrl, Error> {
    choose(&lent.tables, id, 0)
}

fn choose(urls: &[SasUrl], id: Uuid, tries: u32) -> Result<&SasUrl, Error> {
    let (high, _) = id.as_u64_pair();
    let count = (urls.len() as u64).max(1);
    let at = (high % count + u64::from(tries)) % count;
    urls.get(usize::try_from(at).unwrap_or(0))
        .ok_or_else(|| Error::Setting("the service lends no storage".to_owned()))
}
