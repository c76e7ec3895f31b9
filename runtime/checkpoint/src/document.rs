//! The frame of every durable document: one line of header, then JSON.
//!
//! ```text
//! thalweg manifest 1 crc32:1c291ca3
//! {"job":"road-risk", …
//! ```
//!
//! The header names kind, format version and the CRC-32 of `<kind> <version>\n<body>`. It is the
//! same in all versions, so that damage is told from a document of a newer program: the checksum
//! is verified first, then the version. The header must read exactly as it would be written, so
//! that no bit of it can change unnoticed.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::name::ObjectName;

/// A kind of document and the newest version of it that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// What it is, one word.
    pub(crate) kind: &'static str,
    /// Newest version.
    pub(crate) version: u32,
}

/// Longest header looked at (bytes).
const HEADER_MAX: usize = 96;

impl Format {
    /// Frames `document`.
    pub(crate) fn encode(self, document: &impl Serialize) -> Result<Bytes, Error> {
        let mut body = serde_json::to_vec(document)
            .map_err(|error| Error::Bug(format!("{} cannot be written: {error}", self.kind)))?;
        body.push(b'\n');
        let mut bytes = header(self.kind, self.version, &body).into_bytes();
        bytes.extend_from_slice(&body);
        Ok(bytes.into())
    }

    /// Checks the frame of `name` and reads the document.
    pub(crate) fn decode<T: DeserializeOwned>(
        self,
        name: &ObjectName,
        bytes: &[u8],
    ) -> Result<T, Error> {
        let corrupt = |problem: &str| Error::corrupt(name, problem);
        let line = (bytes.iter().take(HEADER_MAX))
            .position(|&byte| byte == b'\n')
            .ok_or_else(|| corrupt("no header"))?;
        let (found, body) = bytes.split_at(line + 1);
        let text = std::str::from_utf8(found).map_err(|_| corrupt("the header is not text"))?;
        let mut words = text.split(' ');
        let (Some("thalweg"), Some(kind), Some(version)) =
            (words.next(), words.next(), words.next())
        else {
            return Err(corrupt("the header is none of ours"));
        };
        let version: u32 = version
            .parse()
            .map_err(|_| corrupt("the header has no version"))?;
        if header(kind, version, body) != text {
            return Err(corrupt("the checksum does not match"));
        }
        if kind != self.kind {
            return Err(corrupt(&format!("it is a {kind}, not a {}", self.kind)));
        }
        if version > self.version {
            return Err(Error::Newer {
                name: name.to_string(),
                kind: self.kind,
                version,
                known: self.version,
            });
        }
        serde_json::from_slice(body).map_err(|error| Error::corrupt(name, error.to_string()))
    }
}

fn header(kind: &str, version: u32, body: &[u8]) -> String {
    let mut crc = crc32fast::Hasher::new();
    crc.update(format!("{kind} {version}\n").as_bytes());
    crc.update(body);
    format!("thalweg {kind} {version} crc32:{:08x}\n", crc.finalize())
}

#[cfg(test)]
mod tests {
    use super::{Format, header};
    use crate::error::Error;
    use crate::name::ObjectName;

    const NOTE: Format = Format {
        kind: "note",
        version: 1,
    };

    #[test]
    fn every_flipped_bit_and_every_cut_is_detected() {
        let name = ObjectName::hint();
        let bytes = NOTE.encode(&vec!["a", "b"]).unwrap();
        let read = |bytes: &[u8]| NOTE.decode::<Vec<String>>(&name, bytes);
        assert_eq!(read(&bytes), Ok(vec!["a".to_owned(), "b".to_owned()]));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(read(&damaged), Err(Error::Corrupt { .. })),
                "bit {bit}"
            );
        }
        for length in 0..bytes.len() {
            assert!(
                matches!(read(&bytes[..length]), Err(Error::Corrupt { .. })),
                "length {length}"
            );
        }
    }

    #[test]
    fn a_newer_document_is_refused_by_name() {
        let body = b"[]\n";
        let mut bytes = header("note", 2, body).into_bytes();
        bytes.extend_from_slice(body);
        let refused = NOTE
            .decode::<Vec<String>>(&ObjectName::hint(), &bytes)
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "hint has note format 2, and this program knows formats up to 1"
        );
    }
}
