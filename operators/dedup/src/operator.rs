//! Deduplication as an operator.
//!
//! Rows are looked up as they come and kept until their epoch ends, as only then it is known which
//! of several is the first. Those whose key came before, in this epoch or an earlier one, are
//! *suspects*; only the rows of their keys have to be put in order at the end.
//!
//! Where equal keys have equal times, a row is looked up by adding its key to its own slice. Else
//! slices change only when the epoch ends: a row that an earlier epoch's row is near to is a
//! duplicate at once, and the others are told from each other by a set of the epoch's own keys.

use std::sync::Arc;

use arrow::array::RecordBatch;
use thalweg_state::{FingerprintSet, Part, Print, Register, Sections};
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::key::key_group;
use thalweg_stream::operator::Held;
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{
    BuildContext, DeadClass, DeadLetter, EpochClose, Fault, Figures, KeyEncoder, Operator,
    OperatorFactory, Origin, Output, Progress, Route, Section, StreamKind, StreamSchema,
};

use crate::epoch::{EpochRows, RowAt};
use crate::slice::{BySlice, Slices};
use crate::{DedupSpec, SpecError};

/// Rows that are looked up together.
const BLOCK_ROWS: usize = 256;
/// The pane of the epoch's own keys.
const EPOCH: i64 = 0;

/// Builds deduplications; checked against the input's schema when made.
#[derive(Debug)]
pub struct DedupFactory {
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    schema: StreamSchema,
    spec: DedupSpec,
    slices: Slices,
    same_time: bool,
}

impl DedupFactory {
    /// A deduplication of rows of `input`.
    ///
    /// # Errors
    /// Whatever of `spec` does not fit the input.
    pub fn new(input: StreamSchema, spec: DedupSpec) -> Result<Self, SpecError> {
        if !input.timed {
            return Err(SpecError::NoTime);
        }
        if input.kind != StreamKind::Append {
            return Err(SpecError::Changes);
        }
        if spec.within_ms <= 0 {
            return Err(SpecError::Within);
        }
        if spec.by.is_empty() {
            return Err(SpecError::NoKey);
        }
        // The event time stands behind the user's columns.
        if let Some(&at) = spec.by.iter().find(|&&at| at > input.columns.len()) {
            return Err(SpecError::NoColumn(at));
        }
        let by_time = (input.event_time_at()).is_some_and(|at| spec.by.contains(&at));
        let same_time = spec.same_time || by_time;
        Ok(Self {
            plan: Arc::new(Plan {
                slices: Slices::new(spec.within_ms, same_time),
                schema: input,
                spec,
                same_time,
            }),
        })
    }
}

impl OperatorFactory for DedupFactory {
    fn routes(&self) -> Vec<Route> {
        vec![Route::Key(self.plan.spec.by.clone())]
    }

    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        vec![("", self.plan.schema.clone())]
    }

    fn needs_epochs(&self) -> bool {
        true
    }

    fn state_shape(&self) -> Option<String> {
        let plan = &self.plan;
        let key: Vec<String> = (plan.spec.by.iter())
            .map(|&at| match plan.schema.columns.get(at) {
                Some(column) => format!("{}:{}", column.name, column.column_type),
                None => "event_time".to_owned(),
            })
            .collect();
        Some(format!(
            "dedup 1: by [{}] within {} ms same time {}",
            key.join(", "),
            plan.spec.within_ms,
            plan.same_time
        ))
    }

    fn build(&self, context: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        Ok(Box::new(Dedup {
            plan: Arc::clone(&self.plan),
            passed: FingerprintSet::new(!self.plan.same_time),
            watermark: Register::new(START_OF_TIME),
            sections: Sections::new(context.groups.clone()),
            encoder: KeyEncoder::new(self.plan.spec.by.clone()),
            seen: FingerprintSet::new(false),
            by_slice: BySlice::default(),
            digests: Vec::new(),
            epoch: EpochRows::default(),
        }))
    }
}

#[derive(Debug)]
struct Dedup {
    plan: Arc<Plan>,
    /// What was passed on, by slice.
    passed: FingerprintSet,
    /// The watermark of the last epoch: decides what is late in this one.
    watermark: Register,
    sections: Sections,
    encoder: KeyEncoder,
    /// The keys of the epoch, where they are not added to their slices at once.
    seen: FingerprintSet,
    by_slice: BySlice,
    digests: Vec<(u64, u128)>,
    epoch: EpochRows,
}

impl Dedup {
    /// Looks up the rows of the batch that came last, given by slice.
    fn look_up(&mut self, prints: &[Print]) {
        let batch = self.epoch.last_batch();
        let mut block = Vec::with_capacity(BLOCK_ROWS);
        let mut added = Vec::with_capacity(BLOCK_ROWS);
        for (slice, rows) in self.by_slice.parts() {
            for rows in rows.chunks(BLOCK_ROWS) {
                block.clear();
                block.extend(rows.iter().map(|&row| prints[row as usize]));
                added.clear();
                if self.plan.same_time {
                    self.passed.insert_all(slice, &block, &mut added);
                    for (&row, &new) in rows.iter().zip(&added) {
                        self.epoch.decide(RowAt { batch, row }, new);
                    }
                    continue;
                }
                let known = known(&self.passed, self.plan.slices, &block);
                let mut left = known.iter();
                block.retain(|_| left.next() != Some(&true));
                self.seen.insert_all(EPOCH, &block, &mut added);
                let unknown = rows.iter().zip(&known).filter(|(_, known)| !**known);
                for ((&row, _), &new) in unknown.zip(&added) {
                    self.epoch.decide(RowAt { batch, row }, new);
                }
            }
        }
    }

    /// Adds the rows that are passed on to their slices.
    fn remember(&mut self) {
        let mut block = Vec::with_capacity(BLOCK_ROWS);
        let mut added = Vec::with_capacity(BLOCK_ROWS);
        for batch in self.epoch.batches() {
            let times = batch.prints.iter().map(|print| print.time);
            let passing = |row: usize| batch.passes[row];
            self.by_slice.assign(self.plan.slices, times, passing);
            for (slice, rows) in self.by_slice.parts() {
                for rows in rows.chunks(BLOCK_ROWS) {
                    block.clear();
                    block.extend(rows.iter().map(|&row| batch.prints[row as usize]));
                    added.clear();
                    self.passed.insert_all(slice, &block, &mut added);
                }
            }
        }
        self.seen.drop_pane(EPOCH);
    }

    fn late(&self, batch: &RecordBatch, row: usize, time: i64, origin: u64) -> DeadLetter {
        DeadLetter {
            class: DeadClass::Late,
            code: "too-old",
            message: format!(
                "the row is more than {} ms behind watermark {}",
                self.plan.spec.within_ms,
                self.watermark.get()
            ),
            origin: Origin(origin),
            event_time: Some(time),
            remains: Remains::Row {
                batch: batch.clone(),
                row,
            },
            plugin: None,
        }
    }
}

impl Operator for Dedup {
    fn on_batch(
        &mut self,
        _input: usize,
        batch: &RecordBatch,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let times = plan.schema.event_times(batch)?;
        let earliest = plan.slices.earliest(self.watermark.get());
        self.encoder.digest(batch, &mut self.digests)?;
        let prints: Vec<Print> = (self.digests.iter().zip(times))
            .map(|(&(hash, print), &time)| Print::new(key_group(hash), print, time))
            .collect();
        let on_time = |row: usize| times[row] >= earliest;
        (self.by_slice).assign(plan.slices, times.iter().copied(), on_time);
        let rows = self.by_slice.rows();
        if rows < times.len() {
            out.ledger.late += (times.len() - rows) as u64;
            let origins = plan.schema.origins(batch)?;
            for row in (0..times.len()).filter(|&row| !on_time(row)) {
                out.dead(self.late(batch, row, times[row], origins[row]));
            }
        }
        self.epoch.open(batch, rows);
        self.look_up(&prints);
        self.epoch.close(prints);
        Ok(())
    }

    fn on_epoch(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let slice = |time| plan.same_time.then(|| plan.slices.of(time));
        self.epoch.settle(&plan.schema, plan.slices, slice)?;
        if !self.plan.same_time {
            self.remember();
        }
        self.epoch.put(out)?;
        self.watermark
            .raise(Progress::union(close.inputs).watermark);
        let (slices, watermark) = (self.plan.slices, self.watermark.get());
        let expired: Vec<i64> = (self.passed.pane_ids())
            .take_while(|&slice| slices.expired(slice, watermark))
            .collect();
        for slice in expired {
            self.passed.drop_pane(slice);
        }
        Ok(())
    }

    fn held(&self) -> Held {
        Held {
            rows: self.epoch.rows(),
            bytes: self.epoch.bytes(),
        }
    }

    fn figures(&self, figures: &mut dyn Figures) {
        figures.level("state_keys", &[], self.passed.len() as f64);
        figures.level("state_bytes", &[], self.passed.memory_bytes() as f64);
    }

    fn freeze(&mut self, full: bool) {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.watermark, &mut self.passed];
        self.sections.freeze(full, parts);
    }

    fn drain(&mut self, budget_bytes: usize, sections: &mut Vec<Section>) -> Result<bool, Fault> {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.watermark, &mut self.passed];
        Ok(self.sections.drain(budget_bytes, sections, parts))
    }

    fn freeze_failed(&mut self) {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.watermark, &mut self.passed];
        self.sections.thaw(parts);
    }

    fn restore(&mut self, section: &Section) -> Result<(), Fault> {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.watermark, &mut self.passed];
        Sections::restore(section, parts)
    }
}

/// Which of `prints`, of one slice, a row that an earlier epoch passed on is near to.
fn known(passed: &FingerprintSet, slices: Slices, prints: &[Print]) -> Vec<bool> {
    let mut known = vec![false; prints.len()];
    let times = prints.iter().map(|print| print.time);
    if let (Some(oldest), Some(newest)) = (times.clone().min(), times.max()) {
        let (from, to) = (slices.in_reach(oldest).0, slices.in_reach(newest).1);
        for pane in passed.panes_between(from, to) {
            pane.find_all(prints, |at, time| {
                known[at] |= slices.near(time, prints[at].time);
            });
        }
    }
    known
}
