//! The state of any step as rows.

use thalweg_state::StateRows;
use thalweg_stream::{Fault, Section};

/// What is in `sections`, some key groups' whole state of a step whose state has this `shape`. Every
/// part of the state comes, if only with its columns.
///
/// # Errors
/// User if no step of this program has such a shape; corrupt if the sections are not of it.
pub fn state_rows(shape: &str, sections: &[Section]) -> Result<Vec<StateRows>, Fault> {
    for read in [
        thalweg_window::state_rows,
        thalweg_dedup::state_rows,
        thalweg_enrich::state_rows,
    ] {
        if let Some(rows) = read(shape, sections)? {
            return Ok(rows);
        }
    }
    Err(Fault::user(format!(
        "no step of this program has state of the shape {shape:?}"
    )))
}
