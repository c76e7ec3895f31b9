//! Sections as they lie in a part: compressed, under a checksum.
//!
//! Whoever makes sections packs them at once, so that those which wait for a part to be written take
//! no more room than they will there.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thalweg_stream::planted::planted;
use thalweg_stream::{KeyGroup, Section};

use crate::error::Error;
use crate::name::ObjectName;

/// zstd at its fastest: 500 to 700 MB/s and a third of the size.
const LEVEL: i32 = 1;
/// Longest section, unpacked (bytes). A reader allocates as much at once.
pub(super) const SECTION_BYTES_MAX: usize = 1 << 30;

/// What is known of a section that is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedHead {
    /// Its key group.
    pub group: KeyGroup,
    /// Whether it replaces earlier sections of its group.
    pub base: bool,
    /// Its length, packed.
    pub length: u32,
    /// Its length, unpacked.
    pub unpacked: u32,
    /// CRC-32 of what is packed.
    pub crc32: u32,
}

/// A section that is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedSection {
    /// What is known of it.
    pub head: PackedHead,
    /// A zstd frame.
    pub frame: Bytes,
}

/// Packs sections.
pub struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    /// As long as the longest frame could have been.
    buffer: Vec<u8>,
}

impl Packer {
    /// Makes one.
    ///
    /// # Errors
    /// The compressor cannot be made.
    pub fn new() -> Result<Self, Error> {
        let zstd = zstd::bulk::Compressor::new(LEVEL).map_err(|error| failed(&error))?;
        let buffer = Vec::new();
        Ok(Self { zstd, buffer })
    }

    /// Packs a section.
    ///
    /// # Errors
    /// A bug: the section is too long.
    pub fn pack(&mut self, section: &Section) -> Result<PackedSection, Error> {
        if section.bytes.len() > SECTION_BYTES_MAX {
            return Err(Error::Bug("a section is longer than 1 GiB".into()));
        }
        let most = zstd::zstd_safe::compress_bound(section.bytes.len());
        self.buffer.clear();
        self.buffer.reserve(most);
        (self
            .zstd
            .compress_to_buffer(&section.bytes, &mut self.buffer))
        .map_err(|error| failed(&error))?;
        // Copied, so that it has no more room than it needs.
        let frame = Bytes::copy_from_slice(&self.buffer);
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len()).map_err(|_| Error::Bug("a section is too long".into()))
        };
        let head = PackedHead {
            group: section.group,
            base: section.base,
            length: length(&frame)?,
            unpacked: length(&section.bytes)?,
            crc32: crc32fast::hash(&frame),
        };
        Ok(PackedSection { head, frame })
    }
}

/// Unpacks sections.
pub(super) struct Unpacker(zstd::bulk::Decompressor<'static>);

impl Unpacker {
    /// Makes one.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self(
            zstd::bulk::Decompressor::new().map_err(|error| failed(&error))?,
        ))
    }

    /// Unpacks a section of the part `name`.
    ///
    /// # Errors
    /// Corrupt.
    pub(super) fn unpack(
        &mut self,
        name: &ObjectName,
        head: PackedHead,
        frame: &[u8],
    ) -> Result<Section, Error> {
        let corrupt = |what: &str| {
            let problem = format!("the section of key group {} {what}", head.group);
            Error::corrupt(name, problem)
        };
        if crc32fast::hash(frame) != head.crc32 && !planted("ignore-checksum") {
            return Err(corrupt("does not match its checksum"));
        }
        let bytes = (self.0.decompress(frame, head.unpacked as usize))
            .map_err(|error| corrupt(&format!("cannot be unpacked: {error}")))?;
        if bytes.len() != head.unpacked as usize {
            return Err(corrupt("has another length than it should"));
        }
        Ok(Section {
            group: head.group,
            base: head.base,
            bytes: bytes.into(),
        })
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

fn failed(error: &std::io::Error) -> Error {
    Error::Bug(format!("zstd: {error}"))
}

/// A section as it is packed.
#[cfg(test)]
pub(crate) fn packed(section: &Section) -> PackedSection {
    let mut packer = Packer::new().expect("a compressor");
    packer.pack(section).expect("a short section")
}
