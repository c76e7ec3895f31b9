//! Spreading the rows of a batch over workers by the hash of their key.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use crate::fault::Fault;
use crate::key::{KeyEncoder, key_group, owner};

/// Splits batches into one part per worker, by key group. Buffers are reused from batch to batch.
#[derive(Debug)]
pub struct Scatter {
    by: KeyEncoder,
    targets: Vec<Vec<u32>>,
}

impl Scatter {
    /// Spreads by the key that `columns` (positions in the batch) form.
    #[must_use]
    pub fn new(columns: Vec<usize>, workers: usize) -> Self {
        Self {
            by: KeyEncoder::new(columns),
            targets: vec![Vec::new(); workers],
        }
    }

    /// The parts of `rows`, each with the worker that owns its keys; a part's rows keep their
    /// order.
    ///
    /// # Errors
    /// A bug if a key column is missing.
    pub fn scatter(&mut self, rows: &RecordBatch) -> Result<Vec<(usize, RecordBatch)>, Fault> {
        let workers = self.targets.len();
        for (row, &hash) in self.by.hash_only(rows)?.iter().enumerate() {
            // Batches have at most 8192 rows.
            self.targets[owner(key_group(hash), workers)].push(row as u32);
        }
        let mut parts = Vec::with_capacity(workers);
        for (worker, indices) in self.targets.iter_mut().enumerate() {
            if indices.len() == rows.num_rows() {
                parts.push((worker, rows.clone()));
                indices.clear();
            } else if !indices.is_empty() {
                let indices = UInt32Array::from(std::mem::take(indices));
                parts.push((worker, take_record_batch(rows, &indices)?));
            }
        }
        Ok(parts)
    }
}
