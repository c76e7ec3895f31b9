//! Calls a function for batches: one call where all is well, parts of the batch where it is not.
//!
//! A row that makes the guest trap, loop or return nonsense is found by calling parts, and becomes a
//! failed row; the others go on. The rules, whose figures are those of [`Limits`] by default:
//!
//! 1. A batch has 250 ms of the guest's own CPU time. If the call fails in any way it is repeated in
//!    parts, which together have four times that, 1 s; each has its share, at least 5 ms. So a row
//!    is blamed for a deadline only after its share of four deadlines.
//! 2. A part that fails is halved. A single row that fails is blamed, with the text of its failure.
//! 3. After a batch with a row blamed for a deadline, the next one is called in parts at once, until
//!    a batch passes without: a stream of such rows does not cost a whole deadline each time.
//!    A row with the same arguments as one that was blamed for a deadline is blamed without a call.
//! 4. Once a batch has used up its second, the rows not yet done fail as `plugin-given-up`.
//! 5. After three such batches in a row the circuit is open: rows fail as `plugin-circuit-open`
//!    without a call, except that every eighth batch is tried and closes the circuit if it is not
//!    given up.
//!
//! [`Limits`]: crate::Limits

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, new_empty_array, new_null_array};
use arrow::compute::concat;
use thalweg_stream::expression::FailedRow;
use thalweg_stream::{Evaluated, Fault};

use crate::column::{Lowered, failures, lift, lower};
use crate::cpu;
use crate::instance::Instance;
use crate::known::Known;
use crate::limit::PART_MIN;
use crate::plugin::{Function, Plugin};
use crate::tally::Tally;
use crate::trap::{Failed, Kind, clean};
use crate::wire;

/// How many deadlines the parts of a failed batch have in all, and how many parts there are at first.
const REPEAT_FACTOR: u32 = 4;
const PARTS: usize = 16;
/// Batches given up in a row that open the circuit, and how often one is tried then.
const GIVEN_UP_MAX: u32 = 3;
const PROBE_EVERY: u32 = 8;

/// Calls one function of a plugin, on one worker.
pub struct Caller {
    plugin: Plugin,
    function: Function,
    instance: Option<Instance>,
    tally: Tally,
    /// A row of the last batch was blamed for a deadline.
    careful: bool,
    known: Known,
    /// Batches given up in a row.
    given_up: u32,
    /// Batches since the circuit opened.
    refused: u32,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({})", self.function)
    }
}

/// A batch as far as it is done.
#[derive(Default)]
struct Done {
    pieces: Vec<ArrayRef>,
    failed: Vec<FailedRow>,
}

impl Caller {
    pub(crate) fn new(plugin: &Plugin, function: &Function) -> Self {
        Self {
            plugin: plugin.clone(),
            function: function.clone(),
            instance: None,
            tally: Tally::default(),
            careful: false,
            known: Known::default(),
            given_up: 0,
            refused: 0,
        }
    }

    /// The SHA-256 of the plugin, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.plugin.sha256()
    }

    /// What has been done so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Calls the function for `rows` rows.
    ///
    /// # Errors
    /// A bug: arguments that are not what the function takes. What a guest does is a row's failure.
    pub fn call(&mut self, arguments: &[ArrayRef], rows: usize) -> Result<Evaluated, Fault> {
        if rows == 0 {
            let values = new_empty_array(&self.function.result.arrow());
            return Ok(Evaluated::whole(values));
        }
        let mut done = Done::default();
        if self.given_up >= GIVEN_UP_MAX {
            self.refused += 1;
            if !self.refused.is_multiple_of(PROBE_EVERY) {
                let why = Failed::new(
                    Kind::CircuitOpen,
                    "not called: the batches before were given up",
                );
                self.blame(0..rows, &why, &mut done);
                return self.evaluated(done);
            }
        }
        let start = cpu::thread();
        let deadline = self.plugin.ready.limits().deadline;
        let whole = 0..rows;
        self.known.begin();
        let known = self.recognise(arguments, rows)?;
        let timeouts = self.tally.of(Kind::Deadline);
        let first = match self.careful || !known.is_empty() {
            true => None,
            false => Some(self.attempt(arguments, whole.clone(), deadline)?),
        };
        match first {
            Some(Ok((values, failed))) => self.keep(0, values, failed, &mut done),
            Some(Err(_)) | None => self.parts(arguments, whole, &known, &mut done)?,
        }
        let any = |kind: Kind| done.failed.iter().any(|row| row.code == kind.code());
        self.given_up = match any(Kind::GivenUp) {
            true => self.given_up.saturating_add(1),
            false => 0,
        };
        if self.given_up < GIVEN_UP_MAX {
            self.refused = 0;
        }
        self.careful = any(Kind::Deadline) && self.tally.of(Kind::Deadline) > timeouts;
        self.tally.cpu += cpu::thread().saturating_sub(start);
        self.evaluated(done)
    }

    /// Calls parts of the batch, and parts of those that fail.
    fn parts(
        &mut self,
        arguments: &[ArrayRef],
        whole: Range<usize>,
        known: &BTreeMap<usize, Failed>,
        done: &mut Done,
    ) -> Result<(), Fault> {
        let rows = whole.len();
        let all = self.plugin.ready.limits().deadline * REPEAT_FACTOR;
        // What the first attempt took does not count.
        let end = cpu::thread() + all;
        let part = rows.div_ceil(PARTS);
        // The next part is the last one; so rows are done in order.
        let mut open: Vec<Range<usize>> = (whole.step_by(part))
            .map(|first| first..(first + part).min(rows))
            .rev()
            .collect();
        while let Some(range) = open.pop() {
            if let Some((&row, why)) = known.range(range.clone()).next() {
                if row > range.start {
                    open.extend([row..range.end, range.start..row]);
                } else {
                    self.blame(row..row + 1, why, done);
                    open.push(row + 1..range.end);
                }
                open.retain(|range| !range.is_empty());
                continue;
            }
            let now = cpu::thread();
            if now >= end {
                let why = Failed::new(
                    Kind::GivenUp,
                    "not called: the plugin failed on rows before until its time for the batch was over",
                );
                self.blame(range, &why, done);
                continue;
            }
            let share = all.mul_f64(range.len() as f64 / rows as f64).max(PART_MIN);
            let failed = match self.attempt(arguments, range.clone(), share.min(end - now))? {
                Ok((values, failed)) => {
                    self.keep(range.start, values, failed, done);
                    continue;
                }
                Err(failed) => failed,
            };
            let at_fault = (failed.row.map(|row| range.start.saturating_add(row)))
                .filter(|row| range.contains(row));
            let middle = range.start + range.len() / 2;
            match at_fault {
                Some(row) => {
                    open.push(row + 1..range.end);
                    // The rows before it have to be called without it.
                    if row > range.start {
                        open.push(row..row + 1);
                        open.push(range.start..row);
                    } else {
                        self.blame(row..row + 1, &failed, done);
                    }
                }
                None if range.len() == 1 => {
                    self.learn(arguments, range.start, &failed)?;
                    self.blame(range, &failed, done);
                }
                None => {
                    open.push(middle..range.end);
                    open.push(range.start..middle);
                }
            }
            open.retain(|range| !range.is_empty());
        }
        Ok(())
    }

    /// One call for a range of rows: its values, and the rows of it that failed.
    #[allow(
        clippy::type_complexity,
        reason = "a result within a result, used once"
    )]
    fn attempt(
        &mut self,
        arguments: &[ArrayRef],
        range: Range<usize>,
        deadline: Duration,
    ) -> Result<Result<(ArrayRef, Vec<(usize, String)>), Failed>, Fault> {
        let slices: Vec<ArrayRef> = (arguments.iter())
            .map(|argument| argument.slice(range.start, range.len()))
            .collect();
        let lowered = lowered(&self.function, &slices)?;
        let columns: Vec<wire::Argument<'_>> = lowered.iter().map(|one| one.wire()).collect();
        let outcome = self.outcome(&columns, range.len(), deadline);
        if let Err(failed) = &outcome {
            self.tally.fail(failed.kind, 1);
            // An instance that only said no is as good as before.
            if failed.kind != Kind::Failure {
                self.discard();
            }
        }
        Ok(outcome)
    }

    /// The rows that are known to be beyond the deadline.
    fn recognise(
        &self,
        arguments: &[ArrayRef],
        rows: usize,
    ) -> Result<BTreeMap<usize, Failed>, Fault> {
        let mut found = BTreeMap::new();
        if self.known.is_empty() {
            return Ok(found);
        }
        let lowered = lowered(&self.function, arguments)?;
        let mut key = Vec::new();
        for row in 0..rows {
            key.clear();
            lowered
                .iter()
                .for_each(|column| column.key(row, rows, &mut key));
            if let Some(failed) = self.known.find(&key) {
                found.insert(row, failed.clone());
            }
        }
        Ok(found)
    }

    fn learn(&mut self, arguments: &[ArrayRef], row: usize, why: &Failed) -> Result<(), Fault> {
        if why.kind != Kind::Deadline {
            return Ok(());
        }
        let slices: Vec<ArrayRef> = (arguments.iter())
            .map(|argument| argument.slice(row, 1))
            .collect();
        let mut key = Vec::new();
        for column in lowered(&self.function, &slices)? {
            column.key(0, 1, &mut key);
        }
        self.known.learn(key, why);
        Ok(())
    }

    fn outcome(
        &mut self,
        columns: &[wire::Argument<'_>],
        rows: usize,
        deadline: Duration,
    ) -> Result<(ArrayRef, Vec<(usize, String)>), Failed> {
        let count = u32::try_from(rows).map_err(|_| Failed::output("has too many rows"))?;
        if self.instance.is_none() {
            self.instance = Some(self.plugin.ready.instantiate()?);
        }
        let Some(instance) = &mut self.instance else {
            return Err(Failed::output("has no instance"));
        };
        let returned = instance.call(&self.function.name, columns, count, deadline);
        self.tally.calls += 1;
        self.tally.memory_bytes = instance.memory_bytes();
        let wire::Returned { values, failed } = returned?;
        let failed = failures(failed, rows)?;
        Ok((lift(values, &self.function.result, rows)?, failed))
    }

    fn discard(&mut self) {
        self.instance = None;
        self.tally.memory_bytes = 0;
    }

    fn keep(
        &mut self,
        first: usize,
        values: ArrayRef,
        failed: Vec<(usize, String)>,
        done: &mut Done,
    ) {
        self.tally.fail(Kind::Failure, failed.len() as u64);
        for (row, message) in failed {
            done.failed
                .push(self.failed_row(first + row, Kind::Failure, &clean(&message)));
        }
        done.pieces.push(values);
    }

    fn blame(&mut self, range: Range<usize>, why: &Failed, done: &mut Done) {
        // A call that failed has been counted.
        if matches!(why.kind, Kind::GivenUp | Kind::CircuitOpen) {
            self.tally.fail(why.kind, range.len() as u64);
        }
        done.pieces
            .push(new_null_array(&self.function.result.arrow(), range.len()));
        done.failed
            .extend(range.map(|row| self.failed_row(row, why.kind, &why.message)));
    }

    fn failed_row(&self, row: usize, kind: Kind, message: &str) -> FailedRow {
        FailedRow {
            row,
            code: kind.code(),
            message: format!("{}: {message}", self.function.name),
            plugin: Some(Arc::clone(self.plugin.ready.sha256())),
        }
    }

    fn evaluated(&self, done: Done) -> Result<Evaluated, Fault> {
        let Done { pieces, failed } = done;
        let values = match <[ArrayRef; 1]>::try_from(pieces) {
            Ok([whole]) => whole,
            Err(pieces) => concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>())?,
        };
        Ok(Evaluated { values, failed })
    }
}

/// The columns of a call, as they cross.
fn lowered<'a>(function: &Function, columns: &'a [ArrayRef]) -> Result<Vec<Lowered<'a>>, Fault> {
    let wrong = || Fault::bug(format!("{function} was called with other types"));
    if columns.len() != function.parameters.len() {
        return Err(wrong());
    }
    (columns.iter().zip(&function.parameters))
        .map(|(column, (_, column_type))| lower(column, column_type).ok_or_else(wrong))
        .collect()
}
