//! The output of one sink between its staging and the confirmation that it is visible. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use thalweg_stream::sink::{Grouping, PublishUnit, StagedObject};
use thalweg_stream::Epoch;

/// A unit that still takes in checkpoints.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OpenUnit {
    pub(crate) opened_at_ms: i64,
    pub(crate) objects: Vec<StagedObject>,
}

/// What a sink has staged and not yet confirmed.
#[derive(Debug, Default)]
pub(crate) struct Unpublished {
    grouping: Option<Grouping>,
    open: Option<OpenUnit>,
    /// Closed units by epoch, in order; each listed until its confirmation stands in a manifest.
    closed: BTreeMap<Epoch, Closed>,
    state: Value,
}

#[derive(Clone, Debug)]
struct Closed {
    unit: PublishUnit,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Named in no commit yet.
    Staged,
    /// Handed to the publisher.
    Released,
    /// Visible; its rejected rows are not yet in the dataflow.
    Visible,
    /// Visible, and all that follows from it is staged up to this epoch.
    Settled(Epoch),
}

/// What a manifest says of a sink.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listing {
    pub(crate) open: Option<OpenUnit>,
    pub(crate) closed: Vec<PublishUnit>,
    pub(crate) state: Value,
}

impl Unpublished {
    pub(crate) fn new(grouping: Option<Grouping>) -> Self {
        Self { grouping, ..Self::default() }
    }

    /// What a manifest listed, to go on with.
    pub(crate) fn restored(grouping: Option<Grouping>, listing: Listing) -> Self {
        let closed = (listing.closed.into_iter())
            .map(|unit| (unit.epoch, Closed { unit, fate: Fate::Staged }))
            .collect();
        Self { grouping, open: listing.open, closed, state: listing.state }
    }

    /// What the publisher last reported.
    pub(crate) fn state(&self) -> &Value {
        &self.state
    }

    /// Takes in what the checkpoint of `epoch` staged. `last` closes the unit in any case.
    pub(crate) fn stage(
        &mut self,
        epoch: Epoch,
        now_ms: i64,
        objects: Vec<StagedObject>,
        last: bool,
    ) {
        if !objects.is_empty() {
            let fresh = || OpenUnit { opened_at_ms: now_ms, objects: Vec::new() };
            self.open.get_or_insert_with(fresh).objects.extend(objects);
        }
        let due = self.open.as_ref().is_some_and(|open| last || self.is_due(open, now_ms));
        if let Some(mut open) = self.open.take_if(|_| due) {
            open.objects.sort_by_key(|o| (o.epoch, o.worker, o.sequence));
            let unit = PublishUnit { epoch, objects: open.objects };
            self.closed.insert(epoch, Closed { unit, fate: Fate::Staged });
        }
    }

    fn is_due(&self, open: &OpenUnit, now_ms: i64) -> bool {
        self.grouping.is_none_or(|grouping| {
            let bytes: u64 = open.objects.iter().map(|object| object.bytes).sum();
            let age_ms = u64::try_from(now_ms.saturating_sub(open.opened_at_ms)).unwrap_or(0);
            bytes >= grouping.bytes_max || age_ms >= grouping.every_ms
        })
    }

    /// What the manifest of `epoch` is to say: everything that is not yet settled by then.
    pub(crate) fn listing(&self, epoch: Epoch) -> Listing {
        let listed = |closed: &&Closed| match closed.fate {
            Fate::Staged | Fate::Released | Fate::Visible => true,
            Fate::Settled(at) => at > epoch,
        };
        let closed = self.closed.values().filter(listed).map(|c| c.unit.clone()).collect();
        Listing { open: self.open.clone(), closed, state: self.state.clone() }
    }

    /// The manifest of `epoch` is committed: what may be published now, in order, and the names of
    /// staged objects that are no longer needed.
    pub(crate) fn committed(&mut self, epoch: Epoch) -> (Vec<PublishUnit>, Vec<String>) {
        let mut done = Vec::new();
        self.closed.retain(|_, closed| {
            let settled = matches!(closed.fate, Fate::Settled(at) if at <= epoch);
            if settled {
                done.extend(closed.unit.objects.iter().map(|object| object.name.clone()));
            }
            !settled
        });
        (self.release(), done)
    }

    /// Units to hand to the publisher, each once.
    pub(crate) fn release(&mut self) -> Vec<PublishUnit> {
        let staged = self.closed.values_mut().filter(|closed| closed.fate == Fate::Staged);
        staged
            .map(|closed| {
                closed.fate = Fate::Released;
                closed.unit.clone()
            })
            .collect()
    }

    /// The unit of `epoch` is visible, and its `rejected` rows wait to enter the dataflow.
    pub(crate) fn published(&mut self, epoch: Epoch, state: Value, rejected: bool) {
        if let Some(closed) = self.closed.get_mut(&epoch) {
            closed.fate = if rejected { Fate::Visible } else { Fate::Settled(Epoch(0)) };
        }
        if !state.is_null() {
            self.state = state;
        }
    }

    /// All rejected rows that waited have entered the dataflow in `epoch`.
    pub(crate) fn rejected_entered(&mut self, epoch: Epoch) {
        for closed in self.closed.values_mut().filter(|closed| closed.fate == Fate::Visible) {
            closed.fate = Fate::Settled(epoch);
        }
    }

    /// Rows of a unit.
    pub(crate) fn rows(&self, epoch: Epoch) -> u64 {
        let unit = self.closed.get(&epoch);
        unit.map_or(0, |closed| closed.unit.objects.iter().map(|object| object.rows).sum())
    }

    /// Checkpoints whose output is not yet visible.
    pub(crate) fn backlog(&self) -> usize {
        let waiting = |c: &&Closed| matches!(c.fate, Fate::Staged | Fate::Released);
        self.closed.values().filter(waiting).count()
    }

    /// Whether everything is visible, and what followed from it is committed as of `epoch`: the
    /// next commit need list nothing.
    pub(crate) fn is_settled(&self, epoch: Epoch) -> bool {
        let settled = |c: &Closed| matches!(c.fate, Fate::Settled(at) if at <= epoch);
        self.open.is_none() && self.closed.values().all(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(epoch: u64, bytes: u64) -> StagedObject {
        StagedObject {
            name: format!("s/{epoch}"),
            epoch: Epoch(epoch),
            worker: 0,
            sequence: 0,
            bytes,
            crc32: 0,
            rows: 1,
            note: Value::Null,
        }
    }

    fn epochs(units: &[PublishUnit]) -> Vec<u64> {
        units.iter().map(|unit| unit.epoch.0).collect()
    }

    #[test]
    fn unit_is_listed_until_its_confirmation_is_committed() {
        let mut sink = Unpublished::new(None);
        sink.stage(Epoch(1), 0, vec![object(1, 10)], false);
        assert_eq!(epochs(&sink.listing(Epoch(1)).closed), [1]);
        assert_eq!(epochs(&sink.committed(Epoch(1)).0), [1]);
        sink.stage(Epoch(2), 0, vec![object(2, 10)], false);
        assert_eq!(epochs(&sink.listing(Epoch(2)).closed), [1, 2], "also of earlier epochs");
        sink.published(Epoch(1), Value::Null, false);
        assert_eq!(epochs(&sink.listing(Epoch(2)).closed), [2]);
        let (released, done) = sink.committed(Epoch(2));
        assert_eq!((epochs(&released), done), (vec![2], vec!["s/1".to_owned()]));
        assert!(!sink.is_settled(Epoch(2)));
        sink.published(Epoch(2), Value::Null, false);
        assert!(sink.is_settled(Epoch(2)));
        assert!(sink.committed(Epoch(3)).0.is_empty() && sink.listing(Epoch(3)).closed.is_empty());
    }

    #[test]
    fn unit_with_rejected_rows_stays_listed_until_they_are_staged() {
        let mut sink = Unpublished::new(None);
        sink.stage(Epoch(1), 0, vec![object(1, 10)], false);
        sink.committed(Epoch(1));
        sink.published(Epoch(1), Value::Null, true);
        assert_eq!(epochs(&sink.listing(Epoch(2)).closed), [1]);
        sink.rejected_entered(Epoch(5));
        assert_eq!(epochs(&sink.listing(Epoch(4)).closed), [1]);
        assert!(!sink.is_settled(Epoch(4)) && sink.is_settled(Epoch(5)));
        assert_eq!(epochs(&sink.listing(Epoch(5)).closed), [] as [u64; 0]);
    }

    #[test]
    fn grouping_closes_units_by_age_and_size_and_at_the_end() {
        let grouping = Grouping { every_ms: 1000, bytes_max: 100 };
        let mut sink = Unpublished::new(Some(grouping));
        sink.stage(Epoch(1), 0, vec![object(1, 10)], false);
        sink.stage(Epoch(2), 500, vec![object(2, 10)], false);
        assert!(sink.committed(Epoch(2)).0.is_empty());
        sink.stage(Epoch(3), 1000, Vec::new(), false);
        let (by_age, _) = sink.committed(Epoch(3));
        assert_eq!((epochs(&by_age), by_age[0].objects.len()), (vec![3], 2));
        sink.stage(Epoch(4), 1001, vec![object(4, 100)], false);
        assert_eq!(epochs(&sink.committed(Epoch(4)).0), [4]);
        sink.stage(Epoch(5), 1002, vec![object(5, 1)], true);
        assert_eq!(epochs(&sink.committed(Epoch(5)).0), [5]);
    }

    #[test]
    fn restored_units_are_released_again() {
        let mut sink = Unpublished::new(None);
        sink.stage(Epoch(1), 0, vec![object(1, 10)], false);
        let mut again = Unpublished::restored(None, sink.listing(Epoch(1)));
        assert_eq!(epochs(&again.release()), [1]);
        assert!(again.release().is_empty(), "each once");
    }
}
