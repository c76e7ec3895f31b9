//! A sink that keeps what it is given.

use super::*;

/// Lines by lineage and epoch of the unit.
pub(crate) type Units = BTreeMap<(String, Epoch), Vec<String>>;

/// Keeps what it is given, by unit: publishing a unit again replaces it. A sink in few lines.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) units: Arc<Mutex<Units>>,
    pub(crate) publishes: Arc<AtomicUsize>,
    /// Publishing fails for a while.
    pub(crate) closed: Arc<AtomicBool>,
    /// Every batch becomes an object of its own, long before the epoch is sealed.
    pub(crate) at_once: bool,
}

impl Shelf {
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .units
            .lock()
            .unwrap()
            .values()
            .flatten()
            .cloned()
            .collect();
        all.sort();
        all
    }
}

#[async_trait]
impl Sink for Shelf {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            exactly_once: true,
            ordered: true,
            changes: false,
            route: Route::Local,
            grouping: None,
        }
    }
    fn writer(&self, _: usize, _: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        Ok(Box::new(ShelfWriter {
            at_once: self.at_once,
            ..ShelfWriter::default()
        }))
    }
    async fn publisher(&self, _: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        Ok(Box::new(self.clone()))
    }
}

#[derive(Default)]
pub(crate) struct ShelfWriter {
    at_once: bool,
    lines: String,
    rows: u64,
}

impl SinkWriter for ShelfWriter {
    fn write(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault> {
        for row in 0..batch.num_rows() {
            for column in &batch.columns()[..batch.num_columns() - 1] {
                if let Some(numbers) = column.as_primitive_opt::<Int64Type>() {
                    self.lines += &format!("{} ", numbers.value(row));
                } else if let Some(texts) = column.as_string_view_opt() {
                    self.lines += &format!("{} ", texts.value(row));
                }
            }
            self.lines.push('\n');
            self.rows += 1;
        }
        match self.at_once {
            true => self.seal(Epoch(0), out),
            false => Ok(()),
        }
    }
    fn seal(&mut self, _: Epoch, out: &mut Encoded) -> Result<(), Fault> {
        if self.rows > 0 {
            let bytes = Bytes::from(std::mem::take(&mut self.lines));
            let rows = std::mem::take(&mut self.rows);
            out.objects.push(EncodedObject {
                bytes,
                rows,
                note: ().into(),
            });
        }
        Ok(())
    }
    fn buffered_bytes(&self) -> usize {
        self.lines.len()
    }
}

#[async_trait]
impl Publisher for Shelf {
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        if self.closed.load(Ordering::Relaxed) {
            let after = Some(Duration::from_millis(2));
            return Err(Fault::new(
                Class::Transient { after },
                "the shelf is closed",
            ));
        }
        let mut lines = Vec::new();
        for object in &unit.get().objects {
            let bytes = stage.get(object).await?;
            lines.extend(String::from_utf8_lossy(&bytes).lines().map(str::to_owned));
        }
        let name = (unit.get().lineage.to_string(), unit.get().epoch);
        self.units.lock().unwrap().insert(name, lines);
        self.publishes.fetch_add(1, Ordering::Relaxed);
        Ok(Published::default())
    }
}
