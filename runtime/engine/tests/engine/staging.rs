//! A sink that stages in a place of its own, which tests look into and close.

use super::*;

/// A stage store in memory whose writes wait until it is opened.
#[derive(Clone, Default)]
pub(super) struct GatedStage {
    pub(super) open: Arc<AtomicBool>,
    /// Writes that fail before one succeeds.
    pub(super) failures: Arc<AtomicUsize>,
    pub(super) objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl GatedStage {
    pub(super) fn opened() -> Self {
        let stage = Self::default();
        stage.open.store(true, Ordering::Relaxed);
        stage
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }
}

#[async_trait]
impl StageStore for GatedStage {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        while !self.open.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let one_less = |left: usize| left.checked_sub(1);
        if (self.failures)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
        {
            let after = Some(Duration::from_millis(1));
            return Err(Fault::new(Class::Transient { after }, "the stage is full"));
        }
        self.objects.lock().unwrap().insert(name.to_owned(), bytes);
        Ok(())
    }
    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault> {
        let objects = self.objects.lock().unwrap();
        let found = objects.get(&object.name).cloned();
        found.ok_or_else(|| Fault::corrupt(format!("{} is missing", object.name)))
    }
    async fn delete(&self, name: &str) -> Result<(), Fault> {
        self.objects.lock().unwrap().remove(name);
        Ok(())
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let names = self.names().into_iter();
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }
}

/// A [`Shelf`] that stages in the store given.
pub(super) struct Staging(pub(super) Shelf, pub(super) Arc<GatedStage>);

#[async_trait]
impl Sink for Staging {
    fn capabilities(&self) -> SinkCapabilities {
        self.0.capabilities()
    }
    fn writer(&self, worker: usize, context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        self.0.writer(worker, context)
    }
    async fn publisher(&self, context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        self.0.publisher(context).await
    }
    fn stage_store(&self) -> Option<Arc<dyn StageStore>> {
        Some(Arc::clone(&self.1) as Arc<dyn StageStore>)
    }
}
