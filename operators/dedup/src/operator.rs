//! Deduplication as an operator.
//!
//! Rows are kept until their epoch ends, as only then it is known which of several is the first:
//! they are then sorted by (event time, origin) and decided one by one.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use thalweg_state::{FingerprintSet, Part, Print, Register, Sections, fingerprint};
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::key::key_group;
use thalweg_stream::operator::Held;
use thalweg_stream::schema::batch_bytes;
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{
    BuildContext, DeadClass, DeadLetter, EpochClose, Fault, Figures, KeyEncoder, Operator,
    OperatorFactory, Origin, Output, Progress, Route, Section, StreamKind, StreamSchema,
};

use crate::slice::Slices;
use crate::{DedupSpec, SpecError};

/// Rows that are looked up together.
const BLOCK_ROWS: usize = 256;

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
    epoch: EpochRows,
}

/// The rows of the epoch.
#[derive(Debug, Default)]
struct EpochRows {
    batches: Vec<RecordBatch>,
    /// Per row that is not late: what decides about it.
    rows: Vec<Row>,
    /// Bytes of `batches`.
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    /// Of its key, with its event time.
    print: Print,
    origin: u64,
    batch: u32,
    row: u32,
}

impl Dedup {
    /// Decides about the rows of the epoch, first by (event time, origin); the rest are duplicates.
    fn decide(&mut self) -> Vec<Row> {
        let mut rows = std::mem::take(&mut self.epoch.rows);
        rows.sort_unstable_by_key(|row| (row.print.time, row.origin, row.batch, row.row));
        let slices = self.plan.slices;
        let mut first = Vec::with_capacity(rows.len());
        let of_one_slice = |a: &Row, b: &Row| slices.of(a.print.time) == slices.of(b.print.time);
        for rows in rows.chunk_by(of_one_slice) {
            for rows in rows.chunks(BLOCK_ROWS) {
                self.decide_block(rows, &mut first);
            }
        }
        first
    }

    /// Decides about rows of one slice, after all that come before them. Rows of equal key within
    /// the block are duplicates, as a slice is not longer than `within`.
    fn decide_block(&mut self, rows: &[Row], first: &mut Vec<Row>) {
        let (Some(oldest), Some(newest)) = (rows.first(), rows.last()) else {
            return;
        };
        let slices = self.plan.slices;
        let own = slices.of(oldest.print.time);
        let mut known = vec![false; rows.len()];
        if !self.plan.same_time {
            let prints: Vec<Print> = rows.iter().map(|row| row.print).collect();
            let from = slices.in_reach(oldest.print.time).0;
            let to = slices.in_reach(newest.print.time).1;
            for pane in self.passed.panes_between(from, to) {
                if pane.id() != own {
                    pane.find_all(&prints, |at, time| {
                        known[at] |= slices.near(time, prints[at].time);
                    });
                }
            }
        }
        let unknown = || {
            rows.iter()
                .zip(&known)
                .filter(|(_, known)| !**known)
                .map(|(row, _)| row)
        };
        let prints: Vec<Print> = unknown().map(|row| row.print).collect();
        let mut added = Vec::with_capacity(prints.len());
        self.passed.insert_all(own, &prints, &mut added);
        first.extend(
            unknown()
                .zip(added)
                .filter(|(_, added)| *added)
                .map(|(row, _)| *row),
        );
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
        let origins = plan.schema.origins(batch)?;
        let earliest = plan.slices.earliest(self.watermark.get());
        let number = self.epoch.batches.len() as u32;
        self.encoder.encode(batch)?;
        for (row, (&time, &origin)) in times.iter().zip(origins).enumerate() {
            if time < earliest {
                out.ledger.late += 1;
                out.dead(self.late(batch, row, time, origin));
                continue;
            }
            self.epoch.rows.push(Row {
                print: Print::new(
                    key_group(self.encoder.hashes()[row]),
                    fingerprint(self.encoder.key(row)),
                    time,
                ),
                origin,
                batch: number,
                row: row as u32,
            });
        }
        self.epoch.bytes += batch_bytes(batch);
        self.epoch.batches.push(batch.clone());
        Ok(())
    }

    fn on_epoch(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        let candidates = self.epoch.rows.len();
        let first = self.decide();
        out.ledger.passed += first.len() as u64;
        out.ledger.duplicate += (candidates - first.len()) as u64;
        let batches = std::mem::take(&mut self.epoch.batches);
        self.epoch.bytes = 0;
        let mut masks: Vec<Vec<bool>> = (batches.iter())
            .map(|batch| vec![false; batch.num_rows()])
            .collect();
        for row in first {
            masks[row.batch as usize][row.row as usize] = true;
        }
        for (batch, mask) in batches.iter().zip(masks) {
            if mask.iter().all(|&passes| passes) {
                out.emit(batch.clone());
            } else {
                out.emit(filter_record_batch(batch, &BooleanArray::from(mask))?);
            }
        }
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
            rows: self.epoch.rows.len() as u64,
            bytes: self.epoch.bytes,
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
