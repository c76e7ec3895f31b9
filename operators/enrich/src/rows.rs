//! The state of an enrichment as rows: the versions of the table, and the rows that wait for it.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, TimestampMillisecondArray};
use arrow::compute::concat;
use thalweg_state::{KeyedTable, Reader, Register, ShapeReader, StateRows, builders};
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{Column, ColumnType, Fault, Section, StreamKind, StreamSchema};

use crate::held::HeldRows;
use crate::operator::{LAYOUT, take_back};
use crate::version::versions;

/// What is in `sections`, which are some key groups' whole state, of a step of this `shape`:
/// `versions`, a row for every version of every key of the table, and `held`, the rows that wait.
/// Nothing if the shape is not an enrichment's.
///
/// # Errors
/// The shape is of a newer program; corrupt if the sections are not of that shape.
pub fn state_rows(shape: &str, sections: &[Section]) -> Result<Option<Vec<StateRows>>, Fault> {
    if !shape.starts_with("enrich ") {
        return Ok(None);
    }
    let mut reader = ShapeReader::new(shape);
    // The second version says more, behind what is read here.
    (reader.expect("enrich 1: key ")).or_else(|_| reader.expect("enrich 2: key "))?;
    let key = reader.columns()?;
    reader.expect(" take ")?;
    let take = reader.columns()?;
    reader.expect(" as of ")?;
    let as_of = reader.up_to(" held ")? == "true";
    let rows = StreamSchema {
        columns: reader.columns()?,
        timed: as_of,
        kind: StreamKind::Append,
    };
    let mut table = KeyedTable::new(LAYOUT);
    let mut held = HeldRows::new(rows.clone(), Vec::new());
    let mut horizon = Register::new(START_OF_TIME);
    for section in sections {
        take_back(section, &mut table, &mut held, &mut horizon)?;
    }
    let mut shown = vec![table_rows(&table, key, take)?];
    if as_of {
        shown.push(held_rows(&mut held, &rows)?);
    }
    Ok(Some(shown))
}

fn table_rows(table: &KeyedTable, key: Vec<Column>, take: Vec<Column>) -> Result<StateRows, Fault> {
    let (mut keys, mut values) = (builders(&key)?, builders(&take)?);
    let (mut times, mut deleted) = (Vec::new(), Vec::new());
    for entry in table.panes().flat_map(|(_, pane)| pane.sorted()) {
        for version in versions(entry.payload) {
            let version = version?;
            let mut bytes = Reader::new(entry.key.as_slice());
            for builder in &mut keys {
                builder.push(&mut bytes)?;
            }
            times.push(Some(version.time).filter(|&time| time != START_OF_TIME));
            deleted.push(version.deleted);
            let mut bytes = Reader::new(version.values);
            for builder in &mut values {
                match version.deleted {
                    true => builder.push_null(),
                    false => builder.push(&mut bytes)?,
                }
            }
        }
    }
    let mut columns: Vec<(Column, ArrayRef)> = Vec::new();
    for (column, builder) in key.into_iter().zip(&mut keys) {
        columns.push((column, builder.finish()?));
    }
    let times = TimestampMillisecondArray::from(times).with_timezone("UTC");
    columns.push((
        Column::new("valid_from", ColumnType::Timestamp),
        Arc::new(times),
    ));
    let deleted = BooleanArray::from(deleted);
    columns.push((Column::new("deleted", ColumnType::Bool), Arc::new(deleted)));
    for (mut column, builder) in take.into_iter().zip(&mut values) {
        // A column of the key may be taken, too.
        if columns.iter().any(|(known, _)| known.name == column.name) {
            column.name = format!("{} taken", column.name).into();
        }
        columns.push((column, builder.finish()?));
    }
    StateRows::new("versions", columns)
}

fn held_rows(held: &mut HeldRows, schema: &StreamSchema) -> Result<StateRows, Fault> {
    let batches = held.release(i64::MAX)?;
    let arrow = schema.arrow();
    let mut columns = Vec::new();
    let time = Column::new("event_time", ColumnType::Timestamp);
    for (at, column) in schema.columns.iter().chain([&time]).enumerate() {
        let arrays: Vec<&dyn arrow::array::Array> = (batches.iter())
            .filter_map(|batch| batch.columns().get(at).map(AsRef::as_ref))
            .collect();
        let array = match arrays.is_empty() {
            true => arrow::array::new_empty_array(arrow.field(at).data_type()),
            false => concat(&arrays)?,
        };
        columns.push((column.clone(), array));
    }
    StateRows::new("held", columns)
}
