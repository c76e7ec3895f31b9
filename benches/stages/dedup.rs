//! Deduplication by (string, int64), on both paths, with a tenth of the rows repeated, until ten
//! million keys are remembered: nanoseconds a row, bytes a key, and the pause of checkpoints.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, UInt64Array};
use thalweg_dedup::{DedupFactory, DedupSpec};
use thalweg_stream::{
    Column, ColumnType, Epoch, EpochClose, EpochKind, Fault, Figures, Output, Progress,
    StreamSchema,
};

use crate::fleet::{BATCH_ROWS, KEYS, build, timestamps};
use crate::stopwatch::{cpu, per_row, report};

const EPOCH_BATCHES: usize = 12;
const EPOCHS: usize = 150;
const WITHIN_MS: i64 = 3_600_000;
/// Epochs until `within` is full of keys; from then on as many expire as come.
const FULL_EPOCHS: usize = 116;
/// Epochs measured of each number of keys.
const MEASURED_EPOCHS: usize = 60;
/// Epochs from one checkpoint to the next: a minute of event time.
const CHECKPOINT_EPOCHS: usize = 2;

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
    // An hour of event time in `FULL_EPOCHS`.
    let times = events.map(event_time);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(names)),
        Arc::new(Int64Array::from_iter_values(sequences)),
        timestamps(times),
        Arc::new(UInt64Array::from_iter_values(rows.map(|row| row as u64))),
    ];
    Ok(RecordBatch::try_new(input().arrow(), columns)?)
}

fn event_time(event: usize) -> i64 {
    event as i64 * WITHIN_MS / (FULL_EPOCHS * EPOCH_BATCHES * BATCH_ROWS) as i64
}

pub(crate) fn measure() -> Result<(), Fault> {
    with(true)
}

pub(crate) fn measure_any_time() -> Result<(), Fault> {
    with(false)
}

/// What a row costs while so many keys are remembered: the same work beside ever more state.
pub(crate) fn measure_keys() -> Result<(), Fault> {
    for same_time in [true, false] {
        for keys in KEYS {
            let what = match same_time {
                true => "same time",
                false => "another time",
            };
            with_keys(
                &format!("deduplication, {keys} keys, {what}"),
                same_time,
                keys,
            )?;
        }
    }
    Ok(())
}

/// Epochs of at most a tenth of the keys, each row a new key but every tenth, which repeats one of
/// the epoch before.
fn with_keys(what: &str, same_time: bool, keys: usize) -> Result<(), Fault> {
    let spec = DedupSpec {
        by: vec![0],
        within_ms: WITHIN_MS,
        same_time,
    };
    let schema = StreamSchema::append(vec![Column::new("id", ColumnType::Int64)], true);
    let mut operator = build(&DedupFactory::new(schema.clone(), spec)?)?;
    let batch_rows = BATCH_ROWS.min(keys / 10);
    let batches = (keys / 10 / batch_rows).min(EPOCH_BATCHES);
    let mut each = Vec::new();
    let full = keys / (batches * batch_rows) + 1;
    let time = |row: usize| row as i64 * WITHIN_MS / keys as i64;
    for epoch in 0..full + MEASURED_EPOCHS {
        let first = epoch * batches * batch_rows;
        let epoch_rows = batches * batch_rows;
        let batches = (0..batches)
            .map(|number| {
                let rows = first + number * batch_rows..first + (number + 1) * batch_rows;
                let ids = rows.clone().map(|row| match row % 10 {
                    9 => row.saturating_sub(epoch_rows / 2),
                    _ => row,
                });
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(Int64Array::from_iter_values(
                        ids.clone().map(|id| id as i64),
                    )),
                    timestamps(ids.map(time)),
                    Arc::new(UInt64Array::from_iter_values(rows.map(|row| row as u64))),
                ];
                Ok(RecordBatch::try_new(schema.arrow(), columns)?)
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        let close = EpochClose {
            epoch: Epoch(epoch as u64 + 1),
            kind: EpochKind::Ordinary,
            inputs: &[Progress {
                watermark: time(first),
                ..Progress::START
            }],
        };
        let mut out = Output::default();
        let (took, done) = per_row(epoch_rows, || {
            for batch in &batches {
                operator.on_batch(0, batch, &mut out)?;
            }
            operator.on_epoch(&close, &mut out)
        });
        done?;
        if epoch >= full {
            each.push(took);
        }
    }
    report(what, None, each);
    Ok(())
}

fn with(same_time: bool) -> Result<(), Fault> {
    let spec = DedupSpec {
        by: vec![0, 1],
        within_ms: WITHIN_MS,
        same_time,
    };
    let mut operator = build(&DedupFactory::new(input(), spec)?)?;
    let mut each = Vec::new();
    let mut checkpoints = Vec::new();
    let (mut filling, mut pause_ms) = (Vec::new(), 0_f64);
    for epoch in 0..EPOCHS {
        let batches = (0..EPOCH_BATCHES)
            .map(|number| batch(epoch * EPOCH_BATCHES + number))
            .collect::<Result<Vec<_>, Fault>>()?;
        let mut out = Output::default();
        let close = EpochClose {
            epoch: Epoch(epoch as u64 + 1),
            kind: EpochKind::Ordinary,
            inputs: &[Progress {
                watermark: event_time(epoch * EPOCH_BATCHES * BATCH_ROWS) - 1000,
                ..Progress::START
            }],
        };
        let (took, done) = per_row(EPOCH_BATCHES * BATCH_ROWS, || {
            for batch in &batches {
                operator.on_batch(0, batch, &mut out)?;
                std::hint::black_box(operator.held());
            }
            operator.on_epoch(&close, &mut out)
        });
        done?;
        match epoch < FULL_EPOCHS {
            true => filling.push(took),
            false => each.push(took),
        }
        if epoch % CHECKPOINT_EPOCHS == CHECKPOINT_EPOCHS - 1 {
            let start = cpu();
            operator.freeze(false);
            pause_ms = pause_ms.max((cpu() - start).as_secs_f64() * 1e3);
            let mut sections = Vec::new();
            let (took, done) = per_row(CHECKPOINT_EPOCHS * EPOCH_BATCHES * BATCH_ROWS, || {
                while !operator.drain(usize::MAX, &mut sections)? {}
                Ok::<(), Fault>(())
            });
            done?;
            checkpoints.push(took);
        }
    }
    let what = match same_time {
        true => "deduplication, repeats have the same time",
        false => "deduplication, repeats may have another time",
    };
    report(what, Some(40.0), each);
    report("&nbsp; while it fills with keys", None, filling);
    report(
        "&nbsp; writing a row's key to a checkpoint",
        None,
        checkpoints,
    );
    let mut levels = Levels::default();
    operator.figures(&mut levels);
    println!(
        "| &nbsp; {:.1} million keys of {:.1} bytes; longest pause of a checkpoint: {pause_ms:.3} ms | | | |",
        levels.keys / 1e6,
        levels.bytes / levels.keys
    );
    Ok(())
}

/// How much an operator says it holds.
#[derive(Default)]
struct Levels {
    keys: f64,
    bytes: f64,
}

impl Figures for Levels {
    fn level(&mut self, name: &'static str, _labels: &[&str], value: f64) {
        match name {
            "state_keys" => self.keys = value,
            "state_bytes" => self.bytes = value,
            _ => {}
        }
    }

    fn fact(&mut self, _name: &'static str, _labels: &[&str]) {}

    fn total(&mut self, _name: &'static str, _labels: &[&str], _value: u64) {}
}
