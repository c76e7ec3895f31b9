//! The rows of an epoch, until it is known which of them are passed on.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use thalweg_state::Print;
use thalweg_stream::schema::batch_bytes;
use thalweg_stream::{Fault, Output, StreamSchema};

use crate::sieve::Sieve;
use crate::slice::Slices;

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
    pub(crate) rows: RecordBatch,
    pub(crate) prints: Vec<Print>,
    pub(crate) passes: Vec<bool>,
}

/// A row of the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowAt {
    pub(crate) batch: u32,
    pub(crate) row: u32,
}

/// A row of a key that several rows have: ordered by key, arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Contender {
    print: Print,
    at: RowAt,
}

/// What decides between rows of equal key: ordered by event time, origin, arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    time: i64,
    origin: u64,
    at: RowAt,
}

impl EpochRows {
    /// Takes in a batch, with the fingerprints of its keys, and which of its rows are to be passed on
    /// unless something is found against them: those that are not late.
    pub(crate) fn push(&mut self, batch: &RecordBatch, prints: Vec<Print>, passes: Vec<bool>) {
        self.rows += passes.iter().filter(|&&passes| passes).count() as u64;
        self.bytes += batch_bytes(batch);
        self.batches.push(EpochBatch {
            rows: batch.clone(),
            passes,
            prints,
        });
    }

    /// A row is near to one that an earlier epoch passed on.
    pub(crate) fn refuse(&mut self, at: RowAt) {
        if let Some(batch) = self.batches.get_mut(at.batch as usize)
            && let Some(passes) = batch.passes.get_mut(at.row as usize)
        {
            *passes = false;
        }
    }

    /// The key of a row came before.
    pub(crate) fn suspect(&mut self, at: RowAt) {
        self.refuse(at);
        self.suspects.push(at);
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
    /// then origin, a row is passed on unless one that was is near. Where `same_time` holds, rows
    /// of different slices have nothing to do with each other, and suspects may repeat an earlier
    /// epoch's rows: those of a slice and key none of which is new.
    pub(crate) fn settle(
        &mut self,
        schema: &StreamSchema,
        slices: Slices,
        same_time: bool,
    ) -> Result<(), Fault> {
        let mut contenders = self.contenders(same_time);
        if contenders.is_empty() {
            return Ok(());
        }
        contenders.sort_unstable();
        let (mut times, mut origins) = (Vec::new(), Vec::new());
        for batch in &self.batches {
            times.push(schema.event_times(&batch.rows)?);
            origins.push(schema.origins(&batch.rows)?);
        }
        let standing = |contender: &Contender| {
            let RowAt { batch, row } = contender.at;
            Standing {
                time: times[batch as usize][row as usize],
                origin: origins[batch as usize][row as usize],
                at: contender.at,
            }
        };
        let apart = |row: &Standing| same_time.then(|| slices.of(row.time));
        let mut verdicts = Vec::new();
        let (mut rows, mut passed) = (Vec::new(), Vec::new());
        for equal in contenders.chunk_by(|a, b| a.print == b.print) {
            rows.clear();
            rows.extend(equal.iter().map(standing));
            rows.sort_unstable();
            for rows in rows.chunk_by(|a, b| apart(a) == apart(b)) {
                let new = |row: &Standing| {
                    self.batches[row.at.batch as usize].passes[row.at.row as usize]
                };
                if same_time && !rows.iter().any(new) {
                    continue;
                }
                passed.clear();
                for row in rows {
                    let first = !passed.iter().any(|&other| slices.near(other, row.time));
                    if first {
                        passed.push(row.time);
                    }
                    verdicts.push((row.at, first));
                }
            }
        }
        for (at, passes) in verdicts {
            self.batches[at.batch as usize].passes[at.row as usize] = passes;
        }
        Ok(())
    }

    /// The suspects, the rows of the same keys that are to be passed on, and a few others. Where
    /// `same_time` holds, suspects are left out whose key no such row has.
    fn contenders(&mut self, same_time: bool) -> Vec<Contender> {
        let suspects = std::mem::take(&mut self.suspects);
        if suspects.is_empty() {
            return Vec::new();
        }
        let contender = |at: RowAt| Contender {
            print: self.batches[at.batch as usize].prints[at.row as usize],
            at,
        };
        let mut suspected = Sieve::new(suspects.len());
        for &at in &suspects {
            suspected.add(contender(at).print);
        }
        let mut contenders = Vec::with_capacity(suspects.len() * 2);
        for (number, batch) in (0_u32..).zip(&self.batches) {
            for (row, (&print, &passes)) in (0_u32..).zip(batch.prints.iter().zip(&batch.passes)) {
                if passes && suspected.has(print) {
                    let at = RowAt { batch: number, row };
                    contenders.push(Contender { print, at });
                }
            }
        }
        let mut opposed = Sieve::new(contenders.len());
        for contender in &contenders {
            opposed.add(contender.print);
        }
        let suspects = suspects.into_iter().map(contender);
        contenders.extend(suspects.filter(|one| !same_time || opposed.has(one.print)));
        contenders
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
                let mut rows = Vec::with_capacity(passes);
                rows.extend(
                    (0_u32..)
                        .zip(&batch.passes)
                        .filter_map(|(row, &p)| p.then_some(row)),
                );
                // Repeats are spread over the batch: rows one by one are faster than runs of them.
                out.emit(take_record_batch(&batch.rows, &UInt32Array::from(rows))?);
            }
        }
        out.ledger.passed += passed;
        out.ledger.duplicate += self.rows - passed;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}
