//! What a sink has staged and not yet published: kept from manifest to manifest.
//!
//! Staged objects are grouped into *publish units*. A unit is open while objects of further
//! checkpoints may join it, and closed when it may be published; the manifest fixes the grouping,
//! so that after a crash the same rows go out under the same name. A unit leaves the manifest only
//! when its publication is confirmed.

use serde::{Deserialize, Serialize};
use thalweg_stream::sink::{Grouping, PublishUnit, StagedObject};
use thalweg_stream::{Epoch, Lineage};

/// A sink in a manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkRecord {
    /// What it is and where it writes, as its definition says; empty if that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// Where its objects are staged.
    pub stage: StagePlace,
    /// What is not confirmed as published, in the order of epochs, also of earlier checkpoints and
    /// lineages.
    pub units: Vec<UnitRecord>,
    /// The newest unit that is confirmed as published. Of an unordered sink, older ones may still
    /// be in `units`.
    pub published: Option<Epoch>,
    /// What its publisher last reported, for the next start.
    pub state: serde_json::Value,
}

/// Where a sink stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StagePlace {
    /// In the outbox of the checkpoint store.
    #[default]
    Outbox,
    /// In a place of its own.
    Own,
}

/// A publish unit in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// Whether objects of further checkpoints may join it.
    pub open: bool,
    /// When it was opened, by the job's clock, milliseconds.
    pub opened_at_ms: i64,
    /// Its objects.
    #[serde(flatten)]
    pub unit: PublishUnit,
}

impl UnitRecord {
    /// Bytes of its objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.unit.objects.iter().map(|object| object.bytes).sum()
    }
}

impl SinkRecord {
    /// A sink that has staged nothing yet.
    #[must_use]
    pub fn new(stage: StagePlace) -> Self {
        Self {
            stage,
            ..Self::default()
        }
    }

    /// Takes in what was staged by the checkpoint of `epoch` (perhaps nothing, perhaps also
    /// objects of earlier epochs whose checkpoint did not come about), and closes the open unit
    /// when it is due. Without `grouping` every checkpoint is a unit of its own.
    ///
    /// Call it for every checkpoint, with the time of the job's clock: the age of a unit is only
    /// looked at here, so that what the manifest says is the whole truth.
    pub fn stage(
        &mut self,
        epoch: Epoch,
        mut objects: Vec<StagedObject>,
        grouping: Option<Grouping>,
        lineage: &Lineage,
        now_ms: i64,
    ) {
        if let Some(open) = self.open_unit()
            && open.unit.lineage != *lineage
        {
            // Names of one history must not take in rows of another.
            open.open = false;
        }
        objects.sort_by_key(|object| (object.epoch, object.worker, object.sequence));
        if !objects.is_empty() {
            if let Some(open) = self.open_unit() {
                open.unit.epoch = epoch;
                open.unit.objects.append(&mut objects);
            } else {
                self.units.push(UnitRecord {
                    open: true,
                    opened_at_ms: now_ms,
                    unit: PublishUnit {
                        lineage: lineage.clone(),
                        epoch,
                        objects,
                    },
                });
            }
        }
        if let Some(open) = self.open_unit() {
            let full = grouping.is_none_or(|grouping| {
                let age_ms = now_ms.saturating_sub(open.opened_at_ms);
                open.bytes() >= grouping.bytes_max
                    || u64::try_from(age_ms).unwrap_or(0) >= grouping.every_ms
            });
            open.open = !full;
        }
    }

    /// Closes the open unit: the job ends, or a savepoint is to be complete.
    pub fn close(&mut self) {
        if let Some(open) = self.open_unit() {
            open.open = false;
        }
    }

    /// The units that may be published once the manifest is committed, in order.
    pub fn publishable(&self) -> impl Iterator<Item = &UnitRecord> {
        self.units.iter().filter(|unit| !unit.open)
    }

    /// Takes note that a unit is published; false if there is no such unit.
    pub fn confirm(&mut self, lineage: &Lineage, epoch: Epoch, state: serde_json::Value) -> bool {
        let before = self.units.len();
        (self.units)
            .retain(|unit| unit.open || (&unit.unit.lineage, unit.unit.epoch) != (lineage, epoch));
        if self.units.len() == before {
            return false;
        }
        self.published = self.published.max(Some(epoch));
        self.state = state;
        true
    }

    /// How many closed units wait for publication: the cap on unpublished output counts them.
    #[must_use]
    pub fn unpublished(&self) -> usize {
        self.publishable().count()
    }

    /// The objects that stand in the outbox of the checkpoint store.
    pub(crate) fn in_outbox(&self) -> impl Iterator<Item = &StagedObject> {
        let here = self.stage == StagePlace::Outbox;
        let units = self.units.iter().filter(move |_| here);
        units.flat_map(|unit| &unit.unit.objects)
    }

    /// Whether the units are in order and the open one, if any, is the last.
    pub(crate) fn check(&self, epoch: Epoch) -> Result<(), String> {
        let ordered =
            (self.units).is_sorted_by(|one, two| one.unit.epoch < two.unit.epoch && !one.open);
        if !ordered {
            return Err("its publish units are out of order".to_owned());
        }
        match self.units.last() {
            Some(unit) if unit.unit.epoch > epoch => Err(format!(
                "it has a publish unit of epoch {}",
                unit.unit.epoch
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn open_unit(&mut self) -> Option<&mut UnitRecord> {
        self.units.last_mut().filter(|unit| unit.open)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use thalweg_stream::sink::{Grouping, StagedObject};
    use thalweg_stream::{Epoch, Lineage};

    use super::{SinkRecord, StagePlace};

    fn object(epoch: u64, worker: u32, bytes: u64) -> StagedObject {
        StagedObject {
            name: format!("documents/{epoch}-{worker}-0-g1"),
            epoch: Epoch(epoch),
            worker,
            sequence: 0,
            bytes,
            crc32: 0,
            rows: 1,
            note: Value::Null,
        }
    }

    fn lineage(name: &str) -> Lineage {
        Lineage(name.to_owned())
    }

    /// Units as `epoch:objects`, the open one with a plus.
    fn units(sink: &SinkRecord) -> String {
        let units = sink.units.iter().map(|u| {
            let open = if u.open { "+" } else { "" };
            format!("{}:{}{open}", u.unit.epoch, u.unit.objects.len())
        });
        units.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn without_grouping_every_checkpoint_is_a_unit() {
        let mut sink = SinkRecord::new(StagePlace::Outbox);
        let one = lineage("one");
        sink.stage(
            Epoch(3),
            vec![object(3, 1, 5), object(3, 0, 5)],
            None,
            &one,
            0,
        );
        sink.stage(Epoch(6), vec![], None, &one, 10);
        sink.stage(
            Epoch(9),
            vec![object(8, 0, 5), object(9, 0, 5)],
            None,
            &one,
            20,
        );
        assert_eq!(units(&sink), "3:2 9:2");
        assert_eq!(sink.units[0].unit.objects[0].worker, 0);
        assert_eq!(sink.unpublished(), 2);
        assert!(sink.confirm(&one, Epoch(3), Value::from(7)));
        assert!(!sink.confirm(&one, Epoch(3), Value::Null));
        assert!(!sink.confirm(&lineage("two"), Epoch(9), Value::Null));
        assert_eq!(units(&sink), "9:2");
        assert_eq!(
            (sink.published, &sink.state),
            (Some(Epoch(3)), &Value::from(7))
        );
        assert_eq!(sink.check(Epoch(9)), Ok(()));
        assert!(sink.check(Epoch(8)).is_err());
    }

    #[test]
    fn units_close_by_age_size_lineage_and_at_the_end() {
        let grouping = Some(Grouping {
            every_ms: 100,
            bytes_max: 10,
        });
        let mut sink = SinkRecord::new(StagePlace::Own);
        let (one, two) = (lineage("one"), lineage("two"));
        sink.stage(Epoch(1), vec![object(1, 0, 4)], grouping, &one, 0);
        sink.stage(Epoch(2), vec![object(2, 0, 4)], grouping, &one, 50);
        assert_eq!(units(&sink), "2:2+");
        assert!(!sink.confirm(&one, Epoch(2), Value::Null), "it is open");
        sink.stage(Epoch(3), vec![], grouping, &one, 100);
        assert_eq!(units(&sink), "2:2", "by age");
        sink.stage(Epoch(4), vec![object(4, 0, 11)], grouping, &one, 120);
        assert_eq!(units(&sink), "2:2 4:1", "by size");
        sink.stage(Epoch(5), vec![object(5, 0, 1)], grouping, &one, 130);
        sink.stage(Epoch(6), vec![object(6, 0, 1)], grouping, &two, 140);
        assert_eq!(units(&sink), "2:2 4:1 5:1 6:1+", "by lineage");
        sink.close();
        assert_eq!(units(&sink), "2:2 4:1 5:1 6:1");
        assert_eq!(sink.in_outbox().count(), 0);
        assert_eq!(sink.check(Epoch(6)), Ok(()));
    }
}
