//! The functions of a plugin: registered by the attribute, described and called by name.
//!
//! Not for plugins to use: the attribute does.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::column::{Column, Failure, Returned};

pub use crate::output::Builder;

/// A named argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: &'static str,
}

/// A function that jobs may call.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Its arguments.
    pub parameters: &'static [Parameter],
    /// The type of its result.
    pub result: &'static str,
    /// Calls it for so many rows.
    pub call: fn(&[Column], usize) -> Result<Returned, Failure>,
}

static FUNCTIONS: Mutex<Vec<&'static Function>> = Mutex::new(Vec::new());

fn functions() -> MutexGuard<'static, Vec<&'static Function>> {
    FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a function; the attribute has this called before anything else.
pub fn register(function: &'static Function) {
    functions().push(function);
}

/// All functions, by name.
#[must_use]
pub fn all() -> Vec<&'static Function> {
    let mut all = functions().clone();
    all.sort_by_key(|function| function.name);
    all
}

/// Calls a function for so many rows.
///
/// # Errors
/// If there is none of that name, or the call fails as a whole.
pub fn call(name: &str, arguments: &[Column], rows: usize) -> Result<Returned, Failure> {
    let function = functions().iter().copied().find(|f| f.name == name);
    match function {
        Some(function) => (function.call)(arguments, rows),
        None => Err(Failure::call(format!("there is no function {name}"))),
    }
}

/// Which rows have a value for every argument that must have one; nothing if all have.
///
/// # Errors
/// If a column is shorter than `rows`.
pub fn strict(columns: &[(&Column, bool)], rows: usize) -> Result<Option<Vec<u8>>, Failure> {
    let mut all: Option<Vec<u8>> = None;
    for (column, nullable) in columns {
        let valid = if *nullable { None } else { column.valid(rows)? };
        let Some(valid) = valid else { continue };
        match &mut all {
            None => all = Some(valid.to_vec()),
            Some(all) => all.iter_mut().zip(valid).for_each(|(all, one)| *all &= one),
        }
    }
    Ok(all)
}

/// The failure of a call with a wrong number of arguments.
#[must_use]
pub fn wrong_count(name: &str, wanted: usize, given: usize) -> Failure {
    Failure::call(format!("{name} takes {wanted} arguments, not {given}"))
}
