//! What a window step is asked to do, checked against its input.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_stream::schema::is_system;
use thalweg_stream::{Column, ColumnType, Fault, StreamKind, StreamSchema};

/// A tumbling window: every row belongs to exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TumblingSpec {
    /// Length of a window, milliseconds.
    pub size_ms: i64,
    /// Windows start at multiples of the size plus this, milliseconds; taken modulo the size.
    pub offset_ms: i64,
    /// Positions of the columns that form the key; none for one result per window.
    pub by: Vec<usize>,
    /// What is computed, in the order of the output's columns.
    pub aggregates: Vec<AggregateSpec>,
    /// What becomes of late rows.
    pub late: LateSpec,
}

/// One aggregate of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateSpec {
    /// Name of the result column.
    pub name: Arc<str>,
    /// What is computed.
    pub function: Function,
    /// Position of the column it is computed of; only a count may have none (it counts rows).
    pub argument: Option<usize>,
    /// Position of a boolean column: only rows where it is true take part.
    pub filter: Option<usize>,
}

/// What an aggregate computes. Nulls take no part in any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// Number of rows, or of values that are not null.
    Count,
    /// Sum; null of nothing.
    Sum,
    /// Arithmetic mean; null of nothing.
    Avg,
    /// Least value; null of nothing. Floats by total order, so that NaN is the greatest.
    Min,
    /// Greatest value; null of nothing.
    Max,
    /// Number of different values.
    CountDistinct,
}

/// What becomes of rows whose window has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateSpec {
    /// For how long after its end (milliseconds of event time) a window still takes rows. If not
    /// zero, results are changes: a first insert, then updates with the full result again.
    pub allowed_ms: i64,
    /// What becomes of rows that are later still.
    pub then: LateFate,
}

/// What becomes of a row that no window takes any more; it is counted in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LateFate {
    /// It is gone.
    Drop,
    /// It becomes a dead letter of class `late`.
    DeadLetter,
    /// It goes out at the port `late`, as it came in.
    Output,
}

/// Why a window cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The input carries no event time.
    #[error("a window needs event time, and its input carries none")]
    NoTime,
    /// The input is a stream of changes.
    #[error("a window cannot take a stream of changes: its rows would be counted twice")]
    Changes,
    /// The size is not positive.
    #[error("a window must be longer than nothing")]
    Size,
    /// The allowed lateness is negative.
    #[error("the allowed lateness must not be negative")]
    Lateness,
    /// A position that the input does not have.
    #[error("there is no column at position {0}")]
    NoColumn(usize),
    /// Two result columns of one name, or a reserved one.
    #[error("column \"{0}\" is given twice or reserved")]
    Name(Arc<str>),
    /// An aggregate has no argument and needs one.
    #[error("{function:?} of \"{name}\" needs an argument")]
    NoArgument {
        /// The result column.
        name: Arc<str>,
        /// The function.
        function: Function,
    },
    /// An aggregate does not apply to the type of its argument.
    #[error("{function:?} does not apply to type {argument}")]
    Argument {
        /// The function.
        function: Function,
        /// The argument's type.
        argument: ColumnType,
    },
    /// A filter that is no condition.
    #[error("the filter of \"{0}\" is not of type bool")]
    Filter(Arc<str>),
}

impl From<SpecError> for Fault {
    fn from(error: SpecError) -> Self {
        Self::user(error.to_string())
    }
}

impl Function {
    /// The type of the result for an argument of type `argument` (none for a count of rows).
    ///
    /// # Errors
    /// If the function does not apply to it.
    pub(crate) fn result_type(
        self,
        argument: Option<&ColumnType>,
    ) -> Result<ColumnType, SpecError> {
        let Some(argument) = argument else {
            return match self {
                Self::Count => Ok(ColumnType::Int64),
                Self::Sum | Self::Avg | Self::Min | Self::Max | Self::CountDistinct => {
                    Err(SpecError::NoArgument {
                        name: Arc::from(""),
                        function: self,
                    })
                }
            };
        };
        let refused = || SpecError::Argument {
            function: self,
            argument: argument.clone(),
        };
        Ok(match self {
            Self::Count | Self::CountDistinct => ColumnType::Int64,
            Self::Sum => match argument {
                ColumnType::Int32 | ColumnType::Int64 => ColumnType::Int64,
                ColumnType::Float32 | ColumnType::Float64 => ColumnType::Float64,
                ColumnType::Decimal { scale, .. } => ColumnType::Decimal {
                    precision: 38,
                    scale: *scale,
                },
                ColumnType::Bool
                | ColumnType::String
                | ColumnType::Binary
                | ColumnType::Date
                | ColumnType::Timestamp
                | ColumnType::Json
                | ColumnType::List(_) => return Err(refused()),
            },
            Self::Avg => {
                Self::Sum
                    .result_type(Some(argument))
                    .map_err(|_| refused())?;
                ColumnType::Float64
            }
            Self::Min | Self::Max => match argument {
                ColumnType::Json | ColumnType::List(_) => return Err(refused()),
                ColumnType::Bool
                | ColumnType::Int32
                | ColumnType::Int64
                | ColumnType::Float32
                | ColumnType::Float64
                | ColumnType::Decimal { .. }
                | ColumnType::String
                | ColumnType::Binary
                | ColumnType::Date
                | ColumnType::Timestamp => argument.clone(),
            },
        })
    }
}

impl TumblingSpec {
    /// The schema of the results: `window_start`, `window_end`, the key, the aggregates.
    ///
    /// # Errors
    /// Whatever does not fit the input.
    pub fn output(&self, input: &StreamSchema) -> Result<StreamSchema, SpecError> {
        if !input.timed {
            return Err(SpecError::NoTime);
        }
        if input.kind != StreamKind::Append {
            return Err(SpecError::Changes);
        }
        if self.size_ms <= 0 {
            return Err(SpecError::Size);
        }
        if self.late.allowed_ms < 0 {
            return Err(SpecError::Lateness);
        }
        let required = |name: &str| Column {
            name: name.into(),
            column_type: ColumnType::Timestamp,
            required: true,
        };
        let mut columns = vec![required("window_start"), required("window_end")];
        for &at in &self.by {
            columns.push(column(input, at)?.clone());
        }
        for aggregate in &self.aggregates {
            columns.push(aggregate.column(input)?);
        }
        for (at, column) in columns.iter().enumerate() {
            let twice = columns[..at]
                .iter()
                .any(|before| before.name == column.name);
            if twice || is_system(&column.name) {
                return Err(SpecError::Name(Arc::clone(&column.name)));
            }
        }
        let kind = if self.late.allowed_ms == 0 {
            StreamKind::Append
        } else {
            // The start says which window it is; the end follows from it.
            let by = 2..2 + self.by.len();
            StreamKind::Changes {
                key: std::iter::once(0).chain(by).collect(),
            }
        };
        Ok(StreamSchema {
            columns,
            timed: true,
            kind,
        })
    }
}

impl AggregateSpec {
    fn column(&self, input: &StreamSchema) -> Result<Column, SpecError> {
        if let Some(at) = self.filter
            && column(input, at)?.column_type != ColumnType::Bool
        {
            return Err(SpecError::Filter(Arc::clone(&self.name)));
        }
        let argument = match self.argument {
            Some(at) => Some(&column(input, at)?.column_type),
            None if self.function != Function::Count => {
                return Err(SpecError::NoArgument {
                    name: Arc::clone(&self.name),
                    function: self.function,
                });
            }
            None => None,
        };
        Ok(Column {
            name: Arc::clone(&self.name),
            column_type: self.function.result_type(argument)?,
            required: matches!(self.function, Function::Count | Function::CountDistinct),
        })
    }
}

/// The user's column at a position.
pub(crate) fn column(input: &StreamSchema, at: usize) -> Result<&Column, SpecError> {
    input.columns.get(at).ok_or(SpecError::NoColumn(at))
}
