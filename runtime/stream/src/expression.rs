//! Expressions over a batch, as operators see them: who compiles them is not their business.

use arrow::array::{ArrayRef, RecordBatch};

use crate::column::ColumnType;
use crate::fault::Fault;
use crate::figure::Figures;

/// A compiled scalar expression, used by one worker.
///
/// The planner injects implementations (SQL, plugin functions), so that windows and enrichment
/// need neither DataFusion nor wasmtime.
pub trait Expression: Send {
    /// The type of the result.
    fn column_type(&self) -> ColumnType;

    /// Evaluates every row of `batch`.
    ///
    /// # Errors
    /// Only what is no row's fault; a row that fails is listed in [`Evaluated::failed`].
    fn evaluate(&mut self, batch: &RecordBatch) -> Result<Evaluated, Fault>;

    /// Tells what metrics show of it: a plugin's calls, say.
    fn figures(&self, _figures: &mut dyn Figures) {}
}

/// The result of an expression: one value a row, and the rows that have none.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// One value per row of the input; undefined for failed rows.
    pub values: ArrayRef,
    /// Rows that failed, ascending, with what went wrong.
    pub failed: Vec<FailedRow>,
}

/// Why one row has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRow {
    /// Its position in the batch.
    pub row: usize,
    /// A stable word for the kind of failure, such as `overflow` or `plugin-trap`.
    pub code: &'static str,
    /// What went wrong.
    pub message: String,
    /// SHA-256 of the plugin that failed, in hexadecimal, if one did.
    pub plugin: Option<std::sync::Arc<str>>,
}

impl Evaluated {
    /// A result in which every row has a value.
    #[must_use]
    pub fn whole(values: ArrayRef) -> Self {
        Self {
            values,
            failed: Vec::new(),
        }
    }
}

/// Makes one [`Expression`] per worker.
pub trait ExpressionFactory: Send + Sync + std::fmt::Debug {
    /// The type of the result.
    fn column_type(&self) -> ColumnType;
    /// An instance of its own.
    ///
    /// # Errors
    /// What instantiating a plugin may fail with.
    fn build(&self) -> Result<Box<dyn Expression>, Fault>;
}
