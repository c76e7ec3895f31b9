//! From fields to columns: which is which, and as what JSON value a text is read.

use std::sync::Arc;

use arrow::array::ArrayRef;
use thalweg_stream::{ColumnType, Fault};

use super::field::{self, Field, Stop};
use super::{CsvFields, CsvSpec, without_line_end};
use crate::assembly::{Reader, Verdict};
use crate::column::{Column, State};
use crate::decoder::BYTE_ORDER_MARK;
use crate::scan::{Cursor, MARGIN, Text, Token, pad};
use crate::spec::{Layout, TimestampReader};
use crate::write::{prefix, write_string};

/// Reads records into columns, one row after the other.
#[derive(Debug)]
pub(super) struct FieldReader {
    csv: Arc<CsvSpec>,
    layout: Arc<Layout>,
    columns: Vec<Column>,
    /// Of each column, as what its fields are read.
    spellings: Vec<Spelling>,
    /// The row that the next record becomes.
    at: usize,
    /// What becomes of each field of a record, or why there is no telling.
    targets: Result<Vec<Target>, Arc<str>>,
    /// The header from which that follows.
    header: Option<Vec<u8>>,
    /// The fields that nobody declared, as an object in the making.
    unknown: Vec<u8>,
    /// A copy of a record at the end of a chunk.
    padded: Vec<u8>,
    /// A field whose quotes were doubled.
    content: Vec<u8>,
}

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// It is checked for grammar alone.
    Skip,
    /// It is the value of these columns.
    Columns(Vec<usize>),
    /// It is collected under this key (with quotes and colon).
    Extra(Vec<u8>),
}

/// As what JSON value a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// A string.
    String,
    /// A number if it is one, a string otherwise.
    Number,
    /// `true` or `false` in any letter case, a string otherwise.
    Bool,
    /// An array if it is one, a string otherwise.
    Array,
    /// Any JSON text.
    Json,
}

impl FieldReader {
    pub(super) fn new(layout: &Arc<Layout>, csv: &Arc<CsvSpec>) -> Self {
        let fields = || layout.fields.iter();
        let mut reader = Self {
            csv: Arc::clone(csv),
            layout: Arc::clone(layout),
            columns: fields()
                .map(|f| Column::new(f, layout.batch_rows_max))
                .collect(),
            spellings: fields()
                .map(|f| spelling(&f.column.column_type, &f.timestamp))
                .collect(),
            at: 0,
            targets: Ok(Vec::new()),
            header: None,
            unknown: Vec::new(),
            padded: Vec::new(),
            content: Vec::new(),
        };
        if let CsvFields::Named(names) = &csv.fields {
            reader.targets = targets(layout, names);
        }
        reader
    }

    /// What is wrong with the names of fields.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.targets.as_ref().err().map(|trouble| &**trouble)
    }

    /// Takes notice of the header of the records to come.
    pub(super) fn head(&mut self, header: &[u8]) {
        if self.header.as_deref() == Some(header) {
            return;
        }
        self.header = Some(header.to_vec());
        let names = names(header, &self.csv).map_err(|stop| {
            let problem = crate::assembly::Problem::from(stop);
            Arc::from(problem.message.replace("the record", "the header"))
        });
        self.targets = names.and_then(|names| targets(&self.layout, &names));
    }

    /// Reads the record from `start` to `end` of `bytes` into the current row.
    ///
    /// Then either [`keep`](Reader::keep) or [`give_up`](Reader::give_up).
    pub(super) fn read(&mut self, bytes: &[u8], start: usize, end: usize) -> Result<(), Stop> {
        let record = bytes.get(start..end).unwrap_or_default();
        if !record.is_ascii() && std::str::from_utf8(record).is_err() {
            return Err(Stop::NotUtf8);
        }
        if bytes.len() >= end + MARGIN {
            return self.fields(bytes, start, end);
        }
        let mut padded = std::mem::take(&mut self.padded);
        pad(record, &mut padded);
        let result = self.fields(&padded, 0, record.len());
        self.padded = padded;
        result
    }

    /// Reads a record behind whose end there is a margin.
    fn fields(&mut self, bytes: &[u8], start: usize, end: usize) -> Result<(), Stop> {
        let targets = match &self.targets {
            Ok(targets) => targets,
            Err(trouble) => return Err(Stop::Header(Arc::clone(trouble))),
        };
        let (mut count, mut next) = (0, Some(start));
        let mut row = Row {
            columns: &mut self.columns,
            spellings: &self.spellings,
            at: self.at,
            csv: &self.csv,
            unknown: &mut self.unknown,
            content: &mut self.content,
        };
        row.unknown.clear();
        while let Some(at) = next {
            let field = field::field(bytes, at, end, self.csv.quoting)?;
            match targets.get(count) {
                Some(Target::Columns(columns)) => row.put(columns, bytes, field),
                Some(Target::Extra(key)) => row.collect(key, bytes, field),
                Some(Target::Skip) | None => {}
            }
            count += 1;
            next = field.next;
        }
        if count != targets.len() {
            return Err(Stop::Ragged(count, targets.len()));
        }
        if let Some(extra) = self.layout.extra
            && !self.unknown.is_empty()
            && let Some(column) = self.columns.get_mut(extra)
        {
            self.unknown.push(b'}');
            column.set_json(self.at, &self.unknown);
        }
        Ok(())
    }
}

impl Reader for FieldReader {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn row(&self) -> usize {
        self.at
    }

    fn verdict(&self) -> Verdict {
        Verdict::on(&self.columns, self.at)
    }

    fn keep(&mut self) {
        self.at += 1;
    }

    #[cold]
    fn give_up(&mut self) {
        for column in &mut self.columns {
            column.forget(self.at);
        }
    }

    fn take(&mut self, arrays: &mut Vec<ArrayRef>) -> Result<(), Fault> {
        let rows = std::mem::take(&mut self.at);
        for column in &mut self.columns {
            arrays.extend(column.finish(rows)?);
        }
        Ok(())
    }
}

/// The row that a record becomes.
struct Row<'a> {
    columns: &'a mut [Column],
    spellings: &'a [Spelling],
    at: usize,
    csv: &'a CsvSpec,
    unknown: &'a mut Vec<u8>,
    content: &'a mut Vec<u8>,
}

impl Row<'_> {
    /// Whether a field is null.
    #[inline]
    fn is_null(&self, bytes: &[u8], field: Field) -> bool {
        let text = bytes.get(field.start..field.end).unwrap_or_default();
        !field.quoted && text == self.csv.null_text.as_bytes()
    }

    /// Copies the content of a field in which quotes are doubled, with a margin behind.
    #[cold]
    fn unescape(&mut self, bytes: &[u8], field: Field) -> usize {
        let raw = bytes.get(field.start..field.end).unwrap_or_default();
        self.content.clear();
        field::unescape(raw, self.csv.quoting.quote.unwrap_or(b'"'), self.content);
        let length = self.content.len();
        self.content.resize(length + MARGIN, 0);
        length
    }

    /// Gives a field to some columns.
    #[inline]
    fn put(&mut self, columns: &[usize], bytes: &[u8], field: Field) {
        let null = self.is_null(bytes, field);
        let escaped = field.escaped.then(|| self.unescape(bytes, field));
        let (text, start, end) = match escaped {
            Some(length) => (self.content.as_slice(), 0, length),
            None => (bytes, field.start, field.end),
        };
        for at in columns {
            let (Some(column), Some(spelling)) =
                (self.columns.get_mut(*at), self.spellings.get(*at))
            else {
                continue;
            };
            if null {
                column.set(self.at, Token::Null, text, start, end);
            } else {
                spelling.read(column, self.at, text, start, end);
            }
        }
    }

    /// Adds a field that nobody declared to the object of those.
    fn collect(&mut self, key: &[u8], bytes: &[u8], field: Field) {
        let separator = if self.unknown.is_empty() { b'{' } else { b',' };
        self.unknown.push(separator);
        self.unknown.extend_from_slice(key);
        if self.is_null(bytes, field) {
            return self.unknown.extend_from_slice(b"null");
        }
        let escaped = field.escaped.then(|| self.unescape(bytes, field));
        let text = match escaped {
            Some(length) => self.content.get(..length),
            None => bytes.get(field.start..field.end),
        };
        // The record is UTF-8, and fields end at ASCII.
        let text = std::str::from_utf8(text.unwrap_or_default()).unwrap_or_default();
        write_string(text, self.unknown);
    }
}

impl Spelling {
    /// Reads the text from `start` to `end` of `bytes`, which has a margin behind, into `row`.
    fn read(self, column: &mut Column, row: usize, bytes: &[u8], start: usize, end: usize) {
        let mut cursor = Cursor::over_record(bytes, start, end);
        let text = bytes.get(start..end).unwrap_or_default();
        let token = match (self, &mut cursor) {
            (Self::String, _) | (_, None) => None,
            (Self::Bool, _) if text.eq_ignore_ascii_case(b"true") => Some(Token::Bool(true)),
            (Self::Bool, _) if text.eq_ignore_ascii_case(b"false") => Some(Token::Bool(false)),
            (Self::Bool, _) => None,
            (Self::Number, Some(cursor)) => match text.first() {
                Some(b'-' | b'0'..=b'9') => match cursor.number() {
                    Ok(number) if number.end == end => Some(Token::Number(number)),
                    Err(crate::scan::Stop::NumberRange) => {
                        return column.refuse(row, State::OutOfRange);
                    }
                    Ok(_) | Err(_) => None,
                },
                _ => None,
            },
            (Self::Array | Self::Json, Some(cursor)) => {
                cursor.space();
                // One record is around it.
                let token = cursor.token(1).ok();
                cursor.space();
                let whole = token.filter(|_| cursor.pos == end);
                match (self, whole) {
                    (Self::Json, None) => return column.refuse(row, State::BadFormat),
                    (Self::Array, Some(Token::Array)) | (Self::Json, Some(_)) => whole,
                    _ => None,
                }
            }
        };
        let string = || {
            Token::String(Text {
                start,
                end,
                escaped: false,
            })
        };
        // An array is read from its bracket on.
        let start = match token {
            Some(Token::Array) => end - text.trim_ascii_start().len(),
            _ => start,
        };
        column.set(row, token.unwrap_or_else(string), bytes, start, end);
    }
}

fn spelling(column_type: &ColumnType, timestamp: &TimestampReader) -> Spelling {
    match column_type {
        ColumnType::Bool => Spelling::Bool,
        ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::Float32
        | ColumnType::Float64
        | ColumnType::Decimal { .. } => Spelling::Number,
        ColumnType::Timestamp => match timestamp {
            TimestampReader::Auto | TimestampReader::Unit(_) => Spelling::Number,
            TimestampReader::Pattern(_) => Spelling::String,
        },
        ColumnType::String | ColumnType::Binary | ColumnType::Date => Spelling::String,
        ColumnType::Json => Spelling::Json,
        ColumnType::List(_) => Spelling::Array,
    }
}

/// The names in a header.
fn names(header: &[u8], csv: &CsvSpec) -> Result<Vec<String>, Stop> {
    let header = header.strip_prefix(BYTE_ORDER_MARK).unwrap_or(header);
    let header = without_line_end(header);
    if std::str::from_utf8(header).is_err() {
        return Err(Stop::NotUtf8);
    }
    let mut names = Vec::new();
    let mut next = Some(0);
    while let Some(at) = next {
        let field = field::field(header, at, header.len(), csv.quoting)?;
        let raw = header.get(field.start..field.end).unwrap_or_default();
        let mut name = Vec::with_capacity(raw.len());
        match csv.quoting.quote.filter(|_| field.escaped) {
            Some(quote) => field::unescape(raw, quote, &mut name),
            None => name.extend_from_slice(raw),
        }
        names.push(String::from_utf8(name).map_err(|_| Stop::NotUtf8)?);
        next = field.next;
    }
    Ok(names)
}

/// What becomes of the fields with these names.
fn targets(layout: &Layout, names: &[String]) -> Result<Vec<Target>, Arc<str>> {
    let mut all: Vec<Target> = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let declared = layout.fields.iter().enumerate();
        let columns: Vec<usize> = declared
            .filter(|(_, field)| matches!(field.path.as_slice(), [only] if only == name))
            .map(|(at, _)| at)
            .filter(|at| Some(*at) != layout.extra)
            .collect();
        let target = match (columns.is_empty(), layout.extra) {
            (false, _) => Target::Columns(columns),
            (true, Some(_)) => Target::Extra(prefix(name)),
            (true, None) => Target::Skip,
        };
        if target != Target::Skip && names.iter().take(at).any(|other| other == name) {
            return Err(format!("field {name:?} is there twice").into());
        }
        all.push(target);
    }
    Ok(all)
}
