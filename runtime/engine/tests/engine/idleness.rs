//! Two splits, each in every way a split can be: none of the pairs keeps output back for longer
//! than `idle_after`.

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

/// Where an aligned split is held.
const HELD_AT: u64 = 130;

struct Ways([Way; 2], Arc<AtomicBool>);

#[async_trait]
impl Source for Ways {
    fn bounded(&self) -> bool {
        self.0 == [Way::Finished; 2]
    }
    fn placement(&self) -> Placement {
        Placement::Spread
    }
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let numbers = Numbers {
            splits: 2,
            count: 0,
            chunk: 10,
            endless: true,
        };
        numbers.discover(known).await
    }
    fn open(&self, splits: Vec<SplitStart>, _: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let reader = |split: SplitStart| {
            let way = self.0[split.id.0 as usize];
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pair_of_splits_keeps_output_back() {
    for first in Way::ALL {
        futures::future::join_all(Way::ALL.map(|second| pair([first, second]))).await;
    }
}

async fn pair(ways: [Way; 2]) {
    let store = Store::open(&format!("memory://idleness-{ways:?}"), Access::Create);
    let released = Arc::new(AtomicBool::new(false));
    let (out, stage) = (Shelf::default(), GatedStage::default());
    let blocked = ways.contains(&Way::BackPressured);
    stage.open.store(!blocked, Ordering::Relaxed);
    let numbers = Numbers {
        splits: 2,
        count: 0,
        chunk: 10,
        endless: true,
    };
    let mut job = direct(numbers, &out, &Shelf::default(), 2);
    job.limits.bytes_max = 20_000;
    job.limits.epoch_bytes = 2_000;
    if let [Node::Source(source), Node::Sink(sink), ..] = &mut job.graph.nodes[..] {
        source.source = Arc::new(Ways(ways, released.clone()));
        source.idle_after_ms = Some(20);
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
    within("reading stops", async {
        let mut before = None;
        while before != Some(board.read().nodes[0].rows_in) && !running.is_finished() {
            before = Some(board.read().nodes[0].rows_in);
            epochs_later(20).await;
        }
    })
    .await;
    // Splits are listed once a second.
    epochs_later(250).await;
    let source = board.read().nodes[0].clone();
    assert_eq!(source.splits.len(), 2, "{ways:?}");
    for (way, split) in ways.iter().zip(&source.splits) {
        assert!(!way.is_held() || !split.idle, "{ways:?}: {source:?}");
        assert!(
            !way.is_held() || split.behind > Some(0),
            "{ways:?}: {source:?}"
        );
    }
    if ways.iter().any(|way| way.is_held()) {
        let held = ways
            .iter()
            .zip(&source.splits)
            .filter(|(way, _)| way.is_held());
        let least = held.filter_map(|(_, split)| split.newest_ms).min();
        assert!(source.watermark_ms <= least, "{ways:?}: {source:?}");
    }
    // Let go, all there is comes out, though neither split says that it has ended.
    released.store(true, Ordering::Relaxed);
    stage.open.store(true, Ordering::Relaxed);
    if ways == [Way::Finished; 2] {
        let outcome = within("the job", running).await.expect("no panic");
        assert_eq!(outcome, Ok(Outcome::Finished));
        return;
    }
    let newest = ways.iter().filter_map(|way| way.newest()).max();
    let reached = tokio::time::timeout(Duration::from_secs(60), async {
        while board.read().nodes[0].watermark_ms != newest {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(
        reached.await.is_ok(),
        "{ways:?}: {newest:?} is not reached: {:?}",
        board.read().nodes[0]
    );
    commands.send(Command::Stop).await.expect("the job listens");
    let stopped = within("stopping", running).await.expect("no panic");
    assert_eq!(stopped, Ok(Outcome::Stopped), "{ways:?}");
    let good = |way: &Way| way.count() - way.count() / 100;
    let all: u64 = ways.iter().map(good).sum();
    assert_eq!(out.lines().len() as u64, all, "{ways:?}");
}
