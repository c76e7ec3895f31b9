//! The tracker as an operator: from time reports to the watermark edge; and the entrance of dead
//! letters that come from publishing.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use thalweg_stream::{DeadLetter, Epoch, EpochKind};
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::container::Batch;
use crate::decode::Batches;
use crate::letters::Letters;
use crate::parcel::Notice;
use crate::read::{Observed, Parcels};
use crate::report::{EpochInfo, Report, TimeReport};
use crate::shared::{Shared, lock};
use crate::step::Clocks;
use crate::tracker::Tracker;

/// Builds the tracker of one worker.
pub(crate) fn track<'scope>(
    scope: &Scope<'scope, u64>,
    notices: Parcels<'scope, TimeReport>,
    mut tracker: Tracker,
    gates: Vec<usize>,
    observed: Observed,
    shared: Arc<Shared>,
) -> Clocks<'scope> {
    let mut builder = OperatorBuilder::new("watermarks".to_owned(), *scope);
    let mut input = builder.new_input(notices, Exchange::new(|notice: &Notice| notice.to));
    let (output, stream) = builder.new_output();
    let mut output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Arc<EpochInfo>>>>::from(output);
    let first_worker = scope.index() == 0;
    builder.build(move |_| {
        let mut open: BTreeMap<u64, (Capability<u64>, Vec<TimeReport>)> = BTreeMap::new();
        move |frontiers| {
            input.for_each(|capability, notices| {
                if let (Some(&epoch), Some(held)) = (capability.least(), capability.retain_least(0))
                {
                    let (_, reports) = open.entry(epoch).or_insert_with(|| (held, Vec::new()));
                    for Notice { body, .. } in notices.drain(..) {
                        if let TimeReport::Decoded {
                            source,
                            split,
                            newest: Some(newest),
                            ..
                        } = body
                        {
                            observed.note(source, split, newest);
                        }
                        reports.push(body);
                    }
                }
            });
            let complete = frontiers[0].frontier().first().copied().unwrap_or(u64::MAX);
            let mut output = output.activate();
            while let Some(entry) = open.first_entry() {
                if *entry.key() >= complete {
                    break;
                }
                let (epoch, (capability, reports)) = entry.remove_entry();
                let info = Arc::new(tracker.close(Epoch(epoch), reports));
                if first_worker {
                    shared.report(Report::Epoch(Arc::clone(&info)));
                }
                for &source in gates.iter().filter(|&&source| tracker.loaded(source)) {
                    shared.set_loaded(source);
                }
                output.session(&capability).give(info);
            }
        }
    });
    stream
}

/// Builds the entrance for dead letters from publishing; on the first worker it follows the epoch
/// clock, elsewhere it ends at once.
pub(crate) fn rejected<'scope>(
    scope: &Scope<'scope, u64>,
    letters: Letters,
    shared: Arc<Shared>,
    first: Epoch,
) -> Batches<'scope> {
    let mut builder = OperatorBuilder::new("rejected".to_owned(), *scope);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, NoopBuilder<Batch>>::from(output);
    let address = builder.operator_info().address;
    shared.register(
        scope
            .worker()
            .sync_activator_for(Rc::clone(&address).to_vec()),
    );
    let first_worker = scope.index() == 0;
    builder.build(move |mut capabilities| {
        let mut held = if first_worker {
            capabilities.pop()
        } else {
            None
        };
        drop(capabilities);
        let (mut epoch, mut entered) = (first, 0);
        move |_| {
            let Some(capability) = &mut held else { return };
            capability.downgrade(&epoch.0.max(*capability.time()));
            let waiting = std::mem::take(&mut *lock(&shared.rejected));
            if !waiting.is_empty() {
                entered += waiting.len() as u64;
                for (sink, id, letter) in waiting {
                    let class = letter.class.word();
                    shared.metrics.count("dead_letters_total", &[class], 1);
                    match enter(&letters, &sink, id, letter) {
                        Ok(batch) => output
                            .activate()
                            .session_with_builder(capability)
                            .give_container(&mut Batch::new(batch)),
                        Err(fault) => return shared.fail(fault),
                    }
                }
                shared.report(Report::Rejected { epoch, entered });
            }
            while epoch <= shared.closed() && !shared.failed() {
                if shared.kind(epoch) == EpochKind::Final {
                    held = None;
                    return;
                }
                epoch = epoch.next();
            }
            capability.downgrade(&epoch.0);
        }
    });
    stream
}

fn enter(
    letters: &Letters,
    sink: &str,
    id: String,
    letter: DeadLetter,
) -> Result<arrow::record_batch::RecordBatch, thalweg_stream::Fault> {
    letters.named(sink).rows(&[letter], vec![id])
}
