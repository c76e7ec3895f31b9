//! The publisher: staged rows of a checkpoint, brought to their documents.
//!
//! Objects are taken by part, so that a document's earlier part is written before its later one;
//! within a part each document appears once (its id has one owner), and partition keys are
//! written side by side.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once};

use async_trait::async_trait;
use futures::future::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use serde_json::value::RawValue;
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::sink::{
    PublishUnit, Published, RejectedRow, Released, SinkContext, StageStore, StagedObject,
};
use thalweg_stream::{DeadClass, DeadLetter, Fault, Figures, Origin, Publisher};

use crate::batch::{BATCH_BYTES_MAX, OPERATION_BYTES, OPERATIONS_MAX};
use crate::cache::Cache;
use crate::client::Client;
use crate::counters::Counters;
use crate::error::CosmosError;
use crate::pace::Pace;
use crate::row::{self, FORMAT, StagedRow};
use crate::spec::CosmosSpec;
use crate::stamp::{STAMP_FIELD, Writer};
use crate::write::{Context, Outcome, Write};

/// Publishes staged rows as documents.
#[derive(Debug)]
pub(crate) struct CosmosPublisher {
    context: Context,
    writer: Writer,
    /// Told once that tombstones stay.
    warned: Once,
}

/// A staged row and where it stands.
struct Placed {
    staged: StagedRow,
    /// `<epoch>-<worker>-<sequence>-<row>`
    place: String,
    epoch: u64,
    part: u32,
}

impl CosmosPublisher {
    pub(crate) fn new(
        spec: Arc<CosmosSpec>,
        client: Client,
        counters: Arc<Counters>,
        context: &SinkContext,
    ) -> Self {
        let clock = Arc::clone(&context.clock);
        let writer = Writer {
            job: context.job.to_string(),
            sink: context.sink.to_string(),
            lineage: context.lineage.0.clone(),
            generation: context.generation.0,
            started_ms: clock.now_ms(),
        };
        let limits = spec.limits;
        let context = Context {
            pace: Pace::new(
                Arc::clone(&clock),
                limits.concurrency_max,
                spec.request_units,
            ),
            cache: Mutex::new(Cache::new(limits.cached_documents_max)),
            client,
            counters,
            clock,
            spec,
        };
        Self {
            context,
            writer,
            warned: Once::new(),
        }
    }

    /// The documents of some rows, by partition key, in groups that fit a batch.
    fn groups(&self, rows: &[Placed]) -> Result<Vec<Vec<Write>>, Fault> {
        let mut by_key: BTreeMap<String, Vec<Write>> = BTreeMap::new();
        for (at, placed) in rows.iter().enumerate() {
            let partition = json(&placed.staged.partition)?;
            let write = self.write(placed, &partition, at)?;
            by_key.entry(partition).or_default().push(write);
        }
        let mut groups = Vec::new();
        for writes in by_key.into_values() {
            let mut group = Vec::new();
            let mut bytes = 0;
            for write in writes {
                let more = write.document.get().len() + OPERATION_BYTES;
                let full = group.len() >= OPERATIONS_MAX || bytes + more > BATCH_BYTES_MAX;
                if full && !group.is_empty() {
                    groups.push(std::mem::take(&mut group));
                    bytes = 0;
                }
                bytes += more;
                group.push(write);
            }
            groups.push(group);
        }
        Ok(groups)
    }

    /// The document of one row.
    fn write(&self, placed: &Placed, partition: &str, row: usize) -> Result<Write, Fault> {
        let staged = &placed.staged;
        let deleted = staged.columns.is_none();
        let stamp = self
            .writer
            .stamp(placed.epoch, placed.part, staged.order.clone(), deleted);
        let spec = &self.context.spec;
        let mut text = match &staged.columns {
            Some(columns) => columns
                .get()
                .strip_suffix('}')
                .unwrap_or_default()
                .to_owned(),
            None => "{".to_owned(),
        };
        // The columns may be none at all.
        let mut member = |name: &str, value: &str| -> Result<(), Fault> {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&json(name)?);
            text.push(':');
            text.push_str(value);
            Ok(())
        };
        if spec.partition_key != "id" {
            member(&spec.partition_key, partition)?;
        }
        member("id", &json(&staged.id)?)?;
        if deleted {
            if !self.context.client.container().expires_documents {
                self.warned.call_once(|| {
                    tracing::warn!(
                        container = spec.container,
                        "the container has no time to live, so tombstones of deleted documents stay"
                    );
                });
            }
            member("ttl", &spec.tombstone_ttl.as_secs().max(1).to_string())?;
        }
        member(STAMP_FIELD, &json(&stamp)?)?;
        text.push('}');
        let document = RawValue::from_string(text)
            .map_err(|error| Fault::bug(format!("a document is no JSON: {error}")))?;
        let key = staged.partition.key();
        let key = key.ok_or_else(|| Fault::bug("a staged partition key cannot be one"))?;
        Ok(Write {
            name: format!("{partition}\n{}", staged.id),
            id: staged.id.clone(),
            key,
            stamp,
            document,
            row,
        })
    }

    /// Writes rows of which no two are of the same document.
    async fn publish_rows(
        &self,
        rows: &[Placed],
        rejected: &mut Vec<RejectedRow>,
    ) -> Result<(), Fault> {
        let groups = self.groups(rows)?;
        let sends: Vec<_> = groups
            .iter()
            .map(|group| self.publish_group(group).boxed())
            .collect();
        let mut outcomes =
            stream::iter(sends).buffer_unordered(self.context.spec.limits.concurrency_max.max(1));
        while let Some(settled) = outcomes.try_next().await? {
            for (row, outcome) in settled {
                self.count(&outcome);
                if let Outcome::Rejected { code, reason } = outcome {
                    let placed = rows.get(row);
                    let placed = placed.ok_or_else(|| Fault::bug("a row that was not sent"))?;
                    rejected.push(reject(placed, code, &reason));
                }
            }
        }
        Ok(())
    }

    async fn publish_group(&self, group: &[Write]) -> Result<Vec<(usize, Outcome)>, CosmosError> {
        if self.context.spec.guard {
            self.context.write_group(group).await
        } else {
            self.context.upsert_group(group).await
        }
    }

    fn count(&self, outcome: &Outcome) {
        let counters = &self.context.counters;
        let counter = match outcome {
            Outcome::Written => &counters.written,
            Outcome::Unchanged => &counters.unchanged,
            Outcome::Superseded => &counters.superseded,
            Outcome::Rejected { .. } => &counters.rejected,
        };
        Counters::add(counter, 1);
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::bug(error.to_string()))
}

fn reject(placed: &Placed, code: &'static str, reason: &str) -> RejectedRow {
    let staged = &placed.staged;
    let document = staged
        .columns
        .as_ref()
        .map_or("{}", |columns| columns.get());
    RejectedRow {
        id: placed.place.clone(),
        letter: DeadLetter {
            class: DeadClass::SinkReject,
            code,
            message: format!("document \"{}\": {reason}", staged.id),
            origin: Origin(staged.origin),
            event_time: staged.event_time,
            remains: Remains::Json(document.to_owned()),
            plugin: None,
        },
    }
}

/// Reads the rows of one staged object.
async fn load(object: &StagedObject, stage: &dyn StageStore) -> Result<Vec<Placed>, Fault> {
    let format = object.note.get("format").and_then(Value::as_u64);
    if format != Some(FORMAT) {
        let reason = format!("its format is {format:?}, and this program reads {FORMAT}");
        return Err(CosmosError::Staged {
            name: object.name.clone(),
            reason,
        }
        .into());
    }
    let bytes = stage.get(object).await?;
    let rows = row::read(&object.name, &bytes)?;
    let (epoch, worker, sequence) = (object.epoch.0, object.worker, object.sequence);
    Ok((rows.into_iter().enumerate())
        .map(|(at, staged)| Placed {
            staged,
            place: format!("{epoch}-{worker}-{sequence}-{at}"),
            epoch,
            part: sequence,
        })
        .collect())
}

#[async_trait]
impl Publisher for CosmosPublisher {
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        let mut objects: Vec<&StagedObject> = unit.get().objects.iter().collect();
        objects.sort_by_key(|object| (object.epoch, object.sequence, object.worker));
        let mut rejected = Vec::new();
        let mut rows: Vec<Placed> = Vec::new();
        let mut bytes = 0;
        let mut round = None;
        for object in objects {
            let this_round = (object.epoch, object.sequence);
            let full = bytes >= self.context.spec.limits.object_bytes_max as u64;
            if round != Some(this_round) || full {
                self.publish_rows(&std::mem::take(&mut rows), &mut rejected)
                    .await?;
                bytes = 0;
            }
            round = Some(this_round);
            bytes += object.bytes;
            rows.extend(load(object, stage).await?);
        }
        self.publish_rows(&rows, &mut rejected).await?;
        // Groups finish in any order; what is reported does not depend on it.
        rejected.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Published {
            rejected,
            state: Value::Null,
        })
    }

    fn figures(&self, figures: &mut dyn Figures) {
        let now = self.context.counters.now();
        figures.total("sink_throttled_total", &[], now.throttled);
        figures.total("sink_retries_total", &["request"], now.retries);
        // Whole units: the metric is a counter of them.
        figures.total("cosmos_request_units_total", &[], now.request_units as u64);
    }
}
