//! Splits that come while the job runs.

use super::*;

/// [`Numbers`] whose splits become more when the test says so.
#[derive(Clone)]
pub(crate) struct Growing {
    pub(crate) splits: Arc<tokio::sync::watch::Sender<usize>>,
    count: u64,
    endless: bool,
}

impl Growing {
    pub(crate) fn new(splits: usize, count: u64) -> Self {
        Self {
            splits: Arc::new(tokio::sync::watch::Sender::new(splits)),
            count,
            endless: true,
        }
    }

    fn all(splits: usize) -> Vec<SplitSpec> {
        let name = |n: usize| SplitSpec {
            name: format!("part {n}").into(),
            detail: ().into(),
        };
        (0..splits).map(name).collect()
    }
}

#[async_trait]
impl Source for Growing {
    fn bounded(&self) -> bool {
        !self.endless
    }
    fn placement(&self) -> Placement {
        Placement::Spread
    }
    async fn discover(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let all = Self::all(*self.splits.borrow());
        assert!(all.starts_with(known), "in the order of the checkpoint");
        Ok(all)
    }
    async fn grown(&self, known: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        let mut splits = self.splits.subscribe();
        let more = splits.wait_for(|&splits| splits > known.len()).await;
        let all = Self::all(*more.map_err(|_| Fault::bug("the test is gone"))?);
        assert!(all.starts_with(known), "in the order of their numbers");
        Ok(all[known.len()..].to_vec())
    }
    fn open(&self, splits: Vec<SplitStart>, _: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        let mut reader = GrowingReader(NumberReader {
            at: BTreeMap::new(),
            count: self.count,
            chunk: 10,
            endless: self.endless,
        });
        reader.add(splits)?;
        Ok(Box::new(reader))
    }
}

struct GrowingReader(NumberReader);

impl SplitReader for GrowingReader {
    fn poll(&mut self, bytes_max: usize) -> Result<Option<Chunk>, Fault> {
        self.0.poll(bytes_max)
    }
    fn status(&self, split: SplitId) -> SplitStatus {
        self.0.status(split)
    }
    fn add(&mut self, splits: Vec<SplitStart>) -> Result<(), Fault> {
        let splits = splits.iter().map(|s| (s.id, s.offset.unwrap_or(0)));
        self.0.at.extend(splits);
        Ok(())
    }
}

/// The job of `direct`, from a growing source.
pub(crate) fn growing(source: &Growing, out: &Shelf, dead: &Shelf, workers: usize) -> Job {
    let numbers = Numbers {
        splits: 0,
        count: 0,
        chunk: 0,
        endless: true,
    };
    let mut job = direct(numbers, out, dead, workers);
    if let Node::Source(node) = &mut job.graph.nodes[0] {
        node.source = Arc::new(source.clone());
    }
    job
}

/// What 300 numbers of each of `splits` splits give: rows, and dead letters by split.
pub(crate) fn holds(out: &Shelf, dead: &Shelf, splits: usize) {
    let mut lines: Vec<String> = (0..300 * splits)
        .map(|n| n % 300)
        .filter(|n| n % 100 != 99)
        .map(|n| format!("{n} "))
        .collect();
    lines.sort();
    assert_eq!(out.lines(), lines);
    let letters = dead.lines();
    assert_eq!(letters.len(), 3 * splits);
    for split in 0..splits {
        let name = format!(" numbers part {split} ");
        let of = letters.iter().filter(|letter| letter.contains(&name));
        assert_eq!(of.count(), 3, "{name}: {letters:?}");
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_that_come_are_read_once_and_named_and_found_again_after_a_restart() {
    for workers in [1, 3] {
        let store = memory("growing", workers);
        let (out, dead) = (Shelf::default(), Shelf::default());
        // With none at first: then no instance has a reader at work.
        let source = Growing::new(0, 300);
        let (around, commands, board) = surroundings(&store);
        let running = tokio::spawn(run(growing(&source, &out, &dead, workers), around));
        until("the start", || board.read().epoch > 5).await;
        for splits in [1, 2, 5] {
            source.splits.send_replace(splits);
            until("rows of all splits", || out.lines().len() >= splits * 297).await;
        }
        // A sink of its own, which publishes when it comes to it.
        until("dead letters of all splits", || dead.lines().len() >= 5 * 3).await;
        holds(&out, &dead, 5);
        let names = |board: &StatusBoard| -> Vec<String> {
            let splits = board.read().nodes[0].splits.clone();
            splits.into_iter().map(|split| split.name).collect()
        };
        let five: Vec<String> = (0..5).map(|n| format!("part {n}")).collect();
        until("all in the status", || names(&board) == five).await;
        let outcome = stop(&commands, running).await;
        assert_eq!(outcome, Ok(Outcome::Stopped));

        // Two more have come while nobody looked, another one comes afterwards.
        source.splits.send_replace(7);
        let (around, commands, _) = surroundings(&store);
        let running = tokio::spawn(run(growing(&source, &out, &dead, 2), around));
        until("rows of seven", || out.lines().len() >= 7 * 297).await;
        source.splits.send_replace(8);
        until("rows of eight", || out.lines().len() >= 8 * 297).await;
        let outcome = stop(&commands, running).await;
        assert_eq!(outcome, Ok(Outcome::Stopped));
        holds(&out, &dead, 8);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_that_came_after_the_last_checkpoint_is_read_anew_after_a_crash() {
    let store = memory("growing-crash", 2);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let source = Growing::new(2, 300);
    let job = || {
        let mut job = growing(&source, &out, &dead, 2);
        job.take_over = true;
        job
    };
    let (around, _commands, board) = surroundings(&store);
    let running = tokio::spawn(run(job(), around));
    until("a checkpoint", || board.read().checkpoints > 0).await;
    source.splits.send_replace(3);
    until("the new split", || board.read().nodes[0].splits.len() == 3).await;
    // Dropped wherever it is: before a checkpoint knows the split, while one is written, or after.
    running.abort();
    assert!(running.await.is_err(), "it was dropped");
    source.splits.send_replace(4);
    let (around, commands, _) = surroundings(&store);
    let running = tokio::spawn(run(job(), around));
    until("rows of all splits", || out.lines().len() >= 4 * 297).await;
    let outcome = stop(&commands, running).await;
    assert_eq!(outcome, Ok(Outcome::Stopped));
    holds(&out, &dead, 4);
}

/// A source that fails while it is watched.
struct Lost;

#[async_trait]
impl Source for Lost {
    fn bounded(&self) -> bool {
        false
    }
    fn placement(&self) -> Placement {
        Placement::Spread
    }
    async fn discover(&self, _: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        Ok(Growing::all(1))
    }
    async fn grown(&self, _: &[SplitSpec]) -> Result<Vec<SplitSpec>, Fault> {
        Err(Fault::unavailable("it was made anew"))
    }
    fn open(&self, splits: Vec<SplitStart>, waker: Waker) -> Result<Box<dyn SplitReader>, Fault> {
        Growing::new(1, 10).open(splits, waker)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_source_that_is_watched_ends_the_attempt() {
    let store = memory("growing-lost", 1);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let mut job = growing(&Growing::new(1, 10), &out, &dead, 1);
    if let Node::Source(node) = &mut job.graph.nodes[0] {
        node.source = Arc::new(Lost);
    }
    let (around, _commands, _) = surroundings(&store);
    let fault = within("the job", run(job, around)).await.expect_err("ends");
    assert_eq!(fault.class, Class::Unavailable);
    assert_eq!(fault.message, "source \"numbers\": it was made anew");
}
