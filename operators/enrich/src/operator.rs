//! Enrichment as an operator.

mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use thalweg_state::{
    ColumnBuilder, Key, KeyBlock, KeyedTable, Layout, Part, Reader, Register, Sections, short_texts,
};
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::operator::Held;
use thalweg_stream::planted::planted;
use thalweg_stream::schema::batch_bytes;
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{
    BuildContext, DeadClass, DeadLetter, EpochClose, Fault, Figures, KeyEncoder, Operator, Origin,
    Output, Section,
};

use crate::Missing;
use crate::held::HeldRows;
use crate::newest::Newest;
use crate::plan::{Plan, ROWS, TABLE, answerable_to, answered_to};
use crate::version::as_of;

/// Rows that are looked up together.
const BLOCK_ROWS: usize = 256;
/// The table has one pane.
const PANE: i64 = 0;
/// Word of a key's slot: how many versions there are.
const VERSIONS: usize = 0;

/// How many of its parts the versions of a section have: without the register at first; since the
/// third rows that wait are written once.
const PARTS_BY_VERSION: [usize; 3] = [2, 3, 3];
const VERSION: u8 = PARTS_BY_VERSION.len() as u8;

/// What is kept of a key of the table.
pub(crate) const LAYOUT: Layout = Layout {
    words: VERSIONS + 1,
    payload: true,
};

/// The enrichment at work on one worker.
#[derive(Debug)]
pub(crate) struct Enrich {
    plan: Arc<Plan>,
    table: KeyedTable,
    newest: Newest,
    held: HeldRows,
    sections: Sections,
    row_encoder: KeyEncoder,
    table_encoder: KeyEncoder,
    /// What came in this epoch.
    rows: Vec<RecordBatch>,
    changes: Vec<RecordBatch>,
    /// No row at or before this time is to find what was current then.
    horizon: Register,
    /// The table's watermark.
    complete: i64,
    /// Keys of which a version can be forgotten once the horizon has reached a time; nothing until
    /// a restored table has been looked through.
    prunable: Option<BTreeMap<i64, Vec<Vec<u8>>>>,
    /// Versions in the table, kept along as they are stored.
    versions: u64,
    /// Rows and bytes that wait for the table or for the end of the epoch.
    waiting: Held,
}

impl Enrich {
    pub(crate) fn new(plan: Arc<Plan>, context: &BuildContext) -> Self {
        Self {
            table: KeyedTable::new(LAYOUT),
            newest: Newest::default(),
            held: HeldRows::new(plan.rows.clone(), plan.row_key.clone()),
            sections: Sections::of_version(context.groups.clone(), VERSION),
            row_encoder: KeyEncoder::new(plan.row_key.clone()),
            table_encoder: KeyEncoder::new(plan.table_key.clone()),
            rows: Vec::new(),
            changes: Vec::new(),
            horizon: Register::new(START_OF_TIME),
            complete: START_OF_TIME,
            prunable: None,
            versions: 0,
            waiting: Held::default(),
            plan,
        }
    }

    /// Puts out the rows of `batch` with what the table says.
    fn answer(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let times = match plan.spec.as_of {
            Some(_) => Some(plan.rows.event_times(batch)?),
            None => None,
        };
        let mut taken = plan.taken()?;
        let texts = short_texts(batch, &plan.row_key);
        if texts.is_none() {
            self.row_encoder.encode(batch)?;
        }
        let nulls = plan
            .row_key
            .iter()
            .any(|&at| batch.column(at).null_count() > 0);
        let pane = self.table.pane(PANE);
        let mut matched = Vec::with_capacity(batch.num_rows());
        // Where the columns of newest versions answer, the slot.
        let mut answers = Vec::with_capacity(batch.num_rows());
        let mut missed = 0;
        let (mut keys, mut slots) = (KeyBlock::default(), Vec::new());
        for from in (0..batch.num_rows()).step_by(BLOCK_ROWS) {
            let rows = from..(from + BLOCK_ROWS).min(batch.num_rows());
            keys.clear();
            slots.clear();
            match texts.and_then(|texts| texts.views().get(rows.clone())) {
                Some(views) => keys.push_views(views.iter().copied()),
                None => {
                    for row in rows.clone() {
                        let hash = self.row_encoder.hashes()[row];
                        keys.push(Key::new(hash, self.row_encoder.key(row)));
                    }
                }
            }
            match pane {
                Some(pane) => pane.find_all(&keys, &mut slots),
                None => slots.resize(rows.len(), None),
            }
            for (row, slot) in rows.zip(&slots) {
                let time = times.map_or(i64::MAX, |times| times[row]);
                let slot = slot.filter(|_| !(nulls && has_null(batch, &plan.row_key, row)));
                if let Some(slot) = slot.filter(|&slot| self.newest.answers(slot, time)) {
                    answers.push(Some(slot));
                    matched.push(true);
                    continue;
                }
                let values = match (pane, slot) {
                    (Some(pane), Some(slot)) => {
                        missed += 1;
                        as_of(pane.payload(slot), time)?
                    }
                    _ => None,
                };
                take_values(values, &mut taken)?;
                answers.push(None);
                matched.push(values.is_some());
            }
        }
        let others =
            (taken.iter_mut().map(ColumnBuilder::finish)).collect::<Result<Vec<_>, _>>()?;
        let user = plan.rows.columns.len();
        let mut columns = batch.columns()[..user].to_vec();
        columns.extend(self.newest.gather(&answers, &others)?);
        columns.extend_from_slice(&batch.columns()[user..]);
        self.newest.missed(missed, pane, &plan)?;
        let enriched = RecordBatch::try_new(plan.output.arrow(), columns)?;
        self.put(batch, enriched, matched, out)
    }

    /// Puts out what matched, and does with the rest what the definition says.
    fn put(
        &mut self,
        batch: &RecordBatch,
        enriched: RecordBatch,
        matched: Vec<bool>,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let missing = matched.iter().filter(|&&matched| !matched).count();
        if missing == 0 || self.plan.spec.missing == Missing::Keep {
            out.ledger.passed += matched.len() as u64;
            out.emit(enriched);
            return Ok(());
        }
        out.ledger.passed += (matched.len() - missing) as u64;
        match self.plan.spec.missing {
            Missing::Keep | Missing::Drop => out.ledger.filtered += missing as u64,
            Missing::DeadLetter => {
                out.ledger.dead += missing as u64;
                let origins = self.plan.rows.origins(batch)?;
                for row in (0..matched.len()).filter(|&row| !matched[row]) {
                    let time = match self.plan.rows.timed {
                        true => Some(self.plan.rows.event_times(batch)?[row]),
                        false => None,
                    };
                    out.dead(DeadLetter {
                        class: DeadClass::Operator,
                        code: "no-match",
                        message: "the table has no row of this key".to_owned(),
                        origin: Origin(origins[row]),
                        event_time: time,
                        remains: Remains::Row {
                            batch: batch.clone(),
                            row,
                        },
                        plugin: None,
                    });
                }
            }
        }
        out.emit(filter_record_batch(
            &enriched,
            &BooleanArray::from(matched),
        )?);
        Ok(())
    }

    /// Answers what can be answered now that the epoch is complete.
    fn close(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        let progress = |input: usize| close.inputs.get(input).copied();
        let (Some(rows), Some(table)) = (progress(ROWS), progress(TABLE)) else {
            return Err(Fault::bug("an enrichment has two inputs"));
        };
        self.apply_changes(out)?;
        self.complete = self.complete.max(table.watermark);
        let batches = std::mem::take(&mut self.rows);
        let Some(rule) = self.plan.spec.as_of else {
            for batch in &batches {
                self.answer(batch, out)?;
            }
            self.horizon.raise(self.complete);
            return self.prune(out);
        };
        let answered = answerable_to(rule.wait_ms, rows, table);
        for batch in self.held.release(answered)? {
            self.answer(&batch, out)?;
        }
        for batch in &batches {
            let times = self.plan.rows.event_times(batch)?;
            let due: Vec<bool> = times.iter().map(|&time| time <= answered).collect();
            if due.iter().all(|&due| due) {
                self.answer(batch, out)?;
                continue;
            }
            let waiting = (0..due.len() as u32)
                .filter(|&row| !due[row as usize])
                .collect();
            self.held.hold(batch, waiting)?;
            let due = filter_record_batch(batch, &BooleanArray::from(due))?;
            self.answer(&due, out)?;
        }
        if rule.wait_ms.is_some() {
            let answered = answered_to(rule.wait_ms, rows, table);
            (self.horizon).raise(answered.saturating_sub(rule.late_ms));
        }
        self.prune(out)
    }
}

/// Takes a section of an enrichment back.
pub(crate) fn take_back(
    section: &Section,
    table: &mut KeyedTable,
    held: &mut HeldRows,
    horizon: &mut Register,
) -> Result<(), Fault> {
    let parts: &mut [&mut dyn Part] = &mut [table, held, horizon];
    Sections::restore_versions(section, parts, &PARTS_BY_VERSION)?;
    held.check()
        .map_err(|fault| fault.within(format_args!("key group {}", section.group)))
}

/// Appends the values of a version to their columns, or nulls.
fn take_values(values: Option<&[u8]>, taken: &mut [ColumnBuilder]) -> Result<(), Fault> {
    match values {
        Some(values) => {
            let mut values = Reader::new(values);
            for column in taken {
                column.push(&mut values)?;
            }
        }
        None => taken.iter_mut().for_each(ColumnBuilder::push_null),
    }
    Ok(())
}

fn has_null(batch: &RecordBatch, key: &[usize], row: usize) -> bool {
    key.iter().any(|&at| batch.column(at).is_null(row))
}

impl Operator for Enrich {
    fn on_batch(
        &mut self,
        input: usize,
        batch: &RecordBatch,
        _out: &mut Output,
    ) -> Result<(), Fault> {
        self.waiting.rows += batch.num_rows() as u64;
        self.waiting.bytes += batch_bytes(batch);
        match input {
            ROWS => self.rows.push(batch.clone()),
            TABLE => self.changes.push(batch.clone()),
            other => return Err(Fault::bug(format!("an enrichment has no input {other}"))),
        }
        Ok(())
    }

    fn on_epoch(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        if self.prunable.is_none() {
            self.versions = self.stored_versions();
        }
        self.close(close, out)?;
        self.waiting = Held {
            rows: self.held.rows(),
            bytes: self.held.bytes(),
        };
        Ok(())
    }

    fn held(&self) -> Held {
        match self.prunable {
            Some(_) => Held {
                rows: self.versions + self.waiting.rows,
                bytes: self.waiting.bytes,
            },
            // Restored, and not looked through yet.
            None => Held {
                rows: self.stored_versions() + self.held.rows(),
                bytes: self.held.bytes(),
            },
        }
    }

    fn figures(&self, figures: &mut dyn Figures) {
        let state = self.table.memory_bytes() + self.newest.memory_bytes();
        let bytes = state + self.waiting.bytes;
        figures.level("state_keys", &[], self.table.len() as f64);
        figures.level("state_bytes", &[], bytes as f64);
    }

    fn freeze(&mut self, full: bool) {
        debug_assert!(self.prunable.is_none() || self.versions == self.stored_versions());
        let parts: &mut [&mut dyn Part] = &mut [&mut self.table, &mut self.held, &mut self.horizon];
        self.sections.freeze(full, parts);
    }

    fn drain(&mut self, budget_bytes: usize, sections: &mut Vec<Section>) -> Result<bool, Fault> {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.table, &mut self.held, &mut self.horizon];
        let done = self.sections.drain(budget_bytes, sections, parts);
        self.held.check()?;
        Ok(done)
    }

    fn freeze_failed(&mut self) {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.table, &mut self.held, &mut self.horizon];
        self.sections.thaw(parts);
    }

    fn restore(&mut self, section: &Section) -> Result<(), Fault> {
        self.prunable = None;
        self.newest = Newest::default();
        take_back(section, &mut self.table, &mut self.held, &mut self.horizon)?;
        if planted("forget-table") {
            self.table.forget_group(section.group);
        }
        if planted("forget-held-rows") {
            self.held = HeldRows::new(self.plan.rows.clone(), self.plan.row_key.clone());
        }
        Ok(())
    }
}
