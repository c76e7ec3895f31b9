//! The state of a deduplication as rows: the fingerprints of what was passed on.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringViewArray, TimestampMillisecondArray};
use thalweg_state::{FingerprintSet, Part, Register, Sections, ShapeReader, StateRows};
use thalweg_stream::watermark::START_OF_TIME;
use thalweg_stream::{Column, ColumnType, Fault, Section};

use crate::slice::Slices;

/// The fingerprints in `sections`, which are some key groups' whole state, of a step of this
/// `shape`: a row for every key that was passed on, with its slice of event time. Nothing if the
/// shape is not a deduplication's.
///
/// # Errors
/// The shape is of a newer program; corrupt if the sections are not of that shape.
pub fn state_rows(shape: &str, sections: &[Section]) -> Result<Option<Vec<StateRows>>, Fault> {
    if !shape.starts_with("dedup ") {
        return Ok(None);
    }
    let mut reader = ShapeReader::new(shape);
    reader.expect("dedup 1: by ")?;
    reader.columns()?;
    reader.expect(" within ")?;
    let within_ms = reader.number(" ms same time ")?;
    let same_time = reader.expect("true").is_ok();
    let slices = Slices::new(within_ms, same_time);
    let mut passed = FingerprintSet::new(!same_time);
    let mut watermark = Register::new(START_OF_TIME);
    let parts: &mut [&mut dyn Part] = &mut [&mut watermark, &mut passed];
    for section in sections {
        Sections::restore(section, parts)?;
    }
    let mut rows = Vec::new();
    for pane in passed.panes_between(i64::MIN, i64::MAX) {
        let prints = pane.prints();
        rows.extend(prints.map(|(group, print, time)| (pane.id(), group, print, time)));
    }
    rows.sort_unstable();
    let times = |times: Vec<Option<i64>>| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC"))
    };
    let mut columns: Vec<(Column, ArrayRef)> = vec![
        (
            Column::new("slice_start", ColumnType::Timestamp),
            times(rows.iter().map(|row| Some(slices.start(row.0))).collect()),
        ),
        (
            Column::new("slice_end", ColumnType::Timestamp),
            times(
                rows.iter()
                    .map(|row| Some(slices.start(row.0.saturating_add(1))))
                    .collect(),
            ),
        ),
        (
            Column::new("key_group", ColumnType::Int32),
            Arc::new(Int32Array::from_iter_values(
                rows.iter().map(|row| i32::from(row.1)),
            )),
        ),
        (
            Column::new("fingerprint", ColumnType::String),
            Arc::new(StringViewArray::from_iter_values(
                rows.iter().map(|row| format!("{:022x}", row.2)),
            )),
        ),
    ];
    if !same_time {
        let of_rows = rows.iter().map(|row| row.3).collect();
        columns.push((Column::new("time", ColumnType::Timestamp), times(of_rows)));
    }
    Ok(Some(vec![StateRows::new("fingerprints", columns)?]))
}
