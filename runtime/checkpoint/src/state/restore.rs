//! Hands a step its state back: the sections of its key groups, in the order in which they apply.

use std::collections::BTreeMap;
use std::ops::Range;
use std::vec::IntoIter;

use thalweg_stream::{KeyGroup, Section};

use super::chain::StateChains;
use super::group::GroupSet;
use super::part::{PartIndex, PartReader, SectionEntry};
use crate::error::Error;
use crate::name::ObjectName;
use crate::store::Store;

/// Most sections fetched at once…
const SECTIONS_MAX: usize = 1024;
/// …and most bytes of them (unpacked), unless one alone has more.
const BYTES_MAX: usize = 16 << 20;

/// A section that is to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The part it is in.
    pub part: ObjectName,
    /// Where in the part.
    pub section: SectionEntry,
}

/// The sections of `step` and `groups`, by group, each group's in the order in which they apply:
/// its newest base, and what was written after that.
///
/// # Errors
/// Corrupt, if a part does not have what the manifest says it has.
pub fn plan(
    chains: &StateChains,
    indexes: &BTreeMap<ObjectName, &PartIndex>,
    step: &str,
    groups: Range<usize>,
) -> Result<Vec<Planned>, Error> {
    let Some(links) = chains.steps.get(step) else {
        return Ok(Vec::new());
    };
    let wanted = GroupSet::range(groups);
    let mut planned: BTreeMap<KeyGroup, Vec<Planned>> = BTreeMap::new();
    for link in links {
        for group in link.bases.and(wanted).iter() {
            planned.remove(&group);
        }
        let index = (indexes.get(&link.part))
            .ok_or_else(|| Error::corrupt(&link.part, "the manifest does not list it"))?;
        let mut found = GroupSet::EMPTY;
        for section in index
            .sections(step)
            .filter(|s| wanted.contains(s.head.group))
        {
            found.insert(section.head.group);
            let sections = planned.entry(section.head.group).or_default();
            if section.head.base {
                sections.clear();
            }
            sections.push(Planned {
                part: link.part.clone(),
                section: section.clone(),
            });
        }
        if found != link.groups.and(wanted) {
            let problem = format!("its sections of step {step:?} are not those of the manifest");
            return Err(Error::corrupt(&link.part, problem));
        }
    }
    Ok(planned.into_values().flatten().collect())
}

/// Reads the state of one checkpoint.
#[derive(Debug)]
pub struct Restorer {
    chains: StateChains,
    readers: BTreeMap<ObjectName, PartReader>,
}

impl Restorer {
    /// Reads the indexes of all parts.
    ///
    /// # Errors
    /// Corrupt, or the store's.
    pub async fn open(store: &Store, chains: &StateChains) -> Result<Self, Error> {
        let mut readers = BTreeMap::new();
        for record in &chains.parts {
            let reader = PartReader::open(store, record).await?;
            readers.insert(record.name.clone(), reader);
        }
        Ok(Self {
            chains: chains.clone(),
            readers,
        })
    }

    /// The sections of `step` and `groups`, to be fetched bit by bit.
    ///
    /// # Errors
    /// Corrupt.
    pub fn sections(&self, step: &str, groups: Range<usize>) -> Result<Sections<'_>, Error> {
        let indexes = (self.readers.iter())
            .map(|(name, reader)| (name.clone(), reader.index()))
            .collect();
        let planned = plan(&self.chains, &indexes, step, groups)?;
        Ok(Sections {
            restorer: self,
            planned: planned.into_iter(),
        })
    }
}

/// The sections of a step, in order.
#[derive(Debug)]
pub struct Sections<'a> {
    restorer: &'a Restorer,
    planned: IntoIter<Planned>,
}

impl Sections<'_> {
    /// The next sections, about 16 MiB of them; nothing when all have been handed out.
    ///
    /// # Errors
    /// Corrupt, or the store's.
    pub async fn next(&mut self) -> Result<Option<Vec<Section>>, Error> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(planned) = self.planned.as_slice().first() {
            bytes += planned.section.bytes();
            if !batch.is_empty() && (bytes > BYTES_MAX || batch.len() >= SECTIONS_MAX) {
                break;
            }
            batch.extend(self.planned.next());
        }
        if batch.is_empty() {
            return Ok(None);
        }
        // One request a part, then back into the planned order.
        let mut by_part: BTreeMap<&ObjectName, Vec<usize>> = BTreeMap::new();
        for (at, planned) in batch.iter().enumerate() {
            by_part.entry(&planned.part).or_default().push(at);
        }
        let mut sections: BTreeMap<usize, Section> = BTreeMap::new();
        for (part, places) in by_part {
            let reader = (self.restorer.readers.get(part))
                .ok_or_else(|| Error::corrupt(part, "the manifest does not list it"))?;
            let wanted: Vec<_> = (places.iter())
                .filter_map(|&at| batch.get(at).map(|planned| planned.section.clone()))
                .collect();
            sections.extend(places.into_iter().zip(reader.read(&wanted).await?));
        }
        Ok(Some(sections.into_values().collect()))
    }
}

#[cfg(test)]
pub(crate) mod tests;
