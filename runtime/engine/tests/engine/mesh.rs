//! One job over several processes.

use thalweg_engine::{RestartPolicy, supervise_mesh};
use thalweg_stream::Clock as _;

use super::delivery::{input, passed, until};
use super::growing::{Growing, growing, holds};
use super::reading::Dam;
use super::restarts::{POLICY, Trap, trapped};
use super::threads::Threads;
use super::*;

/// What ran, and how.
struct Ran {
    outcome: Result<Outcome, Fault>,
    board: StatusBoard,
    followers: Vec<Result<(), Fault>>,
}

/// The worker of so many that owns a key of the sums.
fn owner(n: i64, workers: usize) -> usize {
    let mut key = vec![0x03];
    key.extend_from_slice(&n.to_le_bytes());
    let hash = thalweg_stream::key::hash(&key);
    thalweg_stream::key::owner(thalweg_stream::key::key_group(hash), workers)
}

/// Runs a job over processes, without restarts.
async fn mesh(
    processes: usize,
    store: &Store,
    make: impl Fn() -> Job + Send + Sync + 'static,
) -> Ran {
    let job = make();
    let launch = Arc::new(Threads::new(processes, move || make().graph));
    let (around, _commands, board) = surroundings(store);
    let running = supervise_mesh(job, around, RestartPolicy::NEVER, Arc::clone(&launch) as _);
    let outcome = within("the job", running).await;
    let followers = launch.ended.lock().unwrap().clone();
    Ran {
        outcome,
        board,
        followers,
    }
}

fn numbers(splits: usize, count: u64) -> Numbers {
    Numbers {
        splits,
        count,
        chunk: 50,
        endless: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_do_not_depend_on_processes_workers_and_batches() {
    for processes in [2, 3] {
        for workers in [1, 2] {
            for rows in [1, 7, 8192] {
                let store = memory(&format!("mesh-{processes}-{rows}"), workers);
                let (out, dead) = (Shelf::default(), Shelf::default());
                let shelves = (out.clone(), dead.clone());
                let make = move || {
                    let mut job = job(numbers(3, 2_000), &shelves.0, &shelves.1, workers);
                    job.limits.batch_rows = rows;
                    job
                };
                let ran = mesh(processes, &store, make).await;
                assert_eq!(ran.outcome, Ok(Outcome::Finished));
                assert_eq!(ran.followers, vec![Ok(()); processes - 1]);
                assert_eq!(out.lines(), expected(3, 2_000));
                assert_eq!(dead.lines().len(), 60);
                let status = ran.board.read();
                assert_eq!(status.workers, workers * processes);
                assert_eq!(status.ledgers()["numbers"].input, 6_000);
            }
        }
    }
}

/// A leader that exits takes with it what it has only been about to send: the order to end as well,
/// without which a follower on another host waits for the next attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_job_has_reached_the_followers_before_the_leader_goes() {
    let store = memory("mesh-end", 1);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let shelves = (out.clone(), dead.clone());
    let make = move || job(numbers(3, 100), &shelves.0, &shelves.1, 1);
    let first = make();
    let launch = Threads::new(3, move || make().graph).slow(Duration::from_millis(30));
    let launch = Arc::new(launch);
    let (around, _commands, _board) = surroundings(&store);
    let running = supervise_mesh(
        first,
        around,
        RestartPolicy::NEVER,
        Arc::clone(&launch) as _,
    );
    assert_eq!(within("the job", running).await, Ok(Outcome::Finished));
    assert_eq!(launch.overtaken.load(Ordering::SeqCst), 0, "messages lost");
    assert_eq!(*launch.ended.lock().unwrap(), vec![Ok(()); 2]);
}

/// Stops a job that has read `count` numbers of each of three splits: each has been passed on once.
pub(crate) async fn ends_whole(
    count: u64,
    running: tokio::task::JoinHandle<Result<Outcome, Fault>>,
    commands: &mpsc::Sender<Command>,
    (out, dead): (&Shelf, &Shelf),
) {
    commands.send(Command::Stop).await.expect("it listens");
    let outcome = within("the run", running).await.expect("no panic");
    assert_eq!(outcome, Ok(Outcome::Stopped));
    assert_eq!(out.lines(), passed(3, count));
    assert_eq!(dead.lines().len() as u64, 3 * count / 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_lost_ends_the_attempt_and_nothing_is_lost_or_doubled() {
    const COUNT: u64 = 60_000;
    let store = memory("mesh-lost", 2);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let shelves = (out.clone(), dead.clone());
    let make = move || {
        let endless = Numbers {
            endless: true,
            ..numbers(3, COUNT)
        };
        let mut job = direct(endless, &shelves.0, &shelves.1, 1);
        // It takes many epochs to read all.
        job.limits.epoch_bytes = 20_000;
        job
    };
    let job = make();
    let launch = Arc::new(Threads::new(2, move || make().graph));
    let (around, commands, board) = surroundings(&store);
    let running = supervise_mesh(job, around, POLICY, Arc::clone(&launch) as _);
    let running = tokio::spawn(running);
    let clock = SystemClock::new();
    for attempt in 1..=3 {
        let before = board.read().checkpoints;
        until("checkpoints", || board.read().checkpoints >= before + 2).await;
        let cut = clock.elapsed();
        launch.cut();
        until("another attempt", || {
            launch.started.lock().unwrap().len() > attempt
        })
        .await;
        let took = clock.elapsed() - cut;
        assert!(took < Duration::from_secs(5), "{took:?}");
        let restart = board.read().restarted.expect("restarted");
        assert_eq!(restart.cause, "process", "{}", restart.error);
        // Whoever notices first: each has lost the other.
        let lost = ["process 1 is lost: ", "process 1: process 0 is lost: "];
        let told = lost.iter().any(|lost| restart.error.starts_with(lost));
        assert!(told, "{}", restart.error);
    }
    until("all is read", || input(&board) == 3 * COUNT).await;
    ends_whole(COUNT, running, &commands, (&out, &dead)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_is_restored_by_any_number_of_processes() {
    let store = memory("mesh-rescaled", 0);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let shapes = [(2, 1), (1, 1), (3, 1), (1, 3), (2, 2)];
    for (at, (processes, workers)) in shapes.into_iter().enumerate() {
        let count = 1_000 * (at as u64 + 1);
        let last = at + 1 == shapes.len();
        let shelves = (out.clone(), dead.clone());
        let make = move || {
            let source = Numbers {
                endless: !last,
                ..numbers(2, count)
            };
            job(source, &shelves.0, &shelves.1, workers)
        };
        let (job, (around, commands, board)) = (make(), surroundings(&store));
        let running = match processes {
            1 => tokio::spawn(thalweg_engine::supervise(job, around, RestartPolicy::NEVER)),
            _ => {
                let launch = Arc::new(Threads::new(processes, move || make().graph));
                tokio::spawn(supervise_mesh(job, around, RestartPolicy::NEVER, launch))
            }
        };
        if !last {
            until("all is read", || input(&board) == 2 * count).await;
            commands.send(Command::Stop).await.expect("it listens");
        }
        let outcome = within("the run", running).await.expect("no panic");
        let expected = match last {
            true => Outcome::Finished,
            false => Outcome::Stopped,
        };
        assert_eq!(outcome, Ok(expected), "{processes} × {workers}");
    }
    assert_eq!(out.lines(), expected(2, 5_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_that_come_are_read_by_all_processes() {
    let store = memory("mesh-growing", 1);
    let (out, dead, source) = (Shelf::default(), Shelf::default(), Growing::new(0, 300));
    let shelves = (out.clone(), dead.clone(), source.clone());
    let make = move || growing(&shelves.2, &shelves.0, &shelves.1, 1);
    let job = make();
    let launch = Arc::new(Threads::new(2, move || make().graph));
    let (around, commands, board) = surroundings(&store);
    let running = supervise_mesh(job, around, RestartPolicy::NEVER, launch);
    let running = tokio::spawn(running);
    until("the start", || board.read().epoch > 5).await;
    for splits in [1, 2, 5] {
        source.splits.send_replace(splits);
        until("rows of all splits", || out.lines().len() >= splits * 297).await;
    }
    commands.send(Command::Stop).await.expect("it listens");
    let outcome = within("the run", running).await.expect("no panic");
    assert_eq!(outcome, Ok(Outcome::Stopped));
    holds(&out, &dead, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_held_back_in_any_process_stop_the_source_in_all() {
    const BYTES_MAX: usize = 400_000;
    const COUNT: u64 = 100_000;
    let store = memory("mesh-held", 1);
    let (out, dead, dam) = (Shelf::default(), Shelf::default(), Dam::default());
    let shelves = (out.clone(), dead.clone(), dam.clone());
    let make = move || {
        let mut job = job(numbers(2, COUNT), &shelves.0, &shelves.1, 1);
        if let Node::Step(step) = &mut job.graph.nodes[1] {
            step.factory = Arc::new(shelves.2.clone());
        }
        job.limits.bytes_max = BYTES_MAX;
        job.limits.epoch_bytes = 4_000;
        job
    };
    let job = make();
    let launch = Arc::new(Threads::new(2, move || make().graph));
    let (around, _commands, board) = surroundings(&store);
    let running = supervise_mesh(job, around, RestartPolicy::NEVER, launch);
    let running = tokio::spawn(running);
    until("the dam fills", || board.read().queue_bytes >= BYTES_MAX).await;
    let at = board.read().epoch;
    until("epochs go on", || {
        let status = board.read();
        let queue = status.queue_bytes;
        assert!(
            queue < 2 * BYTES_MAX,
            "{queue} bytes of {BYTES_MAX} allowed"
        );
        status.epoch >= at + 40
    })
    .await;
    let read = board.read().nodes[0].rows_in;
    assert!(read < COUNT, "{read} records read");
    dam.open.store(true, Ordering::Relaxed);
    let outcome = within("the job", running).await.expect("no panic");
    assert_eq!(outcome, Ok(Outcome::Finished));
    assert_eq!(out.lines(), passed(2, COUNT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_another_definition_is_refused() {
    let (store, out) = (memory("mesh-other", 1), Shelf::default());
    let job = job(numbers(2, 100), &out, &Shelf::default(), 1);
    let shelf = out.clone();
    let other = move || direct(numbers(2, 100), &shelf, &Shelf::default(), 1).graph;
    let launch = Arc::new(Threads::new(2, other));
    let (around, _commands, _) = surroundings(&store);
    let running = supervise_mesh(job, around, POLICY, Arc::clone(&launch) as _);
    let fault = within("the job", running).await.expect_err("refused");
    let expected = "process 1: the leader has another definition of job \"test\"";
    assert!(fault.message.starts_with(expected), "{fault}");
    assert_eq!(fault.class, Class::User);
    assert_eq!(launch.started.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_ends_every_attempt_in_a_follower_is_named() {
    let (store, out) = (memory("mesh-named", 1), Shelf::default());
    let at = (3_000..).find(|&n| owner(n, 2) == 1).expect("many");
    let shelf = out.clone();
    let make = move || trapped(&shelf, 1, 1, (at, usize::MAX));
    let job = make();
    let launch = Arc::new(Threads::new(2, move || make().graph));
    let (around, _commands, board) = surroundings(&store);
    let running = supervise_mesh(job, around, POLICY, launch);
    let fault = within("the run", running)
        .await
        .expect_err("it cannot end well");
    assert_eq!(fault.class, Class::Bug);
    let told = "process 1: step \"sums\" has panicked: a trap";
    assert!(fault.message.contains(told), "{fault}");
    let place = format!("3 times in a row on source \"numbers\", split \"part 0\", offset {at}");
    assert!(fault.message.ends_with(&place), "{fault}");
    assert_eq!(board.read().restarted.expect("restarted").cause, "panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_stuck_in_a_follower_is_found() {
    let (store, out) = (memory("mesh-stuck", 1), Shelf::default());
    let at = (3_000..).find(|&n| owner(n, 2) == 1).expect("many");
    // Of all attempts together, the trap springs once.
    let (shelf, times) = (out.clone(), Arc::new(AtomicUsize::new(1)));
    let make = move || {
        let mut job = trapped(&shelf, 1, 3, (at, 0));
        if let Node::Step(step) = &mut job.graph.nodes[1] {
            step.factory = Arc::new(Trap {
                at,
                times: Arc::clone(&times),
                spring: || {
                    loop {
                        std::thread::park();
                    }
                },
            });
        }
        job
    };
    let job = make();
    let launch = Arc::new(Threads::new(2, move || make().graph));
    let (around, _commands, board) = surroundings(&store);
    let running = supervise_mesh(job, around, POLICY, launch);
    let outcome = within("the run", running).await;
    assert_eq!(outcome, Ok(Outcome::Finished));
    let restart = board.read().restarted.expect("restarted");
    assert_eq!(restart.cause, "stall", "{}", restart.error);
    let stuck = "worker 1 has been stuck in \"sums\" for ";
    assert!(restart.error.starts_with(stuck), "{}", restart.error);
    assert_eq!(out.lines(), expected(3, 4_000));
}
