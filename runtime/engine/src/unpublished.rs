//! The output of one sink between its staging and the confirmation that it is visible. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use thalweg_checkpoint::publish::{SinkRecord, UnitRecord};
use thalweg_stream::planted::planted;
use thalweg_stream::sink::{Grouping, PublishUnit, StagedObject};
use thalweg_stream::{Epoch, Lineage};

/// What a sink has staged and not yet confirmed: the record of its manifest, and the fate of each
/// of its closed units in this attempt.
#[derive(Debug)]
pub(crate) struct Unpublished {
    grouping: Option<Grouping>,
    lineage: Lineage,
    record: SinkRecord,
    /// By epoch of the unit; a closed unit that is not here is named in no commit yet.
    fates: BTreeMap<Epoch, Fate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Handed to the publisher.
    Released,
    /// Visible; its rejected rows are not yet in the dataflow. They are there once so many of this
    /// attempt have entered it.
    Visible(u64),
    /// Visible, and all that follows from it is staged up to this epoch.
    Settled(Epoch),
}

impl Unpublished {
    /// Goes on with what a manifest says of a sink, or with a new record.
    pub(crate) fn new(grouping: Option<Grouping>, lineage: Lineage, record: SinkRecord) -> Self {
        Self {
            grouping,
            lineage,
            record,
            fates: BTreeMap::new(),
        }
    }

    /// What the publisher last reported.
    pub(crate) fn state(&self) -> &Value {
        &self.record.state
    }

    /// Takes in what the checkpoint of `epoch` staged. `last` closes the unit in any case.
    pub(crate) fn stage(
        &mut self,
        epoch: Epoch,
        now_ms: i64,
        objects: Vec<StagedObject>,
        last: bool,
    ) {
        self.record
            .stage(epoch, objects, self.grouping, &self.lineage, now_ms);
        if last {
            self.record.close();
        }
    }

    /// How many units the newest commit lists.
    pub(crate) fn listed(&self) -> usize {
        self.record.units.len()
    }

    /// What the manifest of `epoch` is to say: everything that is not yet settled by then.
    pub(crate) fn listing(&self, epoch: Epoch) -> SinkRecord {
        let mut record = self.record.clone();
        if planted("list-this-epoch-only") {
            record.units.retain(|unit| unit.unit.epoch == epoch);
        }
        record
            .units
            .retain(|unit| unit.open || !self.is_settled_by(unit.unit.epoch, epoch));
        let settled = self.record.units.iter().map(|unit| unit.unit.epoch);
        let settled = settled
            .filter(|&unit| self.is_settled_by(unit, epoch))
            .max();
        record.published = record.published.max(settled);
        record
    }

    fn is_settled_by(&self, unit: Epoch, epoch: Epoch) -> bool {
        matches!(self.fates.get(&unit), Some(Fate::Settled(at)) if *at <= epoch)
    }

    /// The manifest of `epoch` is committed: what may be published now, in order. Objects that are
    /// no longer listed stay until no kept checkpoint names them: a start from an older one
    /// publishes them again.
    pub(crate) fn committed(&mut self, epoch: Epoch) -> Vec<PublishUnit> {
        self.record = self.listing(epoch);
        self.fates
            .retain(|unit, _| self.record.units.iter().any(|u| u.unit.epoch == *unit));
        self.release()
    }

    /// Units to hand to the publisher, each once.
    pub(crate) fn release(&mut self) -> Vec<PublishUnit> {
        let fates = &mut self.fates;
        let fresh = self
            .record
            .units
            .iter()
            .filter(|unit| !unit.open)
            .filter(|unit| {
                let fresh = !fates.contains_key(&unit.unit.epoch);
                fates.entry(unit.unit.epoch).or_insert(Fate::Released);
                fresh
            });
        fresh.map(|unit| unit.unit.clone()).collect()
    }

    /// The unit of `epoch` is visible. If some of its rows were rejected, they have entered the
    /// dataflow once `waiting` rejected rows of this attempt have.
    pub(crate) fn published(&mut self, epoch: Epoch, state: Value, waiting: Option<u64>) {
        let waiting = waiting.filter(|_| !planted("forget-rejects"));
        let fate = waiting.map_or(Fate::Settled(Epoch(0)), Fate::Visible);
        self.fates.insert(epoch, fate);
        if !state.is_null() {
            self.record.state = state;
        }
    }

    /// So many rejected rows of this attempt have entered the dataflow, the last ones in `epoch`.
    pub(crate) fn rejected_entered(&mut self, epoch: Epoch, entered: u64) {
        for fate in self.fates.values_mut() {
            if matches!(fate, Fate::Visible(waiting) if *waiting <= entered) {
                *fate = Fate::Settled(epoch);
            }
        }
    }

    /// Rows of a unit.
    pub(crate) fn rows(&self, epoch: Epoch) -> u64 {
        let mut units = self.record.units.iter();
        units
            .find(|unit| unit.unit.epoch == epoch)
            .map_or(0, rows_of)
    }

    /// Rows of all units there are.
    pub(crate) fn all_rows(&self) -> u64 {
        self.record.units.iter().map(rows_of).sum()
    }

    /// Checkpoints whose output is not yet visible.
    pub(crate) fn backlog(&self) -> usize {
        let hidden = |unit: Epoch| matches!(self.fates.get(&unit), None | Some(Fate::Released));
        self.record
            .publishable()
            .filter(|unit| hidden(unit.unit.epoch))
            .count()
    }

    /// Whether everything is visible, and what followed from it is committed as of `epoch`: the
    /// next commit need list nothing.
    pub(crate) fn is_settled(&self, epoch: Epoch) -> bool {
        let settled = |unit: &UnitRecord| !unit.open && self.is_settled_by(unit.unit.epoch, epoch);
        self.record.units.iter().all(settled)
    }
}

fn rows_of(unit: &UnitRecord) -> u64 {
    unit.unit.objects.iter().map(|object| object.rows).sum()
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

    fn sink(grouping: Option<Grouping>) -> Unpublished {
        Unpublished::new(grouping, Lineage("l".to_owned()), SinkRecord::default())
    }

    fn epochs(units: &[PublishUnit]) -> Vec<u64> {
        units.iter().map(|unit| unit.epoch.0).collect()
    }

    fn listed(sink: &Unpublished, epoch: u64) -> Vec<u64> {
        sink.listing(Epoch(epoch))
            .publishable()
            .map(|unit| unit.unit.epoch.0)
            .collect()
    }

    #[test]
    fn unit_is_listed_until_its_confirmation_is_committed() {
        let mut sink = sink(None);
        sink.stage(Epoch(1), 0, vec![object(1, 10)], false);
        assert_eq!(listed(&sink, 1), [1]);
        assert_eq!(epochs(&sink.committed(Epoch(1))), [1]);
        sink.stage(Epoch(2), 0, vec![object(2, 10)], false);
        assert_eq!(listed(&sink, 2), [1, 2], "also of earlier epochs");
        sink.published(Epoch(1), Value::Null, None);
        assert_eq!(listed(&sink, 2), [2]);
        assert_eq!(epochs(&sink.committed(Epoch(2))), [2]);
        assert!(!sink.is_settled(Epoch(2)));
        sink.published(Epoch(2), Value::Null, None);
        assert!(sink.is_settled(Epoch(2)));
        assert!(sink.committed(Epoch(3)).is_empty() && sink.listing(Epoch(3)).units.is_empty());
    }

    #[test]
    fn unit_with_rejected_rows_stays_listed_until_they_are_staged() {
        let mut sink = sink(None);
        sink.stage(Epoch(1), 0, vec![object(1, 10)], false);
        sink.committed(Epoch(1));
        sink.published(Epoch(1), Value::Null, Some(7));
        assert_eq!(listed(&sink, 2), [1]);
        sink.rejected_entered(Epoch(3), 6);
        assert_eq!(listed(&sink, 4), [1], "those were of another unit");
        sink.rejected_entered(Epoch(5), 7);
        assert_eq!(listed(&sink, 4), [1]);
        assert!(!sink.is_settled(Epoch(4)) && sink.is_settled(Epoch(5)));
        assert_eq!(listed(&sink, 5), [] as [u64; 0]);
    }

    #[test]
    fn grouping_closes_units_by_age_and_size_and_at_the_end() {
        let grouping = Grouping {
            every_ms: 1000,
            bytes_max: 100,
        };
        let mut sink = sink(Some(grouping));
        sink.stage(Epoch(1), 0, vec![object(1, 10)], false);
        sink.stage(Epoch(2), 500, vec![object(2, 10)], false);
        assert!(sink.committed(Epoch(2)).is_empty());
        sink.stage(Epoch(3), 1000, Vec::new(), false);
        let by_age = sink.committed(Epoch(3));
        assert_eq!((epochs(&by_age), by_age[0].objects.len()), (vec![2], 2));
        sink.stage(Epoch(4), 1001, vec![object(4, 100)], false);
        assert_eq!(epochs(&sink.committed(Epoch(4))), [4]);
        sink.stage(Epoch(5), 1002, vec![object(5, 1)], true);
        assert_eq!(epochs(&sink.committed(Epoch(5))), [5]);
    }

    #[test]
    fn restored_units_are_released_again() {
        let mut sink = sink(None);
        sink.stage(Epoch(1), 0, vec![object(1, 10)], false);
        let mut again = Unpublished::new(None, Lineage("l".to_owned()), sink.listing(Epoch(1)));
        assert_eq!(epochs(&again.release()), [1]);
        assert!(again.release().is_empty(), "each once");
    }
}
