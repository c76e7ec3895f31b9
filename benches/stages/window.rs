//! The hot path of a tumbling window: count, avg, min and max of a float by a short string key.

use thalweg_stream::{Epoch, EpochClose, EpochKind, Fault, Output, Progress};
use thalweg_window::{AggregateSpec, Function, LateFate, LateSpec, TumblingFactory, TumblingSpec};

use crate::fleet::{BATCH_ROWS, build, report_batch, reports};
use crate::stopwatch::{cpu, per_row, report};

/// Batches at least.
const BATCHES: usize = 2000;
/// Batches of an epoch.
const EPOCH_BATCHES: usize = 20;

/// A count, a mean and both ends of column 1 by column 0, over ten seconds.
pub(crate) fn spec() -> TumblingSpec {
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

pub(crate) fn measure() -> Result<(), Fault> {
    [100, 10_000, 1_000_000, 10_000_000]
        .into_iter()
        .try_for_each(with_keys)
}

fn with_keys(keys: usize) -> Result<(), Fault> {
    // Every key is seen three times, so that most rows find theirs.
    let batches = BATCHES.max(3 * keys / BATCH_ROWS);
    let mut operator = build(&TumblingFactory::new(reports(), spec())?)?;
    let mut apply = Vec::with_capacity(batches);
    let mut fire = Vec::new();
    let mut pause_ms = 0_f64;
    for epoch in 0..batches.div_ceil(EPOCH_BATCHES) {
        let numbers = epoch * EPOCH_BATCHES..(epoch + 1) * EPOCH_BATCHES;
        let newest = (numbers.end * BATCH_ROWS * 1000 / keys) as i64;
        let batches = numbers.map(|number| report_batch(number, keys));
        let batches = batches.collect::<Result<Vec<_>, Fault>>()?;
        let mut out = Output::default();
        for batch in &batches {
            let (took, done) = per_row(BATCH_ROWS, || {
                let done = operator.on_batch(0, batch, &mut out);
                // As the engine does after every batch.
                std::hint::black_box(operator.held());
                done
            });
            done?;
            apply.push(took);
        }
        let close = EpochClose {
            epoch: Epoch(epoch as u64),
            kind: EpochKind::Ordinary,
            inputs: &[Progress {
                watermark: newest - 500,
                ..Progress::START
            }],
        };
        let (took, done) = per_row(1, || operator.on_epoch(&close, &mut out));
        done?;
        let results: usize = out.batches.iter().map(|(_, b)| b.num_rows()).sum();
        if results > 0 {
            fire.push(took / results as f64);
        }
        let start = cpu();
        operator.freeze(false);
        pause_ms = pause_ms.max((cpu() - start).as_secs_f64() * 1e3);
        let mut sections = Vec::new();
        while !operator.drain(usize::MAX, &mut sections)? {}
    }
    report(&format!("window, {keys} keys"), Some(8.0), apply);
    if !fire.is_empty() {
        report("&nbsp; of it a result, when it fires", None, fire);
    }
    println!("| &nbsp; longest pause of a checkpoint: {pause_ms:.3} ms | | | |");
    Ok(())
}
