//! Two splits, of one source or each of its own, in every way a split can be: none of the pairs
//! keeps output back for longer than `idle_after`.

use super::staging::{GatedStage, Staging};
use super::*;

/// How a split behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Has some records, then waits at its end.
    Idle,
    /// Is held for a while by its reader, with records left.
    Aligned,
    /// Has more records than the job may hold while its sink is blocked.
    BackPressured,
    /// Has some records and ends.
    Finished,
    /// Waits at its end from the beginning.
    Never,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Idle,
        Self::Aligned,
        Self::BackPressured,
        Self::Finished,
        Self::Never,
    ];

    /// Records in all.
    fn count(self) -> u64 {
        match self {
            Self::Idle => 120,
            Self::Aligned => 180,
            Self::BackPressured => 20_000,
            Self::Finished => 150,
            Self::Never => 0,
        }
    }

    /// The newest event time of them; each hundredth record is bad.
    fn newest(self) -> Option<i64> {
        let last = self.count().checked_sub(1)?;
        i64::try_from(last - u64::from(last % 100 == 99)).ok()
    }

    fn is_held(self) -> bool {
        matches!(self, Self::Aligned | Self::BackPressured)
    }
}

/// How long a split may say nothing before it is idle, and what a busy machine may add to that.
const IDLE_AFTER: Duration = Duration::from_millis(200);
const SLACK: Duration = Duration::from_secs(3);

/// Where an aligned split is held.
const HELD_AT: u64 = 130;

/// A source whose splits behave so; the aligned ones are released together.
struct Ways(Vec<Way>, Arc<AtomicBool>);

#[async_trait]
impl Source for Ways {
    fn bounded(&self) -> bool {
        self.0.iter().all(|way| *way == Way::Finished)
    }
    fn placement(&self) -> Placement {
        Placement::Spread
    }
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let numbers = Numbers {
            splits: self.0.len(),
            ..NOTHING
        };
        numbers.discover(known).await
    }
    fn open(&self, splits: Vec<SplitStart>, _: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let reader = |split: SplitStart| {
            let number = split.spec.name.rsplit(' ').next().expect("a number");
            let way = self.0[number.parse::<usize>().expect("a number")];
            let numbers = NumberReader {
                at: [(split.id, split.offset.unwrap_or(0))].into(),
                count: way.count(),
                chunk: 10,
                endless: way != Way::Finished,
            };
            (split.id, (way, numbers))
        };
        let readers = splits.into_iter().map(reader).collect();
        Ok(Box::new(WayReader(readers, self.1.clone())))
    }
}

struct WayReader(BTreeMap<SplitId, (Way, NumberReader)>, Arc<AtomicBool>);

impl SplitReader for WayReader {
    fn poll(&mut self, bytes_max: usize) -> Result<Option<Chunk>, Fault> {
        for (split, (way, numbers)) in &mut self.0 {
            let held = *way == Way::Aligned && !self.1.load(Ordering::Relaxed);
            if held && numbers.at[split] >= HELD_AT {
                continue;
            }
            if let Some(chunk) = numbers.poll(bytes_max)? {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
    fn status(&self, split: SplitId) -> SplitStatus {
        self.0[&split].1.status(split)
    }
}

/// What the sources of `direct` are replaced by.
const NOTHING: Numbers = Numbers {
    splits: 2,
    count: 0,
    chunk: 10,
    endless: true,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pair_of_splits_keeps_output_back() {
    for first in Way::ALL {
        futures::future::join_all(Way::ALL.map(|second| pair(vec![vec![first, second]]))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pair_of_sources_keeps_output_back() {
    for first in Way::ALL {
        let pairs = Way::ALL.map(|second| pair(vec![vec![first], vec![second]]));
        futures::future::join_all(pairs).await;
    }
}

/// A job that writes down what these sources have, by their splits.
fn writing(sources: &[Vec<Way>], released: &Arc<AtomicBool>, out: &Shelf) -> Job {
    let mut job = direct(NOTHING, out, &Shelf::default(), 2);
    job.limits.bytes_max = 20_000;
    job.limits.epoch_bytes = 2_000;
    job.graph.nodes.remove(0);
    for (at, ways) in sources.iter().enumerate() {
        let source = SourceNode {
            name: format!("numbers {at}").into(),
            source: Arc::new(Ways(ways.clone(), Arc::clone(released))),
            decoder: Arc::new(NumberDecoder),
            out_of_order_ms: 0,
            idle_after_ms: Some(IDLE_AFTER.as_millis() as u64),
            after: vec![],
        };
        job.graph.nodes.insert(at, Node::Source(source));
    }
    job.graph.dead_letters = sources.len() + 1;
    if let Node::Sink(sink) = &mut job.graph.nodes[sources.len()] {
        sink.input = (0..sources.len())
            .map(|node| Edge { node, port: 0 })
            .collect();
    }
    job
}

async fn pair(sources: Vec<Vec<Way>>) {
    let ways = sources.concat();
    let store = Store::open(&format!("memory://idleness-{sources:?}"), Access::Create);
    let released = Arc::new(AtomicBool::new(false));
    let (out, stage) = (Shelf::default(), GatedStage::default());
    let blocked = ways.contains(&Way::BackPressured);
    stage.open.store(!blocked, Ordering::Relaxed);
    let mut job = writing(&sources, &released, &out);
    if let Node::Sink(sink) = &mut job.graph.nodes[sources.len()] {
        sink.sink = Arc::new(Staging(out.clone(), Arc::new(stage.clone())));
    }
    let (around, commands, board) = surroundings(&store.expect("opens"));
    let running = tokio::spawn(run(job, around));
    let epochs_later = async |epochs: u64| {
        let from = board.read().epoch;
        while board.read().epoch < from + epochs && !running.is_finished() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within("the job starts", async {
        while board.read().epoch == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    // Held, and held for longer than a split takes to become idle: it is not.
    let read = || -> Vec<u64> {
        let status = board.read();
        let nodes = status.nodes.iter().take(sources.len());
        nodes.map(|node| node.rows_in).collect()
    };
    within("reading stops", async {
        let mut before = None;
        while before != Some(read()) && !running.is_finished() {
            before = Some(read());
            epochs_later(20).await;
        }
    })
    .await;
    // Splits are listed once a second.
    epochs_later(250).await;
    let status = board.read();
    let nodes = status.nodes.iter().take(sources.len());
    let splits: Vec<_> = nodes.flat_map(|node| &node.splits).collect();
    assert_eq!(splits.len(), 2, "{sources:?}");
    let held = ways.iter().zip(&splits).filter(|(way, _)| way.is_held());
    let held: Vec<_> = held.map(|(_, split)| split).collect();
    for split in &held {
        assert!(!split.idle, "{sources:?}: {split:?}");
        assert!(split.behind > Some(0), "{sources:?}: {split:?}");
    }
    // What the sink is told: the union of all.
    let watermark = || board.read().nodes[sources.len()].watermark_ms;
    let newest = ways.iter().filter_map(|way| way.newest()).max();
    match held.iter().map(|split| split.newest_ms).min() {
        Some(least) => assert!(watermark() <= least, "{sources:?}: {splits:?}"),
        // A job that has finished has nothing to be late with.
        None if running.is_finished() => {}
        None => assert_eq!(watermark(), newest, "{sources:?}: {splits:?}"),
    }
    // Let go, all there is comes out, though neither split says that it has ended.
    released.store(true, Ordering::Relaxed);
    stage.open.store(true, Ordering::Relaxed);
    if ways == [Way::Finished; 2] {
        let outcome = within("the job", running).await.expect("no panic");
        assert_eq!(outcome, Ok(Outcome::Finished));
        return;
    }
    let good = |way: &Way| way.count() - way.count() / 100;
    let all: u64 = ways.iter().map(good).sum();
    within("all is read", async {
        while read().iter().sum::<u64>() < all {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let reached = tokio::time::timeout(IDLE_AFTER + SLACK, async {
        while watermark() != newest {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(
        reached.await.is_ok(),
        "{sources:?}: {newest:?} is not reached: {:?}",
        board.read().nodes
    );
    let stopped = stop(&commands, running).await;
    assert_eq!(stopped, Ok(Outcome::Stopped), "{sources:?}");
    assert_eq!(out.lines().len() as u64, all, "{sources:?}");
}
