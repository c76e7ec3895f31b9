//! Measures: what the aggregates of a window need to remember, and where in the slot it lies.
//!
//! Aggregates of the same argument and filter share one measure, so that `avg(x)`, `min(x)` and
//! `max(x)` read x once and keep one count. Word 0 of every slot is the number of its rows.

use thalweg_stream::{ColumnType, StreamSchema};

use crate::spec::{AggregateSpec, Function, SpecError, column};

/// The word that holds the number of rows.
pub(crate) const ROWS: usize = 0;

/// How the values of a measure are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// They are only counted.
    None,
    /// Integers, dates, timestamps, booleans: a sum in two words (i128), extremes in one.
    Int,
    /// Floats: a compensated sum in two words, extremes in one (rank).
    Float,
    /// Decimals: sum and extremes in two words (i128).
    Decimal,
    /// Strings and bytes: extremes in the payload, at these places of it.
    Bytes,
}

/// What is remembered of one argument under one filter. Positions are words of the slot, for the
/// extremes of [`Numbers::Bytes`] entries of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) argument: Option<usize>,
    pub(crate) filter: Option<usize>,
    pub(crate) numbers: Numbers,
    /// Digits behind the point, of a decimal argument.
    pub(crate) argument_scale: i8,
    /// Values that took part; [`ROWS`] if they all do.
    pub(crate) count: usize,
    pub(crate) sum: Option<usize>,
    pub(crate) min: Option<usize>,
    pub(crate) max: Option<usize>,
    pub(crate) distinct: Option<usize>,
}

/// All measures of a window, and the size of its slots.
#[derive(Clone, Debug)]
pub(crate) struct Measures {
    pub(crate) list: Vec<Measure>,
    /// Words per slot.
    pub(crate) words: usize,
    /// Entries of the payload.
    pub(crate) payload_entries: usize,
    /// Per aggregate, the measure it reads.
    pub(crate) of_aggregate: Vec<usize>,
}

impl Measures {
    pub(crate) fn new(
        input: &StreamSchema,
        aggregates: &[AggregateSpec],
    ) -> Result<Self, SpecError> {
        let mut measures = Self {
            list: Vec::new(),
            words: ROWS + 1,
            payload_entries: 0,
            of_aggregate: Vec::new(),
        };
        for aggregate in aggregates {
            let at = measures.position(input, aggregate)?;
            measures.of_aggregate.push(at);
            measures.provide(at, aggregate.function);
        }
        Ok(measures)
    }

    fn position(
        &mut self,
        input: &StreamSchema,
        aggregate: &AggregateSpec,
    ) -> Result<usize, SpecError> {
        let (argument, filter) = (aggregate.argument, aggregate.filter);
        let known = (self.list.iter()).position(|m| m.argument == argument && m.filter == filter);
        if let Some(at) = known {
            return Ok(at);
        }
        let mut scale_of_argument = 0;
        let (numbers, required) = match argument {
            None => (Numbers::None, true),
            Some(at) => {
                let column = column(input, at)?;
                if let ColumnType::Decimal { scale, .. } = column.column_type {
                    scale_of_argument = scale;
                }
                (numbers(&column.column_type), column.required)
            }
        };
        let count = if filter.is_none() && required {
            ROWS
        } else {
            self.words(1)
        };
        self.list.push(Measure {
            argument,
            filter,
            numbers,
            argument_scale: scale_of_argument,
            count,
            sum: None,
            min: None,
            max: None,
            distinct: None,
        });
        Ok(self.list.len() - 1)
    }

    fn words(&mut self, count: usize) -> usize {
        let at = self.words;
        self.words += count;
        at
    }

    /// Makes room for what `function` needs, unless another aggregate did.
    fn provide(&mut self, at: usize, function: Function) {
        let measure = self.list[at].clone();
        match function {
            Function::Count => {}
            Function::Sum | Function::Avg if measure.sum.is_none() => {
                self.list[at].sum = Some(self.words(2));
            }
            Function::Min if measure.min.is_none() => {
                self.list[at].min = Some(self.extreme(measure.numbers));
            }
            Function::Max if measure.max.is_none() => {
                self.list[at].max = Some(self.extreme(measure.numbers));
            }
            Function::CountDistinct if measure.distinct.is_none() => {
                self.list[at].distinct = Some(self.words(1));
            }
            Function::Sum
            | Function::Avg
            | Function::Min
            | Function::Max
            | Function::CountDistinct => {}
        }
    }

    fn extreme(&mut self, numbers: Numbers) -> usize {
        match numbers {
            Numbers::Bytes => {
                self.payload_entries += 1;
                self.payload_entries - 1
            }
            Numbers::Decimal => self.words(2),
            Numbers::Int | Numbers::Float | Numbers::None => self.words(1),
        }
    }

    /// What the slots hold, in words that are compared before a restore.
    pub(crate) fn shape(&self, input: &StreamSchema) -> String {
        let name = |at: Option<usize>| match at.and_then(|at| input.columns.get(at)) {
            Some(column) => format!("{}:{}", column.name, column.column_type),
            None => "*".to_owned(),
        };
        let measures: Vec<String> = (self.list.iter())
            .map(|m| {
                let [sum, min, max, distinct] = [m.sum, m.min, m.max, m.distinct]
                    .map(|at| at.map_or_else(String::new, |at| at.to_string()));
                let filter = m
                    .filter
                    .map_or_else(String::new, |at| format!(" where {}", name(Some(at))));
                format!(
                    "{}{filter} n={} sum={sum} min={min} max={max} distinct={distinct}",
                    name(m.argument),
                    m.count
                )
            })
            .collect();
        measures.join("; ")
    }
}

pub(crate) fn numbers(argument: &ColumnType) -> Numbers {
    match argument {
        ColumnType::Bool
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::Date
        | ColumnType::Timestamp => Numbers::Int,
        ColumnType::Float32 | ColumnType::Float64 => Numbers::Float,
        ColumnType::Decimal { .. } => Numbers::Decimal,
        ColumnType::String | ColumnType::Binary => Numbers::Bytes,
        ColumnType::Json | ColumnType::List(_) => Numbers::None,
    }
}
