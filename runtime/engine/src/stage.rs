//! Staging: making encoded objects durable, however often it takes; and the memory in which
//! at-least-once output waits.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thalweg_stream::sink::{StageStore, StagedObject};
use thalweg_stream::{Class, Fault};

use crate::shared::lock;

/// Makes an object durable. Transient failures are repeated: the checkpoint waits, the job does
/// not fail, and the sources stop when too much waits.
pub(crate) async fn stage(
    store: &dyn StageStore,
    object: StagedObject,
    bytes: Bytes,
) -> Result<StagedObject, Fault> {
    let mut pause = Duration::from_millis(50);
    loop {
        match store.put(&object.name, bytes.clone()).await {
            Ok(()) => return Ok(object),
            Err(Fault { class: Class::Transient { after }, message }) => {
                tracing::warn!(object = object.name, error = %message, "staging is tried again");
                tokio::time::sleep(after.unwrap_or(pause)).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Objects of an at-least-once sink on their way to its publisher.
#[derive(Debug, Default)]
pub(crate) struct MemoryStage {
    kept: Mutex<(u64, BTreeMap<String, Bytes>)>,
}

impl MemoryStage {
    /// Keeps an object; its number, unique in this attempt.
    pub(crate) fn keep(&self, name: &str, bytes: Bytes) -> u64 {
        let mut kept = lock(&self.kept);
        kept.0 += 1;
        kept.1.insert(name.to_owned(), bytes);
        kept.0
    }
}

#[async_trait]
impl StageStore for MemoryStage {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        self.keep(name, bytes);
        Ok(())
    }

    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault> {
        let kept = lock(&self.kept).1.get(&object.name).cloned();
        kept.ok_or_else(|| Fault::bug(format!("\"{}\" is not kept", object.name)))
    }

    async fn delete(&self, name: &str) -> Result<(), Fault> {
        lock(&self.kept).1.remove(name);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let kept = lock(&self.kept);
        Ok(kept.1.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }
}
