//! Whole jobs, run to their end, stopped, panicking, changed.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounded_job_finishes_with_the_same_results_for_any_number_of_workers() {
    for (workers, chunk) in [(1, 1), (2, 7), (4, 1000)] {
        let store =
            Store::open(&format!("memory://same-{workers}"), Access::Create).expect("opens");
        let (out, dead) = (Shelf::default(), Shelf::default());
        let source = || Numbers {
            splits: 3,
            count: 1000,
            chunk,
            endless: false,
        };
        let (around, _commands, board) = surroundings(&store);
        let outcome = within("the job", run(job(source(), &out, &dead, workers), around)).await;
        assert_eq!(outcome, Ok(Outcome::Finished), "{workers} workers");
        assert_eq!(out.lines(), expected(3, 1000), "{workers} workers");
        assert_eq!(dead.lines().len(), 30);
        assert!(
            dead.lines()[0].contains("not-a-number"),
            "{:?}",
            dead.lines()[0]
        );
        let ledgers = board.read();
        let numbers = ledgers.ledgers()["numbers"];
        assert_eq!(
            (numbers.input, numbers.passed, numbers.dead),
            (3000, 2970, 30)
        );

        let before = out.publishes.load(Ordering::Relaxed);
        let (around, _commands, _) = surroundings(&store);
        let again = within("the job", run(job(source(), &out, &dead, workers), around)).await;
        assert_eq!(again, Ok(Outcome::AlreadyFinished));
        assert_eq!(out.publishes.load(Ordering::Relaxed), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_job_goes_on_where_it_was_with_another_number_of_workers() {
    let store = Store::open("memory://stopped", Access::Create).expect("opens");
    let (out, dead) = (Shelf::default(), Shelf::default());
    let mut stops = 0;
    for (workers, count) in [(2, 400), (3, 700), (1, 900)] {
        let source = Numbers {
            splits: 2,
            count,
            chunk: 10,
            endless: true,
        };
        let (around, commands, board) = surroundings(&store);
        let running = tokio::spawn(run(job(source, &out, &dead, workers), around));
        within("reading", async {
            while board
                .read()
                .ledgers()
                .get("numbers")
                .is_none_or(|l| l.input < count * 2)
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        assert_eq!(stop(&commands, running).await, Ok(Outcome::Stopped));
        stops += 1;
        assert_eq!(board.read().generation, stops);
    }
    assert!(
        out.lines().is_empty(),
        "nothing is due before the end of time"
    );
    let source = Numbers {
        splits: 2,
        count: 1000,
        chunk: 10,
        endless: false,
    };
    let (around, _commands, board) = surroundings(&store);
    let outcome = within("the job", run(job(source, &out, &dead, 4), around)).await;
    assert_eq!(outcome, Ok(Outcome::Finished));
    assert_eq!(out.lines(), expected(2, 1000));
    assert_eq!(dead.lines().len(), 20);
    assert_eq!(
        board.read().ledgers()["sums"].input,
        1980,
        "ledgers go on over restarts"
    );
}

/// A panic in an operator ends the attempt with a fault, not with a hang.
struct Panicking;

impl OperatorFactory for Panicking {
    fn routes(&self) -> Vec<Route> {
        vec![Route::Local]
    }
    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        vec![("", sum_schema())]
    }
    fn needs_epochs(&self) -> bool {
        false
    }
    fn build(&self, context: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        Ok(Box::new(PanickingOn(context.worker == 1)))
    }
}

struct PanickingOn(bool);

impl Operator for PanickingOn {
    fn on_batch(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<(), Fault> {
        assert!(!self.0, "planted");
        out.ledger.filtered += batch.num_rows() as u64;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_of_a_worker_ends_the_attempt() {
    let store = Store::open("memory://panic", Access::Create).expect("opens");
    let source = Numbers {
        splits: 2,
        count: 1000,
        chunk: 10,
        endless: false,
    };
    let mut job = job(source, &Shelf::default(), &Shelf::default(), 2);
    if let Node::Step(step) = &mut job.graph.nodes[1] {
        step.factory = Arc::new(Panicking);
    }
    let (around, _commands, _) = surroundings(&store);
    let fault = within("the job", run(job, around))
        .await
        .expect_err("it has panicked");
    assert!(fault.message.contains("panicked"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_state_is_refused_with_what_would_be_lost() {
    let store = Store::open("memory://shape", Access::Create).expect("opens");
    let source = |endless| Numbers {
        splits: 1,
        count: 100,
        chunk: 10,
        endless,
    };
    let (out, dead) = (Shelf::default(), Shelf::default());
    let (around, commands, board) = surroundings(&store);
    let running = tokio::spawn(run(job(source(true), &out, &dead, 1), around));
    within("a checkpoint", async {
        while board.read().checkpoints == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    stop(&commands, running).await.expect("stops");
    let mut changed = job(source(false), &out, &dead, 1);
    if let Node::Step(step) = &mut changed.graph.nodes[1] {
        step.id = Arc::from("renamed");
    }
    if let Node::Source(source) = &mut changed.graph.nodes[0] {
        source.name = Arc::from("others");
    }
    let (around, _commands, _) = surroundings(&store);
    let fault = within("the job", run(changed, around))
        .await
        .expect_err("it does not fit");
    for lost in [
        "step \"sums\" is gone, its state would be lost",
        "source \"numbers\" is gone, its offsets would be lost",
    ] {
        assert!(fault.message.contains(lost), "{fault}");
    }
    let mut reshaped = job(source(false), &out, &dead, 1);
    if let Node::Step(step) = &mut reshaped.graph.nodes[1] {
        step.factory = Arc::new(Panicking);
    }
    let (around, _commands, _) = surroundings(&store);
    let fault = within("the job", run(reshaped, around))
        .await
        .expect_err("it does not fit");
    let lost =
        "step \"sums\" has changed, its state would be lost: it was sums by n, it is without";
    assert!(fault.message.contains(lost), "{fault}");
    let (around, _commands, _) = surroundings(&store);
    assert_eq!(
        within("the job", run(job(source(false), &out, &dead, 1), around)).await,
        Ok(Outcome::Finished)
    );
}

/// A split that has come to its end for now holds the watermark back until it is idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_split_lets_the_others_go_on() {
    for idle_after_ms in [None, Some(30)] {
        let store = memory("idle", usize::from(idle_after_ms.is_some()));
        let source = Uneven([Some(500), Some(20), None]);
        let mut job = job(
            Numbers {
                splits: 1,
                count: 1,
                chunk: 1,
                endless: true,
            },
            &Shelf::default(),
            &Shelf::default(),
            2,
        );
        if let Node::Source(node) = &mut job.graph.nodes[0] {
            node.source = Arc::new(source);
            node.idle_after_ms = idle_after_ms;
        }
        let (around, commands, board) = surroundings(&store);
        let running = tokio::spawn(run(job, around));
        let newest = |status: &Status| {
            let splits = status.nodes.first()?.splits.iter();
            splits.filter_map(|split| split.newest_ms).max()
        };
        within("reading", async {
            // 498 is the newest there is, as 499 is bad; the third split never has anything.
            while newest(&board.read()) != Some(498) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let epoch = board.read().epoch;
            while board.read().epoch < epoch + 40 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        if idle_after_ms.is_some() {
            within("all are idle", async {
                while !board.read().nodes[0].idle {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
        }
        let node = board.read().nodes[0].clone();
        let expected = idle_after_ms.map(|_| 498);
        assert_eq!(node.watermark_ms, expected, "{idle_after_ms:?}: {node:?}");
        stop(&commands, running).await.expect("stops");
    }
}

/// Numbers in three splits, up to a count of their own; none at all in some.
struct Uneven([Option<u64>; 3]);

#[async_trait]
impl Source for Uneven {
    fn bounded(&self) -> bool {
        false
    }
    fn placement(&self) -> Placement {
        Placement::Spread
    }
    async fn discover(&self, _: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let numbers = Numbers {
            splits: 3,
            count: 0,
            chunk: 1,
            endless: true,
        };
        numbers.discover(&[]).await
    }
    fn open(&self, splits: Vec<SplitStart>, waker: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let mut readers = BTreeMap::new();
        for split in splits {
            let numbers = Numbers {
                splits: 3,
                count: self.0[split.id.0 as usize].unwrap_or(0),
                chunk: 10,
                endless: true,
            };
            readers.insert(split.id, numbers.open(vec![split], waker.clone())?);
        }
        Ok(Box::new(UnevenReader(readers)))
    }
}

struct UnevenReader(BTreeMap<SplitId, Box<dyn SplitReader>>);

impl SplitReader for UnevenReader {
    fn poll(&mut self, bytes_max: usize) -> Result<Option<Chunk>, Fault> {
        for reader in self.0.values_mut() {
            if let Some(chunk) = reader.poll(bytes_max)? {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
    fn status(&self, split: SplitId) -> SplitStatus {
        self.0[&split].status(split)
    }
}
