//! One input file, cut into pieces of whole records.
//!
//! A plain file is read at explicit positions: the incomplete line at a piece's end is simply read
//! again, from the page cache, so nothing is copied and nothing is kept between pieces. Compressed
//! content is a stream: there the incomplete line is carried over. Where quotes may hide line feeds,
//! records are looked through from the front, for their ends cannot be told from behind.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memchr::{memchr_iter, memrchr};
use thalweg_stream::{Origin, Quoting, RecordEnds};

use crate::buffer::BufferPool;
use crate::compression::Compression;
use crate::error::Error;
use crate::source::{Header, Records};

/// What some programs put in front of UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Read at first to find a header, bytes.
const HEADER_BYTES: usize = 4 << 10;

/// A file being read.
pub(crate) struct SplitFile {
    /// The split's name, for messages.
    name: Arc<str>,
    content: Content,
    /// Where the next piece begins, in decompressed bytes.
    offset: u64,
    record_bytes_max: usize,
    quoting: Option<Quoting>,
    /// Whether more may come behind its end: then a record that is not complete waits for the rest.
    growing: bool,
    /// Its first record, if chunks are to carry it.
    header: Option<Vec<u8>>,
}

enum Content {
    Plain {
        file: File,
        /// Its length when it was opened; it may grow, and must not shrink.
        bytes: u64,
    },
    Stream {
        reader: Box<dyn Read + Send>,
        /// Decompressed and not yet handed out.
        carried: Vec<u8>,
        /// Still to be passed over after a restart.
        skip: u64,
    },
}

/// Finds the ends of records of `text`, which stands at offset `start` of its file: there a byte order
/// mark may be before the first field.
pub(crate) fn record_ends(quoting: Quoting, text: &[u8], start: u64) -> RecordEnds {
    let marked = start == 0 && text.starts_with(BYTE_ORDER_MARK);
    RecordEnds::new(quoting, if marked { BYTE_ORDER_MARK.len() } else { 0 })
}

/// Whether a carriage return outside of quotes, before the end, has no line feed behind it.
fn has_bare_return(header: &[u8], quoting: Quoting) -> bool {
    memchr_iter(b'\r', header).any(|at| {
        let (before, behind) = header.split_at(at);
        let quotes = before.iter().filter(|byte| Some(**byte) == quoting.quote);
        behind.get(1).is_some_and(|next| *next != b'\n') && quotes.count() % 2 == 0
    })
}

/// Consecutive lines of a file.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Offset of the first byte.
    pub(crate) start: u64,
    /// Whole lines; at the end of the file the last line feed may be missing.
    pub(crate) bytes: Bytes,
    /// Whether the file ends behind it.
    pub(crate) last: bool,
}

impl SplitFile {
    /// Opens a file to be read from `offset` on.
    pub(crate) fn open(
        path: &Path,
        name: Arc<str>,
        compression: Compression,
        offset: u64,
        record_bytes_max: usize,
        records: Records,
    ) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                let name = name.to_string();
                return Error::Vanished { name, offset };
            }
            Error::io("open", path)(error)
        })?;
        let metadata = file.metadata().map_err(Error::io("look at", path))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile(name.to_string()));
        }
        let reader = compression.reader(&file);
        let content = match reader.map_err(Error::io("read", path))? {
            Some(reader) => Content::Stream {
                reader,
                carried: Vec::new(),
                skip: offset,
            },
            None => Content::Plain {
                bytes: metadata.len(),
                file,
            },
        };
        if let Content::Plain { bytes, .. } = content
            && bytes < offset
        {
            return Err(Error::Shrunk {
                name: name.to_string(),
                offset,
                bytes,
            });
        }
        let mut opened = Self {
            name,
            content,
            offset,
            record_bytes_max,
            quoting: records.quoting,
            growing: false,
            header: None,
        };
        opened.pass_header(records.header)?;
        Ok(opened)
    }

    /// A file that is not compressed and may grow, to be read from `offset` on; nothing if its
    /// header is not complete.
    pub(crate) fn follow(
        file: File,
        name: Arc<str>,
        offset: u64,
        record_bytes_max: usize,
        records: Records,
        growing: bool,
    ) -> Result<Option<Self>, Error> {
        let metadata = (file.metadata()).map_err(Error::io("look at", Path::new(&*name)))?;
        let mut opened = Self {
            name,
            content: Content::Plain {
                file,
                bytes: metadata.len(),
            },
            offset,
            record_bytes_max,
            quoting: records.quoting,
            growing,
            header: None,
        };
        Ok(opened.pass_header(records.header)?.then_some(opened))
    }

    /// It has, now, so many bytes, and may or may not grow.
    pub(crate) fn grown(&mut self, length: u64, growing: bool) {
        if let Content::Plain { bytes, .. } = &mut self.content {
            *bytes = length;
        }
        self.growing = growing;
    }

    /// The file itself, if it is not compressed.
    pub(crate) fn plain(&self) -> Option<&File> {
        match &self.content {
            Content::Plain { file, .. } => Some(file),
            Content::Stream { .. } => None,
        }
    }

    /// Begins behind the header, if there is one; whether that was possible.
    fn pass_header(&mut self, header: Header) -> Result<bool, Error> {
        if header == Header::None {
            return Ok(true);
        }
        let Some(read) = self.read_header()? else {
            return Ok(false);
        };
        self.header = (header == Header::Carried).then_some(read);
        Ok(true)
    }

    /// Its first record, once, if chunks are to carry it.
    pub(crate) fn take_header(&mut self) -> Option<Vec<u8>> {
        self.header.take()
    }

    /// Reads the first record, wherever reading is to begin, and begins behind it at the earliest.
    /// Nothing if it is not complete and more may come.
    fn read_header(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let begin = std::mem::take(&mut self.offset);
        let quoting = self.quoting.unwrap_or(Quoting {
            delimiter: b',',
            quote: None,
        });
        let mut text: Vec<u8> = Vec::new();
        let mut ends: Option<RecordEnds> = None;
        let end = loop {
            let filled = text.len();
            let room = (filled * 2).clamp(HEADER_BYTES, self.record_bytes_max.max(HEADER_BYTES));
            text.resize(room, 0);
            let read = self.fill(text.get_mut(filled..).unwrap_or_default(), filled)?;
            text.truncate(filled + read);
            let ends = ends.get_or_insert_with(|| record_ends(quoting, &text, 0));
            if let Some(end) = ends.next(&text) {
                break end;
            }
            if text.len() < room && self.growing {
                self.offset = begin;
                return Ok(None);
            }
            if text.len() < room {
                break text.len();
            }
            if room >= self.record_bytes_max {
                return Err(Error::RecordTooLong {
                    name: self.name.to_string(),
                    offset: 0,
                    limit: self.record_bytes_max,
                });
            }
        };
        self.offset = begin.max(end as u64);
        if let Content::Stream { carried, skip, .. } = &mut self.content {
            let ahead = usize::try_from(self.offset).unwrap_or(usize::MAX);
            *carried = text.get(ahead..).unwrap_or_default().to_vec();
            *skip = self.offset.saturating_sub(text.len() as u64);
        }
        text.truncate(end);
        // All records would pass for one long header, and be lost.
        if has_bare_return(&text, quoting) {
            return Err(Error::LineEnds(self.name.to_string()));
        }
        Ok(Some(text))
    }

    /// Its length, if it is not compressed.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.content {
            Content::Plain { bytes, .. } => Some(bytes),
            Content::Stream { .. } => None,
        }
    }

    /// The next piece, of one buffer of the pool unless a record is larger; nothing at the end.
    pub(crate) fn next(&mut self, pool: &Arc<BufferPool>) -> Result<Option<Piece>, Error> {
        self.skip(pool)?;
        let carried = match &mut self.content {
            Content::Plain { .. } => Vec::new(),
            Content::Stream { carried, .. } => std::mem::take(carried),
        };
        let mut buffer = pool.take((carried.len() + 1).next_power_of_two());
        let mut filled = carried.len();
        if let Some(front) = buffer.get_mut(..filled) {
            front.copy_from_slice(&carried);
        }
        let mut searched = 0;
        let mut ends: Option<RecordEnds> = None;
        let (cut, last) = loop {
            filled += self.fill(buffer.get_mut(filled..).unwrap_or_default(), filled)?;
            let all = filled < buffer.len();
            if all && !self.growing {
                break (filled, true);
            }
            let text = buffer.get(..filled).unwrap_or_default();
            let cut = match self.quoting {
                None => {
                    let unsearched = text.get(searched..).unwrap_or_default();
                    memrchr(b'\n', unsearched).map(|at| searched + at + 1)
                }
                Some(quoting) => {
                    let start = self.offset;
                    let ends = ends.get_or_insert_with(|| record_ends(quoting, text, start));
                    std::iter::from_fn(|| ends.next(text)).last()
                }
            };
            if cut.is_some() || all {
                break (cut.unwrap_or(0), all);
            }
            if filled >= self.record_bytes_max {
                return Err(Error::RecordTooLong {
                    name: self.name.to_string(),
                    offset: self.offset,
                    limit: self.record_bytes_max,
                });
            }
            searched = filled;
            buffer.resize((filled * 2).min(self.record_bytes_max), 0);
        };
        self.advance(&buffer, cut, filled, last)?;
        Ok((cut > 0).then(|| Piece {
            start: self.offset - cut as u64,
            bytes: pool.lend(buffer, cut),
            last,
        }))
    }

    /// Moves on behind a piece, and keeps what a stream cannot give again.
    fn advance(
        &mut self,
        buffer: &[u8],
        cut: usize,
        filled: usize,
        last: bool,
    ) -> Result<(), Error> {
        self.offset += cut as u64;
        if self.offset > Origin::OFFSET_MAX {
            return Err(Error::TooLong {
                name: self.name.to_string(),
            });
        }
        match &mut self.content {
            Content::Plain { bytes, .. } if last && !self.growing && self.offset < *bytes => {
                Err(Error::Shrunk {
                    name: self.name.to_string(),
                    offset: *bytes,
                    bytes: self.offset,
                })
            }
            Content::Plain { .. } => Ok(()),
            Content::Stream { carried, .. } => {
                carried.extend_from_slice(buffer.get(cut..filled).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// Reads until `buffer` is full or the file ends; `ahead` bytes behind the offset have been
    /// read already.
    fn fill(&mut self, buffer: &mut [u8], ahead: usize) -> Result<usize, Error> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = self.offset + (ahead + filled) as u64;
            let read = match &mut self.content {
                Content::Plain { file, .. } => file.read_at(rest, at),
                Content::Stream { reader, .. } => reader.read(rest),
            };
            match read {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_error(at, error)),
            }
        }
        Ok(filled)
    }

    /// Passes over what was read before a restart: compressed content has no positions.
    fn skip(&mut self, pool: &BufferPool) -> Result<(), Error> {
        let Content::Stream { reader, skip, .. } = &mut self.content else {
            return Ok(());
        };
        let mut buffer = pool.take(1);
        while *skip > 0 {
            let most = usize::try_from(*skip).map_or(buffer.len(), |skip| skip.min(buffer.len()));
            match reader.read(buffer.get_mut(..most).unwrap_or_default()) {
                Ok(0) => {
                    return Err(Error::Shrunk {
                        name: self.name.to_string(),
                        offset: self.offset,
                        bytes: self.offset - *skip,
                    });
                }
                Ok(read) => *skip -= read as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let at = self.offset - *skip;
                    return Err(self.read_error(at, error));
                }
            }
        }
        Ok(())
    }

    fn read_error(&self, offset: u64, source: io::Error) -> Error {
        let name = self.name.to_string();
        match self.content {
            // What the decompressors find wrong has no number of the operating system's.
            Content::Stream { .. } if source.raw_os_error().is_none() => Error::Compressed {
                name,
                offset,
                source,
            },
            Content::Stream { .. } | Content::Plain { .. } => {
                Error::io("read", Path::new(&name))(source)
            }
        }
    }
}
