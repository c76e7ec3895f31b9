//! JSON lines: one object a row, columns in schema order.
//!
//! What is written reads back to the same values: floats in the shortest form that does so,
//! decimals with all their digits, timestamps in RFC 3339 with milliseconds. Floats that JSON has
//! no notation for (NaN, infinities) are null. A line never has a line feed in it.

mod cell;
mod csv;
mod text;

use std::sync::Arc;

use arrow::array::RecordBatch;
use thalweg_stream::dead_letter::RowRenderer;
use thalweg_stream::schema::{CHANGE, EVENT_TIME, ORIGIN, is_system};
use thalweg_stream::{Fault, StreamSchema};

use crate::error::FormatError;
use cell::{Cells, Meaning};
pub use csv::{CsvRows, CsvWriteOptions};
use text::Key;
pub(crate) use text::{prefix, write_string};

/// How rows are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// How timestamps are written.
    pub timestamps: Timestamps,
    /// What becomes of nulls.
    pub nulls: Nulls,
    /// System columns to write behind the user's.
    pub include: Vec<SystemColumn>,
}

/// How timestamps are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// `"2026-01-01T00:00:00.123Z"`
    #[default]
    Rfc3339Millis,
    /// `1767225600123`
    UnixMs,
}

/// What becomes of nulls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nulls {
    /// They are written.
    #[default]
    Write,
    /// Their columns are left out.
    Omit,
}

/// A column that the system adds to every stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemColumn {
    /// `event_time`, written as a timestamp.
    EventTime,
    /// `_change`, written as `"insert"`, `"update"` or `"delete"`.
    Change,
    /// `_origin`, written as `"split@offset"`.
    Origin,
}

impl SystemColumn {
    fn name(self) -> &'static str {
        match self {
            Self::EventTime => EVENT_TIME,
            Self::Change => CHANGE,
            Self::Origin => ORIGIN,
        }
    }
}

/// Writes batches of one stream as JSON lines.
#[derive(Clone, Debug)]
pub struct JsonLines {
    columns: Vec<OutColumn>,
    options: WriteOptions,
}

#[derive(Clone, Debug)]
struct OutColumn {
    name: Arc<str>,
    key: Key,
    /// Position in the batch.
    at: usize,
    meaning: Meaning,
}

impl OutColumn {
    /// Its values in a batch.
    fn cells<'a>(&self, batch: &'a RecordBatch) -> Result<Cells<'a>, Fault> {
        let array = batch
            .columns()
            .get(self.at)
            .ok_or_else(|| Fault::bug("batch has fewer columns than its stream"))?;
        Cells::of(array.as_ref(), &self.meaning).ok_or_else(|| {
            let found = array.data_type();
            Fault::bug(format!("batch has {found} in column {:?}", self.name))
        })
    }
}

impl JsonLines {
    /// A writer for batches of `schema`.
    ///
    /// # Errors
    /// If `options` name a system column that the stream does not have.
    pub fn new(schema: &StreamSchema, options: WriteOptions) -> Result<Self, FormatError> {
        let mut columns: Vec<OutColumn> = (schema.columns.iter().enumerate())
            .map(|(at, column)| OutColumn {
                name: column.name.clone(),
                key: Key::new(&column.name),
                at,
                meaning: Meaning::Column(column.column_type.clone()),
            })
            .collect();
        for system in &options.include {
            let (at, meaning) = match system {
                SystemColumn::EventTime => (schema.event_time_at(), Meaning::timestamp()),
                SystemColumn::Change => (schema.change_at(), Meaning::Change),
                SystemColumn::Origin => (Some(schema.origin_at()), Meaning::Origin),
            };
            let name = system.name();
            columns.push(OutColumn {
                name: name.into(),
                key: Key::new(name),
                at: at.ok_or(FormatError::NoSystemColumn(name))?,
                meaning,
            });
        }
        Ok(Self { columns, options })
    }

    /// Appends every row of `batch` as a line.
    ///
    /// # Errors
    /// A bug if the batch is of another schema; then nothing is appended.
    pub fn write(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Fault> {
        let rows = self.prepare(batch)?;
        for row in 0..batch.num_rows() {
            rows.write(row, out);
            out.push(b'\n');
        }
        Ok(())
    }

    /// Looks through a batch once, so that its rows can be written one by one.
    ///
    /// # Errors
    /// A bug if the batch is of another schema.
    pub fn prepare<'a>(&'a self, batch: &'a RecordBatch) -> Result<PreparedRows<'a>, Fault> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push((&column.key, column.cells(batch)?));
        }
        Ok(PreparedRows {
            columns,
            timestamps: self.options.timestamps,
            nulls: self.options.nulls,
        })
    }
}

impl RowRenderer for JsonLines {
    /// The row as this writer writes it; a batch of another stream is rendered by its own schema.
    fn render(&self, batch: &RecordBatch, row: usize) -> String {
        match self.prepare(batch) {
            Ok(rows) => rows.to_text(row),
            Err(_) => RowJson.render(batch, row),
        }
    }
}

/// The rows of one batch, ready to be written.
#[derive(Debug)]
pub struct PreparedRows<'a> {
    columns: Vec<(&'a Key, Cells<'a>)>,
    timestamps: Timestamps,
    nulls: Nulls,
}

impl PreparedRows<'_> {
    /// Appends `row` as an object, without a line feed.
    ///
    /// A row that the batch does not have is all null.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        for (key, cells) in &self.columns {
            if !cells.is_null(row) {
                key.write(out);
                cells.write(row, self.timestamps, out);
            } else if self.nulls == Nulls::Write {
                key.write(out);
                out.extend_from_slice(b"null");
            }
        }
        // In place of the first comma.
        match out.get_mut(start) {
            Some(first) => *first = b'{',
            None => out.push(b'{'),
        }
        out.push(b'}');
    }

    fn to_text(&self, row: usize) -> String {
        let mut out = Vec::new();
        self.write(row, &mut out);
        // Everything written is text; were it not, a dead letter would still be readable.
        String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into())
    }
}

/// Renders rows of any batch, by its Arrow schema alone; system columns are left out.
///
/// A `json` column is a string to it, for in Arrow it is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowJson;

impl RowRenderer for RowJson {
    fn render(&self, batch: &RecordBatch, row: usize) -> String {
        let schema = batch.schema();
        let fields = schema.fields().iter().zip(batch.columns());
        let columns: Vec<(Key, Cells<'_>)> = fields
            .filter(|(field, _)| !is_system(field.name()))
            .map(|(field, array)| (Key::new(field.name()), Cells::of_any(array.as_ref())))
            .collect();
        let rows = PreparedRows {
            columns: (columns.iter())
                .map(|(key, cells)| (key, cells.clone()))
                .collect(),
            timestamps: Timestamps::Rfc3339Millis,
            nulls: Nulls::Write,
        };
        rows.to_text(row)
    }
}

#[cfg(test)]
mod tests;
