//! The epoch discipline: the one place where operators meet epochs.
//!
//! Batches of the lowest open epoch are applied at once, those of later epochs wait. When every
//! input has passed an epoch: tell the operator, freeze it if the epoch is a checkpoint, release
//! the capabilities. So output is a function of what the epochs contain.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thalweg_checkpoint::Packer;
use thalweg_stream::planted::planted;
use thalweg_stream::schema::batch_bytes;
use thalweg_stream::{
    Epoch, EpochClose, EpochKind, Fault, Ledger, Operator, Output, Progress, RecordBatch, Route,
};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{InputHandleCore, OutputBuilder};
use timely::dataflow::{Scope, Stream};

use crate::container::{Batch, KeyDistributor, pieces};
use crate::decode::Batches;
use crate::failpoint;
use crate::failure::{Failure, guarded};
use crate::flow::{Collected, FIGURES_EVERY, Figure, Tally};
use crate::graph::{Edge, union};
use crate::letters::Letters;
use crate::report::{EpochInfo, Report};
use crate::shared::Shared;

/// The watermark edge: one message for every epoch, to every operator.
pub(crate) type Clocks<'scope> = Stream<'scope, u64, Vec<Arc<EpochInfo>>>;

/// Bytes of frozen state handed out between two batches: what takes less than a millisecond.
const DRAIN_BYTES: usize = 128 << 10;

/// An operator and what the discipline must know of it.
pub(crate) struct Stage {
    pub(crate) node: usize,
    pub(crate) operator: Box<dyn Operator>,
    /// Whether the operator may put something out when an epoch ends. One that never does holds no
    /// capability then: epochs pass through a chain of them in one round of the workers, not in
    /// one for each.
    pub(crate) needs_epochs: bool,
    /// The outputs united in each input, for its progress.
    pub(crate) edges: Vec<Vec<Edge>>,
    pub(crate) ports: usize,
    /// The port of rows that came too late, if it has one.
    pub(crate) late_port: Option<usize>,
    pub(crate) letters: Letters,
}

/// An input of a step: the rows, united, and how they reach the workers.
pub(crate) type Input<'scope> = (Batches<'scope>, Route);

/// Builds the operator; returns its ports, then its dead letters.
pub(crate) fn step<'scope>(
    scope: &Scope<'scope, u64>,
    stage: Stage,
    inputs: Vec<Input<'scope>>,
    clock: Clocks<'scope>,
    shared: Arc<Shared>,
) -> Vec<Batches<'scope>> {
    let mut builder = OperatorBuilder::new(stage.letters.step().to_owned(), *scope);
    let mut clock_input = builder.new_input(clock, Pipeline);
    let mut pullers: Vec<Puller> = Vec::new();
    for (at, (rows, route)) in inputs.into_iter().enumerate() {
        if route == Route::Local {
            pullers.push(puller(at, builder.new_input(rows, Pipeline)));
        } else {
            let shared = Arc::clone(&shared);
            let pact = DistributorPact(Box::new(move |peers| {
                KeyDistributor::new(&route, peers, Arc::clone(&shared))
            }));
            pullers.push(puller(at, builder.new_input(rows, pact)));
        }
    }
    let (mut outputs, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..=stage.ports {
        let (output, stream) = builder.new_output();
        outputs.push(OutputBuilder::<_, NoopBuilder<Batch>>::from(output));
        streams.push(stream);
    }
    let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let worker = scope.index();
    builder.build_reschedule(move |capabilities| {
        drop(capabilities);
        let mut intake = Intake {
            ports: outputs.len(),
            ..Intake::default()
        };
        let mut stage = Discipline::new(stage, worker, shared);
        move |frontiers| {
            clock_input.for_each(|capability, infos| {
                for info in infos.drain(..) {
                    if stage.stage.needs_epochs {
                        intake.retain(info.epoch.0, &capability);
                    }
                    intake.infos.insert(info.epoch.0, info);
                }
            });
            pullers.iter_mut().for_each(|pull| pull(&mut intake));
            let open = (frontiers.iter())
                .filter_map(|frontier| frontier.frontier().first().copied())
                .min()
                .unwrap_or(u64::MAX);
            if let Err(failure) = stage.advance(open, &mut intake, &mut outputs) {
                stage.shared.fail_with(*failure);
            }
            if stage.draining.is_some() {
                activator.activate();
            }
            stage.draining.is_some() && !stage.shared.failed()
        }
    });
    streams
}

/// What has come in and waits for its epoch.
#[derive(Default)]
struct Intake {
    ports: usize,
    infos: BTreeMap<u64, Arc<EpochInfo>>,
    batches: BTreeMap<u64, Vec<(usize, RecordBatch)>>,
    capabilities: BTreeMap<u64, Vec<Capability<u64>>>,
}

impl Intake {
    fn retain(
        &mut self,
        epoch: u64,
        capability: &timely::dataflow::operators::InputCapability<u64>,
    ) {
        let ports = self.ports;
        self.capabilities.entry(epoch).or_insert_with(|| {
            (0..ports)
                .map(|port| capability.delayed(&epoch, port))
                .collect()
        });
    }
}

/// Takes what has come in at one input.
type Puller = Box<dyn FnMut(&mut Intake)>;

fn puller<P>(at: usize, mut input: InputHandleCore<u64, Batch, P>) -> Puller
where
    P: timely::communication::Pull<timely::dataflow::channels::Message<u64, Batch>> + 'static,
{
    Box::new(move |intake| {
        input.for_each(|capability, batch| {
            if let (Some(&epoch), Some(rows)) = (capability.least(), batch.rows.take()) {
                intake.retain(epoch, &capability);
                intake.batches.entry(epoch).or_default().push((at, rows));
            }
        });
    })
}

/// A checkpoint whose content is being handed out, with the ledger at its epoch's end.
#[derive(Clone, Copy)]
struct Draining {
    epoch: Epoch,
    ledger: Ledger,
    full: bool,
}

/// An operator under the discipline.
struct Discipline {
    stage: Stage,
    letters: Rc<Letters>,
    worker: usize,
    shared: Arc<Shared>,
    out: Output,
    /// What became of input rows since the attempt began.
    ledger: Ledger,
    draining: Option<Draining>,
    /// What packs its sections, while there are any.
    packer: Option<Packer>,
    /// The epoch of the last freeze.
    frozen: Option<Epoch>,
    tally: Tally,
    /// Input rows that metrics know of.
    told_input: u64,
    /// When figures were last told, on the monotonic clock.
    told: Duration,
}

impl Discipline {
    fn new(stage: Stage, worker: usize, shared: Arc<Shared>) -> Self {
        let letters = Rc::new(stage.letters.clone());
        let (out, ledger) = (Output::default(), Ledger::default());
        Self {
            stage,
            letters,
            worker,
            shared,
            out,
            ledger,
            draining: None,
            packer: None,
            frozen: None,
            tally: Tally::default(),
            told_input: 0,
            told: Duration::ZERO,
        }
    }

    /// Applies what may be applied when every epoch below `open` is complete.
    fn advance(
        &mut self,
        open: u64,
        intake: &mut Intake,
        outputs: &mut [OutputBuilder<u64, NoopBuilder<Batch>>],
    ) -> Result<(), Box<Failure>> {
        if self.shared.failed() {
            intake.batches.clear();
            intake.capabilities.clear();
            return Ok(());
        }
        while let Some(entry) = intake.infos.first_entry() {
            if *entry.key() >= open {
                break;
            }
            let (epoch, info) = entry.remove_entry();
            // The content of one checkpoint must be out before the next freeze.
            while info.kind.seals() && self.draining.is_some() {
                self.at_once(Self::drain)?;
            }
            self.apply(epoch, intake, outputs)?;
            self.at_once(|stage| {
                stage.close(&info)?;
                stage.flush(epoch, intake, outputs)
            })?;
            self.measure();
            intake.capabilities.remove(&epoch);
            if info.kind.seals() {
                self.at_once(|stage| {
                    stage.seal(&info);
                    Ok(())
                })?;
            }
        }
        self.apply(open, intake, outputs)?;
        if planted("apply-early") {
            for epoch in intake.batches.keys().copied().collect::<Vec<_>>() {
                self.apply(epoch, intake, outputs)?;
            }
        }
        if !self.stage.needs_epochs {
            let waiting = &intake.batches;
            (intake.capabilities).retain(|epoch, _| waiting.contains_key(epoch));
        }
        if self.draining.is_some() {
            self.at_once(Self::drain)?;
        }
        let waiting: usize = intake
            .batches
            .values()
            .flatten()
            .map(|(_, b)| batch_bytes(b))
            .sum();
        let held = self.stage.operator.held().bytes + waiting;
        self.shared.set_held(self.stage.node, self.worker, held);
        Ok(())
    }

    fn apply(
        &mut self,
        epoch: u64,
        intake: &mut Intake,
        outputs: &mut [OutputBuilder<u64, NoopBuilder<Batch>>],
    ) -> Result<(), Box<Failure>> {
        for (input, rows) in intake.batches.remove(&epoch).unwrap_or_default() {
            self.ledger.input += rows.num_rows() as u64;
            let letters = Rc::clone(&self.letters);
            let step = format_args!("step \"{}\"", letters.step());
            let place = || letters.place_of(&rows);
            self.shared.watches[self.worker].enter(self.stage.node);
            guarded(&step, place, || {
                failpoint::hit(&["batch", letters.step()]);
                failpoint::hit_by(letters.step(), &rows);
                self.stage.operator.on_batch(input, &rows, &mut self.out)?;
                self.flush(epoch, intake, outputs)
            })?;
            self.shared.watches[self.worker].leave();
        }
        Ok(())
    }

    /// Does something that is about no particular record.
    fn at_once(
        &mut self,
        what: impl FnOnce(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Box<Failure>> {
        let letters = Rc::clone(&self.letters);
        let step = format_args!("step \"{}\"", letters.step());
        self.shared.watches[self.worker].enter(self.stage.node);
        guarded(&step, || None, || what(self))?;
        self.shared.watches[self.worker].leave();
        Ok(())
    }

    fn close(&mut self, info: &EpochInfo) -> Result<(), Fault> {
        let inputs: Vec<Progress> = self
            .stage
            .edges
            .iter()
            .map(|edges| union(&info.nodes, edges))
            .collect();
        let close = EpochClose {
            epoch: info.epoch,
            kind: info.kind,
            inputs: &inputs,
        };
        self.stage.operator.on_epoch(&close, &mut self.out)
    }

    /// Tells metrics what the epoch was.
    fn measure(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        let input = self.ledger.input - self.told_input;
        self.told_input = self.ledger.input;
        tally.tell(&self.shared, self.stage.node, self.letters.step(), input);
        let now = self.shared.clock.elapsed();
        if now.saturating_sub(self.told) >= FIGURES_EVERY {
            self.told = now;
            let mut told = Collected::default();
            self.stage.operator.figures(&mut told);
            let rows = Figure::Level(self.stage.operator.held().rows as f64);
            told.add("state_rows", Vec::new(), rows);
            self.shared
                .figures
                .tell(self.stage.node, self.worker, told.0);
        }
    }

    /// Sends what the operator has put out.
    fn flush(
        &mut self,
        epoch: u64,
        intake: &Intake,
        outputs: &mut [OutputBuilder<u64, NoopBuilder<Batch>>],
    ) -> Result<(), Fault> {
        self.tally.count(&self.out, self.stage.late_port);
        self.ledger += std::mem::take(&mut self.out.ledger);
        let dead = self.letters.batch(&self.out.dead)?;
        self.out.dead.clear();
        let ports = self.stage.ports;
        let batches = self
            .out
            .batches
            .drain(..)
            .chain(dead.map(|batch| (ports, batch)));
        for (port, rows) in batches {
            let capability = intake
                .capabilities
                .get(&epoch)
                .and_then(|held| held.get(port));
            let (Some(capability), Some(output)) = (capability, outputs.get_mut(port)) else {
                return Err(Fault::bug(format!(
                    "output at port {port} of epoch {epoch}"
                )));
            };
            let mut output = output.activate();
            let mut session = output.session_with_builder(capability);
            for piece in pieces(rows, self.shared.limits.batch_rows) {
                session.give_container(&mut Batch::new(piece));
            }
        }
        Ok(())
    }

    fn seal(&mut self, info: &EpochInfo) {
        failpoint::hit(&["freeze", "before"]);
        // At most one checkpoint is in preparation: the fate of the one before is known.
        if (self.frozen.replace(info.epoch)).is_some_and(|frozen| self.shared.has_failed(frozen))
            && !planted("drop-failed-deltas")
        {
            self.stage.operator.freeze_failed();
        }
        let began = self.shared.clock.elapsed();
        let full = info.kind == EpochKind::Savepoint || self.shared.wants_full(self.stage.node);
        self.stage.operator.freeze(full);
        failpoint::hit(&["freeze", "after"]);
        let pause = self.shared.clock.elapsed().saturating_sub(began);
        self.shared
            .metrics
            .observe("checkpoint_pause_seconds", &[], pause.as_secs_f64());
        let ledger = Ledger {
            held: self.stage.operator.held().rows,
            ..self.ledger
        };
        self.draining = Some(Draining {
            epoch: info.epoch,
            ledger,
            full,
        });
    }

    fn drain(&mut self) -> Result<(), Fault> {
        let Some(Draining {
            epoch,
            ledger,
            full,
        }) = self.draining
        else {
            return Ok(());
        };
        let (worker, node) = (self.worker, self.stage.node);
        let mut sections = Vec::new();
        let done = self.stage.operator.drain(DRAIN_BYTES, &mut sections)?;
        if !sections.is_empty() {
            let packer = match &mut self.packer {
                Some(packer) => packer,
                none => none.insert(Packer::new()?),
            };
            let sections = (sections.iter())
                .map(|section| packer.pack(section))
                .collect::<Result<Vec<_>, _>>()?;
            // Sealed state counts as queued until it is uploaded.
            let bytes = sections.iter().map(|section| section.frame.len()).sum();
            self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.shared.report(Report::Sections {
                worker,
                node,
                sections,
            });
        }
        if done {
            self.shared.report(Report::Sealed {
                epoch,
                worker,
                node,
                ledger,
                full,
            });
            self.draining = None;
            self.packer = None;
        }
        Ok(())
    }
}
