//! Batches and messages as timely containers, and how they are spread over workers.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use thalweg_stream::{Fault, Route, Scatter};
use timely::Accountable;
use timely::communication::Push;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

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
            let encode = |rows: &RecordBatch| -> Result<Vec<u8>, arrow::error::ArrowError> {
                let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
                writer.write(rows)?;
                writer.into_inner()
            };
            // An empty encoding ends the receiver's attempt: `from_bytes` finds no batch in it.
            let bytes = self.rows.as_ref().and_then(|rows| encode(rows).ok());
            bytes.unwrap_or_default().into()
        })
    }
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
        let rows = StreamReader::try_new(&bytes[..], None)
            .and_then(|mut reader| reader.next().transpose());
        match rows {
            Ok(Some(rows)) => Self::new(rows),
            Ok(None) => panic!("a batch from another process is empty"),
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
