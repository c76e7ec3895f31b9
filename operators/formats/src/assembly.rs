//! From records to batches and dead letters: what is the same for every format.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions,
    TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use bytes::Bytes;
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::{Chunk, DeadClass, DeadLetter, Decoded, Fault, Origin, SplitId};

use crate::column::{Column, State};
use crate::spec::{EventTimeFrom, Layout};

/// Longest chunk, so that positions in it fit Arrow's views (bytes).
const CHUNK_BYTES_MAX: usize = i32::MAX as usize;

/// Reads records into columns, one row after the other.
pub(crate) trait Reader {
    /// The columns, in the order of their declaration.
    fn columns(&self) -> &[Column];
    /// The number of the row that the next record becomes.
    fn row(&self) -> usize;
    /// Whether the record just read is as declared.
    fn verdict(&self) -> Verdict;
    /// Makes the record just read a row.
    fn keep(&mut self);
    /// Forgets what the record just read has left in the columns.
    fn give_up(&mut self);
    /// Takes the rows out, as arrays of the columns that somebody wants.
    fn take(&mut self, arrays: &mut Vec<ArrayRef>) -> Result<(), Fault>;
}

/// What became of a well-formed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All columns are as declared.
    Fits,
    /// The column at this position is not.
    Misfit(usize, State),
}

impl Verdict {
    /// Looks at `row` of the columns one by one.
    pub(crate) fn on(columns: &[Column], row: usize) -> Self {
        for (at, column) in columns.iter().enumerate() {
            let state = column.state(row);
            let fits = match state {
                State::Value => true,
                State::Missing | State::Null => !column.required,
                State::WrongType | State::OutOfRange | State::BadFormat | State::Inexact => false,
            };
            if !fits {
                return Self::Misfit(at, state);
            }
        }
        Self::Fits
    }
}

/// Calls `each` for every record of a chunk that says where they are: with its place, its bytes and
/// its offset.
pub(crate) fn each_framed<'c>(
    chunk: &'c Chunk,
    (ranges, offsets): (&[(u32, u32)], &[u64]),
    mut each: impl FnMut(usize, &'c [u8], u64) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if ranges.len() != offsets.len() {
        return Err(Fault::bug("a chunk has more records than offsets"));
    }
    for (&(start, end), &offset) in ranges.iter().zip(offsets) {
        let (start, end) = (start as usize, end as usize);
        let Some(record) = chunk.bytes.get(start..end) else {
            return Err(Fault::bug("a record lies outside its chunk"));
        };
        each(start, record, offset)?;
    }
    Ok(())
}

/// What a batch in the making has besides its columns.
#[derive(Debug)]
pub(crate) struct Assembly {
    layout: Arc<Layout>,
    schema: SchemaRef,
    /// Of each row, where it came from.
    origins: Vec<u64>,
    /// Of each row, its event time; empty if there is none.
    event_times: Vec<i64>,
    /// Of each row, the record of the chunk that it was.
    records: Vec<u32>,
    /// Records of this chunk so far.
    seen: u32,
}

impl Assembly {
    /// Nothing yet.
    pub(crate) fn new(layout: &Arc<Layout>) -> Self {
        let rows = layout.batch_rows_max;
        Self {
            schema: layout.schema.arrow(),
            layout: Arc::clone(layout),
            origins: Vec::with_capacity(rows),
            event_times: Vec::with_capacity(rows),
            records: Vec::with_capacity(rows),
            seen: 0,
        }
    }

    /// Begins a chunk that carries `more` metadata columns than were asked for.
    pub(crate) fn begin(&mut self, chunk: &Chunk, more: usize) -> Result<(), Fault> {
        if chunk.bytes.len() > CHUNK_BYTES_MAX {
            return Err(Fault::bug("a chunk is longer than 2 GiB"));
        }
        if chunk.metadata.len() != self.layout.metadata.len() + more {
            return Err(Fault::bug("a chunk has other metadata than was asked for"));
        }
        self.seen = 0;
        Ok(())
    }

    /// Ends a chunk: all its rows are in batches.
    pub(crate) fn end<R: Reader>(
        &mut self,
        reader: &mut R,
        chunk: &Chunk,
        out: &mut Decoded,
    ) -> Result<(), Fault> {
        out.records += u64::from(self.seen);
        self.flush(reader, chunk, out)
    }

    /// Makes a row or a dead letter of what was read.
    #[inline(always)]
    pub(crate) fn judge<R: Reader, E: Into<Problem>>(
        &mut self,
        reader: &mut R,
        chunk: &Chunk,
        result: Result<(), E>,
        record: &[u8],
        offset: u64,
        out: &mut Decoded,
    ) -> Result<(), Fault> {
        let Some(origin) = Origin::new(chunk.split, offset) else {
            return Err(offset_too_large(chunk.split, offset));
        };
        let index = self.seen;
        self.seen += 1;
        let problem = match result {
            Ok(()) => match reader.verdict() {
                Verdict::Fits => match self.event_time(reader, chunk, index) {
                    Ok(()) => None,
                    Err(wrong) => Some(self.wrong_time(wrong)),
                },
                Verdict::Misfit(at, state) => Some(misfit(reader, at, state)),
            },
            Err(stop) => Some(stop.into()),
        };
        if let Some(problem) = problem {
            self.refuse(reader, problem, record, origin, out);
            return Ok(());
        }
        self.origins.push(origin.0);
        if !self.layout.metadata.is_empty() {
            self.records.push(index);
        }
        reader.keep();
        if reader.row() == self.layout.batch_rows_max {
            self.flush(reader, chunk, out)?;
        }
        Ok(())
    }

    /// Makes a dead letter of the record just read.
    #[cold]
    fn refuse<R: Reader>(
        &self,
        reader: &mut R,
        problem: Problem,
        record: &[u8],
        origin: Origin,
        out: &mut Decoded,
    ) {
        let readable = problem.class != DeadClass::Decode;
        let event_time = self.own_event_time(reader).filter(|_| readable);
        reader.give_up();
        out.dead.push(DeadLetter {
            class: problem.class,
            code: problem.code,
            message: problem.message,
            origin,
            event_time,
            // A copy: a slice would hold on to the whole chunk.
            remains: Remains::Bytes(Bytes::copy_from_slice(record)),
            plugin: None,
        });
    }

    /// The event time that stands in the record just read.
    fn own_event_time<R: Reader>(&self, reader: &R) -> Option<i64> {
        match self.layout.event_time?.from {
            EventTimeFrom::Field(at) => reader.columns().get(at)?.timestamp(reader.row()),
            EventTimeFrom::Metadata(_) => None,
        }
    }

    /// Takes and checks the event time of the record just read.
    #[inline(always)]
    fn event_time<R: Reader>(
        &mut self,
        reader: &R,
        chunk: &Chunk,
        record: u32,
    ) -> Result<(), WrongTime> {
        let Some(spec) = self.layout.event_time else {
            return Ok(());
        };
        let time = match spec.from {
            EventTimeFrom::Field(at) => {
                let column = reader.columns().get(at);
                column.and_then(|c| c.timestamp(reader.row()))
            }
            EventTimeFrom::Metadata(at) => metadata_time(chunk, at, record),
        };
        let time = time.ok_or(WrongTime::Missing)?;
        if let Some(ahead) = spec.max_ahead_ms
            && time > chunk.read_at_ms.saturating_add(ahead)
        {
            return Err(WrongTime::Ahead {
                by: time.saturating_sub(chunk.read_at_ms),
                allowed: ahead,
            });
        }
        self.event_times.push(time);
        Ok(())
    }

    #[cold]
    fn wrong_time(&self, wrong: WrongTime) -> Problem {
        let name = (self.layout.event_time).map_or("", |spec| self.event_time_name(spec.from));
        let (code, message) = match wrong {
            WrongTime::Missing => (
                "no-event-time",
                format!("event time column {name:?} is null"),
            ),
            WrongTime::Ahead { by, allowed } => (
                "too-far-ahead",
                format!(
                    "event time column {name:?} is {by} ms ahead of the clock, {allowed} are allowed"
                ),
            ),
        };
        Problem {
            class: DeadClass::Time,
            code,
            message,
        }
    }

    fn event_time_name(&self, from: EventTimeFrom) -> &str {
        let column = match from {
            EventTimeFrom::Field(at) => self.layout.fields.get(at).map(|f| &f.column),
            EventTimeFrom::Metadata(at) => self.layout.metadata.get(at).map(|m| &m.column),
        };
        column.map_or("", |c| &c.name)
    }

    /// Makes a batch of the rows so far.
    #[inline(never)]
    fn flush<R: Reader>(
        &mut self,
        reader: &mut R,
        chunk: &Chunk,
        out: &mut Decoded,
    ) -> Result<(), Fault> {
        let rows = reader.row();
        if rows == 0 {
            return Ok(());
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        reader.take(&mut arrays)?;
        for (metadata, values) in self.layout.metadata.iter().zip(&chunk.metadata) {
            if metadata.kept {
                arrays.push(self.metadata(values.as_ref())?);
            }
        }
        if self.layout.event_time.is_some() {
            let newest = self.event_times.iter().copied().max();
            out.newest_event_time = out.newest_event_time.max(newest);
            let times = TimestampMillisecondArray::from(self.event_times.clone());
            arrays.push(Arc::new(times.with_timezone("UTC")));
        }
        arrays.push(Arc::new(UInt64Array::from(self.origins.clone())));
        self.origins.clear();
        self.event_times.clear();
        self.records.clear();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)?;
        out.batches.push(batch);
        Ok(())
    }

    /// A metadata column for the rows so far.
    fn metadata(&self, values: Option<&ArrayRef>) -> Result<ArrayRef, Fault> {
        let Some(values) = values else {
            let offset = |origin: &u64| Origin(*origin).offset().cast_signed();
            let offsets: Int64Array = self.origins.iter().map(offset).collect();
            return Ok(Arc::new(offsets));
        };
        let rows = if values.len() == 1 {
            UInt32Array::from(vec![0; self.records.len()])
        } else {
            if (self.records.last()).is_some_and(|last| *last as usize >= values.len()) {
                return Err(Fault::bug("a chunk has more records than metadata"));
            }
            UInt32Array::from(self.records.clone())
        };
        Ok(arrow::compute::take(values, &rows, None)?)
    }
}

/// What is wrong with a record's event time.
#[derive(Clone, Copy, Debug)]
enum WrongTime {
    /// There is none.
    Missing,
    /// It is ahead of the clock by more than allowed (ms).
    Ahead { by: i64, allowed: i64 },
}

#[cold]
fn offset_too_large(split: SplitId, offset: u64) -> Fault {
    Fault::bug(format!(
        "offset {offset} of split {} is beyond what an origin holds",
        split.0
    ))
}

/// Why a record is no row.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) class: DeadClass,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

#[cold]
fn misfit<R: Reader>(reader: &R, at: usize, state: State) -> Problem {
    let Some(column) = reader.columns().get(at) else {
        // No reader judges a column that it does not have.
        return Problem {
            class: DeadClass::Schema,
            code: "wrong-type",
            message: "a column is not as declared".to_owned(),
        };
    };
    let (name, column_type) = (&column.name, &column.column_type);
    let (code, message) = match state {
        State::Missing | State::Null | State::Value => {
            ("required", format!("column {name:?} is required but null"))
        }
        State::WrongType => (
            "wrong-type",
            format!("column {name:?} is not {column_type}"),
        ),
        State::OutOfRange => (
            "out-of-range",
            format!("column {name:?} is out of the range of {column_type}"),
        ),
        State::BadFormat => (
            "bad-format",
            format!("column {name:?} is a string that is not {column_type}"),
        ),
        State::Inexact => (
            "inexact",
            format!("column {name:?} has more digits than {column_type}"),
        ),
    };
    Problem {
        class: DeadClass::Schema,
        code,
        message,
    }
}

/// The event time that a chunk's metadata gives a record.
#[inline(never)]
fn metadata_time(chunk: &Chunk, at: usize, record: u32) -> Option<i64> {
    let values = chunk.metadata.get(at)?.as_ref()?;
    let times = values.as_primitive_opt::<TimestampMillisecondType>()?;
    let row = if times.len() == 1 { 0 } else { record as usize };
    (row < times.len() && times.is_valid(row)).then(|| times.value(row))
}
