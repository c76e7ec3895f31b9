//! Rows and records of a fleet, and how an operator is built alone.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringViewArray, TimestampMillisecondArray, UInt64Array,
};
use thalweg_stream::clock::SystemClock;
use thalweg_stream::{BuildContext, Column, ColumnType, Fault, Operator, StreamSchema};

/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8192;

/// Numbers of keys over which the cost of a row is to be nearly the same.
pub(crate) const KEYS: [usize; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// Device and speed, with event time.
pub(crate) fn reports() -> StreamSchema {
    StreamSchema::append(
        vec![
            Column::new("device_id", ColumnType::String),
            Column::new("speed_kmh", ColumnType::Float64),
        ],
        true,
    )
}

/// Reports of `devices` devices, each once a second of event time, in a shuffled order.
pub(crate) fn report_batch(number: usize, devices: usize) -> Result<RecordBatch, Fault> {
    let events = (0..BATCH_ROWS).map(|row| number * BATCH_ROWS + row);
    let device = |event: usize| event.wrapping_mul(0x9e37_79b9_7f4a_7c15) % devices;
    let names = events
        .clone()
        .map(|event| format!("dev-{:06}", device(event)));
    let times = events.clone().map(|event| (event * 1000 / devices) as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(names)),
        Arc::new(Float64Array::from_iter_values(
            events.map(|event| (event % 997) as f64 * 0.1),
        )),
        timestamps(times),
        Arc::new(UInt64Array::from_iter_values(0..BATCH_ROWS as u64)),
    ];
    Ok(RecordBatch::try_new(reports().arrow(), columns)?)
}

/// A column of event times.
pub(crate) fn timestamps(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
}

/// An operator as the only worker of a job has it.
pub(crate) fn build(
    factory: &dyn thalweg_stream::OperatorFactory,
) -> Result<Box<dyn Operator>, Fault> {
    factory.build(&BuildContext {
        step: Arc::from("step"),
        worker: 0,
        workers: 1,
        groups: 0..256,
        clock: Arc::new(SystemClock::new()),
    })
}
