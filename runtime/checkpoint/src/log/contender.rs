//! The deciding code of the job log: facts in, action out.
//!
//! A [`Contender`] is one process that reads the log, and may try to append to it. It says what it
//! wants to know or do next ([`Step`]), is told what came of it ([`Fact`]), and decides. There is
//! no I/O and no clock here: the [driver](super::JobLog) and the model (`log/model.rs`) run the
//! same code.
//!
//! An entry is appended in three steps. *Create* its object, if absent, at the number after the
//! last one known. If the object exists, or the reply was lost and a repetition finds that it
//! exists, *read* it: writer and nonce tell whether it is our own. Then *list* what is beyond it:
//! only if that is nothing may anybody act on the entry. Numbers far below the end are deleted
//! some time (and fenced until then), so a process that was frozen for a month may succeed in
//! creating one; the listing then shows it what has happened since.

use super::entry::{Body, Entry, WriterId};
use super::history::{History, Violation};
use thalweg_stream::Generation;
use thalweg_stream::planted::planted;

/// What a contender wants to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step<'a> {
    /// Find the greatest number beyond this one.
    List {
        /// The number.
        beyond: u64,
    },
    /// Read an entry.
    Read {
        /// Its number.
        number: u64,
    },
    /// Create an entry, if its number is free.
    Create(&'a Entry),
    /// Nothing: it has come to an end.
    Rest(Rest),
}

/// Where a contender has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rest {
    /// It knows the log, and may decide what to propose. After it has proposed a claim: somebody
    /// else's entry came first, and it has read the log again.
    Ready,
    /// Its entry stands, nothing is beyond it: it may act on it.
    Appended {
        /// The entry's number.
        number: u64,
    },
    /// Somebody has claimed the job since: nothing may be acted on.
    Overtaken,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// The greatest number beyond the one asked for, if any.
    Listed(Option<u64>),
    /// The entry that was read.
    Found(Entry),
    /// There is no such entry.
    Missing,
    /// The entry was created.
    Created,
    /// The number is taken.
    Exists,
    /// Whether the entry was created is not known, or it was not.
    Unknown,
}

/// One process at the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contender {
    writer: WriterId,
    nonce: u64,
    history: History,
    /// The generation that it has claimed.
    claimed: Option<Generation>,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Looking for the end of the log.
    Finding,
    /// Reading it backwards to the newest snapshot.
    Loading { next: u64, entries: Vec<Entry> },
    /// At rest.
    Resting(Rest),
    /// Creating an entry.
    Creating(Entry),
    /// The number is taken; finding out by whom.
    Settling(Entry),
    /// The entry stands; looking beyond it.
    Checking(Entry),
}

impl Contender {
    /// A contender that knows nothing yet.
    #[must_use]
    pub fn new(writer: WriterId) -> Self {
        Self {
            writer,
            nonce: 0,
            history: History::default(),
            claimed: None,
            phase: Phase::Finding,
        }
    }

    /// What it knows of the log.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The generation it has claimed.
    #[must_use]
    pub fn claimed(&self) -> Option<Generation> {
        self.claimed
    }

    /// Whether it reads its way back to the newest snapshot.
    #[cfg(test)]
    pub(super) fn loading(&self) -> bool {
        matches!(self.phase, Phase::Loading { .. })
    }

    /// What is to be done next.
    #[must_use]
    pub fn step(&self) -> Step<'_> {
        match &self.phase {
            Phase::Finding => Step::List { beyond: 0 },
            Phase::Loading { next, .. } => Step::Read { number: *next },
            Phase::Resting(rest) => Step::Rest(*rest),
            Phase::Creating(entry) => Step::Create(entry),
            Phase::Settling(entry) => Step::Read {
                number: entry.number,
            },
            Phase::Checking(entry) => Step::List {
                beyond: entry.number,
            },
        }
    }

    /// Begins anew, with nothing claimed.
    pub fn restart(&mut self) {
        self.claimed = None;
        self.phase = Phase::Finding;
    }

    /// Proposes the next entry. From rest, or in place of a proposal that was given up while its
    /// outcome was unknown; the same body again repeats the same proposal.
    ///
    /// # Errors
    /// The entry is not allowed, or it is not the time for one.
    pub fn propose(&mut self, body: Body) -> Result<(), Violation> {
        let refuse = |problem: &str| Violation {
            number: self.history.end + 1,
            problem: problem.to_owned(),
        };
        match &self.phase {
            Phase::Resting(Rest::Ready | Rest::Appended { .. }) => {}
            Phase::Creating(entry) if entry.body == body && !planted("new-nonce-on-retry") => {
                return Ok(());
            }
            Phase::Creating(_) => {}
            Phase::Resting(Rest::Overtaken) => {
                return Err(refuse("cannot be proposed by a fenced writer"));
            }
            Phase::Finding | Phase::Loading { .. } | Phase::Settling(_) | Phase::Checking(_) => {
                return Err(refuse("is proposed before the log is known"));
            }
        }
        let generation = match (&body, self.claimed) {
            (Body::Claim(_), _) => Generation(self.history.generation().0 + 1),
            (_, Some(generation)) => generation,
            (_, None) => return Err(refuse("is proposed by nobody's generation")),
        };
        let entry = Entry {
            number: self.history.end + 1,
            writer: self.writer.clone(),
            nonce: self.nonce + 1,
            generation,
            body,
        };
        self.history.clone().apply(&entry)?;
        self.nonce += 1;
        self.phase = Phase::Creating(entry);
        Ok(())
    }

    /// Takes in what came of the last step.
    ///
    /// # Errors
    /// The log is not one that the protocol allows.
    pub fn observe(&mut self, fact: Fact) -> Result<(), Violation> {
        // The phase is put back or replaced on every path.
        let phase = std::mem::replace(&mut self.phase, Phase::Finding);
        self.phase = match (phase, fact) {
            (Phase::Finding, Fact::Listed(None)) => {
                self.history = History::default();
                Phase::Resting(Rest::Ready)
            }
            (Phase::Finding, Fact::Listed(Some(end))) => Phase::Loading {
                next: end,
                entries: Vec::new(),
            },
            (Phase::Loading { entries, .. }, Fact::Found(entry)) => self.load(entries, entry)?,
            // Truncated under our eyes: the log has moved on.
            (Phase::Loading { .. }, Fact::Missing) => Phase::Finding,
            (Phase::Creating(entry), Fact::Created) => Phase::Checking(entry),
            (Phase::Creating(entry), Fact::Exists) => Phase::Settling(entry),
            (Phase::Creating(entry), Fact::Unknown) => Phase::Creating(entry),
            (Phase::Settling(ours), Fact::Found(found)) => self.settle(ours, found)?,
            (Phase::Settling(ours), Fact::Missing) => taken(&ours),
            (Phase::Checking(entry), Fact::Listed(None)) => self.appended(&entry)?,
            (Phase::Checking(entry), Fact::Listed(Some(_))) if planted("drop-fencing-check") => {
                self.appended(&entry)?
            }
            (Phase::Checking(_), Fact::Listed(Some(_))) => Phase::Resting(Rest::Overtaken),
            (phase, fact) => {
                self.phase = phase;
                return Err(Violation {
                    number: self.history.end,
                    problem: format!("does not go with the fact {fact:?}"),
                });
            }
        };
        Ok(())
    }

    /// Another entry on the way back to the newest snapshot.
    fn load(&mut self, mut entries: Vec<Entry>, entry: Entry) -> Result<Phase, Violation> {
        let number = entry.number;
        let base = match &entry.body {
            // What stood here has become part of a snapshot since the log was listed.
            Body::Fence { .. } => return Ok(Phase::Finding),
            Body::Snapshot(history) => Some(History::from_snapshot(history, &entry)?),
            Body::Claim(_) | Body::Commit(_) | Body::Savepoint(_) | Body::Stop | Body::Finished => {
                let first = (number == 1).then(History::default);
                entries.push(entry);
                first
            }
        };
        let Some(mut history) = base else {
            return Ok(Phase::Loading {
                next: number - 1,
                entries,
            });
        };
        for entry in entries.iter().rev() {
            history.apply(entry)?;
        }
        self.history = history;
        Ok(Phase::Resting(Rest::Ready))
    }

    /// Somebody's entry stands where ours was to be.
    fn settle(&mut self, ours: Entry, found: Entry) -> Result<Phase, Violation> {
        if found.writer == ours.writer && found.nonce == ours.nonce {
            // Our own: it was created, and only the reply was lost.
            return Ok(Phase::Checking(ours));
        }
        if found.writer == ours.writer
            && !planted("new-nonce-on-retry")
            && same_checkpoint(&found.body, &ours.body)
        {
            // Proposed before, given up, proposed again, and here it is.
            return Ok(Phase::Checking(found));
        }
        if found.writer != ours.writer || matches!(ours.body, Body::Claim(_)) {
            return Ok(taken(&ours));
        }
        self.history.apply(&found)?;
        // An earlier proposal of ours, given up while its outcome was unknown, has arrived after
        // all. It counts; ours goes behind it.
        let next = Entry {
            number: found.number + 1,
            ..ours
        };
        self.history.clone().apply(&next)?;
        Ok(Phase::Creating(next))
    }

    fn appended(&mut self, entry: &Entry) -> Result<Phase, Violation> {
        self.history.apply(entry)?;
        if let Body::Claim(_) = entry.body {
            self.claimed = Some(entry.generation);
        }
        Ok(Phase::Resting(Rest::Appended {
            number: entry.number,
        }))
    }
}

/// The number is taken by somebody else. What stands there is not looked at: where numbers have
/// been deleted it may be what another process of the past has left, and no part of the log. Who
/// owns the job must be fenced, as nobody else appends to a generation; who wants to claim it reads
/// the log again.
fn taken(ours: &Entry) -> Phase {
    match ours.body {
        Body::Claim(_) => Phase::Finding,
        Body::Commit(_)
        | Body::Savepoint(_)
        | Body::Stop
        | Body::Finished
        | Body::Snapshot(_)
        | Body::Fence { .. } => Phase::Resting(Rest::Overtaken),
    }
}

fn same_checkpoint(one: &Body, other: &Body) -> bool {
    match (one, other) {
        (Body::Commit(one), Body::Commit(other))
        | (Body::Savepoint(one), Body::Savepoint(other)) => {
            one.epoch == other.epoch && one.manifest == other.manifest
        }
        _ => false,
    }
}
