//! Output on its way out: what is staged when, kept how long, and under whose name it is published;
//! and checkpoints that do not come about.

use thalweg_checkpoint::inspect;
use thalweg_checkpoint::store::{Effect, EffectKind, Moment, Verdict};

use super::staging::{GatedStage, Staging};
use super::*;

fn numbers(count: u64, endless: bool) -> Numbers {
    Numbers {
        splits: 2,
        count,
        chunk: 10,
        endless,
    }
}

/// The lines of a job that passes on the numbers of so many splits.
pub(crate) fn passed(splits: usize, count: u64) -> Vec<String> {
    let numbers = (0..count).filter(|n| n % 100 != 99);
    let mut lines: Vec<String> = numbers
        .flat_map(|n| std::iter::repeat_n(format!("{n} "), splits))
        .collect();
    lines.sort();
    lines
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    within(what, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Records read, as of the last checkpoint.
pub(crate) fn input(board: &StatusBoard) -> u64 {
    let status = board.read();
    status
        .ledgers()
        .get("numbers")
        .map_or(0, |ledger| ledger.input)
}

/// Rows that the sink has made visible since the lineage began.
fn published(board: &StatusBoard) -> Option<u64> {
    let status = board.read();
    let mut nodes = status.nodes.iter();
    nodes.find(|node| node.name == "out")?.published_rows
}

async fn finish(job: Job, store: &Store) -> StatusBoard {
    let (around, _commands, board) = surroundings(store);
    let outcome = within("the job", run(job, around)).await;
    assert_eq!(outcome, Ok(Outcome::Finished));
    board
}

/// Runs a job that waits at the end of its input until it has taken another `checkpoints`, then
/// ends it as a crash does: nothing is said to the store.
async fn crash(job: Job, store: &Store, checkpoints: u64) -> StatusBoard {
    let (around, _commands, board) = surroundings(store);
    let running = tokio::spawn(run(job, around));
    until("checkpoints", || {
        assert!(!running.is_finished(), "{:?}", board.read().last_error);
        board.read().checkpoints >= checkpoints
    })
    .await;
    running.abort();
    assert!(running.await.is_err(), "it was at work");
    board
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_handed_out_long_before_its_checkpoint_outlives_the_cleaning_of_the_one_before() {
    let store = memory("early", 2);
    let out = Shelf {
        at_once: true,
        ..Shelf::default()
    };
    let mut job = direct(numbers(20_000, false), &out, &Shelf::default(), 2);
    job.checkpoint_every = Duration::from_millis(5);
    // Many epochs, and a checkpoint in most of them.
    job.limits.epoch_ms = 2;
    job.limits.epoch_bytes = 2_000;
    let board = finish(job, &store).await;
    assert!(board.read().checkpoints > 5);
    assert_eq!(out.lines(), passed(2, 20_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crashed_attempts_left_in_a_sinks_own_stage_is_swept() {
    let store = memory("sweep", 1);
    let (out, dead, stage) = (Shelf::default(), Shelf::default(), GatedStage::opened());
    let staged = |endless| {
        let mut job = direct(numbers(100, endless), &out, &dead, 1);
        job.take_over = true;
        if let Node::Sink(sink) = &mut job.graph.nodes[1] {
            sink.sink = Arc::new(Staging(out.clone(), Arc::new(stage.clone())));
        }
        job
    };
    let board = crash(staged(true), &store, 2).await;
    let lineage = board.read().lineage;
    let orphan = format!("out/{lineage}/0000099999-0-0-g1");
    let successors = format!("out/{lineage}/0000000001-0-0-g9");
    let strangers = ["out/abcdefabcdef/0000000001-0-0-g1", "other/x"];
    for name in [orphan.as_str(), &successors].into_iter().chain(strangers) {
        let mut objects = stage.objects.lock().unwrap();
        objects.insert(name.to_owned(), Bytes::new());
    }
    finish(staged(false), &store).await;
    let names = stage.names();
    assert!(!names.contains(&orphan), "{names:?}");
    assert!(names.contains(&successors), "of a later generation");
    assert!(strangers.iter().all(|name| names.contains(&(*name).into())));
    assert_eq!(out.lines(), passed(2, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_from_an_older_checkpoint_publishes_its_output_under_the_old_lineage() {
    let store = memory("lineage", 2);
    let (out, dead) = (Shelf::default(), Shelf::default());
    out.closed.store(true, Ordering::Relaxed);
    let before = |count| {
        let mut job = direct(numbers(count, true), &out, &dead, 2);
        job.take_over = true;
        job.keep = 100;
        job
    };
    // Both leave output unpublished; the second has read more.
    let (around, _commands, board) = surroundings(&store);
    let running = tokio::spawn(run(before(300), around));
    until("all is read", || input(&board) == 600).await;
    let old = board.read().lineage;
    let epoch = board.read().checkpoint.expect("it has taken one").epoch;
    running.abort();
    assert!(running.await.is_err(), "it was at work");
    crash(before(500), &store, 3).await;
    assert!(out.lines().is_empty(), "nothing can be published");

    out.closed.store(false, Ordering::Relaxed);
    let mut from = direct(numbers(900, false), &out, &dead, 1);
    from.from = RestoreFrom::Epoch(Epoch(epoch));
    from.take_over = true;
    let board = finish(from, &store).await;
    let new = board.read().lineage;
    assert_ne!(new, old);
    let units = out.units.lock().unwrap().clone();
    for ((lineage, unit), lines) in &units {
        let expected = if unit.0 <= epoch { &old } else { &new };
        assert_eq!(lineage, expected, "unit {unit} of {} lines", lines.len());
    }
    assert!(units.keys().any(|(lineage, _)| *lineage == old));
    assert_eq!(out.lines(), passed(2, 900));
    assert_eq!(published(&board), Some(out.lines().len() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_checkpoint_still_has_the_output_that_was_published_since() {
    let store = memory("published", 1);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let job = |count, endless| {
        let mut job = direct(numbers(count, endless), &out, &dead, 1);
        job.take_over = true;
        job.keep = 1000;
        job
    };
    crash(job(400, true), &store, 4).await;
    let kept = inspect::list(&store).await.expect("readable").checkpoints;
    let mut tried = 0;
    for checkpoint in kept {
        let shown = inspect::show(&store, Some(checkpoint.epoch)).await;
        let manifest = shown.expect("readable").manifest;
        if manifest.sinks["out"].units.is_empty() {
            continue;
        }
        let mut from = job(400, false);
        from.from = RestoreFrom::Epoch(checkpoint.epoch);
        let board = finish(from, &store).await;
        assert_eq!(published(&board), Some(passed(2, 400).len() as u64));
        tried += 1;
    }
    assert!(tried > 0, "a checkpoint lists what it has staged");
}

/// Fails so many writes of objects whose names start with a prefix, after so many that succeed.
#[derive(Debug)]
struct Failing {
    prefix: &'static str,
    before: AtomicUsize,
    left: AtomicUsize,
}

impl thalweg_checkpoint::Faults for Failing {
    fn at(&self, effect: &Effect, moment: Moment) -> Verdict {
        let hit = moment == Moment::Before
            && effect.kind != EffectKind::Delete
            && effect.name.as_str().starts_with(self.prefix);
        let one_less = |left: usize| left.checked_sub(1);
        let spend = |count: &AtomicUsize| {
            count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
        };
        match hit && !spend(&self.before) && spend(&self.left) {
            true => Verdict::Fail,
            false => Verdict::Proceed,
        }
    }
}

/// The cuts of all kept checkpoints, in order: epochs, and where each split stood last.
async fn cuts(store: &Store) -> (Vec<u64>, BTreeMap<SplitId, u64>) {
    let (mut epochs, mut offsets) = (Vec::new(), BTreeMap::new());
    let mut kept = inspect::list(store).await.expect("readable").checkpoints;
    kept.sort_by_key(|checkpoint| checkpoint.epoch);
    for checkpoint in kept {
        let shown = inspect::show(store, Some(checkpoint.epoch)).await;
        for cut in shown.expect("readable").manifest.cuts {
            epochs.push(cut.epoch.0);
            offsets.extend(cut.offsets);
        }
    }
    (epochs, offsets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_cannot_be_written_fails_and_the_next_one_takes_it_over() {
    // State, staged output, and the manifest, which the log tries several times by itself.
    for (prefix, failures) in [("state/", 5), ("outbox/", 5), ("manifest/", 7)] {
        let sound = Store::open(&format!("memory://failed-{prefix}"), Access::Create);
        let sound = sound.expect("opens");
        let store = sound.with_faults(Arc::new(Failing {
            prefix,
            // Some checkpoints are taken: what follows are changes.
            before: AtomicUsize::new(6),
            left: AtomicUsize::new(failures),
        }));
        let (out, dead) = (Shelf::default(), Shelf::default());
        let job = |endless| {
            let mut job = job(numbers(3000, endless), &out, &dead, 2);
            job.limits.upload_attempts = 1;
            job.limits.epoch_bytes = 500;
            // Enough of them, however fast the input is read.
            job.checkpoint_every = Duration::from_millis(1);
            job.keep = 10_000;
            job
        };
        let (around, commands, board) = surroundings(&store);
        let metrics = Arc::clone(&around.metrics);
        let running = tokio::spawn(run(job(true), around));
        until("all is read and committed", || {
            assert!(!running.is_finished(), "{:?}", board.read().last_error);
            input(&board) == 6000
        })
        .await;
        let stopped = stop(&commands, running).await;
        assert_eq!(stopped, Ok(Outcome::Stopped), "{prefix}");
        let status = board.read();
        assert!(status.checkpoints_failed > 0, "{prefix}: none has failed");
        let said = status.last_error.expect("it is told");
        assert!(said.contains("injected failure"), "{prefix}: {said}");
        let line = format!(
            "thalweg_checkpoints_total{{job=\"test\",result=\"failed\"}} {}",
            status.checkpoints_failed
        );
        let text = metrics.scrape().expect("encodes");
        assert!(text.contains(&line), "{line} is not in {text}");

        // What was frozen for the failed ones is in those that followed.
        let board = finish(job(false), &sound).await;
        assert_eq!(out.lines(), expected(2, 3000), "{prefix}");
        assert_eq!(dead.lines().len(), 60, "{prefix}");
        assert_eq!(board.read().ledgers()["sums"].input, 5940);
        assert_eq!(status.queue_bytes, 0, "what was sealed is accounted for");
        let (epochs, offsets) = cuts(&sound).await;
        assert!(epochs.is_sorted_by(|a, b| a < b), "{prefix}: {epochs:?}");
        assert_eq!(offsets.into_values().collect::<Vec<_>>(), [3000, 3000]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_lists_the_output_of_earlier_epochs_until_it_is_confirmed() {
    let store = memory("unconfirmed", 2);
    let (out, dead) = (Shelf::default(), Shelf::default());
    out.closed.store(true, Ordering::Relaxed);
    let mut job = direct(numbers(20_000, true), &out, &dead, 2);
    job.limits.epoch_bytes = 500;
    let (around, commands, board) = surroundings(&store);
    let running = tokio::spawn(run(job, around));
    let units = async || {
        let shown = inspect::show(&store, None).await.ok()?;
        let sink = shown.manifest.sinks.get("out")?.clone();
        Some((shown.manifest, sink))
    };
    let found = within("several are unconfirmed", async {
        loop {
            match units().await {
                Some((manifest, sink)) if sink.units.len() > 2 => break (manifest, sink),
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    })
    .await;
    let (manifest, sink) = found;
    assert_eq!(sink.published, None);
    let epochs: Vec<Epoch> = sink.units.iter().map(|unit| unit.unit.epoch).collect();
    assert!(epochs.is_sorted_by(|a, b| a < b) && epochs[0] < manifest.epoch);
    for unit in &sink.units {
        assert_eq!(unit.unit.lineage, manifest.lineage);
        assert!(!unit.unit.objects.is_empty() && !unit.open);
    }
    // The cap on what is unpublished holds: no further checkpoint is begun.
    within("the cap is reached", async {
        loop {
            let told = board.read().checkpoint.map(|checkpoint| checkpoint.epoch);
            match units().await {
                Some((manifest, sink))
                    if sink.units.len() == 8 && told == Some(manifest.epoch.0) =>
                {
                    break;
                }
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    })
    .await;
    let (before, epoch) = (board.read().checkpoints, board.read().epoch);
    until("epochs go on", || board.read().epoch > epoch + 20).await;
    assert_eq!(board.read().checkpoints, before, "the cap is 8");
    out.closed.store(false, Ordering::Relaxed);
    until("all is confirmed", || input(&board) == 40_000).await;
    let stopped = stop(&commands, running).await;
    assert_eq!(stopped, Ok(Outcome::Stopped));
    let (_, sink) = units().await.expect("a manifest");
    assert!(sink.units.is_empty() && sink.published.is_some());
    assert_eq!(out.lines(), passed(2, 20_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_cannot_be_staged_is_staged_with_a_later_checkpoint_once() {
    let store = memory("unstaged", 2);
    let (out, dead, stage) = (Shelf::default(), Shelf::default(), GatedStage::opened());
    stage.failures.store(7, Ordering::Relaxed);
    let mut job = direct(numbers(2000, false), &out, &dead, 2);
    job.limits.upload_attempts = 1;
    job.limits.epoch_bytes = 500;
    if let Node::Sink(sink) = &mut job.graph.nodes[1] {
        sink.sink = Arc::new(Staging(out.clone(), Arc::new(stage.clone())));
    }
    let board = finish(job, &store).await;
    assert!(board.read().checkpoints_failed > 0);
    assert_eq!(out.lines(), passed(2, 2000));
    assert_eq!(board.read().queue_bytes, 0, "all of it is accounted for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_can_never_checkpoint_goes_on_and_its_successor_finishes() {
    let sound = memory("never", 1);
    let store = sound.with_faults(Arc::new(Failing {
        prefix: "state/",
        before: AtomicUsize::new(0),
        left: AtomicUsize::new(usize::MAX),
    }));
    let (out, dead) = (Shelf::default(), Shelf::default());
    let build = || {
        let mut job = job(numbers(100, false), &out, &dead, 1);
        job.limits.upload_attempts = 1;
        job.take_over = true;
        job
    };
    let (around, _commands, board) = surroundings(&store);
    let running = tokio::spawn(run(build(), around));
    until("failures", || board.read().checkpoints_failed > 2).await;
    assert!(!running.is_finished(), "the job goes on");
    assert!(out.lines().is_empty());
    running.abort();
    drop(running.await);
    finish(build(), &sound).await;
    assert_eq!(out.lines(), expected(2, 100));
}
