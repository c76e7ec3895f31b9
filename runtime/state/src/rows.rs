//! The state of a step as rows, for people and other programs to look into.
//!
//! A checkpoint has no definition, only the *shape* of each step's state, a line of text that says
//! what the state means. The crate of an operator reads the shapes it writes, and hands out what is
//! in its sections as columns.

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use thalweg_stream::{Column, ColumnType, Fault, StreamKind, StreamSchema};

use crate::value::ColumnBuilder;

/// Rows of one part of a step's state.
#[derive(Clone, Debug)]
pub struct StateRows {
    /// What they are, one word.
    pub part: &'static str,
    /// Their schema: the columns alone.
    pub schema: StreamSchema,
    /// The rows.
    pub batch: RecordBatch,
}

impl StateRows {
    /// Rows of the given columns.
    ///
    /// # Errors
    /// A bug if the columns are not of their types or lengths.
    pub fn new(part: &'static str, columns: Vec<(Column, ArrayRef)>) -> Result<Self, Fault> {
        let fields: Vec<arrow::datatypes::Field> = (columns.iter())
            .map(|(column, _)| {
                let data_type = column.column_type.arrow();
                arrow::datatypes::Field::new(&*column.name, data_type, !column.required)
            })
            .collect();
        let (columns, arrays): (Vec<Column>, Vec<ArrayRef>) = columns.into_iter().unzip();
        let arrow = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
        Ok(Self {
            part,
            schema: StreamSchema {
                columns,
                timed: false,
                kind: StreamKind::Append,
            },
            batch: RecordBatch::try_new(arrow, arrays)?,
        })
    }
}

/// A shape that is being read.
#[derive(Clone, Copy, Debug)]
pub struct ShapeReader<'a> {
    rest: &'a str,
}

impl<'a> ShapeReader<'a> {
    /// A reader of all of `shape`.
    #[must_use]
    pub fn new(shape: &'a str) -> Self {
        Self { rest: shape }
    }

    /// Passes over `word`.
    ///
    /// # Errors
    /// The shape goes on differently: it is of a newer program.
    pub fn expect(&mut self, word: &str) -> Result<(), Fault> {
        self.rest = (self.rest.strip_prefix(word)).ok_or_else(|| self.unknown(word))?;
        Ok(())
    }

    /// The text up to the next `end`, which is passed over.
    ///
    /// # Errors
    /// There is none.
    pub fn up_to(&mut self, end: &str) -> Result<&'a str, Fault> {
        let (text, rest) = (self.rest.split_once(end)).ok_or_else(|| self.unknown(end))?;
        self.rest = rest;
        Ok(text)
    }

    /// A number up to `end`.
    ///
    /// # Errors
    /// There is none.
    pub fn number<T: std::str::FromStr>(&mut self, end: &str) -> Result<T, Fault> {
        let text = self.up_to(end)?;
        text.parse().map_err(|_| self.unknown("a number"))
    }

    /// Columns in brackets, as `[name:type, name:type]`.
    ///
    /// # Errors
    /// They are none.
    pub fn columns(&mut self) -> Result<Vec<Column>, Fault> {
        self.expect("[")?;
        let text = self.up_to("]")?;
        (text.split(", ").filter(|text| !text.is_empty()))
            .map(|text| self.column(text))
            .collect()
    }

    /// A column as `name:type`.
    ///
    /// # Errors
    /// It is none.
    pub fn column(&self, text: &str) -> Result<Column, Fault> {
        let (name, column_type) = match text {
            "event_time" => (text, ColumnType::Timestamp),
            _ => {
                let (name, column_type) = text
                    .rsplit_once(':')
                    .ok_or_else(|| self.unknown("a column"))?;
                let column_type = column_type.parse();
                (name, column_type.map_err(|_| self.unknown("a type"))?)
            }
        };
        Ok(Column::new(name, column_type))
    }

    fn unknown(&self, what: &str) -> Fault {
        Fault::user(format!(
            "the shape of its state cannot be read: {what:?} is expected at {:?}",
            self.rest
        ))
    }
}

/// Builders of columns.
///
/// # Errors
/// A bug if no stream has such a column.
pub fn builders(columns: &[Column]) -> Result<Vec<ColumnBuilder>, Fault> {
    (columns.iter())
        .map(|column| ColumnBuilder::new(&column.column_type.arrow()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::ShapeReader;

    #[test]
    fn shapes_are_read_word_by_word_and_strange_ones_refused() {
        let mut shape =
            ShapeReader::new("thing 1: by [a:decimal(9,2), b:c:list<int64>] within 5 ms");
        shape.expect("thing 1: by ").unwrap();
        let columns = shape.columns().unwrap();
        let columns: Vec<String> = (columns.iter())
            .map(|column| format!("{} {}", column.name, column.column_type))
            .collect();
        assert_eq!(columns, ["a decimal(9,2)", "b:c list<int64>"]);
        shape.expect(" within ").unwrap();
        assert_eq!(shape.number::<i64>(" ms").unwrap(), 5);
        assert!(ShapeReader::new("thing 2").expect("thing 1").is_err());
        assert!(ShapeReader::new("[a:colour]").columns().is_err());
    }
}
