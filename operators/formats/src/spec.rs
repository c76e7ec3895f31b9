//! What a source's records look like: the public description that the planner makes.

use std::collections::HashSet;
use std::sync::Arc;

use thalweg_stream::schema::is_system;
use thalweg_stream::{BATCH_ROWS_MAX, Column, ColumnType, StreamSchema};

use crate::calendar::Pattern;
use crate::error::FormatError;
use crate::path::SEGMENTS_MAX;

/// How to decode a source's records.
#[derive(Clone, Debug)]
pub struct DecodeSpec {
    /// The declared columns, in schema order.
    pub fields: Vec<FieldSpec>,
    /// The metadata columns, in the order in which chunks carry them.
    pub metadata: Vec<Column>,
    /// Name of the column that collects unknown fields as the text of one JSON object, null if
    /// there are none. A field of `fields` by that name (which must be of type json) becomes it;
    /// otherwise it comes right after `fields`.
    pub extra: Option<String>,
    /// Where event time comes from.
    pub event_time: Option<EventTimeSpec>,
    /// The columns that somebody reads; nothing means all. The others are checked all the same.
    pub project: Option<Vec<String>>,
    /// Most rows of a batch, at most [`BATCH_ROWS_MAX`].
    pub batch_rows_max: usize,
}

/// One declared column and where its values stand.
#[derive(Clone, Debug)]
pub struct FieldSpec {
    /// The column.
    pub column: Column,
    /// The segments of a JSON pointer (RFC 6901), already unescaped.
    pub path: Vec<String>,
    /// Whether values of another type are converted where that loses nothing.
    ///
    /// | column | what is taken besides its own type |
    /// |---|---|
    /// | `bool` | the strings `"true"` and `"false"` |
    /// | `int32` `int64` | integral numbers such as `1.0` and `1e3`, `-0`, strings holding a number |
    /// | `float32` `float64` | strings holding a number |
    /// | `decimal` | strings holding a number; more digits than the scale are rounded, halves away from zero |
    /// | `string` | numbers, as they are written; `true` and `false` |
    /// | `binary` | base64 of the URL alphabet, padding missing |
    /// | `date` | RFC 3339 timestamps: their date in UTC |
    /// | `timestamp` | integral numbers, strings holding a number, RFC 3339 without offset (as UTC); with a format: numbers, as they are written |
    /// | `list<T>` | items by the row of `T` |
    ///
    /// "A number" is one in JSON's notation, without white space around it.
    pub coerce: bool,
    /// How a timestamp is written.
    pub timestamp: TimestampInput,
}

/// How a timestamp is written in the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TimestampInput {
    /// An RFC 3339 string or an integral number of milliseconds.
    #[default]
    Auto,
    /// A number of this unit, fractions allowed; what is finer than a millisecond is cut off
    /// (towards the past).
    Unit(TimestampUnit),
    /// A string in a pattern such as `%d/%m/%Y %H:%M`, UTC unless the pattern has `%z`.
    Format(String),
}

/// The unit of a number that is a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampUnit {
    /// `s`
    Seconds,
    /// `ms`
    Milliseconds,
    /// `us`
    Microseconds,
    /// `ns`
    Nanoseconds,
}

/// Where event time comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTimeSpec {
    /// A timestamp column, declared or metadata.
    pub column: String,
    /// Rows further ahead of the moment of reading than this (milliseconds) are dead letters.
    pub max_ahead_ms: Option<i64>,
}

impl FieldSpec {
    /// A column read from the record's field of the same name.
    #[must_use]
    pub fn new(column: Column) -> Self {
        Self {
            path: vec![column.name.to_string()],
            column,
            coerce: false,
            timestamp: TimestampInput::Auto,
        }
    }
}

impl DecodeSpec {
    /// Declared columns and nothing else.
    #[must_use]
    pub fn new(fields: Vec<FieldSpec>) -> Self {
        Self {
            fields,
            metadata: Vec::new(),
            extra: None,
            event_time: None,
            project: None,
            batch_rows_max: BATCH_ROWS_MAX,
        }
    }
}

/// A checked [`DecodeSpec`], resolved to positions.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The declared columns, the one for unknown fields among them.
    pub(crate) fields: Vec<Field>,
    /// Metadata columns.
    pub(crate) metadata: Vec<Metadata>,
    /// Position in `fields` of the column for unknown fields.
    pub(crate) extra: Option<usize>,
    /// Where event time comes from.
    pub(crate) event_time: Option<EventTime>,
    /// The stream's schema.
    pub(crate) schema: StreamSchema,
    /// Most rows of a batch.
    pub(crate) batch_rows_max: usize,
}

/// A declared column.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) column: Column,
    pub(crate) path: Vec<String>,
    pub(crate) coerce: bool,
    pub(crate) timestamp: TimestampReader,
    /// Whether it is in the output.
    pub(crate) kept: bool,
}

/// A metadata column.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) column: Column,
    pub(crate) kept: bool,
}

/// Where event time comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventTime {
    pub(crate) from: EventTimeFrom,
    pub(crate) max_ahead_ms: Option<i64>,
}

/// A position among fields or metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EventTimeFrom {
    Field(usize),
    Metadata(usize),
}

/// A compiled [`TimestampInput`].
#[derive(Clone, Debug)]
pub(crate) enum TimestampReader {
    Auto,
    Unit(TimestampUnit),
    Pattern(Arc<Pattern>),
}

impl Layout {
    /// Checks a description.
    pub(crate) fn check(spec: &DecodeSpec) -> Result<Self, FormatError> {
        if spec.batch_rows_max == 0 || spec.batch_rows_max > BATCH_ROWS_MAX {
            return Err(FormatError::BatchRows(spec.batch_rows_max));
        }
        let mut fields = Vec::with_capacity(spec.fields.len() + 1);
        for field in &spec.fields {
            fields.push(Field::check(field)?);
        }
        let extra = spec.extra.as_deref().map(|name| {
            let declared = fields.iter().position(|f: &Field| &*f.column.name == name);
            declared.unwrap_or_else(|| {
                fields.push(Field {
                    column: Column::new(name, ColumnType::Json),
                    path: Vec::new(),
                    coerce: false,
                    timestamp: TimestampReader::Auto,
                    kept: true,
                });
                fields.len() - 1
            })
        });
        if let Some(field) = extra.and_then(|at| fields.get(at))
            && field.column.column_type != ColumnType::Json
        {
            return Err(FormatError::ExtraType {
                name: field.column.name.clone(),
                column_type: field.column.column_type.clone(),
            });
        }
        let mut metadata: Vec<Metadata> = (spec.metadata.iter())
            .map(|column| Metadata {
                column: column.clone(),
                kept: true,
            })
            .collect();
        check_names(&fields, &metadata)?;
        if let Some(project) = &spec.project {
            apply_projection(project, &mut fields, &mut metadata)?;
        }
        let event_time = match &spec.event_time {
            Some(event_time) => Some(resolve_event_time(event_time, &fields, &metadata)?),
            None => None,
        };
        let kept_fields = fields.iter().filter(|f| f.kept).map(|f| &f.column);
        let kept_metadata = metadata.iter().filter(|m| m.kept).map(|m| &m.column);
        let columns = kept_fields.chain(kept_metadata).cloned().collect();
        Ok(Self {
            schema: StreamSchema::append(columns, event_time.is_some()),
            fields,
            metadata,
            extra,
            event_time,
            batch_rows_max: spec.batch_rows_max,
        })
    }
}

impl FieldSpec {
    /// Looks at it by itself, without the columns beside it.
    ///
    /// # Errors
    /// What of it is wrong.
    pub fn check(&self) -> Result<(), FormatError> {
        Field::check(self).map(drop)
    }
}

impl Field {
    fn check(spec: &FieldSpec) -> Result<Self, FormatError> {
        let name = || spec.column.name.clone();
        if spec.path.len() > SEGMENTS_MAX {
            return Err(FormatError::PathTooLong(name()));
        }
        let timestamp = match &spec.timestamp {
            TimestampInput::Auto => TimestampReader::Auto,
            TimestampInput::Unit(unit) => TimestampReader::Unit(*unit),
            TimestampInput::Format(format) => {
                let pattern =
                    Pattern::compile(format).map_err(|problem| FormatError::TimestampFormat {
                        column: name(),
                        format: format.clone(),
                        problem,
                    })?;
                TimestampReader::Pattern(Arc::new(pattern))
            }
        };
        let mut innermost = &spec.column.column_type;
        while let ColumnType::List(item) = innermost {
            innermost = item;
        }
        if spec.timestamp != TimestampInput::Auto && *innermost != ColumnType::Timestamp {
            return Err(FormatError::NoTimestamp(name()));
        }
        Ok(Self {
            column: spec.column.clone(),
            path: spec.path.clone(),
            coerce: spec.coerce,
            timestamp,
            kept: true,
        })
    }
}

fn check_names(fields: &[Field], metadata: &[Metadata]) -> Result<(), FormatError> {
    let mut seen = HashSet::new();
    let names = fields.iter().map(|f| &f.column.name);
    for name in names.chain(metadata.iter().map(|m| &m.column.name)) {
        if is_system(name) {
            return Err(FormatError::ReservedColumn(name.clone()));
        }
        if !seen.insert(name) {
            return Err(FormatError::DuplicateColumn(name.clone()));
        }
    }
    Ok(())
}

fn apply_projection(
    project: &[String],
    fields: &mut [Field],
    metadata: &mut [Metadata],
) -> Result<(), FormatError> {
    let wanted: HashSet<&str> = project.iter().map(String::as_str).collect();
    let fields = fields.iter_mut().map(|f| (&f.column.name, &mut f.kept));
    let metadata = metadata.iter_mut().map(|m| (&m.column.name, &mut m.kept));
    let mut names = HashSet::new();
    for (name, kept) in fields.chain(metadata) {
        *kept = wanted.contains(&**name);
        names.insert(name.clone());
    }
    // System columns are there whether asked for or not.
    match (project.iter()).find(|name| !names.contains(name.as_str()) && !is_system(name)) {
        Some(name) => Err(FormatError::UnknownColumn {
            what: "the projection",
            name: name.clone(),
        }),
        None => Ok(()),
    }
}

fn resolve_event_time(
    spec: &EventTimeSpec,
    fields: &[Field],
    metadata: &[Metadata],
) -> Result<EventTime, FormatError> {
    let field = fields.iter().position(|f| *f.column.name == spec.column);
    let other = (metadata.iter()).position(|m| *m.column.name == spec.column);
    let (from, column) = match (field, other) {
        (Some(at), _) => (EventTimeFrom::Field(at), fields.get(at).map(|f| &f.column)),
        (None, Some(at)) => (
            EventTimeFrom::Metadata(at),
            metadata.get(at).map(|m| &m.column),
        ),
        (None, None) => {
            return Err(FormatError::UnknownColumn {
                what: "the event time",
                name: spec.column.clone(),
            });
        }
    };
    if let Some(column) = column
        && column.column_type != ColumnType::Timestamp
    {
        return Err(FormatError::EventTimeType {
            name: column.name.clone(),
            column_type: column.column_type.clone(),
        });
    }
    Ok(EventTime {
        from,
        max_ahead_ms: spec.max_ahead_ms,
    })
}
