//! The job log, model-checked: three contenders, lost and late replies, crashes, pauses anywhere.
//!
//! The model runs the same [`Contender`] as production, against a log that it keeps itself. Every
//! request to create may be answered, be carried out without its answer arriving, or be on its way
//! for as long as it likes, also beyond the death of its sender. Any contender may be left standing
//! at any step: that is what a pause is. An owner may fold the log into a snapshot and truncate what
//! is below it entry by entry: delete all of it without fences, which is harder than what production
//! does, or put fences there and delete those at any time. Whoever claims may go on from an older
//! checkpoint that is kept, or from nothing, as `--from` says.
//!
//! Beside the log stands the *truth*: the entries in the order in which they prolonged it, which no
//! contender sees, and the list of commits that somebody has acted on.

use std::collections::BTreeMap;
use std::sync::Arc;

use stateright::{Model, Property};
use thalweg_stream::{Epoch, Lineage};

use self::property::{
    ALLOWED, EPOCHS_INCREASE, NO_FENCED_COMMIT, ONE_LINE, ONE_PER_NUMBER, ONLY_FENCED,
    created_again, dead_continued, epochs_increase, forks, no_fenced_commit, one_line,
    one_per_number, recognised,
};
use super::contender::{Contender, Fact, Rest, Step};
use super::entry::{Body, Claim, Commit, Entry, ManifestRef, WriterId};
use super::history::History;
use crate::name::ObjectName;

mod property;
mod tests;

/// What may happen, and how often in all.
#[derive(Clone, Copy, Debug)]
struct Rules {
    contenders: usize,
    /// Commits of each contender.
    commits: u8,
    /// Snapshots of all.
    snapshots: u8,
    /// Answers that do not arrive.
    losses: u8,
    /// Contenders that die and begin anew.
    crashes: u8,
    /// Claims that start elsewhere than at the newest checkpoint.
    choices: u8,
    /// Checkpoints that are kept.
    keep: u32,
    /// Whether numbers below a snapshot become fences before they are deleted.
    fences: bool,
    /// A planted fault: nobody looks beyond its entry before acting on it.
    blind: bool,
    /// A planted fault: an entry that exists is always taken for somebody else's.
    stranger: bool,
    /// A planted fault: wherever a start goes on from, the lineage stays.
    keep_lineage: bool,
    /// A planted fault: a writer that claims again begins the lineage that it had begun before.
    same_lineage: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct System {
    log: Arc<BTreeMap<u64, Entry>>,
    truth: Arc<Vec<Entry>>,
    actors: Vec<Arc<Actor>>,
    /// Requests whose sender no longer waits for the answer.
    late: Vec<Arc<Entry>>,
    /// Commits that somebody has acted on.
    acted: Arc<Vec<Entry>>,
    snapshots: u8,
    losses: u8,
    crashes: u8,
    choices: u8,
    /// Somebody has met a log that the protocol does not allow.
    violated: bool,
    /// Somebody has acted on a commit of its own after a higher claim.
    zombie: bool,
    /// An owner has stopped although nobody had claimed the job.
    abandoned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Actor {
    contender: Contender,
    begun: bool,
    incarnation: u8,
    commits: u8,
    /// An answer to the request under way has not arrived.
    unanswered: bool,
    /// It deletes what is below.
    deleting: u64,
    /// It has nothing more to do.
    ended: bool,
    /// It was an owner, and has met somebody else's later entry.
    fenced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// Reads, lists, or creates and is answered.
    Go(usize),
    /// Its request is on its way, and it no longer waits for the answer. That the request was
    /// carried out and the answer lost is the case in which it arrives at once.
    Delay(usize),
    /// A request that nobody waits for arrives.
    Arrive(usize),
    /// Gives up a commit of unknown outcome and proposes the next one.
    GiveUp(usize),
    /// Claims the job, to go on from one of the [`bases`].
    Claim(usize, usize),
    Commit(usize),
    Snapshot(usize),
    /// Puts a fence in the place of the lowest entry that has none.
    Fence(usize),
    Delete(usize),
    Crash(usize),
}

impl System {
    fn actor(&mut self, at: usize) -> &mut Actor {
        Arc::make_mut(&mut self.actors[at])
    }

    /// The store carries out a request to create; true if it did.
    fn create(&mut self, entry: &Entry) -> bool {
        if self.log.contains_key(&entry.number) {
            return false;
        }
        Arc::make_mut(&mut self.log).insert(entry.number, entry.clone());
        if entry.number == self.truth.len() as u64 + 1 {
            Arc::make_mut(&mut self.truth).push(entry.clone());
        }
        true
    }

    fn list(&self, beyond: u64) -> Option<u64> {
        self.log.range(beyond + 1..).next_back().map(|(n, _)| *n)
    }

    fn observe(&mut self, at: usize, fact: Fact, rules: &Rules) {
        if self.actor(at).contender.observe(fact).is_err() {
            self.violated = true;
            return;
        }
        let actor = self.actor(at);
        match actor.contender.step() {
            Step::Rest(Rest::Ready) => {
                let base = actor.contender.history().position;
                if rules.choices == 0 {
                    self.claim(at, base, rules);
                }
            }
            Step::Rest(Rest::Appended { number }) => {
                actor.unanswered = false;
                let position = actor.contender.history().position;
                let snapshot = actor.contender.history().snapshot;
                if snapshot == number {
                    actor.deleting = number;
                }
                if position == Some(number) {
                    let newest = self.truth.iter().map(|entry| entry.generation).max();
                    self.zombie |= self.actors[at].contender.claimed() < newest;
                    let entry = self.log.get(&number).cloned();
                    Arc::make_mut(&mut self.acted).extend(entry);
                }
                let actor = &self.actors[at];
                let more = self.snapshots > 0 || self.crashes > 0;
                let idle = actor.commits == 0 && !more;
                if idle && actor.contender.claimed().is_some() {
                    self.end(at);
                }
            }
            Step::List { beyond } if beyond > 0 && rules.blind => {
                self.observe(at, Fact::Listed(None), rules);
            }
            // Entries never change, so that reading one by one shows no more than reading at once.
            Step::Read { number } if actor.contender.loading() => {
                let found = self.log.get(&number).cloned();
                self.observe(at, found.map_or(Fact::Missing, Fact::Found), rules);
            }
            Step::Rest(Rest::Overtaken) => self.overtaken(at),
            Step::Read { .. } | Step::List { .. } | Step::Create(_) => {}
        }
    }

    /// Proposes to go on from `base`.
    fn claim(&mut self, at: usize, base: Option<u64>, rules: &Rules) {
        let actor = self.actor(at);
        let history = actor.contender.history();
        let (WriterId(name), next) = (writer(at, actor.incarnation), history.generation().0 + 1);
        let fresh = match rules.same_lineage {
            true => Lineage(name),
            false => Lineage(format!("{name}-{next}")),
        };
        let lineage = match &history.owner {
            Some(owner) if rules.keep_lineage => owner.lineage.clone(),
            Some(_) | None => history.lineage_from(base, &fresh),
        };
        let claim = Claim {
            job: "j".into(),
            lineage,
            base,
            host: String::new(),
            pid: 0,
            at_ms: 0,
        };
        actor.unanswered = false;
        let proposed = actor.contender.propose(Body::Claim(claim));
        assert_eq!(proposed, Ok(()));
    }

    fn overtaken(&mut self, at: usize) {
        let newest = self.truth.iter().map(|entry| entry.generation).max();
        let claimed = self.actors[at].contender.claimed();
        self.abandoned |= claimed.is_some() && claimed >= newest;
        self.actor(at).fenced = claimed.is_some();
        self.end(at);
    }

    /// A contender has come to its end. What it knows no longer matters.
    fn end(&mut self, at: usize) {
        let actor = self.actor(at);
        *actor = Actor {
            contender: Contender::new(writer(at, actor.incarnation)),
            begun: true,
            incarnation: actor.incarnation,
            commits: 0,
            unanswered: false,
            deleting: actor.deleting,
            ended: true,
            fenced: actor.fenced,
        };
    }

    fn go(&mut self, at: usize, rules: &Rules) {
        self.actor(at).begun = true;
        let fact = match self.actors[at].contender.step() {
            Step::List { beyond } => Fact::Listed(self.list(beyond)),
            Step::Read { number } => {
                let mut found = self.log.get(&number).cloned();
                if let Some(entry) = found.as_mut().filter(|_| rules.stranger) {
                    entry.writer = WriterId("stranger".into());
                }
                found.map_or(Fact::Missing, Fact::Found)
            }
            Step::Create(entry) => {
                let entry = entry.clone();
                match self.create(&entry) {
                    true => Fact::Created,
                    false => Fact::Exists,
                }
            }
            Step::Rest(_) => return,
        };
        self.observe(at, fact, rules);
    }
}

/// Where a start may go on from: the newest checkpoint, an older one, or nothing.
fn bases(history: &History) -> Vec<Option<u64>> {
    let kept = history.commits.iter().map(|commit| Some(commit.number));
    let others = kept.chain([None]).filter(|&base| base != history.position);
    [history.position].into_iter().chain(others).collect()
}

/// The commit of the epoch `beyond` the newest.
fn commit(contender: &Contender, beyond: u64, keep: u32) -> Body {
    let epoch = Epoch(contender.history().epoch_max.0 + beyond);
    let generation = contender.claimed().unwrap_or_default();
    Body::Commit(Commit {
        epoch,
        manifest: ManifestRef {
            name: ObjectName::manifest(epoch, generation),
            bytes: 0,
            crc32: 0,
        },
        keep,
        at_ms: 0,
    })
}

impl Model for Rules {
    type State = System;
    type Action = Action;

    fn init_states(&self) -> Vec<System> {
        let actor = |at| {
            Arc::new(Actor {
                contender: Contender::new(writer(at, 0)),
                begun: false,
                incarnation: 0,
                commits: self.commits,
                unanswered: false,
                deleting: 0,
                ended: false,
                fenced: false,
            })
        };
        vec![System {
            log: Arc::default(),
            truth: Arc::default(),
            actors: (0..self.contenders).map(actor).collect(),
            late: Vec::new(),
            acted: Arc::default(),
            snapshots: self.snapshots,
            losses: self.losses,
            crashes: self.crashes,
            choices: self.choices,
            violated: false,
            zombie: false,
            abandoned: false,
        }]
    }

    fn actions(&self, system: &System, actions: &mut Vec<Action>) {
        for (at, actor) in system.actors.iter().enumerate() {
            // Contenders differ in name only, so it does not matter which of them begins first.
            if system.actors.iter().take(at).any(|actor| !actor.begun) {
                continue;
            }
            let claimed = actor.contender.claimed().is_some();
            match actor.contender.step() {
                _ if actor.ended => {}
                Step::List { .. } | Step::Read { .. } => actions.push(Action::Go(at)),
                Step::Create(entry) => {
                    actions.push(Action::Go(at));
                    if system.losses > 0 {
                        actions.push(Action::Delay(at));
                    }
                    let committing = matches!(entry.body, Body::Commit(_));
                    if actor.unanswered && committing && actor.commits > 0 {
                        actions.push(Action::GiveUp(at));
                    }
                }
                Step::Rest(Rest::Appended { .. }) => {
                    if actor.commits > 0 {
                        actions.push(Action::Commit(at));
                    }
                    let history = actor.contender.history();
                    if system.snapshots > 0 && history.position.is_some() && actor.commits == 0 {
                        actions.push(Action::Snapshot(at));
                    }
                }
                Step::Rest(Rest::Ready) => {
                    let bases = match system.choices {
                        0 => 1,
                        _ => bases(actor.contender.history()).len(),
                    };
                    actions.extend((0..bases).map(|base| Action::Claim(at, base)));
                }
                Step::Rest(Rest::Overtaken) => {}
            }
            if self.fences && unfenced(system, actor.deleting).is_some() {
                actions.push(Action::Fence(at));
            }
            let lowest = system.log.range(..actor.deleting).next();
            if lowest.is_some_and(|(_, entry)| !self.fences || is_fence(entry)) {
                actions.push(Action::Delete(at));
            }
            if system.crashes > 0 && claimed {
                actions.push(Action::Crash(at));
            }
        }
        actions.extend((0..system.late.len()).map(Action::Arrive));
    }

    fn next_state(&self, last: &System, action: Action) -> Option<System> {
        let mut system = last.clone();
        match action {
            Action::Go(at) => system.go(at, self),
            Action::Delay(at) => {
                let Step::Create(entry) = last.actors[at].contender.step() else {
                    return None;
                };
                system.losses -= 1;
                system.late.push(Arc::new(entry.clone()));
                system.actor(at).unanswered = true;
                system.observe(at, Fact::Unknown, self);
            }
            Action::Arrive(at) => {
                let entry = system.late.remove(at);
                system.create(&entry);
            }
            Action::GiveUp(at) | Action::Commit(at) => {
                let actor = system.actor(at);
                let beyond = if let Action::Commit(_) = action { 1 } else { 2 };
                actor.commits -= 1;
                let body = commit(&actor.contender, beyond, self.keep);
                system.violated |= system.actor(at).contender.propose(body).is_err();
            }
            Action::Snapshot(at) => {
                system.snapshots -= 1;
                let contender = &mut system.actor(at).contender;
                let body = Body::Snapshot(Box::new(contender.history().clone()));
                system.violated |= system.actor(at).contender.propose(body).is_err();
            }
            Action::Claim(at, which) => {
                let base = *bases(last.actors[at].contender.history()).get(which)?;
                system.choices -= u8::from(which > 0);
                system.claim(at, base, self);
            }
            Action::Fence(at) => {
                let snapshot = last.actors[at].deleting;
                let number = unfenced(last, snapshot)?;
                if let Some(entry) = Arc::make_mut(&mut system.log).get_mut(&number) {
                    entry.body = Body::Fence { snapshot };
                }
            }
            Action::Delete(at) => {
                let below = last.actors[at].deleting;
                let number = *last.log.range(..below).next()?.0;
                Arc::make_mut(&mut system.log).remove(&number);
            }
            Action::Crash(at) => {
                system.crashes -= 1;
                let actor = system.actor(at);
                actor.incarnation += 1;
                let incarnation = actor.incarnation;
                *actor = Actor {
                    contender: Contender::new(writer(at, incarnation)),
                    unanswered: false,
                    deleting: 0,
                    ..*actor
                };
            }
        }
        Some(system)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ALLOWED, |_, s: &System| !s.violated),
            Property::always(ONE_PER_NUMBER, one_per_number),
            Property::always(NO_FENCED_COMMIT, no_fenced_commit),
            Property::always(EPOCHS_INCREASE, epochs_increase),
            Property::always(ONLY_FENCED, |_, s: &System| !s.abandoned),
            Property::always(ONE_LINE, one_line),
            Property::sometimes("an owner is fenced", |_, s: &System| {
                s.actors.iter().any(|actor| actor.fenced)
            }),
            Property::sometimes("two commits are acted on", |_, s: &System| {
                s.acted.len() >= 2
            }),
        ];
        if self.losses > 0 {
            let name = "a lost reply is recognised";
            properties.push(Property::sometimes(name, recognised));
        }
        if self.snapshots > 0 {
            let name = "a deleted number is created again";
            properties.push(Property::sometimes(name, created_again));
        }
        if self.choices > 0 {
            let name = "an older checkpoint is gone on from";
            properties.push(Property::sometimes(name, |_, s: &System| forks(s).0));
            let name = "a start from nothing commits";
            properties.push(Property::sometimes(name, |_, s: &System| forks(s).1));
        }
        if self.fences {
            properties.push(Property::sometimes("there are fences", |_, s: &System| {
                s.log.values().any(is_fence)
            }));
        }
        if self.crashes > 0 {
            let name = "a dead owner's commit is continued";
            properties.push(Property::sometimes(name, dead_continued));
        }
        properties
    }
}

fn is_fence(entry: &Entry) -> bool {
    matches!(entry.body, Body::Fence { .. })
}

/// The lowest number below `snapshot` that is to become a fence.
fn unfenced(system: &System, snapshot: u64) -> Option<u64> {
    let mut below = system.log.range(..snapshot);
    below
        .find(|(_, entry)| !is_fence(entry))
        .map(|(&number, _)| number)
}

fn writer(at: usize, incarnation: u8) -> WriterId {
    WriterId(format!("{at}.{incarnation}"))
}
