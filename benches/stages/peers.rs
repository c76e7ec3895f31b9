//! The barest peers of the keyed stages: hash tables of the standard library, given hashes instead of
//! keys. They read no column, hash nothing, write no output and can be neither frozen nor restored.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use thalweg_stream::Fault;

use crate::fleet::{BATCH_ROWS, KEYS};
use crate::stopwatch::{per_row, report};

const SLICES: usize = 60;
const SLICE_KEYS: usize = 175_000;
/// Rows that are added or looked up at once, as many as in an epoch of the stages.
const ROWS: usize = 12 * BATCH_ROWS;
const LOOK_UPS: usize = 60;

/// A number that is spread evenly already is its own hash.
#[derive(Clone, Copy, Debug, Default)]
struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type ByGiven = BuildHasherDefault<Given>;

/// A permutation of the 64-bit numbers (the finish of SplitMix64).
fn spread(number: usize) -> u64 {
    let mixed = (number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

pub(crate) fn measure() -> Result<(), Fault> {
    slices();
    KEYS.into_iter().for_each(table);
    KEYS.into_iter().for_each(lines);
    Ok(())
}

/// What deduplication by equal times does with its state: fingerprints of 64 bits instead of 96, a
/// tenth repeated, added to sixty slices one after the other.
fn slices() {
    let mut slices: Vec<HashSet<u64, ByGiven>> = (0..SLICES)
        .map(|_| HashSet::with_capacity_and_hasher(SLICE_KEYS, ByGiven::default()))
        .collect();
    let mut each = Vec::new();
    // Twice round, so that all memory has been touched.
    for first in (0..SLICES * SLICE_KEYS * 2).step_by(ROWS) {
        let rows = first..first + ROWS;
        let events = rows.map(|row| match row % 10 {
            9 => row.saturating_sub(50_003),
            _ => row,
        });
        let prints: Vec<u64> = events.map(spread).collect();
        let slice = &mut slices[first / SLICE_KEYS % SLICES];
        if slice.len() + ROWS > SLICE_KEYS * 8 / 7 {
            slice.clear();
        }
        let (took, new) = per_row(ROWS, || {
            let new = prints.iter().map(|&print| slice.insert(print));
            new.fold(0, |count, new| count + usize::from(new))
        });
        std::hint::black_box(new);
        if first >= SLICES * SLICE_KEYS {
            each.push(took);
        }
    }
    report(
        "peer of deduplication: 60 tables of 64-bit fingerprints, adding alone",
        None,
        each,
    );
}

/// What enrichment does with its table: a number for each key.
fn table(keys: usize) {
    let numbers = (0..keys).map(|key| (spread(key), key as f64));
    let table: HashMap<u64, f64, ByGiven> = numbers.collect();
    let each = (0..LOOK_UPS).map(|round| {
        let rows = round * ROWS..(round + 1) * ROWS;
        let wanted: Vec<u64> = rows.map(|row| spread(row * 7919 % keys)).collect();
        let (took, sum) = per_row(ROWS, || {
            let found = wanted.iter().filter_map(|key| table.get(key));
            found.sum::<f64>()
        });
        std::hint::black_box(sum);
        took
    });
    report(
        &format!("peer of enrichment: a table of 64-bit keys, {keys} of them, looking up alone"),
        None,
        each.collect(),
    );
}

/// The least that a table of so many keys does: loads a line of memory a row. No load waits for another,
/// so that the processor has as many under way as it can.
fn lines(keys: usize) {
    let lines: Vec<[u64; 8]> = (0..keys).map(|key| [key as u64; 8]).collect();
    let each = (0..LOOK_UPS).map(|round| {
        let rows = round * ROWS..(round + 1) * ROWS;
        let wanted: Vec<usize> = rows
            .map(|row| (spread(row) % keys as u64) as usize)
            .collect();
        let (took, sum) = per_row(ROWS, || {
            let loaded = wanted.iter().map(|&at| lines[at][0]);
            loaded.fold(0, u64::wrapping_add)
        });
        std::hint::black_box(sum);
        took
    });
    report(
        &format!("a line of memory a row, of {keys}, and nothing else"),
        None,
        each.collect(),
    );
}
