//! The world outside the job: what its sinks have made visible, and requests on their way there.
//! It outlives every process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use thalweg_checkpoint::{Manifest, Store, inspect};
use thalweg_engine::Delivery;
use thalweg_formats::JsonLines;
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::sink::{
    Encoded, EncodedObject, Grouping, PublishUnit, Published, RejectedRow, Released, SinkContext,
    StageStore,
};
use thalweg_stream::{
    Class, Clock, DeadClass, DeadLetter, Epoch, Fault, Origin, Publisher, RecordBatch, Route, Sink,
    SinkCapabilities, SinkWriter, StreamSchema,
};

use crate::world::{Kind, SimClock, World, lock};

/// The name of a unit: sink, lineage, epoch.
pub(crate) type UnitName = (String, String, u64);
/// The epoch in which a row was staged, and the row.
pub(crate) type Row = (u64, String);

/// What the job has made visible, and what it has promised.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    pub(crate) store: Option<Store>,
    /// Rows by unit.
    pub(crate) units: BTreeMap<UnitName, Vec<Row>>,
    /// Rows of the sink that may repeat them.
    pub(crate) repeatable: Vec<String>,
    /// Units in the order in which they became visible.
    pub(crate) order: Vec<UnitName>,
    /// Rows that sinks have refused: unit and id.
    pub(crate) refused: BTreeMap<(String, String), String>,
    /// Every checkpoint that was ever committed, by epoch.
    pub(crate) commits: BTreeMap<u64, Manifest>,
    /// An entry was appended to the log since the commits were looked at.
    pub(crate) log_grew: bool,
    /// What must never happen, and did.
    pub(crate) violations: Vec<String>,
    /// The newest epoch of the history whose publication was answered.
    answered: u64,
    in_flight: Vec<Request>,
}

/// A unit on its way: it arrives whether its sender lives or not.
#[derive(Debug)]
struct Request {
    at: Duration,
    /// It comes earlier if a successor of its sender commits: just after that, when what the
    /// successor has sent is on its way.
    straggles: bool,
    generation: u64,
    name: UnitName,
    rows: Vec<Row>,
    delivery: Delivery,
}

impl Outside {
    /// Looks at what the log says if it has grown. Retention may delete a checkpoint later on.
    pub(crate) fn learn(&mut self) {
        let Some(store) = self.store.clone().filter(|_| self.log_grew) else {
            return;
        };
        self.log_grew = false;
        let manifests = futures::executor::block_on(async {
            let listed = inspect::list(&store).await.expect("the log reads");
            let mut new = Vec::new();
            for checkpoint in listed.checkpoints {
                if !self.commits.contains_key(&checkpoint.epoch.0) {
                    let shown = inspect::show(&store, Some(checkpoint.epoch)).await;
                    new.push(shown.expect("a kept checkpoint reads").manifest);
                }
            }
            new
        });
        for manifest in manifests {
            let newest = self.commits.values().next_back();
            if newest.is_some_and(|newest| {
                newest.epoch >= manifest.epoch || newest.generation > manifest.generation
            }) {
                let what = format!("epoch {} was committed out of order", manifest.epoch);
                self.violations.push(what);
            }
            self.commits.insert(manifest.epoch.0, manifest);
        }
    }

    /// Lets arrive what is due.
    pub(crate) fn deliver(&mut self, world: &World) {
        if self.in_flight.is_empty() {
            return;
        }
        self.learn();
        let now = world.now();
        let newest = self.generation();
        let (due, later) = (std::mem::take(&mut self.in_flight).into_iter()).partition(|request| {
            request.at <= now || (request.straggles && request.generation < newest)
        });
        self.in_flight = later;
        let due: Vec<Request> = due;
        due.into_iter()
            .for_each(|request| self.arrive(request, world));
    }

    /// The newest generation that has committed.
    fn generation(&self) -> u64 {
        let newest = self.commits.values().next_back();
        newest.map_or(0, |manifest| manifest.generation.0)
    }

    fn arrive(&mut self, request: Request, world: &World) {
        let Request {
            generation,
            name,
            rows,
            delivery,
            ..
        } = request;
        // By its bytes: a run that is repeated puts out the same rows in the same order.
        world.trace(|| {
            let lines: Vec<&str> = rows.iter().map(|(_, row)| row.as_str()).collect();
            let print = thalweg_stream::key::hash(lines.join("\n").as_bytes());
            format!("arrives {name:?} {} {print:x}", rows.len())
        });
        if delivery == Delivery::AtLeastOnce {
            (self.repeatable).extend(rows.into_iter().map(|(_, row)| row));
            return;
        }
        if let Some(known) = self.units.get(&name) {
            world.sometimes("a unit was published again");
            if *known != rows {
                let what = format!("{name:?} was published with other rows");
                self.violations.push(what);
            }
            return;
        }
        // A unit may be closed by a later commit than that of its last rows.
        let listed = self.commits.range(name.2..).find_map(|(_, manifest)| {
            let mut units = manifest.sinks.get(&name.0)?.publishable();
            units.find(|unit| unit.unit.epoch.0 == name.2 && unit.unit.lineage.0 == name.1)?;
            Some(manifest.generation.0)
        });
        match listed {
            None => {
                let what = format!("{name:?} was published before its commit");
                self.violations.push(what);
            }
            Some(by) if by < generation => {
                world.sometimes("publishing was resumed from the manifest");
            }
            Some(_) if self.generation() > generation => {
                world.sometimes("a zombie published what its commit had released");
            }
            Some(_) => {}
        }
        self.order.push(name.clone());
        self.units.insert(name, rows);
    }
}

/// A sink of the simulation: keeps each unit once.
#[derive(Clone, Debug)]
pub(crate) struct SimSink {
    pub(crate) world: Arc<World>,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) doomed: Arc<AtomicBool>,
    pub(crate) ordered: bool,
    pub(crate) delivery: Delivery,
    pub(crate) grouping: Option<Grouping>,
    pub(crate) schema: StreamSchema,
}

#[async_trait]
impl Sink for SimSink {
    fn capabilities(&self) -> SinkCapabilities {
        SinkCapabilities {
            exactly_once: true,
            ordered: self.ordered,
            changes: false,
            route: Route::Local,
            grouping: self.grouping,
        }
    }

    fn writer(&self, _: usize, _: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        let lines = JsonLines::new(&self.schema, crate::job::lines());
        let lines = lines.map_err(|error| Fault::bug(error.to_string()))?;
        Ok(Box::new(Writer {
            lines,
            bytes: Vec::new(),
            rows: 0,
        }))
    }

    async fn publisher(&self, context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        Ok(Box::new(Publishing {
            sink: self.clone(),
            context,
        }))
    }
}

struct Writer {
    lines: JsonLines,
    bytes: Vec<u8>,
    rows: u64,
}

/// Bytes of an object before it is handed out ahead of the seal.
const OBJECT_BYTES: usize = 2000;

impl SinkWriter for Writer {
    fn write(&mut self, batch: &RecordBatch, out: &mut Encoded) -> Result<(), Fault> {
        self.lines.write(batch, &mut self.bytes)?;
        self.rows += batch.num_rows() as u64;
        match self.bytes.len() > OBJECT_BYTES {
            true => self.seal(Epoch(0), out),
            false => Ok(()),
        }
    }

    fn seal(&mut self, _: Epoch, out: &mut Encoded) -> Result<(), Fault> {
        if self.rows > 0 {
            out.objects.push(EncodedObject {
                bytes: std::mem::take(&mut self.bytes).into(),
                rows: std::mem::take(&mut self.rows),
                note: ().into(),
            });
        }
        Ok(())
    }

    fn buffered_bytes(&self) -> usize {
        self.bytes.len()
    }
}

struct Publishing {
    sink: SimSink,
    context: SinkContext,
}

/// Whether the service behind the history refuses a row for good.
pub(crate) fn is_refused(sink: &str, row: &str) -> bool {
    sink == "history" && thalweg_stream::key::hash(row.as_bytes()).is_multiple_of(17)
}

impl Publishing {
    /// The process dies here: nothing comes back.
    async fn die(&self) -> Fault {
        self.sink.doomed.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    /// How long a request is under way, or its reply; and whether so long that a successor may
    /// commit meanwhile.
    fn wait(&self) -> (Duration, bool) {
        let world = &self.sink.world;
        let weather = world.weather();
        let (us, long) = match world.chance(weather.publish_slow) {
            true if world.chance(weather.publish_late) => {
                let half = weather.publish_slow_us / 2;
                (half + world.below(half), true)
            }
            true => (1 + world.below(weather.publish_slow_us / 10), false),
            false => (0, false),
        };
        (Duration::from_micros(us), long)
    }

    fn again(what: &'static str) -> Fault {
        let after = Some(Duration::from_millis(5));
        Fault::new(Class::Transient { after }, what)
    }
}

#[async_trait]
impl Publisher for Publishing {
    async fn publish(
        &self,
        unit: &Released<PublishUnit>,
        stage: &dyn StageStore,
    ) -> Result<Published, Fault> {
        let (unit, world, clock) = (unit.get(), &self.sink.world, &self.sink.clock);
        let sink = self.context.sink.to_string();
        let (mut rows, mut published) = (Vec::new(), Published::default());
        let mut refused = Vec::new();
        for object in &unit.objects {
            let bytes = stage.get(object).await?;
            let text = String::from_utf8(bytes.to_vec()).expect("JSON lines");
            for (row, line) in text.lines().enumerate() {
                if !is_refused(&sink, line) || self.sink.delivery == Delivery::AtLeastOnce {
                    rows.push((object.epoch.0, line.to_owned()));
                    continue;
                }
                let (epoch, worker, sequence) = (object.epoch, object.worker, object.sequence);
                let id = format!("{epoch}-{worker}-{sequence}-{row}");
                refused.push(((sink.clone(), id.clone()), line.to_owned()));
                published.rejected.push(RejectedRow {
                    id,
                    letter: DeadLetter {
                        class: DeadClass::SinkReject,
                        code: "refused",
                        message: "refused".to_owned(),
                        origin: Origin::derived(row as u64),
                        event_time: None,
                        remains: Remains::Json(line.to_owned()),
                        plugin: None,
                    },
                });
            }
        }
        let (lineage, epoch) = (unit.lineage.to_string(), unit.epoch.0);
        world.trace(|| format!("publish {sink} {lineage} {epoch}"));
        let struck = world.effect(format!("publish {sink}"));
        let fails = world.weather().publish_fails;
        match struck {
            Some(Kind::Before | Kind::Torn) => return Err(self.die().await),
            Some(Kind::Error) => return Err(Self::again("the service is not there")),
            None if world.chance(fails) => return Err(Self::again("the service is not there")),
            Some(Kind::After | Kind::Lost) | None => {}
        }
        let (takes, straggles) = self.wait();
        let name = (sink, lineage, epoch);
        {
            let mut outside = lock(&world.outside);
            outside.in_flight.push(Request {
                at: world.now() + takes,
                straggles,
                generation: self.context.generation.0,
                name,
                rows,
                delivery: self.sink.delivery,
            });
            outside.refused.extend(refused);
        }
        clock.sleep(takes).await;
        lock(&world.outside).deliver(world);
        match struck {
            Some(Kind::After) => return Err(self.die().await),
            Some(Kind::Lost) => return Err(Self::again("the reply was lost")),
            None if world.chance(fails) => {
                world.sometimes("the reply of a service was lost");
                return Err(Self::again("the reply was lost"));
            }
            Some(_) | None => {}
        }
        // Replies of units that are under way together come back in any order.
        clock.sleep(self.wait().0).await;
        let mut outside = lock(&world.outside);
        if !self.sink.ordered && epoch < outside.answered {
            world.sometimes("replies of a service came out of order");
        }
        outside.answered = outside.answered.max(epoch);
        Ok(published)
    }
}
