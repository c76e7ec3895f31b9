//! Publishes units: asks, uploads, gates, posts and confirms, each part as [`decide`] says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use thalweg_stream::planted::planted;
use thalweg_stream::sink::{PublishUnit, Published, Released, SinkContext, StageStore};
use thalweg_stream::{Fault, Figures, Publisher};
use uuid::Uuid;

use crate::answer::time_text;
use crate::attempt::{
    Action, Attempt, Facts, State, decide, first_row, mark, mark_id, read_row, source_id, writer_of,
};
use crate::client::{Client, VERSION_HEADER, backoff, quoted_name, quoted_text};
use crate::cluster::Endpoint;
use crate::counters::{Counters, add};
use crate::error::Error;
use crate::gzip::{HEADER, trailer};
use crate::message::{Mapping, Message};
use crate::part::{Part, parts};
use crate::resources::{Lent, Resources};
use crate::secret::SasUrl;
use crate::storage::{Created, Storage};

/// Parts of one unit that are published at once.
const PARTS_AT_ONCE: usize = 4;
/// Tries of each request to storage, each on another account where there are several.
const TRIES_MAX: u32 = 4;
/// A larger blob is uploaded in blocks of about this size (bytes).
const BLOCK_BYTES: usize = 8 << 20;
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

    /// The newest attempt under the part's tag, by any process.
    async fn newest_attempt(&self, part: &Part<'_>) -> Result<Option<Attempt>, Fault> {
        let mut newest = None;
        for number in 0..ATTEMPTS_MAX {
            match self.read_attempt(part, number).await? {
                Some(attempt) => newest = Some(attempt),
                None => break,
            }
        }
        Ok(newest)
    }

    /// What has become of `last` meanwhile. A row that is gone (the service empties the tables in
    /// time) tells nothing new.
    async fn again(
        &self,
        part: &Part<'_>,
        last: Option<Attempt>,
        pause: Duration,
    ) -> Result<Option<Attempt>, Fault> {
        let Some(mut last) = last else {
            return Ok(None);
        };
        match self.read_attempt(part, last.number).await? {
            Some(attempt) => Ok(Some(Attempt {
                ours: last.ours,
                ..attempt
            })),
            None => {
                last.age += pause;
                Ok(Some(last))
            }
        }
    }

    async fn read_attempt(&self, part: &Part<'_>, number: u32) -> Result<Option<Attempt>, Fault> {
        let id = source_id(&part.tag, number);
        let Some(row) = self.read_status(id).await? else {
            return Ok(None);
        };
        let attempt = read_row(&row, number, self.context.clock.now_ms());
        attempt.map(Some).map_err(|reason| {
            Fault::unavailable(format!("status row {id} is not understood: {reason}"))
        })
    }

    /// The status row `id`: in its own table, or in another if the tables lent have changed.
    async fn read_status(&self, id: Uuid) -> Result<Option<serde_json::Value>, Error> {
        self.with_lent(|lent, _| async move {
            let own = own_table(&lent, id)?;
            let others = lent.tables.iter().filter(|table| *table != own);
            for table in std::iter::once(own).chain(others) {
                let found = self.storage().entity(table, &id.to_string()).await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
        .await
    }

    /// Whether the newest attempt is known to have been posted.
    async fn is_marked(&self, part: &Part<'_>, facts: &Facts) -> Result<bool, Error> {
        let Some(last) = &facts.last else {
            return Ok(false);
        };
        let mark = self.read_status(mark_id(&part.tag, last.number)).await?;
        Ok(mark.is_some())
    }

    /// Whether an extent of the table carries the part's tag.
    async fn tagged(&self, part: &Part<'_>) -> Result<bool, Error> {
        let command = format!(
            ".show table {} extents where tags has {}",
            quoted_name(&self.table),
            quoted_text(&format!("ingest-by:{}", part.tag))
        );
        let answer = self
            .client
            .command_again(Endpoint::Engine, &self.database, &command)
            .await?;
        Ok(!answer.rows.is_empty())
    }

    /// Makes attempt `number`, if nobody else does, and reads what is known of it then.
    async fn attempt(
        &self,
        part: &Part<'_>,
        number: u32,
        stage: &dyn StageStore,
        made: u32,
    ) -> Result<Facts, Fault> {
        let id = source_id(&part.tag, number);
        // The blob first: row, message and mark then follow one another closely.
        let blob = self.upload(part, number, stage).await?;
        let ours = self.gate(id, &blob).await?;
        if ours && self.post(part, id, &blob).await? {
            self.mark(mark_id(&part.tag, number)).await?;
        }
        let last = self.read_attempt(part, number).await?;
        Ok(Facts {
            last: last.map(|attempt| Attempt { ours, ..attempt }),
            tagged: None,
            posted: None,
            made: made + 1,
        })
    }

    /// Inserts the status row of `id`: whether we may post.
    async fn gate(&self, id: Uuid, blob: &SasUrl) -> Result<bool, Error> {
        let remembered = self.lock().get(&id).cloned();
        let writer =
            remembered.unwrap_or_else(|| format!("{}-{}", self.context.generation, Uuid::new_v4()));
        let row = first_row(
            id,
            &self.database,
            &self.table,
            &blob.place(),
            &writer,
            self.context.clock.now_ms(),
        );
        let row = &row;
        let created = self
            .with_lent(|lent, _| async move {
                let table = own_table(&lent, id)?;
                self.storage().insert_entity(table, row).await
            })
            .await?;
        let ours = match created {
            Created::Now => true,
            // Ours, if the reply to an insertion was lost.
            Created::Before => {
                let found = self.read_status(id).await?;
                found.as_ref().and_then(writer_of) == Some(&*writer)
            }
        };
        if ours {
            self.lock().insert(id, writer);
        }
        Ok(ours)
    }

    /// Checks that messages are short enough, before the first is needed.
    pub(crate) async fn check_message(&self) -> Result<(), Error> {
        let lent = self.resources.get(&self.client).await?;
        let id = Uuid::max();
        let longest = "x".repeat(512);
        let blob = choose(&lent.containers, id, 0)?.join(&longest);
        let message = self.message(&lent, id, blob.as_str(), u64::MAX, &longest)?;
        Storage::check_message(&message)
    }

    fn message(
        &self,
        lent: &Lent,
        id: Uuid,
        blob: &str,
        raw_bytes: u64,
        tag: &str,
    ) -> Result<String, Error> {
        let other = planted("new-id-on-retry").then(|| format!("{tag}#{id}"));
        let tag = other.as_deref().unwrap_or(tag);
        let message = Message {
            id: id.to_string(),
            blob,
            raw_bytes,
            database: &self.database,
            table: &self.table,
            tag,
            mapping: &self.mapping,
            status_table: own_table(lent, id)?.reveal(),
            identity: lent.identity.reveal(),
            application: self.client.application(),
            client_version: VERSION_HEADER,
            created_at: time_text(self.context.clock.now_ms()),
        };
        Ok(message.to_json())
    }

    /// Marks an attempt as posted.
    async fn mark(&self, id: Uuid) -> Result<(), Error> {
        let writer = self.context.generation.to_string();
        let row = &mark(id, &writer, self.context.clock.now_ms());
        let marking = self.with_lent(|lent, _| async move {
            let table = own_table(&lent, id)?;
            self.storage().insert_entity(table, row).await
        });
        // There before if the reply was lost: nobody else marks what we have posted.
        let (Created::Now | Created::Before) = marking.await?;
        Ok(())
    }

    /// Posts the message of `id`; whether it is known to have left. Once it may have left, `id` is
    /// never posted again.
    async fn post(&self, part: &Part<'_>, id: Uuid, blob: &SasUrl) -> Result<bool, Error> {
        let posted = self
            .with_lent(|lent, tries| async move {
                let message = self.message(&lent, id, blob.reveal(), part.raw_bytes, &part.tag)?;
                let queue = choose(&lent.queues, id, tries)?;
                match self.storage().post_message(queue, &message).await {
                    // Lost on the way out or on the way back: only the status can tell.
                    Err(Error::Unknown { reason, .. }) => Ok(Some(reason)),
                    Ok(()) => Ok(None),
                    Err(error) => Err(error),
                }
            })
            .await?;
        self.lock().remove(&id);
        add(&self.counters.posted, 1);
        if let Some(reason) = &posted {
            tracing::warn!(
                table = %self.table, tag = %part.tag, reason,
                "it is not known whether an ingestion was posted; waiting for its status"
            );
        }
        Ok(posted.is_none())
    }

    /// Uploads the part's blob for attempt `number`, and gives its address.
    async fn upload(
        &self,
        part: &Part<'_>,
        number: u32,
        stage: &dyn StageStore,
    ) -> Result<SasUrl, Fault> {
        let id = source_id(&part.tag, number);
        let name = &part.blob(number);
        let uploaded = self.with_lent(|lent, tries| async move {
            let container = choose(&lent.containers, id, tries)?;
            // Every try begins with the first byte.
            match self.upload_to(container, name, part, stage).await? {
                Ok(()) => Ok(Ok(SasUrl::of(container.join(name)))),
                Err(fault) => Ok(Err(fault)),
            }
        });
        uploaded.await?
    }

    /// The inner result is that of reading what was staged.
    async fn upload_to(
        &self,
        container: &SasUrl,
        name: &str,
        part: &Part<'_>,
        stage: &dyn StageStore,
    ) -> Result<Result<(), Fault>, Error> {
        let storage = self.storage();
        let mut buffer = BytesMut::from(&HEADER[..]);
        let mut blocks = 0;
        for object in part.objects {
            let bytes: Bytes = match stage.get(object).await {
                Ok(bytes) => bytes,
                Err(fault) => return Ok(Err(fault)),
            };
            buffer.extend_from_slice(&bytes);
            if buffer.len() >= BLOCK_BYTES {
                let block = buffer.split().freeze();
                storage.put_block(container, name, blocks, block).await?;
                blocks += 1;
            }
        }
        buffer.extend_from_slice(&trailer(part.pieces.iter().copied()));
        // The content is a function of the manifest, so that a blob of this name is this blob.
        let (Created::Now | Created::Before) = if blocks == 0 {
            storage.put_blob(container, name, buffer.freeze()).await?
        } else {
            storage
                .put_block(container, name, blocks, buffer.freeze())
                .await?;
            storage.put_block_list(container, name, blocks + 1).await?
        };
        Ok(Ok(()))
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
