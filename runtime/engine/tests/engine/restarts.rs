//! Attempts that fail, and what the supervisor makes of it.

use thalweg_engine::{Phase, RestartPolicy, supervise};

use super::*;

pub(crate) const POLICY: RestartPolicy = RestartPolicy {
    attempts: 5,
    delay: Duration::from_millis(2),
    delay_max: Duration::from_millis(20),
    reset_after: Duration::from_secs(60),
};

/// Sums, until it comes to a number: there the trap springs, so many times.
pub(crate) struct Trap {
    pub(crate) at: i64,
    pub(crate) times: Arc<AtomicUsize>,
    pub(crate) spring: fn(),
}

struct Trapped(Box<dyn Operator>, i64, Arc<AtomicUsize>, fn());

impl OperatorFactory for Trap {
    fn routes(&self) -> Vec<Route> {
        Sums.routes()
    }
    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        Sums.outputs()
    }
    fn needs_epochs(&self) -> bool {
        true
    }
    fn state_shape(&self) -> Option<String> {
        Sums.state_shape()
    }
    fn build(&self, context: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        let (inner, times) = (Sums.build(context)?, Arc::clone(&self.times));
        Ok(Box::new(Trapped(inner, self.at, times, self.spring)))
    }
}

impl Operator for Trapped {
    fn on_batch(&mut self, at: usize, batch: &RecordBatch, out: &mut Output) -> Result<(), Fault> {
        let numbers = batch.column(0).as_primitive::<Int64Type>();
        let armed = |left: usize| left.checked_sub(1);
        if numbers.values().contains(&self.1)
            && (self
                .2
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, armed))
            .is_ok()
        {
            (self.3)();
        }
        self.0.on_batch(at, batch, out)
    }
    fn on_epoch(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        self.0.on_epoch(close, out)
    }
    fn held(&self) -> Held {
        self.0.held()
    }
    fn freeze(&mut self, full: bool) {
        self.0.freeze(full);
    }
    fn freeze_failed(&mut self) {
        self.0.freeze_failed();
    }
    fn drain(&mut self, bytes: usize, sections: &mut Vec<Section>) -> Result<bool, Fault> {
        self.0.drain(bytes, sections)
    }
    fn restore(&mut self, section: &Section) -> Result<(), Fault> {
        self.0.restore(section)
    }
}

/// A job with a trap, on a source of so many splits: each has the number.
pub(crate) fn trapped(
    out: &Shelf,
    workers: usize,
    splits: usize,
    (at, times): (i64, usize),
) -> Job {
    let source = Numbers {
        splits,
        count: 4000,
        chunk: 64,
        endless: false,
    };
    let mut job = job(source, out, &Shelf::default(), workers);
    if let Node::Step(step) = &mut job.graph.nodes[1] {
        step.factory = Arc::new(Trap {
            at,
            times: Arc::new(AtomicUsize::new(times)),
            spring: || panic!("a trap"),
        });
    }
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicked_worker_is_followed_by_another_attempt_and_nothing_is_lost() {
    for workers in [1, 2] {
        let (store, out) = (memory("panics", workers), Shelf::default());
        let (surroundings, _commands, board) = surroundings(&store);
        let job = trapped(&out, workers, 3, (3000, 2));
        let ended = within("the run", supervise(job, surroundings, POLICY)).await;
        assert_eq!(ended, Ok(Outcome::Finished));
        assert_eq!(out.lines(), expected(3, 4000));
        let status = board.read();
        assert_eq!((status.restarts, status.generation), (2, 3));
        let restart = status.restarted.expect("restarted");
        assert_eq!(restart.cause, "panic");
        assert!(restart.error.contains("a trap"), "{}", restart.error);
    }
}

/// Answers the first attempt, which it ends after its first commit; and then not so many.
struct Away {
    sink: Shelf,
    attempts: AtomicUsize,
    missed: usize,
}

#[async_trait]
impl Sink for Away {
    fn capabilities(&self) -> SinkCapabilities {
        self.sink.capabilities()
    }
    fn writer(&self, worker: usize, context: &SinkContext) -> Result<Box<dyn SinkWriter>, Fault> {
        self.sink.writer(worker, context)
    }
    async fn publisher(&self, context: SinkContext) -> Result<Box<dyn Publisher>, Fault> {
        match self.attempts.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(Box::new(Ends)),
            attempt if attempt <= self.missed => {
                Err(Fault::new(Class::Unreachable, "nobody answers"))
            }
            _ => self.sink.publisher(context).await,
        }
    }
}

struct Ends;

#[async_trait]
impl Publisher for Ends {
    async fn publish(
        &self,
        _: &Released<PublishUnit>,
        _: &dyn StageStore,
    ) -> Result<Published, Fault> {
        Err(Fault::bug("it ends the attempt"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_when_a_job_starts_again_is_waited_for() {
    let (store, out) = (memory("away", 1), Shelf::default());
    let (surroundings, _commands, board) = surroundings(&store);
    let source = Numbers {
        splits: 2,
        count: 4000,
        chunk: 64,
        endless: false,
    };
    let mut job = direct(source, &out, &Shelf::default(), 1);
    if let Node::Sink(node) = &mut job.graph.nodes[1] {
        node.sink = Arc::new(Away {
            sink: out.clone(),
            attempts: AtomicUsize::new(0),
            missed: 4,
        });
    }
    let ended = within("the run", supervise(job, surroundings, POLICY)).await;
    assert_eq!(ended, Ok(Outcome::Finished));
    assert_eq!(out.lines(), crate::delivery::passed(2, 4000));
    assert_eq!(board.read().restarts, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_ends_every_attempt_is_named() {
    let (store, out) = (memory("named", 2), Shelf::default());
    let (surroundings, _commands, board) = surroundings(&store);
    // One split: which of several came first could change from attempt to attempt.
    let job = trapped(&out, 2, 1, (3001, usize::MAX));
    let ended = within("the run", supervise(job, surroundings, POLICY)).await;
    let fault = ended.expect_err("it cannot end well");
    assert_eq!(fault.class, Class::Bug);
    let place = "3 times in a row on source \"numbers\", split \"part ";
    assert!(fault.message.contains(place), "{fault}");
    assert!(fault.message.ends_with(", offset 3001"), "{fault}");
    assert_eq!(board.read().phase, Phase::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_wait_for_the_next_attempt() {
    let (store, out) = (memory("waits", 1), Shelf::default());
    let (surroundings, commands, board) = surroundings(&store);
    let policy = RestartPolicy {
        delay: Duration::from_secs(3600),
        delay_max: Duration::from_secs(3600),
        ..POLICY
    };
    let job = trapped(&out, 1, 3, (3000, 1));
    let running = tokio::spawn(supervise(job, surroundings, policy));
    within("the failure", async {
        while board.read().phase != Phase::Restarting {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    commands.send(Command::Stop).await.expect("it listens");
    let ended = within("the run", running).await.expect("no panic");
    assert_eq!(ended, Ok(Outcome::Stopped));
}
