//! Measures enrichment from a table of 100 000 rows, newest row and `as_of`.
//! `cargo run --release -p thalweg-enrich --example enrich_speed`

#![allow(clippy::print_stdout, reason = "an example reports")]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, RecordBatch, StringViewArray, TimestampMillisecondArray, UInt64Array,
};
use thalweg_enrich::{AsOf, EnrichFactory, EnrichSpec, Missing};
use thalweg_stream::clock::{Clock, SystemClock};
use thalweg_stream::{
    BuildContext, Column, ColumnType, Epoch, EpochClose, EpochKind, Fault, OperatorFactory, Output,
    Progress, StreamSchema,
};

const BATCH_ROWS: usize = 8192;
const EPOCH_BATCHES: usize = 12;
const EPOCHS: usize = 60;
const KEYS: usize = 100_000;

fn schema(column: &str) -> StreamSchema {
    StreamSchema::append(
        vec![
            Column::new("segment", ColumnType::String),
            Column::new(column, ColumnType::Float64),
        ],
        true,
    )
}

/// Rows of one event time, their keys spread over all there are.
fn batch(column: &str, rows: std::ops::Range<usize>, time: i64) -> Result<RecordBatch, Fault> {
    let keys = rows
        .clone()
        .map(|row| format!("seg-{:06}", row * 7919 % KEYS));
    let times = rows.clone().map(|_| time);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(keys)),
        Arc::new(Float64Array::from_iter_values(
            rows.clone().map(|row| row as f64),
        )),
        Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(UInt64Array::from_iter_values(rows.map(|row| row as u64))),
    ];
    Ok(RecordBatch::try_new(schema(column).arrow(), columns)?)
}

fn measure(name: &str, as_of: Option<AsOf>, table_behind_ms: i64) -> Result<(), Fault> {
    let clock = Arc::new(SystemClock::new());
    let context = BuildContext {
        step: Arc::from("enrich"),
        worker: 0,
        workers: 1,
        groups: 0..256,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
    };
    let spec = EnrichSpec {
        on: vec![(0, 0)],
        table_key: vec![0],
        take: vec![(1, "rain".into())],
        missing: Missing::Keep,
        as_of,
    };
    let factory = EnrichFactory::new(schema("speed"), schema("rain"), spec)?;
    let mut operator = factory.build(&context)?;
    let mut each = Vec::new();
    let mut passed = 0;
    for epoch in 0..EPOCHS {
        let time = epoch as i64 * 100;
        let batches = (0..EPOCH_BATCHES)
            .map(|number| {
                let from = (epoch * EPOCH_BATCHES + number) * BATCH_ROWS;
                batch("speed", from..from + BATCH_ROWS, time)
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        let mut out = Output::default();
        if epoch == 0 {
            for from in (0..KEYS).step_by(BATCH_ROWS) {
                let table = batch("rain", from..(from + BATCH_ROWS).min(KEYS), 0)?;
                operator.on_batch(1, &table, &mut out)?;
            }
        }
        let start = clock.elapsed();
        for batch in &batches {
            operator.on_batch(0, batch, &mut out)?;
        }
        let at = |watermark| Progress {
            watermark,
            ..Progress::START
        };
        let close = EpochClose {
            epoch: Epoch(epoch as u64 + 1),
            kind: EpochKind::Ordinary,
            inputs: &[at(time), at(time - table_behind_ms)],
        };
        operator.on_epoch(&close, &mut out)?;
        let rows = (EPOCH_BATCHES * BATCH_ROWS) as f64;
        each.push((clock.elapsed() - start).as_secs_f64() * 1e9 / rows);
        passed += out.ledger.passed;
    }
    // The median of epochs: others may use the machine too.
    each.sort_by(f64::total_cmp);
    println!(
        "{name}: {:.1} ns/row (best {:.1}), {passed} answered",
        each[EPOCHS / 2],
        each[0]
    );
    Ok(())
}

fn main() -> Result<(), Fault> {
    let rule = Some(AsOf { wait_ms: 30_000 });
    measure("newest row", None, 0)?;
    measure("as of, table in step", rule, 0)?;
    measure("as of, table 500 ms behind", rule, 500)
}
