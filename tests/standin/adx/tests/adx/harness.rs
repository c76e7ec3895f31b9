//! A stand-in in this process, a stage in memory, and units made by the sink's own writer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::TimestampMillisecondArray;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, UInt64Array};
use async_trait::async_trait;
use bytes::Bytes;
use thalweg_adx::{AdxSink, AdxSpec, Auth, Client, Connection, Table};
use thalweg_standin_ledger::{Action, Entry, Options, Rule};
use thalweg_stream::clock::{Clock, SystemClock};
use thalweg_stream::sink::{Encoded, PublishUnit, Released, SinkContext, StageStore, StagedObject};
use thalweg_stream::{
    Column, ColumnType, Epoch, Fault, Generation, Lineage, Publisher, Sink, StreamSchema,
};
use tokio::task::JoinHandle;

pub(crate) const TABLE: &str = "iot/Telemetry(n:long, device:string, event_time:datetime)";

/// A running stand-in; ends when dropped.
pub(crate) struct StandIn {
    pub(crate) url: String,
    pub(crate) options: Options,
    server: JoinHandle<std::io::Result<()>>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl StandIn {
    pub(crate) async fn start() -> Self {
        Self::with(&[TABLE]).await
    }

    pub(crate) async fn with(create: &[&str]) -> Self {
        let mut options = Options::memory();
        options.create = create.iter().map(|text| (*text).to_owned()).collect();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(thalweg_standin_adx::serve(listener, options.clone()));
        Self {
            url,
            options,
            server,
        }
    }

    pub(crate) fn client(&self) -> Client {
        let connection = Connection::new(&*self.url, Auth::None);
        Client::new(&connection, "test", Arc::new(SystemClock::new())).unwrap()
    }

    pub(crate) async fn ask(&self, query: &str) -> Table {
        self.client().query("iot", query).await.unwrap()
    }

    /// Numbers in the table, each with how often it is there.
    pub(crate) async fn numbers(&self) -> BTreeMap<i64, i64> {
        let table = self.ask("Telemetry | summarize c = count() by n").await;
        let cell = |row: &[serde_json::Value], at: usize| row[at].as_i64().unwrap();
        table
            .rows
            .iter()
            .map(|row| (cell(row, 0), cell(row, 1)))
            .collect()
    }

    pub(crate) fn faults(&self, rules: Vec<Rule>) {
        self.options.faults.set(rules);
    }

    pub(crate) fn entries(&self, operation: &str) -> Vec<Entry> {
        let entries = self.options.ledger.entries(0).unwrap();
        entries
            .into_iter()
            .filter(|entry| entry.operation == operation)
            .collect()
    }

    /// How many of these took effect.
    pub(crate) fn applied(&self, operation: &str) -> usize {
        self.entries(operation)
            .iter()
            .filter(|entry| entry.applied)
            .count()
    }

    pub(crate) fn spec(&self) -> AdxSpec {
        let mut spec = AdxSpec::new(&*self.url, Auth::None, "iot", "Telemetry");
        spec.repost_after = Duration::from_secs(600);
        spec
    }
}

pub(crate) fn schema() -> StreamSchema {
    let columns = [("n", ColumnType::Int64), ("device", ColumnType::String)];
    StreamSchema::append(
        columns.map(|(name, kind)| Column::new(name, kind)).into(),
        true,
    )
}

pub(crate) fn lineage() -> Lineage {
    Lineage("0123456789ab".to_owned())
}

pub(crate) fn context(generation: u64) -> SinkContext {
    SinkContext {
        job: "roads".into(),
        sink: "history".into(),
        lineage: lineage(),
        generation: Generation(generation),
        clock: Arc::new(SystemClock::new()),
        state: serde_json::Value::Null,
    }
}

pub(crate) async fn publisher(spec: AdxSpec, generation: u64) -> Box<dyn Publisher> {
    let sink = AdxSink::new(spec, schema()).unwrap();
    sink.publisher(context(generation)).await.unwrap()
}

/// A publisher whose clock is so far ahead.
pub(crate) async fn publisher_in(
    spec: AdxSpec,
    generation: u64,
    ahead: Duration,
) -> Box<dyn Publisher> {
    let sink = AdxSink::new(spec, schema()).unwrap();
    let mut context = context(generation);
    context.clock = Arc::new(Ahead(SystemClock::new(), ahead));
    sink.publisher(context).await.unwrap()
}

/// A clock that is ahead of the system's.
#[derive(Debug)]
struct Ahead(SystemClock, Duration);

impl Clock for Ahead {
    fn now_ms(&self) -> i64 {
        self.0.now_ms() + i64::try_from(self.1.as_millis()).unwrap()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed() + self.1
    }
}

pub(crate) fn batch(numbers: std::ops::Range<i64>, device: &str) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(numbers.clone().map(Some).collect::<Int64Array>()),
        Arc::new(
            numbers
                .clone()
                .map(|_| Some(device))
                .collect::<StringViewArray>(),
        ),
        Arc::new(
            numbers
                .clone()
                .map(|n| Some(n * 1000))
                .collect::<TimestampMillisecondArray>()
                .with_timezone("UTC"),
        ),
        Arc::new(numbers.map(|n| Some(n as u64)).collect::<UInt64Array>()),
    ];
    RecordBatch::try_new(schema().arrow(), columns).unwrap()
}

/// Staged objects in memory.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl Stage {
    /// Stages these rows as the output of `epoch` by several workers.
    pub(crate) async fn unit(
        &self,
        epoch: u64,
        numbers: std::ops::Range<i64>,
        workers: u32,
    ) -> PublishUnit {
        let share = (numbers.end - numbers.start) / i64::from(workers);
        let mut objects = Vec::new();
        for worker in 0..workers {
            let begin = numbers.start + share * i64::from(worker);
            let end = if worker + 1 == workers {
                numbers.end
            } else {
                begin + share
            };
            objects.extend(self.stage(epoch, worker, &[batch(begin..end, "d")]).await);
        }
        PublishUnit {
            lineage: lineage(),
            epoch: Epoch(epoch),
            objects,
        }
    }

    /// Stages what one worker writes.
    pub(crate) async fn stage(
        &self,
        epoch: u64,
        worker: u32,
        batches: &[RecordBatch],
    ) -> Vec<StagedObject> {
        let spec = AdxSpec::new("http://127.0.0.1:1", Auth::None, "iot", "Telemetry");
        let sink = AdxSink::new(spec, schema()).unwrap();
        let mut writer = sink.writer(worker as usize, &context(1)).unwrap();
        let mut out = Encoded::default();
        for batch in batches {
            writer.write(batch, &mut out).unwrap();
        }
        writer.seal(Epoch(epoch), &mut out).unwrap();
        let mut staged = Vec::new();
        for (sequence, object) in out.objects.into_iter().enumerate() {
            let name = format!("history/{epoch}-{worker}-{sequence}-g1");
            self.put(&name, object.bytes.clone()).await.unwrap();
            staged.push(StagedObject {
                name,
                epoch: Epoch(epoch),
                worker,
                sequence: sequence as u32,
                bytes: object.bytes.len() as u64,
                crc32: crc32fast::hash(&object.bytes),
                rows: object.rows,
                note: object.note,
            });
        }
        staged
    }
}

#[async_trait]
impl StageStore for Stage {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Fault> {
        self.objects.lock().unwrap().insert(name.to_owned(), bytes);
        Ok(())
    }
    async fn get(&self, object: &StagedObject) -> Result<Bytes, Fault> {
        let found = self.objects.lock().unwrap().get(&object.name).cloned();
        found.ok_or_else(|| Fault::corrupt(format!("staged object {:?} is missing", object.name)))
    }
    async fn delete(&self, name: &str) -> Result<(), Fault> {
        self.objects.lock().unwrap().remove(name);
        Ok(())
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let objects = self.objects.lock().unwrap();
        Ok(objects
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect())
    }
}

pub(crate) fn released(unit: &PublishUnit) -> Released<PublishUnit> {
    Released::by_commit(unit.clone(), 1)
}

/// Publishes `unit`, and again as the engine does while failures may pass.
pub(crate) async fn publish(
    publisher: &dyn Publisher,
    unit: &PublishUnit,
    stage: &Stage,
) -> Result<(), Fault> {
    let publishing = async {
        loop {
            match publisher.publish(&released(unit), stage).await {
                Err(fault) if matches!(fault.class, thalweg_stream::Class::Transient { .. }) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done => return done.map(|_| ()),
            }
        }
    };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, publishing)
        .await
        .expect("published within the limit")
}

/// Waits for a condition that is bound to hold.
pub(crate) async fn wait_until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, waiting)
        .await
        .expect("the condition holds within the limit");
}

/// Each of these numbers once.
pub(crate) fn once(numbers: std::ops::Range<i64>) -> BTreeMap<i64, i64> {
    numbers.map(|n| (n, 1)).collect()
}

pub(crate) fn status(status: u16) -> Action {
    Action {
        status: Some(status),
        ..Action::default()
    }
}

pub(crate) fn lost() -> Action {
    Action {
        lost_reply: true,
        ..Action::default()
    }
}
