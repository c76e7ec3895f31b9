//! A unit being appended to the dead-letter file.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::error::Error;
use crate::journal::Position;

/// Appends the lines of a unit, object by object.
#[derive(Debug)]
pub(super) struct Append {
    path: PathBuf,
    file: File,
    position: Position,
    /// Bytes of the unit's oldest lines that find no room.
    skip: u64,
}

impl Append {
    /// Begins at the position of `file`, which is cut off there.
    pub(super) fn begin(
        path: PathBuf,
        mut file: File,
        position: Position,
        skip: u64,
    ) -> Result<Self, Error> {
        let at = position.length;
        let length = file.metadata().map_err(Error::io("look at", &path))?.len();
        if length < at {
            // Cut since we looked: it is not to be filled up with zeros.
            return Err(Error::io("truncate", &path)(
                io::ErrorKind::UnexpectedEof.into(),
            ));
        }
        (file.set_len(at))
            .and_then(|()| file.seek(SeekFrom::Start(at)))
            .map_err(Error::io("truncate", &path))?;
        Ok(Self {
            path,
            file,
            position,
            skip,
        })
    }

    /// Appends an object's lines.
    pub(super) fn write(mut self, lines: &[u8]) -> Result<Self, Error> {
        let kept = self.keep(lines);
        self.file
            .write_all(kept)
            .map_err(Error::io("write", &self.path))?;
        self.position.length += kept.len() as u64;
        Ok(self)
    }

    /// Makes all of it durable; the file, and the position behind it.
    pub(super) fn finish(self) -> Result<(File, Position), Error> {
        let synced: io::Result<()> = self.file.sync_all();
        synced.map_err(Error::io("fsync", &self.path))?;
        Ok((self.file, self.position))
    }

    /// What finds room: all but whole lines of at least `skip` bytes together.
    fn keep<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.skip == 0 {
            return bytes;
        }
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let cut = match bytes.get(skip - 1..) {
            Some(rest) => memchr::memchr(b'\n', rest).map_or(bytes.len(), |at| skip + at),
            None => bytes.len(),
        };
        self.skip = self.skip.saturating_sub(cut as u64);
        let (dropped, kept) = bytes.split_at(cut.min(bytes.len()));
        self.position.dropped += lines(dropped);
        kept
    }
}

/// How many lines there are.
pub(super) fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
