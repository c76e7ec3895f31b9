//! Comma-separated values (RFC 4180, lines ended by line feeds): one line a row, columns in schema
//! order.
//!
//! What is written reads back to the same values: null is an empty field, an empty string is `""`;
//! lists and JSON are JSON text. The values themselves are written as in JSON lines.

use arrow::array::RecordBatch;
use memchr::memchr3;
use thalweg_stream::{Fault, StreamSchema};

use super::cell::Cells;
use super::{JsonLines, OutColumn, WriteOptions};
use crate::csv::CsvSpec;
use crate::error::FormatError;

/// How comma-separated values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsvWriteOptions {
    /// Stands between fields.
    pub delimiter: u8,
    /// Stands around fields that need it.
    pub quote: u8,
    /// Whether [`CsvRows::header`] writes anything.
    pub header: bool,
}

impl Default for CsvWriteOptions {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: b'"',
            header: true,
        }
    }
}

/// Writes batches of one stream as comma-separated values.
#[derive(Clone, Debug)]
pub struct CsvRows {
    columns: Vec<OutColumn>,
    names: Vec<String>,
    options: WriteOptions,
    csv: CsvWriteOptions,
    value: Vec<u8>,
}

impl CsvRows {
    /// A writer for batches of `schema`. Nulls are empty fields, whatever `options` say of them.
    ///
    /// # Errors
    /// If `options` name a system column that the stream does not have, or the characters cannot
    /// structure records.
    pub fn new(
        schema: &StreamSchema,
        options: WriteOptions,
        csv: CsvWriteOptions,
    ) -> Result<Self, FormatError> {
        let (delimiter, quote) = (csv.delimiter, csv.quote);
        if !CsvSpec::structures(delimiter) || !CsvSpec::structures(quote) || delimiter == quote {
            return Err(FormatError::Quoting);
        }
        let JsonLines { columns, options } = JsonLines::new(schema, options)?;
        let declared = schema.columns.iter().map(|column| column.name.to_string());
        let system = options
            .include
            .iter()
            .map(|system| system.name().to_owned());
        Ok(Self {
            names: declared.chain(system).collect(),
            columns,
            options,
            csv,
            value: Vec::new(),
        })
    }

    /// Appends the names of the columns as a line, if there is to be a header.
    pub fn header(&self, out: &mut Vec<u8>) {
        if !self.csv.header {
            return;
        }
        for (at, name) in self.names.iter().enumerate() {
            if at > 0 {
                out.push(self.csv.delimiter);
            }
            self.csv.text(name.as_bytes(), out);
        }
        out.push(b'\n');
    }

    /// Appends every row of `batch` as a line; values with line feeds in quotes have them written.
    ///
    /// # Errors
    /// A bug if the batch is of another schema; then nothing is appended.
    pub fn write(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push(column.cells(batch)?);
        }
        for row in 0..batch.num_rows() {
            let start = out.len();
            for (at, cells) in columns.iter().enumerate() {
                if at > 0 {
                    out.push(self.csv.delimiter);
                }
                if !cells.is_null(row) {
                    self.value.clear();
                    self.csv
                        .value(cells, row, &self.options, &mut self.value, out);
                }
            }
            if out.len() == start {
                // An empty line would be no record.
                out.extend_from_slice(&[self.csv.quote; 2]);
            }
            out.push(b'\n');
        }
        Ok(())
    }
}

impl CsvWriteOptions {
    /// Appends a value that is not null; `json` is empty.
    fn value(
        &self,
        cells: &Cells<'_>,
        row: usize,
        options: &WriteOptions,
        json: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        if let Cells::String(values) = cells {
            return self.text(values.value(row).as_bytes(), out);
        }
        cells.write(row, options.timestamps, json);
        let nested = matches!(cells, Cells::Json(_) | Cells::List(..));
        let inner = json
            .strip_prefix(b"\"")
            .and_then(|json| json.strip_suffix(b"\""));
        match inner.filter(|_| !nested) {
            // Dates, base64 and the like, in which JSON escapes nothing.
            Some(inner) => self.text(inner, out),
            // A float that is no number, or JSON that says null.
            None if json == b"null" => {}
            None => self.text(json, out),
        }
    }

    /// Appends text, in quotes if it needs them.
    fn text(&self, text: &[u8], out: &mut Vec<u8>) {
        let special = memchr3(self.delimiter, self.quote, b'\n', text);
        if special.is_none() && !text.contains(&b'\r') && !text.is_empty() {
            return out.extend_from_slice(text);
        }
        out.push(self.quote);
        for byte in text {
            if *byte == self.quote {
                out.push(self.quote);
            }
            out.push(*byte);
        }
        out.push(self.quote);
    }
}
