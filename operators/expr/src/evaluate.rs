//! Compiled expressions and their evaluation: a row that fails does not take its batch along.

use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::SchemaRef;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, DataFusionError};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, Operator};
use datafusion_physical_expr::expressions::BinaryExpr;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use thalweg_stream::expression::{ExpressionFactory, FailedRow};
use thalweg_stream::key::hash;
use thalweg_stream::{ColumnType, Evaluated, Expression, Fault, Figures};

use crate::ExpressionError;
use crate::function::{self, FailureSlot, Functions, SharedCaller};

/// A typed expression, ready to be built for each worker.
#[derive(Clone)]
pub struct Compiled {
    expr: Expr,
    schema: Arc<DFSchema>,
    column_type: ColumnType,
    functions: Arc<dyn Functions>,
    columns: Vec<String>,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.expr, self.column_type)
    }
}

impl Compiled {
    pub(crate) fn new(
        expr: Expr,
        schema: Arc<DFSchema>,
        column_type: ColumnType,
        functions: Arc<dyn Functions>,
    ) -> Result<Self, ExpressionError> {
        let mut columns: Vec<String> = expr
            .column_refs()
            .into_iter()
            .map(|column| column.name.clone())
            .collect();
        columns.sort_unstable();
        let compiled = Self {
            expr,
            schema,
            column_type,
            functions,
            columns,
        };
        compiled.try_out()?;
        Ok(compiled)
    }

    /// Finds at planning time what only the physical plan and its evaluation tell: what fails
    /// without any row fails for every row.
    fn try_out(&self) -> Result<(), ExpressionError> {
        let physical = physical(&self.expr, &self.schema)?;
        let called_outside = self.expr.exists(|node| {
            let call = match node {
                Expr::ScalarFunction(call) => self.functions.shape(call.func.name()),
                _ => None,
            };
            Ok(call.is_some())
        })?;
        if !called_outside {
            let nothing = RecordBatch::new_empty(Arc::clone(self.schema.inner()));
            physical.evaluate(&nothing)?;
        }
        Ok(())
    }

    /// The columns it reads, sorted.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The column, if the expression is nothing but one.
    #[must_use]
    pub fn as_column(&self) -> Option<&str> {
        match &self.expr {
            Expr::Column(column) => Some(&column.name),
            _ => None,
        }
    }

    /// What tells it from other expressions, however it was written. Checkpoints hold it.
    ///
    /// # Errors
    /// What is wrong with the expression, if something is.
    pub fn fingerprint(&self) -> Result<u64, ExpressionError> {
        Ok(fingerprint(&self.expr)?)
    }
}

/// A node's text does not say how its children hang together (`a - (b - c)` has no parentheses there),
/// so that it is taken with their fingerprints in their places.
fn fingerprint(expr: &Expr) -> Result<u64, DataFusionError> {
    let named = expr.clone().map_children(|child| {
        let name = format!("{:016x}", fingerprint(&child)?);
        Ok(Transformed::yes(Expr::Column(Column::from_name(name))))
    })?;
    let text = format!("{} {}", expr.variant_name(), named.data);
    Ok(hash(text.as_bytes()))
}

impl ExpressionFactory for Compiled {
    fn column_type(&self) -> ColumnType {
        self.column_type.clone()
    }

    fn build(&self) -> Result<Box<dyn Expression>, Fault> {
        let failures = FailureSlot::default();
        let bug = |error: DataFusionError| Fault::bug(error.strip_backtrace());
        let mut fault = None;
        let mut callers = Vec::new();
        let bound = self.expr.clone().transform_up(|node| {
            let Expr::ScalarFunction(mut call) = node else {
                return Ok(Transformed::no(node));
            };
            let name = call.func.name().to_owned();
            let Some(shape) = self.functions.shape(&name) else {
                return Ok(Transformed::no(Expr::ScalarFunction(call)));
            };
            match self.functions.caller(&name) {
                Ok(caller) => {
                    let failures = Arc::clone(&failures);
                    let caller = Arc::new(Mutex::new(caller));
                    callers.push(Arc::clone(&caller));
                    call.func = Arc::new(function::bound(&name, shape, caller, failures));
                }
                Err(error) => fault = Some(error),
            }
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        let expr = physical(&bound.map_err(bug)?.data, &self.schema)
            .map_err(|error| Fault::bug(error.message))?;
        Ok(Box::new(Instance {
            expr,
            schema: Arc::clone(self.schema.inner()),
            column_type: self.column_type.clone(),
            failures,
            callers,
        }))
    }
}

/// The physical expression, its integer arithmetic checked.
fn physical(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, ExpressionError> {
    let context = PhysicalPlanningContext::default();
    let planned = create_physical_expr(expr, schema, &ExecutionProps::new(), &context)?;
    let checked = planned.transform_up(|node| {
        let Some(binary) = node.downcast_ref::<BinaryExpr>() else {
            return Ok(Transformed::no(node));
        };
        let arithmetic = matches!(
            binary.op(),
            Operator::Plus | Operator::Minus | Operator::Multiply
        );
        if !arithmetic {
            return Ok(Transformed::no(node));
        }
        let (left, right) = (Arc::clone(binary.left()), Arc::clone(binary.right()));
        let checked = BinaryExpr::new(left, *binary.op(), right).with_fail_on_overflow(true);
        Ok(Transformed::new(
            Arc::new(checked),
            true,
            TreeNodeRecursion::Continue,
        ))
    })?;
    Ok(checked.data)
}

struct Instance {
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    column_type: ColumnType,
    failures: FailureSlot,
    callers: Vec<SharedCaller>,
}

impl Expression for Instance {
    fn column_type(&self) -> ColumnType {
        self.column_type.clone()
    }

    fn evaluate(&mut self, batch: &RecordBatch) -> Result<Evaluated, Fault> {
        let columns: Vec<ArrayRef> = (self.schema.fields().iter())
            .map(|field| batch.column_by_name(field.name()).cloned())
            .collect::<Option<_>>()
            .ok_or_else(|| Fault::bug("an expression's column is missing from its batch"))?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        let mut pieces = Vec::new();
        let mut failed = Vec::new();
        self.piecewise(&rows, 0, &mut pieces, &mut failed)?;
        let values = match <[ArrayRef; 1]>::try_from(pieces) {
            Ok([whole]) => whole,
            Err(pieces) if pieces.is_empty() => {
                arrow::array::new_empty_array(&self.column_type.arrow())
            }
            Err(pieces) => concat(
                &pieces
                    .iter()
                    .map(AsRef::as_ref)
                    .collect::<Vec<&dyn Array>>(),
            )?,
        };
        Ok(Evaluated { values, failed })
    }

    fn figures(&self, figures: &mut dyn Figures) {
        for caller in &self.callers {
            function::lock(caller).figures(figures);
        }
    }
}

impl Instance {
    /// Evaluates rows, which begin at row `first` of the batch; halves them around a failure.
    fn piecewise(
        &self,
        rows: &RecordBatch,
        first: usize,
        pieces: &mut Vec<ArrayRef>,
        failed: &mut Vec<FailedRow>,
    ) -> Result<(), Fault> {
        let count = rows.num_rows();
        if count == 0 {
            return Ok(());
        }
        let evaluated = self.whole(rows);
        let mut failures = std::mem::take(&mut *function::open(&self.failures));
        if let Some(fault) = failures.fault {
            return Err(fault);
        }
        // A call that saw other rows than the batch's (under a CASE) cannot say which ones failed.
        let placed = failures.rows.iter().all(|(_, seen)| *seen == count);
        match evaluated {
            Ok(values) if placed => {
                failures.rows.sort_by_key(|(row, _)| row.row);
                failures.rows.dedup_by_key(|(row, _)| row.row);
                let at = |(row, _): (FailedRow, usize)| FailedRow {
                    row: first + row.row,
                    ..row
                };
                failed.extend(failures.rows.into_iter().map(at));
                pieces.push(values);
                Ok(())
            }
            Ok(_) | Err(_) if count > 1 => {
                let half = count / 2;
                self.piecewise(&rows.slice(0, half), first, pieces, failed)?;
                self.piecewise(
                    &rows.slice(half, count - half),
                    first + half,
                    pieces,
                    failed,
                )
            }
            evaluated => {
                let plain = |message| FailedRow {
                    row: first,
                    code: "expression",
                    message,
                    plugin: None,
                };
                let row = match (failures.rows.pop(), evaluated) {
                    (Some((row, _)), _) => FailedRow { row: first, ..row },
                    (None, Err(message)) => plain(message),
                    (None, Ok(_)) => return Err(Fault::bug("a row failed and succeeded")),
                };
                failed.push(row);
                pieces.push(arrow::array::new_null_array(&self.column_type.arrow(), 1));
                Ok(())
            }
        }
    }

    fn whole(&self, rows: &RecordBatch) -> Result<ArrayRef, String> {
        let text = |error: DataFusionError| ExpressionError::from(error).message;
        let values = self.expr.evaluate(rows).map_err(text)?;
        let values = values.into_array(rows.num_rows()).map_err(text)?;
        let wanted = self.column_type.arrow();
        if *values.data_type() == wanted {
            return Ok(values);
        }
        // A value that the column cannot hold fails its row; by default it would become null.
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(&values, &wanted, &options).map_err(|error| error.to_string())
    }
}
