//! The decoder: chunks of records in, batches and dead letters out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions,
    TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use bytes::Bytes;
use thalweg_stream::dead_letter::Remains;
use thalweg_stream::{
    Chunk, DeadClass, DeadLetter, Decoded, Decoder, DecoderFactory, Fault, Framing, Origin,
    StreamSchema,
};

use crate::column::{Column, State};
use crate::error::FormatError;
use crate::record::{RecordReader, Verdict};
use crate::scan::{Cursor, Stop, pad};
use crate::spec::{DecodeSpec, EventTimeFrom, Layout};

/// What some programs put in front of UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Longest chunk, so that positions in it fit Arrow's views (bytes).
const CHUNK_BYTES_MAX: usize = i32::MAX as usize;

/// Builds decoders for records that are one JSON object each.
#[derive(Clone, Debug)]
pub struct JsonDecoderFactory {
    layout: Arc<Layout>,
}

impl JsonDecoderFactory {
    /// Checks a description.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(spec: &DecodeSpec) -> Result<Self, FormatError> {
        Ok(Self {
            layout: Arc::new(Layout::check(spec)?),
        })
    }
}

impl DecoderFactory for JsonDecoderFactory {
    fn schema(&self) -> StreamSchema {
        self.layout.schema.clone()
    }

    fn build(&self) -> Result<Box<dyn Decoder>, Fault> {
        Ok(Box::new(JsonDecoder {
            reader: RecordReader::new(&self.layout),
            schema: self.layout.schema.arrow(),
            layout: Arc::clone(&self.layout),
            origins: Vec::with_capacity(self.layout.batch_rows_max),
            event_times: Vec::with_capacity(self.layout.batch_rows_max),
            records: Vec::with_capacity(self.layout.batch_rows_max),
            seen: 0,
            padded: Vec::new(),
        }))
    }
}

/// Decodes on one worker.
#[derive(Debug)]
struct JsonDecoder {
    layout: Arc<Layout>,
    schema: SchemaRef,
    reader: RecordReader,
    /// Of each row, where it came from.
    origins: Vec<u64>,
    /// Of each row, its event time; empty if there is none.
    event_times: Vec<i64>,
    /// Of each row, the record of the chunk that it was.
    records: Vec<u32>,
    /// Records of this chunk so far.
    seen: u32,
    /// A copy of a record at the end of a chunk.
    padded: Vec<u8>,
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        if chunk.bytes.len() > CHUNK_BYTES_MAX {
            return Err(Fault::bug("a chunk is longer than 2 GiB"));
        }
        if chunk.metadata.len() != self.layout.metadata.len() {
            return Err(Fault::bug("a chunk has other metadata than was asked for"));
        }
        self.seen = 0;
        match &chunk.framing {
            Framing::Lines => self.lines(chunk, out)?,
            Framing::Records { ranges, offsets } => {
                if ranges.len() != offsets.len() {
                    return Err(Fault::bug("a chunk has more records than offsets"));
                }
                for ((start, end), offset) in ranges.iter().zip(offsets) {
                    self.framed(chunk, (*start as usize, *end as usize), *offset, out)?;
                }
            }
        }
        out.records += u64::from(self.seen);
        self.flush(chunk, out)
    }
}

impl JsonDecoder {
    /// Decodes records separated by line feeds.
    fn lines(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        let bytes = &chunk.bytes[..];
        let mut at = 0;
        if chunk.start == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
            at = BYTE_ORDER_MARK.len();
        }
        while at < bytes.len() {
            let (line, result) = match self.line(bytes, at) {
                Some(read) => read,
                None => self.last_line(bytes, at),
            };
            let offset = chunk.start.saturating_add(at as u64);
            at += line.len() + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                self.judge(chunk, result, line, offset, out)?;
            }
        }
        Ok(())
    }

    /// Reads the record that begins at `at`, up to its line feed, unless that is too close to the
    /// end of `bytes`.
    #[inline]
    fn line<'b>(&mut self, bytes: &'b [u8], at: usize) -> Option<(&'b [u8], Result<(), Stop>)> {
        let mut cursor = Cursor::over_line(bytes, at)?;
        // Records are parsed without looking for their end first: a line feed is nothing that the
        // cursor would pass.
        let mut result = self.reader.read(&mut cursor);
        if result.is_ok() {
            cursor.space();
            if cursor.byte() != b'\n' {
                result = Err(Stop::Syntax);
            }
        }
        if cursor.beyond() {
            return None;
        }
        let end = match result {
            Ok(()) => cursor.pos,
            Err(_) => line_end(bytes, cursor.pos),
        };
        let line = cursor.span(at, end);
        Some((line, result.and_then(|()| check_utf8(&cursor, line))))
    }

    /// Reads the record that begins at `at` from a copy with room behind it.
    #[cold]
    fn last_line<'b>(&mut self, bytes: &'b [u8], at: usize) -> (&'b [u8], Result<(), Stop>) {
        let line = bytes.get(at..line_end(bytes, at)).unwrap_or_default();
        let result = self.copied(line);
        (line, result)
    }

    /// Reads a record from a copy with room behind it.
    #[cold]
    fn copied(&mut self, record: &[u8]) -> Result<(), Stop> {
        // A first attempt may have left something.
        self.reader.give_up();
        let mut padded = std::mem::take(&mut self.padded);
        pad(record, &mut padded);
        let result = match Cursor::over_padded(&padded) {
            Some(cursor) => self.whole(cursor, record),
            None => Err(Stop::Syntax),
        };
        self.padded = padded;
        result
    }

    /// Reads the record under the cursor, which must be all of `record`.
    #[inline]
    fn whole(&mut self, mut cursor: Cursor<'_>, record: &[u8]) -> Result<(), Stop> {
        let end = cursor.pos + record.len();
        self.reader.read(&mut cursor)?;
        let end_of_object = cursor.pos;
        cursor.space();
        // White space may have taken the cursor into the next record.
        if end_of_object > end || cursor.pos < end {
            return Err(Stop::Syntax);
        }
        check_utf8(&cursor, record)
    }

    /// Decodes one record whose place is known.
    fn framed(
        &mut self,
        chunk: &Chunk,
        (start, end): (usize, usize),
        offset: u64,
        out: &mut Decoded,
    ) -> Result<(), Fault> {
        let Some(record) = chunk.bytes.get(start..end) else {
            return Err(Fault::bug("a record lies outside its chunk"));
        };
        let result = match Cursor::over_record(&chunk.bytes, start, end) {
            Some(cursor) => self.whole(cursor, record),
            None => self.copied(record),
        };
        self.judge(chunk, result, record, offset, out)
    }

    /// Makes a row or a dead letter of what was read.
    #[inline]
    fn judge(
        &mut self,
        chunk: &Chunk,
        result: Result<(), Stop>,
        record: &[u8],
        offset: u64,
        out: &mut Decoded,
    ) -> Result<(), Fault> {
        let Some(origin) = Origin::new(chunk.split, offset) else {
            return Err(Fault::bug(format!(
                "offset {offset} of split {} is beyond what an origin holds",
                chunk.split.0
            )));
        };
        let index = self.seen;
        self.seen += 1;
        let problem = match result {
            Ok(()) => match self.reader.verdict() {
                Verdict::Fits => self.event_time(chunk, index).err(),
                Verdict::Misfit(at, state) => Some(self.misfit(at, state)),
            },
            Err(stop) => Some(not_json(stop)),
        };
        if let Some(problem) = problem {
            self.refuse(problem, record, origin, out);
            return Ok(());
        }
        self.origins.push(origin.0);
        if !self.layout.metadata.is_empty() {
            self.records.push(index);
        }
        self.reader.keep();
        if self.reader.row() == self.layout.batch_rows_max {
            self.flush(chunk, out)?;
        }
        Ok(())
    }

    /// Makes a dead letter of the record just read.
    #[cold]
    fn refuse(&mut self, problem: Problem, record: &[u8], origin: Origin, out: &mut Decoded) {
        let readable = problem.class != DeadClass::Decode;
        let event_time = self.own_event_time().filter(|_| readable);
        self.reader.give_up();
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
    fn own_event_time(&self) -> Option<i64> {
        match self.layout.event_time?.from {
            EventTimeFrom::Field(at) => self.reader.columns().get(at)?.timestamp(self.reader.row()),
            EventTimeFrom::Metadata(_) => None,
        }
    }

    /// Takes and checks the event time of the record just read.
    #[inline]
    fn event_time(&mut self, chunk: &Chunk, record: u32) -> Result<(), Problem> {
        let Some(spec) = self.layout.event_time else {
            return Ok(());
        };
        let time = match spec.from {
            EventTimeFrom::Field(at) => {
                let column = self.reader.columns().get(at);
                column.and_then(|c| c.timestamp(self.reader.row()))
            }
            EventTimeFrom::Metadata(at) => metadata_time(chunk, at, record),
        };
        let Some(time) = time else {
            let name = self.event_time_name(spec.from);
            return Err(Problem {
                class: DeadClass::Time,
                code: "no-event-time",
                message: format!("event time column {name:?} is null"),
            });
        };
        if let Some(ahead) = spec.max_ahead_ms
            && time > chunk.read_at_ms.saturating_add(ahead)
        {
            let name = self.event_time_name(spec.from);
            let by = time.saturating_sub(chunk.read_at_ms);
            return Err(Problem {
                class: DeadClass::Time,
                code: "too-far-ahead",
                message: format!(
                    "event time column {name:?} is {by} ms ahead of the clock, {ahead} are allowed"
                ),
            });
        }
        self.event_times.push(time);
        Ok(())
    }

    fn event_time_name(&self, from: EventTimeFrom) -> &str {
        let column = match from {
            EventTimeFrom::Field(at) => self.layout.fields.get(at).map(|f| &f.column),
            EventTimeFrom::Metadata(at) => self.layout.metadata.get(at).map(|m| &m.column),
        };
        column.map_or("", |c| &c.name)
    }

    fn misfit(&self, at: usize, state: State) -> Problem {
        match self.reader.columns().get(at) {
            Some(column) => misfit(column, state),
            None => not_json(Stop::Syntax),
        }
    }

    /// Makes a batch of the rows so far.
    fn flush(&mut self, chunk: &Chunk, out: &mut Decoded) -> Result<(), Fault> {
        let rows = self.reader.row();
        if rows == 0 {
            return Ok(());
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        self.reader.take(&mut arrays)?;
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

/// Why a record is no row.
#[derive(Debug)]
struct Problem {
    class: DeadClass,
    code: &'static str,
    message: String,
}

#[cold]
fn not_json(stop: Stop) -> Problem {
    let (code, message) = match stop {
        Stop::Syntax => ("not-json", "the record is not a JSON object".to_owned()),
        Stop::TooDeep => (
            "too-deep",
            format!(
                "the record nests deeper than {} levels",
                crate::scan::DEPTH_MAX
            ),
        ),
        Stop::NumberRange => (
            "number-range",
            "the record has a number beyond the range of 64-bit floats".to_owned(),
        ),
        Stop::NotUtf8 => ("not-utf8", "the record is not UTF-8".to_owned()),
        Stop::NotAnObject => (
            "not-an-object",
            "the record is JSON but no object".to_owned(),
        ),
    };
    Problem {
        class: DeadClass::Decode,
        code,
        message,
    }
}

#[cold]
fn misfit(column: &Column, state: State) -> Problem {
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

#[inline(always)]
fn check_utf8(cursor: &Cursor<'_>, record: &[u8]) -> Result<(), Stop> {
    if !cursor.non_ascii || std::str::from_utf8(record).is_ok() {
        return Ok(());
    }
    Err(Stop::NotUtf8)
}

/// The event time that a chunk's metadata gives a record.
fn metadata_time(chunk: &Chunk, at: usize, record: u32) -> Option<i64> {
    let values = chunk.metadata.get(at)?.as_ref()?;
    let times = values.as_primitive_opt::<TimestampMillisecondType>()?;
    let row = if times.len() == 1 { 0 } else { record as usize };
    (row < times.len() && times.is_valid(row)).then(|| times.value(row))
}

/// Where the line ends that `from` is in: at a line feed or the end of `bytes`.
fn line_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + memchr::memchr(b'\n', rest).unwrap_or(rest.len())
}
