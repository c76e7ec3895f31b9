//! How the parts of an operator's state become sections and come back.
//!
//! A section is `version u8`, then each part in the operator's order, framed by its length (u64).
//! Operators that have got parts since their first release write version 2; in their sections of
//! version 1 the last parts are missing.
//! A section may be written for a group of which nothing is known yet: a [`Register`] is the same
//! for all keys and must reach whoever owns the group later.
//!
//! [`Register`]: crate::Register

use std::ops::Range;

use thalweg_stream::{Fault, KeyGroup, Section};

use crate::error::StateError;
use crate::wire::{Reader, put_framed};

/// Version of the framing of sections and of the parts of this crate.
const FORMAT_VERSION: u8 = 1;
/// The same where an operator has parts that its sections of version 1 lack.
const GROWN_VERSION: u8 = 2;

/// A piece of an operator's state that can be frozen, written out by group, and taken back.
pub trait Part {
    /// Marks the changes since the last freeze (all of it, if `full`) as what is to be written.
    fn freeze(&mut self, full: bool);

    /// Prepares about `budget_bytes` of what is frozen; how many bytes that was, and whether all
    /// is prepared.
    fn drain(&mut self, budget_bytes: usize) -> (usize, bool);

    /// Appends what was prepared of `group` to `out`, once; false, with nothing appended, if there
    /// is nothing to say.
    fn take_group(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool;

    /// The last freeze came to nothing: its content belongs to the next one.
    fn thaw(&mut self);

    /// Applies what [`take_group`](Self::take_group) wrote, all of it.
    ///
    /// # Errors
    /// If it is not ours.
    fn restore_group(
        &mut self,
        group: KeyGroup,
        content: &mut Reader<'_>,
    ) -> Result<(), StateError>;

    /// Forgets everything of `group`: a section that replaces all earlier ones follows.
    fn forget_group(&mut self, group: KeyGroup);
}

/// Writes the frozen parts of an operator as sections, a few at a time.
#[derive(Debug)]
pub struct Sections {
    groups: Range<usize>,
    next: usize,
    full: bool,
    version: u8,
}

impl Sections {
    /// For an operator that owns `groups`.
    #[must_use]
    pub fn new(groups: Range<usize>) -> Self {
        Self {
            next: groups.end,
            groups,
            full: false,
            version: FORMAT_VERSION,
        }
    }

    /// For an operator that owns `groups` and has got parts, at the end, since its first release.
    #[must_use]
    pub fn grown(groups: Range<usize>) -> Self {
        Self {
            version: GROWN_VERSION,
            ..Self::new(groups)
        }
    }

    /// Freezes all `parts`.
    pub fn freeze(&mut self, full: bool, parts: &mut [&mut dyn Part]) {
        if self.next < self.groups.end {
            // A snapshot that was not fetched to its end cannot have been committed.
            self.thaw(parts);
        }
        self.next = self.groups.start;
        self.full = full;
        for part in parts {
            part.freeze(full);
        }
    }

    /// Appends about `budget_bytes` of sections; true when all is out.
    pub fn drain(
        &mut self,
        budget_bytes: usize,
        sections: &mut Vec<Section>,
        parts: &mut [&mut dyn Part],
    ) -> bool {
        let mut written = 0;
        for part in parts.iter_mut() {
            if written >= budget_bytes.max(1) {
                return false;
            }
            let (bytes, done) = part.drain(budget_bytes.max(1) - written);
            written += bytes;
            if !done {
                return false;
            }
        }
        while self.next < self.groups.end {
            if written >= budget_bytes.max(1) {
                return false;
            }
            let group = self.next as KeyGroup;
            self.next += 1;
            let mut bytes = vec![self.version];
            let mut said = false;
            for part in parts.iter_mut() {
                put_framed(&mut bytes, |out| said |= part.take_group(group, out));
            }
            // A full section is written even of nothing: it ends the chain of earlier ones.
            if said || self.full {
                written += bytes.len();
                sections.push(Section {
                    group,
                    base: self.full,
                    bytes: bytes.into(),
                });
            }
        }
        true
    }

    /// The checkpoint failed: gives the frozen content of `parts` to the next one.
    pub fn thaw(&mut self, parts: &mut [&mut dyn Part]) {
        self.next = self.groups.end;
        for part in parts {
            part.thaw();
        }
    }

    /// Takes a section back.
    ///
    /// # Errors
    /// Corrupt, if it is not ours.
    pub fn restore(section: &Section, parts: &mut [&mut dyn Part]) -> Result<(), Fault> {
        Self::restore_checked(section, parts, (FORMAT_VERSION, parts.len()))
    }

    /// Takes a section of an operator back that [has got parts](Self::grown) behind its first
    /// `first` ones.
    ///
    /// # Errors
    /// Corrupt, if it is not ours.
    pub fn restore_grown(
        section: &Section,
        parts: &mut [&mut dyn Part],
        first: usize,
    ) -> Result<(), Fault> {
        Self::restore_checked(section, parts, (GROWN_VERSION, first))
    }

    fn restore_checked(
        section: &Section,
        parts: &mut [&mut dyn Part],
        known_and_first: (u8, usize),
    ) -> Result<(), Fault> {
        Self::read(section, parts, known_and_first)
            .map_err(|error| Fault::from(error).within(format!("key group {}", section.group)))
    }

    fn read(
        section: &Section,
        parts: &mut [&mut dyn Part],
        (known, first): (u8, usize),
    ) -> Result<(), StateError> {
        let mut reader = Reader::new(&section.bytes);
        let found = reader.u8()?;
        if !(FORMAT_VERSION..=known).contains(&found) {
            return Err(StateError::Version { found, known });
        }
        let there = match found {
            FORMAT_VERSION => first,
            _ => parts.len(),
        };
        for (at, part) in parts.iter_mut().enumerate() {
            if section.base {
                part.forget_group(section.group);
            }
            if at >= there {
                continue;
            }
            let mut content = reader.framed()?;
            if content.remaining() > 0 {
                part.restore_group(section.group, &mut content)?;
                content.end()?;
            }
        }
        reader.end()
    }
}
