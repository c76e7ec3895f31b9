//! The decoding stage: any worker turns chunks into batches and reports what they held.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_stream::{Decoded, Decoder, Ledger};
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use crate::container::{Batch, pieces};
use crate::failure::guarded;
use crate::flow::{add, classes};
use crate::letters::Letters;
use crate::parcel::{Cargo, Notice, Parcel};
use crate::read::Parcels;
use crate::report::TimeReport;
use crate::shared::Shared;
use crate::single::apart;

/// A stream of batches.
pub(crate) type Batches<'scope> = Stream<'scope, u64, Batch>;

/// Builds the operator; returns rows, dead letters and time reports.
pub(crate) fn decode<'scope>(
    scope: &Scope<'scope, u64>,
    node: usize,
    mut decoder: Box<dyn Decoder>,
    chunks: Parcels<'scope, Cargo>,
    letters: Letters,
    shared: Arc<Shared>,
) -> (
    Batches<'scope>,
    Batches<'scope>,
    Parcels<'scope, TimeReport>,
) {
    let mut builder = OperatorBuilder::new(format!("decode {}", letters.step()), *scope);
    let mut input = builder.new_input(chunks, Exchange::new(|parcel: &Parcel<Cargo>| parcel.to));
    let (rows, row_stream) = builder.new_output();
    let (dead, dead_stream) = builder.new_output();
    let (notices, notice_stream) = builder.new_output();
    let mut rows = OutputBuilder::<_, NoopBuilder<Batch>>::from(rows);
    let mut dead = OutputBuilder::<_, NoopBuilder<Batch>>::from(dead);
    let mut notices = OutputBuilder::<_, CapacityContainerBuilder<Vec<Notice>>>::from(notices);
    let (worker, peers) = (scope.index(), scope.peers() as u64);
    builder.build(move |_| {
        move |_| {
            let (mut rows, mut dead) = (rows.activate(), dead.activate());
            let mut notices = notices.activate();
            input.for_each(|capability, parcels| {
                for parcel in parcels.drain(..) {
                    if shared.failed() {
                        return;
                    }
                    for chunk in apart(parcel.body.0, shared.suspect.as_ref()) {
                        let mut decoded = Decoded::default();
                        let place = || letters.place_between(chunk.split, chunk.start, chunk.end);
                        let source = format_args!("source \"{}\"", letters.step());
                        let call = || decoder.decode(&chunk, &mut decoded);
                        if let Err(failure) = guarded(&source, place, call) {
                            return shared.fail_with(*failure);
                        }
                        let ledger = account(&decoded);
                        measure(&shared, node, letters.step(), &decoded, &ledger);
                        let report = TimeReport::Decoded {
                            source: node,
                            split: chunk.split.0,
                            newest: decoded.newest_event_time,
                            ledger,
                        };
                        for batch in decoded.batches {
                            for piece in pieces(batch, shared.limits.batch_rows) {
                                rows.session_with_builder(&capability)
                                    .give_container(&mut Batch::new(piece));
                            }
                        }
                        match letters.batch(&decoded.dead) {
                            Ok(None) => {}
                            Ok(Some(batch)) => dead
                                .session_with_builder(&capability)
                                .give_container(&mut Batch::new(batch)),
                            Err(fault) => return shared.fail(fault),
                        }
                        let mut session = notices.session(&capability);
                        for to in 0..peers {
                            session.give(Parcel {
                                to,
                                body: report.clone(),
                            });
                        }
                    }
                    shared.decoded(node, worker);
                }
            });
        }
    });
    (row_stream, dead_stream, notice_stream)
}

/// Counts what a chunk gave, for metrics.
fn measure(shared: &Shared, node: usize, source: &str, decoded: &Decoded, ledger: &Ledger) {
    if let Some(flow) = shared.flow.get(node) {
        add(&flow.rows_in, ledger.input);
        add(&flow.rows_out, ledger.passed);
        add(&flow.batches, decoded.batches.len() as u64);
    }
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for letter in &decoded.dead {
        *reasons.entry(letter.code).or_default() += 1;
    }
    for (reason, count) in reasons {
        shared
            .metrics
            .count("decode_errors_total", &[source, reason], count);
    }
    for (class, count) in classes(&decoded.dead) {
        shared
            .metrics
            .count("dead_letters_total", &[class.word()], count);
    }
}

/// `read = decoded + dead`: the records the decoder saw, against what it made of them.
fn account(decoded: &Decoded) -> Ledger {
    Ledger {
        input: decoded.records,
        passed: decoded
            .batches
            .iter()
            .map(|batch| batch.num_rows() as u64)
            .sum(),
        dead: decoded.dead.len() as u64,
        ..Ledger::default()
    }
}
