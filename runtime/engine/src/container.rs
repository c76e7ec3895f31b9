//! Batches and messages as timely containers, and how they are spread over workers.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, AsArray as _, GenericByteViewArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::ByteViewType;
use arrow::error::ArrowError;
use arrow::ipc::reader::{StreamReader, read_record_batch};
use arrow::ipc::root_as_message;
use arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, StreamWriter,
};
use thalweg_stream::{Fault, Route, Scatter};
use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

use crate::schemas;
use crate::shared::Shared;

/// A batch travelling on an edge. `None` never travels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Option<RecordBatch>,
    /// The encoding for another process: timely asks for the length before the bytes.
    encoded: OnceLock<Arc<[u8]>>,
}

impl Batch {
    pub(crate) fn new(rows: RecordBatch) -> Self {
        Self {
            rows: Some(rows),
            encoded: OnceLock::new(),
        }
    }

    fn encoded(&self) -> &[u8] {
        self.encoded.get_or_init(|| {
            // An empty encoding ends the receiver's attempt: `from_bytes` finds no batch in it.
            let bytes = self.rows.as_ref().and_then(|rows| encode(rows).ok());
            bytes.unwrap_or_default().into()
        })
    }
}

/// A batch as it travels to another process: the number of its schema, the length of the message that
/// describes its buffers, that message, the buffers; each part begins at a multiple of 8 bytes. A batch
/// of a schema without a number is a whole Arrow stream after a 0.
fn encode(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let rows = &compact(rows)?;
    let Some(number) = schemas::number_of(&rows.schema()) else {
        let mut writer = StreamWriter::try_new(vec![0; 8], &rows.schema())?;
        writer.write(rows)?;
        return writer.into_inner();
    };
    let mut dictionaries = DictionaryTracker::new(true);
    let (_, encoded) = IpcDataGenerator::default().encode(
        rows,
        &mut dictionaries,
        &IpcWriteOptions::default(),
        &mut IpcWriteContext::default(),
    )?;
    let message = encoded.ipc_message;
    let padded = message.len().next_multiple_of(8);
    let mut bytes = Vec::with_capacity(16 + padded + encoded.arrow_data.len());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&(message.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&message);
    bytes.resize(16 + padded, 0);
    bytes.extend_from_slice(&encoded.arrow_data);
    Ok(bytes)
}

/// The rows without what their texts share with others, if that is most of it: all would travel.
fn compact(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = (rows.columns().iter())
        .map(|column| -> ArrayRef {
            match (column.as_string_view_opt(), column.as_binary_view_opt()) {
                (Some(texts), _) if is_wasteful(texts) => Arc::new(texts.gc()),
                (None, Some(bytes)) if is_wasteful(bytes) => Arc::new(bytes.gc()),
                _ => Arc::clone(column),
            }
        })
        .collect();
    RecordBatch::try_new(rows.schema(), columns)
}

/// Whether the buffers hold more than twice the bytes that these rows use.
fn is_wasteful<T: ByteViewType>(values: &GenericByteViewArray<T>) -> bool {
    let held: usize = values.data_buffers().iter().map(Buffer::len).sum();
    held > 2 * values.total_buffer_bytes_used()
}

/// Reads what [`encode`] has written. What is damaged ends the attempt, by an error or by a panic of
/// Arrow's; connections carry checksums of their own.
fn decode(bytes: &[u8]) -> Result<RecordBatch, ArrowError> {
    let broken = |what: &str| ArrowError::IpcError(what.to_owned());
    let (number, rest) = word(bytes).ok_or_else(|| broken("it is empty"))?;
    if number == 0 {
        let batch = StreamReader::try_new(rest, None)?.next().transpose()?;
        return batch.ok_or_else(|| broken("it is empty"));
    }
    let schema = schemas::of(number).ok_or_else(|| broken("its schema is not known"))?;
    let (length, rest) = word(rest).ok_or_else(|| broken("it is cut off"))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    // In memory of its own, where it is aligned.
    let message = rest.get(..length).map(Buffer::from);
    let body = (length.checked_next_multiple_of(8)).and_then(|padded| rest.get(padded..));
    let (Some(message), Some(body)) = (message, body) else {
        return Err(broken("it is cut off"));
    };
    let message = root_as_message(&message).map_err(|error| broken(&error.to_string()))?;
    let batch = message.header_as_record_batch();
    let batch = batch.ok_or_else(|| broken("it is no batch"))?;
    let (none, version) = (HashMap::new(), message.version());
    read_record_batch(&Buffer::from(body), batch, schema, &none, None, &version)
}

fn word(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*word), rest))
}

/// The rows of `batch` in batches of at most `rows_max`.
pub(crate) fn pieces(batch: RecordBatch, rows_max: usize) -> impl Iterator<Item = RecordBatch> {
    let rows_max = rows_max.max(1);
    let starts = (0..batch.num_rows()).step_by(rows_max);
    starts.map(move |start| match batch.num_rows() <= rows_max {
        true => batch.clone(),
        false => batch.slice(start, rows_max.min(batch.num_rows() - start)),
    })
}

impl Accountable for Batch {
    fn record_count(&self) -> i64 {
        self.rows.as_ref().map_or(0, |rows| rows.num_rows() as i64)
    }
}

impl ContainerBytes for Batch {
    #[allow(
        clippy::panic,
        reason = "timely offers no other way; the panic ends the attempt"
    )]
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        match decode(&bytes[..]) {
            Ok(rows) => Self::new(rows),
            Err(error) => panic!("a batch from another process cannot be read: {error}"),
        }
    }

    fn length_in_bytes(&self) -> usize {
        self.encoded().len().next_multiple_of(8)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let bytes = self.encoded();
        let padding = bytes.len().next_multiple_of(8) - bytes.len();
        // Timely's writers are memory of the length asked for above; they cannot fail.
        let written = writer
            .write_all(bytes)
            .and_then(|()| writer.write_all(&[0; 8][..padding]));
        debug_assert!(written.is_ok());
    }
}

/// Spreads batches by key group, or sends them all to the first worker.
///
/// Timely bypasses distributors where there is one worker, so nothing may rely on their effects.
pub(crate) struct KeyDistributor {
    /// Nothing if all rows go to the first worker.
    scatter: Option<Scatter>,
    shared: Arc<Shared>,
}

impl KeyDistributor {
    pub(crate) fn new(route: &Route, peers: usize, shared: Arc<Shared>) -> Self {
        let scatter = match route {
            Route::Key(columns) => Some(Scatter::new(columns.clone(), peers)),
            Route::Local | Route::Single => None,
        };
        Self { scatter, shared }
    }

    fn scatter(&mut self, rows: RecordBatch) -> Result<Vec<(usize, RecordBatch)>, Fault> {
        match &mut self.scatter {
            Some(scatter) => scatter.scatter(&rows),
            None => Ok(vec![(0, rows)]),
        }
    }
}

impl Distributor<Batch> for KeyDistributor {
    fn partition<T: Clone, P: Push<Message<T, Batch>>>(
        &mut self,
        container: &mut Batch,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let Some(rows) = container.rows.take() else {
            return;
        };
        match self.scatter(rows) {
            Ok(parts) => {
                for (worker, part) in parts {
                    pushers[worker].send(Message::new(stamp.clone(), Batch::new(part)));
                }
            }
            Err(fault) => self.shared.fail(fault),
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Batch>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray, UInt64Array};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn batch(rows: i64) -> RecordBatch {
        let texts = (0..rows).map(|n| (n % 3 != 0).then(|| format!("a text of some length {n}")));
        let fields = vec![
            Field::new("n", DataType::Int64, false),
            Field::new("text", DataType::Utf8View, true),
            Field::new("_origin", DataType::UInt64, false),
        ];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(0..rows)),
            Arc::new(texts.collect::<StringViewArray>()),
            Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit")
    }

    #[test]
    fn batches_travel_with_their_schema_or_by_its_number() {
        let all = batch(1000);
        let parts = [
            all.clone(),
            all.slice(100, 7),
            all.slice(999, 1),
            all.slice(0, 0),
        ];
        for part in &parts {
            assert_eq!(
                &decode(&encode(part).expect("encodes")).expect("whole"),
                part
            );
        }
        let lengths = parts
            .each_ref()
            .map(|part| encode(part).expect("encodes").len());
        schemas::add(all.schema());
        // Another allocation of the schema, as nobody has asked for it before.
        for (part, length) in parts.iter().zip(lengths) {
            let schema = Arc::new(Schema::clone(&all.schema()));
            let part = part.clone().with_schema(schema).expect("the same");
            let bytes = encode(&part).expect("encodes");
            assert!(bytes.len() < length);
            assert_eq!(decode(&bytes).expect("whole"), part);
            assert!(decode(&bytes[..bytes.len().min(12)]).is_err());
        }
    }

    #[test]
    fn a_few_rows_do_not_take_the_texts_of_all_along() {
        let all = batch(8192);
        let few = encode(&all.slice(4000, 10)).expect("encodes").len();
        assert!(few < 4096, "{few} bytes for ten rows");
    }
}
