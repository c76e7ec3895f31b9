//! Reading: who decodes, which split is next, and when sources stop.

use super::staging::{GatedStage, Staging};
use super::*;

/// What a source's readers were told, in order: split and newest event time.
type Observed = Arc<Mutex<Vec<(u32, i64)>>>;

/// [`Numbers`], writing down what its readers are told of event times.
struct Observing(Numbers, Observed);

#[async_trait]
impl Source for Observing {
    fn bounded(&self) -> bool {
        self.0.bounded()
    }
    fn placement(&self) -> Placement {
        self.0.placement()
    }
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        self.0.discover(known).await
    }
    fn open(&self, splits: Vec<SplitStart>, waker: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let mine = splits.iter().map(|split| split.id).collect();
        let inner = self.0.open(splits, waker)?;
        Ok(Box::new(ObservingReader(inner, mine, self.1.clone())))
    }
}

struct ObservingReader(Box<dyn SplitReader>, BTreeSet<SplitId>, Observed);

impl SplitReader for ObservingReader {
    fn poll(&mut self, bytes_max: usize) -> Result<Option<Chunk>, Fault> {
        self.0.poll(bytes_max)
    }
    fn status(&self, split: SplitId) -> SplitStatus {
        self.0.status(split)
    }
    fn observe(&mut self, split: SplitId, newest_event_time: i64) {
        assert!(self.1.contains(&split), "a split of another reader");
        self.2.lock().unwrap().push((split.0, newest_event_time));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_told_how_far_their_splits_have_come_also_after_a_restart() {
    for workers in [1, 2] {
        let store = memory("observe", workers);
        let (out, dead) = (Shelf::default(), Shelf::default());
        let observed = Observed::default();
        let observing = |count, endless| {
            let source = Numbers {
                splits: 2,
                count,
                chunk: 10,
                endless,
            };
            let mut job = job(source, &out, &dead, workers);
            if let Node::Source(node) = &mut job.graph.nodes[0] {
                let source = Numbers {
                    splits: 2,
                    count,
                    chunk: 10,
                    endless,
                };
                node.source = Arc::new(Observing(source, observed.clone()));
            }
            job
        };
        let (around, commands, _) = surroundings(&store);
        let running = tokio::spawn(run(observing(500, true), around));
        // 499 is a bad record; 498 is the newest there is.
        within("observing", async {
            while !BTreeSet::from([(0, 498), (1, 498)])
                .is_subset(&observed.lock().unwrap().iter().copied().collect())
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        stop(&commands, running).await.expect("stops");
        observed.lock().unwrap().clear();
        let (around, _commands, _) = surroundings(&store);
        let outcome = within("the job", run(observing(1000, false), around)).await;
        assert_eq!(outcome, Ok(Outcome::Finished));
        let observed = observed.lock().unwrap();
        for split in [0, 1] {
            let first = observed.iter().find(|(of, _)| *of == split);
            assert_eq!(first, Some(&(split, 498)), "what the checkpoint knows");
        }
    }
}

/// Counts the records that each instance decodes; the first ones wait until every instance has
/// some.
#[derive(Clone, Default)]
struct Decoders(Arc<Mutex<Vec<u64>>>);

impl DecoderFactory for Decoders {
    fn schema(&self) -> StreamSchema {
        NumberDecoder.schema()
    }
    fn build(&self) -> Result<Box<dyn Decoder>, Fault> {
        let mut counts = self.0.lock().unwrap();
        counts.push(0);
        Ok(Box::new(CountingDecoder(self.clone(), counts.len() - 1)))
    }
}

struct CountingDecoder(Decoders, usize);

impl Decoder for CountingDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        NumberDecoder.decode(chunk, out)?;
        self.0.0.lock().unwrap()[self.1] += out.records;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_split_keeps_all_workers_decoding() {
    let store = memory("one-split", 4);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let source = Numbers {
        splits: 1,
        count: 8000,
        chunk: 10,
        endless: false,
    };
    let mut job = job(source, &out, &dead, 4);
    let decoders = Decoders::default();
    if let Node::Source(node) = &mut job.graph.nodes[0] {
        node.decoder = Arc::new(decoders.clone());
    }
    let (around, _commands, _) = surroundings(&store);
    let outcome = within("the job", run(job, around)).await;
    assert_eq!(outcome, Ok(Outcome::Finished));
    assert_eq!(out.lines(), expected(1, 8000));
    // A chunk goes to the worker with the fewest; at first all have none, so each gets its turn.
    let counts = decoders.0.lock().unwrap();
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (4, 8000));
    assert!(counts.iter().all(|&count| count >= 20), "{counts:?}");
}

/// Holds all rows back until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Dam {
    pub(crate) open: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
}

impl OperatorFactory for Dam {
    fn routes(&self) -> Vec<Route> {
        vec![Route::Local]
    }
    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        vec![("", NumberDecoder.schema())]
    }
    fn needs_epochs(&self) -> bool {
        true
    }
    fn build(&self, _: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        Ok(Box::new(DamState(self.clone(), Vec::new())))
    }
}

struct DamState(Dam, Vec<RecordBatch>);

impl DamState {
    fn bytes(&self) -> usize {
        self.1
            .iter()
            .map(thalweg_stream::schema::batch_bytes)
            .sum::<usize>()
    }
}

impl Operator for DamState {
    fn on_batch(&mut self, _: usize, batch: &RecordBatch, _: &mut Output) -> Result<(), Fault> {
        self.1.push(batch.clone());
        self.0.held.store(self.bytes(), Ordering::Relaxed);
        Ok(())
    }
    fn on_epoch(&mut self, _: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        if self.0.open.load(Ordering::Relaxed) {
            for batch in self.1.drain(..) {
                out.ledger.passed += batch.num_rows() as u64;
                out.emit(batch);
            }
        }
        Ok(())
    }
    fn held(&self) -> Held {
        Held {
            rows: self.1.iter().map(|batch| batch.num_rows() as u64).sum(),
            bytes: self.bytes(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_held_back_stop_the_source_until_they_go_on() {
    const BYTES_MAX: usize = 200_000;
    let store = memory("held", 1);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let source = Numbers {
        splits: 1,
        count: 200_000,
        chunk: 100,
        endless: false,
    };
    let mut job = job(source, &out, &dead, 1);
    let dam = Dam::default();
    if let Node::Step(step) = &mut job.graph.nodes[1] {
        step.factory = Arc::new(dam.clone());
    }
    job.limits.bytes_max = BYTES_MAX;
    // An epoch of its own must not overflow the budget by much.
    job.limits.epoch_bytes = 4_000;
    let (around, _commands, board) = surroundings(&store);
    let running = tokio::spawn(run(job, around));
    within("the dam fills", async {
        while dam.held.load(Ordering::Relaxed) < BYTES_MAX {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    // Epochs go on; the source does not, however long one waits.
    let at = board.read().epoch;
    within("epochs go on", async {
        while board.read().epoch < at + 40 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let held = dam.held.load(Ordering::Relaxed);
    assert!(
        held < 2 * BYTES_MAX,
        "{held} bytes held of {BYTES_MAX} allowed"
    );
    let read = board.read().nodes[0].rows_in;
    assert!(read < 100_000, "{read} records read");
    dam.open.store(true, Ordering::Relaxed);
    let outcome = within("the job", running).await.expect("no panic");
    assert_eq!(outcome, Ok(Outcome::Finished));
    assert_eq!(out.lines().len(), 200_000 / 100 * 99);
}

/// What is to be written lies in memory until the stage has taken it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_blocks_stops_the_source_and_memory_stays_flat() {
    let stage = GatedStage::default();
    let staging = |sink: &mut SinkNode, out: &Shelf| {
        sink.sink = Arc::new(Staging(out.clone(), Arc::new(stage.clone())));
    };
    let open = |_: &Shelf| stage.open.store(true, Ordering::Relaxed);
    blocked("blocked", staging, open).await;
}

/// The same where nothing is staged: what it is to write lies in memory until it has taken it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_stages_nothing_stops_the_source_when_it_blocks() {
    let at_once = |sink: &mut SinkNode, out: &Shelf| {
        out.closed.store(true, Ordering::Relaxed);
        sink.delivery = Delivery::AtLeastOnce;
    };
    let open = |out: &Shelf| out.closed.store(false, Ordering::Relaxed);
    let board = blocked("blocked-at-once", at_once, open).await;
    assert_eq!(board.read().queue_bytes, 0);
}

/// Runs a job whose sink takes nothing, as `block` makes it, until `open` opens it: epochs go on
/// meanwhile, the source does not, and no more than twice what is allowed waits for the sink.
async fn blocked(
    name: &str,
    block: impl FnOnce(&mut SinkNode, &Shelf),
    open: impl FnOnce(&Shelf),
) -> StatusBoard {
    const BYTES_MAX: usize = 400_000;
    let store = memory(name, 2);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let source = Numbers {
        splits: 2,
        count: 100_000,
        chunk: 100,
        endless: false,
    };
    let mut job = direct(source, &out, &dead, 2);
    if let Node::Sink(sink) = &mut job.graph.nodes[1] {
        block(sink, &out);
    }
    job.limits.bytes_max = BYTES_MAX;
    job.limits.epoch_bytes = 4_000;
    let (around, _commands, board) = surroundings(&store);
    let running = tokio::spawn(run(job, around));
    within("output queues up", async {
        while board.read().queue_bytes < BYTES_MAX {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let at = board.read().epoch;
    within("epochs go on", async {
        while board.read().epoch < at + 40 {
            let status = board.read();
            let queue = status.queue_bytes;
            assert!(
                queue < 2 * BYTES_MAX,
                "{queue} bytes of {BYTES_MAX} allowed: {status:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert!(board.read().nodes[0].rows_in < 150_000);
    open(&out);
    let outcome = within("the job", running).await.expect("no panic");
    assert_eq!(outcome, Ok(Outcome::Finished));
    assert_eq!(out.lines().len(), 200_000 / 100 * 99);
    board
}
