//! Compaction of the state of a job that runs: on no worker's thread, and as good as what it replaces.

use std::thread::ThreadId;

use super::*;

/// A step that remembers which threads its operators were made on: those of workers, and those that
/// merge a key group.
#[derive(Clone, Default)]
struct Watched {
    workers: Arc<Mutex<Vec<ThreadId>>>,
    merges: Arc<Mutex<Vec<ThreadId>>>,
}

impl OperatorFactory for Watched {
    fn routes(&self) -> Vec<Route> {
        Sums.routes()
    }
    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        Sums.outputs()
    }
    fn needs_epochs(&self) -> bool {
        Sums.needs_epochs()
    }
    fn state_shape(&self) -> Option<String> {
        Sums.state_shape()
    }
    fn build(&self, context: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        let threads = match context.groups.len() {
            1 => &self.merges,
            _ => &self.workers,
        };
        let thread = std::thread::current().id();
        threads.lock().expect("unpoisoned").push(thread);
        Sums.build(context)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_compacted_on_no_workers_thread_and_is_restored() {
    let store = memory("compacted", 2);
    let (out, dead) = (Shelf::default(), Shelf::default());
    let watched = Watched::default();
    let job = |count, endless, workers| {
        let source = Numbers {
            splits: 2,
            count,
            chunk: 10,
            endless,
        };
        let mut job = job(source, &out, &dead, workers);
        if let Node::Step(step) = &mut job.graph.nodes[1] {
            step.factory = Arc::new(watched.clone());
        }
        job
    };
    // What the second run adds is heavier than half of what the first has left.
    for count in [400, 900] {
        let (around, commands, board) = surroundings(&store);
        let metrics = Arc::clone(&around.metrics);
        let running = tokio::spawn(run(job(count, true, 2), around));
        let has = |result: &str, n: u64| {
            let line = format!("thalweg_compactions_total{{job=\"test\",result=\"{result}\"}} {n}");
            metrics.scrape().expect("encodes").contains(&line)
        };
        within("reading", async {
            let input = || board.read().ledgers().get("numbers").map(|l| l.input);
            while input() < Some(count * 2) || (count == 900 && !has("done", 1)) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        assert!(!has("failed", 1), "{count}");
        // The manifest of the end names what was compacted.
        assert_eq!(stop(&commands, running).await, Ok(Outcome::Stopped));
    }
    let workers = watched.workers.lock().expect("unpoisoned").clone();
    let merges = watched.merges.lock().expect("unpoisoned").clone();
    assert!(workers.len() >= 4 && !merges.is_empty());
    let shared: Vec<_> = merges.iter().filter(|id| workers.contains(id)).collect();
    assert!(shared.is_empty(), "{shared:?} are workers'");

    let (around, _commands, _) = surroundings(&store);
    let outcome = within("the job", run(job(1000, false, 3), around)).await;
    assert_eq!(outcome, Ok(Outcome::Finished));
    assert_eq!(out.lines(), expected(2, 1000));
    assert_eq!(dead.lines().len(), 20);
}
