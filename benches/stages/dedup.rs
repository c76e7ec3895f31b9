//! Deduplication by (string, int64), on both paths, with a tenth of the rows repeated and more than
//! five million keys remembered.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, UInt64Array};
use thalweg_dedup::{DedupFactory, DedupSpec};
use thalweg_stream::{
    Column, ColumnType, Epoch, EpochClose, EpochKind, Fault, Output, Progress, StreamSchema,
};

use crate::fleet::{BATCH_ROWS, build, timestamps};
use crate::stopwatch::{per_row, report};

const EPOCH_BATCHES: usize = 12;
const EPOCHS: usize = 60;

fn input() -> StreamSchema {
    StreamSchema::append(
        vec![
            Column::new("device", ColumnType::String),
            Column::new("seq", ColumnType::Int64),
        ],
        true,
    )
}

/// Every tenth row repeats one of about 50 000 rows before.
fn batch(number: usize) -> Result<RecordBatch, Fault> {
    let rows = (number * BATCH_ROWS)..((number + 1) * BATCH_ROWS);
    let event = |row: usize| {
        if row % 10 == 9 {
            row.saturating_sub(50_003)
        } else {
            row
        }
    };
    let events = rows.clone().map(event);
    let names = events
        .clone()
        .map(|event| format!("dev-{:05}", event % 10_007));
    let sequences = events.clone().map(|event| (event / 10_007) as i64);
    // About an hour of event time in all.
    let times = events.map(|event| event as i64 * 6 / 10);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(names)),
        Arc::new(Int64Array::from_iter_values(sequences)),
        timestamps(times),
        Arc::new(UInt64Array::from_iter_values(rows.map(|row| row as u64))),
    ];
    Ok(RecordBatch::try_new(input().arrow(), columns)?)
}

pub(crate) fn measure() -> Result<(), Fault> {
    with(true)?;
    with(false)
}

fn with(same_time: bool) -> Result<(), Fault> {
    let spec = DedupSpec {
        by: vec![0, 1],
        within_ms: 3_600_000,
        same_time,
    };
    let mut operator = build(&DedupFactory::new(input(), spec)?)?;
    let mut each = Vec::new();
    for epoch in 0..EPOCHS {
        let batches = (0..EPOCH_BATCHES)
            .map(|number| batch(epoch * EPOCH_BATCHES + number))
            .collect::<Result<Vec<_>, Fault>>()?;
        let mut out = Output::default();
        let close = EpochClose {
            epoch: Epoch(epoch as u64 + 1),
            kind: EpochKind::Ordinary,
            inputs: &[Progress::START],
        };
        let (took, done) = per_row(EPOCH_BATCHES * BATCH_ROWS, || {
            for batch in &batches {
                operator.on_batch(0, batch, &mut out)?;
                std::hint::black_box(operator.held());
            }
            operator.on_epoch(&close, &mut out)
        });
        done?;
        each.push(took);
    }
    let what = match same_time {
        true => "deduplication, repeats have the same time",
        false => "deduplication, repeats may have another time",
    };
    report(what, Some(35.0), each);
    Ok(())
}
