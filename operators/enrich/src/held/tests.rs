//! Rows held, released, frozen, failed and restored at random, against a plain list; and what a
//! checkpoint writes of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::datatypes::Int64Type;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use thalweg_state::{Part, Sections, put_bytes, put_u32};
use thalweg_stream::key::{KEY_GROUPS, key_group, owner};
use thalweg_stream::{Column, ColumnType, Fault, KeyEncoder, KeyGroup, Section, StreamSchema};

use super::HeldRows;

const VERSION: u8 = 3;

/// Key and event time.
type Row = (i64, i64);

fn schema() -> StreamSchema {
    let columns = vec![
        Column::new("key", ColumnType::Int64),
        Column::new("text", ColumnType::String),
    ];
    StreamSchema::append(columns, true)
}

fn batch(rows: &[Row], text: &str) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(|_| text))),
        Arc::new(
            TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.1))
                .with_timezone("UTC"),
        ),
        Arc::new(UInt64Array::from_iter_values(
            rows.iter().map(|row| row.0 as u64),
        )),
    ];
    RecordBatch::try_new(schema().arrow(), columns).unwrap()
}

fn group_of(row: Row) -> KeyGroup {
    let hashes = KeyEncoder::new(vec![0])
        .hash_only(&batch(&[row], ""))
        .unwrap()
        .to_vec();
    key_group(hashes[0])
}

struct Worker {
    held: HeldRows,
    sections: Sections,
}

impl Worker {
    fn new(groups: Range<usize>) -> Self {
        Self {
            held: HeldRows::new(schema(), vec![0]),
            sections: Sections::of_version(groups, VERSION),
        }
    }

    fn hold(&mut self, rows: &[Row], text: &str) {
        let all = (0..rows.len() as u32).collect();
        self.held.hold(&batch(rows, text), all).unwrap();
    }

    fn freeze(&mut self, full: bool) {
        self.sections.freeze(full, &mut [&mut self.held]);
    }

    fn drain(&mut self, budget: usize, to: &mut Vec<Section>) -> bool {
        let done = self.sections.drain(budget, to, &mut [&mut self.held]);
        self.held.check().unwrap();
        done
    }

    /// A checkpoint at once.
    fn checkpoint(&mut self, full: bool) -> Vec<Section> {
        let mut sections = Vec::new();
        self.freeze(full);
        while !self.drain(1 << 20, &mut sections) {}
        sections
    }

    fn restore(&mut self, section: &Section) -> Result<(), Fault> {
        let parts: &mut [&mut dyn Part] = &mut [&mut self.held];
        Sections::restore_versions(section, parts, &[1; VERSION as usize])?;
        self.held.check()
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for batch in self.held.all() {
            let times = schema().event_times(batch).unwrap().to_vec();
            let keys = batch.column(0).as_primitive::<Int64Type>().values();
            rows.extend(keys.iter().copied().zip(times));
        }
        assert_eq!(self.held.rows(), rows.len() as u64);
        rows
    }
}

struct World {
    rng: SmallRng,
    workers: Vec<Worker>,
    rows: Vec<Row>,
    next: i64,
    /// Up to which time rows have been released, so far as time goes on.
    time: i64,
    committed: BTreeMap<KeyGroup, Vec<Section>>,
    committed_rows: Vec<Row>,
}

impl World {
    fn restart(&mut self) {
        let workers = self.rng.random_range(1..=4);
        self.workers.clear();
        for worker in 0..workers {
            let owned = |&group: &usize| owner(group as u8, workers) == worker;
            let groups: Vec<usize> = (0..KEY_GROUPS).filter(owned).collect();
            let groups = groups[0]..groups[groups.len() - 1] + 1;
            self.workers.push(Worker::new(groups));
        }
        for (&group, sections) in &self.committed {
            for section in sections {
                (self.workers[owner(group, workers)].restore(section)).unwrap();
            }
        }
        self.rows = self.committed_rows.clone();
        self.check();
    }

    fn check(&self) {
        let mut found: Vec<Row> = self.workers.iter().flat_map(Worker::rows).collect();
        let mut expected = self.rows.clone();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    fn step(&mut self) {
        if self.rng.random_bool(0.6) {
            let text = "x".repeat(self.rng.random_range(0..3000));
            for _ in 0..self.rng.random_range(1..20) {
                let row = (self.next, self.time + self.rng.random_range(-5..60));
                self.next += 1;
                self.rows.push(row);
                let at = owner(group_of(row), self.workers.len());
                self.workers[at].hold(&[row], &text);
            }
            return;
        }
        self.time += self.rng.random_range(0..8);
        // A table that is silent lets all rows go, and the next ones wait again.
        let time = match self.rng.random_bool(0.1) {
            true => i64::MAX,
            false => self.time,
        };
        for worker in &mut self.workers {
            let before = worker.held.rows();
            let released = worker.held.release(time).unwrap();
            let count: usize = released.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(worker.held.rows() + count as u64, before);
        }
        self.rows.retain(|row| row.1 > time);
    }

    /// Freezes all workers and drains them while rows come and go; it comes about or fails.
    fn checkpoint(&mut self) {
        let full = self.committed.is_empty() || self.rng.random_bool(0.2);
        self.workers
            .iter_mut()
            .for_each(|worker| worker.freeze(full));
        let at_freeze = self.rows.clone();
        let fails_at = (self.rng.random_bool(0.4)).then(|| self.rng.random_range(0..20));
        let mut sections = Vec::new();
        for round in 0.. {
            if fails_at == Some(round) {
                for worker in &mut self.workers {
                    worker.sections.thaw(&mut [&mut worker.held]);
                }
                return;
            }
            if self.rng.random_bool(0.5) {
                self.step();
            }
            let budget = self.rng.random_range(1..20_000);
            let done = (self.workers.iter_mut()).map(|worker| worker.drain(budget, &mut sections));
            if done.fold(true, |all, one| all & one) && fails_at.is_none() {
                break;
            }
        }
        for section in sections {
            let chain = self.committed.entry(section.group).or_default();
            if section.base {
                chain.clear();
            }
            chain.push(section);
        }
        self.committed_rows = at_freeze;
    }
}

#[test]
fn checkpoints_have_the_rows_that_were_held_at_their_freeze() {
    for seed in 0..40 {
        let mut world = World {
            rng: SmallRng::seed_from_u64(seed),
            workers: Vec::new(),
            rows: Vec::new(),
            next: 0,
            time: 0,
            committed: BTreeMap::new(),
            committed_rows: Vec::new(),
        };
        world.restart();
        for _ in 0..20 {
            for _ in 0..world.rng.random_range(0..6) {
                world.step();
            }
            world.check();
            world.checkpoint();
            if world.rng.random_bool(0.3) {
                world.restart();
            }
        }
        world.restart();
    }
}

fn bytes(sections: &[Section]) -> usize {
    sections.iter().map(|section| section.bytes.len()).sum()
}

#[test]
fn a_checkpoint_has_only_what_has_come_and_that_others_have_left() {
    let mut worker = Worker::new(0..KEY_GROUPS);
    let text = "x".repeat(1000);
    let rows: Vec<Row> = (0..5000).map(|n| (n, n)).collect();
    worker.hold(&rows, &text);
    assert!(bytes(&worker.checkpoint(true)) > 5000 * 1000);
    assert_eq!(worker.checkpoint(false), []);
    worker.hold(&[(5000, 5000), (5001, 5001)], &text);
    let come = worker.checkpoint(false);
    assert!((2000..2500).contains(&bytes(&come)), "{}", bytes(&come));
    assert_eq!(worker.held.release(2499).unwrap().len(), 1);
    let left = worker.checkpoint(false);
    assert!(bytes(&left) < KEY_GROUPS * 20, "{}", bytes(&left));
    assert_eq!(worker.checkpoint(false), []);
    assert!((2500 * 1000..2600 * 1100).contains(&bytes(&worker.checkpoint(true))));
}

/// What versions up to the second have of a group.
fn whole(rows: &[Row], version: u8) -> Section {
    let mut content = Vec::new();
    put_u32(&mut content, rows.len() as u32);
    for &row in rows {
        let mut one = Worker::new(0..KEY_GROUPS);
        one.hold(&[row], "text");
        let mut section = one.checkpoint(false).remove(0).bytes;
        // Version, frame, operation and length.
        put_bytes(&mut content, &section.split_off(1 + 8 + 1 + 4));
    }
    let mut bytes = vec![version];
    bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&content);
    Section {
        group: 7,
        base: false,
        bytes: bytes.into(),
    }
}

#[test]
fn rows_of_earlier_versions_take_the_place_of_those_before() {
    for version in [1, 2] {
        let mut worker = Worker::new(0..KEY_GROUPS);
        worker
            .restore(&whole(&[(1, 10), (2, 20)], version))
            .unwrap();
        worker
            .restore(&whole(&[(2, 20), (3, 30)], version))
            .unwrap();
        assert_eq!(worker.rows(), [(2, 20), (3, 30)]);
        worker.restore(&whole(&[], version)).unwrap();
        assert_eq!(worker.rows(), []);
    }
}

#[test]
fn damaged_rows_are_refused_and_do_not_panic() {
    let mut worker = Worker::new(0..KEY_GROUPS);
    worker.hold(&[(1, 10)], "text");
    let current = worker.checkpoint(false).remove(0);
    for section in [current, whole(&[(1, 10)], 2)] {
        for cut in 9..section.bytes.len() {
            // The frame is as long as what is left.
            let mut bytes = section.bytes[..cut].to_vec();
            bytes[1..9].copy_from_slice(&((cut - 9) as u64).to_le_bytes());
            let cut_off = Section {
                bytes: bytes.into(),
                ..section.clone()
            };
            let refused = Worker::new(0..KEY_GROUPS).restore(&cut_off).is_err();
            assert!(refused || cut == 9, "cut at {cut}");
        }
    }
}
