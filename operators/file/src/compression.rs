//! Compression of input files.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use flate2::bufread::GzDecoder;

use crate::error::Error;

/// Compressed bytes read at once.
const INPUT_BYTES: usize = 256 << 10;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As its first bytes say: the signatures of gzip and zstd occur in no text.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// gzip, one or several members (RFC 1952).
    Gzip,
    /// zstd, one or several frames (RFC 8878), windows up to 128 MiB.
    Zstd,
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => Err(Error::Option {
                option: "compression",
                value: other.to_owned(),
                must: "auto, none, gzip or zstd",
            }),
        }
    }
}

impl Compression {
    /// Whether a file that begins like this is compressed.
    pub(crate) fn is_compressed(head: &[u8]) -> bool {
        is_gzip(head) || is_zstd(head)
    }

    /// A reader of the decompressed content, or nothing if the file is to be read as it is.
    pub(crate) fn reader(self, file: &File) -> io::Result<Option<Box<dyn Read + Send>>> {
        let mut signature = [0; 4];
        let read = read_some_at(file, &mut signature)?;
        let signature = signature.get(..read).unwrap_or_default();
        let gzip = match self {
            Self::None => return Ok(None),
            // An empty file is an empty file, whatever it is called.
            Self::Auto | Self::Gzip | Self::Zstd if signature.is_empty() => return Ok(None),
            Self::Gzip => true,
            Self::Zstd => false,
            Self::Auto if is_gzip(signature) => true,
            Self::Auto if is_zstd(signature) => false,
            Self::Auto => return Ok(None),
        };
        let input = BufReader::with_capacity(INPUT_BYTES, file.try_clone()?);
        Ok(Some(if gzip {
            Box::new(Members {
                current: Some(GzDecoder::new(input)),
            })
        } else {
            Box::new(zstd::stream::read::Decoder::with_buffer(input)?)
        }))
    }
}

/// The content of a gzip file, member by member. Zeros behind a member are passed over, as by
/// gzip(1): whoever copies by blocks fills the last one up with them.
struct Members<R> {
    /// Nothing behind the last one.
    current: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.current {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let more = pass_zeros(member.get_mut())?;
            let ended = self.current.take().filter(|_| more);
            self.current = ended.map(|member| GzDecoder::new(member.into_inner()));
        }
        Ok(0)
    }
}

/// Passes over zeros, and says whether anything is behind them.
fn pass_zeros(input: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = input.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let (end, more) = (bytes.is_empty(), zeros < bytes.len());
        input.consume(zeros);
        if end || more {
            return Ok(more);
        }
    }
}

/// RFC 1952 §2.3.1.
fn is_gzip(signature: &[u8]) -> bool {
    signature.starts_with(&[0x1f, 0x8b])
}

/// A frame, or a skippable frame: RFC 8878 §3.1.
fn is_zstd(signature: &[u8]) -> bool {
    match signature {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => true,
        [first, 0x2a, 0x4d, 0x18, ..] => first & 0xf0 == 0x50,
        _ => false,
    }
}

/// Reads from the file's beginning without moving its position.
pub(crate) fn read_some_at(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
