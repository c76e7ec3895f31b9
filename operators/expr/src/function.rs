//! Functions from outside, such as those of plugins: declared to the planner, called by a worker.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::DataFusionError;
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use thalweg_stream::expression::FailedRow;
use thalweg_stream::{ColumnType, Evaluated, Fault, Figures};

/// What a function takes and returns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionShape {
    /// Its arguments: name and type.
    pub arguments: Vec<(String, ColumnType)>,
    /// Type of its result.
    pub result: ColumnType,
}

/// The functions that expressions may use besides the built-in ones.
pub trait Functions: Send + Sync {
    /// The shape of the function `name` (`plugin.function`), if there is one.
    fn shape(&self, name: &str) -> Option<FunctionShape>;
    /// All their names.
    fn names(&self) -> Vec<String>;
    /// A caller of the function, for one worker.
    ///
    /// # Errors
    /// What instantiating a plugin may fail with.
    fn caller(&self, name: &str) -> Result<Box<dyn FunctionCaller>, Fault>;
}

/// Calls one function on one worker.
pub trait FunctionCaller: Send {
    /// Calls it for `rows` rows.
    ///
    /// # Errors
    /// Only what is no row's fault.
    fn call(&mut self, arguments: &[ArrayRef], rows: usize) -> Result<Evaluated, Fault>;

    /// Tells what metrics show of its calls.
    fn figures(&self, _figures: &mut dyn Figures) {}
}

/// A caller, shared by the expression that calls it and whoever asks for its figures.
pub(crate) type SharedCaller = Arc<Mutex<Box<dyn FunctionCaller>>>;

pub(crate) fn lock(caller: &SharedCaller) -> std::sync::MutexGuard<'_, Box<dyn FunctionCaller>> {
    caller.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows that failed during one evaluation, and how many rows the failing call saw.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pub(crate) rows: Vec<(FailedRow, usize)>,
    pub(crate) fault: Option<Fault>,
}

/// Where the calls of one expression on one worker put their failures.
pub(crate) type FailureSlot = Arc<Mutex<Failures>>;

pub(crate) fn open(slot: &FailureSlot) -> std::sync::MutexGuard<'_, Failures> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A function known by its shape only: for typing.
pub(crate) fn declared(name: &str, shape: FunctionShape) -> ScalarUDF {
    ScalarUDF::from(Outside::new(name, shape, None))
}

/// The same function with a caller: for a worker.
pub(crate) fn bound(
    name: &str,
    shape: FunctionShape,
    caller: SharedCaller,
    failures: FailureSlot,
) -> ScalarUDF {
    ScalarUDF::from(Outside::new(name, shape, Some((caller, failures))))
}

/// The error of a call whose arguments are not what the function takes, in the words of a
/// definition; nothing for a built-in function.
pub(crate) fn misfit(function: &ScalarUDF, given: &[FieldRef]) -> Option<DataFusionError> {
    let outside = (&**function.inner() as &dyn std::any::Any).downcast_ref::<Outside>()?;
    let takes: Vec<String> = (outside.shape.arguments.iter())
        .map(|(name, column_type)| format!("{name} {column_type}"))
        .collect();
    let given: Vec<String> = (given.iter())
        .map(|field| match crate::type_of(field.data_type()) {
            Some(column_type) => column_type.to_string(),
            None => field.data_type().to_string(),
        })
        .collect();
    let (name, takes, given) = (&outside.name, takes.join(", "), given.join(", "));
    Some(DataFusionError::Plan(format!(
        "{name} takes ({takes}), not ({given})"
    )))
}

struct Outside {
    name: String,
    shape: FunctionShape,
    signature: Signature,
    caller: Option<(SharedCaller, FailureSlot)>,
}

impl Outside {
    fn new(name: &str, shape: FunctionShape, caller: Option<(SharedCaller, FailureSlot)>) -> Self {
        let types = shape
            .arguments
            .iter()
            .map(|(_, column_type)| column_type.arrow());
        let arguments: Vec<DataType> = types.collect();
        let signature = if arguments.is_empty() {
            Signature::nullary(Volatility::Immutable)
        } else {
            Signature::exact(arguments, Volatility::Immutable)
        };
        Self {
            name: name.to_owned(),
            shape,
            signature,
            caller,
        }
    }
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside")
            .field("name", &self.name)
            .field("shape", &self.shape)
            .finish()
    }
}

impl PartialEq for Outside {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.shape) == (&other.name, &other.shape)
    }
}

impl Eq for Outside {}

impl Hash for Outside {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.shape).hash(state);
    }
}

impl ScalarUDFImpl for Outside {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(self.shape.result.arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let Some((caller, failures)) = &self.caller else {
            return Err(DataFusionError::Internal(format!(
                "{} has no caller",
                self.name
            )));
        };
        let rows = args.number_rows;
        let arguments = (args.args.iter())
            .map(|argument| argument.to_array(rows))
            .collect::<Result<Vec<_>, _>>()?;
        let called = lock(caller).call(&arguments, rows);
        let mut failures = open(failures);
        match called {
            Ok(Evaluated { values, failed }) => {
                failures
                    .rows
                    .extend(failed.into_iter().map(|row| (row, rows)));
                Ok(ColumnarValue::Array(values))
            }
            Err(fault) => {
                let message = format!("{}: {fault}", self.name);
                failures.fault.get_or_insert(fault);
                Err(DataFusionError::Execution(message))
            }
        }
    }
}
