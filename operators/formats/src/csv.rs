//! Comma-separated values (RFC 4180) in: one record a line, line feeds between quotes aside.
//!
//! A field is text, and is read as the JSON value that it spells for its column: `1.5` as the number,
//! `true` (in any letter case) as the boolean, `[1,2]` as the array, and for strings, dates, times
//! and binary as the string. So all rules of types and of `coerce` are those of JSON, and the
//! columns are filled by the same code. A field without quotes that is empty, or whatever else the
//! definition names, is null.
//!
//! Which field is which column comes from the definition, or from the header of each file: then the
//! source takes it off and every chunk carries it, for chunks of one file are decoded anywhere.

mod field;
mod reader;

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use thalweg_stream::{
    Chunk, Decoded, Decoder, DecoderFactory, Fault, Framing, Quoting, RecordEnds, StreamSchema,
};

use crate::assembly::{Assembly, each_framed};
use crate::decoder::BYTE_ORDER_MARK;
use crate::error::FormatError;
use crate::spec::{DecodeSpec, Layout};
use field::Stop;
use reader::FieldReader;

/// How records are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvSpec {
    /// The characters that structure records.
    pub quoting: Quoting,
    /// Which field is which.
    pub fields: CsvFields,
    /// A field that says this, without quotes, is null.
    pub null_text: String,
}

/// Which field of a record is which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CsvFields {
    /// They have these names, in this order.
    Named(Vec<String>),
    /// The header names them. Chunks carry it as it stands in the file: as a further metadata
    /// column behind those that were asked for, one value of `BinaryView`.
    Header,
}

impl Default for CsvSpec {
    fn default() -> Self {
        Self {
            quoting: Quoting {
                delimiter: b',',
                quote: Some(b'"'),
            },
            fields: CsvFields::Header,
            null_text: String::new(),
        }
    }
}

impl CsvSpec {
    /// Whether `byte` can stand between fields or, as the other one, around them: it is ASCII, ends
    /// no line, and is no part of a number or word.
    #[must_use]
    pub fn structures(byte: u8) -> bool {
        byte.is_ascii()
            && !byte.is_ascii_alphanumeric()
            && !matches!(byte, b'\n' | b'\r' | b'.' | b'+' | b'-' | 0)
    }
}

/// Builds decoders of comma-separated values.
#[derive(Clone, Debug)]
pub struct CsvDecoderFactory {
    layout: Arc<Layout>,
    csv: Arc<CsvSpec>,
}

impl CsvDecoderFactory {
    /// Checks a description. A column's path has one segment: the name of its field.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(spec: &DecodeSpec, csv: &CsvSpec) -> Result<Self, FormatError> {
        let Quoting { delimiter, quote } = csv.quoting;
        let differ = quote.is_none_or(|quote| CsvSpec::structures(quote) && quote != delimiter);
        if !CsvSpec::structures(delimiter) || !differ {
            return Err(FormatError::Quoting);
        }
        let layout = Layout::check(spec)?;
        let declared =
            (layout.fields.iter().enumerate()).filter(|(at, _)| Some(*at) != layout.extra);
        for (_, field) in declared {
            let [name] = field.path.as_slice() else {
                return Err(FormatError::CsvPath(Arc::clone(&field.column.name)));
            };
            if let CsvFields::Named(names) = &csv.fields
                && !names.contains(name)
            {
                return Err(FormatError::NoField {
                    column: Arc::clone(&field.column.name),
                    field: name.clone(),
                });
            }
        }
        let factory = Self {
            layout: Arc::new(layout),
            csv: Arc::new(csv.clone()),
        };
        match FieldReader::new(&factory.layout, &factory.csv).trouble() {
            Some(trouble) => Err(FormatError::Fields(trouble.to_string())),
            None => Ok(factory),
        }
    }
}

impl DecoderFactory for CsvDecoderFactory {
    fn schema(&self) -> StreamSchema {
        self.layout.schema.clone()
    }

    fn build(&self) -> Result<Box<dyn Decoder>, Fault> {
        Ok(Box::new(CsvDecoder {
            reader: FieldReader::new(&self.layout, &self.csv),
            assembly: Assembly::new(&self.layout),
            csv: Arc::clone(&self.csv),
        }))
    }
}

/// Decodes on one worker.
#[derive(Debug)]
struct CsvDecoder {
    csv: Arc<CsvSpec>,
    reader: FieldReader,
    assembly: Assembly,
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        let headed = self.csv.fields == CsvFields::Header;
        self.assembly.begin(chunk, usize::from(headed))?;
        if headed {
            self.reader.head(header(chunk)?);
        }
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

impl CsvDecoder {
    /// Decodes records that end at line feeds outside of quotes.
    fn lines(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        let bytes = &chunk.bytes[..];
        let mut at = 0;
        if chunk.start == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
            at = BYTE_ORDER_MARK.len();
        }
        let mut ends = RecordEnds::new(self.csv.quoting, at);
        while at < bytes.len() {
            let next = ends.next(bytes).unwrap_or(bytes.len());
            let record = without_line_end(bytes.get(at..next).unwrap_or_default());
            if !record.is_empty() {
                let result = self.reader.read(bytes, at, at + record.len());
                let offset = chunk.start.saturating_add(at as u64);
                (self.assembly).judge(&mut self.reader, chunk, result, record, offset, out)?;
            }
            at = next;
        }
        Ok(())
    }

    /// Decodes one record whose place is known.
    fn framed(
        &mut self,
        chunk: &Chunk,
        (start, whole): (usize, &[u8]),
        offset: u64,
        out: &mut Decoded,
    ) -> Result<(), Fault> {
        let record = without_line_end(whole);
        let result = match RecordEnds::new(self.csv.quoting, 0).next(record) {
            Some(_) => Err(Stop::Several),
            None => self.reader.read(&chunk.bytes, start, start + record.len()),
        };
        (self.assembly).judge(&mut self.reader, chunk, result, whole, offset, out)
    }
}

/// The header that a chunk carries.
fn header(chunk: &Chunk) -> Result<&[u8], Fault> {
    let column = chunk.metadata.last().and_then(Option::as_ref);
    let header = column.and_then(|column| column.as_binary_view_opt());
    match header {
        Some(header) if !header.is_empty() => Ok(header.value(0)),
        _ => Err(Fault::bug(
            "a chunk of comma-separated values carries no header",
        )),
    }
}

/// A record without its line feed and the carriage return before.
fn without_line_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}
