//! Staging: making encoded objects durable, in several attempts; and the memory in which
//! at-least-once output waits.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thalweg_stream::sink::{StageStore, StagedObject};
use thalweg_stream::{Class, Clock, Fault};

use crate::shared::lock;

/// Makes an object durable.
pub(crate) async fn stage(
    store: &dyn StageStore,
    clock: &dyn Clock,
    name: &str,
    bytes: Bytes,
    attempts: u32,
) -> Result<(), Fault> {
    persist(&name, clock, attempts, || store.put(name, bytes.clone())).await
}

/// Repeats a write while it fails transiently, up to so many attempts in all. Until then the
/// checkpoint waits; the sources stop when too much waits.
///
/// # Errors
/// The last attempt's.
pub(crate) async fn persist<F, E>(
    object: &impl Display,
    clock: &dyn Clock,
    attempts: u32,
    mut put: impl FnMut() -> F,
) -> Result<(), Fault>
where
    F: Future<Output = Result<(), E>>,
    Fault: From<E>,
{
    let mut pause = Duration::from_millis(50);
    let mut attempt = 1;
    loop {
        match put().await.map_err(Fault::from) {
            Ok(()) => return Ok(()),
            Err(Fault {
                class: Class::Transient { after },
                message,
            }) if attempt < attempts => {
                tracing::warn!(%object, error = %message, "a write is tried again");
                clock.sleep(after.unwrap_or(pause)).await;
                pause = (pause * 2).min(Duration::from_secs(5));
                attempt += 1;
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Objects of an at-least-once sink on their way to its publisher.
#[derive(Debug, Default)]
pub(crate) struct MemoryStage {
    kept: Mutex<Kept>,
}

/// The last number given, and the objects by number, with their names.
type Kept = (u64, BTreeMap<u64, (String, Bytes)>);

impl MemoryStage {
    /// Keeps an object; its number, unique in this attempt.
    pub(crate) fn keep(&self, name: &str, bytes: Bytes) -> u64 {
        let mut kept = lock(&self.kept);
        kept.0 += 1;
        let number = kept.0;
        kept.1.insert(number, (name.to_owned(), bytes));
        number
    }

    /// The object has been published; how many bytes it had.
    pub(crate) fn forget(&self, number: u64) -> usize {
        let forgotten = lock(&self.kept).1.remove(&number);
        forgotten.map_or(0, |(_, bytes)| bytes.len())
    }
}

#[async_trait]
impl StageStore for MemoryStage {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        self.keep(name, bytes);
        Ok(())
    }

    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault> {
        let kept = lock(&self.kept);
        let found = kept.1.values().find(|(name, _)| *name == object.name);
        found
            .map(|(_, bytes)| bytes.clone())
            .ok_or_else(|| Fault::bug(format!("\"{}\" is not kept", object.name)))
    }

    async fn delete(&self, name: &str) -> Result<(), Fault> {
        lock(&self.kept).1.retain(|_, (kept, _)| kept != name);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let kept = lock(&self.kept);
        let names = kept.1.values().map(|(name, _)| name.clone());
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }
}
