//! The decoder: chunks of records in, batches and dead letters out.

use std::sync::Arc;

use thalweg_stream::{
    Chunk, DeadClass, Decoded, Decoder, DecoderFactory, Fault, Framing, StreamSchema,
};

use crate::assembly::{Assembly, Problem, Reader as _, each_framed};
use crate::error::FormatError;
use crate::record::RecordReader;
use crate::scan::{Cursor, Stop, pad};
use crate::spec::{DecodeSpec, Layout};

/// What some programs put in front of UTF-8 text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Builds decoders for records that are one JSON object each.
#[derive(Clone, Debug)]
pub struct JsonDecoderFactory {
    layout: Arc<Layout>,
}

impl JsonDecoderFactory {
    /// Checks a description.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(spec: &DecodeSpec) -> Result<Self, FormatError> {
        Ok(Self {
            layout: Arc::new(Layout::check(spec)?),
        })
    }
}

impl DecoderFactory for JsonDecoderFactory {
    fn schema(&self) -> StreamSchema {
        self.layout.schema.clone()
    }

    fn build(&self) -> Result<Box<dyn Decoder>, Fault> {
        Ok(Box::new(JsonDecoder {
            reader: RecordReader::new(&self.layout),
            assembly: Assembly::new(&self.layout),
            padded: Vec::new(),
        }))
    }
}

/// Decodes on one worker.
#[derive(Debug)]
struct JsonDecoder {
    reader: RecordReader,
    assembly: Assembly,
    /// A copy of a record at the end of a chunk.
    padded: Vec<u8>,
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        self.assembly.begin(chunk, 0)?;
        match &chunk.framing {
            Framing::Lines => self.lines(chunk, out)?,
            Framing::Records { ranges, offsets } => {
                each_framed(chunk, (ranges, offsets), |start, record, offset| {
                    self.framed(chunk, (start, record), offset, out)
                })?;
            }
        }
        self.assembly.end(&mut self.reader, chunk, out)
    }
}

impl JsonDecoder {
    /// Decodes records separated by line feeds.
    fn lines(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        let bytes = &chunk.bytes[..];
        let mut at = 0;
        if chunk.start == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
            at = BYTE_ORDER_MARK.len();
        }
        while at < bytes.len() {
            let (line, result) = match self.line(bytes, at) {
                Some(read) => read,
                None => self.last_line(bytes, at),
            };
            let offset = chunk.start.saturating_add(at as u64);
            at += line.len() + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                (self.assembly).judge(&mut self.reader, chunk, result, line, offset, out)?;
            }
        }
        Ok(())
    }

    /// Reads the record that begins at `at`, up to its line feed, unless that is too close to the
    /// end of `bytes`.
    #[inline]
    fn line<'b>(&mut self, bytes: &'b [u8], at: usize) -> Option<(&'b [u8], Result<(), Stop>)> {
        let mut cursor = Cursor::over_line(bytes, at)?;
        // Records are parsed without looking for their end first: a line feed is nothing that the
        // cursor would pass.
        let mut result = self.reader.read(&mut cursor);
        if result.is_ok() && cursor.byte() != b'\n' {
            cursor.space();
            if cursor.byte() != b'\n' {
                result = Err(Stop::Syntax);
            }
        }
        if cursor.beyond() {
            return None;
        }
        let end = match result {
            Ok(()) => cursor.pos,
            Err(_) => line_end(bytes, cursor.pos),
        };
        let line = cursor.span(at, end);
        Some((line, result.and_then(|()| check_utf8(&cursor, line))))
    }

    /// Reads the record that begins at `at` from a copy with room behind it.
    #[cold]
    fn last_line<'b>(&mut self, bytes: &'b [u8], at: usize) -> (&'b [u8], Result<(), Stop>) {
        let line = bytes.get(at..line_end(bytes, at)).unwrap_or_default();
        let result = self.copied(line);
        (line, result)
    }

    /// Reads a record from a copy with room behind it.
    #[cold]
    fn copied(&mut self, record: &[u8]) -> Result<(), Stop> {
        // A first attempt may have left something.
        self.reader.give_up();
        let mut padded = std::mem::take(&mut self.padded);
        pad(record, &mut padded);
        let result = match Cursor::over_padded(&padded) {
            Some(cursor) => self.whole(cursor, record),
            None => Err(Stop::Syntax),
        };
        self.padded = padded;
        result
    }

    /// Reads the record under the cursor, which must be all of `record`.
    #[inline]
    fn whole(&mut self, mut cursor: Cursor<'_>, record: &[u8]) -> Result<(), Stop> {
        let end = cursor.pos + record.len();
        self.reader.read(&mut cursor)?;
        let end_of_object = cursor.pos;
        cursor.space();
        // White space may have taken the cursor into the next record.
        if end_of_object > end || cursor.pos < end {
            return Err(Stop::Syntax);
        }
        check_utf8(&cursor, record)
    }

    /// Decodes one record whose place is known.
    fn framed(
        &mut self,
        chunk: &Chunk,
        (start, record): (usize, &[u8]),
        offset: u64,
        out: &mut Decoded,
    ) -> Result<(), Fault> {
        let end = start + record.len();
        let result = match Cursor::over_record(&chunk.bytes, start, end) {
            Some(cursor) => self.whole(cursor, record),
            None => self.copied(record),
        };
        (self.assembly).judge(&mut self.reader, chunk, result, record, offset, out)
    }
}

impl From<Stop> for Problem {
    #[cold]
    fn from(stop: Stop) -> Self {
        let (code, message) = match stop {
            Stop::Syntax => ("not-json", "the record is not a JSON object".to_owned()),
            Stop::TooDeep => (
                "too-deep",
                format!(
                    "the record nests deeper than {} levels",
                    crate::scan::DEPTH_MAX
                ),
            ),
            Stop::NumberRange => (
                "number-range",
                "the record has a number beyond the range of 64-bit floats".to_owned(),
            ),
            Stop::NotUtf8 => ("not-utf8", "the record is not UTF-8".to_owned()),
            Stop::NotAnObject => (
                "not-an-object",
                "the record is JSON but no object".to_owned(),
            ),
        };
        Self {
            class: DeadClass::Decode,
            code,
            message,
        }
    }
}

#[inline(always)]
fn check_utf8(cursor: &Cursor<'_>, record: &[u8]) -> Result<(), Stop> {
    if !cursor.non_ascii || std::str::from_utf8(record).is_ok() {
        return Ok(());
    }
    Err(Stop::NotUtf8)
}

/// Where the line ends that `from` is in: at a line feed or the end of `bytes`.
fn line_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + memchr::memchr(b'\n', rest).unwrap_or(rest.len())
}
