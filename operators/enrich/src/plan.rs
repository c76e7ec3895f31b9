//! An enrichment checked against its inputs, and how it is built.

use std::collections::BTreeSet;
use std::sync::Arc;

use thalweg_state::ColumnBuilder;
use thalweg_stream::schema::is_system;
use thalweg_stream::{
    BuildContext, Column, Fault, Migration, Operator, OperatorFactory, Progress, Route, Section,
    StreamKind, StreamSchema,
};

use crate::operator::Enrich;
use crate::{AsOf, EnrichSpec, Missing, SpecError};

/// Input number of the rows.
pub(crate) const ROWS: usize = 0;
/// Input number of the table.
pub(crate) const TABLE: usize = 1;

/// Builds enrichments; checked against the schemas of both inputs when made.
#[derive(Debug)]
pub struct EnrichFactory {
    plan: Arc<Plan>,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rows: StreamSchema,
    pub(crate) table: StreamSchema,
    pub(crate) output: StreamSchema,
    pub(crate) spec: EnrichSpec,
    /// Positions of the key in the rows and in the table, in the same order.
    pub(crate) row_key: Vec<usize>,
    pub(crate) table_key: Vec<usize>,
}

impl Plan {
    /// Builders of the taken columns.
    pub(crate) fn taken(&self) -> Result<Vec<ColumnBuilder>, Fault> {
        (self.spec.take.iter())
            .map(|&(at, _)| match self.table.columns.get(at) {
                Some(column) => ColumnBuilder::new(&column.column_type.arrow()),
                None => Err(Fault::bug("taken column is missing")),
            })
            .collect()
    }
}

impl EnrichFactory {
    /// An enrichment of `rows` from `table`.
    ///
    /// # Errors
    /// Whatever of `spec` does not fit the inputs.
    pub fn new(
        rows: StreamSchema,
        table: StreamSchema,
        spec: EnrichSpec,
    ) -> Result<Self, SpecError> {
        let named: BTreeSet<usize> = spec.on.iter().map(|pair| pair.1).collect();
        let key: BTreeSet<usize> = spec.table_key.iter().copied().collect();
        if named.is_empty() || named != key || named.len() != spec.on.len() {
            return Err(SpecError::Key);
        }
        for &(left, right) in &spec.on {
            let (left, right) = (column(&rows, left)?, column(&table, right)?);
            if left.column_type != right.column_type {
                return Err(SpecError::Types {
                    left: Arc::clone(&left.name),
                    left_type: left.column_type.clone(),
                    right: Arc::clone(&right.name),
                    right_type: right.column_type.clone(),
                });
            }
        }
        if let Some(AsOf { wait_ms, late_ms }) = spec.as_of {
            if late_ms < 0 || wait_ms.is_some_and(|wait_ms| wait_ms < 0) {
                return Err(SpecError::Wait);
            }
            for (schema, name) in [(&rows, "its input"), (&table, "the table")] {
                if !schema.timed {
                    return Err(SpecError::NoTime(name));
                }
            }
        }
        let changes = rows.kind != StreamKind::Append;
        if changes && (spec.as_of.is_some() || spec.missing != Missing::Keep) {
            return Err(SpecError::Changes);
        }
        Ok(Self {
            plan: Arc::new(Plan {
                output: output(&rows, &table, &spec)?,
                row_key: spec.on.iter().map(|pair| pair.0).collect(),
                table_key: spec.on.iter().map(|pair| pair.1).collect(),
                rows,
                table,
                spec,
            }),
        })
    }
}

fn column(schema: &StreamSchema, at: usize) -> Result<&Column, SpecError> {
    schema.columns.get(at).ok_or(SpecError::NoColumn(at))
}

/// The columns of the rows, then those taken, which may be null.
fn output(
    rows: &StreamSchema,
    table: &StreamSchema,
    spec: &EnrichSpec,
) -> Result<StreamSchema, SpecError> {
    let mut output = rows.clone();
    for (at, name) in &spec.take {
        if is_system(name) || output.column(name).is_some() {
            return Err(SpecError::Name(Arc::clone(name)));
        }
        let column_type = column(table, *at)?.column_type.clone();
        output
            .columns
            .push(Column::new(Arc::clone(name), column_type));
    }
    Ok(output)
}

/// How far answers have come, when rows and table have come so far: every held row is later.
pub(crate) fn answered_to(wait_ms: Option<i64>, rows: Progress, table: Progress) -> i64 {
    rows.watermark.min(answerable_to(wait_ms, rows, table))
}

/// Rows at or before this time are answered: the table has come so far, or has nothing more to say,
/// or they have waited long enough.
pub(crate) fn answerable_to(wait_ms: Option<i64>, rows: Progress, table: Progress) -> i64 {
    match wait_ms {
        _ if table.finished => i64::MAX,
        None => table.watermark,
        Some(_) if table.idle || rows.finished => i64::MAX,
        Some(wait_ms) => (table.watermark).max(rows.watermark.saturating_sub(wait_ms)),
    }
}

impl OperatorFactory for EnrichFactory {
    fn routes(&self) -> Vec<Route> {
        vec![
            Route::Key(self.plan.row_key.clone()),
            Route::Key(self.plan.table_key.clone()),
        ]
    }

    fn outputs(&self) -> Vec<(&'static str, StreamSchema)> {
        vec![("", self.plan.output.clone())]
    }

    fn output_progress(&self, inputs: &[Progress]) -> Progress {
        let rows = inputs.get(ROWS).copied().unwrap_or(Progress::START);
        let table = inputs.get(TABLE).copied().unwrap_or(Progress::END);
        let Some(AsOf { wait_ms, .. }) = self.plan.spec.as_of else {
            return rows;
        };
        Progress {
            watermark: answered_to(wait_ms, rows, table),
            finished: rows.finished && answerable_to(wait_ms, rows, table) == i64::MAX,
            ..rows
        }
    }

    fn needs_epochs(&self) -> bool {
        true
    }

    fn state_shape(&self) -> Option<String> {
        let plan = &self.plan;
        // Rows wait where their key belongs.
        let on: Vec<String> = match plan.spec.as_of {
            Some(_) => (plan.row_key.iter())
                .filter_map(|&at| plan.rows.columns.get(at))
                .map(|column| column.name.to_string())
                .collect(),
            None => Vec::new(),
        };
        Some(format!(
            "enrich 2: {} on [{}] of table {}",
            self.layout(),
            on.join(", "),
            plan.spec.table
        ))
    }

    fn migration(&self, old_shape: &str) -> Option<Box<dyn Migration>> {
        let same = old_shape.strip_prefix("enrich 1: ")? == self.layout();
        same.then(|| Box::new(Named) as Box<dyn Migration>)
    }

    fn build(&self, context: &BuildContext) -> Result<Box<dyn Operator>, Fault> {
        Ok(Box::new(Enrich::new(Arc::clone(&self.plan), context)))
    }
}

impl EnrichFactory {
    /// What versions and held rows consist of, in words.
    fn layout(&self) -> String {
        let plan = &self.plan;
        let name = |schema: &StreamSchema, at: usize| match schema.columns.get(at) {
            Some(column) => format!("{}:{}", column.name, column.column_type),
            None => at.to_string(),
        };
        let key: Vec<String> = (plan.table_key.iter())
            .map(|&at| name(&plan.table, at))
            .collect();
        let take: Vec<String> = (plan.spec.take.iter())
            .map(|t| name(&plan.table, t.0))
            .collect();
        // Held rows are kept whole.
        let held: Vec<String> = match plan.spec.as_of {
            Some(_) => (0..plan.rows.columns.len())
                .map(|at| name(&plan.rows, at))
                .collect(),
            None => Vec::new(),
        };
        format!(
            "key [{}] take [{}] as of {} held [{}]",
            key.join(", "),
            take.join(", "),
            plan.spec.as_of.is_some(),
            held.join(", ")
        )
    }
}

/// Takes over the state of a first version of the shape, which named neither the table nor what rows
/// are looked up by.
struct Named;

impl Migration for Named {
    fn outcome(&self) -> &'static str {
        "keeps its state, which an earlier version wrote without the name of its table"
    }

    fn migrate(&self, sections: &[Section]) -> Result<Vec<Section>, Fault> {
        Ok(sections.to_vec())
    }
}
