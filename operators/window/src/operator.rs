//! The tumbling window as an operator.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringViewArray, UInt32Array};
use arrow::compute::take_record_batch;
use thalweg_state::{
    FingerprintSet, Key, KeyBlock, KeyedTable, PaneRef, Part, Register, Sections, Slot, short_texts,
};
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::operator::Held;
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{
    BuildContext, DeadClass, DeadLetter, EpochClose, Fault, Figures, KeyEncoder, Migration,
    Operator, OperatorFactory, Origin, Output, Route, Section, StreamSchema,
};

use crate::assign::{Assignment, Windows};
use crate::kernel::{self, Target};
use crate::measure::{self, Measures, ROWS};
use crate::migration::{Takeover, is_placed, placed_input};
use crate::outcome::{Outcome, Reading};
use crate::rows::Shape;
use crate::spec::{Function, LateFate, SpecError, TumblingSpec};

/// Port of the rows that no window takes any more.
const LATE_PORT: usize = 1;
/// What stands before the measures in a shape.
const MEASURES: &str = " measures [";
/// Rows whose slots are looked up before their accumulators are updated.
const BLOCK_ROWS: usize = 128;

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
            "tumbling 1: size {} ms offset {} ms by [{}]{MEASURES}{}]",
            plan.spec.size_ms,
            plan.spec.offset_ms.rem_euclid(plan.spec.size_ms),
            key.join(", "),
            plan.measures.shape(&plan.input)
        ))
    }

    fn migration(&self, old_shape: &str) -> Option<Box<dyn Migration>> {
        let plan = &self.plan;
        let new_shape = self.state_shape()?;
        let before = |shape: &str| Some(shape.split_once(MEASURES)?.0.to_owned());
        if before(old_shape)? != before(&new_shape)? {
            return None;
        }
        let old = Shape::read(old_shape).ok()?;
        let placed = (old.labels.iter())
            .flat_map(|label| label.split(' '))
            .any(is_placed);
        let input = match placed {
            false => plan.input.clone(),
            // Which expression it was of is known only if nothing has changed.
            true => placed_input(&plan.input),
        };
        let shape = |input| format!("{MEASURES}{}]", plan.measures.shape(input));
        if placed && !old_shape.ends_with(&shape(&input)) {
            return None;
        }
        let labels: Vec<String> = (plan.measures.list.iter())
            .map(|measure| Measures::label(measure, &input))
            .collect();
        let asked: Vec<Function> = plan
            .spec
            .aggregates
            .iter()
            .map(|one| one.function)
            .collect();
        let takeover = Takeover::new(&old, &plan.measures, &labels, &asked)?;
        Some(Box::new(takeover))
    }

    fn build(&self, context: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        let plan = Arc::clone(&self.plan);
        let results = (plan.spec.aggregates.iter().zip(&plan.measures.of_aggregate))
            .filter_map(|(aggregate, &at)| {
                let function = aggregate.function;
                Some(Reading {
                    function,
                    measure: plan.measures.list.get(at)?.clone(),
                    unknown: plan.measures.unknown_bit(at, function).unwrap_or(0),
                })
            })
            .collect();
        Ok(Box::new(Tumbling {
            table: KeyedTable::with_initial(
                plan.measures.layout(),
                &kernel::initial_words(&plan.measures),
            ),
            distinct: FingerprintSet::new(false),
            fired: Register::new(START_OF_TIME),
            closed: Register::new(START_OF_TIME),
            sections: Sections::of_version(context.groups.clone(), VERSION),
            outcome: Outcome::new(plan.output.clone(), plan.spec.by.len(), results)?,
            assignment: Assignment::default(),
            slots: Vec::new(),
            encoder: KeyEncoder::new(plan.spec.by.clone()),
            changed: BTreeMap::new(),
            taken: Some(BTreeMap::new()),
            windows_fired: 0,
            plan,
        }))
    }
}

/// The version of sections, and the parts of each: the first did not say which windows are closed.
pub(crate) const VERSION: u8 = 2;
pub(crate) const PARTS: [usize; VERSION as usize] = [3, 4];

/// The tumbling window at work on one worker.
#[derive(Debug)]
pub(crate) struct Tumbling {
    plan: Arc<Plan>,
    pub(crate) table: KeyedTable,
    pub(crate) distinct: FingerprintSet,
    /// The watermark that windows last fired at.
    pub(crate) fired: Register,
    /// Windows that end by this time are forgotten, also where rows may be later now than they might
    /// when it was done.
    pub(crate) closed: Register,
    sections: Sections,
    pub(crate) outcome: Outcome,
    assignment: Assignment,
    slots: Vec<Slot>,
    encoder: KeyEncoder,
    /// Windows that have fired and changed since: the slots that did, and whether they are new.
    pub(crate) changed: BTreeMap<i64, Vec<(Slot, bool)>>,
    /// Rows that each window holds; nothing until restored state has been looked through.
    taken: Option<BTreeMap<i64, u64>>,
    /// Windows fired so far, for metrics.
    pub(crate) windows_fired: u64,
}

impl Tumbling {
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Rows that each window holds, counted along.
    pub(crate) fn taken(&mut self) -> &mut BTreeMap<i64, u64> {
        let table = &self.table;
        self.taken.get_or_insert_with(|| look_through(table))
    }

    /// Aggregates the rows of `batch` that belong to one window, a block at a time, so that a
    /// slot is still in the cache when its accumulators are updated. Keys are taken from `texts`
    /// or else from the encoder.
    fn apply(
        &mut self,
        batch: &RecordBatch,
        texts: Option<&StringViewArray>,
        start: i64,
        rows: &[u32],
    ) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let fired = plan.windows.end(start) <= self.fired.get();
        *self.taken().entry(start).or_default() += rows.len() as u64;
        let encoder = &self.encoder;
        let mut pane = self.table.pane_mut(start);
        let mut keys = KeyBlock::default();
        for rows in rows.chunks(BLOCK_ROWS) {
            self.slots.clear();
            keys.clear();
            match texts {
                Some(texts) => match run(rows).and_then(|run| texts.views().get(run)) {
                    Some(views) => keys.push_views(views.iter().copied()),
                    None => keys.push_views(rows.iter().map(|&row| texts.views()[row as usize])),
                },
                None => {
                    for row in rows.iter().map(|&row| row as usize) {
                        keys.push(Key::new(encoder.hashes()[row], encoder.key(row)));
                    }
                }
            }
            if fired {
                let changed = self.changed.entry(start).or_default();
                for key in keys.iter() {
                    let (slot, new) = pane.touch(&key);
                    changed.push((slot, new));
                    self.slots.push(slot);
                }
            } else {
                pane.touch_all(&keys, &mut self.slots);
            }
            let mut target = Target::new(rows, &self.slots, &mut pane);
            for (number, measure) in plan.measures.list.iter().enumerate() {
                kernel::update(measure, batch, &mut target)?;
                let measure = (number, measure);
                kernel::distinct(measure, batch, start, &mut target, &mut self.distinct)?;
            }
            target.count_rows();
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

/// The rows, if there is none between them that is not one of them.
fn run(rows: &[u32]) -> Option<Range<usize>> {
    let (first, last) = (*rows.first()? as usize, *rows.last()? as usize);
    // They are ascending.
    (last - first + 1 == rows.len()).then_some(first..last + 1)
}

/// Rows that each window of `table` holds.
fn look_through(table: &KeyedTable) -> BTreeMap<i64, u64> {
    let rows = |pane: PaneRef<'_>| {
        let rows = pane.all_words().filter_map(|words| words.get(ROWS));
        rows.map(|&word| measure::rows(word)).sum()
    };
    (table.panes())
        .map(|(start, pane)| (start, rows(pane)))
        .collect()
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
        // Until the first epoch has ended, state of the first version does not say what is closed.
        let forgotten = self.plan.windows.forgotten(self.fired.get());
        let closed = self.closed.get().max(forgotten);
        assignment.assign(self.plan.windows, closed, times);
        let texts = short_texts(batch, &self.plan.spec.by);
        if texts.is_none() {
            self.encoder.encode(batch)?;
        }
        for (start, rows) in assignment.parts() {
            self.apply(batch, texts, *start, rows)?;
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
        let rows = match &self.taken {
            Some(taken) => taken.values().sum(),
            None => look_through(&self.table).values().sum(),
        };
        Held { rows, bytes: 0 }
    }

    fn figures(&self, figures: &mut dyn Figures) {
        let open = |start: &i64| self.plan.windows.end(*start) > self.fired.get();
        let open = self.table.pane_ids().rev().take_while(open).count();
        let bytes = self.table.memory_bytes() + self.distinct.memory_bytes();
        figures.level("windows_open", &[], open as f64);
        figures.total("windows_fired_total", &[], self.windows_fired);
        figures.level("state_keys", &[], self.table.len() as f64);
        figures.level("state_bytes", &[], bytes as f64);
    }

    fn freeze(&mut self, full: bool) {
        debug_assert!(
            self.taken
                .as_ref()
                .is_none_or(|taken| *taken == look_through(&self.table))
        );
        let parts: &mut [&mut dyn Part] = &mut [
            &mut self.fired,
            &mut self.table,
            &mut self.distinct,
            &mut self.closed,
        ];
        self.sections.freeze(full, parts);
    }

    fn drain(&mut self, budget_bytes: usize, sections: &mut Vec<Section>) -> Result<bool, Fault> {
        let parts: &mut [&mut dyn Part] = &mut [
            &mut self.fired,
            &mut self.table,
            &mut self.distinct,
            &mut self.closed,
        ];
        Ok(self.sections.drain(budget_bytes, sections, parts))
    }

    fn freeze_failed(&mut self) {
        let parts: &mut [&mut dyn Part] = &mut [
            &mut self.fired,
            &mut self.table,
            &mut self.distinct,
            &mut self.closed,
        ];
        self.sections.thaw(parts);
    }

    fn restore(&mut self, section: &Section) -> Result<(), Fault> {
        let parts: &mut [&mut dyn Part] = &mut [
            &mut self.fired,
            &mut self.table,
            &mut self.distinct,
            &mut self.closed,
        ];
        self.taken = None;
        Sections::restore_versions(section, parts, &PARTS)
    }
}
