//! What must be true of every state of the model, and what must happen in some.

use thalweg_stream::{Generation, Lineage};

use super::{Rules, System, writer};
use crate::log::contender::Step;
use crate::log::entry::{Body, Entry};

pub(super) const ALLOWED: &str = "the log is one that the protocol allows";
pub(super) const ONE_PER_NUMBER: &str = "at most one commit per number is acted on";
pub(super) const NO_FENCED_COMMIT: &str = "no generation commits after a higher claim";
pub(super) const EPOCHS_INCREASE: &str = "epochs of commits strictly increase";
pub(super) const ONLY_FENCED: &str = "only who is fenced abandons its commit";
pub(super) const ONE_LINE: &str = "the commits of a lineage go on from each other";

/// Each commit of the truth with its lineage and the commit it goes on from.
fn line(system: &System) -> Vec<(u64, Lineage, Option<u64>)> {
    let (mut lineage, mut position) = (Lineage(String::new()), None);
    let mut line = Vec::new();
    for entry in system.truth.iter() {
        match &entry.body {
            Body::Claim(claim) => (lineage, position) = (claim.lineage.clone(), claim.base),
            Body::Commit(_) | Body::Savepoint(_) => {
                line.push((entry.number, lineage.clone(), position));
                position = Some(entry.number);
            }
            Body::Stop | Body::Finished | Body::Snapshot(_) | Body::Fence { .. } => {}
        }
    }
    line
}

/// Output is published under its lineage, so that of two commits of one lineage the later one must
/// know of all that the earlier one has published: it goes on from it, at once or by others.
pub(super) fn one_line(_: &Rules, system: &System) -> bool {
    let line = line(system);
    let from = |number| {
        line.iter()
            .find(|one| one.0 == number)
            .and_then(|one| one.2)
    };
    line.iter().enumerate().all(|(at, (number, lineage, _))| {
        let earlier = line.iter().take(at).rev().find(|one| one.1 == *lineage);
        let mut ancestors = std::iter::successors(from(*number), |&number| from(number));
        earlier.is_none_or(|earlier| ancestors.any(|ancestor| ancestor == earlier.0))
    })
}

/// Whether a commit goes on from an older one than the newest before it, or from nothing.
pub(super) fn forks(system: &System) -> (bool, bool) {
    let line = line(system);
    let skips = |pair: &[(u64, Lineage, Option<u64>)]| match pair {
        [before, after] => (
            after.2.is_some_and(|from| from < before.0),
            after.2.is_none(),
        ),
        _ => (false, false),
    };
    let skips = line.windows(2).map(skips);
    skips.fold((false, false), |all, one| (all.0 || one.0, all.1 || one.1))
}

/// An owner whose answer did not arrive has found its entry.
pub(super) fn recognised(_: &Rules, system: &System) -> bool {
    let checks = |step| matches!(step, Step::List { beyond } if beyond > 0);
    (system.actors.iter()).any(|a| a.unanswered && checks(a.contender.step()))
}

pub(super) fn created_again(_: &Rules, system: &System) -> bool {
    let differs = |(n, e): (&u64, &Entry)| system.truth.get(*n as usize - 1) != Some(e);
    system.log.iter().any(differs)
}

/// A contender that has died has claimed again, and starts from what it had committed before.
pub(super) fn dead_continued(_: &Rules, system: &System) -> bool {
    system.actors.iter().enumerate().any(|(at, actor)| {
        let position = actor.contender.history().position;
        let base = position.and_then(|number| system.truth.get(number as usize - 1));
        actor.incarnation > 0
            && actor.contender.claimed().is_some()
            && base.is_some_and(|entry| entry.writer == writer(at, 0))
    })
}

pub(super) fn one_per_number(_: &Rules, system: &System) -> bool {
    let acted = &system.acted;
    (acted.iter()).all(|entry| {
        let alone = acted.iter().filter(|e| e.number == entry.number).count() == 1;
        alone && system.truth.get(entry.number as usize - 1) == Some(entry)
    })
}

pub(super) fn no_fenced_commit(_: &Rules, system: &System) -> bool {
    let mut newest = Generation(0);
    let in_truth = system.truth.iter().all(|entry| {
        newest = newest.max(entry.generation);
        entry.generation == newest
    });
    in_truth && !system.zombie
}

pub(super) fn epochs_increase(_: &Rules, system: &System) -> bool {
    let epoch = |entry: &Entry| entry.body.commit().map(|commit| commit.epoch);
    let truth: Vec<_> = system.truth.iter().filter_map(epoch).collect();
    let mut acted: Vec<_> = system.acted.iter().map(|e| (e.number, epoch(e))).collect();
    acted.sort_unstable();
    truth.is_sorted_by(|a, b| a < b) && acted.is_sorted_by(|a, b| a.1 < b.1)
}
