//! The trait of every step, and the discipline it may rely on.
//!
//! The engine drives an [`Operator`] by epochs: batches of the lowest open epoch are applied at
//! once, batches of later epochs wait; when every input has passed the epoch it calls
//! [`Operator::on_epoch`], then [`Operator::freeze`] if the epoch is a checkpoint, and goes on.
//! So an operator's output is a function of what the epochs contain, never of when batches came.
//! Within an epoch batches come in any order: order-sensitive work sorts by (event time,
//! [`Origin`](crate::Origin)) at its end.

use std::ops::Range;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::clock::Clock;
use crate::dead_letter::DeadLetter;
use crate::epoch::{Epoch, EpochKind};
use crate::fault::Fault;
use crate::figure::Figures;
use crate::ledger::Ledger;
use crate::schema::StreamSchema;
use crate::state::Section;
use crate::watermark::Progress;

/// How the rows of an input reach the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// They stay where they are.
    Local,
    /// Each goes to the worker that owns the key group of these columns (positions).
    Key(Vec<usize>),
    /// All go to one worker.
    Single,
}

/// What an operator is told when it is built.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// The name of the step.
    pub step: Arc<str>,
    /// The worker's number, from 0.
    pub worker: usize,
    /// How many workers the job has.
    pub workers: usize,
    /// The key groups this worker owns.
    pub groups: Range<usize>,
    /// The job's clock.
    pub clock: Arc<dyn Clock>,
}

/// What an operator is told at the end of an epoch.
#[derive(Clone, Copy, Debug)]
pub struct EpochClose<'a> {
    /// The epoch that ends.
    pub epoch: Epoch,
    /// What it is.
    pub kind: EpochKind,
    /// How far each input has come.
    pub inputs: &'a [Progress],
}

/// Rows and bytes an operator holds back: what flow control and the ledger count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Input rows that are in state and not yet accounted for otherwise.
    pub rows: u64,
    /// Bytes of rows kept for later (not of aggregates).
    pub bytes: usize,
}

/// A step at work on one worker.
pub trait Operator: Send {
    /// Takes a batch of the current epoch from `input`.
    ///
    /// # Errors
    /// Only what is no row's fault.
    fn on_batch(
        &mut self,
        input: usize,
        batch: &RecordBatch,
        out: &mut Output,
    ) -> Result<(), Fault>;

    /// The epoch is complete: fire what is due.
    ///
    /// # Errors
    /// Only what is no row's fault.
    fn on_epoch(&mut self, _close: &EpochClose<'_>, _out: &mut Output) -> Result<(), Fault> {
        Ok(())
    }

    /// What is held back now. The engine asks after every activation, so the answer must be at
    /// hand rather than found by looking through the state: it is counted along as rows come in.
    /// What leaves is counted from the state itself, so that the ledger shows a row that the state
    /// has lost.
    fn held(&self) -> Held {
        Held::default()
    }

    /// Tells what metrics show of the operator besides what the engine knows itself. Asked about
    /// once a second, between batches: figures are to be at hand.
    fn figures(&self, _figures: &mut dyn Figures) {}

    /// Marks the state as it is now as the content of a checkpoint, in O(1) or nearly so.
    /// `full` asks for all of it rather than the changes since the last one. The stream goes on;
    /// the engine fetches the content with [`drain`](Self::drain) before the next freeze.
    fn freeze(&mut self, _full: bool) {}

    /// Appends about `budget_bytes` of the frozen content to `sections`; true when all is out. A
    /// group may come in several sections, in the order in which they apply; if all was asked for,
    /// the first of them is a base and the others go on from it.
    ///
    /// # Errors
    /// A bug.
    fn drain(&mut self, _budget_bytes: usize, _sections: &mut Vec<Section>) -> Result<bool, Fault> {
        Ok(true)
    }

    /// The checkpoint of the last freeze did not come about: its changes belong to the next one.
    fn freeze_failed(&mut self) {}

    /// Takes back a section of a checkpoint. Sections of a group come in the order in which they
    /// were written; only groups that this worker owns come.
    ///
    /// # Errors
    /// Corrupt, if the section is not one of ours.
    fn restore(&mut self, _section: &Section) -> Result<(), Fault> {
        Ok(())
    }
}

/// What the planner knows of a step: its shape, and how to build it on a worker.
pub trait OperatorFactory: Send + Sync {
    /// How the rows of each input reach the workers.
    fn routes(&self) -> Vec<Route>;

    /// The schemas of the outputs; the first is the step itself, the others `step.NAME`.
    fn outputs(&self) -> Vec<(&'static str, StreamSchema)>;

    /// How far the output has come when the inputs have come so far. Pure: the planner composes
    /// these along the graph, so that rows held back are never late for the next step.
    fn output_progress(&self, inputs: &[Progress]) -> Progress {
        Progress::union(inputs)
    }

    /// Whether the operator does something when epochs end. If not, what it puts out is only for rows,
    /// and an epoch is over behind it as soon as it is before it.
    fn needs_epochs(&self) -> bool;

    /// A description of the shape of its state, compared with that of the checkpoint before a
    /// restore; nothing if it has none.
    fn state_shape(&self) -> Option<String> {
        None
    }

    /// How state of another shape is taken over; nothing if it cannot be.
    fn migration(&self, _old_shape: &str) -> Option<Box<dyn Migration>> {
        None
    }

    /// Builds the operator for one worker.
    ///
    /// # Errors
    /// Whatever prevents it from working.
    fn build(&self, context: &BuildContext) -> Result<Box<dyn Operator>, Fault>;
}

/// Takes over the state that a step had before its definition changed.
pub trait Migration: Send + Sync {
    /// What becomes of the state, for whoever changes the definition.
    fn outcome(&self) -> &str;

    /// What `sections`, all there are of one key group, say in the step's shape now, as sections
    /// that need none before them.
    ///
    /// # Errors
    /// Corrupt, if the sections are not of the old shape.
    fn migrate(&self, sections: &[Section]) -> Result<Vec<Section>, Fault>;
}

/// Collects what an operator puts out during one call.
#[derive(Debug, Default)]
pub struct Output {
    /// Batches by output port, in order of emission.
    pub batches: Vec<(usize, RecordBatch)>,
    /// Records that could not be processed.
    pub dead: Vec<DeadLetter>,
    /// What became of input rows; the engine fills in `input` and `held` itself.
    pub ledger: Ledger,
}

impl Output {
    /// Puts a batch out at the main port. Batches of no rows are dropped.
    pub fn emit(&mut self, batch: RecordBatch) {
        self.emit_at(0, batch);
    }

    /// Puts a batch out at `port`.
    pub fn emit_at(&mut self, port: usize, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.batches.push((port, batch));
        }
    }

    /// Gives up on a record. The caller counts it as dead or late.
    pub fn dead(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
    }
}
