//! A stand-in in the test's own process, and a job that has nothing but a Cosmos DB sink.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray, UInt8Array,
    UInt64Array,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use thalweg_cosmos::{AccountKey, CosmosSink, CosmosSpec};
use thalweg_standin_cosmos::{ACCOUNT_KEY, Account, oracle, serve_account};
use thalweg_standin_ledger::{Action, Entry, Faults, Ledger, Options, Rule};
use thalweg_stream::clock::SystemClock;
use thalweg_stream::schema::INSERT;
use thalweg_stream::sink::{
    Encoded, PublishUnit, Published, Released, SinkContext, StageStore, StagedObject,
};
use thalweg_stream::{
    Class, Column, ColumnType, Epoch, Fault, Generation, Lineage, Publisher, Sink, StreamKind,
    StreamSchema,
};
use tokio::net::TcpListener;

use crate::raw::Raw;

/// The container of most tests.
pub(crate) const CONTAINER: &str = "db/things:/kind";

/// A running stand-in.
pub(crate) struct Service {
    pub(crate) url: String,
    pub(crate) options: Options,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[CONTAINER], Account::default(), 0).await
    }

    pub(crate) async fn start_with(create: &[&str], account: Account, seed: u64) -> Self {
        let mut options = Options::new(Ledger::memory(), Faults::none(seed));
        options.create = create.iter().map(|what| (*what).to_owned()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        let task = tokio::spawn(serve_account(listener, options.clone(), account));
        Self { url, options, task }
    }

    pub(crate) fn spec(&self) -> CosmosSpec {
        let key = AccountKey::new(ACCOUNT_KEY);
        CosmosSpec::new(&self.url, key, ["db", "things"], ["name", "kind"])
    }

    pub(crate) fn raw(&self) -> Raw {
        Raw::new(&self.url, "db/things")
    }

    pub(crate) fn plan(&self, rules: Vec<Rule>) {
        self.options.faults.set(rules);
    }

    /// How often planned faults have acted.
    pub(crate) fn acted(&self) -> u64 {
        self.options
            .faults
            .rules()
            .iter()
            .map(|(_, acted)| acted)
            .sum()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.options.ledger.entries(0).expect("in memory")
    }

    /// Requests of these operations.
    pub(crate) fn requests(&self, operations: &[&str]) -> Vec<Entry> {
        let wanted = |entry: &Entry| operations.contains(&entry.operation.as_str());
        self.entries().into_iter().filter(wanted).collect()
    }

    /// Documents changed so far, counting each change.
    pub(crate) fn changes(&self) -> usize {
        let writes = |entry: &Entry| entry.details["writes"].as_array().map_or(0, Vec::len);
        self.entries()
            .iter()
            .filter(|entry| entry.applied)
            .map(writes)
            .sum()
    }

    /// No document went back, no fenced generation wrote, no write was lost.
    pub(crate) fn check_history(&self) {
        let wrong = oracle::violations(&self.entries());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One row of the stream: name, kind, value `n`, event time, change.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) n: i64,
    pub(crate) at: i64,
    pub(crate) change: u8,
}

/// A row whose event time is its value.
pub(crate) fn row(name: &str, kind: &str, n: i64) -> Row {
    Row {
        name: name.to_owned(),
        kind: kind.to_owned(),
        n,
        at: n,
        change: INSERT,
    }
}

/// A job: a schema, staged objects, and the numbers that order them.
pub(crate) struct Job {
    pub(crate) schema: StreamSchema,
    pub(crate) stage: Stage,
    pub(crate) spec: CosmosSpec,
    pub(crate) lineage: &'static str,
    generation: u64,
    epoch: u64,
}

/// A connected publisher and its sink.
pub(crate) struct Attempt {
    pub(crate) sink: CosmosSink,
    pub(crate) publisher: Arc<dyn Publisher>,
}

impl Job {
    pub(crate) fn new(spec: CosmosSpec) -> Self {
        let columns = vec![
            Column::new("name", ColumnType::String),
            Column::new("kind", ColumnType::String),
            Column::new("n", ColumnType::Int64),
        ];
        Self {
            schema: StreamSchema::append(columns, true),
            stage: Stage::default(),
            spec,
            lineage: "0123456789ab",
            generation: 0,
            epoch: 0,
        }
    }

    /// The same, of a stream of changes by name.
    pub(crate) fn of_changes(spec: CosmosSpec) -> Self {
        let mut job = Self::new(spec);
        job.schema.kind = StreamKind::Changes { key: vec![0] };
        job
    }

    fn sink(&self) -> CosmosSink {
        CosmosSink::new(self.spec.clone(), self.schema.clone()).expect("the stream fits")
    }

    fn context(&self) -> SinkContext {
        SinkContext {
            job: "job".into(),
            sink: "sink".into(),
            lineage: Lineage(self.lineage.to_owned()),
            generation: Generation(self.generation),
            clock: Arc::new(SystemClock::new()),
            state: Value::Null,
        }
    }

    /// Starts the job once more: a new generation connects.
    pub(crate) async fn start(&mut self) -> Attempt {
        self.try_start().await.expect("connected")
    }

    pub(crate) async fn try_start(&mut self) -> Result<Attempt, Fault> {
        self.generation += 1;
        let sink = self.sink();
        let publisher = sink.publisher(self.context()).await?;
        Ok(Attempt {
            sink,
            publisher: publisher.into(),
        })
    }

    /// A checkpoint: these rows are staged, by two workers that own a share of the names each.
    pub(crate) async fn checkpoint(&mut self, rows: &[Row]) -> Released<PublishUnit> {
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let sink = self.sink();
        let mut objects = Vec::new();
        for worker in 0..2_u32 {
            let own = rows.iter().filter(|row| owner(&row.name) == worker);
            let own: Vec<(u64, &Row)> = (0..).zip(own).collect();
            let mut writer = sink
                .writer(worker as usize, &self.context())
                .expect("a writer");
            let mut out = Encoded::default();
            for some in own.chunks(7) {
                writer.write(&self.batch(some), &mut out).expect("written");
            }
            writer.seal(epoch, &mut out).expect("sealed");
            assert!(out.dead.is_empty(), "{:?}", out.dead);
            for (sequence, object) in (0..).zip(out.objects) {
                let name = format!("sink/{}-{worker}-{sequence}-g1", self.epoch);
                let bytes = object.bytes.len() as u64;
                self.stage
                    .put(&name, object.bytes)
                    .await
                    .expect("in memory");
                objects.push(StagedObject {
                    name,
                    epoch,
                    worker,
                    sequence,
                    bytes,
                    crc32: 0,
                    rows: object.rows,
                    note: object.note,
                });
            }
        }
        let lineage = Lineage(self.lineage.to_owned());
        let unit = PublishUnit {
            lineage,
            epoch,
            objects,
        };
        Released::by_commit(unit, self.epoch)
    }

    fn batch(&self, rows: &[(u64, &Row)]) -> RecordBatch {
        let text = |of: fn(&Row) -> &str| -> ArrayRef {
            Arc::new(StringViewArray::from_iter_values(
                rows.iter().map(|(_, row)| of(row)),
            ))
        };
        let times = rows.iter().map(|(_, row)| row.at);
        let mut columns = vec![
            text(|row| &row.name),
            text(|row| &row.kind),
            Arc::new(
                rows.iter()
                    .map(|(_, row)| Some(row.n))
                    .collect::<Int64Array>(),
            ) as ArrayRef,
            Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC")),
        ];
        if self.schema.change_at().is_some() {
            let changes = rows.iter().map(|(_, row)| row.change);
            columns.push(Arc::new(UInt8Array::from_iter_values(changes)));
        }
        let origins = rows.iter().map(|(offset, _)| self.epoch * 1000 + offset);
        columns.push(Arc::new(UInt64Array::from_iter_values(origins)));
        RecordBatch::try_new(self.schema.arrow(), columns).expect("columns of the schema")
    }

    pub(crate) async fn publish(
        &self,
        attempt: &Attempt,
        unit: &Released<PublishUnit>,
    ) -> Published {
        self.try_publish(attempt, unit).await.expect("published")
    }

    pub(crate) async fn try_publish(
        &self,
        attempt: &Attempt,
        unit: &Released<PublishUnit>,
    ) -> Result<Published, Fault> {
        attempt.publisher.publish(unit, &self.stage).await
    }

    /// Publishes as the engine does: again while it is transient, and by a new start of the job
    /// when the outside world failed.
    pub(crate) async fn publish_whatever_happens(&mut self, units: &[Released<PublishUnit>]) {
        for _ in 0..50 {
            let attempt = match self.try_start().await {
                Ok(attempt) => attempt,
                Err(fault) => {
                    assert!(outside(&fault), "{fault:?}");
                    continue;
                }
            };
            if self.publish_all(&attempt, units).await {
                return;
            }
        }
        panic!("fifty starts were not enough");
    }

    async fn publish_all(&self, attempt: &Attempt, units: &[Released<PublishUnit>]) -> bool {
        for unit in units {
            if let Err(fault) = self.try_publish(attempt, unit).await {
                assert!(outside(&fault), "{fault:?}");
                return false;
            }
        }
        true
    }
}

fn outside(fault: &Fault) -> bool {
    matches!(fault.class, Class::Transient { .. } | Class::Unreachable)
}

fn owner(name: &str) -> u32 {
    name.bytes().map(u32::from).sum::<u32>() % 2
}

/// A stage in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stage(Arc<Mutex<BTreeMap<String, Bytes>>>);

#[async_trait]
impl StageStore for Stage {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        self.0
            .lock()
            .expect("no panic")
            .insert(name.to_owned(), bytes);
        Ok(())
    }
    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault> {
        let found = self.0.lock().expect("no panic").get(&object.name).cloned();
        found.ok_or_else(|| Fault::corrupt(format!("{} is missing", object.name)))
    }
    async fn delete(&self, name: &str) -> Result<(), Fault> {
        self.0.lock().expect("no panic").remove(name);
        Ok(())
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let kept = self.0.lock().expect("no panic");
        Ok(kept
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect())
    }
}

/// Answers with a status, `count` times.
pub(crate) fn answer(operation: &str, status: u16, apply: bool, count: u64) -> Rule {
    let action = Action {
        status: Some(status),
        apply,
        ..Action::default()
    };
    Rule::on(operation, action, count)
}

/// Waits until a condition holds; the test's own time limit is the harness's.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("waited ten seconds in vain: {what}");
}
