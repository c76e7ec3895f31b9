//! Result rows: accumulators become columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int32Array, Int64Array, RecordBatch, StringViewBuilder,
    TimestampMillisecondArray, UInt8Array, UInt64Array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use thalweg_state::{ColumnBuilder, Entry, Reader};
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::{BATCH_ROWS_MAX, DeadClass, DeadLetter, Fault, Origin, Output, StreamSchema};

use crate::accumulator::{float_sum, int, unrank};
use crate::kernel::text;
use crate::measure::{Measure, Numbers, ROWS, rows};
use crate::spec::Function;

/// Collects the results of windows into batches.
#[derive(Debug)]
pub(crate) struct Outcome {
    schema: StreamSchema,
    arrow: SchemaRef,
    starts: Vec<i64>,
    ends: Vec<i64>,
    keys: Vec<ColumnBuilder>,
    results: Vec<ResultColumn>,
    changes: Vec<u8>,
    origins: Vec<u64>,
    /// Rows of which a result does not fit its type, with the result's position.
    failed: Vec<(usize, usize)>,
}

impl Outcome {
    /// For results of `schema`, whose first columns after the window are `keys` key columns.
    pub(crate) fn new(
        schema: StreamSchema,
        keys: usize,
        results: Vec<Reading>,
    ) -> Result<Self, Fault> {
        let type_at = |at: usize| {
            let column = schema.columns.get(at);
            column
                .map(|column| column.column_type.arrow())
                .ok_or_else(|| Fault::bug("result column is missing"))
        };
        let keys: Vec<ColumnBuilder> = (0..keys)
            .map(|at| ColumnBuilder::new(&type_at(2 + at)?))
            .collect::<Result<_, Fault>>()?;
        let results = (results.into_iter().enumerate())
            .map(|(at, reading)| ResultColumn::new(reading, type_at(2 + keys.len() + at)?))
            .collect::<Result<_, Fault>>()?;
        Ok(Self {
            arrow: schema.arrow(),
            schema,
            starts: Vec::new(),
            ends: Vec::new(),
            keys,
            results,
            changes: Vec::new(),
            origins: Vec::new(),
            failed: Vec::new(),
        })
    }

    /// Adds the result of one key of the window from `start` to `end`.
    pub(crate) fn push(
        &mut self,
        window: (i64, i64),
        entry: &Entry<'_>,
        change: u8,
        out: &mut Output,
    ) -> Result<(), Fault> {
        let mut key = Reader::new(entry.key.as_slice());
        for builder in &mut self.keys {
            builder.push(&mut key)?;
        }
        key.end()?;
        for (at, result) in self.results.iter_mut().enumerate() {
            if !result.push(entry) {
                self.failed.push((self.starts.len(), at));
            }
        }
        self.starts.push(window.0);
        self.ends.push(window.1);
        self.changes.push(change);
        self.origins.push(Origin::derived(entry.hash).0);
        if self.starts.len() >= BATCH_ROWS_MAX {
            self.flush(out)?;
        }
        Ok(())
    }

    /// Puts out what was added.
    pub(crate) fn flush(&mut self, out: &mut Output) -> Result<(), Fault> {
        if self.starts.is_empty() {
            return Ok(());
        }
        let starts = std::mem::take(&mut self.starts);
        let ends = std::mem::take(&mut self.ends);
        let times: Vec<i64> = ends.iter().map(|end| end.saturating_sub(1)).collect();
        let mut columns = vec![timestamps(starts), timestamps(ends)];
        for key in &mut self.keys {
            columns.push(key.finish()?);
        }
        for result in &mut self.results {
            columns.push(result.finish()?);
        }
        columns.push(timestamps(times));
        let changes = std::mem::take(&mut self.changes);
        if self.schema.change_at().is_some() {
            columns.push(Arc::new(UInt8Array::from(changes)));
        }
        columns.push(Arc::new(UInt64Array::from(std::mem::take(
            &mut self.origins,
        ))));
        let batch = RecordBatch::try_new(Arc::clone(&self.arrow), columns)?;
        if self.failed.is_empty() {
            out.emit(batch);
            return Ok(());
        }
        self.refuse(&batch, out)
    }

    /// Puts out the rows that have all their results; the others become dead letters.
    fn refuse(&mut self, batch: &RecordBatch, out: &mut Output) -> Result<(), Fault> {
        let mut whole = vec![true; batch.num_rows()];
        let times = self.schema.event_times(batch)?;
        let origins = self.schema.origins(batch)?;
        for (row, result) in std::mem::take(&mut self.failed) {
            if !std::mem::replace(&mut whole[row], false) {
                continue;
            }
            let column = &self.schema.columns[2 + self.keys.len() + result];
            let (code, message) = match self.results[result].reading.counts() {
                true => (
                    "unknown-rows",
                    format!("\"{}\" does not know all rows of its window", column.name),
                ),
                false => (
                    "overflow",
                    format!("\"{}\" does not fit {}", column.name, column.column_type),
                ),
            };
            out.dead(DeadLetter {
                class: DeadClass::Operator,
                code,
                message,
                origin: Origin(origins[row]),
                event_time: Some(times[row]),
                remains: Remains::Row {
                    batch: batch.clone(),
                    row,
                },
                plugin: None,
            });
        }
        out.emit(filter_record_batch(batch, &BooleanArray::from(whole))?);
        Ok(())
    }
}

fn timestamps(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC"))
}

/// Where one aggregate gets its results from.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) function: Function,
    pub(crate) measure: Measure,
    /// The bit that says that it does not know all rows.
    pub(crate) unknown: u64,
}

impl Reading {
    fn counts(&self) -> bool {
        matches!(self.function, Function::Count | Function::CountDistinct)
    }
}

/// One aggregate's column of results.
#[derive(Debug)]
pub(crate) struct ResultColumn {
    reading: Reading,
    data_type: DataType,
    /// Ten to the power of the argument's scale, for averages of decimals.
    unit: f64,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Decimal(Vec<Option<i128>>),
    Text(StringViewBuilder),
    Binary(BinaryViewBuilder),
}

/// The greatest decimal of 38 digits.
const DECIMAL_MAX: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

impl ResultColumn {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the types of results are few"
    )]
    pub(crate) fn new(reading: Reading, data_type: DataType) -> Result<Self, Fault> {
        let values = match &data_type {
            DataType::Float64 | DataType::Float32 => Values::Float(Vec::new()),
            DataType::Decimal128(_, _) => Values::Decimal(Vec::new()),
            DataType::Utf8View => Values::Text(StringViewBuilder::new()),
            DataType::BinaryView => Values::Binary(BinaryViewBuilder::new()),
            DataType::Boolean
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Timestamp(_, _) => Values::Int(Vec::new()),
            other => return Err(Fault::bug(format!("no aggregate has type {other}"))),
        };
        Ok(Self {
            unit: 10_f64.powi(i32::from(reading.measure.argument_scale)),
            reading,
            data_type,
            values,
        })
    }

    /// Adds the result for `entry`; false, with null added, if it does not fit, or if it is a count
    /// that does not know all rows.
    pub(crate) fn push(&mut self, entry: &Entry<'_>) -> bool {
        let words = entry.words;
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        let wide = |at: usize| [word(at), word(at + 1)];
        let Reading {
            function,
            measure,
            unknown,
        } = &self.reading;
        let count = match measure.count {
            ROWS => rows(word(ROWS)),
            at => word(at),
        };
        let at = match function {
            Function::Count => Some(measure.count),
            Function::CountDistinct => measure.distinct,
            Function::Sum | Function::Avg => measure.sum,
            Function::Min => measure.min,
            Function::Max => measure.max,
        };
        let counts = self.reading.counts();
        let known = word(ROWS) & unknown == 0;
        // Of nothing, everything but a count is null.
        let at = at.filter(|_| counts || known && count > 0);
        let total = matches!(function, Function::Sum | Function::Avg);
        let mut fits = known || !counts;
        match &mut self.values {
            Values::Int(values) => values.push(at.and_then(|at| {
                if at == ROWS {
                    return Some(count as i64);
                }
                if !total {
                    return Some(word(at) as i64);
                }
                let sum = i64::try_from(int(wide(at))).ok();
                fits = sum.is_some();
                sum
            })),
            Values::Float(values) => values.push(at.map(|at| {
                let sum = match measure.numbers {
                    _ if !total => return unrank(word(at) as i64),
                    Numbers::Float => float_sum(wide(at)),
                    Numbers::Int | Numbers::Decimal | Numbers::Bytes | Numbers::None => {
                        int(wide(at)) as f64 / self.unit
                    }
                };
                match function {
                    Function::Avg => sum / count as f64,
                    Function::Sum
                    | Function::Min
                    | Function::Max
                    | Function::Count
                    | Function::CountDistinct => sum,
                }
            })),
            Values::Decimal(values) => values.push(at.and_then(|at| {
                let value = int(wide(at));
                fits = (-DECIMAL_MAX..=DECIMAL_MAX).contains(&value);
                fits.then_some(value)
            })),
            Values::Text(values) => {
                let bytes = at.and_then(|at| text(entry.payload, at));
                // It was a string when it went in.
                values.append_option(bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()));
            }
            Values::Binary(values) => {
                values.append_option(at.and_then(|at| text(entry.payload, at)));
            }
        }
        fits
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the types of results are few"
    )]
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, Fault> {
        Ok(match &mut self.values {
            Values::Int(values) => {
                let values = std::mem::take(values);
                match &self.data_type {
                    DataType::Boolean => Arc::new(
                        (values.into_iter().map(|v| v.map(|v| v != 0))).collect::<BooleanArray>(),
                    ),
                    DataType::Int32 => Arc::new(
                        (values.into_iter().map(|v| v.map(|v| v as i32))).collect::<Int32Array>(),
                    ),
                    DataType::Date32 => Arc::new(
                        (values.into_iter().map(|v| v.map(|v| v as i32))).collect::<Date32Array>(),
                    ),
                    DataType::Timestamp(_, _) => {
                        Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC"))
                    }
                    _ => Arc::new(Int64Array::from(values)),
                }
            }
            Values::Float(values) => {
                let values = std::mem::take(values);
                match &self.data_type {
                    DataType::Float32 => Arc::new(
                        (values.into_iter().map(|v| v.map(|v| v as f32))).collect::<Float32Array>(),
                    ),
                    _ => Arc::new(Float64Array::from(values)),
                }
            }
            Values::Decimal(values) => Arc::new(
                Decimal128Array::from(std::mem::take(values))
                    .with_data_type(self.data_type.clone()),
            ),
            Values::Text(values) => Arc::new(values.finish()),
            Values::Binary(values) => Arc::new(values.finish()),
        })
    }
}
