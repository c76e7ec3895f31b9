//! Spreading batches over workers by the hash of their key.

use thalweg_stream::{Fault, Scatter};

use crate::fleet::{BATCH_ROWS, report_batch};
use crate::stopwatch::{per_row, report};

const ROUNDS: usize = 500;

pub(crate) fn measure() -> Result<(), Fault> {
    for workers in [2, 8] {
        let mut scatter = Scatter::new(vec![0], workers);
        let mut each = Vec::with_capacity(ROUNDS);
        for number in 0..ROUNDS {
            let batch = report_batch(number, 10_000)?;
            let (took, parts) = per_row(BATCH_ROWS, || scatter.scatter(&batch));
            each.push(took);
            drop(parts?);
        }
        let what = format!("keyed exchange to {workers} workers, 4 columns");
        report(&what, Some(10.0), each);
    }
    Ok(())
}
