//! Which parts make up the state of a step, and when they should be compacted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::group::GroupSet;
use super::part::PartRecord;
use crate::error::Error;
use crate::name::ObjectName;

/// Most deltas behind a base; a longer chain is compacted.
pub const CHAIN_DELTAS_MAX: usize = 8;
/// Times as many make a chain that has to begin anew at once.
const OVERLONG: usize = 4;

/// The state of all steps as of one checkpoint: parts of this one and of earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChains {
    /// The parts, in the order of their ids (epoch, worker, sequence).
    pub parts: Vec<PartRecord>,
    /// For each step, what the parts have of it, in the same order.
    pub steps: BTreeMap<String, Vec<Link>>,
}

/// What one part has of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The part.
    pub part: ObjectName,
    /// Groups of which it has sections.
    pub groups: GroupSet,
    /// Groups of which everything in earlier parts is obsolete.
    pub bases: GroupSet,
    /// Bytes (unpacked) of groups in `bases`.
    pub base_bytes: u64,
    /// Bytes (unpacked) of other groups.
    pub delta_bytes: u64,
}

/// What a worker reports of a part it has stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReport {
    /// The part.
    pub part: PartRecord,
    /// What it has, by step.
    pub links: BTreeMap<String, Link>,
}

impl Link {
    pub(super) fn empty(part: ObjectName) -> Self {
        Self {
            part,
            groups: GroupSet::EMPTY,
            bases: GroupSet::EMPTY,
            base_bytes: 0,
            delta_bytes: 0,
        }
    }
}

impl StateChains {
    /// The state as of the next checkpoint: what is still needed of this one, and the new parts.
    ///
    /// # Errors
    /// A bug: the new parts are not newer.
    pub fn advance(&self, mut reports: Vec<PartReport>) -> Result<Self, Error> {
        reports.sort_by_key(|report| report.part.id);
        let last = self.parts.iter().map(|part| part.id.epoch).max();
        let mut next = self.clone();
        for report in reports {
            if last >= Some(report.part.id.epoch) {
                let name = &report.part.name;
                return Err(Error::Bug(format!(
                    "{name} is not newer than the last checkpoint"
                )));
            }
            next.parts.push(report.part);
            for (step, link) in report.links {
                next.steps.entry(step).or_default().push(link);
            }
        }
        next.drop_obsolete();
        Ok(next)
    }

    /// The state without the steps that a changed definition no longer has.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut next = self.clone();
        next.steps.retain(|step, _| keep(step));
        next.drop_obsolete();
        next
    }

    /// The state with what was [compacted](super::Compaction) of an earlier checkpoint in the place
    /// of all that made it up, before whatever has been written since.
    #[must_use]
    pub fn compacted(&self, reports: &[PartReport]) -> Self {
        let mut next = self.clone();
        for report in reports {
            let id = report.part.id;
            let at = next.parts.partition_point(|part| part.id < id);
            let later: BTreeSet<ObjectName> =
                (next.parts.iter().skip(at).map(|part| part.name.clone())).collect();
            next.parts.insert(at, report.part.clone());
            for (step, link) in &report.links {
                let links = next.steps.entry(step.clone()).or_default();
                let at = links.partition_point(|link| !later.contains(&link.part));
                links.insert(at, link.clone());
            }
        }
        next.drop_obsolete();
        next
    }

    /// Whether nothing is known of `step`, so that its next freeze should be full: that makes the
    /// base of its chain.
    #[must_use]
    pub fn lacks(&self, step: &str) -> bool {
        !self.steps.contains_key(step)
    }

    /// Whether the state of `step` should be compacted: more than [`CHAIN_DELTAS_MAX`] deltas lie
    /// behind a base, or they are heavier than half of the bases.
    #[must_use]
    pub fn wants_compaction(&self, step: &str) -> bool {
        let Some(links) = self.steps.get(step) else {
            return false;
        };
        let (base, delta) = (links.iter()).fold((0_u64, 0_u64), |(base, delta), link| {
            (base + link.base_bytes, delta + link.delta_bytes)
        });
        delta > base / 2 || longest(links) > CHAIN_DELTAS_MAX
    }

    /// Whether so many deltas of `step` lie behind a base that compaction does not keep up, as in a
    /// job that is killed again and again before it has come to an end.
    #[must_use]
    pub fn is_overlong(&self, step: &str) -> bool {
        let links = self.steps.get(step);
        links.is_some_and(|links| longest(links) > OVERLONG * CHAIN_DELTAS_MAX)
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    fn drop_obsolete(&mut self) {
        let mut needed = BTreeSet::new();
        for links in self.steps.values_mut() {
            let mut covered = GroupSet::EMPTY;
            let mut kept = Vec::with_capacity(links.len());
            for link in links.drain(..).rev() {
                let bases = link.bases;
                if !link.groups.without(covered).is_empty() {
                    needed.insert(link.part.clone());
                    kept.push(link);
                }
                covered = covered.or(bases);
            }
            kept.reverse();
            *links = kept;
        }
        self.steps.retain(|_, links| !links.is_empty());
        self.parts.retain(|part| needed.contains(&part.name));
    }
}

/// Deltas of the group that has most of them since its last base.
fn longest(links: &[Link]) -> usize {
    let groups = GroupSet::ALL.iter().map(|group| deltas(links, group));
    groups.max().unwrap_or_default()
}

/// Deltas of a group since its last base.
fn deltas(links: &[Link], group: u8) -> usize {
    (links.iter().rev())
        .take_while(|link| !link.bases.contains(group))
        .filter(|link| link.groups.contains(group))
        .count()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use thalweg_stream::{Epoch, Generation};

    use super::{CHAIN_DELTAS_MAX, GroupSet, Link, PartRecord, PartReport, StateChains};
    use crate::name::{COMPACTION, ObjectName, PartId};

    /// The report of a part with one step.
    fn report(
        epoch: u64,
        worker: u32,
        groups: Range<usize>,
        bases: Range<usize>,
        bytes: u64,
    ) -> PartReport {
        let id = PartId {
            epoch: Epoch(epoch),
            generation: Generation(1),
            worker,
            sequence: 0,
        };
        let name = ObjectName::part(id);
        let (groups, bases) = (GroupSet::range(groups), GroupSet::range(bases));
        let base = !groups.and(bases).is_empty();
        let link = Link {
            part: name.clone(),
            groups,
            bases,
            base_bytes: if base { bytes } else { 0 },
            delta_bytes: if base { 0 } else { bytes },
        };
        PartReport {
            part: PartRecord {
                name,
                id,
                bytes,
                crc32: 0,
                index_crc32: 0,
            },
            links: [("window".to_owned(), link)].into(),
        }
    }

    fn epochs(chains: &StateChains) -> Vec<(u64, u32)> {
        let ids = chains.parts.iter().map(|p| p.id);
        ids.map(|id| (id.epoch.0, id.worker)).collect()
    }

    #[test]
    fn a_base_drops_what_it_covers_and_nothing_else() {
        let chains = StateChains::default();
        // Two workers, full; a delta each; then the state moves to one worker.
        let full = vec![
            report(1, 1, 128..256, 128..256, 9),
            report(1, 0, 0..128, 0..128, 9),
        ];
        let chains = chains.advance(full).unwrap();
        assert_eq!(epochs(&chains), [(1, 0), (1, 1)]);
        let delta = vec![report(2, 0, 3..5, 0..0, 1), report(2, 1, 200..201, 0..0, 1)];
        let chains = chains.advance(delta).unwrap();
        assert_eq!(epochs(&chains), [(1, 0), (1, 1), (2, 0), (2, 1)]);
        // One group of its own accord.
        let chains = chains
            .advance(vec![report(3, 0, 200..201, 200..201, 1)])
            .unwrap();
        assert_eq!(epochs(&chains), [(1, 0), (1, 1), (2, 0), (3, 0)]);
        let chains = chains
            .advance(vec![report(4, 0, 0..256, 0..256, 9)])
            .unwrap();
        assert_eq!(epochs(&chains), [(4, 0)]);
    }

    #[test]
    fn a_full_freeze_of_nothing_drops_everything() {
        let chains = StateChains::default();
        let chains = chains
            .advance(vec![report(1, 0, 0..256, 0..256, 9)])
            .unwrap();
        let chains = chains.advance(vec![report(2, 0, 0..0, 0..256, 0)]).unwrap();
        assert_eq!(chains, StateChains::default());
        assert!(chains.lacks("window") && !chains.wants_compaction("window"));
    }

    #[test]
    fn chains_are_neither_long_nor_heavy() {
        let mut chains = StateChains::default();
        assert!(chains.lacks("window"));
        chains = chains
            .advance(vec![report(1, 0, 0..256, 0..256, 1000)])
            .unwrap();
        for epoch in 2..2 + CHAIN_DELTAS_MAX as u64 {
            chains = chains
                .advance(vec![report(epoch, 0, 7..8, 0..0, 1)])
                .unwrap();
            assert!(!chains.wants_compaction("window"), "epoch {epoch}");
        }
        let long = chains.advance(vec![report(90, 0, 7..8, 0..0, 1)]).unwrap();
        assert!(long.wants_compaction("window"));
        let grow = |chains: StateChains, epochs: Range<u64>| {
            epochs.fold(chains, |chains, epoch| {
                chains
                    .advance(vec![report(epoch, 0, 7..8, 0..0, 1)])
                    .unwrap()
            })
        };
        let most = grow(long.clone(), 91..91 + 23);
        assert!(!most.is_overlong("window"));
        assert!(grow(most, 114..115).is_overlong("window"));
        let other = chains.advance(vec![report(90, 0, 8..9, 0..0, 1)]).unwrap();
        assert!(!other.wants_compaction("window"));
        let heavy = chains
            .advance(vec![report(90, 0, 8..9, 0..0, 493)])
            .unwrap();
        assert!(heavy.wants_compaction("window"));
    }

    #[test]
    fn a_compaction_replaces_what_it_has_read_and_nothing_that_came_later() {
        let compacted = |groups: Range<usize>| {
            let mut report = report(3, COMPACTION, groups.clone(), groups, 9);
            report.part.id.generation = Generation(1);
            report
        };
        let mut chains = StateChains::default();
        for epoch in 1..=5 {
            let base = if epoch == 1 { 0..256 } else { 0..0 };
            let two = vec![
                report(epoch, 0, 0..128, base.clone(), 1),
                report(epoch, 1, 128..256, base, 1),
            ];
            chains = chains.advance(two).unwrap();
        }
        let half = chains.compacted(&[compacted(0..128)]);
        let left = [
            (1, 1),
            (2, 1),
            (3, 1),
            (3, COMPACTION),
            (4, 0),
            (4, 1),
            (5, 0),
            (5, 1),
        ];
        assert_eq!(epochs(&half), left);
        let all = chains.compacted(&[compacted(0..256)]);
        assert_eq!(
            epochs(&all),
            [(3, COMPACTION), (4, 0), (4, 1), (5, 0), (5, 1)]
        );
        let links = &all.steps["window"];
        assert!(links[0].bases == GroupSet::ALL && links.len() == 5);
        // A base that has been frozen since leaves nothing of it.
        let savepoint = chains
            .advance(vec![report(6, 0, 0..256, 0..256, 9)])
            .unwrap();
        assert_eq!(savepoint.compacted(&[compacted(0..256)]), savepoint);
    }

    #[test]
    fn parts_out_of_order_are_a_bug() {
        let chains = StateChains::default();
        let chains = chains.advance(vec![report(5, 0, 0..9, 0..9, 1)]).unwrap();
        assert!(chains.advance(vec![report(5, 1, 0..9, 0..9, 1)]).is_err());
    }
}
