//! Measures the hot path of a tumbling window: count, avg, min and max of a float by a short
//! string key. `cargo run --release -p thalweg-window --example agg_speed [KEYS]...`

#![allow(clippy::print_stdout, reason = "an example reports")]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringViewArray, TimestampMillisecondArray, UInt64Array,
};
use thalweg_stream::clock::{Clock, SystemClock};
use thalweg_stream::{
    BuildContext, Column, ColumnType, Epoch, EpochClose, EpochKind, Fault, OperatorFactory, Output,
    Progress, StreamSchema,
};
use thalweg_window::{AggregateSpec, Function, LateFate, LateSpec, TumblingFactory, TumblingSpec};

const BATCH_ROWS: usize = 8192;
const BATCHES: usize = 2000;

fn input() -> StreamSchema {
    StreamSchema::append(
        vec![
            Column::new("device", ColumnType::String),
            Column::new("speed", ColumnType::Float64),
        ],
        true,
    )
}

fn spec() -> TumblingSpec {
    let aggregate = |name: &str, function, argument| AggregateSpec {
        name: name.into(),
        function,
        argument,
        filter: None,
    };
    TumblingSpec {
        size_ms: 10_000,
        offset_ms: 0,
        by: vec![0],
        aggregates: vec![
            aggregate("n", Function::Count, None),
            aggregate("mean", Function::Avg, Some(1)),
            aggregate("least", Function::Min, Some(1)),
            aggregate("greatest", Function::Max, Some(1)),
        ],
        late: LateSpec {
            allowed_ms: 0,
            then: LateFate::Drop,
        },
    }
}

/// Rows of `keys` devices, each once a second of event time, in a shuffled order.
fn batch(number: usize, keys: usize) -> Result<RecordBatch, Fault> {
    let events = (0..BATCH_ROWS).map(|row| number * BATCH_ROWS + row);
    let device = |event: usize| event.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys;
    let names = events
        .clone()
        .map(|event| format!("dev-{:06}", device(event)));
    let times = events.clone().map(|event| (event * 1000 / keys) as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(names)),
        Arc::new(Float64Array::from_iter_values(
            events.map(|event| (event % 997) as f64 * 0.1),
        )),
        Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(UInt64Array::from_iter_values(0..BATCH_ROWS as u64)),
    ];
    Ok(RecordBatch::try_new(input().arrow(), columns)?)
}

fn measure(keys: usize) -> Result<(), Fault> {
    let clock = Arc::new(SystemClock::new());
    let context = BuildContext {
        step: Arc::from("window"),
        worker: 0,
        workers: 1,
        groups: 0..256,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
    };
    let mut operator = TumblingFactory::new(input(), spec())?.build(&context)?;
    let (mut apply, mut fire, mut results) = (Vec::new(), 0.0, 0);
    let mut freeze_ms = 0_f64;
    for number in 0..BATCHES {
        let batch = batch(number, keys)?;
        let mut out = Output::default();
        let start = clock.elapsed();
        operator.on_batch(0, &batch, &mut out)?;
        let applied = clock.elapsed();
        apply.push((applied - start).as_secs_f64() * 1e9 / BATCH_ROWS as f64);
        if number % 100 == 99 {
            let newest = ((number + 1) * BATCH_ROWS * 1000 / keys) as i64;
            let close = EpochClose {
                epoch: Epoch(number as u64),
                kind: EpochKind::Ordinary,
                inputs: &[Progress {
                    watermark: newest - 500,
                    ..Progress::START
                }],
            };
            let start = clock.elapsed();
            operator.on_epoch(&close, &mut out)?;
            fire += (clock.elapsed() - start).as_secs_f64();
            results += out.batches.iter().map(|(_, b)| b.num_rows()).sum::<usize>();
            let start = clock.elapsed();
            operator.freeze(false);
            freeze_ms = freeze_ms.max((clock.elapsed() - start).as_secs_f64() * 1e3);
            let mut sections = Vec::new();
            while !operator.drain(usize::MAX, &mut sections)? {}
        }
    }
    // The median of batches: others may use the machine too.
    apply.sort_by(f64::total_cmp);
    println!(
        "{keys:>8} keys: {:5.1} ns/row (best {:.1}), {:6.1} ns/result ({results}), longest freeze {freeze_ms:.3} ms",
        apply[BATCHES / 2],
        apply[0],
        fire * 1e9 / results.max(1) as f64,
    );
    Ok(())
}

fn main() -> Result<(), Fault> {
    let mut keys: Vec<usize> = (std::env::args().skip(1))
        .filter_map(|argument| argument.parse().ok())
        .collect();
    if keys.is_empty() {
        keys = vec![100, 10_000, 1_000_000];
    }
    keys.into_iter().try_for_each(measure)
}
