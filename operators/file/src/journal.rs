//! Where the next dead letter goes: the decision, from what the manifest, the journal and the file
//! system say.
//!
//! The manifest records the length of the dead-letter file after every confirmed unit; a unit that
//! is given again is written at that length again. Four things the manifest cannot know stand in
//! a *journal*, a hidden file beside the dead-letter file, written before they take effect:
//!
//! - who claimed the file last;
//! - where a job began to write into a file that was there before (`base`);
//! - that the file was rotated since (`rotations`), so that a unit from before it goes back;
//! - that a rename is under way (`phase`), so that after a crash it is known whether it happened.
//!
//! Whoever else wrote into the file in the meantime, or took it away, is not overwritten: then
//! writing *begins* anew at the file's end, and the journal says so.

use serde::{Deserialize, Serialize};
use thalweg_stream::epoch::{Generation, Lineage};

/// Version of both formats; a newer one is refused.
pub(crate) const VERSION: u32 = 1;

/// Where the next letter goes, as the manifest records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Version of this format.
    pub(crate) version: u32,
    /// The lineage that began.
    pub(crate) owner: Lineage,
    /// How often writing began anew.
    pub(crate) begun: u64,
    /// How often the file was rotated since.
    pub(crate) rotations: u64,
    /// Length of the file.
    pub(crate) length: u64,
    /// Letters dropped by rotations so far.
    pub(crate) dropped: u64,
}

/// A start of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Writer {
    /// Its lineage.
    pub(crate) lineage: Lineage,
    /// Its number; starts of another lineage may be of another job and have other numbers.
    pub(crate) generation: Generation,
}

/// What stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// Version of this format.
    pub(crate) version: u32,
    /// Who claimed the file last.
    pub(crate) writer: Writer,
    /// The lineage that began.
    pub(crate) owner: Lineage,
    /// How often writing began anew.
    pub(crate) begun: u64,
    /// Length of the file when it last began.
    pub(crate) base: u64,
    /// How often the file was rotated since.
    pub(crate) rotations: u64,
    /// Letters dropped by rotations so far.
    pub(crate) dropped: u64,
    /// What is under way.
    pub(crate) phase: Phase,
}

/// What is under way between the file and the rotated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Nothing.
    Settled,
    /// The file becomes the rotated one; `rotations` counts it already.
    Rotating,
    /// The rotated file becomes the file again; `rotations` does not count it any more.
    Returning,
}

impl Journal {
    /// The journal without a rename under way: whether the rename happened shows in which of the
    /// two files is there, as nothing is written to either before it has.
    pub(crate) fn settled(mut self, file: bool, rotated: bool) -> Self {
        match self.phase {
            Phase::Settled => {}
            Phase::Rotating if file => self.rotations = self.rotations.saturating_sub(1),
            Phase::Returning if rotated => self.rotations += 1,
            Phase::Rotating | Phase::Returning => {}
        }
        self.phase = Phase::Settled;
        self
    }

    /// The position at `length` of the file as this journal has it.
    pub(crate) fn position(&self, length: u64) -> Position {
        Position {
            version: VERSION,
            owner: self.owner.clone(),
            begun: self.begun,
            rotations: self.rotations,
            length,
            dropped: self.dropped,
        }
    }
}

/// How writing goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// At this position; what the file has beyond it was never confirmed.
    At(Position),
    /// At this position of the rotated file, which becomes the file again.
    Return(Position),
    /// With neither file: nothing in them was ever confirmed.
    Afresh(Position),
    /// At the file's end, whatever is there; a new beginning.
    Begin,
    /// Not at all: letters that were confirmed are missing.
    Cut {
        /// The length the file had.
        recorded: u64,
    },
}

/// Decides how writing goes on. `journal` is settled; `length` is the file's, and nothing if it is
/// not there.
pub(crate) fn resume(
    recorded: Option<&Position>,
    journal: Option<&Journal>,
    lineage: &Lineage,
    length: Option<u64>,
) -> Resume {
    let Some(journal) = journal else {
        // No journal, nobody else who writes: the manifest alone says where we were.
        return recorded.map_or(Resume::Begin, |position| within(position.clone(), length));
    };
    let same_owner = recorded.is_some_and(|position| position.owner == journal.owner);
    let from = match recorded {
        Some(position) if same_owner && position.begun == journal.begun => position.clone(),
        Some(position) if same_owner && position.begun > journal.begun => return Resume::Begin,
        // It began, and crashed before the first confirmation.
        Some(_) | None if same_owner || journal.owner == *lineage => Position {
            rotations: 0,
            ..journal.position(journal.base)
        },
        Some(_) | None => return Resume::Begin,
    };
    let from = Position {
        // What a rotation dropped stays dropped, also where it is repeated.
        dropped: from.dropped.max(journal.dropped),
        ..from
    };
    match journal.rotations.checked_sub(from.rotations) {
        Some(0) => within(from, length),
        Some(1) => Resume::Return(from),
        Some(_) => Resume::Afresh(journal.position(0)),
        // The journal is older than the manifest: not the one we wrote.
        None => Resume::Begin,
    }
}

/// At `position`, if the file is that long.
fn within(position: Position, length: Option<u64>) -> Resume {
    match length.unwrap_or(0) {
        length if length >= position.length => Resume::At(position),
        // Whoever reads dead letters took the file away.
        0 => Resume::Begin,
        _ => Resume::Cut {
            recorded: position.length,
        },
    }
}

#[cfg(test)]
mod tests {
    use thalweg_stream::epoch::{Generation, Lineage};

    use super::{Journal, Phase, Position, Resume, VERSION, Writer, resume};

    fn journal(owner: &str, begun: u64, base: u64, rotations: u64) -> Journal {
        Journal {
            version: VERSION,
            writer: Writer {
                lineage: Lineage(owner.to_owned()),
                generation: Generation(1),
            },
            owner: Lineage(owner.to_owned()),
            begun,
            base,
            rotations,
            dropped: 0,
            phase: Phase::Settled,
        }
    }

    fn position(owner: &str, begun: u64, rotations: u64, length: u64) -> Position {
        Position {
            rotations,
            ..journal(owner, begun, 0, rotations).position(length)
        }
    }

    #[test]
    fn every_constellation_has_its_answer() {
        let at = |begun, rotations, length| Resume::At(position("me", begun, rotations, length));
        let me = |begun, rotations, length| Some(position("me", begun, rotations, length));
        let mine = |begun, base, rotations| Some(journal("me", begun, base, rotations));
        let other = || Some(journal("other", 1, 0, 0));
        let cases = [
            ("the first start", None, None, None, Resume::Begin),
            (
                "the first start, a file is there",
                None,
                None,
                Some(9),
                Resume::Begin,
            ),
            (
                "a file of another job",
                None,
                other(),
                Some(9),
                Resume::Begin,
            ),
            (
                "crashed before the first confirmation",
                None,
                mine(1, 9, 0),
                Some(12),
                at(1, 0, 9),
            ),
            ("the same, rotated", None, mine(1, 9, 1), Some(12), {
                Resume::Return(position("me", 1, 0, 9))
            }),
            (
                "goes on",
                me(1, 0, 50),
                mine(1, 9, 0),
                Some(50),
                at(1, 0, 50),
            ),
            (
                "unconfirmed letters",
                me(1, 0, 50),
                mine(1, 9, 0),
                Some(70),
                at(1, 0, 50),
            ),
            (
                "letters are missing",
                me(1, 0, 50),
                mine(1, 9, 0),
                Some(49),
                { Resume::Cut { recorded: 50 } },
            ),
            (
                "taken away",
                me(1, 0, 50),
                mine(1, 9, 0),
                None,
                Resume::Begin,
            ),
            (
                "emptied",
                me(1, 0, 50),
                mine(1, 9, 0),
                Some(0),
                Resume::Begin,
            ),
            (
                "taken away, begun, crashed",
                me(1, 0, 50),
                mine(2, 0, 0),
                Some(7),
                at(2, 0, 0),
            ),
            ("rotated since", me(1, 3, 50), mine(1, 9, 4), Some(7), {
                Resume::Return(position("me", 1, 3, 50))
            }),
            (
                "rotated twice since",
                me(1, 3, 50),
                mine(1, 9, 5),
                Some(7),
                { Resume::Afresh(position("me", 1, 5, 0)) },
            ),
            (
                "another job wrote since",
                me(1, 0, 50),
                other(),
                Some(70),
                Resume::Begin,
            ),
            (
                "an older journal was restored",
                me(2, 0, 50),
                mine(1, 9, 0),
                Some(70),
                Resume::Begin,
            ),
            (
                "the same, within",
                me(1, 2, 50),
                mine(1, 9, 1),
                Some(70),
                Resume::Begin,
            ),
            ("no journal", me(1, 0, 50), None, Some(70), at(1, 0, 50)),
            (
                "no journal, letters missing",
                me(1, 0, 50),
                None,
                Some(7),
                { Resume::Cut { recorded: 50 } },
            ),
        ];
        let lineage = Lineage("me".to_owned());
        for (what, recorded, journal, length, expected) in cases {
            let found = resume(recorded.as_ref(), journal.as_ref(), &lineage, length);
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_start_from_an_older_commit_keeps_what_its_lineage_before_wrote() {
        let (recorded, journal) = (position("old", 1, 0, 50), journal("old", 1, 0, 0));
        let lineage = Lineage("new".to_owned());
        let found = resume(Some(&recorded), Some(&journal), &lineage, Some(90));
        assert_eq!(found, Resume::At(recorded));
    }

    #[test]
    fn a_rename_under_way_shows_in_which_file_is_there() {
        let settled = |phase, file, rotated| {
            let journal = Journal {
                phase,
                ..journal("me", 1, 0, 4)
            };
            journal.settled(file, rotated).rotations
        };
        assert_eq!(settled(Phase::Rotating, true, true), 3);
        assert_eq!(settled(Phase::Rotating, false, true), 4);
        assert_eq!(settled(Phase::Returning, true, true), 5);
        assert_eq!(settled(Phase::Returning, true, false), 4);
        assert_eq!(settled(Phase::Settled, true, true), 4);
    }
}
