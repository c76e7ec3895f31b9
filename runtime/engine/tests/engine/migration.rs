//! A step whose state gets another shape: its checkpoint is taken over, and written anew.

use thalweg_stream::Migration;

use super::*;

/// The mark before the content of sections of the new shape.
const MARK: u8 = b'#';

/// Sums whose sections begin with [`MARK`]; those that do not are refused.
struct Marked;

impl OperatorFactory for Marked {
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
        Some("marked sums by n".to_owned())
    }
    fn migration(&self, old_shape: &str) -> Option<Box<dyn Migration>> {
        (Some(old_shape) == Sums.state_shape().as_deref()).then(|| Box::new(Marking) as _)
    }
    fn build(&self, _: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        Ok(Box::new(MarkedState(SumState::default())))
    }
}

struct Marking;

fn marked(section: &Section) -> Section {
    let bytes = [&[MARK], &section.bytes[..]].concat().into();
    Section {
        bytes,
        ..section.clone()
    }
}

impl Migration for Marking {
    fn outcome(&self) -> &str {
        "is marked"
    }
    fn migrate(&self, sections: &[Section]) -> Result<Vec<Section>, Fault> {
        Ok(sections.iter().map(marked).collect())
    }
}

struct MarkedState(SumState);

impl Operator for MarkedState {
    fn on_batch(&mut self, at: usize, batch: &RecordBatch, out: &mut Output) -> Result<(), Fault> {
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
    fn drain(&mut self, budget: usize, sections: &mut Vec<Section>) -> Result<bool, Fault> {
        let from = sections.len();
        let done = self.0.drain(budget, sections)?;
        for section in &mut sections[from..] {
            *section = marked(section);
        }
        Ok(done)
    }
    fn restore(&mut self, section: &Section) -> Result<(), Fault> {
        let content = (section.bytes.strip_prefix(&[MARK]))
            .ok_or_else(|| Fault::corrupt("a section without its mark"))?;
        self.0.restore(&Section {
            bytes: Bytes::copy_from_slice(content),
            ..section.clone()
        })
    }
}

/// Each run but the last is stopped after a checkpoint. The third one restores what the second, which
/// took the state over, has written: had it written changes alone, some sections would lack the mark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_of_another_shape_is_taken_over_and_written_anew() {
    let store = Store::open("memory://migration", Access::Create).expect("opens");
    let (out, dead) = (Shelf::default(), Shelf::default());
    for (number, (workers, count)) in [(2, 400), (3, 700), (1, 900)].into_iter().enumerate() {
        let last = number == 2;
        let source = Numbers {
            splits: 2,
            count,
            chunk: 10,
            endless: !last,
        };
        let mut job = job(source, &out, &dead, workers);
        if let Node::Step(step) = &mut job.graph.nodes[1]
            && number > 0
        {
            step.factory = Arc::new(Marked);
        }
        let (around, commands, board) = surroundings(&store);
        let running = tokio::spawn(run(job, around));
        if !last {
            within("all is read", async {
                while board
                    .read()
                    .ledgers()
                    .get("numbers")
                    .is_none_or(|numbers| numbers.input < count * 2)
                {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
            .await;
            commands.send(Command::Stop).await.expect("the job listens");
        }
        let ended = within("the job", running).await.expect("no panic");
        let expected = if last {
            Outcome::Finished
        } else {
            Outcome::Stopped
        };
        assert_eq!(ended, Ok(expected), "run {number}");
    }
    assert_eq!(out.lines(), expected(2, 900));
}
