//! What steps do.

use crate::diagnostic::Spanned;

/// A column and the expression that makes it.
pub type Assignment = (Spanned<String>, Spanned<String>);

/// What a step does.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Unites its inputs.
    Union,
    /// Keeps rows that meet a condition.
    Filter(Spanned<String>),
    /// Makes exactly these columns.
    Select(Vec<Assignment>),
    /// Adds or replaces columns.
    Set(Vec<Assignment>),
    /// Drops columns.
    Drop(Vec<Spanned<String>>),
    /// Renames columns: old and new name.
    Rename(Vec<(Spanned<String>, Spanned<String>)>),
    /// Sends each row to the first output whose condition it meets; no condition is `otherwise`.
    Route(Vec<(Spanned<String>, Option<Spanned<String>>)>),
    /// Drops repeated rows.
    Dedup(Dedup),
    /// Aggregates in windows.
    Window(Window),
    /// Adds columns from a table.
    Enrich(Enrich),
}

/// Drops repeated rows.
#[derive(Clone, Debug)]
pub struct Dedup {
    /// The key.
    pub by: Vec<Spanned<String>>,
    /// Event times of repeated rows differ by less, milliseconds.
    pub within_ms: u64,
    /// Repeated rows carry the same event time.
    pub same_time: bool,
}

/// Tumbling windows.
#[derive(Clone, Debug)]
pub struct Window {
    /// Their size, milliseconds.
    pub size_ms: u64,
    /// How far they are shifted from the epoch, milliseconds.
    pub offset_ms: i64,
    /// The key.
    pub by: Vec<Spanned<String>>,
    /// The aggregates: column and call.
    pub aggregate: Vec<Aggregate>,
    /// A condition on results.
    pub having: Option<Spanned<String>>,
    /// How long after firing rows still change a result, milliseconds.
    pub late_allowed_ms: u64,
    /// What becomes of rows that are later.
    pub late_then: LateThen,
}

/// A column and the aggregate call that makes it.
pub type Aggregate = Assignment;

/// What becomes of late rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LateThen {
    /// Counted and dropped.
    Drop,
    /// Dead letters.
    #[default]
    DeadLetter,
    /// Rows of `step.late`.
    Output,
}

/// Adds columns from a table.
#[derive(Clone, Debug)]
pub struct Enrich {
    /// The table.
    pub with: Spanned<String>,
    /// Columns that are equal: left and table column.
    pub on: Vec<(Spanned<String>, Spanned<String>)>,
    /// Columns to take: new name and table column.
    pub take: Vec<(Spanned<String>, Spanned<String>)>,
    /// What becomes of rows without a match.
    pub missing: Missing,
    /// The version of the row's event time, rather than the newest.
    pub as_of: Option<AsOf>,
}

/// The version of the row's event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// How long rows wait for a table without an end, milliseconds of event time.
    pub wait_ms: u64,
}

/// What becomes of rows without a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// They go on with nulls.
    #[default]
    Keep,
    /// They are dropped, counted.
    Drop,
    /// They are dead letters.
    DeadLetter,
}
