//! The tumbling window as an operator.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringViewArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;
use thalweg_state::{FingerprintSet, Key, KeyedTable, Layout, Part, Register, Sections, Slot};
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::operator::Held;
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{
    BuildContext, DeadClass, DeadLetter, EpochClose, Fault, Operator, OperatorFactory, Origin,
    Output, Route, Section, StreamSchema, key,
};

use crate::assign::{Assignment, Windows};
use crate::kernel::{self, Target};
use crate::measure::{Measures, ROWS};
use crate::outcome::Outcome;
use crate::spec::{LateFate, SpecError, TumblingSpec};

/// Port of the rows that no window takes any more.
const LATE_PORT: usize = 1;
/// Rows whose slots are looked up before their accumulators are updated.
const BLOCK_ROWS: usize = 256;

/// Builds tumbling windows; checked against the input's schema when made.
#[derive(Debug)]
pub struct TumblingFactory {
    plan: Arc<Plan>,
}

#[derive(Debug)]
pub(crate) struct Plan {
    input: StreamSchema,
    output: StreamSchema,
    spec: TumblingSpec,
    pub(crate) windows: Windows,
    measures: Measures,
    initial: Vec<(usize, u64)>,
}

impl TumblingFactory {
    /// A window over rows of `input`.
    ///
    /// # Errors
    /// Whatever of `spec` does not fit the input.
    pub fn new(input: StreamSchema, spec: TumblingSpec) -> Result<Self, SpecError> {
        let output = spec.output(&input)?;
        let measures = Measures::new(&input, &spec.aggregates)?;
        Ok(Self {
            plan: Arc::new(Plan {
                windows: Windows::new(spec.size_ms, spec.offset_ms, spec.late.allowed_ms),
                initial: kernel::initial_words(&measures.list),
                input,
                output,
                spec,
                measures,
            }),
        })
    }
}

impl OperatorFactory for TumblingFactory {
    fn routes(&self) -> Vec<Route> {
        // Without a key all rows have the same, empty one, and one worker owns it.
        vec![Route::Key(self.plan.spec.by.clone())]
    }

    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        let mut outputs = vec![("", self.plan.output.clone())];
        if self.plan.spec.late.then == LateFate::Output {
            outputs.push(("late", self.plan.input.clone()));
        }
        outputs
    }

    fn needs_epochs(&self) -> bool {
        true
    }

    fn state_shape(&self) -> Option<String> {
        let plan = &self.plan;
        let key: Vec<String> = (plan.spec.by.iter())
            .filter_map(|&at| plan.input.columns.get(at))
            .map(|column| format!("{}:{}", column.name, column.column_type))
            .collect();
        Some(format!(
            "tumbling 1: size {} ms offset {} ms by [{}] measures [{}]",
            plan.spec.size_ms,
            plan.spec.offset_ms.rem_euclid(plan.spec.size_ms),
            key.join(", "),
            plan.measures.shape(&plan.input)
        ))
    }

    fn build(&self, context: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        let plan = Arc::clone(&self.plan);
        let results = (plan.spec.aggregates.iter().zip(&plan.measures.of_aggregate))
            .filter_map(|(aggregate, &at)| {
                Some((aggregate.function, plan.measures.list.get(at)?.clone()))
            })
            .collect();
        Ok(Box::new(Tumbling {
            table: KeyedTable::new(Layout {
                words: plan.measures.words,
                payload: plan.measures.payload_entries > 0,
            }),
            distinct: FingerprintSet::new(false),
            fired: Register::new(START_OF_TIME),
            sections: Sections::new(context.groups.clone()),
            outcome: Outcome::new(plan.output.clone(), plan.spec.by.len(), results)?,
            assignment: Assignment::default(),
            slots: Vec::new(),
            key_bytes: Vec::new(),
            changed: BTreeMap::new(),
            plan,
        }))
    }
}

/// The tumbling window at work on one worker.
#[derive(Debug)]
pub(crate) struct Tumbling {
    plan: Arc<Plan>,
    pub(crate) table: KeyedTable,
    pub(crate) distinct: FingerprintSet,
    /// The watermark that windows last fired at.
    pub(crate) fired: Register,
    sections: Sections,
    pub(crate) outcome: Outcome,
    assignment: Assignment,
    slots: Vec<Slot>,
    key_bytes: Vec<u8>,
    /// Windows that have fired and changed since: the slots that did, and whether they are new.
    pub(crate) changed: BTreeMap<i64, Vec<(Slot, bool)>>,
}

impl Tumbling {
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Aggregates the rows of `batch` that belong to one window, a block at a time, so that a
    /// slot is still in the cache when its accumulators are updated.
    fn apply(&mut self, batch: &RecordBatch, start: i64, rows: &[u32]) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let fired = plan.windows.end(start) <= self.fired.get();
        let text = text_key(batch, &plan.spec.by);
        let mut pane = self.table.pane_mut(start);
        for rows in rows.chunks(BLOCK_ROWS) {
            self.slots.clear();
            for &row in rows {
                let row = row as usize;
                let short = text.and_then(|column| Key::of_view(*column.views().get(row)?));
                let (slot, new) = match short {
                    Some(key) => pane.touch(&key),
                    None => {
                        self.key_bytes.clear();
                        for &at in &plan.spec.by {
                            key::encode_value(batch.column(at), row, &mut self.key_bytes)?;
                        }
                        pane.touch(&Key::of(&self.key_bytes))
                    }
                };
                if new {
                    begin(pane.touched_mut(slot), &plan.initial);
                }
                if let Some(count) = pane.touched_mut(slot).get_mut(ROWS) {
                    *count += 1;
                }
                if fired {
                    self.changed.entry(start).or_default().push((slot, new));
                }
                self.slots.push(slot);
            }
            let mut target = Target {
                rows,
                slots: &self.slots,
                pane: &mut pane,
            };
            for (number, measure) in plan.measures.list.iter().enumerate() {
                kernel::update(measure, batch, &mut target)?;
                let measure = (number, measure);
                kernel::distinct(measure, batch, start, &mut target, &mut self.distinct)?;
            }
        }
        Ok(())
    }

    /// Does with the late rows of `batch` what the definition says.
    fn late(&mut self, batch: &RecordBatch, rows: &[u32], out: &mut Output) -> Result<(), Fault> {
        out.ledger.late += rows.len() as u64;
        match self.plan.spec.late.then {
            LateFate::Drop => {}
            LateFate::Output => {
                let rows = UInt32Array::from(rows.to_vec());
                out.emit_at(LATE_PORT, take_record_batch(batch, &rows)?);
            }
            LateFate::DeadLetter => {
                let times = self.plan.input.event_times(batch)?;
                let origins = self.plan.input.origins(batch)?;
                for &row in rows {
                    let row = row as usize;
                    let end = self.plan.windows.end(self.plan.windows.start(times[row]));
                    out.dead(DeadLetter {
                        class: DeadClass::Late,
                        code: "window-fired",
                        message: format!(
                            "the window that ends at {end} was complete at watermark {}",
                            self.fired.get()
                        ),
                        origin: Origin(origins[row]),
                        event_time: Some(times[row]),
                        remains: Remains::Row {
                            batch: batch.clone(),
                            row,
                        },
                        plugin: None,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Gives a new slot the words that are not zero at first.
#[cold]
fn begin(words: &mut [u64], initial: &[(usize, u64)]) {
    for &(at, word) in initial {
        if let Some(place) = words.get_mut(at) {
            *place = word;
        }
    }
}

/// The only key column, if it is of strings and without nulls: most keys then need no encoding.
fn text_key<'b>(batch: &'b RecordBatch, by: &[usize]) -> Option<&'b StringViewArray> {
    let &[at] = by else { return None };
    let column = batch.columns().get(at)?;
    let text = *column.data_type() == DataType::Utf8View && column.null_count() == 0;
    text.then(|| column.as_string_view())
}

impl Operator for Tumbling {
    fn on_batch(
        &mut self,
        _input: usize,
        batch: &RecordBatch,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let times = self.plan.input.event_times(batch)?;
        let mut assignment = std::mem::take(&mut self.assignment);
        assignment.assign(self.plan.windows, self.fired.get(), times);
        for (start, rows) in assignment.parts() {
            self.apply(batch, *start, rows)?;
        }
        if !assignment.late.is_empty() {
            self.late(batch, &assignment.late, out)?;
        }
        self.assignment = assignment;
        Ok(())
    }

    fn on_epoch(&mut self, close: &EpochClose<'_>, out: &mut Output) -> Result<(), Fault> {
        let watermark = thalweg_stream::Progress::union(close.inputs).watermark;
        self.fire(watermark, out)
    }

    fn held(&self) -> Held {
        let rows = (self.table.panes())
            .flat_map(|(_, pane)| pane.all_words())
            .filter_map(|words| words.get(ROWS))
            .sum();
        Held { rows, bytes: 0 }
    }

    fn freeze(&mut self, full: bool) {
        let parts: &mut [&mut dyn Part] =
            &mut [&mut self.fired, &mut self.table, &mut self.distinct];
        self.sections.freeze(full, parts);
    }

    fn drain(&mut self, budget_bytes: usize, sections: &mut Vec<Section>) -> Result<bool, Fault> {
        let parts: &mut [&mut dyn Part] =
            &mut [&mut self.fired, &mut self.table, &mut self.distinct];
        Ok(self.sections.drain(budget_bytes, sections, parts))
    }

    fn freeze_failed(&mut self) {
        let parts: &mut [&mut dyn Part] =
            &mut [&mut self.fired, &mut self.table, &mut self.distinct];
        self.sections.thaw(parts);
    }

    fn restore(&mut self, section: &Section) -> Result<(), Fault> {
        let parts: &mut [&mut dyn Part] =
            &mut [&mut self.fired, &mut self.table, &mut self.distinct];
        Sections::restore(section, parts)
    }
}
