//! The schema of a stream: its columns, whether it carries time, and what its rows mean.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Field, Schema, SchemaRef, TimestampMillisecondType, UInt8Type, UInt64Type,
};
use serde::{Deserialize, Serialize};

use crate::column::{ColumnType, timestamp_type};
use crate::fault::Fault;

/// Name of the system column that carries every row's event time.
pub const EVENT_TIME: &str = "event_time";
/// Name of the system column that says what a row of a change stream does.
pub const CHANGE: &str = "_change";
/// Name of the system column that says where a row came from ([`Origin`](crate::Origin)).
pub const ORIGIN: &str = "_origin";

/// Value of the `_change` column: the key was absent before.
pub const INSERT: u8 = 0;
/// Value of the `_change` column: the row replaces the one of the same key.
pub const UPDATE: u8 = 1;
/// Value of the `_change` column: the key is gone.
pub const DELETE: u8 = 2;

/// One user-visible column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, as written.
    pub name: Arc<str>,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whether null is impossible.
    pub required: bool,
}

impl Column {
    /// A nullable column.
    pub fn new(name: impl Into<Arc<str>>, column_type: ColumnType) -> Self {
        Self {
            name: name.into(),
            column_type,
            required: false,
        }
    }
}

/// What the rows of a stream mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// Every row is a fact of its own.
    Append,
    /// Rows insert, update or delete by key.
    Changes {
        /// Positions of the key among the user's columns.
        key: Vec<usize>,
    },
}

/// The type of a stream.
///
/// Its batches have the user's columns first, in order; then `event_time` (non-null, if `timed`),
/// `_change` (if the kind is changes) and always `_origin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSchema {
    /// The user's columns.
    pub columns: Vec<Column>,
    /// Whether rows carry event time.
    pub timed: bool,
    /// What rows mean.
    pub kind: StreamKind,
}

impl StreamSchema {
    /// An append stream.
    #[must_use]
    pub fn append(columns: Vec<Column>, timed: bool) -> Self {
        Self {
            columns,
            timed,
            kind: StreamKind::Append,
        }
    }

    /// Position of the user's column `name`.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| &*c.name == name)
    }

    /// Position of `event_time` in batches.
    #[must_use]
    pub fn event_time_at(&self) -> Option<usize> {
        self.timed.then_some(self.columns.len())
    }

    /// Position of `_change` in batches.
    #[must_use]
    pub fn change_at(&self) -> Option<usize> {
        match self.kind {
            StreamKind::Append => None,
            StreamKind::Changes { .. } => Some(self.columns.len() + usize::from(self.timed)),
        }
    }

    /// Position of `_origin` in batches: always the last.
    #[must_use]
    pub fn origin_at(&self) -> usize {
        self.columns.len() + usize::from(self.timed) + usize::from(self.change_at().is_some())
    }

    /// The Arrow schema of this stream's batches, system columns included.
    #[must_use]
    pub fn arrow(&self) -> SchemaRef {
        let mut fields: Vec<Field> = (self.columns.iter())
            .map(|c| Field::new(&*c.name, c.column_type.arrow(), !c.required))
            .collect();
        if self.timed {
            fields.push(Field::new(EVENT_TIME, timestamp_type(), false));
        }
        if self.change_at().is_some() {
            fields.push(Field::new(CHANGE, DataType::UInt8, false));
        }
        fields.push(Field::new(ORIGIN, DataType::UInt64, false));
        Arc::new(Schema::new(fields))
    }

    /// Event times of a batch of this stream, milliseconds.
    ///
    /// # Errors
    /// A bug if the stream carries no time or the batch is of another schema.
    pub fn event_times<'b>(&self, batch: &'b RecordBatch) -> Result<&'b [i64], Fault> {
        self.event_time_at()
            .and_then(|at| batch.columns().get(at))
            .and_then(|c| c.as_primitive_opt::<TimestampMillisecondType>())
            .map(|c| &c.values()[..])
            .ok_or_else(|| Fault::bug("batch has no event_time column where its stream has"))
    }

    /// Origins of a batch of this stream.
    ///
    /// # Errors
    /// A bug if the batch is of another schema.
    pub fn origins<'b>(&self, batch: &'b RecordBatch) -> Result<&'b [u64], Fault> {
        (batch.columns().get(self.origin_at()))
            .and_then(|c| c.as_primitive_opt::<UInt64Type>())
            .map(|c| &c.values()[..])
            .ok_or_else(|| Fault::bug("batch has no _origin column"))
    }

    /// What each row does ([`INSERT`], [`UPDATE`], [`DELETE`]), or nothing for an append stream.
    #[must_use]
    pub fn changes<'b>(&self, batch: &'b RecordBatch) -> Option<&'b [u8]> {
        let column = batch.columns().get(self.change_at()?)?;
        column
            .as_primitive_opt::<UInt8Type>()
            .map(|c| &c.values()[..])
    }

    /// A batch of no rows.
    #[must_use]
    pub fn empty(&self) -> RecordBatch {
        RecordBatch::new_empty(self.arrow())
    }
}

/// Whether a column named `name` is one of the system's.
#[must_use]
pub fn is_system(name: &str) -> bool {
    matches!(name, EVENT_TIME | CHANGE | ORIGIN)
}

/// Rough bytes a batch holds on to; what flow control counts.
#[must_use]
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|c| c.get_array_memory_size())
        .sum()
}
