//! Putting a checkpoint together from what workers report. Pure: reports in, a whole checkpoint out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thalweg_checkpoint::PackedSection;
use thalweg_stream::{Epoch, Fault, Ledger};

use crate::report::{EpochInfo, SplitProgress};

/// What one epoch read: offsets of the splits that moved, and which have become idle or have woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) epoch: Epoch,
    /// Split and the offset it has reached.
    pub(crate) offsets: Vec<(u32, u64)>,
    /// Split and whether it is idle from now on.
    pub(crate) idle: Vec<(u32, bool)>,
}

/// A checkpoint whose parts are all in.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) info: Arc<EpochInfo>,
    pub(crate) cuts: Vec<Cut>,
    /// State by worker, then node, in the order in which it was handed out.
    pub(crate) sections: BTreeMap<usize, Vec<(usize, PackedSection)>>,
    /// Every (worker, node) whose sections are all its state.
    pub(crate) full: BTreeSet<(usize, usize)>,
    /// What became of rows since the attempt began, by node.
    pub(crate) ledgers: BTreeMap<usize, Ledger>,
}

/// Collects what workers report between two checkpoints.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Every (worker, node) that seals.
    expected: BTreeSet<(usize, usize)>,
    sealed: BTreeMap<(usize, usize), (Epoch, Ledger, bool)>,
    info: Option<Arc<EpochInfo>>,
    sections: BTreeMap<usize, Vec<(usize, PackedSection)>>,
    cuts: Vec<Cut>,
    later_cuts: Vec<Cut>,
    offsets: BTreeMap<u32, u64>,
    idle: BTreeSet<u32>,
}

impl Assembly {
    /// `nodes` are the steps and sinks of the graph.
    pub(crate) fn new(workers: usize, nodes: &[usize]) -> Self {
        let expected = (0..workers)
            .flat_map(|w| nodes.iter().map(move |&n| (w, n)))
            .collect();
        Self {
            expected,
            sealed: BTreeMap::new(),
            info: None,
            sections: BTreeMap::new(),
            cuts: Vec::new(),
            later_cuts: Vec::new(),
            offsets: BTreeMap::new(),
            idle: BTreeSet::new(),
        }
    }

    /// An epoch has ended everywhere as far as time goes.
    pub(crate) fn epoch(&mut self, info: &Arc<EpochInfo>) {
        let moved = |split: &SplitProgress| {
            let offset = split.offset?;
            (self.offsets.get(&split.split) != Some(&offset)).then_some((split.split, offset))
        };
        let offsets: Vec<(u32, u64)> = info.splits.iter().filter_map(moved).collect();
        self.offsets.extend(offsets.iter().copied());
        let turned = |split: &SplitProgress| {
            let known = self.idle.contains(&split.split);
            (known != split.idle).then_some((split.split, split.idle))
        };
        let idle: Vec<(u32, bool)> = info.splits.iter().filter_map(turned).collect();
        for (split, idle) in &idle {
            match idle {
                true => self.idle.insert(*split),
                false => self.idle.remove(split),
            };
        }
        let cut = Cut {
            epoch: info.epoch,
            offsets,
            idle,
        };
        if self.info.is_some() {
            self.later_cuts.push(cut);
        } else if !cut.offsets.is_empty() || !cut.idle.is_empty() || info.kind.seals() {
            self.cuts.push(cut);
        }
        if info.kind.seals() {
            self.info = Some(Arc::clone(info));
        }
    }

    /// A node has handed out a piece of its state.
    pub(crate) fn sections(&mut self, worker: usize, node: usize, sections: Vec<PackedSection>) {
        let part = self.sections.entry(worker).or_default();
        part.extend(sections.into_iter().map(|section| (node, section)));
    }

    /// A node has handed out all of it.
    pub(crate) fn sealed(&mut self, epoch: Epoch, at: (usize, usize), ledger: Ledger, full: bool) {
        self.sealed.insert(at, (epoch, ledger, full));
    }

    /// The cuts of a checkpoint that did not come about belong to the next one.
    pub(crate) fn put_back(&mut self, mut cuts: Vec<Cut>) {
        cuts.append(&mut self.cuts);
        self.cuts = cuts;
    }

    /// The checkpoint, once everything is in; collecting goes on with the next.
    ///
    /// # Errors
    /// A bug, if nodes sealed different epochs.
    pub(crate) fn take(&mut self) -> Result<Option<Whole>, Fault> {
        let Some(info) = self.info.clone() else {
            return Ok(None);
        };
        if self.sealed.len() < self.expected.len() {
            return Ok(None);
        }
        let mut ledgers: BTreeMap<usize, Ledger> = info.decoded.iter().copied().collect();
        for (&(worker, node), &(epoch, ledger, _)) in &self.sealed {
            if epoch != info.epoch || !self.expected.contains(&(worker, node)) {
                return Err(Fault::bug(format!(
                    "worker {worker} sealed node {node} at epoch {epoch}, not at {}",
                    info.epoch
                )));
            }
            *ledgers.entry(node).or_default() += ledger;
        }
        let full = std::mem::take(&mut self.sealed)
            .into_iter()
            .filter(|(_, (.., full))| *full);
        let full = full.map(|(at, _)| at).collect();
        self.info = None;
        let cuts = std::mem::replace(&mut self.cuts, std::mem::take(&mut self.later_cuts));
        let sections = std::mem::take(&mut self.sections);
        Ok(Some(Whole {
            info,
            cuts,
            sections,
            full,
            ledgers,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_stream::EpochKind;

    fn info(epoch: u64, kind: EpochKind, offset: u64) -> Arc<EpochInfo> {
        idle_info(epoch, kind, offset, false)
    }

    fn idle_info(epoch: u64, kind: EpochKind, offset: u64, idle: bool) -> Arc<EpochInfo> {
        let split = SplitProgress {
            split: 0,
            offset: Some(offset),
            newest: None,
            idle,
            finished: false,
            loaded: false,
            behind: None,
        };
        let (nodes, decoded) = (Vec::new(), Vec::new());
        Arc::new(EpochInfo {
            epoch: Epoch(epoch),
            kind,
            nodes,
            splits: vec![split],
            decoded,
        })
    }

    #[test]
    fn checkpoint_is_whole_when_every_worker_has_sealed_every_node() {
        let mut assembly = Assembly::new(2, &[1, 2]);
        assembly.epoch(&info(1, EpochKind::Ordinary, 10));
        assembly.epoch(&info(2, EpochKind::Ordinary, 10));
        assembly.epoch(&info(3, EpochKind::Checkpoint, 25));
        assembly.epoch(&info(4, EpochKind::Ordinary, 40));
        let ledger = Ledger {
            input: 5,
            passed: 5,
            ..Ledger::default()
        };
        for (worker, node) in [(0, 1), (0, 2), (1, 1)] {
            assembly.sealed(Epoch(3), (worker, node), ledger, true);
            assert!(assembly.take().expect("consistent").is_none());
        }
        assembly.sealed(Epoch(3), (1, 2), ledger, false);
        let whole = assembly.take().expect("consistent").expect("whole");
        let cut = |epoch, offset| Cut {
            epoch: Epoch(epoch),
            offsets: vec![(0, offset)],
            idle: Vec::new(),
        };
        assert_eq!(whole.cuts, [cut(1, 10), cut(3, 25)]);
        assert_eq!(whole.ledgers[&1].input, 10);
        assert!(whole.full.contains(&(0, 2)) && !whole.full.contains(&(1, 2)));
        assembly.epoch(&info(5, EpochKind::Checkpoint, 40));
        for (worker, node) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            assembly.sealed(Epoch(5), (worker, node), ledger, true);
        }
        let next = assembly.take().expect("consistent").expect("whole");
        assert_eq!(
            next.cuts.first(),
            Some(&cut(4, 40)),
            "epochs after the seal belong to the next"
        );
    }

    #[test]
    fn epochs_in_which_a_split_becomes_idle_or_wakes_are_cuts() {
        let mut assembly = Assembly::new(1, &[]);
        let ordinary = EpochKind::Ordinary;
        for (epoch, offset, idle) in [(1, 10, false), (2, 10, true), (3, 10, true), (4, 12, false)]
        {
            assembly.epoch(&idle_info(epoch, ordinary, offset, idle));
        }
        assembly.epoch(&idle_info(5, EpochKind::Checkpoint, 12, false));
        let whole = assembly.take().expect("consistent").expect("whole");
        let cut = |epoch, offsets: &[(u32, u64)], idle: &[(u32, bool)]| Cut {
            epoch: Epoch(epoch),
            offsets: offsets.to_vec(),
            idle: idle.to_vec(),
        };
        let cuts = [
            cut(1, &[(0, 10)], &[]),
            cut(2, &[], &[(0, true)]),
            cut(4, &[(0, 12)], &[(0, false)]),
            cut(5, &[], &[]),
        ];
        assert_eq!(whole.cuts, cuts);
    }

    #[test]
    fn nodes_that_sealed_another_epoch_are_a_bug() {
        let mut assembly = Assembly::new(1, &[1]);
        assembly.epoch(&info(2, EpochKind::Checkpoint, 1));
        assembly.sealed(Epoch(1), (0, 1), Ledger::default(), true);
        assert!(assembly.take().is_err());
    }
}
