//! A stop while a sink takes nothing: it ends the run all the same, and the next one loses nothing.

use thalweg_checkpoint::inspect;

use super::delivery::{input, passed, until};
use super::*;

const COUNT: u64 = 300;

/// A job whose sink is closed.
fn closed(out: &Shelf, endless: bool) -> Job {
    out.closed.store(true, Ordering::Relaxed);
    let source = Numbers {
        splits: 2,
        count: COUNT,
        chunk: 10,
        endless,
    };
    let mut job = direct(source, out, &Shelf::default(), 2);
    job.limits.stop_ms = 200;
    job
}

/// Runs a job until all input is in a checkpoint, then stops it.
async fn read_all(job: Job, store: &Store) -> Result<Outcome, Fault> {
    let (around, commands, board) = surroundings(store);
    let running = tokio::spawn(run(job, around));
    until("all is read", || input(&board) == 2 * COUNT).await;
    stop(&commands, running).await
}

/// Opens the sink and runs to the end of the input.
async fn finish(out: &Shelf, store: &Store) {
    let job = closed(out, false);
    out.closed.store(false, Ordering::Relaxed);
    let (around, _commands, _) = surroundings(store);
    let outcome = within("the job", run(job, around)).await;
    assert_eq!(outcome, Ok(Outcome::Finished));
    assert_eq!(out.lines(), passed(2, COUNT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_does_not_become_visible_is_left_to_the_next_run() {
    // Also of input that has ended: not all of it is finished.
    for (name, endless) in [("left", true), ("left-at-the-end", false)] {
        let (store, out) = (memory(name, 2), Shelf::default());
        let stopped = read_all(closed(&out, endless), &store).await;
        assert_eq!(stopped, Ok(Outcome::Stopped), "{name}");
        assert!(out.lines().is_empty(), "{name}: nothing could be published");
        let shown = inspect::show(&store, None).await.expect("a checkpoint");
        let listed = &shown.manifest.sinks["out"].units;
        assert!(!listed.is_empty() && listed.iter().all(|unit| !unit.open));
        finish(&out, &store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_ever_for_a_sink_that_stages_nothing() {
    let (store, out) = (memory("unflushed", 2), Shelf::default());
    let mut job = closed(&out, true);
    if let Node::Sink(sink) = &mut job.graph.nodes[1] {
        sink.delivery = Delivery::AtLeastOnce;
    }
    // No checkpoint comes about, so nobody learns how much is read.
    let (around, commands, board) = surroundings(&store);
    let running = tokio::spawn(run(job, around));
    until("epochs go by", || board.read().epoch > 20).await;
    let stopped = stop(&commands, running).await;
    let fault = stopped.expect_err("its last checkpoint did not come about");
    assert!(
        fault.message.contains("sink \"out\" takes no output"),
        "{fault}"
    );
    finish(&out, &store).await;
}
