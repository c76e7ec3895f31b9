//! A part: one object with the state that one worker froze for one checkpoint.
//!
//! ```text
//! sections   zstd frames, one per section, back to back from byte 0
//! index      worker u32, sequence u32, epoch u64, generation u64
//!            steps u16, then of each: length u16, name
//!            sections u32, then of each: step u16, key group u8, flags u8 (1: base),
//!              offset u64, length u32, length unpacked u32, CRC-32 of the frame u32
//! footer     index offset u64, index length u32, CRC-32 of the index u32, format version u32,
//!            CRC-32 of the footer so far and the magic u32, magic "thwlgprt"
//! ```
//!
//! All numbers are little-endian. Every byte is under one of the checksums, and a checksum is
//! verified before what it covers is used. A reader fetches footer and index, then only the
//! sections it wants. The manifest repeats the checksum of the index, so that a part is never
//! taken for another one.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};
use thalweg_stream::{Epoch, Generation, Section};

use super::chain::{Link, PartReport};
use super::group::GroupSet;
use super::packed::{PackedHead, PackedSection, SECTION_BYTES_MAX, Unpacker};
use crate::error::Error;
use crate::name::{ObjectName, PartId};
use crate::store::{Payload, Store};

/// Newest version of the format.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"thwlgprt";
const FOOTER: usize = 32;
/// Flag of a section that replaces earlier ones.
const BASE: u8 = 1;
/// Least bytes of a step in the index, and of a section: they bound what a count can claim.
const STEP_BYTES: usize = 2;
const SECTION_BYTES: usize = 24;
/// How much is fetched at the end of a part at first: footer, and nearly always the whole index.
const TAIL: u64 = 64 * 1024;
/// Bytes of the pieces in which a part is put together: as many are moved at once when it grows.
const PIECE_BYTES: usize = 1 << 20;
/// Length (bytes) at which a worker should finish a part and begin the next, so that what waits
/// for upload stays small. Nothing depends on it.
pub(crate) const PART_BYTES_TARGET: usize = 64 << 20;

/// A part that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Its object.
    pub name: ObjectName,
    /// Which part it is.
    pub id: PartId,
    /// The object's length.
    pub bytes: u64,
    /// CRC-32 of the whole object.
    pub crc32: u32,
    /// CRC-32 of the index.
    pub index_crc32: u32,
}

/// Collects sections into a part.
pub struct PartWriter {
    id: PartId,
    body: Body,
    steps: Vec<(String, Link)>,
    sections: Vec<SectionEntry>,
}

/// A part that is ready to be stored.
#[derive(Clone, Debug)]
pub struct FinishedPart {
    /// What the coordinator must know of it, once it is stored.
    pub report: PartReport,
    /// The object's content.
    pub content: Payload,
}

/// The content of a part so far.
#[derive(Debug, Default)]
struct Body {
    pieces: Vec<Bytes>,
    piece: Vec<u8>,
    bytes: u64,
    crc32: crc32fast::Hasher,
}

impl Body {
    fn put(&mut self, bytes: &[u8]) {
        if self.piece.len() + bytes.len() > PIECE_BYTES && !self.piece.is_empty() {
            let next = Vec::with_capacity(PIECE_BYTES.max(bytes.len()));
            let full = std::mem::replace(&mut self.piece, next);
            self.pieces.push(full.into());
        }
        self.piece.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        self.crc32.update(bytes);
    }

    fn finish(mut self) -> Payload {
        self.pieces.push(self.piece.into());
        self.pieces.into()
    }
}

/// A section in a part's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionEntry {
    /// The position of its step among the part's.
    step: u16,
    /// What is known of it.
    pub head: PackedHead,
    offset: u64,
}

impl PartWriter {
    /// An empty part.
    #[must_use]
    pub fn new(id: PartId) -> Self {
        Self {
            id,
            body: Body::default(),
            steps: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// Says that `step` was frozen for this checkpoint on this worker, which owns `groups`. If it
    /// was frozen `full`, whatever earlier checkpoints have of these groups is obsolete, also of a
    /// group that comes without sections because it is empty now.
    ///
    /// Call it before the step's sections, and once a checkpoint: not again for the parts that
    /// follow one that was cut at [`PART_BYTES_TARGET`].
    ///
    /// # Errors
    /// The part has more steps than it can.
    pub fn freeze(&mut self, step: &str, groups: Range<usize>, full: bool) -> Result<(), Error> {
        let at = self.step(step)?;
        if full && let Some((_, link)) = self.steps.get_mut(usize::from(at)) {
            link.bases = link.bases.or(GroupSet::range(groups));
        }
        Ok(())
    }

    /// Adds a section of `step`. Sections of a group are restored in the order of adding.
    ///
    /// # Errors
    /// The part has more steps than it can.
    pub fn add(&mut self, step: &str, section: &PackedSection) -> Result<(), Error> {
        let at = self.step(step)?;
        let head = section.head;
        let offset = self.body.bytes;
        self.sections.push(SectionEntry {
            step: at,
            head,
            offset,
        });
        self.body.put(&section.frame);
        if let Some((_, link)) = self.steps.get_mut(usize::from(at)) {
            link.groups.insert(head.group);
            if head.base {
                link.bases.insert(head.group);
            }
            // What follows a base in the same freeze belongs to it.
            match link.bases.contains(head.group) {
                true => link.base_bytes += u64::from(head.unpacked),
                false => link.delta_bytes += u64::from(head.unpacked),
            }
        }
        Ok(())
    }

    /// Its length so far, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        usize::try_from(self.body.bytes).unwrap_or(usize::MAX) + self.sections.len() * SECTION_BYTES
    }

    /// The object.
    ///
    /// # Errors
    /// It has more sections than it can.
    pub fn finish(self) -> Result<FinishedPart, Error> {
        let mut body = self.body;
        let index_offset = body.bytes;
        let mut index = Vec::new();
        put_index(self.id, &self.steps, &self.sections, &mut index)?;
        let index_crc32 = crc32fast::hash(&index);
        let index_length = u32::try_from(index.len())
            .map_err(|_| Error::Bug("the index of a part is too long".into()))?;
        let mut footer = Vec::with_capacity(FOOTER);
        footer.put_u64_le(index_offset);
        footer.put_u32_le(index_length);
        footer.put_u32_le(index_crc32);
        footer.put_u32_le(VERSION);
        footer.put_u32_le(footer_crc(&footer));
        footer.put_slice(MAGIC);
        body.put(&index);
        body.put(&footer);
        let name = ObjectName::part(self.id);
        let links = (self.steps.into_iter())
            .map(|(step, link)| {
                (
                    step,
                    Link {
                        part: name.clone(),
                        ..link
                    },
                )
            })
            .collect();
        let part = PartRecord {
            name,
            id: self.id,
            bytes: body.bytes,
            crc32: body.crc32.clone().finalize(),
            index_crc32,
        };
        Ok(FinishedPart {
            report: PartReport { part, links },
            content: body.finish(),
        })
    }

    fn step(&mut self, step: &str) -> Result<u16, Error> {
        let at = match self.steps.iter().position(|(name, _)| name == step) {
            Some(at) => at,
            None => {
                let link = Link::empty(ObjectName::part(self.id));
                self.steps.push((step.to_owned(), link));
                self.steps.len() - 1
            }
        };
        u16::try_from(at).map_err(|_| Error::Bug("a part has too many steps".into()))
    }
}

impl std::fmt::Debug for PartWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartWriter")
            .field("id", &self.id)
            .field("sections", &self.sections.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

fn put_index(
    id: PartId,
    steps: &[(String, Link)],
    sections: &[SectionEntry],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let many = |what: &str| Error::Bug(format!("a part has too many {what}"));
    out.put_u32_le(id.worker);
    out.put_u32_le(id.sequence);
    out.put_u64_le(id.epoch.0);
    out.put_u64_le(id.generation.0);
    out.put_u16_le(u16::try_from(steps.len()).map_err(|_| many("steps"))?);
    for (step, _) in steps {
        out.put_u16_le(u16::try_from(step.len()).map_err(|_| many("letters in a step's name"))?);
        out.put_slice(step.as_bytes());
    }
    out.put_u32_le(u32::try_from(sections.len()).map_err(|_| many("sections"))?);
    for section in sections {
        out.put_u16_le(section.step);
        let head = section.head;
        out.put_u8(head.group);
        out.put_u8(if head.base { BASE } else { 0 });
        out.put_u64_le(section.offset);
        out.put_u32_le(head.length);
        out.put_u32_le(head.unpacked);
        out.put_u32_le(head.crc32);
    }
    Ok(())
}

fn footer_crc(footer: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(footer);
    crc.update(MAGIC);
    crc.finalize()
}

/// What a part contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartIndex {
    steps: Vec<String>,
    sections: Vec<SectionEntry>,
}

impl PartIndex {
    /// The sections of one step in the order of writing.
    pub fn sections<'a>(&'a self, step: &str) -> impl Iterator<Item = &'a SectionEntry> + use<'a> {
        let at = self.steps.iter().position(|name| name == step);
        (self.sections.iter()).filter(move |section| Some(usize::from(section.step)) == at)
    }

    /// Reads the index of the part that `record` names.
    fn read(record: &PartRecord, footer: &Footer, mut index: &[u8]) -> Result<Self, Error> {
        let corrupt = |problem: &str| Error::corrupt(&record.name, problem);
        if crc32fast::hash(index) != footer.index_crc32 {
            return Err(corrupt("the checksum of its index does not match"));
        }
        let short = || corrupt("its index ends early");
        let id = PartId {
            worker: index.try_get_u32_le().map_err(|_| short())?,
            sequence: index.try_get_u32_le().map_err(|_| short())?,
            epoch: Epoch(index.try_get_u64_le().map_err(|_| short())?),
            generation: Generation(index.try_get_u64_le().map_err(|_| short())?),
        };
        if id != record.id {
            return Err(corrupt("it is another part"));
        }
        let count = usize::from(index.try_get_u16_le().map_err(|_| short())?);
        let mut steps = Vec::with_capacity(count.min(index.len() / STEP_BYTES));
        for _ in 0..count {
            let length = usize::from(index.try_get_u16_le().map_err(|_| short())?);
            let name = index.split_off(..length).ok_or_else(short)?;
            let name = std::str::from_utf8(name).map_err(|_| corrupt("a step has no name"))?;
            steps.push(name.to_owned());
        }
        let count = index.try_get_u32_le().map_err(|_| short())? as usize;
        if count.checked_mul(SECTION_BYTES) != Some(index.len()) {
            return Err(short());
        }
        let mut sections = Vec::with_capacity(count);
        for _ in 0..count {
            let step = index.try_get_u16_le().map_err(|_| short())?;
            let group = index.try_get_u8().map_err(|_| short())?;
            let base = index.try_get_u8().map_err(|_| short())? == BASE;
            let offset = index.try_get_u64_le().map_err(|_| short())?;
            let head = PackedHead {
                group,
                base,
                length: index.try_get_u32_le().map_err(|_| short())?,
                unpacked: index.try_get_u32_le().map_err(|_| short())?,
                crc32: index.try_get_u32_le().map_err(|_| short())?,
            };
            let section = SectionEntry { step, head, offset };
            let end = offset.checked_add(u64::from(head.length));
            let within = end.is_some_and(|end| end <= footer.index.start);
            let possible = head.unpacked as usize <= SECTION_BYTES_MAX;
            if !within || !possible || usize::from(section.step) >= steps.len() {
                return Err(corrupt("a section in its index cannot be"));
            }
            sections.push(section);
        }
        Ok(Self { steps, sections })
    }
}

struct Footer {
    index: Range<u64>,
    index_crc32: u32,
}

impl Footer {
    fn read(record: &PartRecord, tail: &[u8]) -> Result<Self, Error> {
        let corrupt = |problem: &str| Error::corrupt(&record.name, problem);
        let mut footer = (tail.len().checked_sub(FOOTER))
            .and_then(|at| tail.get(at..))
            .ok_or_else(|| corrupt("it is too short"))?;
        let body = footer.get(..FOOTER - 12).unwrap_or_default();
        let expected = footer_crc(body);
        let short = || corrupt("it is too short");
        let offset = footer.try_get_u64_le().map_err(|_| short())?;
        let length = footer.try_get_u32_le().map_err(|_| short())?;
        let index_crc32 = footer.try_get_u32_le().map_err(|_| short())?;
        let version = footer.try_get_u32_le().map_err(|_| short())?;
        let crc32 = footer.try_get_u32_le().map_err(|_| short())?;
        if crc32 != expected || footer != MAGIC {
            return Err(corrupt("the checksum of its footer does not match"));
        }
        if version > VERSION {
            return Err(Error::Newer {
                name: record.name.to_string(),
                kind: "state",
                version,
                known: VERSION,
            });
        }
        let end = record.bytes.checked_sub(FOOTER as u64);
        if index_crc32 != record.index_crc32 || offset.checked_add(u64::from(length)) != end {
            return Err(corrupt("it is not the part that the manifest names"));
        }
        Ok(Self {
            index: offset..offset + u64::from(length),
            index_crc32,
        })
    }
}

/// Reads sections of a part by ranges.
#[derive(Debug)]
pub struct PartReader {
    store: Store,
    record: PartRecord,
    index: PartIndex,
}

impl PartReader {
    /// Reads footer and index.
    ///
    /// # Errors
    /// Corrupt if the part is not the one that `record` names; the store's.
    pub async fn open(store: &Store, record: &PartRecord) -> Result<Self, Error> {
        let found = store.length(&record.name).await?;
        if found != record.bytes {
            let problem = format!("it has {found} bytes instead of {}", record.bytes);
            return Err(Error::corrupt(&record.name, problem));
        }
        let start = record.bytes.saturating_sub(TAIL);
        let tail = fetch(store, &record.name, start..record.bytes).await?;
        let footer = Footer::read(record, &tail)?;
        let index = match footer.index.start.checked_sub(start) {
            Some(at) => {
                let end = tail.len().saturating_sub(FOOTER);
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                tail.get(at..end).map(|slice| tail.slice_ref(slice))
            }
            None => Some(fetch(store, &record.name, footer.index.clone()).await?),
        };
        let index = index.ok_or_else(|| Error::corrupt(&record.name, "its index is not there"))?;
        Ok(Self {
            store: store.clone(),
            index: PartIndex::read(record, &footer, &index)?,
            record: record.clone(),
        })
    }

    /// What is in the part.
    #[must_use]
    pub fn index(&self) -> &PartIndex {
        &self.index
    }

    /// Reads some sections, in the order given.
    ///
    /// # Errors
    /// Corrupt if a checksum does not match; the store's.
    pub async fn read(&self, sections: &[SectionEntry]) -> Result<Vec<Section>, Error> {
        let ranges: Vec<_> = (sections.iter())
            .map(|s| s.offset..s.offset + u64::from(s.head.length))
            .collect();
        let frames = self.store.get_ranges(&self.record.name, &ranges).await?;
        let mut unpacker = Unpacker::new()?;
        (sections.iter().zip(frames))
            .map(|(entry, frame)| unpacker.unpack(&self.record.name, entry.head, &frame))
            .collect()
    }
}

/// Checks a part that has been read whole, every section of it.
pub(crate) fn check_whole(record: &PartRecord, content: &[u8]) -> Result<PartIndex, Error> {
    let corrupt = |problem: &str| Error::corrupt(&record.name, problem);
    if content.len() as u64 != record.bytes || crc32fast::hash(content) != record.crc32 {
        return Err(corrupt("length or checksum are not those of the manifest"));
    }
    let footer = Footer::read(record, content)?;
    let range = footer.index.start as usize..footer.index.end as usize;
    let index = (content.get(range)).ok_or_else(|| corrupt("its index is not there"))?;
    let index = PartIndex::read(record, &footer, index)?;
    let mut unpacker = Unpacker::new()?;
    for entry in &index.sections {
        let start = entry.offset as usize;
        let frame = (content.get(start..start + entry.head.length as usize))
            .ok_or_else(|| corrupt("a section is not there"))?;
        unpacker.unpack(&record.name, entry.head, frame)?;
    }
    Ok(index)
}

impl SectionEntry {
    /// Its length, unpacked.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.head.unpacked as usize
    }
}

async fn fetch(store: &Store, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
    let found = store.get_ranges(name, std::slice::from_ref(&range)).await?;
    (found.into_iter().next()).ok_or_else(|| Error::corrupt(name, "a range of it is not there"))
}

#[cfg(test)]
mod tests;
