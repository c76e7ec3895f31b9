//! Drives an operator without the engine: routes rows to workers by key, ends epochs at chosen
//! watermarks, takes checkpoints and restores them onto other numbers of workers, and checks the
//! conservation ledger after every epoch.
//!
//! The tests of deduplication and enrichment use it too.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared by tests, of which not all use all of it"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMillisecondType,
    UInt8Type,
};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use thalweg_stream::clock::SystemClock;
use thalweg_stream::key::{KEY_GROUPS, key_group, owner};
use thalweg_stream::{
    BuildContext, DeadLetter, Epoch, EpochClose, EpochKind, KeyEncoder, Ledger, Operator,
    OperatorFactory, Output, Progress, Route, Section,
};

/// A progress at `watermark`, neither idle nor finished.
pub fn at(watermark: i64) -> Progress {
    Progress::at(watermark)
}

/// What one epoch brings: batches by input, and how far each input has come at its end.
#[derive(Clone, Debug)]
pub struct EpochInput {
    pub batches: Vec<(usize, RecordBatch)>,
    pub progress: Vec<Progress>,
}

/// What came out in one epoch, each row rendered as text with its port, sorted.
pub type Rendered = Vec<Vec<String>>;

/// How a run differs from the plainest one.
#[derive(Clone, Debug)]
pub struct Variant {
    pub seed: u64,
    pub workers: Vec<usize>,
    pub batch_rows: usize,
    /// Probability that an epoch ends with a checkpoint, and of a crash after it.
    pub checkpoint: f64,
    pub crash: f64,
}

impl Variant {
    pub const fn plain() -> Self {
        Self {
            seed: 0,
            workers: Vec::new(),
            batch_rows: usize::MAX,
            checkpoint: 0.0,
            crash: 0.0,
        }
    }

    /// Variants over batch sizes, orders within an epoch, numbers of workers and crashes.
    pub fn all(seed: u64) -> Vec<Self> {
        let mut variants = Vec::new();
        for workers in [1, 2, 4] {
            for batch_rows in [1, 7, usize::MAX] {
                variants.push(Self {
                    seed: seed * 100 + variants.len() as u64,
                    workers: vec![workers],
                    batch_rows,
                    checkpoint: 0.0,
                    crash: 0.0,
                });
            }
        }
        for _ in 0..6 {
            variants.push(Self {
                seed: seed * 100 + variants.len() as u64,
                workers: vec![1, 2, 3, 4],
                batch_rows: 7,
                checkpoint: 0.6,
                crash: 0.3,
            });
        }
        variants
    }
}

/// Runs `epochs` through the operator and gives what came out, and the dead letters, by epoch.
pub fn run(factory: &dyn OperatorFactory, epochs: &[EpochInput], variant: &Variant) -> Rendered {
    let mut rng = SmallRng::seed_from_u64(variant.seed);
    let workers = |rng: &mut SmallRng| match variant.workers[..] {
        [] => 1,
        _ => variant.workers[rng.random_range(0..variant.workers.len())],
    };
    let mut harness = Harness::new(factory, workers(&mut rng));
    let mut outputs: Rendered = Vec::new();
    let mut committed = 0;
    while outputs.len() < epochs.len() {
        let epoch = &epochs[outputs.len()];
        let mut batches: Vec<(usize, RecordBatch)> = Vec::new();
        for (input, batch) in &epoch.batches {
            let mut from = 0;
            while from < batch.num_rows() {
                let length = variant.batch_rows.min(batch.num_rows() - from);
                batches.push((*input, batch.slice(from, length)));
                from += length;
            }
        }
        if variant.seed != 0 {
            batches.shuffle(&mut rng);
        }
        for (input, batch) in batches {
            harness.send(input, &batch);
            if harness.draining {
                harness.drain(rng.random_range(1..5000));
            }
        }
        harness.close(&epoch.progress);
        outputs.push(harness.take());
        if rng.random_bool(variant.checkpoint) {
            harness.finish();
            if !harness.sections.is_empty() || harness.frozen.is_some() {
                if rng.random_bool(0.3) {
                    harness.fail();
                } else {
                    harness.commit();
                    committed = harness.committed_epochs;
                }
            }
            harness.freeze(rng.random_bool(0.2), outputs.len());
        }
        if rng.random_bool(variant.crash) {
            harness.restart(workers(&mut rng));
            outputs.truncate(committed);
        }
    }
    outputs
}

/// An operator on several workers.
pub struct Harness<'f> {
    factory: &'f dyn OperatorFactory,
    pub workers: Vec<Box<dyn Operator>>,
    routes: Vec<Route>,
    epoch: u64,
    ledger: Ledger,
    output: Output,
    sections: Vec<Section>,
    draining: bool,
    /// The ledger and the number of epochs at the freeze not yet committed.
    frozen: Option<(Ledger, usize)>,
    store: BTreeMap<u8, Vec<Section>>,
    committed: Ledger,
    committed_epochs: usize,
}

impl<'f> Harness<'f> {
    pub fn new(factory: &'f dyn OperatorFactory, workers: usize) -> Self {
        let mut harness = Self {
            factory,
            workers: Vec::new(),
            routes: factory.routes(),
            epoch: 0,
            ledger: Ledger::default(),
            output: Output::default(),
            sections: Vec::new(),
            draining: false,
            frozen: None,
            store: BTreeMap::new(),
            committed: Ledger::default(),
            committed_epochs: 0,
        };
        harness.restart(workers);
        harness
    }

    pub fn send(&mut self, input: usize, batch: &RecordBatch) {
        self.ledger.input += batch.num_rows() as u64;
        let Route::Key(columns) = &self.routes[input] else {
            panic!("these operators are routed by key");
        };
        let mut encoder = KeyEncoder::new(columns.clone());
        let owners: Vec<usize> = (encoder.hash_only(batch).unwrap().iter())
            .map(|&hash| owner(key_group(hash), self.workers.len()))
            .collect();
        for (worker, operator) in self.workers.iter_mut().enumerate() {
            let rows: UInt32Array = (0..batch.num_rows() as u32)
                .filter(|&row| owners[row as usize] == worker)
                .collect();
            let part = take_record_batch(batch, &rows).unwrap();
            if part.num_rows() > 0 {
                operator.on_batch(input, &part, &mut self.output).unwrap();
            }
        }
    }

    pub fn close(&mut self, progress: &[Progress]) {
        self.epoch += 1;
        let close = EpochClose {
            epoch: Epoch(self.epoch),
            kind: EpochKind::Ordinary,
            inputs: progress,
        };
        for operator in &mut self.workers {
            operator.on_epoch(&close, &mut self.output).unwrap();
        }
        self.ledger += self.output.ledger;
        self.output.ledger = Ledger::default();
        self.ledger.held = self.workers.iter().map(|w| w.held().rows).sum();
        self.ledger.check("step").unwrap();
        for (port, batch) in &self.output.batches {
            assert_eq!(batch.schema(), self.factory.outputs()[*port].1.arrow());
        }
    }

    /// The rows and dead letters since the last time, as text, sorted.
    pub fn take(&mut self) -> Vec<String> {
        let output = std::mem::take(&mut self.output);
        let mut rows: Vec<String> = (output.batches.iter())
            .flat_map(|(port, batch)| render(batch).map(move |row| format!("{port}: {row}")))
            .collect();
        rows.extend(output.dead.iter().map(render_letter));
        rows.sort();
        rows
    }

    /// Changes every section that was committed.
    pub fn rewrite(&mut self, change: impl FnMut(&mut Section)) {
        self.store.values_mut().flatten().for_each(change);
    }

    pub fn take_output(&mut self) -> Output {
        std::mem::take(&mut self.output)
    }

    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    pub fn freeze(&mut self, full: bool, epochs: usize) {
        // The first checkpoint of a store has nothing to build on.
        let full = full || self.store.is_empty();
        for operator in &mut self.workers {
            operator.freeze(full);
        }
        self.frozen = Some((self.ledger, epochs));
        self.draining = true;
    }

    pub fn drain(&mut self, budget: usize) {
        let mut done = true;
        for operator in &mut self.workers {
            done &= operator.drain(budget, &mut self.sections).unwrap();
        }
        self.draining = !done;
    }

    pub fn finish(&mut self) {
        while self.draining {
            self.drain(usize::MAX);
        }
    }

    pub fn fail(&mut self) {
        self.workers.iter_mut().for_each(|w| w.freeze_failed());
        self.sections.clear();
        self.frozen = None;
        self.draining = false;
    }

    pub fn commit(&mut self) {
        self.finish();
        for section in std::mem::take(&mut self.sections) {
            let chain = self.store.entry(section.group).or_default();
            if section.base {
                chain.clear();
            }
            chain.push(section);
        }
        if let Some((ledger, epochs)) = self.frozen.take() {
            self.committed = ledger;
            self.committed_epochs = epochs;
        }
    }

    /// Goes on from the last commit with a changed definition, of which the state has another shape.
    pub fn change(&mut self, factory: &'f dyn OperatorFactory, workers: usize) {
        let old = self.factory.state_shape().unwrap();
        let migration = factory.migration(&old).unwrap();
        for chain in self.store.values_mut() {
            *chain = migration.migrate(chain).unwrap();
        }
        (self.factory, self.routes) = (factory, factory.routes());
        self.restart(workers);
    }

    /// Forgets everything since the last commit, and goes on with `workers`.
    pub fn restart(&mut self, workers: usize) {
        self.sections.clear();
        self.frozen = None;
        self.draining = false;
        self.output = Output::default();
        self.ledger = self.committed;
        self.workers = (0..workers)
            .map(|worker| {
                let owned = |&group: &usize| owner(group as u8, workers) == worker;
                let groups: Vec<usize> = (0..KEY_GROUPS).filter(owned).collect();
                let groups = groups[0]..groups[groups.len() - 1] + 1;
                let context = BuildContext {
                    step: Arc::from("step"),
                    worker,
                    workers,
                    groups: groups.clone(),
                    clock: Arc::new(SystemClock::new()),
                };
                let mut operator = self.factory.build(&context).unwrap();
                for (_, chain) in self
                    .store
                    .range(groups.start as u8..=(groups.end - 1) as u8)
                {
                    for section in chain {
                        operator.restore(section).unwrap();
                    }
                }
                operator
            })
            .collect();
    }
}

fn render_letter(letter: &DeadLetter) -> String {
    let (class, code, time) = (letter.class.word(), letter.code, letter.event_time);
    format!("dead: {class} {code} {:?} {time:?}", letter.origin)
}

/// The rows of a batch as text, values divided by spaces, `_origin` left out.
pub fn render(batch: &RecordBatch) -> impl Iterator<Item = String> + '_ {
    let columns = batch.num_columns() - 1;
    (0..batch.num_rows()).map(move |row| {
        let values: Vec<String> = (batch.columns()[..columns].iter())
            .map(|column| value(column, row))
            .collect();
        values.join(" ")
    })
}

#[allow(clippy::wildcard_enum_match_arm, reason = "tests use few types")]
fn value(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "null".to_owned();
    }
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().value(row).to_owned(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::UInt8 => {
            let change = usize::from(column.as_primitive::<UInt8Type>().value(row));
            ["insert", "update", "delete"][change].to_owned()
        }
        DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Decimal128(_, _) => column
            .as_primitive::<Decimal128Type>()
            .value(row)
            .to_string(),
        DataType::Timestamp(_, _) => column
            .as_primitive::<TimestampMillisecondType>()
            .value(row)
            .to_string(),
        other => panic!("cannot render {other}"),
    }
}
