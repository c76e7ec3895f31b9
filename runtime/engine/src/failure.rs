//! Why an attempt has failed: the fault, its kind for the metrics, and the records that were at work.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_stream::{Fault, Origin, RecordBatch, SplitId};

use crate::letters::SplitNames;

/// What kind of failure it was, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// A part has said so.
    Fault,
    /// A thread has panicked.
    Panic,
    /// Nothing moved although there was something to do.
    Stall,
    /// A process of the mesh is gone, or does not answer.
    Process,
}

impl Cause {
    /// The label of `restarts_total`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Panic => "panic",
            Self::Stall => "stall",
            Self::Process => "process",
        }
    }
}

/// Why an attempt has failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) cause: Cause,
    /// The records that were being processed, if that is known.
    pub(crate) place: Option<Place>,
}

impl Failure {
    /// A part has panicked, at no particular record.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a panic is told once, and gone then"
    )]
    pub(crate) fn panicked(part: impl fmt::Display, panic: Box<dyn Any + Send>) -> Self {
        Self {
            fault: Fault::bug(format!("{part} has panicked: {}", said(&*panic))),
            cause: Cause::Panic,
            place: None,
        }
    }
}

impl Failure {
    /// Another process is gone, or does not answer.
    pub(crate) fn lost(process: usize, why: impl fmt::Display) -> Self {
        Self {
            fault: Fault::transient(format!("process {process} is lost: {why}")),
            cause: Cause::Process,
            place: None,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            cause: Cause::Fault,
            place: None,
        }
    }
}

/// Consecutive records of one split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) source: Arc<str>,
    pub(crate) split: Arc<str>,
    /// The split's number.
    pub(crate) number: u32,
    /// Offset of the first record.
    pub(crate) from: u64,
    /// Offset of the last one.
    pub(crate) to: u64,
}

impl Place {
    /// The records of `rows`, if they are of one split: `_origin` is the last column. A batch of
    /// more than one has several, and of derived rows none.
    pub(crate) fn of(rows: &RecordBatch, names: &SplitNames) -> Option<Self> {
        use arrow::array::AsArray as _;
        use arrow::datatypes::UInt64Type;
        let column = rows.columns().last()?.as_primitive_opt::<UInt64Type>()?;
        let origins = column.values();
        let (first, last) = (
            Origin(*origins.iter().min()?),
            Origin(*origins.iter().max()?),
        );
        let split = first.split().filter(|split| last.split() == Some(*split))?;
        Self::between(split.0, first.offset(), last.offset(), names)
    }

    /// The records of a split from one offset to another.
    pub(crate) fn between(number: u32, from: u64, to: u64, names: &SplitNames) -> Option<Self> {
        let origin = Origin::new(SplitId(number), 0)?;
        let (source, split) = names.of(origin)?;
        Some(Self {
            source,
            split,
            number,
            from,
            to,
        })
    }

    /// Whether it is one record.
    pub(crate) fn is_record(&self) -> bool {
        self.from == self.to
    }

    /// Whether the two have records in common.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.number == other.number && self.from <= other.to && other.from <= self.to
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, split, .. } = self;
        write!(f, "source \"{source}\", split \"{split}\", ")?;
        match self.is_record() {
            true => write!(f, "offset {}", self.from),
            false => write!(f, "offsets {} to {}", self.from, self.to),
        }
    }
}

/// Calls a part of the job on some records; what it fails with, or panics with, is told with their
/// place. A part that has panicked is not called again: the attempt ends.
pub(crate) fn guarded<T>(
    step: &dyn fmt::Display,
    place: impl FnOnce() -> Option<Place>,
    call: impl FnOnce() -> Result<T, Fault>,
) -> Result<T, Box<Failure>> {
    let (fault, cause) = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(fault)) => (fault.within(step), Cause::Fault),
        Err(panic) => {
            let fault = Fault::bug(format!("{step} has panicked: {}", said(&*panic)));
            (fault, Cause::Panic)
        }
    };
    Err(Box::new(Failure {
        fault,
        cause,
        place: place(),
    }))
}

/// What a panic has said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no word")
}
