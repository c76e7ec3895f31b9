//! Stateless steps: filter, projection and route, row by row.
//!
//! In a stream of changes a row that updates or deletes its key also ends what went to an output it
//! no longer goes to: that output is given a delete of the key. Whether there had been such a row is
//! not known here, so a key may be deleted that was not there, and updated before it is inserted.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt8Array,
};
use arrow::compute::{and_not, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::SchemaRef;
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::expression::{ExpressionFactory, FailedRow};
use thalweg_stream::schema::{CHANGE, DELETE, INSERT};
use thalweg_stream::{
    BuildContext, DeadClass, DeadLetter, Expression, Fault, Figures, Operator, OperatorFactory,
    Origin, Output, Route, StreamSchema,
};

/// An output of a [`TransformFactory`]: its name (empty for the main one), and its condition; no
/// condition takes every row that no output before it took.
pub type Branch = (&'static str, Option<Arc<dyn ExpressionFactory>>);

/// How a column of the output is made.
#[derive(Clone, Debug)]
pub enum ColumnSource {
    /// It is the input's column at this position.
    Input(usize),
    /// It is computed.
    Computed(Arc<dyn ExpressionFactory>),
}

/// Makes the rows of the output from the rows of the input: columns first, then conditions on the
/// input's rows decide which output takes each.
#[allow(missing_debug_implementations, reason = "expressions have none")]
pub struct TransformFactory {
    input: StreamSchema,
    output: StreamSchema,
    columns: Vec<ColumnSource>,
    branches: Vec<Branch>,
}

impl TransformFactory {
    /// Keeps the rows that meet `condition`, unchanged.
    #[must_use]
    pub fn filter(input: &StreamSchema, condition: Arc<dyn ExpressionFactory>) -> Self {
        Self::new(
            input.clone(),
            input.clone(),
            keep_all(input),
            vec![("", Some(condition))],
        )
    }

    /// Makes new columns, one for each user's column of `output`.
    #[must_use]
    pub fn project(input: StreamSchema, output: StreamSchema, columns: Vec<ColumnSource>) -> Self {
        Self::new(input, output, columns, vec![("", None)])
    }

    /// Sends each row to the first branch whose condition it meets. The main output is empty.
    #[must_use]
    pub fn route(input: &StreamSchema, branches: Vec<Branch>) -> Self {
        Self::new(input.clone(), input.clone(), keep_all(input), branches)
    }

    fn new(
        input: StreamSchema,
        output: StreamSchema,
        columns: Vec<ColumnSource>,
        branches: Vec<Branch>,
    ) -> Self {
        Self {
            input,
            output,
            columns,
            branches,
        }
    }
}

fn keep_all(schema: &StreamSchema) -> Vec<ColumnSource> {
    (0..schema.columns.len()).map(ColumnSource::Input).collect()
}

impl OperatorFactory for TransformFactory {
    fn routes(&self) -> Vec<Route> {
        vec![Route::Local]
    }

    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        self.branches
            .iter()
            .map(|(name, _)| (*name, self.output.clone()))
            .collect()
    }

    fn needs_epochs(&self) -> bool {
        false
    }

    fn build(&self, _: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        let columns = (self.columns.iter())
            .map(|column| match column {
                ColumnSource::Input(at) => Ok(Column::Input(*at)),
                ColumnSource::Computed(factory) => Ok(Column::Computed(factory.build()?)),
            })
            .collect::<Result<_, Fault>>()?;
        let branches = (self.branches.iter())
            .map(|(_, condition)| {
                condition
                    .as_ref()
                    .map(|factory| factory.build())
                    .transpose()
            })
            .collect::<Result<_, Fault>>()?;
        Ok(Box::new(Transform {
            input: self.input.clone(),
            output: self.output.arrow(),
            columns,
            branches,
        }))
    }
}

enum Column {
    Input(usize),
    Computed(Box<dyn Expression>),
}

struct Transform {
    input: StreamSchema,
    output: SchemaRef,
    columns: Vec<Column>,
    branches: Vec<Option<Box<dyn Expression>>>,
}

impl Operator for Transform {
    fn on_batch(&mut self, _: usize, batch: &RecordBatch, out: &mut Output) -> Result<(), Fault> {
        let mut failed = Vec::new();
        let mut columns = Vec::with_capacity(batch.num_columns());
        for column in &mut self.columns {
            columns.push(match column {
                Column::Input(at) => Arc::clone(batch.column(*at)),
                Column::Computed(expression) => {
                    let evaluated = expression.evaluate(batch)?;
                    failed.extend(evaluated.failed);
                    evaluated.values
                }
            });
        }
        // The system's columns go along as they are.
        columns.extend(
            batch
                .columns()
                .iter()
                .skip(self.input.columns.len())
                .cloned(),
        );
        let mut taken = Vec::with_capacity(self.branches.len());
        let mut left: Option<BooleanArray> = None;
        for branch in &mut self.branches {
            let Some(condition) = branch else {
                taken.push(left.take());
                left = Some(BooleanArray::from(vec![false; batch.num_rows()]));
                continue;
            };
            let evaluated = condition.evaluate(batch)?;
            failed.extend(evaluated.failed);
            // Null is not true.
            let mut met = evaluated.values.as_boolean().clone();
            if met.null_count() > 0 {
                met = prep_null_mask_filter(&met);
            }
            let mine = left
                .as_ref()
                .map_or(Ok(met.clone()), |left| arrow::compute::and(left, &met))?;
            let all = BooleanArray::from(vec![true; batch.num_rows()]);
            left = Some(and_not(left.as_ref().unwrap_or(&all), &met)?);
            taken.push(Some(mine));
        }
        let dead = self.bury(batch, failed, out)?;
        let rows = self.rows(batch, columns)?;
        let mut passed = 0;
        for (port, mask) in taken.into_iter().enumerate() {
            let mask = match (mask, &dead) {
                (None, None) => {
                    passed += rows.num_rows() as u64;
                    out.emit_at(port, rows.clone());
                    continue;
                }
                (Some(mask), None) => mask,
                (None, Some(dead)) => arrow::compute::not(dead)?,
                (Some(mask), Some(dead)) => and_not(&mask, dead)?,
            };
            let count = mask.true_count();
            passed += count as u64;
            let part = if count == rows.num_rows() {
                rows.clone()
            } else if let Some(changes) = self.input.changes(batch) {
                self.with_ends(&rows, changes, &mask, dead.as_ref())?
            } else {
                filter_record_batch(&rows, &mask)?
            };
            out.emit_at(port, part);
        }
        let buried = dead.map_or(0, |dead| dead.true_count() as u64);
        out.ledger.passed += passed;
        out.ledger.dead += buried;
        out.ledger.filtered += batch.num_rows() as u64 - passed - buried;
        Ok(())
    }

    fn figures(&self, figures: &mut dyn Figures) {
        for column in &self.columns {
            if let Column::Computed(expression) = column {
                expression.figures(figures);
            }
        }
        for condition in self.branches.iter().flatten() {
            condition.figures(figures);
        }
    }
}

impl Transform {
    fn rows(&self, batch: &RecordBatch, columns: Vec<ArrayRef>) -> Result<RecordBatch, Fault> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.output),
            columns,
            &options,
        )?)
    }

    /// The rows that an output takes, and deletes of the keys whose newest row it does not.
    fn with_ends(
        &self,
        rows: &RecordBatch,
        changes: &[u8],
        taken: &BooleanArray,
        dead: Option<&BooleanArray>,
    ) -> Result<RecordBatch, Fault> {
        let ends = |row: usize| {
            changes[row] != INSERT && !taken.value(row) && !dead.is_some_and(|dead| dead.value(row))
        };
        let kinds = changes.iter().enumerate();
        let kinds = kinds.map(|(row, &kind)| if ends(row) { DELETE } else { kind });
        let kinds = UInt8Array::from_iter_values(kinds);
        let shown: BooleanArray = (0..changes.len())
            .map(|row| Some(taken.value(row) || ends(row)))
            .collect();
        let mut columns = rows.columns().to_vec();
        let at = rows.schema().index_of(CHANGE)?;
        columns[at] = Arc::new(kinds);
        Ok(filter_record_batch(&self.rows(rows, columns)?, &shown)?)
    }

    /// Makes dead letters of failed rows; the rows as a mask.
    fn bury(
        &self,
        batch: &RecordBatch,
        mut failed: Vec<FailedRow>,
        out: &mut Output,
    ) -> Result<Option<BooleanArray>, Fault> {
        if failed.is_empty() {
            return Ok(None);
        }
        failed.sort_by_key(|row| row.row);
        failed.dedup_by_key(|row| row.row);
        let origins = self.input.origins(batch)?;
        let times = self
            .input
            .timed
            .then(|| self.input.event_times(batch))
            .transpose()?;
        let mut dead = vec![false; batch.num_rows()];
        for row in failed {
            let (Some(&origin), Some(mark)) = (origins.get(row.row), dead.get_mut(row.row)) else {
                return Err(Fault::bug(
                    "an expression failed on a row that is not there",
                ));
            };
            *mark = true;
            out.dead(DeadLetter {
                class: DeadClass::Operator,
                code: row.code,
                message: row.message,
                origin: Origin(origin),
                event_time: times.and_then(|times| times.get(row.row).copied()),
                remains: Remains::Row {
                    batch: batch.clone(),
                    row: row.row,
                },
                plugin: row.plugin,
            });
        }
        Ok(Some(BooleanArray::from(dead)))
    }
}
