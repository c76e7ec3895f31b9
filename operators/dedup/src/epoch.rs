//! The rows of an epoch, until it is known which of them are passed on.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use thalweg_state::Print;
use thalweg_stream::schema::batch_bytes;
use thalweg_stream::{Fault, Output, StreamSchema};

use crate::slice::Slices;

/// Bits of the sieve per suspect: of the other rows one in eight or less gets through.
const SIEVE_BITS: usize = 8;

/// The rows of an epoch.
#[derive(Debug, Default)]
pub(crate) struct EpochRows {
    batches: Vec<EpochBatch>,
    /// Rows whose key came before, in this epoch or an earlier one.
    suspects: Vec<RowAt>,
    /// Rows that are not late.
    rows: u64,
    /// Bytes of the batches.
    bytes: usize,
}

/// A batch, with what is known of each of its rows.
#[derive(Debug)]
pub(crate) struct EpochBatch {
    rows: RecordBatch,
    pub(crate) prints: Vec<Print>,
    pub(crate) passes: Vec<bool>,
}

/// A row of the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowAt {
    pub(crate) batch: u32,
    pub(crate) row: u32,
}

/// A row of a key that several rows have: ordered by key, event time, origin, arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Contender {
    print: Print,
    origin: u64,
    at: RowAt,
    passes: bool,
}

impl EpochRows {
    /// Takes in a batch, of which `candidates` rows are not late.
    pub(crate) fn open(&mut self, batch: &RecordBatch, candidates: usize) {
        self.rows += candidates as u64;
        self.bytes += batch_bytes(batch);
        self.batches.push(EpochBatch {
            rows: batch.clone(),
            prints: Vec::new(),
            passes: vec![false; batch.num_rows()],
        });
    }

    /// The number of the batch that came last.
    pub(crate) fn last_batch(&self) -> u32 {
        self.batches.len().saturating_sub(1) as u32
    }

    /// Says of a row whether its key is new.
    #[inline]
    pub(crate) fn decide(&mut self, at: RowAt, new: bool) {
        if let Some(batch) = self.batches.get_mut(at.batch as usize)
            && let Some(passes) = batch.passes.get_mut(at.row as usize)
        {
            *passes = new;
        }
        if !new {
            self.suspects.push(at);
        }
    }

    /// The fingerprints of the batch that came last.
    pub(crate) fn close(&mut self, prints: Vec<Print>) {
        if let Some(batch) = self.batches.last_mut() {
            batch.prints = prints;
        }
    }

    pub(crate) fn batches(&self) -> &[EpochBatch] {
        &self.batches
    }

    /// Rows that are not late.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Decides again about all rows that share their key with a suspect: in order of event time,
    /// then origin, a row is passed on unless one that was is near. Rows of different `apart`
    /// have nothing to do with each other; rows of a key none of which is new repeat an earlier
    /// epoch's.
    pub(crate) fn settle(
        &mut self,
        schema: &StreamSchema,
        slices: Slices,
        apart: impl Fn(i64) -> Option<i64>,
    ) -> Result<(), Fault> {
        let mut contenders = self.contenders(schema)?;
        contenders.sort_unstable();
        let together = |a: &Contender, b: &Contender| {
            a.print.is_of_key_of(&b.print) && apart(a.print.time) == apart(b.print.time)
        };
        let mut passed: Vec<i64> = Vec::new();
        for rows in contenders.chunk_by(together) {
            if rows.len() < 2 || !rows.iter().any(|row| row.passes) {
                continue;
            }
            passed.clear();
            for row in rows {
                let time = row.print.time;
                let first = !passed.iter().any(|&other| slices.near(other, time));
                if first {
                    passed.push(time);
                }
                self.batches[row.at.batch as usize].passes[row.at.row as usize] = first;
            }
        }
        Ok(())
    }

    /// The suspects, the rows of the same keys that are to be passed on, and a few others.
    fn contenders(&mut self, schema: &StreamSchema) -> Result<Vec<Contender>, Fault> {
        let suspects = std::mem::take(&mut self.suspects);
        let mut contenders = Vec::with_capacity(suspects.len() * 2);
        if suspects.is_empty() {
            return Ok(contenders);
        }
        let origins = (self.batches.iter())
            .map(|batch| schema.origins(&batch.rows))
            .collect::<Result<Vec<_>, Fault>>()?;
        let contender = |at: RowAt, passes| Contender {
            print: self.batches[at.batch as usize].prints[at.row as usize],
            origin: origins[at.batch as usize][at.row as usize],
            at,
            passes,
        };
        let bits = (suspects.len() * SIEVE_BITS).next_power_of_two().max(64);
        let place = |print: &Print| (print.spread() >> 8) as usize & (bits - 1);
        let mut sieve = vec![0_u64; bits / 64];
        for at in suspects {
            let suspect = contender(at, false);
            let bit = place(&suspect.print);
            sieve[bit / 64] |= 1 << (bit % 64);
            contenders.push(suspect);
        }
        for (number, batch) in self.batches.iter().enumerate() {
            for (row, (print, _)) in (batch.prints.iter().zip(&batch.passes).enumerate())
                .filter(|(_, (_, passes))| **passes)
            {
                let bit = place(print);
                if sieve[bit / 64] >> (bit % 64) & 1 == 1 {
                    let at = RowAt {
                        batch: number as u32,
                        row: row as u32,
                    };
                    contenders.push(contender(at, true));
                }
            }
        }
        Ok(contenders)
    }

    /// Puts out what passes, and forgets the epoch.
    pub(crate) fn put(&mut self, out: &mut Output) -> Result<(), Fault> {
        let mut passed = 0;
        for batch in std::mem::take(&mut self.batches) {
            let passes = batch.passes.iter().filter(|&&passes| passes).count();
            passed += passes as u64;
            if passes == batch.rows.num_rows() {
                out.emit(batch.rows);
            } else if passes > 0 {
                let mask = BooleanArray::from(batch.passes);
                out.emit(filter_record_batch(&batch.rows, &mask)?);
            }
        }
        out.ledger.passed += passed;
        out.ledger.duplicate += self.rows - passed;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}
