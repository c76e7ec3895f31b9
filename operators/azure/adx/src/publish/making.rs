//! One attempt: its blob, its gate, its message, its mark.

use bytes::{Bytes, BytesMut};
use thalweg_stream::Fault;
use thalweg_stream::planted::planted;
use thalweg_stream::sink::StageStore;
use uuid::Uuid;

use super::{AdxPublisher, choose, own_table};
use crate::answer::time_text;
use crate::attempt::{Attempt, Facts, first_row, mark, mark_id, source_id, writer_of};
use crate::client::VERSION_HEADER;
use crate::counters::add;
use crate::error::Error;
use crate::gzip::{HEADER, trailer};
use crate::message::Message;
use crate::part::Part;
use crate::resources::Lent;
use crate::secret::SasUrl;
use crate::storage::{Created, Storage};

/// A larger blob is uploaded in blocks of about this size (bytes).
const BLOCK_BYTES: usize = 8 << 20;

impl AdxPublisher {
    /// Makes attempt `number`, if nobody else does, and reads what is known of it then.
    pub(super) async fn attempt(
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
}
