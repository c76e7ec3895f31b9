//! Measures: what the aggregates of a window need to remember, and where in the slot it lies.
//!
//! Aggregates of the same argument and filter share one measure, so that `avg(x)`, `min(x)` and
//! `max(x)` read x once and keep one count. Word 0 of every slot is the number of its rows.

use thalweg_state::Layout;
use thalweg_stream::{ColumnType, StreamSchema};

use crate::spec::{AggregateSpec, Function, SpecError, column};

/// The word that holds the number of rows, in its lower [`ROWS_BITS`] bits. Those above say, in the
/// order of [`Measures::accumulators`], which accumulators do not know all of these rows, as they
/// were asked for only later.
pub(crate) const ROWS: usize = 0;
/// See [`ROWS`].
pub(crate) const ROWS_BITS: u32 = 48;

/// The number of rows in the word [`ROWS`].
#[inline]
pub(crate) fn rows(word: u64) -> u64 {
    word & ((1 << ROWS_BITS) - 1)
}

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

impl Measure {
    /// Where it keeps what `function` needs, and how many words that is: of an entry of the payload
    /// none.
    pub(crate) fn place(&self, function: Function) -> Option<(usize, usize)> {
        let extreme = match self.numbers {
            Numbers::Bytes => 0,
            Numbers::Decimal => 2,
            Numbers::Int | Numbers::Float | Numbers::None => 1,
        };
        match function {
            Function::Count => Some((self.count, 1)),
            Function::Sum | Function::Avg => Some((self.sum?, 2)),
            Function::Min => Some((self.min?, extreme)),
            Function::Max => Some((self.max?, extreme)),
            Function::CountDistinct => Some((self.distinct?, 1)),
        }
    }
}

/// All measures of a window, and the size of its slots.
#[derive(Clone, Debug, Default)]
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

    /// How slots are laid out.
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            words: self.words,
            payload: self.payload_entries > 0,
        }
    }

    /// The accumulators there are, as measure and function, in the order of their bits.
    pub(crate) fn accumulators(&self) -> impl Iterator<Item = (usize, Function)> + '_ {
        let all = [
            Function::Count,
            Function::Sum,
            Function::Min,
            Function::Max,
            Function::CountDistinct,
        ];
        let each = (0..self.list.len()).flat_map(move |at| all.map(|function| (at, function)));
        each.filter(|&(at, function)| self.has(at, function))
    }

    /// Whether a measure has an accumulator of its own for `function`.
    pub(crate) fn has(&self, measure: usize, function: Function) -> bool {
        let place = (self.list.get(measure)).and_then(|measure| measure.place(function));
        place.is_some_and(|(at, _)| function != Function::Count || at != ROWS)
    }

    /// The bit of an accumulator in the word [`ROWS`], if it has one.
    pub(crate) fn unknown_bit(&self, measure: usize, function: Function) -> Option<u64> {
        let function = match function {
            Function::Avg => Function::Sum,
            Function::Count
            | Function::Sum
            | Function::Min
            | Function::Max
            | Function::CountDistinct => function,
        };
        let at = self
            .accumulators()
            .position(|one| one == (measure, function))?;
        1_u64.checked_shl(ROWS_BITS + u32::try_from(at).ok()?)
    }

    /// The argument and filter of a measure, in words.
    pub(crate) fn label(measure: &Measure, input: &StreamSchema) -> String {
        let name = |at: Option<usize>| match at.and_then(|at| input.columns.get(at)) {
            Some(column) => format!("{}:{}", column.name, column.column_type),
            None => "*".to_owned(),
        };
        let filter =
            (measure.filter).map_or_else(String::new, |at| format!(" where {}", name(Some(at))));
        format!("{}{filter}", name(measure.argument))
    }

    /// What the slots hold, in words that are compared before a restore.
    pub(crate) fn shape(&self, input: &StreamSchema) -> String {
        let measures: Vec<String> = (self.list.iter())
            .map(|m| {
                let [sum, min, max, distinct] = [m.sum, m.min, m.max, m.distinct]
                    .map(|at| at.map_or_else(String::new, |at| at.to_string()));
                format!(
                    "{} n={} sum={sum} min={min} max={max} distinct={distinct}",
                    Self::label(m, input),
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
