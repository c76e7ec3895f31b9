//! The fields of one record, one after the other, and what breaks the grammar.

use std::sync::Arc;

use memchr::memchr;
use thalweg_stream::{DeadClass, Quoting};

use crate::assembly::Problem;

/// Why a record cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is not UTF-8.
    NotUtf8,
    /// Something stands between a closing quote and the next delimiter.
    BehindQuote,
    /// A quote is never closed.
    OpenQuote,
    /// It has so many fields, and should have so many.
    Ragged(usize, usize),
    /// It is more than one.
    Several,
    /// The header of its file is of no use.
    Header(Arc<str>),
}

impl From<Stop> for Problem {
    #[cold]
    fn from(stop: Stop) -> Self {
        let (code, message) = match stop {
            Stop::NotUtf8 => ("not-utf8", "the record is not UTF-8".to_owned()),
            Stop::BehindQuote => (
                "behind-quote",
                "the record has something between a closing quote and the delimiter".to_owned(),
            ),
            Stop::OpenQuote => (
                "open-quote",
                "the record has a quote that is never closed".to_owned(),
            ),
            Stop::Ragged(found, expected) => (
                "ragged",
                format!("the record has {found} fields, {expected} are expected"),
            ),
            Stop::Several => (
                "several-records",
                "the record has a line feed outside of quotes".to_owned(),
            ),
            Stop::Header(trouble) => ("bad-header", trouble.to_string()),
        };
        Self {
            class: DeadClass::Decode,
            code,
            message,
        }
    }
}

/// Where a field stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// Its first byte, behind an opening quote.
    pub(super) start: usize,
    /// Behind its last byte, before a closing quote.
    pub(super) end: usize,
    /// Whether quotes are around it.
    pub(super) quoted: bool,
    /// Whether quotes are doubled in it.
    pub(super) escaped: bool,
    /// Where the next one begins; nothing if it is the last.
    pub(super) next: Option<usize>,
}

/// The field of `text` that begins at `at`; the record ends at `end`.
#[inline]
pub(super) fn field(text: &[u8], at: usize, end: usize, quoting: Quoting) -> Result<Field, Stop> {
    let rest = text.get(at..end).unwrap_or_default();
    match quoting.quote {
        Some(quote) if rest.first() == Some(&quote) => {
            quoted(text, at + 1, end, quoting.delimiter, quote)
        }
        // A quote further back is a character like any other.
        _ => Ok(plain(at, end, memchr(quoting.delimiter, rest))),
    }
}

#[inline]
fn plain(at: usize, end: usize, delimiter: Option<usize>) -> Field {
    Field {
        start: at,
        end: delimiter.map_or(end, |found| at + found),
        quoted: false,
        escaped: false,
        next: delimiter.map(|found| at + found + 1),
    }
}

fn quoted(text: &[u8], start: usize, end: usize, delimiter: u8, quote: u8) -> Result<Field, Stop> {
    let (mut look, mut escaped) = (start, false);
    loop {
        let rest = text.get(look..end).unwrap_or_default();
        let found = look + memchr(quote, rest).ok_or(Stop::OpenQuote)?;
        let behind = text.get(found + 1..end).and_then(<[u8]>::first).copied();
        let next = match behind {
            Some(byte) if byte == quote => {
                escaped = true;
                look = found + 2;
                continue;
            }
            Some(byte) if byte == delimiter => Some(found + 2),
            Some(_) => return Err(Stop::BehindQuote),
            None => None,
        };
        return Ok(Field {
            start,
            end: found,
            quoted: true,
            escaped,
            next,
        });
    }
}

/// Appends the content of a field in which quotes are doubled.
pub(super) fn unescape(mut raw: &[u8], quote: u8, out: &mut Vec<u8>) {
    while let Some(at) = memchr(quote, raw) {
        out.extend_from_slice(raw.get(..=at).unwrap_or_default());
        raw = raw.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(raw);
}
