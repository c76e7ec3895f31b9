//! Deduplication as an operator.
//!
//! Rows are looked up many at a time and kept until their epoch ends, as only then it is known which
//! of several is the first. Those whose key came before, in this epoch or an earlier one, are
//! *suspects*; only the rows of their keys have to be put in order at the end.
//!
//! Where equal keys have equal times, a row is looked up by adding its key to its own slice. Else
//! slices change only when the epoch ends: a row that an earlier epoch's row is near to is a
//! duplicate at once, and the others are told from each other at the end, where a sieve of the
//! epoch's own keys says which of them have to be.

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

use crate::arrange::Arranged;
use crate::epoch::{EpochRows, RowAt};
use crate::sieve::Sieve;
use crate::slice::Slices;
use crate::{DedupSpec, SpecError};

/// Rows that are looked up together.
const BLOCK_ROWS: usize = 512;
/// Rows that are arranged before they are looked up: for each part of the state there are some then.
const ARRANGED_ROWS: u64 = 1 << 16;

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
            seen: Sieve::new(0),
            looked_up: 0,
            waiting: 0,
            arranged: Arranged::new(!self.plan.same_time),
            known: Vec::new(),
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
    seen: Sieve,
    epoch: EpochRows,
    /// Batches of the epoch that have been looked up, and rows of it that have not.
    looked_up: usize,
    waiting: u64,
    arranged: Arranged,
    /// Rows of a block that a row of an earlier epoch is near to.
    known: Vec<bool>,
}

impl Dedup {
    /// Looks up the rows that have not been.
    fn look_up(&mut self) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let mut arranged = std::mem::take(&mut self.arranged);
        let batches = self.epoch.batches().get(self.looked_up..);
        arranged.fill(
            batches.unwrap_or_default(),
            self.looked_up as u32,
            (&plan.schema, plan.slices),
        )?;
        if plan.same_time {
            // Of rows that are only added, the more the better.
            for (slice, block) in arranged.blocks(usize::MAX) {
                let rows = &arranged.rows[block.clone()];
                (self.passed).insert_all(slice, &arranged.prints[block], &[], |at| {
                    self.epoch.suspect(rows[at]);
                });
            }
        } else {
            self.reserve(arranged.rows.len());
            for (_, block) in arranged.blocks(BLOCK_ROWS) {
                let (rows, prints) = (
                    &arranged.rows[block.clone()],
                    &arranged.prints[block.clone()],
                );
                self.look_up_block(rows, prints, &arranged.times[block]);
            }
        }
        self.arranged = arranged;
        (self.looked_up, self.waiting) = (self.epoch.batches().len(), 0);
        Ok(())
    }

    fn look_up_block(&mut self, rows: &[RowAt], prints: &[Print], times: &[i64]) {
        self.find(prints, times);
        for ((&at, &print), &known) in rows.iter().zip(prints).zip(&self.known) {
            if known {
                self.epoch.refuse(at);
            } else if self.seen.add(print) {
                self.epoch.suspect(at);
            }
        }
    }

    /// Finds which rows a row that an earlier epoch passed on is near to.
    fn find(&mut self, prints: &[Print], times: &[i64]) {
        self.known.clear();
        self.known.resize(prints.len(), false);
        if let (Some(&oldest), Some(&newest)) = (times.iter().min(), times.iter().max()) {
            let slices = self.plan.slices;
            let reach = (slices.in_reach(oldest).0, slices.in_reach(newest).1);
            self.passed.find_all(reach, prints, |at, time| {
                self.known[at] |= slices.near(time, times[at]);
            });
        }
    }

    /// Makes room in the sieve of the epoch's keys for so many more.
    fn reserve(&mut self, rows: usize) {
        if self.seen.has_room(rows) {
            return;
        }
        self.seen = Sieve::new(self.epoch.rows() as usize * 2);
        for batch in &self.epoch.batches()[..self.looked_up] {
            // A key has a row that is to be passed on, unless an earlier epoch's is near.
            let rows = batch.prints.iter().zip(&batch.passes);
            for (&print, _) in rows.filter(|(_, passes)| **passes) {
                self.seen.add(print);
            }
        }
    }

    /// Adds the rows that are passed on to their slices.
    fn remember(&mut self) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let mut first = 0;
        while first < self.epoch.batches().len() {
            let batches = &self.epoch.batches()[first..];
            let mut rows = 0;
            let some = batches.iter().take_while(|batch| {
                let before = rows;
                rows += batch.prints.len() as u64;
                before < ARRANGED_ROWS
            });
            let some = some.count();
            self.arranged
                .fill(&batches[..some], first as u32, (&plan.schema, plan.slices))?;
            for (slice, block) in self.arranged.blocks(BLOCK_ROWS) {
                let prints = &self.arranged.prints[block.clone()];
                // A slice is shorter than `within`: none of them is there.
                (self.passed).insert_all(slice, prints, &self.arranged.times[block], |_| {});
            }
            first += some;
        }
        self.seen.renew(self.epoch.rows() as usize);
        Ok(())
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
        let mut prints = Vec::with_capacity(batch.num_rows());
        (self.encoder).digest(batch, |hash, print| {
            prints.push(Print::new(key_group(hash), print));
        })?;
        let passes: Vec<bool> = times.iter().map(|&time| time >= earliest).collect();
        let rows = passes.iter().filter(|&&passes| passes).count();
        if rows < times.len() {
            out.ledger.late += (times.len() - rows) as u64;
            let origins = plan.schema.origins(batch)?;
            for row in (0..times.len()).filter(|&row| times[row] < earliest) {
                out.dead(self.late(batch, row, times[row], origins[row]));
            }
        }
        self.epoch.push(batch, prints, passes);
        self.waiting += rows as u64;
        if self.waiting >= ARRANGED_ROWS {
            self.look_up()?;
        }
        Ok(())
    }

    fn on_epoch(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        self.look_up()?;
        self.looked_up = 0;
        (self.epoch).settle(&plan.schema, plan.slices, plan.same_time)?;
        if !plan.same_time {
            self.remember()?;
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
