//! What may be deleted. Pure: facts in, names out.
//!
//! Which checkpoints are kept follows from the [job log](crate::log) alone: a commit says how many
//! are kept from then on. An object is deleted only if no manifest of a kept checkpoint names it,
//! and only by an owner who may know that nobody is about to use it:
//!
//! - of a *later* generation nothing, as this owner is fenced and does not know;
//! - of its *own* generation nothing beyond its newest commit, as those epochs are under way;
//! - of *earlier* generations all that is not reached: they are dead, and what they left half done
//!   is litter.
//!
//! So even a deletion that was decided before its process was frozen, and carried out long after,
//! hits nothing that a successor uses: what the successor starts from was kept by the log when the
//! decision was made, and what it has written since carries its own generation.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use thalweg_stream::planted::planted;
use thalweg_stream::{Epoch, Generation};

use crate::name::{ObjectKind, ObjectName, staged_stamp};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Checkpoints, savepoints apart.
    pub keep: u32,
    /// A snapshot entry is written when the log has grown by this many entries.
    pub snapshot_every: u64,
    /// So many numbers below the newest snapshot stay occupied by a fence; those further down are
    /// deleted.
    pub fenced_max: u64,
}

impl Default for Retention {
    /// Three checkpoints; a start reads at most some 64 small objects of log; at one commit every
    /// 10 s the fences reach back three hours.
    fn default() -> Self {
        Self {
            keep: 3,
            snapshot_every: 64,
            fenced_max: 1024,
        }
    }
}

/// Objects that somebody uses of whom no manifest knows (a compaction: what it reads, and what it
/// writes until a manifest names that). They are held before they are written, and whoever deletes
/// asks after listing: so whatever a listing has found is either held by then, or named, or litter.
#[derive(Clone, Debug, Default)]
pub struct InUse {
    held: Arc<Mutex<BTreeMap<ObjectName, usize>>>,
}

/// Names that are in use until this is dropped.
#[derive(Debug)]
pub struct Hold {
    in_use: InUse,
    names: Vec<ObjectName>,
}

impl InUse {
    /// Holds nothing yet.
    #[must_use]
    pub fn hold(&self) -> Hold {
        Hold {
            in_use: self.clone(),
            names: Vec::new(),
        }
    }

    /// The names that are held now.
    #[must_use]
    pub fn names(&self) -> BTreeSet<ObjectName> {
        self.with(|held| held.keys().cloned().collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<ObjectName, usize>) -> T) -> T {
        // The map is whole after each change, so that a panic elsewhere has not torn it.
        act(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Hold {
    /// Holds `name`, too.
    pub fn add(&mut self, name: ObjectName) {
        self.in_use
            .with(|held| *held.entry(name.clone()).or_default() += 1);
        self.names.push(name);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let names = std::mem::take(&mut self.names);
        self.in_use.with(|held| {
            for name in names {
                if let Some(count) = held.get_mut(&name) {
                    *count -= 1;
                    if *count == 0 {
                        held.remove(&name);
                    }
                }
            }
        });
    }
}

/// What is known when objects are to be deleted.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Names that manifests of kept checkpoints reach.
    pub reached: &'a BTreeSet<ObjectName>,
    /// Names that are [in use](InUse) now.
    pub in_use: &'a BTreeSet<ObjectName>,
    /// The generation that decides.
    pub generation: Generation,
    /// Its newest commit, if it has made one.
    pub committed: Option<Epoch>,
}

impl Facts<'_> {
    /// Whether an object of `epoch` and `generation` that no manifest reaches is litter.
    fn litter(&self, epoch: Epoch, generation: Generation) -> bool {
        generation < self.generation
            || generation == self.generation && Some(epoch) <= self.committed
    }
}

/// Which of the `listed` manifests, state objects and staged objects are deleted. Log entries,
/// advisory objects and strangers never are.
#[must_use]
pub fn plan(facts: &Facts<'_>, listed: &[ObjectName]) -> Vec<ObjectName> {
    (listed.iter())
        .filter(|name| !facts.reached.contains(name) || planted("delete-in-use"))
        .filter(|name| !facts.in_use.contains(name))
        .filter(|name| match name.kind() {
            Some(
                ObjectKind::Manifest { epoch, generation }
                | ObjectKind::Staged { epoch, generation },
            ) => facts.litter(epoch, generation),
            Some(ObjectKind::Part(part)) => facts.litter(part.epoch, part.generation),
            Some(ObjectKind::Log(_)) | None => false,
        })
        .cloned()
        .collect()
}

/// The same for a sink that stages in a place of its own: which of the `listed` names, as its
/// stage store gives them, are deleted. `reached` are those that kept manifests name.
#[must_use]
pub(crate) fn plan_stage(
    reached: &BTreeSet<String>,
    generation: Generation,
    committed: Option<Epoch>,
    listed: &[String],
) -> Vec<String> {
    let nothing = BTreeSet::new();
    let facts = Facts {
        reached: &nothing,
        in_use: &nothing,
        generation,
        committed,
    };
    let stamp = |name: &str| staged_stamp(name.rsplit('/').next().unwrap_or(name));
    (listed.iter())
        .filter(|name| !reached.contains(*name))
        .filter(|name| {
            stamp(name).is_some_and(|(epoch, generation)| facts.litter(epoch, generation))
        })
        .cloned()
        .collect()
}

/// What becomes of log entries below a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truncation {
    /// Numbers to be occupied by a fence.
    pub fence: Vec<u64>,
    /// Numbers to be deleted.
    pub delete: Vec<u64>,
}

/// What becomes of the `listed` entries when there is a snapshot at the end of `folded`, which
/// begins with the snapshot before (or 0).
#[must_use]
pub fn truncate(listed: &[u64], folded: Range<u64>, fenced_max: u64) -> Truncation {
    let floor = folded.end.saturating_sub(fenced_max);
    let mut plan = Truncation::default();
    for &number in listed.iter().filter(|&&number| number < folded.end) {
        if number < floor || planted("truncate-without-fence") {
            plan.delete.push(number);
        } else if number >= folded.start {
            // Further down there is a fence already, or, where the truncation before this one was
            // interrupted, still the entry: the number is taken either way.
            plan.fence.push(number);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use thalweg_stream::{Epoch, Generation};

    use super::{Facts, Truncation, plan, plan_stage, truncate};
    use crate::name::ObjectName;

    fn names(text: &str) -> Vec<ObjectName> {
        text.split_whitespace().map(ObjectName::listed).collect()
    }

    /// What generation 5, whose newest commit is of epoch 20, deletes of `listed`.
    fn deleted(listed: &str, reached: &str, in_use: &str) -> String {
        let reached: BTreeSet<_> = names(reached).into_iter().collect();
        let in_use: BTreeSet<_> = names(in_use).into_iter().collect();
        let facts = Facts {
            reached: &reached,
            in_use: &in_use,
            generation: Generation(5),
            committed: Some(Epoch(20)),
        };
        let plan = plan(&facts, &names(listed));
        let plan: Vec<_> = plan.iter().map(ObjectName::as_str).collect();
        plan.join(" ")
    }

    #[test]
    fn only_litter_is_deleted() {
        let litter = "state/20-g5/w0 state/999-g4/w1 manifest/19-g5.json outbox/s/20-0-0-g5";
        assert_eq!(deleted(litter, "", ""), litter);
        assert_eq!(deleted(litter, litter, ""), "", "reached");
        assert_eq!(deleted(litter, "", litter), "", "in use");
        let alive = "state/21-g5/w0 state/3-g6/w0 manifest/9-g6.json outbox/s/21-0-0-g5";
        assert_eq!(deleted(alive, "", ""), "", "under way, or of a successor");
        let others = "log/00000000000000000001 heartbeat hint notes.txt state/x";
        assert_eq!(deleted(others, "", ""), "");
    }

    #[test]
    fn a_sink_with_a_stage_of_its_own_keeps_to_the_same_rules() {
        let listed = [
            "s/20-0-0-g5",
            "s/19-0-0-g5",
            "s/21-0-0-g5",
            "s/7-0-0-g6",
            "s/x",
        ];
        let listed = listed.map(str::to_owned);
        let reached = ["s/19-0-0-g5".to_owned()].into();
        let plan = plan_stage(&reached, Generation(5), Some(Epoch(20)), &listed);
        assert_eq!(plan, ["s/20-0-0-g5"]);
        assert!(plan_stage(&reached, Generation(5), None, &listed).is_empty());
    }

    #[test]
    fn numbers_below_a_snapshot_are_fenced_and_far_below_deleted() {
        let listed: Vec<_> = (1..=12).collect();
        assert_eq!(
            truncate(&listed, 6..10, 6),
            Truncation {
                fence: vec![6, 7, 8, 9],
                delete: vec![1, 2, 3],
            }
        );
        assert_eq!(truncate(&listed, 0..10, 2).fence, [8, 9]);
        assert_eq!(truncate(&[], 0..10, 2), Truncation::default());
    }
}
