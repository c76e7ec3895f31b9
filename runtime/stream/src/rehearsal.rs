//! Rehearsals: an operator or a sink driven as the engine would drive it, without an engine.
//!
//! For tests of whoever writes one, and for the two examples here. A rehearsal has one worker and
//! keeps the order of calls that [`operator`](crate::operator) and [`sink`](crate::sink) promise;
//! after every epoch it checks the conservation ledger.
//!
//! # A stateful operator
//!
//! It passes on each row that is a record: a greater value than its key ever had. The order of
//! rows within an epoch is not known, so it decides at the epoch's end.
//!
//! ```
//! use std::{collections::BTreeMap, sync::Arc};
//! use arrow::array::{AsArray, Int64Array, RecordBatch, UInt64Array, UInt32Array};
//! use arrow::{compute::{concat_batches, take_record_batch}, datatypes::Int64Type};
//! use thalweg_stream::{*, key::key_group, operator::Held};
//!
//! struct Records(StreamSchema);
//!
//! impl OperatorFactory for Records {
//!     fn routes(&self) -> Vec<Route> { vec![Route::Key(vec![0])] }
//!     fn outputs(&self) -> Vec<(&'static str, StreamSchema)> { vec![("", self.0.clone())] }
//!     fn needs_epochs(&self) -> bool { true }
//!     fn state_shape(&self) -> Option<String> { Some("records 1".to_owned()) }
//!     fn build(&self, _: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
//!         Ok(Box::new(Greatest { best: BTreeMap::new(), rows: Vec::new(), frozen: BTreeMap::new() }))
//!     }
//! }
//!
//! struct Greatest {
//!     best: BTreeMap<i64, i64>,
//!     rows: Vec<RecordBatch>,
//!     frozen: BTreeMap<KeyGroup, Vec<(i64, i64)>>,
//! }
//!
//! impl Operator for Greatest {
//!     fn on_batch(&mut self, _: usize, batch: &RecordBatch, _: &mut Output) -> Result<(), Fault> {
//!         self.rows.push(batch.clone());
//!         Ok(())
//!     }
//!     fn on_epoch(&mut self, _: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
//!         let Some(first) = self.rows.first() else { return Ok(()) };
//!         let all = concat_batches(&first.schema(), &std::mem::take(&mut self.rows))?;
//!         let column = |at: usize| all.column(at).as_primitive::<Int64Type>().values();
//!         let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
//!         order.sort_by_key(|&row| (column(1)[row as usize], row));
//!         order.retain(|&row| {
//!             let (key, value) = (column(0)[row as usize], column(1)[row as usize]);
//!             self.best.get(&key).is_none_or(|best| *best < value)
//!                 && { self.best.insert(key, value); true }
//!         });
//!         out.ledger.passed += order.len() as u64;
//!         out.ledger.filtered += (all.num_rows() - order.len()) as u64;
//!         out.emit(take_record_batch(&all, &UInt32Array::from(order))?);
//!         Ok(())
//!     }
//!     fn held(&self) -> Held {
//!         Held { rows: self.rows.iter().map(|b| b.num_rows() as u64).sum(), bytes: 0 }
//!     }
//!     fn freeze(&mut self, _full: bool) {
//!         for (&key, &best) in &self.best {
//!             let group = key_group(key::hash(&[&[3], &key.to_le_bytes()[..]].concat()));
//!             self.frozen.entry(group).or_default().push((key, best));
//!         }
//!     }
//!     fn drain(&mut self, _budget: usize, sections: &mut Vec<Section>) -> Result<bool, Fault> {
//!         for (group, entries) in std::mem::take(&mut self.frozen) {
//!             let bytes = serde_json::to_vec(&entries).map_err(|e| Fault::bug(e.to_string()))?;
//!             sections.push(Section { group, base: true, bytes: bytes.into() });
//!         }
//!         Ok(true)
//!     }
//!     fn restore(&mut self, section: &Section) -> Result<(), Fault> {
//!         let entries: Vec<(i64, i64)> =
//!             serde_json::from_slice(&section.bytes).map_err(|e| Fault::corrupt(e.to_string()))?;
//!         self.best.extend(entries);
//!         Ok(())
//!     }
//! }
//!
//! let columns = ["key", "value"].map(|name| Column::new(name, ColumnType::Int64));
//! let schema = StreamSchema::append(columns.to_vec(), false);
//! let rows = |keys: Vec<i64>, values: Vec<i64>| -> RecordBatch {
//!     let origins = UInt64Array::from_iter_values(0..keys.len() as u64);
//!     let columns: [Arc<dyn arrow::array::Array>; 3] =
//!         [Arc::new(Int64Array::from(keys)), Arc::new(Int64Array::from(values)), Arc::new(origins)];
//!     RecordBatch::try_new(schema.arrow(), columns.to_vec()).expect("of the schema")
//! };
//! let mut rehearsal = rehearsal::OperatorRehearsal::new(Records(schema.clone()))?;
//! rehearsal.batch(0, &rows(vec![1, 1, 2], vec![5, 4, 9]))?;
//! rehearsal.batch(0, &rows(vec![1], vec![7]))?;
//! let out = rehearsal.close(&[Progress::START])?;
//! assert_eq!(out.batches[0].1.column(1).as_primitive::<Int64Type>().values(), &[4, 5, 7, 9]);
//! rehearsal.restart()?; // The state goes through a checkpoint.
//! rehearsal.batch(0, &rows(vec![1, 2], vec![6, 10]))?;
//! let out = rehearsal.close(&[Progress::END])?;
//! assert_eq!(out.batches[0].1.column(1).as_primitive::<Int64Type>().values(), &[10]);
//! # Ok::<(), Fault>(())
//! ```
//!
//! # A sink
//!
//! It writes each checkpoint's rows as one file. The file's name follows from lineage and epoch, and
//! it appears by a rename: publishing it again changes nothing.
//!
//! ```
//! use std::{path::PathBuf, sync::Arc};
//! use arrow::array::{AsArray, Int64Array, RecordBatch, UInt64Array};
//! use arrow::datatypes::Int64Type;
//! use async_trait::async_trait;
//! use thalweg_stream::{*, sink::*};
//!
//! #[derive(Clone)]
//! struct Folder(PathBuf);
//!
//! #[async_trait]
//! impl Sink for Folder {
//!     fn capabilities(&self) -> SinkCapabilities {
//!         SinkCapabilities {
//!             exactly_once: true, ordered: false, changes: false,
//!             route: Route::Local, grouping: None,
//!         }
//!     }
//!     fn writer(&self, _: usize, _: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
//!         Ok(Box::new(Lines::default()))
//!     }
//!     async fn publisher(&self, _: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
//!         let unusable = |e| Fault::unavailable(format!("{}: {e}", self.0.display()));
//!         std::fs::create_dir_all(&self.0).map_err(unusable)?;
//!         Ok(Box::new(self.clone()))
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Lines { text: String, rows: u64 }
//!
//! impl SinkWriter for Lines {
//!     fn write(&mut self, batch: &RecordBatch, _: &mut Encoded) -> Result<(), Fault> {
//!         for value in batch.column(0).as_primitive::<Int64Type>().values() {
//!             self.text += &format!("{value}\n");
//!             self.rows += 1;
//!         }
//!         Ok(())
//!     }
//!     fn seal(&mut self, _: Epoch, out: &mut Encoded) -> Result<(), Fault> {
//!         let Lines { text, rows } = std::mem::take(self);
//!         if rows > 0 {
//!             out.objects.push(EncodedObject { bytes: text.into(), rows, note: ().into() });
//!         }
//!         Ok(())
//!     }
//!     fn buffered_bytes(&self) -> usize { self.text.len() }
//! }
//!
//! #[async_trait]
//! impl Publisher for Folder {
//!     async fn publish(
//!         &self, unit: &Released<PublishUnit>, stage: &dyn StageStore,
//!     ) -> Result<Published, Fault> {
//!         let (unit, mut content) = (unit.get(), Vec::new());
//!         for object in &unit.objects {
//!             content.extend_from_slice(&stage.get(object).await?);
//!         }
//!         let name = self.0.join(format!("{}-{}.txt", unit.lineage, unit.epoch));
//!         let again = |e| Fault::transient(format!("{}: {e}", name.display()));
//!         std::fs::write(name.with_extension("part"), content).map_err(again)?;
//!         std::fs::rename(name.with_extension("part"), &name).map_err(again)?;
//!         Ok(Published::default())
//!     }
//! }
//!
//! # fn main() -> Result<(), Fault> {
//! # futures::executor::block_on(async {
//! let folder = std::env::temp_dir().join(format!("thalweg-folder-{}", std::process::id()));
//! let mut rehearsal = rehearsal::SinkRehearsal::new(Folder(folder.clone())).await?;
//! let columns: [Arc<dyn arrow::array::Array>; 2] =
//!     [Arc::new(Int64Array::from(vec![7, 8])), Arc::new(UInt64Array::from(vec![0, 1]))];
//! let schema = StreamSchema::append(vec![Column::new("n", ColumnType::Int64)], false);
//! rehearsal.write(&RecordBatch::try_new(schema.arrow(), columns.to_vec())?)?;
//! let unit = rehearsal.seal().await?;
//! rehearsal.publish(&unit).await?;
//! rehearsal.publish(&unit).await?; // As after a crash.
//! let written = std::fs::read_to_string(folder.join("0123456789ab-1.txt")).unwrap();
//! assert_eq!(written, "7\n8\n");
//! # std::fs::remove_dir_all(&folder).unwrap();
//! # Ok(())
//! # })
//! # }
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::SystemClock;
use crate::epoch::{Epoch, EpochKind, Generation, Lineage};
use crate::fault::Fault;
use crate::key::KEY_GROUPS;
use crate::ledger::Ledger;
use crate::operator::{BuildContext, EpochClose, Operator, OperatorFactory, Output};
use crate::sink::{
    Encoded, PublishUnit, Published, Publisher, Released, Sink, SinkContext, SinkWriter,
    StageStore, StagedObject,
};
use crate::watermark::Progress;

/// Drives an operator: batches, ends of epochs, restarts.
#[allow(missing_debug_implementations, reason = "operators have none")]
pub struct OperatorRehearsal<F> {
    factory: F,
    operator: Box<dyn Operator>,
    epoch: Epoch,
    out: Output,
    ledger: Ledger,
}

impl<F: OperatorFactory> OperatorRehearsal<F> {
    /// Builds the operator as the only worker of a job does.
    ///
    /// # Errors
    /// The factory's.
    pub fn new(factory: F) -> Result<Self, Fault> {
        Ok(Self {
            operator: build(&factory)?,
            factory,
            epoch: Epoch(1),
            out: Output::default(),
            ledger: Ledger::default(),
        })
    }

    /// Gives the operator a batch of the open epoch.
    ///
    /// # Errors
    /// The operator's.
    pub fn batch(&mut self, input: usize, batch: &RecordBatch) -> Result<(), Fault> {
        self.ledger.input += batch.num_rows() as u64;
        self.operator.on_batch(input, batch, &mut self.out)
    }

    /// Ends the epoch; what the operator has put out in it.
    ///
    /// # Errors
    /// The operator's, or a bug if it does not account for its rows.
    pub fn close(&mut self, inputs: &[Progress]) -> Result<Output, Fault> {
        let close = EpochClose {
            epoch: self.epoch,
            kind: EpochKind::Ordinary,
            inputs,
        };
        self.operator.on_epoch(&close, &mut self.out)?;
        self.epoch = self.epoch.next();
        let out = std::mem::take(&mut self.out);
        self.ledger += out.ledger;
        let held = self.operator.held().rows;
        (Ledger {
            held,
            ..self.ledger
        })
        .check("rehearsal")?;
        Ok(out)
    }

    /// Takes a full checkpoint, builds the operator anew and restores it. Call it between epochs.
    ///
    /// # Errors
    /// The operator's.
    pub fn restart(&mut self) -> Result<(), Fault> {
        let mut sections = Vec::new();
        self.operator.freeze(true);
        while !self.operator.drain(1 << 20, &mut sections)? {}
        self.operator = build(&self.factory)?;
        sections
            .iter()
            .try_for_each(|section| self.operator.restore(section))
    }
}

fn build(factory: &impl OperatorFactory) -> Result<Box<dyn Operator>, Fault> {
    factory.build(&BuildContext {
        step: Arc::from("rehearsal"),
        worker: 0,
        workers: 1,
        groups: 0..KEY_GROUPS,
        clock: Arc::new(SystemClock::new()),
    })
}

/// Drives a sink: batches, checkpoints, publications.
#[allow(missing_debug_implementations, reason = "sinks have none")]
pub struct SinkRehearsal {
    writer: Box<dyn SinkWriter>,
    publisher: Box<dyn Publisher>,
    stage: Arc<dyn StageStore>,
    context: SinkContext,
    epoch: Epoch,
    encoded: Encoded,
}

impl SinkRehearsal {
    /// Connects the sink as generation 1 of the lineage `0123456789ab`.
    ///
    /// # Errors
    /// The sink's.
    pub async fn new(sink: impl Sink) -> Result<Self, Fault> {
        let context = SinkContext {
            job: Arc::from("rehearsal"),
            sink: Arc::from("sink"),
            lineage: Lineage("0123456789ab".to_owned()),
            generation: Generation(1),
            clock: Arc::new(SystemClock::new()),
            state: serde_json::Value::Null,
        };
        let own = sink.stage_store();
        Ok(Self {
            writer: sink.writer(0, &context)?,
            publisher: sink.publisher(context.clone()).await?,
            stage: own.unwrap_or_else(|| Arc::new(Memory::default())),
            context,
            epoch: Epoch(1),
            encoded: Encoded::default(),
        })
    }

    /// Gives the sink a batch of the open epoch.
    ///
    /// # Errors
    /// The sink's.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Fault> {
        self.writer.write(batch, &mut self.encoded)
    }

    /// Takes a checkpoint: what was written is staged.
    ///
    /// # Errors
    /// The sink's, or its stage store's.
    pub async fn seal(&mut self) -> Result<PublishUnit, Fault> {
        let epoch = self.epoch;
        self.epoch = epoch.next();
        self.writer.seal(epoch, &mut self.encoded)?;
        let mut objects = Vec::new();
        for (sequence, object) in (0..).zip(std::mem::take(&mut self.encoded).objects) {
            let SinkContext { sink, lineage, .. } = &self.context;
            let name = format!("{sink}/{lineage}/{:010}-0-{sequence}-g1", epoch.0);
            self.stage.put(&name, object.bytes.clone()).await?;
            objects.push(StagedObject {
                name,
                epoch,
                worker: 0,
                sequence,
                bytes: object.bytes.len() as u64,
                crc32: 0,
                rows: object.rows,
                note: object.note,
            });
        }
        Ok(PublishUnit {
            lineage: self.context.lineage.clone(),
            epoch,
            objects,
        })
    }

    /// Publishes a checkpoint's output.
    ///
    /// # Errors
    /// The publisher's.
    pub async fn publish(&self, unit: &PublishUnit) -> Result<Published, Fault> {
        let unit = Released::by_commit(unit.clone(), unit.epoch.0);
        self.publisher.publish(&unit, &*self.stage).await
    }
}

/// Where a rehearsal stages.
#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<String, Bytes>>);

impl Memory {
    fn objects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StageStore for Memory {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        self.objects().insert(name.to_owned(), bytes);
        Ok(())
    }
    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault> {
        let found = self.objects().get(&object.name).cloned();
        found.ok_or_else(|| Fault::corrupt(format!("\"{}\" is missing", object.name)))
    }
    async fn delete(&self, name: &str) -> Result<(), Fault> {
        self.objects().remove(name);
        Ok(())
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let objects = self.objects();
        let names = objects.keys().filter(|name| name.starts_with(prefix));
        Ok(names.cloned().collect())
    }
}
