//! What a checkpoint costs the stream beside ten million keys: the pause of the freeze, and the
//! longest of the slices in which its content is handed out and packed between batches; of a delta,
//! and of all (a savepoint).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, UInt64Array};
use thalweg_checkpoint::Packer;
use thalweg_dedup::{DedupFactory, DedupSpec};
use thalweg_state::{Key, KeyedTable, Layout, Part};
use thalweg_stream::{
    Column, ColumnType, Epoch, EpochClose, EpochKind, Fault, Operator, Output, Progress,
    StreamSchema,
};
use thalweg_window::TumblingFactory;

use crate::fleet::{BATCH_ROWS, build, timestamps};
use crate::stopwatch::cpu;
use crate::window::spec;

const KEYS: usize = 10_000_000;
/// Keys that change or come between two checkpoints.
const CHANGED: usize = 1_000_000;
const ROUNDS: usize = 5;
/// Bytes of a slice, as the engine asks for.
const DRAIN_BYTES: usize = 128 << 10;

pub(crate) fn measure() -> Result<(), Fault> {
    println!(
        "| checkpoint at {KEYS} keys | pause ms | longest slice ms | 999 of 1000 ms | slices ms | MB | MB packed |"
    );
    println!("|---|---|---|---|---|---|---|");
    let input = StreamSchema::append(
        vec![
            Column::new("id", ColumnType::Int64),
            Column::new("value", ColumnType::Float64),
        ],
        true,
    );
    let dedup = |same_time| {
        let spec = DedupSpec {
            by: vec![0],
            within_ms: 3_600_000,
            same_time,
        };
        build(&DedupFactory::new(input.clone(), spec)?)
    };
    let window = build(&TumblingFactory::new(input.clone(), spec())?)?;
    // A window's keys change; those of a deduplication come.
    with("window", window, &input, |_| 0)?;
    let coming = |round| KEYS + round * CHANGED;
    with("deduplication", dedup(true)?, &input, coming)?;
    with("deduplication, another time", dedup(false)?, &input, coming)?;
    after_removals();
    Ok(())
}

/// All of a table from which half of the keys have just been removed: of the pause alone.
fn after_removals() {
    let mut table = KeyedTable::new(Layout {
        words: 1,
        payload: false,
    });
    let mut pane = table.pane_mut(0);
    let bytes = |id: usize| (id as u64).to_le_bytes();
    for id in 0..KEYS {
        pane.touch(&Key::of(&bytes(id)));
    }
    for id in (0..KEYS).step_by(2) {
        pane.remove(&Key::of(&bytes(id)));
    }
    let mut pauses = Vec::new();
    for _ in 0..ROUNDS {
        let start = cpu();
        table.freeze(true);
        pauses.push(cpu() - start);
        table.thaw();
    }
    let most = pauses.into_iter().max().unwrap_or_default();
    println!(
        "| table, all of the half that is left | {:.3} | | | | | |",
        most.as_secs_f64() * 1e3
    );
}

fn with(
    what: &str,
    mut operator: Box<dyn Operator>,
    input: &StreamSchema,
    changed: impl Fn(usize) -> usize,
) -> Result<(), Fault> {
    apply(&mut *operator, input, 0..KEYS)?;
    let first = checkpoint(&mut *operator, true)?;
    report(&format!("{what}, all keys for the first time"), &[first]);
    let (mut deltas, mut wholes) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let first = changed(round);
        apply(&mut *operator, input, first..first + CHANGED)?;
        deltas.push(checkpoint(&mut *operator, false)?);
    }
    for _ in 0..ROUNDS {
        wholes.push(checkpoint(&mut *operator, true)?);
    }
    report(&format!("{what}, {CHANGED} keys changed"), &deltas);
    report(&format!("{what}, all keys"), &wholes);
    Ok(())
}

/// An epoch with rows of these ids, all of one time: keys of one pane.
fn apply(
    operator: &mut dyn Operator,
    input: &StreamSchema,
    ids: Range<usize>,
) -> Result<(), Fault> {
    for from in ids.clone().step_by(BATCH_ROWS) {
        let ids = from..ids.end.min(from + BATCH_ROWS);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(
                ids.clone().map(|id| id as i64),
            )),
            Arc::new(Float64Array::from_iter_values(
                ids.clone().map(|id| id as f64),
            )),
            timestamps(ids.clone().map(|_| 1000)),
            Arc::new(UInt64Array::from_iter_values(ids.map(|id| id as u64))),
        ];
        let batch = RecordBatch::try_new(input.arrow(), columns)?;
        operator.on_batch(0, &batch, &mut Output::default())?;
    }
    let close = EpochClose {
        epoch: Epoch(1),
        kind: EpochKind::Ordinary,
        inputs: &[Progress::START],
    };
    operator.on_epoch(&close, &mut Output::default())
}

/// What one checkpoint takes.
struct Taken {
    pause: Duration,
    slices: Vec<Duration>,
    bytes: usize,
    packed: usize,
}

fn checkpoint(operator: &mut dyn Operator, full: bool) -> Result<Taken, Fault> {
    let start = cpu();
    operator.freeze(full);
    let mut taken = Taken {
        pause: cpu() - start,
        slices: Vec::new(),
        bytes: 0,
        packed: 0,
    };
    // A worker makes one for the first section of a checkpoint.
    let mut packer = None;
    loop {
        let mut sections = Vec::new();
        let start = cpu();
        let done = operator.drain(DRAIN_BYTES, &mut sections)?;
        let mut packed = Vec::new();
        if !sections.is_empty() {
            let packer = match &mut packer {
                Some(packer) => packer,
                none => none.insert(Packer::new()?),
            };
            for section in &sections {
                packed.push(packer.pack(section)?);
            }
        }
        taken.slices.push(cpu() - start);
        let bytes = sections.iter().map(|section| section.bytes.len());
        taken.bytes += bytes.sum::<usize>();
        let bytes = packed.iter().map(|section| section.frame.len());
        taken.packed += bytes.sum::<usize>();
        if done {
            return Ok(taken);
        }
    }
}

/// The worst of all rounds; of the slices together, the mean.
fn report(what: &str, rounds: &[Taken]) {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let pause = rounds.iter().map(|taken| taken.pause).max();
    let mut slices: Vec<Duration> = rounds
        .iter()
        .flat_map(|taken| taken.slices.clone())
        .collect();
    slices.sort_unstable();
    let below = |share: usize| slices.get(slices.len().saturating_sub(1) * share / 1000);
    let all: Duration = slices.iter().sum();
    let megabytes = |of: fn(&Taken) -> usize| {
        let most = rounds.iter().map(of).max();
        most.unwrap_or_default() as f64 / 1e6
    };
    println!(
        "| {what} | {:.3} | {:.3} | {:.3} | {:.0} | {:.0} | {:.0} |",
        ms(pause.unwrap_or_default()),
        ms(below(1000).copied().unwrap_or_default()),
        ms(below(999).copied().unwrap_or_default()),
        ms(all) / rounds.len() as f64,
        megabytes(|taken| taken.bytes),
        megabytes(|taken| taken.packed),
    );
}
