//! Enrichment from a table of 100 000 rows: its newest row, and the row as of an event's time.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringViewArray, UInt64Array};
use thalweg_enrich::{AsOf, EnrichFactory, EnrichSpec, Missing};
use thalweg_stream::{
    Column, ColumnType, Epoch, EpochClose, EpochKind, Fault, Output, Progress, StreamSchema,
};

use crate::fleet::{BATCH_ROWS, KEYS, build, timestamps};
use crate::stopwatch::{per_row, report};

const EPOCH_BATCHES: usize = 12;
const EPOCHS: usize = 60;
const TABLE_KEYS: usize = 100_000;

fn schema(column: &str) -> StreamSchema {
    StreamSchema::append(
        vec![
            Column::new("segment", ColumnType::String),
            Column::new(column, ColumnType::Float64),
        ],
        true,
    )
}

/// Rows of one event time, their keys spread over as many as there are.
fn batch(column: &str, rows: Range<usize>, time: i64, keys: usize) -> Result<RecordBatch, Fault> {
    let keys = rows
        .clone()
        .map(|row| format!("seg-{:07}", row * 7919 % keys));
    let times = rows.clone().map(|_| time);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(keys)),
        Arc::new(Float64Array::from_iter_values(
            rows.clone().map(|row| row as f64),
        )),
        timestamps(times),
        Arc::new(UInt64Array::from_iter_values(rows.map(|row| row as u64))),
    ];
    Ok(RecordBatch::try_new(schema(column).arrow(), columns)?)
}

pub(crate) fn measure() -> Result<(), Fault> {
    let rule = Some(AsOf {
        late_ms: 0,
        wait_ms: Some(30_000),
    });
    with("enrichment, newest row", None, 0, TABLE_KEYS)?;
    with("enrichment, as of the event's time", rule, 0, TABLE_KEYS)?;
    with(
        "enrichment, as of, the table 500 ms behind",
        rule,
        500,
        TABLE_KEYS,
    )
}

/// What a row costs beside tables of so many rows.
pub(crate) fn measure_keys() -> Result<(), Fault> {
    for keys in KEYS {
        with(
            &format!("enrichment, newest row, {keys} keys"),
            None,
            0,
            keys,
        )?;
    }
    Ok(())
}

fn with(what: &str, as_of: Option<AsOf>, table_behind_ms: i64, keys: usize) -> Result<(), Fault> {
    let spec = EnrichSpec {
        table: "weather".into(),
        on: vec![(0, 0)],
        table_key: vec![0],
        take: vec![(1, "rain".into())],
        missing: Missing::Keep,
        as_of,
    };
    let factory = EnrichFactory::new(schema("speed"), schema("rain"), spec)?;
    let mut operator = build(&factory)?;
    let mut each = Vec::new();
    // The table comes first, as many rows an epoch as of the others.
    let filling = keys.div_ceil(EPOCH_BATCHES * BATCH_ROWS);
    for epoch in 0..filling + EPOCHS {
        let time = epoch as i64 * 100;
        let batches = (0..EPOCH_BATCHES)
            .map(|number| {
                let from = (epoch * EPOCH_BATCHES + number) * BATCH_ROWS;
                batch("speed", from..from + BATCH_ROWS, time, keys)
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        let mut out = Output::default();
        let from = epoch * EPOCH_BATCHES * BATCH_ROWS;
        let to = (from + EPOCH_BATCHES * BATCH_ROWS).min(keys);
        for from in (from..to).step_by(BATCH_ROWS) {
            let table = batch("rain", from..(from + BATCH_ROWS).min(keys), 0, keys)?;
            operator.on_batch(1, &table, &mut out)?;
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
        let (took, done) = per_row(EPOCH_BATCHES * BATCH_ROWS, || {
            for batch in &batches {
                operator.on_batch(0, batch, &mut out)?;
                std::hint::black_box(operator.held());
            }
            operator.on_epoch(&close, &mut out)
        });
        done?;
        if epoch >= filling {
            each.push(took);
        }
    }
    report(what, Some(20.0), each);
    Ok(())
}
