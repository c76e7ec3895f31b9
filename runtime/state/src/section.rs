//! How the parts of an operator's state become sections and come back.
//!
//! A section is `version u8`, then each part in the operator's order, framed by its length (u64).
//! Operators whose parts have changed since their first release have versions of their own; in
//! sections of earlier ones the last parts may be missing.
//! What a group has to say comes in as many sections as it takes, so that none is long to assemble; the
//! first of a full snapshot replaces all earlier ones, the others go on from it.
//! A section may be written for a group of which nothing is known yet: a [`Register`] is the same
//! for all keys and must reach whoever owns the group later.
//!
//! [`Register`]: crate::Register

use std::ops::Range;

use thalweg_stream::{Fault, KeyGroup, Section};

use crate::bitmap::GroupSet;
use crate::error::StateError;
use crate::wire::{Reader, put_framed};

/// Version of sections of an operator whose parts have not changed.
const FIRST_VERSION: u8 = 1;

/// A piece of an operator's state that can be frozen, written out by group, and taken back.
pub trait Part {
    /// Marks the changes since the last freeze (all of it, if `full`) as what is to be written.
    fn freeze(&mut self, full: bool);

    /// Prepares about `budget_bytes` of what is frozen; how many bytes that was, and whether all
    /// is prepared.
    fn drain(&mut self, budget_bytes: usize) -> (usize, bool);

    /// A group of which so much is prepared that a piece should be taken before more is.
    fn full_group(&mut self) -> Option<KeyGroup> {
        None
    }

    /// Appends a piece of what was prepared of `group` to `out`, of bounded length; false, with
    /// nothing appended, if there is nothing left to say.
    fn take_group(&mut self, group: KeyGroup, out: &mut Vec<u8>) -> bool;

    /// The last freeze came to nothing: its content belongs to the next one.
    fn thaw(&mut self);

    /// Applies what [`take_group`](Self::take_group) wrote, all of it, in a section of this version.
    ///
    /// # Errors
    /// If it is not ours.
    fn restore_group(
        &mut self,
        group: KeyGroup,
        content: &mut Reader<'_>,
        version: u8,
    ) -> Result<(), StateError>;

    /// Forgets everything of `group`: a section that replaces all earlier ones follows.
    fn forget_group(&mut self, group: KeyGroup);
}

/// Writes the frozen parts of an operator as sections, a few at a time.
#[derive(Debug)]
pub struct Sections {
    groups: Range<usize>,
    /// Parts of the snapshot that are prepared.
    prepared: usize,
    /// Groups before this one are all written.
    next: usize,
    /// Groups of which the snapshot has a section.
    begun: GroupSet,
    full: bool,
    version: u8,
}

impl Sections {
    /// For an operator that owns `groups`.
    #[must_use]
    pub fn new(groups: Range<usize>) -> Self {
        Self {
            prepared: 0,
            next: groups.end,
            begun: GroupSet::default(),
            groups,
            full: false,
            version: FIRST_VERSION,
        }
    }

    /// For an operator that owns `groups` and writes sections of this version.
    #[must_use]
    pub fn of_version(groups: Range<usize>, version: u8) -> Self {
        Self {
            version,
            ..Self::new(groups)
        }
    }

    /// Freezes all `parts`.
    pub fn freeze(&mut self, full: bool, parts: &mut [&mut dyn Part]) {
        if self.next < self.groups.end {
            // A snapshot that was not fetched to its end cannot have been committed.
            self.thaw(parts);
        }
        self.prepared = 0;
        self.next = self.groups.start;
        self.begun = GroupSet::default();
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
        let budget = budget_bytes.max(1);
        let mut written = 0;
        while written < budget {
            if let Some(group) = parts.iter_mut().find_map(|part| part.full_group()) {
                written += self.write(group, sections, parts);
            } else if let Some(part) = parts.get_mut(self.prepared) {
                let (bytes, all) = part.drain(budget - written);
                written += bytes;
                self.prepared += usize::from(all);
            } else if self.next < self.groups.end {
                let bytes = self.write(self.next as KeyGroup, sections, parts);
                written += bytes;
                self.next += usize::from(bytes == 0);
            } else {
                return true;
            }
        }
        false
    }

    /// Writes a section of what is prepared of `group`; how many bytes it has, 0 if nothing is left
    /// to say.
    fn write(
        &mut self,
        group: KeyGroup,
        sections: &mut Vec<Section>,
        parts: &mut [&mut dyn Part],
    ) -> usize {
        let mut bytes = vec![self.version];
        let mut said = false;
        for part in parts.iter_mut() {
            put_framed(&mut bytes, |out| said |= part.take_group(group, out));
        }
        // A full snapshot has a section even of nothing: it ends the chain of earlier ones.
        let base = self.full && !self.begun.contains(group);
        if !said && !base {
            return 0;
        }
        self.begun.insert(group);
        let length = bytes.len();
        sections.push(Section {
            group,
            base,
            bytes: bytes.into(),
        });
        length
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
        let all = [parts.len()];
        Self::restore_versions(section, parts, &all)
    }

    /// Takes a section of an operator back whose versions, from 1 on, have so many of its parts.
    ///
    /// # Errors
    /// Corrupt, if it is not ours.
    pub fn restore_versions(
        section: &Section,
        parts: &mut [&mut dyn Part],
        parts_by_version: &[usize],
    ) -> Result<(), Fault> {
        Self::read(section, parts, parts_by_version)
            .map_err(|error| Fault::from(error).within(format!("key group {}", section.group)))
    }

    fn read(
        section: &Section,
        parts: &mut [&mut dyn Part],
        parts_by_version: &[usize],
    ) -> Result<(), StateError> {
        let mut reader = Reader::new(&section.bytes);
        let version = reader.u8()?;
        let there = usize::from(version)
            .checked_sub(usize::from(FIRST_VERSION))
            .and_then(|at| parts_by_version.get(at).copied())
            .ok_or(StateError::Version {
                found: version,
                known: parts_by_version.len() as u8,
            })?;
        for (at, part) in parts.iter_mut().enumerate() {
            if section.base {
                part.forget_group(section.group);
            }
            if at >= there {
                continue;
            }
            let mut content = reader.framed()?;
            if content.remaining() > 0 {
                part.restore_group(section.group, &mut content, version)?;
                content.end()?;
            }
        }
        reader.end()
    }
}
